/* The C stack: a traced function needs some of it for each call, where a plain one of Python's own does not.
 *
 * CPython 3.14 looks at the stack's address itself. 3.11 has no guard for frames of C at all: a wrapper in C that recurses
 * deeply crashes there, as wrapt's does. 3.12 and 3.13 count calls of C functions, with room for 1,500 or 10,000 units,
 * two of them for each entry of the interpreter; that is far less than the stack could take.
 * So up to 3.13 we look at the address, too, and give the units back. RecursionError, and never a crash, is the end. */
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
#define THREAD_LOCAL __declspec(thread)
#elif defined(__APPLE__)
#include <pthread.h>
static void find_limits(char **low, char **high)
{
    *high = pthread_get_stackaddr_np(pthread_self());
    *low = *high - pthread_get_stacksize_np(pthread_self());
}
#define THREAD_LOCAL _Thread_local
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
#define THREAD_LOCAL _Thread_local
#endif

#define RESERVE (128 * 1024)  /* for what Python needs to make and to report the error */

static THREAD_LOCAL char *stack_low, *stack_floor;  /* of this thread; the floor is the reserve above the low end */

static void find_floor(void)
{
    char *low = NULL, *high = NULL;
    find_limits(&low, &high);
    size_t eighth = low ? (size_t)(high - low) / 8 : 0;
    stack_low = low;
    stack_floor = low ? low + (eighth < RESERVE ? eighth : RESERVE) : (char *)1;
}

int no_stack_left(void)
{
    char here;
    if (!stack_floor) find_floor();
    if (&here >= stack_floor || &here < stack_low) return 0;  /* below: some other stack, as stack switchers make them */
    PyErr_SetString(PyExc_RecursionError, "maximum recursion depth exceeded");
    return 1;
}

#else

int no_stack_left(void) { return 0; }

#endif

#if PY_VERSION_HEX >= 0x030C0000 && PY_VERSION_HEX < 0x030E0000
#define UNITS_OF_AN_ENTRY 2
#define GIVE_BACK PyThreadState *thread = PyThreadState_Get(); thread->c_recursion_remaining += UNITS_OF_AN_ENTRY;
#define TAKE_BACK thread->c_recursion_remaining -= UNITS_OF_AN_ENTRY;
#else
#define GIVE_BACK
#define TAKE_BACK
#endif

/* Call what is traced. Somebody may replace __wrapped__ meanwhile: the reference is our own. */
PyObject *call_through(PyObject *callee, PyObject *const *args, size_t flags, PyObject *names)
{
    Py_INCREF(callee);
    GIVE_BACK
    PyObject *result = PyObject_Vectorcall(callee, args, flags, names);
    TAKE_BACK
    Py_DECREF(callee);
    return result;
}

PySendResult send_through(PyObject *body, PyObject *value, PyObject **result)
{
    Py_INCREF(body);
    GIVE_BACK
    PySendResult did = PyIter_Send(body, value, result);
    TAKE_BACK
    Py_DECREF(body);
    return did;
}
