/* Copiers: how the instances of a class are taken without a call of Python: by reference, since they can't change; by their
 * attributes alone; or not at all. flowtrace/values/copies.py says which, once an instance was encoded there.
 *
 * A copier is kept under the address, the version and the name of its class. CPython gives a class another version when an
 * attribute of it or of one of its bases is changed, and no version to two classes: so none need be kept alive. */
#include "native.h"

/* Each class has a row for all whose addresses are alike; where that is full, a later one takes the place of an earlier. */
enum { ROWS = 256, PLACES = 8 };

static Copier known[ROWS][PLACES];
static unsigned int turn;               /* whose place is taken next */
static PyObject *codecs;                /* the dict of those that the program registered: with each, other forms */
static Py_ssize_t codecs_seen;
static PyObject *learn;                 /* takes a class; returns a copier, or None where it is not known yet */
static PyObject *str_sizeof, *str_tzinfo;

/* A type that is not made at run time can't be changed, and has no version. */
static inline int is_fixed(PyTypeObject *type) { return !PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE); }

static unsigned int version_of(PyTypeObject *type)
{
    if (is_fixed(type)) return 0;
#if PY_VERSION_HEX < 0x030D0000
    if (!PyType_HasFeature(type, Py_TPFLAGS_VALID_VERSION_TAG)) return 0;
#endif
    return type->tp_version_tag;
}

/* Have a version given to a class; it has none before something of it is looked up. */
static void give_version(PyTypeObject *type)
{
    if (is_fixed(type)) return;
#if PY_VERSION_HEX >= 0x030C0000
    (void)PyUnstable_Type_AssignVersionTag(type);
#else
    (void)_PyType_Lookup(type, str_sizeof);
#endif
}

static PyObject *name_of(PyTypeObject *type) { return is_fixed(type) ? NULL : ((PyHeapTypeObject *)type)->ht_qualname; }

static Copier *row_of(PyTypeObject *type) { return known[((uintptr_t)type >> 5) % ROWS]; }

static Copier *place_of(PyTypeObject *type)
{
    Copier *row = row_of(type);
    for (int at = 0; at < PLACES; at++)
        if (row[at].type == type) return &row[at];
    return NULL;
}

static Copier *new_place(PyTypeObject *type)
{
    Copier *row = row_of(type), *place = place_of(type);
    for (int at = 0; at < PLACES && !place; at++)
        if (!row[at].type) place = &row[at];
    return place ? place : &row[turn++ % PLACES];
}

static void forget(Copier *copier)
{
    Py_CLEAR(copier->name);
    Py_CLEAR(copier->make);
    Py_CLEAR(copier->names);
    Py_CLEAR(copier->slots);
    copier->type = NULL;
}

/* Return the copier of a class, or NULL where it is not known. */
const Copier *copier_of(PyTypeObject *type)
{
    Copier *copier = place_of(type);
    if (!copier || copier->version != version_of(type) || copier->name != name_of(type)) return NULL;
    return PyDict_GET_SIZE(codecs) == codecs_seen ? copier : NULL;
}

/* --- reading attributes ------------------------------------------------------------------------------------------- */

/* Up to 3.11, what is made here could run the garbage collector, and that any code, which may change what is read. */
#if PY_VERSION_HEX < 0x030C0000
#define STOP_COLLECTING int collects = PyGC_Disable();
#define GO_ON_COLLECTING if (collects) PyGC_Enable();
#else
#define STOP_COLLECTING
#define GO_ON_COLLECTING
#endif

/* Return an object that somebody else holds, too; NULL, without an exception, where there is none. */
static PyObject *borrowed(PyObject *object)
{
    int is_held = object && Py_REFCNT(object) > 1;
    if (!object) PyErr_Clear();
    Py_XDECREF(object);
    return is_held ? object : NULL;
}

PyObject *dictionary_of(PyObject *value)
{
    STOP_COLLECTING
    PyObject *found = borrowed(PyObject_GenericGetDict(value, NULL));
    GO_ON_COLLECTING
    return found && PyDict_CheckExact(found) ? found : NULL;
}

/* What a slot has. Its class is as it was when the copier was found: no property has come before the slot. */
PyObject *slot_of(PyObject *value, PyObject *name)
{
    STOP_COLLECTING
    PyObject *found = borrowed(PyObject_GenericGetAttr(value, name));
    GO_ON_COLLECTING
    return found;
}

/* The items of a set, which hold for as long as it is not changed: a new tuple, or NULL without an exception. */
PyObject *items_of(PyObject *set)
{
    STOP_COLLECTING
    PyObject *items = PySequence_Tuple(set);
    GO_ON_COLLECTING
    if (!items) PyErr_Clear();
    return items;
}

/* No code of the host's can have come into a type that can't be changed. */
static int is_immutable(PyTypeObject *type) { return PyType_HasFeature(type, Py_TPFLAGS_IMMUTABLETYPE); }

/* The tzinfo of a moment, None among them. */
PyObject *zone_of(PyObject *value)
{
    return is_immutable(Py_TYPE(value)) ? borrowed(PyObject_GetAttr(value, str_tzinfo)) : NULL;
}

/* The bytes of memory of a constant; of one that is written in Python, about that. */
Py_ssize_t size_of(PyObject *value)
{
    enum { IN_PYTHON = 256 };
    if (!is_immutable(Py_TYPE(value))) return IN_PYTHON;
    PyObject *size = PyObject_CallMethodNoArgs(value, str_sizeof);
    Py_ssize_t bytes = size ? PyLong_AsSsize_t(size) : -1;
    if (bytes < 0) PyErr_Clear();
    Py_XDECREF(size);
    return bytes;
}

/* --- learning ------------------------------------------------------------------------------------------------------ */

static int note(PyTypeObject *type, unsigned int version, PyObject *answer)
{
    int mode;
    PyObject *make, *names, *slots;
    if (!PyArg_ParseTuple(answer, "iOOO!", &mode, &make, &names, &PyTuple_Type, &slots)) return -1;
    if (!PyFrozenSet_CheckExact(names)) names = NULL;
    Copier *place = new_place(type), before = *place;
    *place = (Copier){type, version, (char)mode, Py_XNewRef(name_of(type)), Py_NewRef(make), Py_XNewRef(names), Py_NewRef(slots)};
    forget(&before);
    return 0;
}

/* Ask Python for the copier of a class, after it has encoded an instance. Return -1 with an exception of the host's. */
int learn_copier(PyTypeObject *type)
{
    if (!learn) return 0;
    if (PyDict_GET_SIZE(codecs) != codecs_seen) {
        for (int at = 0; at < ROWS * PLACES; at++) forget(&known[at / PLACES][at % PLACES]);
        codecs_seen = PyDict_GET_SIZE(codecs);
    }
    give_version(type);
    unsigned int version = version_of(type);
    PyObject *given = (PyObject *)type, *answer = call_unseen(learn, &given, 1);
    if (!answer) return host_raised() ? -1 : 0;
    int is_sure = answer != Py_None && version == version_of(type) && (version || is_fixed(type));
    if (is_sure && note(type, version, answer) < 0) PyErr_Clear();
    Py_DECREF(answer);
    return 0;
}

static PyObject *use_copiers(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *function, *registered;
    if (!PyArg_ParseTuple(args, "OO!:use_copiers", &function, &PyDict_Type, &registered)) return NULL;
    Py_XSETREF(learn, Py_NewRef(function));
    Py_XSETREF(codecs, Py_NewRef(registered));
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"use_copiers", use_copiers, METH_VARARGS,
     "use_copiers(learn, codecs)\n--\n\nAsk a function for the copiers of classes; the program's own codecs are in a dictionary."},
    {NULL, NULL, 0, NULL},
};

int add_copiers(PyObject *module)
{
    str_sizeof = PyUnicode_InternFromString("__sizeof__");
    str_tzinfo = PyUnicode_InternFromString("tzinfo");
    return str_sizeof && str_tzinfo ? PyModule_AddFunctions(module, functions) : -1;
}
