/* The fast path of a call: a node's step is begun and ended in here, by reference and without a call of Python.
 *
 * It is open while the process-global recorder is on. Whatever is rare calls out: values that are not plain, errors, the
 * end of a run, and writing. */
#include "native.h"

struct callouts callouts;
static struct {
    char is_open;               /* steps may take the fast path */
    char is_always;             /* each outermost call ends with a trace */
    char checks;                /* values are checked where a node asks for it, which Python does */
    PyObject *ring;             /* the last steps of the process */
    PyObject *holds;            /* a list: paths whose last trace waits for its turn */
    PyObject *postponed;        /* outermost calls whose trace has no turn */
    Py_ssize_t max_value_bytes;
    int64_t slow_after;         /* nanoseconds after which a call is slow */
    PyObject *left_out;         /* a set of nodes whose values are left out for now; NULL where that never happens */
    PyObject *cut;              /* stands for a value that is left out */
    Py_ssize_t cut_size;
    int64_t asked;              /* when Python was asked last whether it is still so */
    char copies;                /* objects are copied; a redactor is given them as they are */
    unsigned long opened;       /* how often the fast path was opened: each time, what is secret may be other */
} core;

static inline int is_set(PyObject *value) { return value && value != Py_None; }

int takes_fast_path(Subject *subject)
{
    return core.is_open && (subject->is_simple || (subject->is_simple_unchecked && !core.checks)) && !is_changed(subject);
}

/* A step that was started here is ended here, too, even if the fast path was closed meanwhile. */
static inline int is_ours(PyObject *step) { return Py_TYPE(step) == StepType && ((Step *)step)->is_listed; }

/* Call something of the Python half; its answer does not matter. */
int call_out(PyObject *function, PyObject *first, PyObject *second)
{
    PyObject *given[] = {first, second};
    PyObject *answer = call_unseen(function, given, second ? 2 : first ? 1 : 0);
    if (!answer) return host_raised() ? -1 : 0;
    Py_DECREF(answer);
    return 0;
}

/* Return 1 if a value is left out that is not plain: then it is not even looked at. Python decides; it is asked again from
 * time to time, with the next such value. */
static int is_left_out(Step *step)
{
    enum { PAUSE = 10000000 };  /* nanoseconds */
    int64_t now;
    if (!core.left_out || !PySet_GET_SIZE(core.left_out) || read_own_clock(&now) < 0) return 0;
    int is_in = PySet_Contains(core.left_out, step->node);
    if (is_in < 0) PyErr_Clear();
    if (is_in <= 0) return 0;
    if (now - core.asked < PAUSE) return 1;
    core.asked = now;
    return 0;
}

/* --- what is hidden ------------------------------------------------------------------------------------------------ */

/* Ask Python for the parameters of a node, if none of their values is hidden, and whether its result is none that is; with
 * the first value that the core does not take. Return -1 with an exception of the host's. */
static int learn_names(Subject *subject, Step *step)
{
    if (subject->asked == core.opened) return 0;
    unsigned long opened = core.opened;
    PyObject *answer = call_unseen(callouts.open_values, &step->node, 1);
    if (!answer) return host_raised() ? -1 : 0;
    int is_pair = PyTuple_CheckExact(answer) && PyTuple_GET_SIZE(answer) == 2;
    PyObject *names = is_pair ? PyTuple_GET_ITEM(answer, 0) : Py_None;
    Py_XSETREF(subject->open_names, PyFrozenSet_CheckExact(names) ? Py_NewRef(names) : NULL);
    subject->has_open_result = is_pair && PyTuple_GET_ITEM(answer, 1) == Py_True;
    subject->asked = opened;
    Py_DECREF(answer);
    return 0;
}

/* May objects among the arguments be kept as the names of their classes? A hidden one is searched for in texts, as it is;
 * and so is one that was given under a name that is no parameter. */
static int are_open(const Subject *subject, PyObject *names)
{
    if (subject->asked != core.opened || !subject->open_names) return 0;
    for (Py_ssize_t at = 0; names && at < PyTuple_GET_SIZE(names); at++)
        if (PySet_Contains(subject->open_names, PyTuple_GET_ITEM(names, at)) != 1) { PyErr_Clear(); return 0; }
    return 1;
}

static int is_open_result(const Subject *subject) { return subject->asked == core.opened && subject->has_open_result; }

static inline int takes_what(int is_open) { return !core.copies ? CONSTANTS : is_open ? ALL_OBJECTS : RECORDS; }

/* --- begin -------------------------------------------------------------------------------------------------------- */

static PyObject *slow_arguments(PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    PyObject *positional = as_tuple(args, count);
    PyObject *named = positional ? as_dict(args + count, names) : NULL;
    PyObject *both = named ? PyTuple_Pack(2, positional, named) : NULL;
    Py_XDECREF(positional);
    Py_XDECREF(named);
    return both;
}

/* Let Python take a value, and then learn how to copy instances of a class: a reference that goes, or NULL. */
static int take_slowly(PyObject *function, Step *step, PyObject *value, PyTypeObject *unfamiliar)
{
    int did = call_out(function, (PyObject *)step, value);
    if (did == 0 && unfamiliar) did = learn_copier(unfamiliar);
    Py_XDECREF(unfamiliar);
    return did;
}

enum { CALL_HEAD = 480 };  /* bytes of memory of a step and its tuples */

/* What is kept of arguments: all values, and then the names of the last ones, or None. */
static int draft_arguments(PyObject *const *args, Py_ssize_t all, PyObject *names, Budget *budget)
{
    begin_draft();
    for (Py_ssize_t at = 0; at < all; at++)
        if (draft_value(args[at], budget) < 0) return -1;
    return draft_reference(names ? names : Py_None);
}

/* Take the arguments here, or in Python, where one of them is not plain, or the defaults may change. */
static int take_arguments(Subject *subject, Step *step, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    Py_ssize_t all = count + (names ? PyTuple_GET_SIZE(names) : 0);
    Budget budget = {core.max_value_bytes, CALL_HEAD + 8 * all, takes_what(are_open(subject, names))};
    if (!subject->has_live_defaults && draft_arguments(args, all, names, &budget) == 0 && keep_draft(&step->arguments) == 0) {
        step->held = budget.held;
        return 0;
    }
    PyTypeObject *unfamiliar = subject->has_live_defaults ? NULL : unfamiliar_class();
    if (learn_names(subject, step) < 0) { Py_XDECREF(unfamiliar); return -1; }
    if (is_left_out(step)) {
        Py_XDECREF(unfamiliar);
        step->input = Py_NewRef(core.cut);
        step->held = CALL_HEAD + core.cut_size;
        return 0;
    }
    PyObject *both = slow_arguments(args, count, names);
    if (!both) { PyErr_Clear(); Py_XDECREF(unfamiliar); return -2; }
    int did = take_slowly(callouts.slow_input, step, both, unfamiliar);
    Py_DECREF(both);
    return did < 0 ? -1 : step->input ? 0 : -2;
}

/* Return 1 and a step, 0 where it can't be recorded, -1 with an exception of the host's. */
int fast_prepare(Subject *subject, PyObject *const *args, Py_ssize_t count, PyObject *names, int bound, PyObject **made)
{
    Step *step = new_step();
    *made = NULL;
    if (!step) { PyErr_Clear(); return 0; }
    step->node = Py_NewRef(subject->target);
    step->bound = (char)bound;
    int did = take_arguments(subject, step, args, count, names);
    if (did < 0) {
        Py_DECREF(step);
        return did == -1 ? -1 : 0;
    }
    *made = (PyObject *)step;
    return 1;
}

int fast_begin(Subject *subject, PyObject *const *args, Py_ssize_t count, PyObject *names, int bound, PyObject **made)
{
    int did = fast_prepare(subject, args, count, names, bound, made);
    if (did <= 0 || start_step((Step *)*made) == 0) return did;
    PyObject *error = take_raised();
    Py_CLEAR(*made);
    raise_again(error);
    return failed_for_host();
}

/* --- end ---------------------------------------------------------------------------------------------------------- */

static inline int is_slow(Subject *subject, Step *step)
{
    return step->ended - step->started > (subject->slow_after ? subject->slow_after : core.slow_after);
}

/* End the run of an outermost call whose trace has no turn to be written; 0 where it has, or where Python has to. */
static int postpones(Step *step)
{
    if (is_set(step->run)) return close_own_run(step, core.postponed);
    if (has_turn(core.postponed, step)) return 0;
    postpone(core.postponed, (PyObject *)step);
    return 1;
}

/* Put a finished step into its run, and write what must be written now. */
static int settle(Subject *subject, Step *step)
{
    int is_ordinary = !is_set(step->rest) && !is_slow(subject, step);
    PyObject *ring = Py_XNewRef(core.ring);  /* a step that it lets go of may run code that exchanges it */
    int failed = ring && ring_add(ring, step) < 0;
    Py_XDECREF(ring);
    if (failed) return raised_by_handler();
    if (is_ordinary && !core.is_always && (!is_set(step->run) || (step->owns_run && close_own_run(step, NULL))))
        return PyList_GET_SIZE(core.holds) ? call_out(callouts.write_due, NULL, NULL) : 0;
    if (is_ordinary && core.is_always && step->owns_run && postpones(step)) return 0;
    if (is_set(step->run) && !step->owns_run && is_ordinary) {
        PyObject *buffer = PyObject_GetAttr(step->run, str_open_buffer);  /* None once the run is over */
        if (!buffer) { PyErr_Clear(); return 0; }
        if (Py_TYPE(buffer) == RingType) {
            int did = ring_add(buffer, step);
            Py_DECREF(buffer);
            return did < 0 ? raised_by_handler() : 0;
        }
        Py_DECREF(buffer);
    }
    return call_out(callouts.add_to_run, (PyObject *)step, NULL);
}

/* Keep a value, after those that are kept; -1 where it is not plain, too large, or there is no memory. */
static int keep_value(Kept **kept, PyObject *value, Budget *budget)
{
    begin_draft();
    return draft_value(value, budget) < 0 ? -1 : keep_draft(kept);
}

static int take_output(Subject *subject, Step *step, PyObject *value)
{
    Budget budget = {core.max_value_bytes, 0, takes_what(is_open_result(subject))};
    Kept *kept = NULL;
    int is_plain = keep_value(&kept, value, &budget) == 0;
    PyTypeObject *unfamiliar = is_plain || box_is_open() ? NULL : unfamiliar_class();
    if (box_is_open()) {
        int did = box_ends(step, value, kept);  /* 0 if Python has taken the result */
        if (did <= 0) { let_go(&kept); return did; }
    }
    if (!is_plain && learn_names(subject, step) < 0) { Py_XDECREF(unfamiliar); return -1; }
    if (!is_plain && is_left_out(step)) {
        Py_XDECREF(unfamiliar);
        Py_XSETREF(step->output, Py_NewRef(core.cut));
        step->held += core.cut_size;
        return 0;
    }
    if (!is_plain) return take_slowly(callouts.slow_output, step, value, unfamiliar);
    let_go(&step->result);
    step->result = kept;
    step->held += budget.held;
    return 0;
}

static int fast_end(Subject *subject, Step *step, PyObject *value)
{
    return leave_step(step) < 0 || take_output(subject, step, value) < 0 || settle(subject, step) < 0 ? -1 : 0;
}

/* --- generators --------------------------------------------------------------------------------------------------- */

/* Hand the items that were taken so far over to be hashed: their room is free again. */
static int hash_items(Step *step, Stream *stream)
{
    PyObject *items = stream_take_items((PyObject *)stream, NULL);
    if (!items) { PyErr_Clear(); return 0; }
    step->held -= stream->held;
    stream->spent = stream->held = 0;
    int did = PyList_GET_SIZE(items) ? call_out(callouts.hash_items, (PyObject *)step, items) : 0;
    Py_DECREF(items);
    return did;
}

static int hash_one(Step *step, PyObject *value, PyTypeObject *unfamiliar)
{
    PyObject *items = PyList_New(1);
    if (!items) { PyErr_Clear(); Py_XDECREF(unfamiliar); return 0; }
    PyList_SET_ITEM(items, 0, Py_NewRef(value));
    int did = take_slowly(callouts.hash_items, step, items, unfamiliar);
    Py_DECREF(items);
    return did;
}

static int take_item(Step *step, Stream *stream, PyObject *value)
{
    if (stream->is_stopped) return 0;
    for (int has_room = 0; has_room < 2; has_room++) {
        Budget budget = {core.max_value_bytes - stream->spent, 16, takes_what(0)};
        if (keep_value(&stream->items, value, &budget) == 0) {
            stream->spent = core.max_value_bytes - budget.left + 48;
            stream->held += budget.held;
            step->held += budget.held;
            return 0;
        }
        if (!is_set(stream->hashed) && is_left_out(step)) {
            stream->is_stopped = stream->is_left_out = 1;
            return 0;
        }
        if (has_room || !stream->spent) break;
        if (hash_items(step, stream) < 0) return -1;
    }
    return hash_one(step, value, unfamiliar_class());  /* not plain, or too large on its own */
}

static Stream *stream_of(Step *step)
{
    if (!is_set(step->stream)) Py_XSETREF(step->stream, (PyObject *)new_stream());
    if (!step->stream) PyErr_Clear();
    return (Stream *)step->stream;
}

static int fast_emit(Step *step, PyObject *value)
{
    Stream *stream = stream_of(step);
    int did = stream && Py_TYPE(stream) == StreamType ? take_item(step, stream, value) : 0;
    suspend_step(step);
    return did;
}

static int finish_hashed(Step *step, PyObject *returned)
{
    PyObject *given = returned ? PyTuple_Pack(1, returned) : PyTuple_New(0);
    if (!given) { PyErr_Clear(); return 0; }
    int did = call_out(callouts.finish_hashed, (PyObject *)step, given);
    Py_DECREF(given);
    return did;
}

static int settle_stream(Subject *subject, Step *step)
{
    if (box_is_open() && call_out(callouts.finish_processed, (PyObject *)step, NULL) < 0) return -1;
    return settle(subject, step);
}

static int fast_end_stream(Subject *subject, Step *step, PyObject *returned)
{
    if (leave_step(step) < 0) return -1;
    Stream *stream = stream_of(step);
    if (!stream || Py_TYPE(stream) != StreamType) return settle_stream(subject, step);
    if (stream->is_left_out) {
        step->held += core.cut_size - stream->held;
        Py_XSETREF(step->output, Py_NewRef(core.cut));
        Py_CLEAR(step->stream);
        return settle_stream(subject, step);
    }
    Budget budget = {core.max_value_bytes - stream->spent, 64, takes_what(0)};
    if (is_set(stream->hashed) || (returned && keep_value(&stream->returned, returned, &budget) < 0))
        return finish_hashed(step, returned) < 0 || settle_stream(subject, step) < 0 ? -1 : 0;
    step->held += budget.held;
    Py_XSETREF(step->output, Py_NewRef((PyObject *)stream));
    Py_CLEAR(step->stream);
    return settle_stream(subject, step);
}

/* --- what happens to a step, on the fast path or in Python --------------------------------------------------------- */

static int in_python(PyObject *function, PyObject *step, PyObject *value)
{
    if (!function) return 0;
    Py_INCREF(function);  /* another thread may exchange the functions of a subject */
    PyObject *given[] = {step, value};
    PyObject *answer = call_unseen(function, given, value ? 2 : 1);
    Py_DECREF(function);
    if (!answer) return host_raised() ? -1 : 0;
    if (PyExceptionInstance_Check(answer)) { raise_again(answer); return REFUSED; }
    Py_DECREF(answer);
    return 0;
}

int step_starts(Subject *subject, PyObject *step)
{
    if (!takes_fast_path(subject) || Py_TYPE(step) != StepType) return in_python(subject->start, step, NULL);
    return start_step((Step *)step) < 0 ? failed_for_host() : 0;
}

int step_suspends(Subject *subject, PyObject *step)
{
    if (!is_ours(step)) return in_python(subject->suspend, step, NULL);
    suspend_step((Step *)step);
    return 0;
}

int step_resumes(Subject *subject, PyObject *step)
{
    return is_ours(step) ? resume_step((Step *)step) : in_python(subject->resume, step, NULL);
}

int step_emits(Subject *subject, PyObject *step, PyObject *value)
{
    return is_ours(step) && core.is_open ? fast_emit((Step *)step, value) : in_python(subject->emit, step, value);
}

int step_ends(Subject *subject, PyObject *step, PyObject *value)
{
    if (!is_ours(step)) return in_python(subject->end, step, value);
    if (core.is_open) return fast_end(subject, (Step *)step, value);
    return leave_step((Step *)step) < 0 ? -1 : call_out(callouts.ended, step, value);
}

int step_ends_stream(Subject *subject, PyObject *step, PyObject *returned)
{
    if (!is_ours(step)) return in_python(subject->end_stream, step, returned);
    if (core.is_open) return fast_end_stream(subject, (Step *)step, returned);
    return leave_step((Step *)step) < 0 ? -1 : call_out(callouts.stream_ended, step, returned);
}

/* The exception is taken up first: what is called may raise and clear. */
void step_fails(Subject *subject, PyObject *step)
{
    PyObject *error = take_raised();
    PyObject *function = subject->fail;
    int did = 0;
    if (is_ours(step)) {
        did = leave_step((Step *)step);
        function = callouts.failed;
    }
    if (did == 0 && in_python(function, step, error) == 0) { raise_again(error); return; }
    raise_newer(error);  /* a signal handler of the host's raised while we looked at the error */
}

/* --- what Python gives -------------------------------------------------------------------------------------------- */

static PyObject *connect_recorder(PyObject *Py_UNUSED(module), PyObject *args, PyObject *kwargs)
{
    static char *names[] = {
        "step_type", "stream_type", "current", "open_run", "add_to_run", "write_due", "slow_input", "slow_output",
        "hash_items", "finish_hashed", "ended", "stream_ended", "failed", "start_processed", "end_processed",
        "finish_processed", "thread_number", "is_from_handler", "raise_later", "open_values", NULL,
    };
    enum { PARTS = 20 };
    PyObject *given[PARTS];
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O!OOOOOOOOOOOOOOOOOO:connect_recorder", names, &PyType_Type, &given[0],
                                     &PyType_Type, &given[1], &given[2], &given[3], &given[4], &given[5], &given[6],
                                     &given[7], &given[8], &given[9], &given[10], &given[11], &given[12], &given[13],
                                     &given[14], &given[15], &given[16], &given[17], &given[18], &given[19])) return NULL;
    PyObject **places[PARTS - 2] = {
        &current, &callouts.open_run, &callouts.add_to_run,
        &callouts.write_due, &callouts.slow_input, &callouts.slow_output, &callouts.hash_items, &callouts.finish_hashed,
        &callouts.ended, &callouts.stream_ended, &callouts.failed, &callouts.start_processed, &callouts.end_processed,
        &callouts.finish_processed, &callouts.thread_number, &callouts.is_from_handler, &callouts.raise_later,
        &callouts.open_values,
    };
    use_step_type((PyTypeObject *)given[0]);
    use_stream_type((PyTypeObject *)given[1]);
    for (int at = 2; at < PARTS; at++) Py_XSETREF(*places[at - 2], Py_NewRef(given[at]));
    learn_contexts();
    Py_RETURN_NONE;
}

static PyObject *open_fast_path(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *ring, *holds, *postponed, *left_out, *cut;
    int is_always, checks, copies;
    Py_ssize_t max_value_bytes, cut_size;
    long long slow_after;
    if (!PyArg_ParseTuple(args, "O!O!O!ppnLOOnp:open_fast_path", RingType, &ring, &PyList_Type, &holds, PostponedType,
                          &postponed, &is_always, &checks, &max_value_bytes, &slow_after, &left_out, &cut,
                          &cut_size, &copies)) return NULL;
    if (!StepType || !StreamType) { PyErr_SetString(PyExc_RuntimeError, "connect_recorder comes first"); return NULL; }
    Py_XSETREF(core.ring, Py_NewRef(ring));
    Py_XSETREF(core.holds, Py_NewRef(holds));
    Py_XSETREF(core.postponed, Py_NewRef(postponed));
    core.is_always = (char)is_always;
    core.checks = (char)checks;
    core.max_value_bytes = max_value_bytes;
    core.slow_after = slow_after;
    Py_XSETREF(core.left_out, PySet_CheckExact(left_out) ? Py_NewRef(left_out) : NULL);
    Py_XSETREF(core.cut, Py_NewRef(cut));
    core.cut_size = cut_size;
    core.copies = (char)copies;
    core.opened++;
    core.is_open = 1;
    Py_RETURN_NONE;
}

static PyObject *close_fast_path(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    core.is_open = 0;
    Py_CLEAR(core.ring);  /* the values in it belong to a recorder that may be gone */
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"connect_recorder", (PyCFunction)(void (*)(void))connect_recorder, METH_VARARGS | METH_KEYWORDS,
     "connect_recorder(**parts)\n--\n\nGive the core the types and functions of the recorder."},
    {"open_fast_path", open_fast_path, METH_VARARGS,
     "open_fast_path(ring, holds, postponed, is_always, checks, max_value_bytes, slow_after, left_out, cut, cut_size, copies)\n--\n\nRecord calls without a call of Python from now on."},
    {"close_fast_path", close_fast_path, METH_NOARGS, "close_fast_path()\n--\n\nLet every step be recorded in Python."},
    {NULL, NULL, 0, NULL},
};

int add_recording(PyObject *module) { return PyModule_AddFunctions(module, functions); }
