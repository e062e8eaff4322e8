/* A traced function, and the callable that records for wrapt's wrappers.
 *
 * The type of a traced function is named `function`, has the special methods that functions have and no others, and takes
 * all other attributes, `__class__` among them, from the function. wrapt's proxies have the special methods of all types:
 * `isinstance(f, Sized)`, `len(f)` and `ExitStack.push(f)` see that. */
#include "native.h"

typedef struct {
    PyObject_HEAD
    vectorcallfunc call;
    PyObject *wrapped, *weakrefs;
    Subject *subject;
    char kind;
} Traced;

PyTypeObject *FunctionType_, *RecorderType;
PyObject *function_names;
static PyObject *reduce;  /* Python: how a traced function is pickled */

/* --- calls ------------------------------------------------------------------------------------------------------- */

/* End the step of a plain call. Takes the step and the result, returns what the caller gets. */
static PyObject *end_plain(Subject *subject, PyObject *step, PyObject *result)
{
    if (!result) step_fails(subject, step);
    else if (step_ends(subject, step, result) < 0) Py_CLEAR(result);
    Py_DECREF(step);
    Py_DECREF(subject);
    return result;
}

NOT_INLINE static PyObject *record_plain(Traced *f, PyObject *const *args, size_t flags, PyObject *names)
{
    PyObject *step;
    int did = subject_begin(f->subject, args, PyVectorcall_NARGS(flags), names, &step);
    if (did < 0) return NULL;
    if (!did) return call_through(f->wrapped, args, flags, names);
    Subject *subject = (Subject *)Py_NewRef((PyObject *)f->subject);  /* the call may drop its own function */
    return end_plain(subject, step, call_through(f->wrapped, args, flags, names));
}

/* Recording is a function of its own, so that a call while tracing is off saves no registers for it. */
static PyObject *call_plain(PyObject *self, PyObject *const *args, size_t flags, PyObject *names)
{
    Traced *f = (Traced *)self;
    if (no_stack_left()) return NULL;
    return is_on() ? record_plain(f, args, flags, names) : call_through(f->wrapped, args, flags, names);
}

/* Give a body for what a call gave. The call of such a function runs none of its code: only arguments may not fit. */
static PyObject *give_body(Subject *subject, PyObject *step, PyObject *inner, int kind)
{
    if (inner) return body_around(subject, step, inner, kind);
    PyObject *error = take_raised();
    int began = step_starts(subject, step);
    if (began == 0) {
        raise_again(error);
        step_fails(subject, step);
    } else Py_XDECREF(error);
    Py_DECREF(step);
    return NULL;
}

NOT_INLINE static PyObject *record_body(Traced *f, PyObject *const *args, size_t flags, PyObject *names)
{
    PyObject *step;
    int did = subject_prepare(f->subject, args, PyVectorcall_NARGS(flags), names, &step);
    if (did < 0) return NULL;
    if (!did) return call_through(f->wrapped, args, flags, names);
    return give_body(f->subject, step, call_through(f->wrapped, args, flags, names), f->kind);
}

static PyObject *call_for_body(PyObject *self, PyObject *const *args, size_t flags, PyObject *names)
{
    Traced *f = (Traced *)self;
    if (no_stack_left()) return NULL;
    return is_on() ? record_body(f, args, flags, names) : call_through(f->wrapped, args, flags, names);
}

/* What wrapt calls with (wrapped, instance, args, kwargs), for callables that bind in their own way. */
static PyObject *call_for_wrapt(PyObject *self, PyObject *const *args, size_t flags, PyObject *names)
{
    Traced *f = (Traced *)self;
    PyObject *step;
    if (PyVectorcall_NARGS(flags) != 4 || names) {
        PyErr_SetString(PyExc_TypeError, "a recorder takes wrapped, instance, args and kwargs, as wrapt gives them");
        return NULL;
    }
    PyObject *wrapped = args[0], *instance = args[1], *arguments = args[2], *named = args[3];
    if (no_stack_left()) return NULL;
    if (!is_on()) return PyObject_Call(wrapped, arguments, named);
    int did = subject_begin_packed(f->subject, f->kind == PLAIN, instance, arguments, named, &step);
    if (did < 0) return NULL;
    if (!did) return PyObject_Call(wrapped, arguments, named);
    if (f->kind != PLAIN) return give_body(f->subject, step, PyObject_Call(wrapped, arguments, named), f->kind);
    Subject *subject = (Subject *)Py_NewRef((PyObject *)f->subject);
    return end_plain(subject, step, PyObject_Call(wrapped, arguments, named));
}

/* --- life -------------------------------------------------------------------------------------------------------- */

static int traced_traverse(Traced *f, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(f));
    Py_VISIT(f->wrapped);
    Py_VISIT(f->subject);
    return 0;
}

static int traced_clear(Traced *f)
{
    Py_SETREF(f->wrapped, Py_NewRef(Py_None));  /* never NULL: it may still be called while it is taken apart */
    return 0;
}

static void traced_dealloc(Traced *f)
{
    PyTypeObject *type = Py_TYPE(f);
    PyObject_GC_UnTrack(f);
    if (f->weakrefs) PyObject_ClearWeakRefs((PyObject *)f);
    Py_CLEAR(f->subject);
    Py_CLEAR(f->wrapped);
    type->tp_free(f);
    Py_DECREF(type);
}

static Traced *traced_new(PyTypeObject *type, vectorcallfunc call, PyObject *wrapped, PyObject *subject, int kind)
{
    if (!PyObject_TypeCheck(subject, SubjectType) || kind < 0 || kind >= KINDS) {
        PyErr_SetString(PyExc_TypeError, "a Subject and a kind are expected");
        return NULL;
    }
    Traced *f = PyObject_GC_New(Traced, type);
    if (!f) return NULL;
    f->call = call;
    f->wrapped = Py_NewRef(wrapped);
    f->subject = (Subject *)Py_NewRef(subject);
    f->weakrefs = NULL;
    f->kind = (char)kind;
    PyObject_GC_Track(f);
    return f;
}

/* --- attributes -------------------------------------------------------------------------------------------------- */

/* Has the program set such an attribute of the function? Then that one is it: all of ours but `__class__` are methods, or
 * ask the function first. */
static int is_set(PyObject *function, PyObject *name)
{
    PyObject *names = PyFunction_Check(function) ? ((PyFunctionObject *)function)->func_dict : NULL;
    return names && PyDict_GET_SIZE(names) && PyDict_Contains(names, name) == 1 && PyUnicode_CompareWithASCIIString(name, "__class__");
}

static PyObject *traced_getattro(PyObject *self, PyObject *name)
{
    PyObject *wrapped = ((Traced *)self)->wrapped;
    int own = PySet_Contains(function_names, name);
    if (own < 0) return NULL;
    return own && !is_set(wrapped, name) ? PyObject_GenericGetAttr(self, name) : PyObject_GetAttr(wrapped, name);
}

static int traced_setattro(PyObject *self, PyObject *name, PyObject *value)
{
    return PyObject_SetAttr(((Traced *)self)->wrapped, name, value);
}

static PyObject *traced_get(PyObject *self, PyObject *instance, PyObject *Py_UNUSED(owner))
{
    return !instance || instance == Py_None ? Py_NewRef(self) : PyMethod_New(self, instance);
}

/* The class is the function's. Only cloudpickle, which asks whether it is to take the function apart, sees the real one:
 * then it comes to `reduce`, which sends the decorator along. */
static PyObject *traced_class(PyObject *self, void *Py_UNUSED(closure))
{
    PyFrameObject *frame = PyEval_GetFrame();
    PyCodeObject *code = frame ? PyFrame_GetCode(frame) : NULL;
    int is_asked = code && PyUnicode_CompareWithASCIIString(code->co_name, "reducer_override") == 0;
    Py_XDECREF(code);
    if (is_asked) {
        PyObject *names = PyFrame_GetGlobals(frame);
        PyObject *chooses = names ? PyMapping_GetItemString(names, "_should_pickle_by_reference") : NULL;
        is_asked = chooses != NULL;
        if (!chooses) PyErr_Clear();
        Py_XDECREF(chooses);
        Py_XDECREF(names);
    }
    return is_asked ? Py_NewRef((PyObject *)Py_TYPE(self)) : PyObject_GetAttrString(((Traced *)self)->wrapped, "__class__");
}

/* `type(f)(code, globals)` makes a function, which is not traced. */
static PyObject *plain_function(PyTypeObject *Py_UNUSED(type), PyObject *args, PyObject *kwargs)
{
    return PyObject_Call((PyObject *)&PyFunction_Type, args, kwargs);
}

static PyObject *traced_repr(PyObject *self) { return PyObject_Repr(((Traced *)self)->wrapped); }

static PyObject *traced_reduce(PyObject *self, PyObject *Py_UNUSED(ignored)) { return PyObject_CallOneArg(reduce, self); }

/* For copy.copy, which asks the type: a function is its own copy. */
static PyObject *traced_copy(PyObject *self, PyObject *Py_UNUSED(ignored)) { return Py_NewRef(self); }

/* A class gives its functions their names when it is made. Learn that this is a method; and do what the interpreter does
 * to a plain function of these names, which it knows by its exact type. */
static PyObject *traced_set_name(PyObject *self, PyObject *args)
{
    PyObject *owner, *name;
    if (!PyArg_ParseTuple(args, "OU:__set_name__", &owner, &name)) return NULL;
    Traced *f = (Traced *)self;
    PyTypeObject *kind = NULL;
    if (PyUnicode_CompareWithASCIIString(name, "__new__") == 0) kind = &PyStaticMethod_Type;
    else if (PyUnicode_CompareWithASCIIString(name, "__init_subclass__") == 0
             || PyUnicode_CompareWithASCIIString(name, "__class_getitem__") == 0) kind = &PyClassMethod_Type;
    PyObject *own = PyObject_GetAttr(f->wrapped, str_qualname), *outer = NULL;
    if (own && PyUnicode_Check(own) && PyType_Check(owner) && (outer = PyObject_GetAttr(owner, str_qualname)) && PyUnicode_Check(outer)) {
        /* its own method: `Outer.method` in `Outer`, and no function of somewhere else that stands in the class, too */
        Py_ssize_t length = PyUnicode_GET_LENGTH(outer), dot = PyUnicode_FindChar(own, '.', 0, PyUnicode_GET_LENGTH(own), -1);
        if (dot == length && PyUnicode_Tailmatch(own, outer, 0, length, -1) == 1) f->subject->takes_receiver = 1;
    }
    PyErr_Clear();
    Py_XDECREF(own);
    Py_XDECREF(outer);
    if (!kind) Py_RETURN_NONE;
    PyObject *made = PyObject_CallOneArg((PyObject *)kind, self);
    /* as the interpreter does it before the class is made: a metaclass sees nothing set */
    if (!made || PyType_Type.tp_setattro(owner, name, made) < 0) { Py_XDECREF(made); return NULL; }
    Py_DECREF(made);
    Py_RETURN_NONE;
}

/* For who asks the type, or `object.__getattribute__`, as pydoc does for the documentation. */
static PyObject *traced_attribute(PyObject *self, void *name) { return PyObject_GetAttrString(((Traced *)self)->wrapped, name); }

static int set_attribute(PyObject *self, PyObject *value, void *name)
{
    return PyObject_SetAttrString(((Traced *)self)->wrapped, name, value);
}

/* `functools.wraps` sets it, and a cache leads to the function under it: it is the function's own where that has one. */
static PyObject *traced_wrapped(PyObject *self, void *Py_UNUSED(closure))
{
    PyObject *target = Py_NewRef(((Traced *)self)->wrapped), *found = PyObject_GetAttr(target, str_wrapped);
    if (found || !PyErr_ExceptionMatches(PyExc_AttributeError)) Py_DECREF(target);
    else {
        PyErr_Clear();
        found = target;
    }
    return found;
}

/* What is called: for our own use, by the type alone. A replay puts something else there for a while. */
static PyObject *traced_get_target(PyObject *self, void *Py_UNUSED(closure)) { return Py_NewRef(((Traced *)self)->wrapped); }

static int traced_set_target(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    if (!value) { PyErr_SetString(PyExc_AttributeError, "what is called can't be deleted"); return -1; }
    Py_SETREF(((Traced *)self)->wrapped, Py_NewRef(value));
    return 0;
}

/* A cache has one, which would give the cache without us. */
static PyMethodDef own_copy = {"__deepcopy__", traced_copy, METH_O, NULL};
static PyObject *traced_deepcopy(PyObject *self, void *Py_UNUSED(closure))
{
    PyObject *found = PyObject_GetAttrString(((Traced *)self)->wrapped, own_copy.ml_name);
    if (!found) return NULL;
    Py_DECREF(found);
    return PyCFunction_New(&own_copy, self);
}

#define SHOWN(name) {name, traced_attribute, set_attribute, NULL, name}
static PyGetSetDef traced_getset[] = {
    {"__class__", traced_class, NULL, NULL, NULL},
    SHOWN("__doc__"), SHOWN("__name__"), SHOWN("__qualname__"), SHOWN("__code__"), SHOWN("__defaults__"), SHOWN("__kwdefaults__"),
    SHOWN("__closure__"), SHOWN("__globals__"), SHOWN("__builtins__"), SHOWN("__dict__"),
    {"__wrapped__", traced_wrapped, NULL, NULL, NULL},
    {"__deepcopy__", traced_deepcopy, NULL, NULL, NULL},
    {"_self_target", traced_get_target, traced_set_target, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyMethodDef traced_methods[] = {
    {"__reduce__", traced_reduce, METH_NOARGS, NULL},
    {"__reduce_ex__", traced_reduce, METH_O, NULL},
    {"__copy__", traced_copy, METH_NOARGS, NULL},
    {"__set_name__", traced_set_name, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static PyMemberDef traced_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Traced, call), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Traced, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};
static PyType_Slot function_slots[] = {
    {Py_tp_dealloc, traced_dealloc}, {Py_tp_traverse, traced_traverse}, {Py_tp_clear, traced_clear},
    {Py_tp_call, PyVectorcall_Call}, {Py_tp_getattro, traced_getattro}, {Py_tp_setattro, traced_setattro},
    {Py_tp_descr_get, traced_get}, {Py_tp_repr, traced_repr}, {Py_tp_getset, traced_getset}, {Py_tp_new, plain_function},
    {Py_tp_methods, traced_methods}, {Py_tp_members, traced_members}, {0, NULL},
};
#define CALLABLE_FLAGS (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL)
static PyType_Spec function_spec = {
    "builtins.function", sizeof(Traced), 0, CALLABLE_FLAGS | Py_TPFLAGS_METHOD_DESCRIPTOR, function_slots,
};
static PyMemberDef recorder_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Traced, call), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};
static PyType_Slot recorder_slots[] = {
    {Py_tp_dealloc, traced_dealloc}, {Py_tp_traverse, traced_traverse}, {Py_tp_call, PyVectorcall_Call},
    {Py_tp_members, recorder_members}, {0, NULL},
};
static PyType_Spec recorder_spec = {
    "flowtrace.calls._native.Recorder", sizeof(Traced), 0, CALLABLE_FLAGS | Py_TPFLAGS_DISALLOW_INSTANTIATION, recorder_slots,
};

/* --- what the module offers -------------------------------------------------------------------------------------- */

static PyObject *traced_function(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *wrapped, *subject;
    int kind;
    if (!PyArg_ParseTuple(args, "OOi:traced_function", &wrapped, &subject, &kind)) return NULL;
    return (PyObject *)traced_new(FunctionType_, kind == PLAIN ? call_plain : call_for_body, wrapped, subject, kind);
}

static PyObject *recorder(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *subject;
    int kind;
    if (!PyArg_ParseTuple(args, "Oi:recorder", &subject, &kind)) return NULL;
    return (PyObject *)traced_new(RecorderType, call_for_wrapt, Py_None, subject, kind);
}

static PyObject *subject_of(PyObject *Py_UNUSED(module), PyObject *value)
{
    if (Py_TYPE(value) != FunctionType_ || !((Traced *)value)->subject) Py_RETURN_NONE;
    return Py_NewRef((PyObject *)((Traced *)value)->subject);
}

static PyObject *connect(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *switched, *names, *others, *reducer;
    if (!PyArg_ParseTuple(args, "O!OOO:connect", &PyList_Type, &switched, &names, &others, &reducer)) return NULL;
    Py_XSETREF(switch_list, Py_NewRef(switched));
    Py_XSETREF(function_names, Py_NewRef(names));
    Py_XSETREF(body_names, Py_NewRef(others));
    Py_XSETREF(reduce, Py_NewRef(reducer));
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"traced_function", traced_function, METH_VARARGS,
     "traced_function(function, subject, kind)\n--\n\nReturn what stands for a function whose calls are recorded."},
    {"recorder", recorder, METH_VARARGS, "recorder(subject, kind)\n--\n\nReturn the wrapper that wrapt is to call."},
    {"subject_of", subject_of, METH_O, "subject_of(value)\n--\n\nReturn the subject of a traced function, None for any other value."},
    {"connect", connect, METH_VARARGS,
     "connect(switch, function_names, body_names, reduce)\n--\n\nGive the core what it needs of its Python half."},
    {NULL, NULL, 0, NULL},
};

int add_functions(PyObject *module)
{
    FunctionType_ = make_type(module, &function_spec);
    RecorderType = FunctionType_ ? (PyTypeObject *)PyType_FromModuleAndSpec(module, &recorder_spec, NULL) : NULL;
    if (!RecorderType || PyModule_AddFunctions(module, functions) < 0) return -1;
    return PyModule_AddObjectRef(module, "function", (PyObject *)FunctionType_);
}
