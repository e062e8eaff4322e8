/* The text of a finished step in a trace file, where its values are small and plain.
 *
 * Most of that text is the same for all steps of a node. flowtrace/recording/step_lines.py cuts it into pieces, with a
 * number for each gap between them: what stands there is a fact of the step, and is written here. Of the values, JSON text
 * is made, hashed, and then set in lines as deep as the line that the gap is in. No code of Python's runs. */
#include "native.h"
#include <string.h>

/* What stands in a gap. The numbers are those of flowtrace/recording/step_lines.py. */
enum gap { INPUT_HASH, PAYLOAD, OUTPUT_HASH, RESULT, MILLISECONDS, NANOSECONDS, STARTED, NUMBER, PARENT, GAPS };

static const int64_t SECOND = 1000000000;
static const int64_t DAY = 86400;
static const int64_t MOST = (int64_t)1 << 62;  /* nanoseconds, 146 years: the sum of two such times is a number, too */

typedef struct {
    char text[SHORT_TEXT];
    Py_ssize_t size;
    char hash[2 * DIGEST];
} Value;

typedef struct {
    const Step *step;
    Value input, output;
    int64_t took, started;              /* nanoseconds, the latter since the Unix epoch */
} Facts;

static PyObject *str_shapes;
static struct { char *bytes; size_t size, room; } lines;  /* what is being written; one for all, since the GIL is held */

/* Each function here returns 1, or 0 where there is no memory. */

static int add(const char *bytes, size_t count)
{
    if (lines.room - lines.size < count) {
        size_t room = 2 * (lines.size + count) + 4096;
        char *larger = PyMem_Realloc(lines.bytes, room);
        if (!larger) return 0;
        lines.bytes = larger;
        lines.room = room;
    }
    if (count) memcpy(lines.bytes + lines.size, bytes, count);
    lines.size += count;
    return 1;
}

static int add_break(int indent)
{
    if (!add("\n", 1)) return 0;
    for (; indent >= 8; indent -= 8) if (!add("        ", 8)) return 0;
    return add("        ", (size_t)indent);
}

/* By how many spaces the last line is indented. */
static int indent_of_line(void)
{
    size_t start = lines.size;
    int indent = 0;
    while (start && lines.bytes[start - 1] != '\n') start--;
    while (start + (size_t)indent < lines.size && lines.bytes[start + (size_t)indent] == ' ') indent++;
    return indent;
}

/* Set JSON text without white space in lines. */
static int add_value(const Value *value)
{
    const char *at = value->text, *end = at + value->size;
    int indent = indent_of_line();
    for (const char *start; at < end; at++) switch (*at) {
        case '"':
            for (start = at++; *at != '"'; at++) at += *at == '\\';
            if (!add(start, (size_t)(at + 1 - start))) return 0;
            break;
        case '{': case '[':
            if (at[1] == '}' || at[1] == ']') { if (!add(at++, 2)) return 0; }
            else if (!add(at, 1) || !add_break(indent += 2)) return 0;
            break;
        case '}': case ']':
            if (!add_break(indent -= 2) || !add(at, 1)) return 0;
            break;
        case ',':
            if (!add(at, 1) || !add_break(indent)) return 0;
            break;
        case ':':
            if (!add(": ", 2)) return 0;
            break;
        default:
            if (!add(at, 1)) return 0;
    }
    return 1;
}

/* Add a number of at least so many digits. */
static int add_number(uint64_t number, int least)
{
    char digits[20];
    int at = sizeof(digits);
    for (; number || least > 0; number /= 10, least--) digits[--at] = (char)('0' + number % 10);
    return add(digits + at, sizeof(digits) - (size_t)at);
}

/* Add the id of a step: its number in 16 hex digits. */
static int add_id(uint64_t number)
{
    char digits[16];
    for (int at = sizeof(digits) - 1; at >= 0; at--, number >>= 4) digits[at] = "0123456789abcdef"[number & 15];
    return add(digits, sizeof(digits));
}

/* Add the year, month and day so many days after the first of 1970, by the proleptic Gregorian calendar. The year is
 * counted from March, so that the day that not each year has is its last. */
static int add_date(int64_t days)
{
    int64_t since = days + 719468, era = since / 146097, day = since % 146097;
    int64_t year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
    int64_t of_year = day - (365 * year + year / 4 - year / 100), month = (5 * of_year + 2) / 153;
    year += era * 400 + (month >= 10);
    return add_number((uint64_t)year, 4) && add("-", 1) && add_number((uint64_t)(month < 10 ? month + 3 : month - 9), 2)
        && add("-", 1) && add_number((uint64_t)(of_year - (153 * month + 2) / 5 + 1), 2);
}

/* RFC 3339 in UTC, with microseconds. */
static int add_time(int64_t nanoseconds)
{
    int64_t seconds = nanoseconds / SECOND, of_day = seconds % DAY;
    return add_date(seconds / DAY) && add("T", 1) && add_number((uint64_t)(of_day / 3600), 2) && add(":", 1)
        && add_number((uint64_t)(of_day / 60 % 60), 2) && add(":", 1) && add_number((uint64_t)(of_day % 60), 2)
        && add(".", 1) && add_number((uint64_t)(nanoseconds % SECOND / 1000), 6) && add("Z", 1);
}

static int add_gap(enum gap gap, const Facts *facts)
{
    switch (gap) {
        case INPUT_HASH: return add(facts->input.hash, 2 * DIGEST);
        case PAYLOAD: return add_value(&facts->input);
        case OUTPUT_HASH: return add(facts->output.hash, 2 * DIGEST);
        case RESULT: return add_value(&facts->output);
        case MILLISECONDS: return add_number((uint64_t)facts->took / 1000000, 1);
        case NANOSECONDS: return add_number((uint64_t)facts->took, 1);
        case STARTED: return add_time(facts->started);
        case NUMBER: return add_id((uint64_t)facts->step->number);
        case PARENT: return add_id((uint64_t)facts->step->parent);
        default: return 0;
    }
}

static int add_pieces(PyObject *pieces, const Facts *facts)
{
    lines.size = 0;
    for (Py_ssize_t at = 0; at < PyTuple_GET_SIZE(pieces); at++) {
        PyObject *piece = PyTuple_GET_ITEM(pieces, at);
        if (!(PyBytes_CheckExact(piece) ? add(PyBytes_AS_STRING(piece), (size_t)PyBytes_GET_SIZE(piece))
              : add_gap((enum gap)PyLong_AsLong(piece), facts))) return 0;
    }
    return 1;
}

/* Return the gaps that there are, as bits; -1 with an exception where what should be pieces are none. */
static int gaps_in(PyObject *pieces)
{
    int found = 0;
    for (Py_ssize_t at = 0; at < PyTuple_GET_SIZE(pieces); at++) {
        PyObject *piece = PyTuple_GET_ITEM(pieces, at);
        if (PyBytes_CheckExact(piece)) continue;
        long gap = PyLong_Check(piece) ? PyLong_AsLong(piece) : -1;
        if (gap < 0 || gap >= GAPS) {
            if (!PyErr_Occurred()) PyErr_Format(PyExc_TypeError, "a piece is bytes or the number of a gap, not %R", piece);
            return -1;
        }
        found |= 1 << gap;
    }
    return found;
}

static int has(int gaps, enum gap gap) { return gaps >> gap & 1; }

static void hash_value(Value *value)
{
    unsigned char digest[DIGEST];
    hash_short((const unsigned char *)value->text, value->size, digest);
    for (int at = 0; at < DIGEST; at++) {
        value->hash[2 * at] = "0123456789abcdef"[digest[at] >> 4];
        value->hash[2 * at + 1] = "0123456789abcdef"[digest[at] & 15];
    }
}

/* What a text is made with: parameters, defaults of the last of them, names that are not secret, orjson's function. */
typedef struct { PyObject *names, *defaults, *not_secret, *dumps; Py_ssize_t limit; } Rules;

/* Find out what stands in the gaps; 0 where it is not small, plain, and what these pieces are for. */
static int find_facts(Step *step, int gaps, const Rules *rules, int64_t epoch, Facts *facts)
{
    if (!step->ended || step->started < 0 || step->ended < step->started || step->ended >= MOST || epoch < -MOST || epoch >= MOST)
        return 0;
    facts->step = step;
    facts->took = step->ended - step->started;
    facts->started = epoch + step->started;
    if (facts->started < 0 || !step->arguments || has(gaps, PARENT) != (step->parent != 0)) return 0;
    if (has(gaps, OUTPUT_HASH) != (step->result != NULL) || (!step->result && step->output && step->output != Py_None)) return 0;
    Value *input = &facts->input, *output = &facts->output;
    input->size = text_of_call(step->arguments, rules->names, rules->defaults, rules->not_secret, rules->dumps, input->text,
                               rules->limit);
    output->size = !step->result ? 0
        : text_of_value(step->result->words, rules->not_secret, rules->dumps, output->text, rules->limit);
    if (input->size < 0 || output->size < 0) return 0;
    hash_value(input);
    hash_value(output);
    return 1;
}

/* What may hold a secret, of what would be written: a list of texts, or None. */
static int is_in_doubt(const Facts *facts, int gaps)
{
    return (has(gaps, PAYLOAD) && !holds_no_secret(facts->input.text, facts->input.size))
        || (has(gaps, RESULT) && !holds_no_secret(facts->output.text, facts->output.size));
}

static PyObject *doubtful_texts(const Facts *facts, int gaps)
{
    const Value *values[] = {has(gaps, PAYLOAD) ? &facts->input : NULL, has(gaps, RESULT) ? &facts->output : NULL};
    PyObject *found = NULL;
    for (int at = 0; at < 2; at++) {
        if (!values[at] || holds_no_secret(values[at]->text, values[at]->size)) continue;
        PyObject *text = PyBytes_FromStringAndSize(values[at]->text, values[at]->size);
        if (!found) found = PyList_New(0);
        if (!text || !found || PyList_Append(found, text) < 0) { Py_CLEAR(found); at = 2; }
        Py_XDECREF(text);
        if (at == 2) return NULL;
    }
    return found ? found : Py_NewRef(Py_None);
}

static PyObject *made_lines(PyObject *pieces, const Facts *facts)
{
    return add_pieces(pieces, facts) ? PyBytes_FromStringAndSize(lines.bytes, (Py_ssize_t)lines.size) : PyErr_NoMemory();
}

static PyObject *step_lines(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *step, *pieces, *doubtful;
    Rules rules;
    long long epoch;
    int is_checked, gaps;
    Facts facts;
    if (!PyArg_ParseTuple(args, "O!O!O!O!O!OLnp:step_lines", StepBaseType, &step, &PyTuple_Type, &pieces, &PyTuple_Type,
                          &rules.names, &PyTuple_Type, &rules.defaults, &PySet_Type, &rules.not_secret, &rules.dumps, &epoch,
                          &rules.limit, &is_checked) || (gaps = gaps_in(pieces)) < 0) return NULL;
    if (rules.limit > SHORT_TEXT) rules.limit = SHORT_TEXT;
    if (!find_facts((Step *)step, gaps, &rules, epoch, &facts)) Py_RETURN_NONE;
    if (!is_checked && ((doubtful = doubtful_texts(&facts, gaps)) == NULL || doubtful != Py_None)) return doubtful;
    return made_lines(pieces, &facts);
}

/* --- many steps ----------------------------------------------------------------------------------------------------- */

enum { PIECES, NAMES, DEFAULTS, NOT_SECRET, PARTS };  /* of a shape, as flowtrace/recording/step_lines.py has it */

/* Return the shape that the step of a node has, a new reference; NULL, without an exception, where none is known. */
static PyObject *shape_of(const Step *step, PyObject *mode)
{
    long long kind = (long long)step->thread << 2 | (step->bound ? 2 : 0) | (step->parent ? 1 : 0);
    PyObject *by_mode = step->node ? PyObject_GetAttr(step->node, str_shapes) : NULL;
    PyObject *by_kind = by_mode && PyDict_CheckExact(by_mode) ? PyDict_GetItemWithError(by_mode, mode) : NULL;
    PyObject *key = by_kind && PyDict_CheckExact(by_kind) ? PyLong_FromLongLong(kind) : NULL;
    PyObject *shape = key ? Py_XNewRef(PyDict_GetItemWithError(by_kind, key)) : NULL;
    Py_XDECREF(key);
    Py_XDECREF(by_mode);
    if (!shape) PyErr_Clear();
    return shape;
}

/* Return the text of a step in which nothing is in doubt, or None; NULL with an exception where there is no memory. */
static PyObject *lines_or_none(Step *step, PyObject *shape, Rules *rules, int64_t epoch)
{
    Facts facts;
    PyObject **parts = PySequence_Fast_ITEMS(shape), *pieces = parts[PIECES];
    rules->names = parts[NAMES];
    rules->defaults = parts[DEFAULTS];
    rules->not_secret = parts[NOT_SECRET];
    int gaps = gaps_in(pieces);
    if (gaps < 0) return NULL;
    if (!find_facts(step, gaps, rules, epoch, &facts) || is_in_doubt(&facts, gaps)) Py_RETURN_NONE;
    return made_lines(pieces, &facts);
}

static int is_shape(PyObject *shape)
{
    return shape && PyTuple_Check(shape) && PyTuple_GET_SIZE(shape) == PARTS
        && PyTuple_CheckExact(PyTuple_GET_ITEM(shape, PIECES)) && PyTuple_CheckExact(PyTuple_GET_ITEM(shape, NAMES))
        && PyTuple_CheckExact(PyTuple_GET_ITEM(shape, DEFAULTS)) && PySet_CheckExact(PyTuple_GET_ITEM(shape, NOT_SECRET));
}

static PyObject *all_lines(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *steps, *mode;
    Rules rules;
    long long epoch;
    if (!PyArg_ParseTuple(args, "O!OOLn:all_lines", &PyTuple_Type, &steps, &mode, &rules.dumps, &epoch, &rules.limit)) return NULL;
    if (rules.limit > SHORT_TEXT) rules.limit = SHORT_TEXT;
    PyObject *found = PyList_New(PyTuple_GET_SIZE(steps));
    for (Py_ssize_t at = 0; found && at < PyTuple_GET_SIZE(steps); at++) {
        Step *step = (Step *)PyTuple_GET_ITEM(steps, at);
        int is_plain = PyObject_TypeCheck((PyObject *)step, StepBaseType) && (!step->rest || step->rest == Py_None);
        PyObject *shape = is_plain ? shape_of(step, mode) : NULL;
        PyObject *text = is_shape(shape) ? lines_or_none(step, shape, &rules, epoch) : Py_NewRef(Py_None);
        Py_XDECREF(shape);
        if (text) PyList_SET_ITEM(found, at, text);
        else Py_CLEAR(found);
    }
    return found;
}

static PyMethodDef functions[] = {
    {"step_lines", step_lines, METH_VARARGS,
     "step_lines(step, pieces, names, defaults, not_secret, dumps, epoch, limit, is_checked)\n--\n\n"
     "Return the text of a step; None where it is for Python to make, or a list of the texts in it that may hold a secret."},
    {"all_lines", all_lines, METH_VARARGS,
     "all_lines(steps, mode, dumps, epoch, limit)\n--\n\nReturn the texts of steps whose shapes are known; None for any other."},
    {NULL, NULL, 0, NULL},
};

int add_lines(PyObject *module)
{
    return (str_shapes = PyUnicode_InternFromString("shapes")) ? PyModule_AddFunctions(module, functions) : -1;
}
