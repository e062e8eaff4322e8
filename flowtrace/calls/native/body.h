/* The body of a call, for the files that say what it is: body.c drives it, awaiting.c what `await` and `async for` drive. */
#ifndef FLOWTRACE_BODY_H
#define FLOWTRACE_BODY_H
#include "native.h"

typedef struct {
    PyObject_HEAD
    Subject *subject;
    PyObject *step, *inner, *weakrefs;
    char kind, started, running, done;
} Body;

#define FAST(function) (PyCFunction)(void (*)(void))function
#define BODY_FLAGS (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION)

/* --- body.c ------------------------------------------------------------------------------------------------------ */

int body_resumes(Body *b);                              /* before what it stands for runs; -1 with an exception, or REFUSED */
int body_ends_stream(Body *b, PyObject *returned);      /* a generator ended: with its return value; without, it was closed */
PySendResult body_ran(Body *b, PySendResult did, PyObject **result, int is_item);  /* record what it did */
PySendResult body_am_send(PyObject *self, PyObject *value, PyObject **result);
PyObject *body_throw(PyObject *self, PyObject *const *args, Py_ssize_t count);
PyObject *body_close(PyObject *self, PyObject *ignored);
PySendResult throw_into(PyObject *target, PyObject *const *args, Py_ssize_t count, PyObject **result);
PyObject *as_method(PySendResult did, PyObject *result);  /* what `send` gives, or raises, after that */

/* --- awaiting.c -------------------------------------------------------------------------------------------------- */

PyObject *body_await(PyObject *self);                   /* for `await`, of a coroutine */
PyObject *coroutine_wrapper(PyObject *self, PyObject *ignored);  /* its method `__await__` */
PyObject *coroutine_iter(PyObject *self);               /* for `yield from` */
PyObject *agen_asend(PyObject *self, PyObject *value);
PyObject *agen_next(PyObject *self);
PyObject *agen_athrow(PyObject *self, PyObject *args);
PyObject *agen_aclose(PyObject *self, PyObject *ignored);
int add_awaiters(PyObject *module);

#endif
