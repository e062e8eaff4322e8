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
static int add_number(uint64_t number, unsigned base, int least)
{
    char digits[20];
    int at = sizeof(digits);
    for (; number || least > 0; number /= base, least--) digits[--at] = "0123456789abcdef"[number % base];
    return add(digits + at, sizeof(digits) - (size_t)at);
}

/* Add the year, month and day so many days after the first of 1970, by the proleptic Gregorian calendar. The year is
 * counted from March, so that the day that not each year has is its last. */
static int add_date(int64_t days)
{
    int64_t since = days + 719468, era = since / 146097, day = since % 146097;
    int64_t year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
    int64_t of_year = day - (365 * year + year / 4 - year / 100), month = (5 * of_year + 2) / 153;
    year += era * 400 + (month >= 10);
    return add_number((uint64_t)year, 10, 4) && add("-", 1) && add_number((uint64_t)(month < 10 ? month + 3 : month - 9), 10, 2)
        && add("-", 1) && add_number((uint64_t)(of_year - (153 * month + 2) / 5 + 1), 10, 2);
}

/* RFC 3339 in UTC, with microseconds. */
static int add_time(int64_t nanoseconds)
{
    int64_t seconds = nanoseconds / SECOND, of_day = seconds % DAY;
    return add_date(seconds / DAY) && add("T", 1) && add_number((uint64_t)(of_day / 3600), 10, 2) && add(":", 1)
        && add_number((uint64_t)(of_day / 60 % 60), 10, 2) && add(":", 1) && add_number((uint64_t)(of_day % 60), 10, 2)
        && add(".", 1) && add_number((uint64_t)(nanoseconds % SECOND / 1000), 10, 6) && add("Z", 1);
}

static int add_gap(enum gap gap, const Facts *facts)
{
    switch (gap) {
        case INPUT_HASH: return add(facts->input.hash, 2 * DIGEST);
        case PAYLOAD: return add_value(&facts->input);
        case OUTPUT_HASH: return add(facts->output.hash, 2 * DIGEST);
        case RESULT: return add_value(&facts->output);
        case MILLISECONDS: return add_number((uint64_t)facts->took / 1000000, 10, 1);
        case NANOSECONDS: return add_number((uint64_t)facts->took, 10, 1);
        case STARTED: return add_time(facts->started);
        case NUMBER: return add_number((uint64_t)facts->step->number, 16, 16);
        case PARENT: return add_number((uint64_t)facts->step->parent, 16, 16);
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
    return add_pieces(pieces, &facts) ? PyBytes_FromStringAndSize(lines.bytes, (Py_ssize_t)lines.size) : PyErr_NoMemory();
}

static PyMethodDef functions[] = {
    {"step_lines", step_lines, METH_VARARGS,
     "step_lines(step, pieces, names, defaults, not_secret, dumps, epoch, limit, is_checked)\n--\n\n"
     "Return the text of a step; None where it is for Python to make, or a list of the texts in it that may hold a secret."},
    {NULL, NULL, 0, NULL},
};

int add_lines(PyObject *module) { return PyModule_AddFunctions(module, functions); }
