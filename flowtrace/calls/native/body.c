/* Bodies: the coroutine, generator or async generator that a traced call gives is an object of ours that presents the real
 * one. `__class__` and all attributes are the real one's (cr_frame, gi_yieldfrom, ag_running, __name__, ...), so that no
 * frame of ours shows, full depth is there, and tasks, debuggers and tracebacks see the user's code. What differs is
 * `type(body) is types.CoroutineType`, and nothing else that we know of.
 *
 * A step is current only while its own body runs. */
#include "native.h"
#include <opcode.h>

typedef struct {
    PyObject_HEAD
    Subject *subject;
    PyObject *step, *inner, *weakrefs;
    char kind, started, running, done;
} Body;

/* What `await` drives: a coroutine, or one advance of an async generator (`asked` is then the real one's awaitable). */
typedef struct {
    PyObject_HEAD
    Body *body;
    PyObject *asked;
    char closes;
} Awaiter;

enum awaits {AWAITS, WRAPS, ASKS, THROWS, AWAITERS};  /* a coroutine, by `await` or by `__await__()`; an async generator */
static PyTypeObject *body_types[KINDS], *awaiter_types[AWAITERS];
static Spare spare_bodies[KINDS], spare_awaiters;
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

static int resume(Body *b)
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
static int end_stream(Body *b, PyObject *returned)
{
    b->done = 1;
    return step_ends_stream(b->subject, b->step, returned);
}

/* Record how a body ended while an exception is raised, which stays raised. */
static void end_stream_raised(Body *b)
{
    PyObject *error = take_raised();
    if (end_stream(b, NULL) == 0) { raise_again(error); return; }
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
static PySendResult after(Body *b, PySendResult did, PyObject **result, int is_item)
{
    b->running = 0;
    if (b->done) return did;
    if (did == PYGEN_NEXT || (did == PYGEN_RETURN && b->kind == ASYNC_GENERATOR)) return gave_control(b, result, is_item, did);
    if (did == PYGEN_RETURN) {
        b->done = 1;
        int failed = b->kind == GENERATOR ? end_stream(b, *result) : step_ends(b->subject, b->step, *result);
        if (!failed) return did;
        Py_CLEAR(*result);
        return PYGEN_ERROR;
    }
    if (!is_over(b)) suspend_raised(b);
    else if (b->kind == ASYNC_GENERATOR && PyErr_ExceptionMatches(PyExc_StopAsyncIteration)) {
        PyObject *error = take_raised();
        if (end_stream(b, Py_None) == 0) raise_again(error);
        else Py_XDECREF(error);
    } else if (PyErr_ExceptionMatches(PyExc_GeneratorExit)) end_stream_raised(b);
    else {
        b->done = 1;
        step_fails(b->subject, b->step);
    }
    return PYGEN_ERROR;
}

/* --- coroutines and generators ----------------------------------------------------------------------------------- */

static PySendResult body_am_send(PyObject *self, PyObject *value, PyObject **result)
{
    Body *b = (Body *)self;
    *result = NULL;
    if (b->running) return PyIter_Send(b->inner, value, result);  /* the real one says what is wrong */
    if (no_stack_left() || resume(b) < 0) return PYGEN_ERROR;
    PySendResult did = send_through(b->inner, value, result);
    return after(b, did, result, b->kind == GENERATOR && did == PYGEN_NEXT);
}

static PyObject *as_method(PySendResult did, PyObject *result)
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
static PySendResult throw_into(PyObject *target, PyObject *const *args, Py_ssize_t count, PyObject **result)
{
    PyObject *method = PyObject_GetAttr(target, str_throw);
    *result = method ? PyObject_Vectorcall(method, args, count, NULL) : NULL;
    Py_XDECREF(method);
    if (*result) return PYGEN_NEXT;
    return (*result = take_stop_value()) ? PYGEN_RETURN : PYGEN_ERROR;
}

static PyObject *body_throw(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    Body *b = (Body *)self;
    PyObject *result = NULL;
    int reenters = b->running;
    if (!reenters && resume(b) < 0) return NULL;
    PySendResult did = throw_into(b->inner, args, count, &result);
    if (!reenters) did = after(b, did, &result, b->kind == GENERATOR && did == PYGEN_NEXT);
    return as_method(did, result);
}

static PyObject *body_close(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    Body *b = (Body *)self;
    int suspended = b->started && !b->done && !b->running;
    if (suspended && resume(b) < 0) return NULL;
    PyObject *result = PyObject_CallMethodNoArgs(b->inner, str_close);
    if (!suspended) {
        if (!b->running) b->done = 1;  /* it will never begin */
        return result;
    }
    b->running = 0;
    if (!result && !is_over(b)) suspend_raised(b);  /* it ignored GeneratorExit */
    else if (!result) { b->done = 1; step_fails(b->subject, b->step); }
    else if (end_stream(b, NULL) < 0) Py_CLEAR(result);
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
    if (resume(b) == 0) {
        if (Py_REFCNT(b->inner) == 1) Py_SETREF(b->inner, Py_NewRef(Py_None));
        if (end_stream(b, NULL) < 0) raise_in_program(self);
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

/* --- awaiting ---------------------------------------------------------------------------------------------------- */

static PyObject *awaiter_of(Body *b, PyObject *asked, enum awaits kind, int closes)  /* takes the reference to what is asked */
{
    if (!asked) return NULL;
    Awaiter *a = (Awaiter *)take_spare(&spare_awaiters, awaiter_types[kind]);
    if (!a) { Py_DECREF(asked); return NULL; }
    a->body = (Body *)Py_NewRef((PyObject *)b);
    a->asked = asked;
    a->closes = (char)closes;
    PyObject_GC_Track(a);
    return (PyObject *)a;
}

/* A coroutine must not be an iterator itself: what `await` iterates over is a second object. */
static PyObject *body_awaiter(PyObject *self) { return awaiter_of((Body *)self, Py_NewRef(self), AWAITS, 0); }

static PyObject *coroutine_wrapper(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return awaiter_of((Body *)self, Py_NewRef(self), WRAPS, 0);
}

/* `await`, which refuses a coroutine that waits for another one's sake; its method `__await__` does not. */
static PyObject *body_await(PyObject *self)
{
    Body *b = (Body *)self;
    if (b->started && !b->done && !b->running) {
        PyObject *awaited = PyObject_GetAttrString(b->inner, "cr_await");
        if (!awaited) return NULL;
        Py_DECREF(awaited);
        if (awaited != Py_None) {
            PyErr_SetString(PyExc_RuntimeError, "coroutine is being awaited already");
            return NULL;
        }
    }
    return body_awaiter(self);
}

/* What the caller's frame is about to do, its argument, and the flags of its code. */
static int caller_opcode(int *argument, int *flags)
{
    PyFrameObject *frame = PyEval_GetFrame();
    PyCodeObject *code = frame ? PyFrame_GetCode(frame) : NULL;
    PyObject *bytes = code ? PyCode_GetCode(code) : NULL;
    int at = frame ? PyFrame_GetLasti(frame) : -1, opcode = -1;
    *argument = 0;
    *flags = code ? code->co_flags : 0;
    if (!bytes) PyErr_Clear();
    else if (at >= 0 && at + 1 < PyBytes_GET_SIZE(bytes)) {
        opcode = (unsigned char)PyBytes_AS_STRING(bytes)[at];
        *argument = (unsigned char)PyBytes_AS_STRING(bytes)[at + 1];
    }
    Py_XDECREF(bytes);
    Py_XDECREF(code);
    return opcode;
}

static int is_yield_from(int opcode, int argument)
{
#ifdef GET_YIELD_FROM_ITER
    return opcode == GET_YIELD_FROM_ITER;
#else  /* 3.15 */
    return opcode == GET_ITER && argument;
#endif
}

/* A coroutine is no iterable, but a generator that `types.coroutine` has marked may `yield from` it: the interpreter lets
 * that pass by the exact type. What it says of others depends on what it is asked for, too. */
static PyObject *coroutine_iter(PyObject *self)
{
    int flags, argument, opcode = caller_opcode(&argument, &flags);
    const char *wrong = "'coroutine' object is not iterable";
    if (is_yield_from(opcode, argument)) {
        if (flags & (CO_COROUTINE | CO_ITERABLE_COROUTINE)) return body_awaiter(self);
        wrong = "cannot 'yield from' a coroutine object in a non-coroutine generator";
    } else if (opcode == UNPACK_SEQUENCE || opcode == UNPACK_EX) wrong = "cannot unpack non-iterable coroutine object";
    else if (opcode == LIST_EXTEND) wrong = "Value after * must be an iterable, not coroutine";
    PyErr_SetString(PyExc_TypeError, wrong);
    return NULL;
}

static int is_of_coroutine(Awaiter *a) { return a->asked == (PyObject *)a->body; }

/* Resume the body for what is asked of it. Where that is refused, the real generator's awaitable is closed: Python warns of
 * one that nobody has awaited. */
static int resume_for(Awaiter *a)
{
    int did = resume(a->body);
    if (did != REFUSED) return did;
    PyObject *error = take_raised(), *ignored = PyObject_CallMethodNoArgs(a->asked, str_close);
    if (!ignored) raise_in_program(a->asked);
    Py_XDECREF(ignored);
    raise_again(error);
    return did;
}

static PySendResult awaiter_am_send(PyObject *self, PyObject *value, PyObject **result)
{
    Awaiter *a = (Awaiter *)self;
    Body *b = a->body;
    if (is_of_coroutine(a)) return body_am_send(a->asked, value, result);
    *result = NULL;
    if (b->running) return PyIter_Send(a->asked, value, result);
    if (no_stack_left() || resume_for(a) < 0) return PYGEN_ERROR;
    PySendResult did = send_through(a->asked, value, result);
    b->running = 0;
    if (did == PYGEN_RETURN && a->closes && !b->done) {
        if (end_stream(b, NULL) == 0) return did;
        Py_CLEAR(*result);
        return PYGEN_ERROR;
    }
    return after(b, did, result, did == PYGEN_RETURN);
}

static PyObject *awaiter_send(PyObject *self, PyObject *value)
{
    PyObject *result;
    PySendResult did = awaiter_am_send(self, value, &result);
    return as_method(did, result);
}

/* Advance an async generator as the interpreter does from 3.12 on, which takes the item out of a StopIteration. The one
 * that the real awaitable raises is handed on: making another one would cost more than all else here. */
static PyObject *next_item(Awaiter *a)
{
    Body *b = a->body;
    if (no_stack_left() || resume_for(a) < 0) return NULL;
    PyObject *result = next_through(a->asked), *stop = NULL;
    PySendResult did = result ? PYGEN_NEXT : PYGEN_ERROR;
    if (!result && PyErr_ExceptionMatches(PyExc_StopIteration)) {
        stop = take_raised();
        result = Py_XNewRef(((PyStopIterationObject *)stop)->value);
        did = PYGEN_RETURN;
    }
    did = after(b, did, &result, did == PYGEN_RETURN);
    if (stop && did != PYGEN_ERROR) {
        Py_CLEAR(result);
        raise_again(stop);
    } else Py_XDECREF(stop);
    return result;
}

static PyObject *awaiter_next(PyObject *self)
{
    Awaiter *a = (Awaiter *)self;
    int is_item = !is_of_coroutine(a) && !a->closes && !a->body->running && PyIter_Check(a->asked);
    return is_item ? next_item(a) : awaiter_send(self, Py_None);
}

static PyObject *awaiter_throw(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    Awaiter *a = (Awaiter *)self;
    Body *b = a->body;
    PyObject *result = NULL;
    if (is_of_coroutine(a)) return body_throw(a->asked, args, count);
    int reenters = b->running;
    if (!reenters && resume_for(a) < 0) return NULL;
    PySendResult did = throw_into(a->asked, args, count, &result);
    if (!reenters) did = after(b, did, &result, did == PYGEN_RETURN);
    return as_method(did, result);
}

static PyObject *awaiter_close(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    Awaiter *a = (Awaiter *)self;
    if (is_of_coroutine(a)) return body_close(a->asked, NULL);
    return PyObject_CallMethodNoArgs(a->asked, str_close);
}

static int awaiter_traverse(Awaiter *a, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(a));
    Py_VISIT(a->body);
    Py_VISIT(a->asked);
    return 0;
}

static void awaiter_dealloc(Awaiter *a)
{
    PyObject_GC_UnTrack(a);
    Py_CLEAR(a->body);
    Py_CLEAR(a->asked);
    put_spare(&spare_awaiters, a, Py_TYPE(a), Py_TYPE(a));  /* all are of one size */
}

/* asyncio walks along cr_await, and finds in the awaiter what the coroutine has. What `__await__()` gives has nothing of it. */
static PyObject *awaiter_getattro(PyObject *self, PyObject *name)
{
    Awaiter *a = (Awaiter *)self;
    int own = Py_TYPE(a) == awaiter_types[WRAPS] ? 1 : PySet_Contains(body_names, name);
    if (own < 0) return NULL;
    return own ? PyObject_GenericGetAttr(self, name) : PyObject_GetAttr(is_of_coroutine(a) ? a->body->inner : a->asked, name);
}

static PyObject *awaiter_repr(PyObject *self)
{
    return Py_TYPE(self) == awaiter_types[WRAPS] ? PyUnicode_FromFormat("<coroutine_wrapper object at %p>", self)
                                                 : PyObject_Repr(((Awaiter *)self)->asked);
}

/* --- async generators: the event loop's hooks know the real one, since it is the real one that is advanced --------- */

static PyObject *agen_asend(PyObject *self, PyObject *value)
{
    return awaiter_of((Body *)self, PyObject_CallMethodOneArg(((Body *)self)->inner, str_asend, value), ASKS, 0);
}

static PyObject *agen_next(PyObject *self)
{
    PyObject *inner = ((Body *)self)->inner;
    return awaiter_of((Body *)self, Py_TYPE(inner)->tp_as_async->am_anext(inner), ASKS, 0);
}

static PyObject *agen_athrow(PyObject *self, PyObject *args)
{
    PyObject *method = PyObject_GetAttr(((Body *)self)->inner, str_athrow);
    PyObject *asked = method ? PyObject_CallObject(method, args) : NULL;
    Py_XDECREF(method);
    return awaiter_of((Body *)self, asked, THROWS, 0);
}

static PyObject *agen_aclose(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return awaiter_of((Body *)self, PyObject_CallMethodNoArgs(((Body *)self)->inner, str_aclose), THROWS, 1);
}

/* --- types ------------------------------------------------------------------------------------------------------- */

#define FAST(function) (PyCFunction)(void (*)(void))function
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
static PyMethodDef awaiter_methods[] = {
    {"send", awaiter_send, METH_O, NULL}, {"throw", FAST(awaiter_throw), METH_FASTCALL, NULL},
    {"close", awaiter_close, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL},
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
#define AWAITER_SLOTS \
    {Py_tp_dealloc, awaiter_dealloc}, {Py_tp_traverse, awaiter_traverse}, {Py_tp_getattro, awaiter_getattro}, \
    {Py_tp_repr, awaiter_repr}, {Py_tp_iter, PyObject_SelfIter}, {Py_tp_iternext, awaiter_next}, \
    {Py_am_send, awaiter_am_send}, {Py_tp_methods, awaiter_methods}
static PyType_Slot awaiter_slots[] = {AWAITER_SLOTS, {0, NULL}};
static PyType_Slot asked_slots[] = {AWAITER_SLOTS, {Py_am_await, PyObject_SelfIter}, {0, NULL}};
#define BODY_FLAGS (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION)
static PyType_Spec awaiter_specs[AWAITERS] = {
    {"builtins.coroutine_wrapper", sizeof(Awaiter), 0, BODY_FLAGS, awaiter_slots},
    {"builtins.coroutine_wrapper", sizeof(Awaiter), 0, BODY_FLAGS, awaiter_slots},
    {"builtins.async_generator_asend", sizeof(Awaiter), 0, BODY_FLAGS, asked_slots},
    {"builtins.async_generator_athrow", sizeof(Awaiter), 0, BODY_FLAGS, asked_slots},
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
    for (int kind = AWAITS; kind < AWAITERS; kind++)
        if (!(awaiter_types[kind] = make_type(module, &awaiter_specs[kind]))) return -1;
    for (int kind = COROUTINE; kind < KINDS; kind++)
        if (!(body_types[kind] = make_type(module, &specs[kind]))) return -1;
    return hide(body_types[COROUTINE], "__iter__") < 0 ? -1 : hide(body_types[ITERABLE_COROUTINE], "__await__");
}
