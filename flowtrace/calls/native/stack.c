/* The C stack: a traced function needs some of it for each call, where a plain one of Python's own does not.
 *
 * CPython 3.14 looks at the stack's address itself. 3.11 has no guard for frames of C at all: a wrapper in C that recurses
 * deeply crashes there, as wrapt's does. 3.12 and 3.13 count calls of C functions, with room for 1,500 or 10,000 units,
 * two of them for each entry of the interpreter; that is far less than the stack could take.
 * So up to 3.13 we look at the address, too, and give the units back. RecursionError, and never a crash, is the end.
 * The address alone tells that a call is far from all that: then it costs one comparison. */
#include "native.h"

#if PY_VERSION_HEX < 0x030E0000

#if defined(_WIN32)
#include <windows.h>
static void find_limits(char **low, char **high)
{
    ULONG_PTR from = 0, to = 0;
    GetCurrentThreadStackLimits(&from, &to);
    *low = (char *)from;
    *high = (char *)to;
}
#elif defined(__APPLE__)
#include <pthread.h>
static void find_limits(char **low, char **high)
{
    *high = pthread_get_stackaddr_np(pthread_self());
    *low = *high - pthread_get_stacksize_np(pthread_self());
}
#else
#include <pthread.h>
#ifndef __USE_GNU
extern int pthread_getattr_np(pthread_t, pthread_attr_t *);
#endif
static void find_limits(char **low, char **high)
{
    pthread_attr_t attributes;
    void *from = NULL;
    size_t size = 0;
    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
        pthread_attr_getstack(&attributes, &from, &size);
        pthread_attr_destroy(&attributes);
    }
    *low = from;
    *high = from ? (char *)from + size : NULL;
}
#endif

#define RESERVE (128 * 1024)  /* for what Python needs to make and to report the error */
/* The calls in so much at the top give no units back: fewer than a hundred, where most calls of most programs are. */
#define TOP (PY_VERSION_HEX >= 0x030C0000 ? 32 * 1024 : (size_t)-1)
#define NOT_KNOWN ((char *)UINTPTR_MAX)

static THREAD_LOCAL char *stack_low, *stack_floor;  /* of this thread; the floor is the reserve above the low end */
THREAD_LOCAL char *stack_calm = NOT_KNOWN;

static void find_floor(void)
{
    char *low = NULL, *high = NULL;
    find_limits(&low, &high);
    size_t size = low ? (size_t)(high - low) : 0;
    stack_low = low;
    stack_floor = low ? low + (size / 8 < RESERVE ? size / 8 : RESERVE) : (char *)1;
    stack_calm = (size_t)(high - stack_floor) > TOP ? high - TOP : stack_floor;
}

int is_below_floor(char *here)
{
    if (stack_calm == NOT_KNOWN) find_floor();
    if (here >= stack_floor || here < stack_low) return 0;  /* below: some other stack, as stack switchers make them */
    PyErr_SetString(PyExc_RecursionError, "maximum recursion depth exceeded");
    return 1;
}

#endif

PySendResult send_through(PyObject *body, PyObject *value, PyObject **result)
{
    Py_INCREF(body);
    GIVE_BACK
    PySendResult did = PyIter_Send(body, value, result);
    TAKE_BACK
    Py_DECREF(body);
    return did;
}

/* An iterator may say without an exception that it is at its end; here one is raised. */
PyObject *next_through(PyObject *iterator)
{
    Py_INCREF(iterator);
    GIVE_BACK
    PyObject *result = Py_TYPE(iterator)->tp_iternext(iterator);
    TAKE_BACK
    Py_DECREF(iterator);
    if (!result && !PyErr_Occurred()) PyErr_SetNone(PyExc_StopIteration);
    return result;
}
