/* Exceptions: taking one up, raising it again, and whose it is. */
#include "native.h"

#if PY_VERSION_HEX >= 0x030C0000

PyObject *take_raised(void) { return PyErr_GetRaisedException(); }
void raise_again(PyObject *error) { if (error) PyErr_SetRaisedException(error); else PyErr_Clear(); }

#else

PyObject *take_raised(void)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (!type) return NULL;
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback) PyException_SetTraceback(value, traceback);
    Py_DECREF(type);
    Py_XDECREF(traceback);
    return value;
}

void raise_again(PyObject *error)
{
    if (!error) { PyErr_Clear(); return; }
    PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(error)), error, PyException_GetTraceback(error));
}

#endif

/* PyErr_SetObject would take a tuple for arguments, and an exception for the error itself. A body that returned None
 * leaves no arguments at all, and programs look at that. */
void raise_stop(PyObject *value)
{
    if (value == Py_None) { PyErr_SetNone(PyExc_StopIteration); return; }
    PyObject *error = PyObject_CallOneArg(PyExc_StopIteration, value);
    if (!error) return;
    PyObject *handled = PyErr_GetHandledException();
    if (handled) PyErr_SetObject(PyExc_StopIteration, error);  /* which makes the handled one its context */
    else raise_again(Py_NewRef(error));
    Py_XDECREF(handled);
    Py_DECREF(error);
}

PyObject *take_stop_value(void)
{
    if (!PyErr_ExceptionMatches(PyExc_StopIteration)) return NULL;
    PyObject *error = take_raised();
    PyObject *value = PyObject_GetAttr(error, str_value);
    Py_DECREF(error);
    return value;
}

/* What is raised came while another exception was being looked at. */
void raise_newer(PyObject *older)
{
    PyObject *newer = take_raised();
    if (older) PyException_SetContext(newer, older);
    raise_again(newer);
}

/* After a fault, without which the call goes on: -1 if a signal handler of the host's raised it, who must not lose it. */
int raised_by_handler(void)
{
    PyObject *error = take_raised();
    PyObject *answer = error && callouts.is_from_handler ? call_unseen(callouts.is_from_handler, &error, 1) : NULL;
    int is_theirs = answer == Py_True;
    Py_XDECREF(answer);
    if (PyErr_Occurred()) { Py_XDECREF(error); return host_raised() ? -1 : 0; }
    if (is_theirs) raise_again(error);
    else Py_XDECREF(error);
    return is_theirs ? -1 : 0;
}

/* Nothing can be raised here: what a signal handler raised is raised in the program, as soon as it goes on. */
void raise_in_program(PyObject *where)
{
    PyObject *error = take_raised();
    if (!error) return;
    PyObject *raising = callouts.raise_later ? call_unseen(callouts.raise_later, &error, 1) : NULL;
    PyObject *raised = raising ? PySequence_List(raising) : NULL;
    int is_kept = raised && PyList_GET_SIZE(raised);
    Py_XDECREF(raised);
    Py_XDECREF(raising);
    if (is_kept) { Py_DECREF(error); return; }
    raise_again(error);
    PyErr_WriteUnraisable(where);
}

int failed_for_host(void) { return PyErr_Occurred() && host_raised() ? -1 : 0; }

int host_raised(void)
{
    if (!PyErr_ExceptionMatches(PyExc_RecursionError)) return 1;
    PyErr_Clear();
    return 0;
}
