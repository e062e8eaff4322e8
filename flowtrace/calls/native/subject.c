/* The subject: what calls are recorded as. A node's calls become steps, a flow's become runs; here both are a set of
 * Python functions, which flowtrace/calls/core.py describes. */
#include "native.h"

PyTypeObject *SubjectType;
PyObject *switch_list;

/* Classes whose objects are no receivers, as in `Unbound.double(3)`: no method of a program stands in them. */
static int is_value(PyTypeObject *type)
{
    return type == &PyLong_Type || type == &PyUnicode_Type || type == &PyDict_Type || type == &PyList_Type
        || type == &PyTuple_Type || type == &PyFloat_Type || type == &PyBool_Type || type == Py_TYPE(Py_None)
        || type == &PyBytes_Type || type == &PySet_Type || type == &PyFrozenSet_Type || type == &PyComplex_Type
        || type == &PyByteArray_Type;
}

static int leaves_out_first(Subject *subject, PyObject *const *args, Py_ssize_t count)
{
    return subject->takes_receiver && count > 0 && (subject->is_bound || !is_value(Py_TYPE(args[0])));
}

PyObject *as_tuple(PyObject *const *items, Py_ssize_t count)
{
    PyObject *tuple = PyTuple_New(count);
    for (Py_ssize_t at = 0; tuple && at < count; at++) PyTuple_SET_ITEM(tuple, at, Py_NewRef(items[at]));
    return tuple;
}

PyObject *as_dict(PyObject *const *values, PyObject *names)
{
    PyObject *dict = PyDict_New();
    for (Py_ssize_t at = 0; dict && names && at < PyTuple_GET_SIZE(names); at++)
        if (PyDict_SetItem(dict, PyTuple_GET_ITEM(names, at), values[at]) < 0) Py_CLEAR(dict);
    return dict;
}

/* Call a function of the subject that makes a step. */
static int made_step(PyObject *function, Subject *subject, PyObject *args, PyObject *kwargs, int bound, PyObject **step)
{
    PyObject *given[] = {(PyObject *)subject, args, kwargs, bound ? Py_True : Py_False};
    *step = NULL;
    if (!function) return 0;
    Py_INCREF(function);
    PyObject *made = call_unseen(function, given, 4);
    Py_DECREF(function);
    if (!made) return host_raised() ? -1 : 0;
    if (made == Py_None) { Py_DECREF(made); return 0; }
    if (PyExceptionInstance_Check(made)) { raise_again(made); return -1; }
    *step = made;
    return 1;
}

static int packed_step(PyObject *function, Subject *subject, PyObject *const *args, Py_ssize_t count, PyObject *names,
                       PyObject **step)
{
    int leaves_out = leaves_out_first(subject, args, count), did = 0;
    PyObject *positional = as_tuple(args + leaves_out, count - leaves_out);
    PyObject *named = positional ? as_dict(args + count, names) : NULL;
    *step = NULL;
    if (named) did = made_step(function, subject, positional, named, leaves_out, step);
    else PyErr_Clear();  /* no memory for it: the call goes on without a step */
    Py_XDECREF(positional);
    Py_XDECREF(named);
    return did;
}

int subject_begin(Subject *subject, PyObject *const *args, Py_ssize_t count, PyObject *names, PyObject **step)
{
    if (is_asked_about_us()) return 0;
    if (!takes_fast_path(subject)) return packed_step(subject->begin, subject, args, count, names, step);
    int leaves_out = leaves_out_first(subject, args, count);
    return fast_begin(subject, args + leaves_out, count - leaves_out, names, leaves_out, step);
}

int subject_prepare(Subject *subject, PyObject *const *args, Py_ssize_t count, PyObject *names, PyObject **step)
{
    if (is_asked_about_us()) return 0;
    if (!takes_fast_path(subject)) return packed_step(subject->prepare, subject, args, count, names, step);
    int leaves_out = leaves_out_first(subject, args, count);
    return fast_prepare(subject, args + leaves_out, count - leaves_out, names, leaves_out, step);
}

/* The same for wrapt, which has told the receiver and the arguments apart. */
int subject_begin_packed(Subject *subject, int starts, PyObject *instance, PyObject *args, PyObject *kwargs, PyObject **step)
{
    PyObject *function = starts ? subject->begin : subject->prepare;
    Py_ssize_t count = PyTuple_GET_SIZE(args);
    if (is_asked_about_us()) return 0;
    if (instance != Py_None || !leaves_out_first(subject, &PyTuple_GET_ITEM(args, 0), count))
        return made_step(function, subject, args, kwargs, instance != Py_None, step);
    PyObject *others = PyTuple_GetSlice(args, 1, count);
    *step = NULL;
    if (!others) { PyErr_Clear(); return 0; }
    int did = made_step(function, subject, others, kwargs, 1, step);
    Py_DECREF(others);
    return did;
}

/* --- the type: Python derives its class Subject from it ---------------------------------------------------------- */

#define FUNCTIONS(DO) DO(begin) DO(prepare) DO(start) DO(suspend) DO(resume) DO(emit) DO(end) DO(end_stream) DO(fail) DO(target)
#define WATCHED(DO) DO(function) DO(code) DO(defaults) DO(keyword_defaults)

static int subject_traverse(Subject *subject, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(subject));
#define VISIT(name) Py_VISIT(subject->name);
    FUNCTIONS(VISIT)
    WATCHED(VISIT)
    VISIT(open_names)
    return 0;
}

static int subject_clear(Subject *subject)
{
#define CLEAR(name) Py_CLEAR(subject->name);
    FUNCTIONS(CLEAR)
    WATCHED(CLEAR)
    CLEAR(open_names)
    return 0;
}

static void subject_dealloc(Subject *subject)
{
    PyTypeObject *type = Py_TYPE(subject);
    PyObject_GC_UnTrack(subject);
    subject_clear(subject);
    type->tp_free(subject);
    Py_DECREF(type);
}

/* Note what a function has now, so that a change of it is seen; of another callable nothing is noted. Other code may have
 * other parameters, which may be secret. */
static PyObject *subject_watch(PyObject *self, PyObject *function)
{
    Subject *subject = (Subject *)self;
    PyFunctionObject *f = PyFunction_Check(function) ? (PyFunctionObject *)function : NULL;
    subject->asked = 0;
    Py_XSETREF(subject->function, Py_XNewRef((PyObject *)f));
    Py_XSETREF(subject->code, f ? Py_NewRef(f->func_code) : NULL);
    Py_XSETREF(subject->defaults, f ? Py_XNewRef(f->func_defaults) : NULL);
    Py_XSETREF(subject->keyword_defaults, f ? Py_XNewRef(f->func_kwdefaults) : NULL);
    Py_RETURN_NONE;
}

static PyMethodDef subject_methods[] = {{"watch", subject_watch, METH_O, NULL}, {NULL, NULL, 0, NULL}};
#define MEMBER(name) {#name, T_OBJECT_EX, offsetof(Subject, name), 0, NULL},
static PyMemberDef subject_members[] = {
    FUNCTIONS(MEMBER)
    {"takes_receiver", T_BOOL, offsetof(Subject, takes_receiver), 0, NULL},
    {"is_bound", T_BOOL, offsetof(Subject, is_bound), 0, NULL},
    {"is_simple", T_BOOL, offsetof(Subject, is_simple), 0, NULL},
    {"is_simple_unchecked", T_BOOL, offsetof(Subject, is_simple_unchecked), 0, NULL},
    {"has_live_defaults", T_BOOL, offsetof(Subject, has_live_defaults), 0, NULL},
    {"slow_after", T_LONGLONG, offsetof(Subject, slow_after), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};
static PyType_Slot subject_slots[] = {
    {Py_tp_dealloc, subject_dealloc}, {Py_tp_traverse, subject_traverse}, {Py_tp_clear, subject_clear},
    {Py_tp_members, subject_members}, {Py_tp_methods, subject_methods}, {Py_tp_new, PyType_GenericNew}, {0, NULL},
};
static PyType_Spec subject_spec = {
    "flowtrace.calls._native.SubjectBase", sizeof(Subject), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE, subject_slots,
};

int add_subject(PyObject *module)
{
    SubjectType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &subject_spec, NULL);
    return SubjectType ? PyModule_AddObjectRef(module, "SubjectBase", (PyObject *)SubjectType) : -1;
}
