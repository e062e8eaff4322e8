/* The last steps of a run: at most so many, and at most so many bytes of values. And what a generator yields. */
#include "native.h"

typedef struct {
    Step *step;
    Py_ssize_t size;                    /* as it was counted: a trace that is written changes what the step holds */
} Entry;

typedef struct {
    PyObject_HEAD
    Entry *entries;
    Py_ssize_t room, first, count, bytes, max_bytes;
    int64_t total;
    char counts_bytes;                  /* always: for the pure twin's functions, which look at it */
} Ring;

PyTypeObject *RingType, *StreamType;
static PyTypeObject *StreamBaseType;

/* No division: it costs more than all else here. */
static Entry *entry_at(Ring *ring, Py_ssize_t at)
{
    Py_ssize_t place = ring->first + at;
    return &ring->entries[place < ring->room ? place : place - ring->room];
}

static void drop_oldest(Ring *ring)
{
    Entry oldest = ring->entries[ring->first];
    if (++ring->first == ring->room) ring->first = 0;
    ring->count--;
    ring->bytes -= oldest.size;
    Py_DECREF(oldest.step);
}

/* Ask Python how large the values of a step are that was recorded there. */
static int count_held(Step *step)
{
    PyThreadState *thread = hide_calls();
    PyObject *size = PyObject_CallMethod((PyObject *)step, "size", NULL);
    show_calls(thread);
    step->held = size ? PyLong_AsSsize_t(size) : -1;
    Py_XDECREF(size);
    return step->held < 0 ? -1 : 0;
}

/* Keep a step, and let the oldest ones go that are too many. */
int ring_add(PyObject *self, Step *step)
{
    Ring *ring = (Ring *)self;
    ring->total++;
    if (!ring->room) return 0;
    if (!step->held && count_held(step) < 0) return -1;
    if (step->held > ring->max_bytes) {  /* values that are more than all may hold: their hashes are enough */
        PyThreadState *thread = hide_calls();
        PyObject *done = PyObject_CallMethod((PyObject *)step, "shed", "n", ring->max_bytes);
        show_calls(thread);
        if (!done) return -1;
        Py_DECREF(done);
    }
    Py_INCREF(step);
    while (ring->count == ring->room) drop_oldest(ring);  /* letting go may run code that adds another one */
    *entry_at(ring, ring->count++) = (Entry){step, step->held};
    ring->bytes += step->held;
    while (ring->bytes > ring->max_bytes && ring->count) drop_oldest(ring);
    return 0;
}

static PyObject *py_add(PyObject *self, PyObject *value)
{
    if (!PyObject_TypeCheck(value, StepBaseType)) { PyErr_SetString(PyExc_TypeError, "a step is expected"); return NULL; }
    if (ring_add(self, (Step *)value) < 0) return NULL;
    Py_RETURN_NONE;
}

static PyObject *newest(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    Ring *ring = (Ring *)self;
    PyObject *list = PyList_New(0);
    for (Py_ssize_t at = 0; list && at < ring->count; at++)
        if (PyList_Append(list, (PyObject *)entry_at(ring, at)->step) < 0) Py_CLEAR(list);
    return list;
}

static PyObject *contents(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *list = newest(self, NULL);
    if (!list) return NULL;
    return Py_BuildValue("(NL)", list, (long long)(((Ring *)self)->total - PyList_GET_SIZE(list)));
}

static int ring_clear(Ring *ring)
{
    while (ring->count) drop_oldest(ring);
    return 0;
}

static PyObject *py_clear(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    ring_clear((Ring *)self);
    Py_RETURN_NONE;
}

/* The run of its steps is over: they have its name from now on. */
void ring_leave_run(PyObject *self, PyObject *name)
{
    Ring *ring = (Ring *)self;
    for (Py_ssize_t at = 0; at < ring->count; at++) {
        Step *step = entry_at(ring, at)->step;
        Py_XSETREF(step->ended_run, Py_NewRef(name));
        Py_CLEAR(step->run);
    }
}

PyObject *new_ring(Py_ssize_t room, Py_ssize_t max_bytes)
{
    Ring *ring = (Ring *)RingType->tp_alloc(RingType, 0);
    if (!ring) return NULL;
    ring->room = room;
    ring->counts_bytes = 1;
    ring->max_bytes = max_bytes;
    ring->entries = PyMem_Calloc(room ? room : 1, sizeof(Entry));
    if (ring->entries) return (PyObject *)ring;
    Py_DECREF(ring);
    return PyErr_NoMemory();
}

static PyObject *ring_new(PyTypeObject *Py_UNUSED(type), PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"max_steps", "max_bytes", NULL};
    Py_ssize_t room, max_bytes;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "nn:Ring", names, &room, &max_bytes)) return NULL;
    if (room < 0) { PyErr_SetString(PyExc_ValueError, "max_steps must not be negative"); return NULL; }
    return new_ring(room, max_bytes);
}

static int ring_traverse(Ring *ring, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(ring));
    for (Py_ssize_t at = 0; at < ring->count; at++) Py_VISIT(entry_at(ring, at)->step);
    return 0;
}

static void ring_dealloc(Ring *ring)
{
    PyTypeObject *type = Py_TYPE(ring);
    PyObject_GC_UnTrack(ring);
    ring_clear(ring);
    PyMem_Free(ring->entries);
    type->tp_free(ring);
    Py_DECREF(type);
}

static PyMethodDef ring_methods[] = {
    {"add", py_add, METH_O, "add(step)\n--\n\nKeep a step, and let the oldest ones go that are too many."},
    {"newest", newest, METH_NOARGS, "newest()\n--\n\nReturn the steps, oldest first."},
    {"contents", contents, METH_NOARGS, "contents()\n--\n\nReturn the steps, oldest first, and how many others there were before them."},
    {"clear", py_clear, METH_NOARGS, "clear()\n--\n\nLet go of all steps."},
    {NULL, NULL, 0, NULL},
};
static PyMemberDef ring_members[] = {
    {"bytes", T_PYSSIZET, offsetof(Ring, bytes), READONLY, NULL},
    {"counts_bytes", T_BOOL, offsetof(Ring, counts_bytes), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};
static PyType_Slot ring_slots[] = {
    {Py_tp_new, ring_new}, {Py_tp_dealloc, ring_dealloc}, {Py_tp_traverse, ring_traverse}, {Py_tp_clear, ring_clear},
    {Py_tp_methods, ring_methods}, {Py_tp_members, ring_members}, {0, NULL},
};
static PyType_Spec ring_spec = {
    "flowtrace.calls._native.Ring", sizeof(Ring), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, ring_slots,
};

/* --- streams ------------------------------------------------------------------------------------------------------ */

static int stream_traverse(Stream *stream, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(stream));
    Py_VISIT(stream->hashed);
    return 0;
}

static int stream_clear(Stream *stream)
{
    Py_CLEAR(stream->hashed);
    return 0;
}

static void stream_dealloc(Stream *stream)
{
    PyTypeObject *type = Py_TYPE(stream);
    PyObject_GC_UnTrack(stream);
    stream_clear(stream);
    let_go(&stream->items);
    let_go(&stream->returned);
    type->tp_free(stream);
    Py_DECREF(type);
}

static PyObject *stream_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    return type->tp_alloc(type, 0);
}

Stream *new_stream(void) { return (Stream *)stream_new(StreamType, NULL, NULL); }

/* As for steps: Python's class adds nothing. */
void use_stream_type(PyTypeObject *type)
{
    Py_XSETREF(StreamType, (PyTypeObject *)Py_NewRef((PyObject *)type));
    if (type->tp_base == StreamBaseType && type->tp_basicsize == sizeof(Stream) && !type->tp_finalize && !type->tp_del)
        type->tp_dealloc = (destructor)stream_dealloc;
}

static PyObject *stream_items(PyObject *self, void *Py_UNUSED(closure)) { return values_of(((Stream *)self)->items); }

static PyObject *stream_returned(PyObject *self, void *Py_UNUSED(closure))
{
    PyObject *values = values_of(((Stream *)self)->returned);
    if (values) Py_SETREF(values, PyList_AsTuple(values));
    return values;
}

/* Return the items, whose room is free again. */
PyObject *stream_take_items(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    Stream *stream = (Stream *)self;
    PyObject *values = values_of(stream->items);
    if (values) let_go(&stream->items);
    return values;
}

static PyGetSetDef stream_getset[] = {
    {"items", stream_items, NULL, NULL, NULL}, {"returned", stream_returned, NULL, NULL, NULL}, {NULL, NULL, NULL, NULL, NULL},
};
static PyMethodDef stream_methods[] = {
    {"take_items", stream_take_items, METH_NOARGS, "take_items()\n--\n\nReturn the items, and keep them no longer."},
    {NULL, NULL, 0, NULL},
};
static PyMemberDef stream_members[] = {
    {"hashed", T_OBJECT, offsetof(Stream, hashed), 0, NULL},
    {"held", T_PYSSIZET, offsetof(Stream, held), READONLY, NULL},
    {"is_stopped", T_BOOL, offsetof(Stream, is_stopped), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};
static PyType_Slot stream_slots[] = {
    {Py_tp_new, stream_new}, {Py_tp_dealloc, stream_dealloc}, {Py_tp_traverse, stream_traverse}, {Py_tp_clear, stream_clear},
    {Py_tp_members, stream_members}, {Py_tp_getset, stream_getset}, {Py_tp_methods, stream_methods}, {0, NULL},
};
static PyType_Spec stream_spec = {
    "flowtrace.calls._native.StreamBase", sizeof(Stream), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE, stream_slots,
};

int add_rings(PyObject *module)
{
    RingType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &ring_spec, NULL);
    StreamBaseType = RingType ? (PyTypeObject *)PyType_FromModuleAndSpec(module, &stream_spec, NULL) : NULL;
    if (!StreamBaseType || PyModule_AddObjectRef(module, "Ring", (PyObject *)RingType) < 0) return -1;
    return PyModule_AddObjectRef(module, "StreamBase", (PyObject *)StreamBaseType);
}
