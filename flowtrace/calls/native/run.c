/* The run of an outermost call in which other calls are: made when the first of them starts, ended when the call ends well.
 *
 * It does what `new_run` and `end_run` of flowtrace/recording/recorder.py do, with the same objects. Whatever is not
 * ordinary, such as a run in which something failed, is ended in Python. */
#include "native.h"

static struct {
    PyObject *type;                     /* Python's class of runs */
    PyObject *name_type, *lock_type;
    PyObject *attributes;               /* a dict: those that all runs under this configuration share */
    PyObject *config;
    Py_ssize_t buffer_size, buffer_bytes;
} runs;
static PyObject *no_arguments, *str_name, *str_started, *str_buffer, *str_events, *str_writing, *str_config, *str_context,
    *str_failed, *str_is_slow, *str_is_over;

/* Set an attribute to a value that was just made; takes the reference, which may be NULL. */
static int set_new(PyObject *run, PyObject *name, PyObject *value)
{
    int did = value ? PyObject_SetAttr(run, name, value) : -1;
    Py_XDECREF(value);
    return did;
}

static PyObject *name_of_run(Step *step)
{
    int has_name = step->ended_run && step->ended_run != Py_None;  /* somebody has asked for its id */
    return has_name ? Py_NewRef(step->ended_run) : PyObject_CallNoArgs(runs.name_type);
}

static int set_ring(PyObject *run)
{
    PyObject *ring = new_ring(runs.buffer_size, runs.buffer_bytes);
    int did = ring && PyObject_SetAttr(run, str_buffer, ring) == 0 ? PyObject_SetAttr(run, str_open_buffer, ring) : -1;
    Py_XDECREF(ring);
    return did;
}

/* Attribute by attribute, as Python does it: a dictionary that is given to an object as a whole confuses 3.13.0. */
static int set_attributes(PyObject *run, Step *step)
{
    PyObject *shared = Py_NewRef(runs.attributes), *name, *value;  /* what the garbage collector runs may exchange them */
    int did = 0;
    for (Py_ssize_t at = 0; did == 0 && PyDict_Next(shared, &at, &name, &value);) did = PyObject_SetAttr(run, name, value);
    Py_DECREF(shared);
    return did < 0 || set_ring(run) < 0 || set_new(run, str_started, PyLong_FromLongLong(step->started)) < 0
        || set_new(run, str_name, name_of_run(step)) < 0 || set_new(run, str_events, PyDict_New()) < 0
        || set_new(run, str_writing, PyObject_CallNoArgs(runs.lock_type)) < 0 ? -1 : 0;
}

/* Return the run of an outermost call that runs, made now; NULL, without an exception, where Python has to make it. */
PyObject *open_own_run(Step *step)
{
    if (!runs.type || !step->owns_run || !step->is_listed || step->ended) return NULL;
    PyObject *run = PyBaseObject_Type.tp_new((PyTypeObject *)runs.type, no_arguments, NULL);
    if (run && set_attributes(run, step) < 0) Py_CLEAR(run);
    if (!run) { PyErr_Clear(); return NULL; }
    /* making it may run the garbage collector, and that anything: another thread may have been quicker */
    if (step->run && step->run != Py_None) Py_SETREF(run, Py_NewRef(step->run));
    else Py_XSETREF(step->run, Py_NewRef(run));
    return run;
}

/* Is an attribute of a run just this object? */
static int has(PyObject *run, PyObject *name, PyObject *expected)
{
    PyObject *found = PyObject_GetAttr(run, name);
    if (!found) PyErr_Clear();
    Py_XDECREF(found);
    return found == expected;
}

static int is_ordinary_run(PyObject *run)
{
    return runs.type && (PyObject *)Py_TYPE(run) == runs.type && has(run, str_config, runs.config)
        && has(run, str_failed, Py_False) && has(run, str_is_slow, Py_False) && has(run, str_is_over, Py_False);
}

/* Mark a run as over, and take it from its steps: they and it would keep each other alive. */
static int end_run(PyObject *run, PyObject *ring, Step *last)
{
    PyObject *name = PyObject_GetAttr(run, str_name), *context = name ? PyObject_GetAttr(run, str_context) : NULL;
    int did = context && PyObject_SetAttr(name, str_context, context) == 0 && ring_add(ring, last) == 0
        && PyObject_SetAttr(run, str_is_over, Py_True) == 0 && PyObject_SetAttr(run, str_open_buffer, Py_None) == 0;
    if (did) ring_leave_run(ring, name);
    else PyErr_Clear();
    Py_XDECREF(context);
    Py_XDECREF(name);
    return did;
}

/* End the run of an outermost call that has ended well; 0 where Python has to. Of mode `always`, it is kept among those
 * whose trace has no turn; `postponed` is NULL in others, where nothing is written. */
int close_own_run(Step *step, PyObject *postponed)
{
    PyObject *run = Py_NewRef(step->run);
    Py_XINCREF(postponed);  /* a step that is let go of may run code that opens the fast path for another recorder */
    int did = is_ordinary_run(run) && !(postponed && has_turn(postponed, step));
    PyObject *ring = did ? PyObject_GetAttr(run, str_buffer) : NULL;
    did = ring && Py_TYPE(ring) == RingType && end_run(run, ring, step);
    if (did && postponed) postpone(postponed, run);
    if (PyErr_Occurred()) PyErr_Clear();
    Py_XDECREF(ring);
    Py_XDECREF(postponed);
    Py_DECREF(run);
    return did;
}

static PyObject *use_runs(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *type, *name_type, *lock_type, *attributes;
    Py_ssize_t size, bytes;
    if (!PyArg_ParseTuple(args, "O!OOO!nn:use_runs", &PyType_Type, &type, &name_type, &lock_type, &PyDict_Type, &attributes,
                          &size, &bytes)) return NULL;
    PyObject *config = PyDict_GetItemWithError(attributes, str_config);
    if (!config) { PyErr_SetString(PyExc_ValueError, "the attributes of runs lack their configuration"); return NULL; }
    Py_XSETREF(runs.type, Py_NewRef(type));
    Py_XSETREF(runs.name_type, Py_NewRef(name_type));
    Py_XSETREF(runs.lock_type, Py_NewRef(lock_type));
    Py_XSETREF(runs.config, Py_NewRef(config));
    Py_XSETREF(runs.attributes, Py_NewRef(attributes));
    runs.buffer_size = size;
    runs.buffer_bytes = bytes;
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"use_runs", use_runs, METH_VARARGS,
     "use_runs(type, name_type, lock_type, attributes, buffer_size, buffer_bytes)\n--\n\nMake runs of these parts."},
    {NULL, NULL, 0, NULL},
};

int add_runs(PyObject *module)
{
    struct { PyObject **place; const char *text; } names[] = {
        {&str_name, "name"}, {&str_started, "started"}, {&str_buffer, "buffer"}, {&str_events, "_events"},
        {&str_writing, "_writing"}, {&str_config, "config"}, {&str_context, "context"}, {&str_failed, "failed"},
        {&str_is_slow, "is_slow"}, {&str_is_over, "is_over"},
    };
    for (size_t at = 0; at < sizeof(names) / sizeof(*names); at++)
        if (!(*names[at].place = PyUnicode_InternFromString(names[at].text))) return -1;
    return (no_arguments = PyTuple_New(0)) ? PyModule_AddFunctions(module, functions) : -1;
}
