/* Steps: one call each, the one that runs here, and all that run at this moment in the process. */
#include "native.h"
#include <string.h>
#include <time.h>

PyTypeObject *StepType;                 /* Python's class, derived from StepBase */
PyObject *current;                      /* the ContextVar of the step or flow that runs here */
PyTypeObject *StepBaseType;
static Step in_flight = {.before = &in_flight, .after = &in_flight};  /* the head of a ring list, in the order of starts */
static PyObject *clock_now, *numbers;
static PyTypeObject *CounterType;
static int clock_is_ours;               /* clock_now reads the same clock as `now` below */

/* --- time and numbers --------------------------------------------------------------------------------------------- */

#if defined(__linux__)
static int64_t monotonic(void)  /* what time.perf_counter_ns reads */
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}
#define HAS_MONOTONIC 1
#else
static int64_t monotonic(void) { return 0; }
#define HAS_MONOTONIC 0
#endif

/* Take what Python answered; None means that it has handled a fault of ours, and then no exception is raised. */
static int take_number(PyObject *value, int64_t *number)
{
    if (!value) return -1;
    if (value == Py_None) { Py_DECREF(value); return -1; }
    *number = PyLong_AsLongLong(value);
    Py_DECREF(value);
    return *number == -1 && PyErr_Occurred() ? -1 : 0;
}

/* Counts steps. What `itertools.count` does, without an object for each number. */
typedef struct {
    PyObject_HEAD
    int64_t next;
} Counter;

static PyObject *counter_next(Counter *counter) { return PyLong_FromLongLong(counter->next++); }

static PyObject *counter_repr(Counter *counter) { return PyUnicode_FromFormat("count(%lld)", (long long)counter->next); }

static PyObject *counter_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"start", NULL};
    long long start;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "L:Counter", names, &start)) return NULL;
    Counter *counter = (Counter *)type->tp_alloc(type, 0);
    if (counter) counter->next = start;
    return (PyObject *)counter;
}

static void counter_dealloc(PyObject *counter)
{
    PyTypeObject *type = Py_TYPE(counter);
    type->tp_free(counter);
    Py_DECREF(type);
}

static int next_number(int64_t *number)
{
    if (Py_TYPE(numbers) != CounterType) return take_number(PyIter_Next(numbers), number);
    *number = ((Counter *)numbers)->next++;
    return 0;
}

int read_own_clock(int64_t *time)
{
    if (clock_is_ours) *time = monotonic();
    return clock_is_ours ? 0 : -1;
}

int read_clock(int64_t *time)
{
    if (read_own_clock(time) == 0) return 0;
    return take_number(call_unseen(clock_now, NULL, 0), time);
}

static PyObject *use_clock(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *now, *counter, *standard;
    if (!PyArg_ParseTuple(args, "OOO:use_clock", &now, &counter, &standard)) return NULL;
    Py_XSETREF(clock_now, Py_NewRef(now));
    Py_XSETREF(numbers, Py_NewRef(counter));
    clock_is_ours = HAS_MONOTONIC && now == standard;
    Py_RETURN_NONE;
}

/* --- the steps in flight ------------------------------------------------------------------------------------------ */

static void list_step(Step *step)
{
    if (step->is_listed) return;
    step->after = &in_flight;
    step->before = in_flight.before;
    in_flight.before->after = step;
    in_flight.before = step;
    step->is_listed = 1;
}

static void unlist_step(Step *step)
{
    if (!step->is_listed) return;
    step->before->after = step->after;
    step->after->before = step->before;
    step->is_listed = 0;
}

static PyObject *listed_steps(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    PyObject *list = PyList_New(0);
    for (Step *step = in_flight.after; list && step != &in_flight; step = step->after)
        if (PyList_Append(list, (PyObject *)step) < 0) Py_CLEAR(list);
    return list;
}

static PyObject *unlist_all(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    while (in_flight.after != &in_flight) unlist_step(in_flight.after);
    Py_RETURN_NONE;
}

/* --- current ------------------------------------------------------------------------------------------------------ */

static void make_current(PyObject *step)
{
    PyObject *token = PyContextVar_Set(current, step ? step : Py_None);
    if (!token) PyErr_Clear();
    Py_XDECREF(token);
}

/* What is current becomes the parent: a step of the same run, or a flow. */
static int join(Step *step, PyObject *parent)
{
    PyObject *run = NULL;
    if (Py_TYPE(parent) == StepType || PyObject_TypeCheck(parent, StepBaseType)) {
        step->parent = ((Step *)parent)->number;
        run = Py_XNewRef(((Step *)parent)->run);
    } else if (!(run = PyObject_GetAttr(parent, str_run))) return -1;
    if ((!run || run == Py_None) && Py_TYPE(parent) == StepType) Py_XSETREF(run, open_own_run((Step *)parent));
    if (!run || run == Py_None) Py_XSETREF(run, call_unseen(callouts.open_run, &parent, 1));
    if (!run || run == Py_None) { Py_XDECREF(run); return -1; }
    Py_XSETREF(step->run, run);
    Py_XSETREF(step->previous, Py_NewRef(parent));
    return 0;
}

/* The number of this thread, which Python gives once for each: the system gives identifiers to later threads again. */
static int number_thread(Step *step)
{
    static THREAD_LOCAL unsigned long number;
    PyObject *given = number ? NULL : call_unseen(callouts.thread_number, NULL, 0);
    if (given && PyLong_Check(given)) number = PyLong_AsUnsignedLong(given);
    Py_XDECREF(given);
    step->thread = number;
    return failed_for_host();
}

/* Make a step current, as the child of the one that was. Between that and the call of the host's function no code of
 * Python runs, so that no signal handler does: a step is current exactly while its call runs. */
int start_step(Step *step)
{
    PyObject *parent = NULL;
    int did = -1;
    if (PyContextVar_Get(current, NULL, &parent) < 0) return -1;
    step->owns_run = !parent || parent == Py_None;
    if ((!step->owns_run && join(step, parent) < 0) || next_number(&step->number) < 0) goto done;
    if (number_thread(step) < 0) goto done;
    list_step(step);
    if (box_is_open() && box_starts(step) < 0) goto done;
    if (!step->started && read_clock(&step->started) < 0) goto done;
    did = enter(step, parent);
done:
    if (did < 0) {
        unlist_step(step);
        box_erases(step);
    }
    Py_XDECREF(parent);
    return did;
}

/* Make what was current before current again. The token is of no use where the step was started or resumed in another
 * context. */
static void give_way(Step *step)
{
    if (leave_again(step)) { Py_CLEAR(step->token); return; }
    if (!step->token || PyContextVar_Reset(current, step->token) < 0) {
        PyErr_Clear();
        make_current(step->previous);
    }
    Py_CLEAR(step->token);
}

/* Restore the previous step, and stop the clock. */
int leave_step(Step *step)
{
    give_way(step);
    leave_pair(step);
    Py_CLEAR(step->previous);
    unlist_step(step);
    if (read_clock(&step->ended) == 0) return 0;
    step->ended = step->started;
    return failed_for_host();
}

void suspend_step(Step *step) { give_way(step); }

int resume_step(Step *step)
{
    PyObject *here = NULL;
    if (enter_again(step)) return 0;
    if (PyContextVar_Get(current, NULL, &here) < 0) return -1;
    Py_XSETREF(step->previous, here);
    if (enter(step, here) < 0) PyErr_Clear();
    return 0;
}

/* --- the type ----------------------------------------------------------------------------------------------------- */

#define MEMBERS(DO) DO(node) DO(run) DO(ended_run) DO(previous) DO(token) DO(stream) DO(slot) DO(rest)
#define OBJECTS(DO) MEMBERS(DO) DO(input) DO(output) DO(outside) DO(inside)

static Spare spare_steps;

Step *new_step(void)
{
    Step *step = (Step *)take_spare(&spare_steps, StepType);
    if (!step) return NULL;
    memset(&step->node, 0, sizeof(Step) - offsetof(Step, node));
    PyObject_GC_Track(step);
    return step;
}

static PyObject *step_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs)) { return type->tp_alloc(type, 0); }

static int step_traverse(Step *step, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(step));
#define VISIT(name) Py_VISIT(step->name);
    OBJECTS(VISIT)
    return 0;
}

static int step_clear(Step *step)
{
#define CLEAR(name) Py_CLEAR(step->name);
    OBJECTS(CLEAR)
    return 0;
}

static void free_step(Step *step)
{
    PyTypeObject *type = Py_TYPE(step);
    unlist_step(step);
    if (step->weakrefs) PyObject_ClearWeakRefs((PyObject *)step);
    step_clear(step);
    let_go(&step->arguments);
    let_go(&step->result);
    put_spare(&spare_steps, step, type, StepType);
}

static void step_dealloc(Step *step)
{
    PyObject_GC_UnTrack(step);
    if (!step->previous) { free_step(step); return; }
    Py_TRASHCAN_BEGIN(step, step_dealloc)  /* its parent may go with it, and that one's, and so on */
    free_step(step);
    Py_TRASHCAN_END
}

/* Python's class derives from the base, and adds nothing: its objects need not go by way of Python's own dealloc. */
void use_step_type(PyTypeObject *type)
{
    Py_XSETREF(StepType, (PyTypeObject *)Py_NewRef((PyObject *)type));
    if (type->tp_base == StepBaseType && type->tp_basicsize == sizeof(Step) && !type->tp_finalize && !type->tp_del)
        type->tp_dealloc = (destructor)step_dealloc;
}

static PyObject *values_or(const Kept *kept, PyObject *other)
{
    if (!kept) return Py_NewRef(other ? other : Py_None);
    PyObject *values = values_of(kept);
    if (values) Py_SETREF(values, PyList_AsTuple(values));
    return values;
}

static int set_value(Kept **kept, PyObject **place, PyObject *value)
{
    let_go(kept);
    Py_XINCREF(value);
    Py_XSETREF(*place, value);
    return 0;
}

static PyObject *step_input(PyObject *self, void *Py_UNUSED(closure)) { return values_or(((Step *)self)->arguments, ((Step *)self)->input); }
static PyObject *step_output(PyObject *self, void *Py_UNUSED(closure)) { return values_or(((Step *)self)->result, ((Step *)self)->output); }
static int step_set_input(PyObject *self, PyObject *value, void *Py_UNUSED(closure)) { return set_value(&((Step *)self)->arguments, &((Step *)self)->input, value); }
static int step_set_output(PyObject *self, PyObject *value, void *Py_UNUSED(closure)) { return set_value(&((Step *)self)->result, &((Step *)self)->output, value); }

static PyGetSetDef step_getset[] = {
    {"input", step_input, step_set_input, NULL, NULL},
    {"output", step_output, step_set_output, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
#define MEMBER(name) {#name, T_OBJECT, offsetof(Step, name), 0, NULL},
static PyMemberDef step_members[] = {
    MEMBERS(MEMBER)
    {"number", T_LONGLONG, offsetof(Step, number), 0, NULL},
    {"parent", T_LONGLONG, offsetof(Step, parent), 0, NULL},
    {"started", T_LONGLONG, offsetof(Step, started), 0, NULL},
    {"ended", T_LONGLONG, offsetof(Step, ended), 0, NULL},
    {"held", T_PYSSIZET, offsetof(Step, held), 0, NULL},
    {"thread", T_ULONG, offsetof(Step, thread), 0, NULL},
    {"bound", T_BOOL, offsetof(Step, bound), 0, NULL},
    {"owns_run", T_BOOL, offsetof(Step, owns_run), 0, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Step, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};
static PyType_Slot step_slots[] = {
    {Py_tp_new, step_new}, {Py_tp_dealloc, step_dealloc}, {Py_tp_traverse, step_traverse}, {Py_tp_clear, step_clear},
    {Py_tp_members, step_members}, {Py_tp_getset, step_getset}, {0, NULL},
};
static PyType_Spec step_spec = {
    "flowtrace.calls._native.StepBase", sizeof(Step), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE, step_slots,
};
static PyType_Slot counter_slots[] = {
    {Py_tp_new, counter_new}, {Py_tp_dealloc, counter_dealloc}, {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, counter_next}, {Py_tp_repr, counter_repr}, {0, NULL},
};
static PyType_Spec counter_spec = {"flowtrace.calls._native.Counter", sizeof(Counter), 0, Py_TPFLAGS_DEFAULT, counter_slots};
static PyMethodDef functions[] = {
    {"use_clock", use_clock, METH_VARARGS, "use_clock(now, numbers, standard)\n--\n\nTake time and numbers from here."},
    {"listed_steps", listed_steps, METH_NOARGS, "listed_steps()\n--\n\nReturn the steps in flight, in the order of their starts."},
    {"unlist_all", unlist_all, METH_NOARGS, "unlist_all()\n--\n\nForget all steps in flight."},
    {NULL, NULL, 0, NULL},
};

int add_steps(PyObject *module)
{
    StepBaseType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &step_spec, NULL);
    CounterType = StepBaseType ? (PyTypeObject *)PyType_FromModuleAndSpec(module, &counter_spec, NULL) : NULL;
    if (!CounterType || PyModule_AddFunctions(module, functions) < 0) return -1;
    if (PyModule_AddObjectRef(module, "Counter", (PyObject *)CounterType) < 0) return -1;
    return PyModule_AddObjectRef(module, "StepBase", (PyObject *)StepBaseType);
}
