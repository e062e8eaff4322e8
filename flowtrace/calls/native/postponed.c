/* The outermost calls of mode `always` that end while the file of their trace has no turn to be written: each overtakes the
 * one before, so that the last one is kept and the others are only counted. The pure twin is `Postponed` in
 * flowtrace/recording/throttle.py. */
#include "native.h"

typedef struct {
    PyObject_HEAD
    PyObject *last;                     /* a step, or its run where other calls were in it; NULL where there is none */
    Py_ssize_t count;                   /* of them, the last one too */
    int64_t until;                      /* clock reading, in ns; a call that ends from then on has its turn */
} Postponed;

PyTypeObject *PostponedType;

/* May the trace of a call that has ended be written now? */
int has_turn(PyObject *self, Step *step) { return step->ended >= ((Postponed *)self)->until; }

/* Keep a step or a run in the place of the last one. */
void postpone(PyObject *self, PyObject *last)
{
    Postponed *postponed = (Postponed *)self;
    postponed->count++;
    Py_XSETREF(postponed->last, Py_NewRef(last));
}

static PyObject *py_add(PyObject *self, PyObject *value)
{
    if (!PyObject_TypeCheck(value, StepBaseType)) { PyErr_SetString(PyExc_TypeError, "a step is expected"); return NULL; }
    if (has_turn(self, (Step *)value)) Py_RETURN_FALSE;
    postpone(self, value);
    Py_RETURN_TRUE;
}

static PyObject *py_take(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    Postponed *postponed = (Postponed *)self;
    PyObject *last = postponed->last;
    Py_ssize_t count = postponed->count;
    postponed->last = NULL;
    postponed->count = 0;
    return Py_BuildValue("Nn", last ? last : Py_NewRef(Py_None), count);
}

static int postponed_traverse(Postponed *postponed, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(postponed));
    Py_VISIT(postponed->last);
    return 0;
}

static int postponed_clear(Postponed *postponed)
{
    Py_CLEAR(postponed->last);
    return 0;
}

static void postponed_dealloc(Postponed *postponed)
{
    PyTypeObject *type = Py_TYPE(postponed);
    PyObject_GC_UnTrack(postponed);
    postponed_clear(postponed);
    type->tp_free(postponed);
    Py_DECREF(type);
}

static PyMethodDef postponed_methods[] = {
    {"add", py_add, METH_O, "add(step)\n--\n\nKeep a step in the place of the last one; return False where it may be written now."},
    {"take", py_take, METH_NOARGS, "take()\n--\n\nReturn the last step or run, or None, and how many there were; keep none any longer."},
    {NULL, NULL, 0, NULL},
};
static PyMemberDef postponed_members[] = {
    {"until", T_LONGLONG, offsetof(Postponed, until), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};
static PyType_Slot postponed_slots[] = {
    {Py_tp_new, PyType_GenericNew}, {Py_tp_dealloc, postponed_dealloc}, {Py_tp_traverse, postponed_traverse},
    {Py_tp_clear, postponed_clear}, {Py_tp_methods, postponed_methods}, {Py_tp_members, postponed_members}, {0, NULL},
};
static PyType_Spec postponed_spec = {
    "flowtrace.calls._native.Postponed", sizeof(Postponed), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, postponed_slots,
};

int add_postponed(PyObject *module)
{
    PostponedType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &postponed_spec, NULL);
    return PostponedType ? PyModule_AddObjectRef(module, "Postponed", (PyObject *)PostponedType) : -1;
}
