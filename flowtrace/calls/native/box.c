/* The black box's write of a small call: arguments and a result that are small and plain, and of which no key is secret.
 *
 * It leaves the bytes that flowtrace/blackbox/box.py leaves, where they are explained, in the layout of
 * flowtrace/blackbox/ring_file.py. Whatever is not small is written there. */
#include "native.h"
#include <string.h>
#if defined(_MSC_VER)
#include <intrin.h>
#define IN_ORDER() _ReadWriteBarrier()
#else
#define IN_ORDER() __atomic_signal_fence(__ATOMIC_SEQ_CST)
#endif

enum { HAS_DIGEST = 1, HAS_DATA = 2, DIGEST = 32, START_NUMBERS = 5, END_NUMBERS = 3, MOST_AT_ONCE = 2000 };
static const int64_t PRIME = 1073741789;

/* The room for one step in the file, and the notes about a node: Python derives its classes from these. */
typedef struct {
    PyObject_HEAD
    PyObject *owner, *step;
    Py_ssize_t at, body, end;
} Slot;

typedef struct {
    PyObject_HEAD
    PyObject *owner, *names, *bound_names, *not_secret;
    long long number;
    char is_written;
} Entry;

static PyTypeObject *SlotBaseType, *EntryBaseType;
static PyObject *str_entry, *str_reset, *str_update, *str_digest, *str_erase;
static struct {
    PyObject *owner, *nodes, *free, *take, *give_back, *other_slot, *dumps, *options, *hasher;
    Py_buffer map;
    Py_ssize_t keep, limit;
    int writes_results;
} box;

int box_is_open(void) { return box.owner != NULL; }

/* --- a record ----------------------------------------------------------------------------------------------------- */

static void put(unsigned char *at, uint64_t number, int bytes)
{
    for (int index = 0; index < bytes; index++) at[index] = (unsigned char)(number >> (8 * index));
}

/* Adler-32 (RFC 1950), started with the sum of the numbers modulo a prime. */
static uint32_t checksum(const int64_t *numbers, int count, const unsigned char *tail, Py_ssize_t size)
{
    int64_t sum = 0;
    for (int index = 0; index < count; index++) sum += numbers[index] % PRIME;
    sum %= PRIME;
    if (sum < 0) sum += PRIME;
    uint64_t low = (uint64_t)sum & 0xFFFF, high = (uint64_t)sum >> 16;
    for (Py_ssize_t index = 0; index < size; index++) high += low += tail[index];
    return (uint32_t)(high % 65521 << 16 | low % 65521);
}

/* Write a record: its checksum, its numbers, the step's last, and its tail. A process may be killed between any two
 * instructions: so the record has no step while it is written, and gets its step when all else is there. */
static void write_record(Py_ssize_t place, const int64_t *numbers, int count, const char *tail, Py_ssize_t size)
{
    unsigned char *at = (unsigned char *)box.map.buf + place, *last = at + 4 + 8 * (count - 1);
    put(last, 0, 8);
    IN_ORDER();
    put(at, checksum(numbers, count, (const unsigned char *)tail, size), 4);
    for (int index = 0; index < count - 1; index++) put(at + 4 + 8 * index, (uint64_t)numbers[index], 8);
    memcpy(last + 8, tail, (size_t)size);
    IN_ORDER();
    put(last, (uint64_t)numbers[count - 1], 8);
}

/* --- values ------------------------------------------------------------------------------------------------------- */

static int hides_nothing(PyObject *value, PyObject *not_secret);

static int items_hide_nothing(PyObject *const *items, Py_ssize_t count, PyObject *not_secret)
{
    for (Py_ssize_t at = 0; at < count; at++)
        if (!hides_nothing(items[at], not_secret)) return 0;
    return 1;
}

/* Return 1 for a snapshot that JSON has as it is, and of which all keys are known as not secret. */
static int hides_nothing(PyObject *value, PyObject *not_secret)
{
    PyTypeObject *type = Py_TYPE(value);
    PyObject *key, *item;
    Py_ssize_t at = 0;
    if (type == &PyList_Type || type == &PyTuple_Type)
        return items_hide_nothing(PySequence_Fast_ITEMS(value), PySequence_Fast_GET_SIZE(value), not_secret);
    if (type != &PyDict_Type) return type != &PyBytes_Type;
    while (PyDict_Next(value, &at, &key, &item))
        if (Py_TYPE(key) != &PyUnicode_Type || PySet_Contains(not_secret, key) != 1 || !hides_nothing(item, not_secret)) return 0;
    return 1;
}

/* Return the canonical JSON text of a value that hides nothing; NULL, without an exception, where it is too long. */
static PyObject *text_of(PyObject *value)
{
    PyObject *given[] = {value, Py_None, box.options};
    PyObject *text = PyObject_Vectorcall(box.dumps, given, 3, NULL);
    if (text && (!PyBytes_CheckExact(text) || PyBytes_GET_SIZE(text) > box.limit)) Py_CLEAR(text);
    if (!text) PyErr_Clear();  /* a lone surrogate, or no memory: no code of the host's has run */
    return text;
}

/* The hash of a text. A short one is hashed without letting other threads run, so that one hasher is enough. */
static PyObject *hash_of(PyObject *text)
{
    PyObject *done = PyBytes_GET_SIZE(text) > MOST_AT_ONCE ? NULL : PyObject_CallMethodNoArgs(box.hasher, str_reset);
    Py_XDECREF(done);
    if (done) done = PyObject_CallMethodOneArg(box.hasher, str_update, text);
    Py_XDECREF(done);
    PyObject *digest = done ? PyObject_CallMethodNoArgs(box.hasher, str_digest) : NULL;
    if (digest && PyBytes_CheckExact(digest) && PyBytes_GET_SIZE(digest) == DIGEST) return digest;
    PyErr_Clear();
    Py_XDECREF(digest);
    return NULL;
}

/* What is written of a text: itself, or its hash; takes the reference. */
static PyObject *tail_of(PyObject *text, int is_written)
{
    if (!text || is_written) return text;
    PyObject *digest = hash_of(text);
    Py_DECREF(text);
    return digest;
}

static int64_t packed(PyObject *tail, int is_written, int64_t node)
{
    return (int64_t)PyBytes_GET_SIZE(tail) | (int64_t)(is_written ? HAS_DATA : HAS_DIGEST) << 26 | node << 32;
}

/* --- a step starts ------------------------------------------------------------------------------------------------ */

static Entry *entry_of(Step *step)
{
    PyObject *entry = step->node ? PyObject_GetAttr(step->node, str_entry) : NULL;
    if (entry && PyObject_TypeCheck(entry, EntryBaseType) && ((Entry *)entry)->owner == box.nodes
        && ((Entry *)entry)->not_secret && PyAnySet_Check(((Entry *)entry)->not_secret)) return (Entry *)entry;
    PyErr_Clear();
    Py_XDECREF(entry);
    return NULL;
}

/* The object of a call's parameters, where each was given by its position and hides nothing; else NULL, without an
 * exception. */
static PyObject *payload_of(Step *step, Entry *entry)
{
    PyObject *names = step->bound ? entry->bound_names : entry->names, *taken = step->input;
    if (!taken || !PyTuple_CheckExact(taken) || !names || !PyTuple_CheckExact(names)) return NULL;
    Py_ssize_t count = PyTuple_GET_SIZE(taken) - 1;
    PyObject *const *values = PySequence_Fast_ITEMS(taken);
    if (count != PyTuple_GET_SIZE(names) || values[count] != Py_None
        || !items_hide_nothing(values, count, entry->not_secret)) return NULL;
    PyObject *payload = PyDict_New();
    for (Py_ssize_t at = 0; payload && at < count; at++)
        if (PyDict_SetItem(payload, PyTuple_GET_ITEM(names, at), values[at]) < 0) Py_CLEAR(payload);
    if (!payload) PyErr_Clear();
    return payload;
}

/* Take the slot of the step that ended first, once there are more than have to stay; None where all are taken. */
static PyObject *take_slot(void)
{
    Py_ssize_t count = box_is_open() ? PyObject_Size(box.free) : -1;
    if (count < 0) return NULL;
    PyObject *take = Py_NewRef(count > box.keep ? box.take : box.other_slot);  /* which runs Python: it may close the box */
    PyObject *slot = call_unseen(take, NULL, 0);
    Py_DECREF(take);
    return slot;
}

/* Is this a slot of the open box? Wherever Python may run, and be it in a finalizer, another thread may have closed it. */
static int is_our_slot(PyObject *slot)
{
    return box_is_open() && slot && PyObject_TypeCheck(slot, SlotBaseType) && ((Slot *)slot)->owner == box.owner;
}

/* Write the start of a step into a slot; -1 with or without an exception. */
static int write_start(Step *step, int64_t about, PyObject *tail)
{
    if (read_clock(&step->started) < 0) return -1;  /* as late as can be: what is recorded is the call */
    PyObject *slot = take_slot();
    if (!slot) return -1;
    if (is_our_slot(slot)) {
        Slot *room = (Slot *)slot;
        Py_ssize_t size = PyBytes_GET_SIZE(tail);
        int64_t numbers[] = {step->parent, step->started, (int64_t)step->thread, about, step->number};
        room->end = room->body + size;
        write_record(room->at, numbers, START_NUMBERS, PyBytes_AS_STRING(tail), size);
        Py_XSETREF(step->slot, Py_NewRef(slot));
    }
    Py_DECREF(slot);
    return 0;
}

/* Write that a step runs; -1 with an exception of the host's. */
int box_starts(Step *step)
{
    Entry *entry = entry_of(step);
    int is_written = entry && entry->is_written, did = -1;
    PyObject *payload = entry ? payload_of(step, entry) : NULL;
    PyObject *tail = payload && box_is_open() ? tail_of(text_of(payload), is_written) : NULL;
    Py_XDECREF(payload);
    if (tail) did = write_start(step, packed(tail, is_written, entry->number), tail);
    Py_XDECREF(tail);
    Py_XDECREF((PyObject *)entry);
    if (did == 0) return 0;
    return failed_for_host() < 0 ? -1 : call_out(callouts.start_processed, (PyObject *)step, NULL);
}

/* A step could not be started after all. */
void box_erases(Step *step)
{
    if (!step->slot || step->slot == Py_None) return;
    PyObject *error = take_raised();
    PyThreadState *thread = hide_calls();
    PyObject *done = PyObject_CallMethodOneArg(step->slot, str_erase, (PyObject *)step);
    show_calls(thread);
    if (!done) PyErr_Clear();
    Py_XDECREF(done);
    raise_again(error);
}

/* --- a step ends -------------------------------------------------------------------------------------------------- */

/* Write a small result; 1 if that is done, 0 if it is not small, -1 with an exception of the host's. */
static int write_end(Step *step, PyObject *output)
{
    Slot *room = (Slot *)step->slot;
    Entry *entry = is_our_slot(step->slot) && box.limit >= 0 ? entry_of(step) : NULL;
    int is_open = entry && hides_nothing(output, entry->not_secret);
    Py_XDECREF((PyObject *)entry);
    PyObject *tail = is_open ? tail_of(text_of(output), box.writes_results) : NULL;
    if (!tail || !is_our_slot(step->slot)) { Py_XDECREF(tail); return 0; }
    int64_t numbers[] = {step->ended - step->started, packed(tail, box.writes_results, 0), step->number};
    write_record(room->end, numbers, END_NUMBERS, PyBytes_AS_STRING(tail), PyBytes_GET_SIZE(tail));
    Py_DECREF(tail);
    step->slot = NULL;
    PyObject *given = (PyObject *)room;
    PyObject *done = call_unseen(box.give_back, &given, 1);
    Py_DECREF((PyObject *)room);
    if (!done) return failed_for_host() < 0 ? -1 : 1;
    Py_DECREF(done);
    return 1;
}

/* Write that a step has ended with a result, of which `taken` is the snapshot, or NULL. */
int box_ends(Step *step, PyObject *value, PyObject *taken)
{
    int did = taken && (!step->rest || step->rest == Py_None) ? write_end(step, taken) : 0;
    return did ? did : call_out(callouts.end_processed, (PyObject *)step, value);
}

/* --- what Python gives -------------------------------------------------------------------------------------------- */

static PyObject *close_box(PyObject *Py_UNUSED(module), PyObject *owner)
{
    if (box.owner != owner || !owner) Py_RETURN_NONE;
    PyObject *parts[] = {box.owner, box.nodes, box.free, box.take, box.give_back, box.other_slot, box.dumps, box.options, box.hasher};
    Py_buffer map = box.map;
    memset(&box, 0, sizeof(box));
    PyBuffer_Release(&map);
    for (size_t at = 0; at < sizeof(parts) / sizeof(*parts); at++) Py_XDECREF(parts[at]);
    Py_RETURN_NONE;
}

static PyObject *open_box(PyObject *Py_UNUSED(module), PyObject *args, PyObject *kwargs)
{
    static char *names[] = {
        "owner", "map", "nodes", "free", "take", "give_back", "other_slot", "dumps", "options", "hasher", "keep", "limit",
        "writes_results", NULL,
    };
    PyObject *owner, *nodes, *free, *take, *give_back, *other_slot, *dumps, *options, *hasher;
    Py_buffer map;
    Py_ssize_t keep, limit;
    int writes_results;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "Ow*OOOOOOOOnnp:open_box", names, &owner, &map, &nodes, &free, &take,
                                     &give_back, &other_slot, &dumps, &options, &hasher, &keep, &limit, &writes_results))
        return NULL;
    if (box_is_open()) {
        PyBuffer_Release(&map);
        PyErr_SetString(PyExc_RuntimeError, "another black box is open: close_box comes first");
        return NULL;
    }
    box.map = map;
    box.nodes = Py_NewRef(nodes);
    box.free = Py_NewRef(free);
    box.take = Py_NewRef(take);
    box.give_back = Py_NewRef(give_back);
    box.other_slot = Py_NewRef(other_slot);
    box.dumps = Py_NewRef(dumps);
    box.options = Py_NewRef(options);
    box.hasher = Py_NewRef(hasher);
    box.keep = keep;
    box.limit = limit;
    box.writes_results = writes_results;
    box.owner = Py_NewRef(owner);
    Py_RETURN_NONE;
}

/* --- types: Python derives its classes from these ----------------------------------------------------------------- */

static int slot_traverse(Slot *slot, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(slot));
    Py_VISIT(slot->owner);
    Py_VISIT(slot->step);
    return 0;
}

static int slot_clear(Slot *slot)
{
    Py_CLEAR(slot->owner);
    Py_CLEAR(slot->step);
    return 0;
}

static int entry_traverse(Entry *entry, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(entry));
    Py_VISIT(entry->owner);
    Py_VISIT(entry->names);
    Py_VISIT(entry->bound_names);
    Py_VISIT(entry->not_secret);
    return 0;
}

static int entry_clear(Entry *entry)
{
    Py_CLEAR(entry->owner);
    Py_CLEAR(entry->names);
    Py_CLEAR(entry->bound_names);
    Py_CLEAR(entry->not_secret);
    return 0;
}

static void free_object(PyObject *self, inquiry clear)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static void slot_dealloc(PyObject *self) { free_object(self, (inquiry)slot_clear); }
static void entry_dealloc(PyObject *self) { free_object(self, (inquiry)entry_clear); }

static PyObject *new_object(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs)) { return type->tp_alloc(type, 0); }

static PyMemberDef slot_members[] = {
    {"owner", T_OBJECT, offsetof(Slot, owner), 0, NULL},
    {"step", T_OBJECT, offsetof(Slot, step), 0, NULL},
    {"at", T_PYSSIZET, offsetof(Slot, at), 0, NULL},
    {"body", T_PYSSIZET, offsetof(Slot, body), 0, NULL},
    {"end", T_PYSSIZET, offsetof(Slot, end), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};
static PyMemberDef entry_members[] = {
    {"owner", T_OBJECT, offsetof(Entry, owner), 0, NULL},
    {"names", T_OBJECT, offsetof(Entry, names), 0, NULL},
    {"bound_names", T_OBJECT, offsetof(Entry, bound_names), 0, NULL},
    {"not_secret", T_OBJECT, offsetof(Entry, not_secret), 0, NULL},
    {"number", T_LONGLONG, offsetof(Entry, number), 0, NULL},
    {"is_written", T_BOOL, offsetof(Entry, is_written), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};
#define SLOTS(name) \
    {Py_tp_new, new_object}, {Py_tp_dealloc, name##_dealloc}, {Py_tp_traverse, name##_traverse}, \
    {Py_tp_clear, name##_clear}, {Py_tp_members, name##_members}, {0, NULL}
#define FLAGS (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE)
static PyType_Slot slot_slots[] = {SLOTS(slot)};
static PyType_Slot entry_slots[] = {SLOTS(entry)};
static PyType_Spec slot_spec = {"flowtrace.calls._native.SlotBase", sizeof(Slot), 0, FLAGS, slot_slots};
static PyType_Spec entry_spec = {"flowtrace.calls._native.EntryBase", sizeof(Entry), 0, FLAGS, entry_slots};
static PyMethodDef functions[] = {
    {"open_box", (PyCFunction)(void (*)(void))open_box, METH_VARARGS | METH_KEYWORDS,
     "open_box(**parts)\n--\n\nWrite small calls into this black box from now on."},
    {"close_box", close_box, METH_O, "close_box(owner)\n--\n\nLet go of a black box, if it is the open one."},
    {NULL, NULL, 0, NULL},
};

int add_box(PyObject *module)
{
    if (!(str_entry = PyUnicode_InternFromString("entry")) || !(str_reset = PyUnicode_InternFromString("reset"))
        || !(str_update = PyUnicode_InternFromString("update")) || !(str_digest = PyUnicode_InternFromString("digest"))
        || !(str_erase = PyUnicode_InternFromString("erase"))) return -1;
    SlotBaseType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &slot_spec, NULL);
    EntryBaseType = SlotBaseType ? (PyTypeObject *)PyType_FromModuleAndSpec(module, &entry_spec, NULL) : NULL;
    if (!EntryBaseType || PyModule_AddFunctions(module, functions) < 0
        || PyModule_AddObjectRef(module, "SlotBase", (PyObject *)SlotBaseType) < 0) return -1;
    return PyModule_AddObjectRef(module, "EntryBase", (PyObject *)EntryBaseType);
}
