/* Canonical JSON text of a snapshot, byte for byte as flowtrace/values/json.py has it from orjson, into a given room.
 *
 * A value that JSON does not have as it is, of which a key may be secret, or that has no room, has no text here. No code of
 * Python's runs, and nothing is made that the garbage collector knows: what is read stays as it is meanwhile. */
#include "native.h"
#include <math.h>
#include <string.h>

typedef struct {
    char *at, *end;
    PyObject *not_secret;               /* a set of the keys that may stand in the text */
    PyObject *dumps;                    /* orjson's function, for floats of many digits */
} Text;

/* Each function here returns 1, or 0 where there is no text: an exception may be raised then. */

static inline int add(Text *text, const char *bytes, Py_ssize_t count)
{
    if (text->end - text->at < count) return 0;
    memcpy(text->at, bytes, (size_t)count);
    text->at += count;
    return 1;
}

static int add_escaped(Text *text, Py_UCS4 letter)
{
    static const char digits[] = "0123456789abcdef";
    const char *short_form = letter == '"' ? "\\\"" : letter == '\\' ? "\\\\" : letter == '\n' ? "\\n" : letter == '\t' ? "\\t"
        : letter == '\r' ? "\\r" : letter == '\b' ? "\\b" : letter == '\f' ? "\\f" : NULL;
    char long_form[] = {'\\', 'u', '0', '0', digits[letter >> 4 & 1], digits[letter & 15]};
    return short_form ? add(text, short_form, 2) : add(text, long_form, sizeof(long_form));
}

static inline int is_escaped(Py_UCS4 letter) { return letter < 0x20 || letter == '"' || letter == '\\'; }

/* UTF-8 (RFC 3629). A lone surrogate has no form in it. */
static int add_beyond_ascii(Text *text, Py_UCS4 letter)
{
    char bytes[4];
    int count = letter < 0x800 ? 2 : letter < 0x10000 ? 3 : 4;
    if (letter >= 0xD800 && letter < 0xE000) return 0;
    for (int at = count - 1; at > 0; at--, letter >>= 6) bytes[at] = (char)(0x80 | (letter & 0x3F));
    bytes[0] = (char)((count == 2 ? 0xC0 : count == 3 ? 0xE0 : 0xF0) | letter);
    return add(text, bytes, count);
}

static int add_letters(Text *text, PyObject *value)
{
    Py_ssize_t count = PyUnicode_GET_LENGTH(value);
    if (PyUnicode_IS_ASCII(value)) {
        const char *letters = PyUnicode_DATA(value);
        Py_ssize_t plain = 0;
        while (plain < count && !is_escaped((unsigned char)letters[plain])) plain++;
        if (plain == count) return add(text, letters, count);
    }
    for (Py_ssize_t at = 0; at < count; at++) {
        Py_UCS4 letter = PyUnicode_READ_CHAR(value, at);
        char byte = (char)letter;
        if (!(is_escaped(letter) ? add_escaped(text, letter) : letter < 0x80 ? add(text, &byte, 1) : add_beyond_ascii(text, letter)))
            return 0;
    }
    return 1;
}

static int add_string(Text *text, PyObject *value) { return add(text, "\"", 1) && add_letters(text, value) && add(text, "\"", 1); }

/* Write a number, with its last digits, so many as there are places, behind a point. */
static int add_number(Text *text, long long number, int places)
{
    unsigned long long rest = number < 0 ? 0 - (unsigned long long)number : (unsigned long long)number;
    char digits[24];
    int at = sizeof(digits);
    for (int place = 0; rest || place <= places; place++, rest /= 10) {
        if (places && place == places) digits[--at] = '.';
        digits[--at] = (char)('0' + rest % 10);
    }
    return (number >= 0 || add(text, "-", 1)) && add(text, digits + at, (Py_ssize_t)sizeof(digits) - at);
}

static int add_integer(Text *text, PyObject *value)
{
    int is_large;
    long long number = PyLong_AsLongLongAndOverflow(value, &is_large);
    return !is_large && add_number(text, number, 0);
}

/* Most floats of programs have few decimal places. Of at most 15 digits there is one float for each text, and a division
 * of two integers that are exact is rounded as reading the text would be: if it gives the float, this is its text. */
static int add_float(Text *text, PyObject *value)
{
    double real = PyFloat_AS_DOUBLE(value), scale = 10;
    if (!isfinite(real)) return 0;      /* a tagged form, which is written in Python */
    for (int places = 1; real != 0 && places <= 3 && real * scale < 1e15 && real * scale > -1e15; places++, scale *= 10) {
        long long number = (long long)(real * scale + (real < 0 ? -0.5 : 0.5));
        if ((double)number / scale == real) return add_number(text, number, places);
    }
    PyObject *bytes = PyObject_CallOneArg(text->dumps, value);
    int did = bytes && PyBytes_CheckExact(bytes) && add(text, PyBytes_AS_STRING(bytes), PyBytes_GET_SIZE(bytes));
    Py_XDECREF(bytes);
    return did;
}

/* What can't change is kept by reference: an atom, or a tuple of such. */
static int add_object(Text *text, PyObject *value)
{
    PyTypeObject *type = Py_TYPE(value);
    if (type == &PyUnicode_Type) return add_string(text, value);
    if (type == &PyLong_Type) return add_integer(text, value);
    if (value == Py_None) return add(text, "null", 4);
    if (type == &PyBool_Type) return value == Py_True ? add(text, "true", 4) : add(text, "false", 5);
    if (type == &PyFloat_Type) return add_float(text, value);
    if (type != &PyTuple_Type || !add(text, "[", 1)) return 0;
    for (Py_ssize_t at = 0; at < PyTuple_GET_SIZE(value); at++)
        if ((at && !add(text, ",", 1)) || !add_object(text, PyTuple_GET_ITEM(value, at))) return 0;
    return add(text, "]", 1);
}

static const Word *add_value(Text *text, const Word *at);  /* what follows it; NULL where there is no text */
static const Word *after_word(const Word *at);  /* what follows a value */

static const Word *add_list(Text *text, const Word *at, Py_ssize_t count)
{
    if (!add(text, "[", 1)) return NULL;
    for (Py_ssize_t place = 0; place < count; place++)
        if ((place && !add(text, ",", 1)) || !(at = add_value(text, at))) return NULL;
    return add(text, "]", 1) ? at : NULL;
}

typedef struct { PyObject *key; const Word *value; } Member;

/* Members in the order of their keys' letters, which is that of their bytes in UTF-8. */
static void sort(Member *members, Py_ssize_t count)
{
    for (Py_ssize_t next = 1; next < count; next++) {
        Member member = members[next];
        Py_ssize_t at = next;
        for (; at > 0 && PyUnicode_Compare(members[at - 1].key, member.key) > 0; at--) members[at] = members[at - 1];
        members[at] = member;
    }
}

static int add_members(Text *text, Member *members, Py_ssize_t count)
{
    sort(members, count);
    if (!add(text, "{", 1)) return 0;
    for (Py_ssize_t at = 0; at < count; at++)
        if ((at && !add(text, ",", 1)) || !add_string(text, members[at].key) || !add(text, ":", 1)
            || !add_value(text, members[at].value)) return 0;
    return add(text, "}", 1);
}

static const Word *add_dict(Text *text, const Word *at, Py_ssize_t count)
{
    Member members[MOST_KEYS];
    if (count > MOST_KEYS) return NULL;
    for (Py_ssize_t place = 0; place < count; place++) {
        PyObject *key = as_object(*at++);
        if (!PyUnicode_CheckExact(key) || PySet_Contains(text->not_secret, key) != 1) return NULL;
        members[place] = (Member){key, at};
        at = after_word(at);
    }
    return add_members(text, members, count) ? at : NULL;
}

static const Word *add_value(Text *text, const Word *at)
{
    Word word = *at++;
    if (is_reference(word)) return add_object(text, as_object(word)) ? at : NULL;
    if (form_of(word) >= OBJECT) return NULL;  /* or a set */
    return form_of(word) == DICT ? add_dict(text, at, count_of(word)) : add_list(text, at, count_of(word));
}

static const Word *after_word(const Word *at)
{
    Word word = *at++;
    if (is_reference(word)) return at;
    int has_names = form_of(word) == DICT || form_of(word) == OBJECT;
    if (form_of(word) == OBJECT) at++;
    for (Py_ssize_t left = count_of(word); left; left--) at = after_word(has_names ? at + 1 : at);
    return at;
}

static Py_ssize_t length_of(Text *text, const char *room, int did)
{
    if (did) return text->at - room;
    PyErr_Clear();  /* no memory: no code of the host's has run */
    return -1;
}

/* Write the text of a value; its length, or -1 where it has none. */
Py_ssize_t text_of_value(const Word *value, PyObject *not_secret, PyObject *dumps, char *room, Py_ssize_t size)
{
    Text text = {room, room + size, not_secret, dumps};
    return length_of(&text, room, add_value(&text, value) != NULL);
}

/* --- the payload of a call ---------------------------------------------------------------------------------------- */

static Py_ssize_t place_of(PyObject *name, PyObject *names)
{
    for (Py_ssize_t at = 0; at < PyTuple_GET_SIZE(names); at++) {
        PyObject *other = PyTuple_GET_ITEM(names, at);
        if (other == name || PyUnicode_Compare(other, name) == 0) return at;
    }
    return -1;
}

/* Put the values of a call in the order of its parameters: by position, by name, and defaults; 0 where they don't fit.
 *
 * What is kept of a call are all values and then, as a tuple or None, the names of the last ones. */
static int bind(PyObject *names, const Kept *kept, PyObject *defaults, Word *defaulted, const Word **values)
{
    const Word *next = kept->words, *last = next + kept->count - 1;
    PyObject *given = as_object(*last);
    Py_ssize_t count = PyTuple_GET_SIZE(names), first_default = count - PyTuple_GET_SIZE(defaults), all = 0, at;
    if (count > MOST_KEYS) return 0;
    for (const Word *word = next; word < last; word = after_word(word)) all++;
    Py_ssize_t named = given == Py_None ? 0 : PyTuple_GET_SIZE(given), positional = all - named;
    if (positional > count) return 0;
    for (at = 0; at < count; at++) values[at] = NULL;
    for (at = 0; at < positional; at++, next = after_word(next)) values[at] = next;
    for (Py_ssize_t more = 0; more < named; more++, next = after_word(next)) {
        if ((at = place_of(PyTuple_GET_ITEM(given, more), names)) < 0 || values[at]) return 0;
        values[at] = next;
    }
    for (at = 0; at < count; at++) {
        if (values[at]) continue;
        if (at < first_default) return 0;
        defaulted[at] = (Word)PyTuple_GET_ITEM(defaults, at - first_default);
        values[at] = &defaulted[at];
    }
    return 1;
}

/* The same for the object of a call's parameters, of which no name is secret. */
Py_ssize_t text_of_call(const Kept *kept, PyObject *names, PyObject *defaults, PyObject *not_secret, PyObject *dumps, char *room,
                        Py_ssize_t size)
{
    Text text = {room, room + size, not_secret, dumps};
    const Word *values[MOST_KEYS];
    Word defaulted[MOST_KEYS];
    Member members[MOST_KEYS];
    Py_ssize_t count = PyTuple_GET_SIZE(names);
    if (!bind(names, kept, defaults, defaulted, values)) return -1;
    for (Py_ssize_t at = 0; at < count; at++) members[at] = (Member){PyTuple_GET_ITEM(names, at), values[at]};
    return length_of(&text, room, add_members(&text, members, count));
}

/* --- what it may hold ----------------------------------------------------------------------------------------------- */

static int is_letter(char one) { return (one >= 'a' && one <= 'z') || (one >= 'A' && one <= 'Z'); }

/* Return 1 for JSON text in which no text can look like a secret, since each is one short word, as
 * flowtrace/values/scrub.py says; what else may be one is for Python to find out. */
int holds_no_secret(const char *at, Py_ssize_t length)
{
    const char *end = at + length;
    int texts = 0, lists = 0;
    for (; at < end; at++) {
        lists |= *at == '[';
        if (*at != '"') continue;
        Py_ssize_t size = 0;
        int is_lower = 1, is_joined = 0;
        for (at++; at < end && (is_letter(*at) || (*at >= '0' && *at <= '9') || *at == '_' || *at == '.' || *at == '-'); at++) {
            size++;
            is_joined |= *at == '.' || *at == '-';
            is_lower &= *at == '_' || (*at >= 'a' && *at <= 'z');
        }
        int is_key = at + 1 < end && at[1] == ':';
        if (at == end || *at != '"' || (size > (is_joined ? 11 : 15) && !(is_key && is_lower && size <= 40))) return 0;
        texts |= !is_key;
    }
    return !(texts && lists);
}
