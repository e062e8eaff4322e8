/* Calls of the Python half that no debugger, profiler or coverage tool is to see: what they follow is the program.
 * A codec is the user's own, and is shown to them again. */
#include "native.h"

#if defined(_WIN32)
static __declspec(thread) int hidden;
#else
static _Thread_local int hidden;
#endif
/* Calls of the Python half under way in this thread. Without it, a codec that runs inside somebody's trace function would
 * be traced by that function, and would call it again. */

PyThreadState *hide_calls(void)
{
    PyThreadState *thread = PyThreadState_Get();
    hidden++;
    PyThreadState_EnterTracing(thread);
    return thread;
}

void show_calls(PyThreadState *thread)
{
    PyThreadState_LeaveTracing(thread);
    hidden--;
}

/* Does an audit hook ask, about something that our own half does? A hook that is traced would be called about the recording
 * of its own calls, and so on. The interpreter hides the calls of hooks, as we do ours. */
int is_asked_about_us(void) { return hidden && PyThreadState_Get()->tracing > hidden; }

PyObject *call_unseen(PyObject *function, PyObject *const *args, Py_ssize_t count)
{
    PyThreadState *thread = hide_calls();
    PyObject *answer = PyObject_Vectorcall(function, args, (size_t)count, NULL);
    show_calls(thread);
    return answer;
}

static PyObject *call_seen(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    PyThreadState *thread = PyThreadState_Get();
    int shows = hidden && thread->tracing;
    if (shows) { hidden--; PyThreadState_LeaveTracing(thread); }
    PyObject *answer = PyObject_Vectorcall(args[0], args + 1, (size_t)(count - 1), NULL);
    if (shows) { PyThreadState_EnterTracing(thread); hidden++; }
    return answer;
}

static PyMethodDef functions[] = {
    {"call_seen", (PyCFunction)(void (*)(void))call_seen, METH_FASTCALL,
     "call_seen(function, *args)\n--\n\nCall a function of the user's: debuggers and profilers follow it."},
    {NULL, NULL, 0, NULL},
};

int add_unseen(PyObject *module) { return PyModule_AddFunctions(module, functions); }
