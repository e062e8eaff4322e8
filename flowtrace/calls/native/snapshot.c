/* Snapshots: what a value is at this moment, so that it can be written later, whatever the program does to it.
 *
 * What can't change is kept by reference: numbers, texts, bytes, None, and tuples of them. Small plain containers are
 * copied, and only the step holds the copy. Any other value is for the slow snapshot, in Python. */
#include "native.h"

/* About what orjson would write, and about what is held in memory: objects have a head. */
enum { HEAD = 32, TEXT_HEAD = 56, LIST_HEAD = 56, DICT_HEAD = 96, SLOT_SIZE = 8, ENTRY_SIZE = 56, DEEPEST = 8 };

static inline int is_atom(PyObject *value, Budget *budget)
{
    PyTypeObject *type = Py_TYPE(value);
    if (type == &PyUnicode_Type) {
        Py_ssize_t size = PyUnicode_GET_LENGTH(value) * PyUnicode_KIND(value);
        budget->left -= size + 2;
        budget->held += size + TEXT_HEAD;
        return 1;
    }
    if (type == &PyLong_Type) {
        int is_large;
        (void)PyLong_AsLongLongAndOverflow(value, &is_large);  /* can't fail for an exact int */
        budget->left -= 8;
        budget->held += HEAD;
        return !is_large;
    }
    if (type == &PyFloat_Type || value == Py_None || type == &PyBool_Type) {
        budget->left -= 8;
        budget->held += HEAD;
        return 1;
    }
    if (type == &PyBytes_Type) {
        budget->left -= PyBytes_GET_SIZE(value);
        budget->held += PyBytes_GET_SIZE(value) + HEAD;
        return 1;
    }
    return 0;
}

static PyObject *of_dict(PyObject *value, Budget *budget, int depth)
{
    Py_ssize_t at = 0;
    PyObject *key, *item;
    int is_flat = 1;
    budget->held += DICT_HEAD;
    while (PyDict_Next(value, &at, &key, &item)) {
        budget->left -= 2;
        budget->held += ENTRY_SIZE;
        if (!is_atom(key, budget) || budget->left < 0) return NULL;
        is_flat &= is_atom(item, budget);
    }
    PyObject *copy = budget->left < 0 ? NULL : PyDict_Copy(value);
    if (!copy || is_flat) return copy;
    at = 0;
    while (PyDict_Next(copy, &at, &key, &item)) {
        Budget enough = {PY_SSIZE_T_MAX, 0};
        if (is_atom(item, &enough)) continue;
        PyObject *part = snapshot(item, budget, depth + 1);
        if (!part || PyDict_SetItem(copy, key, part) < 0) {  /* the key is there: the size stays */
            Py_XDECREF(part);
            Py_DECREF(copy);
            return NULL;
        }
        Py_DECREF(part);
    }
    return copy;
}

static PyObject *of_list(PyObject *value, Budget *budget, int depth)
{
    Py_ssize_t count = PyList_GET_SIZE(value);
    budget->held += LIST_HEAD + SLOT_SIZE * count;
    if ((budget->left -= 2 * count) < 0) return NULL;
    PyObject *copy = PyList_New(count);
    for (Py_ssize_t at = 0; copy && at < count; at++) {
        PyObject *part = snapshot(PyList_GET_ITEM(value, at), budget, depth + 1);
        if (part) PyList_SET_ITEM(copy, at, part);
        else Py_CLEAR(copy);
    }
    return copy;
}

static PyObject *of_tuple(PyObject *value, Budget *budget, int depth)
{
    Py_ssize_t count = PyTuple_GET_SIZE(value);
    int is_same = 1;
    budget->held += LIST_HEAD + SLOT_SIZE * count;
    if ((budget->left -= 2 * count) < 0) return NULL;
    PyObject *copy = PyTuple_New(count);
    for (Py_ssize_t at = 0; copy && at < count; at++) {
        PyObject *part = snapshot(PyTuple_GET_ITEM(value, at), budget, depth + 1);
        if (!part) { Py_CLEAR(copy); break; }
        is_same &= part == PyTuple_GET_ITEM(value, at);
        PyTuple_SET_ITEM(copy, at, part);
    }
    if (copy && is_same) Py_SETREF(copy, Py_NewRef(value));
    return copy;
}

/* Return a snapshot; NULL, without an exception, where the value is not plain or larger than the budget. */
PyObject *snapshot(PyObject *value, Budget *budget, int depth)
{
    if (is_atom(value, budget)) return budget->left < 0 ? NULL : Py_NewRef(value);
    PyTypeObject *type = Py_TYPE(value);
    PyObject *taken = depth > DEEPEST ? NULL
        : type == &PyDict_Type ? of_dict(value, budget, depth)
        : type == &PyList_Type ? of_list(value, budget, depth)
        : type == &PyTuple_Type ? of_tuple(value, budget, depth) : NULL;
    if (!taken) PyErr_Clear();  /* no memory for it: the slow snapshot may have more luck */
    return taken;
}
