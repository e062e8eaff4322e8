/* The context of a thread, exchanged as a whole.
 *
 * To set a context variable makes a new mapping of all variables to their values, which like the one before it never
 * changes, and a token: three allocations, and as many to take it back. But one mapping with one step set in it gives the
 * same mapping each time. So a step keeps the pair, and where just that mapping is in force again, as for each item of a
 * generator that a loop consumes, the other takes its place. Whatever the body did to its own variables makes a third
 * mapping: then the variable is set as everywhere, and so it is where another context is in force.
 *
 * A pair keeps the values of the program's own variables alive. It is made only where no program could notice that.
 *
 * Contexts and variables are laid out alike in CPython 3.11 to 3.15. That is tried out once; where it is not so, each
 * variable is set as everywhere. */
#include "native.h"
#include <string.h>

typedef struct {
    PyObject_HEAD
    PyObject *before, *mapping, *weakrefs;
    int is_entered;
} Context;

/* What a thread has read last of a variable is kept in it, and is right in one version of the thread's context. */
typedef struct {
    PyObject_HEAD
    PyObject *name, *standard, *seen;
    uint64_t thread, version;
    Py_hash_t hash;
} Variable;

static int is_known;                    /* the layouts are these */
static PyObject *harmless;              /* a weak reference to the last mapping that every step may keep */

/* --- exchanging --------------------------------------------------------------------------------------------------- */

static Context *context_of(PyThreadState *thread) { return is_known ? (Context *)thread->context : NULL; }

static void exchange(PyThreadState *thread, PyObject *variable, PyObject *mapping, PyObject *value)
{
    Context *context = (Context *)thread->context;
    Variable *changed = (Variable *)variable;
    changed->seen = value;              /* borrowed, as CPython does: the mapping holds it */
    changed->thread = thread->id;
    changed->version = thread->context_ver;
    Py_SETREF(context->mapping, Py_NewRef(mapping));  /* frees nothing: the pair holds the other one */
}

/* Set a variable, and nothing else: up to 3.11 the garbage collector, and with it any code, runs within allocations. */
static PyObject *set_alone(PyObject *variable, PyObject *value)
{
#if PY_VERSION_HEX < 0x030C0000
    int collects = PyGC_Disable();
    PyObject *token = PyContextVar_Set(variable, value);
    if (collects) PyGC_Enable();
    return token;
#else
    return PyContextVar_Set(variable, value);
#endif
}

/* --- which mappings may be kept ----------------------------------------------------------------------------------- */

/* Can no program tell that this lives longer? Nobody is told of its end, nor of that of anything in it. */
static int is_unnoticed(PyObject *value)
{
    PyTypeObject *type = Py_TYPE(value);
    return value == Py_None || type == &PyUnicode_Type || type == &PyLong_Type || type == &PyBool_Type || type == &PyFloat_Type
        || type == &PyBytes_Type || type == &PyBaseObject_Type
        || (strcmp(type->tp_name, "decimal.Context") == 0 && !type->tp_weaklistoffset && !type->tp_finalize && !type->tp_del);
}

/* Is nothing in a context but a step or flow of ours, and what nobody can tell lives longer? */
static int look_through(PyObject *context)
{
    enum { MOST = 8 };
    if (PyObject_Size(context) > MOST) return 0;
    PyObject *names = PyObject_GetIter(context), *name;
    int did = names != NULL;
    while (did && (name = PyIter_Next(names))) {
        PyObject *value = name == current ? NULL : PyObject_GetItem(context, name);
        did = name == current || (value && is_unnoticed(value));
        Py_XDECREF(value);
        Py_DECREF(name);
    }
    Py_XDECREF(names);
    if (!PyErr_Occurred()) return did;
    PyErr_Clear();
    return 0;
}

static int is_harmless(PyObject *mapping)
{
#if PY_VERSION_HEX >= 0x030D0000
    PyObject *found = NULL;
    if (harmless && PyWeakref_GetRef(harmless, &found) < 0) PyErr_Clear();
    Py_XDECREF(found);
    return found == mapping;
#else
    return harmless && PyWeakref_GET_OBJECT(harmless) == mapping;
#endif
}

/* May the mapping that is in force be kept by a step? It may where the step around it keeps it. */
static int may_be_kept(Context *context, PyObject *around)
{
    enum { PAUSE = 64 };                /* steps for which the answer was no */
    static int pause;
    PyObject *mapping = context->mapping;
    if (around && Py_TYPE(around) == StepType && ((Step *)around)->inside == mapping) return 1;
    if (is_harmless(mapping)) return 1;
    if (pause > 0) { pause--; return 0; }
    Py_INCREF(mapping);
    PyObject *known = look_through((PyObject *)context) ? PyWeakref_NewRef(mapping, NULL) : NULL;
    if (known) Py_XSETREF(harmless, known);
    else { PyErr_Clear(); pause = PAUSE; }
    int is_same = known && context->mapping == mapping;  /* memory was allocated, and so anything may have run */
    Py_DECREF(mapping);
    return is_same;
}

/* --- steps -------------------------------------------------------------------------------------------------------- */

/* Make a step current whose pair has the mapping that is in force; 0 where it has not. */
int enter_again(Step *step)
{
    PyThreadState *thread = PyThreadState_Get();
    Context *context = context_of(thread);
    if (!context || !step->outside || context->mapping != step->outside) return 0;
    exchange(thread, current, step->inside, (PyObject *)step);
    return 1;
}

/* Make a step current after `around`, which is; -1 with an exception. */
int enter(Step *step, PyObject *around)
{
    PyObject *here = NULL;
    leave_pair(step);
    if (PyContextVar_Get(current, NULL, &here) < 0) return -1;
    Py_XDECREF(here);                   /* the mapping holds it, or the variable itself */
    Context *context = here == around ? context_of(PyThreadState_Get()) : NULL;
    PyObject *outside = context && may_be_kept(context, around) ? Py_NewRef(context->mapping) : NULL;
    Py_XSETREF(step->token, set_alone(current, (PyObject *)step));
    if (outside && step->token) {
        step->outside = Py_NewRef(outside);
        step->inside = Py_NewRef(context->mapping);
        step->around = around;
    }
    Py_XDECREF(outside);
    return step->token ? 0 : -1;
}

/* Make what was current before current again; 0 where the variable has to be set for that. */
int leave_again(Step *step)
{
    PyThreadState *thread = PyThreadState_Get();
    Context *context = context_of(thread);
    if (!context || !step->inside || context->mapping != step->inside) return 0;
    exchange(thread, current, step->outside, step->around);
    return 1;
}

void leave_pair(Step *step)
{
    Py_CLEAR(step->outside);
    Py_CLEAR(step->inside);
}

/* --- are contexts laid out like that? ------------------------------------------------------------------------------ */

static int has_value(PyObject *variable, PyObject *expected)
{
    PyObject *value = NULL;
    int did = PyContextVar_Get(variable, NULL, &value);
    Py_XDECREF(value);
    return did == 0 && value == expected;
}

/* Try it with a variable that has no value, in a context of its own that is in force. */
static int is_laid_out(PyThreadState *thread, Context *context, PyObject *variable)
{
    Variable *changed = (Variable *)variable;
    PyObject *outside = Py_XNewRef(context->mapping), *token = PyContextVar_Set(variable, Py_True);
    PyObject *inside = Py_XNewRef(context->mapping);
    int did = outside && inside && token && thread->context == (PyObject *)context && inside != outside
        && Py_TYPE(inside) == Py_TYPE(outside) && changed->seen == Py_True && changed->thread == thread->id
        && changed->version == thread->context_ver;
    if (did) {
        exchange(thread, variable, outside, NULL);
        did = has_value(variable, NULL);
        exchange(thread, variable, inside, NULL);
        did = did && has_value(variable, Py_True) && changed->seen == Py_True;
    }
    Py_XDECREF(token);
    Py_XDECREF(inside);
    Py_XDECREF(outside);
    return did;
}

void learn_contexts(void)
{
    PyObject *context = PyContext_New(), *variable = context ? PyContextVar_New("flowtrace_tried", NULL) : NULL;
    int is_tried = variable && Py_TYPE(context)->tp_basicsize == sizeof(Context)
        && Py_TYPE(variable)->tp_basicsize == sizeof(Variable) && PyContext_Enter(context) == 0;
    if (is_tried) {
        is_known = is_laid_out(PyThreadState_Get(), (Context *)context, variable);
        if (PyContext_Exit(context) < 0) is_known = 0;
    }
    if (PyErr_Occurred()) PyErr_Clear();
    Py_XDECREF(variable);
    Py_XDECREF(context);
}
