/* What `await` and `async for` drive, in place of a body: for a coroutine, which must not be an iterator itself, and for each
 * advance of an async generator. */
#include "body.h"
#include <opcode.h>

/* A coroutine, or one advance of an async generator (`asked` is then the real one's awaitable). */
typedef struct {
    PyObject_HEAD
    Body *body;
    PyObject *asked;
    char closes;
} Awaiter;

enum awaits {AWAITS, WRAPS, ASKS, THROWS, AWAITERS};  /* a coroutine, by `await` or by `__await__()`; an async generator */
static PyTypeObject *awaiter_types[AWAITERS];
static Spare spare_awaiters;

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

PyObject *coroutine_wrapper(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return awaiter_of((Body *)self, Py_NewRef(self), WRAPS, 0);
}

/* `await`, which refuses a coroutine that waits for another one's sake; its method `__await__` does not. */
PyObject *body_await(PyObject *self)
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
    return opcode == GET_YIELD_FROM_ITER && !argument;  /* it has none */
#else  /* 3.15 */
    return opcode == GET_ITER && argument;
#endif
}

/* A coroutine is no iterable, but a generator that `types.coroutine` has marked may `yield from` it: the interpreter lets
 * that pass by the exact type. What it says of others depends on what it is asked for, too. */
PyObject *coroutine_iter(PyObject *self)
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
 * one that was never awaited. */
static int resume_for(Awaiter *a)
{
    int did = body_resumes(a->body);
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
        if (body_ends_stream(b, NULL) == 0) return did;
        Py_CLEAR(*result);
        return PYGEN_ERROR;
    }
    return body_ran(b, did, result, did == PYGEN_RETURN);
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
    did = body_ran(b, did, &result, did == PYGEN_RETURN);
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
    if (!reenters) did = body_ran(b, did, &result, did == PYGEN_RETURN);
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

PyObject *agen_asend(PyObject *self, PyObject *value)
{
    return awaiter_of((Body *)self, PyObject_CallMethodOneArg(((Body *)self)->inner, str_asend, value), ASKS, 0);
}

PyObject *agen_next(PyObject *self)
{
    PyObject *inner = ((Body *)self)->inner;
    return awaiter_of((Body *)self, Py_TYPE(inner)->tp_as_async->am_anext(inner), ASKS, 0);
}

PyObject *agen_athrow(PyObject *self, PyObject *args)
{
    PyObject *method = PyObject_GetAttr(((Body *)self)->inner, str_athrow);
    PyObject *asked = method ? PyObject_CallObject(method, args) : NULL;
    Py_XDECREF(method);
    return awaiter_of((Body *)self, asked, THROWS, 0);
}

PyObject *agen_aclose(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return awaiter_of((Body *)self, PyObject_CallMethodNoArgs(((Body *)self)->inner, str_aclose), THROWS, 1);
}

/* --- types ------------------------------------------------------------------------------------------------------- */

static PyMethodDef awaiter_methods[] = {
    {"send", awaiter_send, METH_O, NULL}, {"throw", FAST(awaiter_throw), METH_FASTCALL, NULL},
    {"close", awaiter_close, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL},
};
#define AWAITER_SLOTS \
    {Py_tp_dealloc, awaiter_dealloc}, {Py_tp_traverse, awaiter_traverse}, {Py_tp_getattro, awaiter_getattro}, \
    {Py_tp_repr, awaiter_repr}, {Py_tp_iter, PyObject_SelfIter}, {Py_tp_iternext, awaiter_next}, \
    {Py_am_send, awaiter_am_send}, {Py_tp_methods, awaiter_methods}
static PyType_Slot awaiter_slots[] = {AWAITER_SLOTS, {0, NULL}};
static PyType_Slot asked_slots[] = {AWAITER_SLOTS, {Py_am_await, PyObject_SelfIter}, {0, NULL}};
static PyType_Spec awaiter_specs[AWAITERS] = {
    {"builtins.coroutine_wrapper", sizeof(Awaiter), 0, BODY_FLAGS, awaiter_slots},
    {"builtins.coroutine_wrapper", sizeof(Awaiter), 0, BODY_FLAGS, awaiter_slots},
    {"builtins.async_generator_asend", sizeof(Awaiter), 0, BODY_FLAGS, asked_slots},
    {"builtins.async_generator_athrow", sizeof(Awaiter), 0, BODY_FLAGS, asked_slots},
};

int add_awaiters(PyObject *module)
{
    for (int kind = AWAITS; kind < AWAITERS; kind++)
        if (!(awaiter_types[kind] = make_type(module, &awaiter_specs[kind]))) return -1;
    return 0;
}
