/* Bodies: the coroutine, generator or async generator that a traced call gives is an object of ours that presents the real
 * one. `__class__` and all attributes are the real one's (cr_frame, gi_yieldfrom, ag_running, __name__, ...), so that no
 * frame of ours shows, full depth is there, and tasks, debuggers and tracebacks see the user's code. What differs is
 * `type(body) is types.CoroutineType`, and nothing else that we know of.
 *
 * A step is current only while its own body runs. */
#include "body.h"

static PyTypeObject *body_types[KINDS];
static Spare spare_bodies[KINDS];
PyObject *body_names;

/* --- what its step sees ------------------------------------------------------------------------------------------ */

/* End a body that was refused, while the exception for that is raised. An async generator is left to the event loop if its
 * body has begun: what it awaits at its end can't be awaited here. */
static void refuse(Body *b)
{
    PyObject *error = take_raised(), *ignored = NULL;
    b->done = 1;
    if (b->kind != ASYNC_GENERATOR) ignored = PyObject_CallMethodNoArgs(b->inner, str_close);
    else if (!b->started) {
        PyObject *closing = PyObject_CallMethodNoArgs(b->inner, str_aclose);
        if (closing) (void)PyIter_Send(closing, Py_None, &ignored);
        Py_XDECREF(closing);
    }
    Py_XDECREF(ignored);
    if (PyErr_Occurred()) raise_in_program(b->inner);
    raise_again(error);
}

int body_resumes(Body *b)
{
    b->running = 1;
    if (b->done) return 0;
    int did = b->started ? step_resumes(b->subject, b->step) : step_starts(b->subject, b->step);
    if (did < 0) b->running = 0;
    if (did == REFUSED) refuse(b);
    b->started = 1;
    return did;
}

static int suspend(Body *b) { return b->done ? 0 : step_suspends(b->subject, b->step); }

/* A generator ended: with its return value; without one, it was closed. */
int body_ends_stream(Body *b, PyObject *returned)
{
    b->done = 1;
    return step_ends_stream(b->subject, b->step, returned);
}

/* Record how a body ended while an exception is raised, which stays raised. */
static void end_stream_raised(Body *b)
{
    PyObject *error = take_raised();
    if (body_ends_stream(b, NULL) == 0) { raise_again(error); return; }
    raise_newer(error);
}

/* Suspend while an exception is raised, which stays raised. */
static void suspend_raised(Body *b)
{
    PyObject *error = take_raised();
    if (suspend(b) == 0) raise_again(error);
    else raise_newer(error);
}

/* After an error: is the body over? It is not where it was asked for what can't be: to run while it runs, or to take a
 * value before it began. Its frame is gone when it is over. */
static int is_over(Body *b)
{
    if (b->kind == ASYNC_GENERATOR && PyErr_ExceptionMatches(PyExc_StopAsyncIteration)) return 1;  /* says so */
    static const char *const frames[KINDS] = {"", "cr_frame", "gi_frame", "ag_frame", "gi_frame"};
    PyObject *error = take_raised();
    PyObject *frame = PyObject_GetAttrString(b->inner, frames[(int)b->kind]);
    PyErr_Clear();
    raise_again(error);
    Py_XDECREF(frame);
    return frame == Py_None;
}

/* The body gave control away: with an item of its own, or with what is for the event loop. */
static PySendResult gave_control(Body *b, PyObject **result, int is_item, PySendResult did)
{
    int failed = is_item ? step_emits(b->subject, b->step, *result) : suspend(b);
    if (!failed) return did;
    Py_CLEAR(*result);
    if (failed == REFUSED) refuse(b);
    return PYGEN_ERROR;
}

/* Record what the body did: it gave control away, returned or raised. */
PySendResult body_ran(Body *b, PySendResult did, PyObject **result, int is_item)
{
    b->running = 0;
    if (b->done) return did;
    if (did == PYGEN_NEXT || (did == PYGEN_RETURN && b->kind == ASYNC_GENERATOR)) return gave_control(b, result, is_item, did);
    if (did == PYGEN_RETURN) {
        b->done = 1;
        int failed = b->kind == GENERATOR ? body_ends_stream(b, *result) : step_ends(b->subject, b->step, *result);
        if (!failed) return did;
        Py_CLEAR(*result);
        return PYGEN_ERROR;
    }
    if (!is_over(b)) suspend_raised(b);
    else if (b->kind == ASYNC_GENERATOR && PyErr_ExceptionMatches(PyExc_StopAsyncIteration)) {
        PyObject *error = take_raised();
        if (body_ends_stream(b, Py_None) == 0) raise_again(error);
        else Py_XDECREF(error);
    } else if (PyErr_ExceptionMatches(PyExc_GeneratorExit)) end_stream_raised(b);
    else {
        b->done = 1;
        step_fails(b->subject, b->step);
    }
    return PYGEN_ERROR;
}

/* --- coroutines and generators ----------------------------------------------------------------------------------- */

PySendResult body_am_send(PyObject *self, PyObject *value, PyObject **result)
{
    Body *b = (Body *)self;
    *result = NULL;
    if (b->running) return PyIter_Send(b->inner, value, result);  /* the real one says what is wrong */
    if (no_stack_left() || body_resumes(b) < 0) return PYGEN_ERROR;
    PySendResult did = send_through(b->inner, value, result);
    return body_ran(b, did, result, b->kind == GENERATOR && did == PYGEN_NEXT);
}

PyObject *as_method(PySendResult did, PyObject *result)
{
    if (did == PYGEN_RETURN) {
        raise_stop(result);
        Py_CLEAR(result);
    }
    return did == PYGEN_ERROR ? NULL : result;
}

static PyObject *body_send(PyObject *self, PyObject *value)
{
    PyObject *result;
    PySendResult did = body_am_send(self, value, &result);
    return as_method(did, result);
}

/* What has nothing more to give may say so without an exception, which would only carry None. */
static PyObject *body_next(PyObject *self)
{
    PyObject *result;
    PySendResult did = body_am_send(self, Py_None, &result);
    if (did != PYGEN_RETURN || result != Py_None) return as_method(did, result);
    Py_DECREF(result);
    return NULL;
}

/* Call a method of the real object, and say what came of it as `send` would. */
PySendResult throw_into(PyObject *target, PyObject *const *args, Py_ssize_t count, PyObject **result)
{
    PyObject *method = PyObject_GetAttr(target, str_throw);
    *result = method ? PyObject_Vectorcall(method, args, count, NULL) : NULL;
    Py_XDECREF(method);
    if (*result) return PYGEN_NEXT;
    return (*result = take_stop_value()) ? PYGEN_RETURN : PYGEN_ERROR;
}

PyObject *body_throw(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    Body *b = (Body *)self;
    PyObject *result = NULL;
    int reenters = b->running;
    if (!reenters && body_resumes(b) < 0) return NULL;
    PySendResult did = throw_into(b->inner, args, count, &result);
    if (!reenters) did = body_ran(b, did, &result, b->kind == GENERATOR && did == PYGEN_NEXT);
    return as_method(did, result);
}

PyObject *body_close(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    Body *b = (Body *)self;
    int suspended = b->started && !b->done && !b->running;
    if (suspended && body_resumes(b) < 0) return NULL;
    PyObject *result = PyObject_CallMethodNoArgs(b->inner, str_close);
    if (!suspended) {
        if (!b->running) b->done = 1;  /* it will never begin */
        return result;
    }
    b->running = 0;
    if (!result && !is_over(b)) suspend_raised(b);  /* it ignored GeneratorExit */
    else if (!result) { b->done = 1; step_fails(b->subject, b->step); }
    else if (body_ends_stream(b, NULL) < 0) Py_CLEAR(result);
    return result;
}

/* --- life -------------------------------------------------------------------------------------------------------- */

static int body_traverse(Body *b, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(b));
    Py_VISIT(b->subject);
    Py_VISIT(b->step);
    Py_VISIT(b->inner);
    return 0;
}

static int body_clear(Body *b)
{
    Py_CLEAR(b->inner);
    return 0;
}

/* Dropped before its end: what the real one's finalizer runs of the body (a `finally`) still belongs to the step. */
static void body_finalize(PyObject *self)
{
    Body *b = (Body *)self;
    if (!b->started || b->done || b->running || !b->inner) return;
    PyObject *error = take_raised();
    if (body_resumes(b) == 0) {
        if (Py_REFCNT(b->inner) == 1) Py_SETREF(b->inner, Py_NewRef(Py_None));
        if (body_ends_stream(b, NULL) < 0) raise_in_program(self);
    } else raise_in_program(self);
    b->running = 0;
    b->done = 1;
    raise_again(error);
}

static void free_body(Body *b)
{
    int kind = b->kind;
    if (b->weakrefs) PyObject_ClearWeakRefs((PyObject *)b);
    Py_CLEAR(b->inner);
    Py_CLEAR(b->step);
    Py_CLEAR(b->subject);
    put_spare(&spare_bodies[kind], b, Py_TYPE(b), body_types[kind]);
}

static void body_dealloc(Body *b)
{
    if (!b->done && PyObject_CallFinalizerFromDealloc((PyObject *)b) < 0) return;
    PyObject_GC_UnTrack(b);
    if (b->done) { free_body(b); return; }
    Py_TRASHCAN_BEGIN(b, body_dealloc)  /* one that is suspended may hold another one, and so on */
    free_body(b);
    Py_TRASHCAN_END
}

/* `types.coroutine` marks the code of a generator, and may do so after the decoration. */
static int kind_of_generator(PyObject *inner)
{
#if PY_VERSION_HEX >= 0x030C0000
    PyCodeObject *code = PyGen_GetCode((PyGenObject *)inner);
#else
    PyCodeObject *code = (PyCodeObject *)Py_NewRef((PyObject *)((PyGenObject *)inner)->gi_code);
#endif
    int kind = code->co_flags & CO_ITERABLE_COROUTINE ? ITERABLE_COROUTINE : GENERATOR;
    Py_DECREF(code);
    return kind;
}

/* Takes the references to the step and to the inner body. */
PyObject *body_around(Subject *subject, PyObject *step, PyObject *inner, int kind)
{
    int fits = kind == COROUTINE ? PyCoro_CheckExact(inner)
        : kind == ASYNC_GENERATOR ? PyAsyncGen_CheckExact(inner) : PyGen_CheckExact(inner);
    if (fits && kind == GENERATOR) kind = kind_of_generator(inner);
    Body *b = fits ? (Body *)take_spare(&spare_bodies[kind], body_types[kind]) : NULL;
    if (!b) {  /* another decorator is between us and the code, which was looked at; or the code was replaced since */
        PyErr_Clear();
        if (step_starts(subject, step) < 0 || step_ends(subject, step, inner) < 0) Py_CLEAR(inner);
        Py_DECREF(step);
        return inner;
    }
    b->subject = (Subject *)Py_NewRef((PyObject *)subject);
    b->step = step;
    b->inner = inner;
    b->weakrefs = NULL;
    b->kind = (char)kind;
    b->started = b->running = b->done = 0;
    PyObject_GC_Track(b);
    return (PyObject *)b;
}

/* --- attributes -------------------------------------------------------------------------------------------------- */

static PyObject *body_getattro(PyObject *self, PyObject *name)
{
    int own = PySet_Contains(body_names, name);
    if (own < 0) return NULL;
    return own ? PyObject_GenericGetAttr(self, name) : PyObject_GetAttr(((Body *)self)->inner, name);
}

static int body_setattro(PyObject *self, PyObject *name, PyObject *value) { return PyObject_SetAttr(((Body *)self)->inner, name, value); }

static PyObject *body_repr(PyObject *self)
{
    PyObject *name = PyObject_GetAttr(((Body *)self)->inner, str_qualname);
    if (!name) return NULL;
    PyObject *text = PyUnicode_FromFormat("<%s object %S at %p>", Py_TYPE(((Body *)self)->inner)->tp_name, name, self);
    Py_DECREF(name);
    return text;
}

/* --- types ------------------------------------------------------------------------------------------------------- */

#define BODY_SLOTS \
    {Py_tp_dealloc, body_dealloc}, {Py_tp_traverse, body_traverse}, {Py_tp_clear, body_clear}, \
    {Py_tp_finalize, body_finalize}, {Py_tp_getattro, body_getattro}, {Py_tp_setattro, body_setattro}, \
    {Py_tp_repr, body_repr}, {Py_tp_members, body_members}
static PyMemberDef body_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Body, weakrefs), READONLY, NULL}, {NULL, 0, 0, 0, NULL},
};
static PyMethodDef body_methods[] = {
    {"send", body_send, METH_O, NULL}, {"throw", FAST(body_throw), METH_FASTCALL, NULL},
    {"close", body_close, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL},
};
static PyMethodDef coroutine_methods[] = {
    {"send", body_send, METH_O, NULL}, {"throw", FAST(body_throw), METH_FASTCALL, NULL},
    {"close", body_close, METH_NOARGS, NULL}, {"__await__", coroutine_wrapper, METH_NOARGS | METH_COEXIST, NULL}, {NULL, NULL, 0, NULL},
};
static PyMethodDef agen_methods[] = {
    {"asend", agen_asend, METH_O, NULL}, {"athrow", agen_athrow, METH_VARARGS, NULL},
    {"aclose", agen_aclose, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL},
};
static PyType_Slot coroutine_slots[] = {
    BODY_SLOTS, {Py_am_await, body_await}, {Py_am_send, body_am_send}, {Py_tp_iter, coroutine_iter},
    {Py_tp_methods, coroutine_methods}, {0, NULL},
};
static PyType_Slot generator_slots[] = {
    BODY_SLOTS, {Py_tp_iter, PyObject_SelfIter}, {Py_tp_iternext, body_next}, {Py_am_send, body_am_send},
    {Py_tp_methods, body_methods}, {0, NULL},
};
static PyType_Slot agen_slots[] = {
    BODY_SLOTS, {Py_am_aiter, PyObject_SelfIter}, {Py_am_anext, agen_next}, {Py_tp_methods, agen_methods}, {0, NULL},
};
static PyType_Slot iterable_slots[] = {
    BODY_SLOTS, {Py_tp_iter, PyObject_SelfIter}, {Py_tp_iternext, body_next}, {Py_am_await, PyObject_SelfIter},
    {Py_am_send, body_am_send}, {Py_tp_methods, body_methods}, {0, NULL},
};
static PyType_Spec specs[KINDS] = {
    {"", 0, 0, 0, NULL},  /* a plain call has no body */
    {"builtins.coroutine", sizeof(Body), 0, BODY_FLAGS, coroutine_slots},
    {"builtins.generator", sizeof(Body), 0, BODY_FLAGS, generator_slots},
    {"builtins.async_generator", sizeof(Body), 0, BODY_FLAGS, agen_slots},
    {"builtins.generator", sizeof(Body), 0, BODY_FLAGS, iterable_slots},
};

/* Let a type have a slot without the method: then `isinstance` sees what it sees of the real one. `await` takes the
 * generator of `types.coroutine`, which has no `__await__`; and `yield from` takes a coroutine, which has no `__iter__`. */
static int hide(PyTypeObject *type, const char *method)
{
#if PY_VERSION_HEX >= 0x030C0000
    PyObject *names = PyType_GetDict(type);
#else
    PyObject *names = Py_NewRef(type->tp_dict);
#endif
    int did = names ? PyDict_DelItemString(names, method) : -1;
    Py_XDECREF(names);
    PyType_Modified(type);
    return did;
}

int add_bodies(PyObject *module)
{
    if (add_awaiters(module) < 0) return -1;
    for (int kind = COROUTINE; kind < KINDS; kind++)
        if (!(body_types[kind] = make_type(module, &specs[kind]))) return -1;
    return hide(body_types[COROUTINE], "__iter__") < 0 ? -1 : hide(body_types[ITERABLE_COROUTINE], "__await__");
}
