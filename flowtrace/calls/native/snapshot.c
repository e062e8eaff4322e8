/* Snapshots: what a value is at this moment, so that it can be written later, whatever the program does to it.
 *
 * What can't change is kept by reference: numbers, texts, bytes, None, and tuples of them. Of a plain list, dict or tuple
 * the contents are kept, flat, as words: a word is a reference, or the head of a container, whose contents follow it. One
 * block of memory holds all values of a call, and the garbage collector need not know it: nothing in it can form a cycle.
 * Containers are made of it when somebody reads the step, which few steps ever see. Of many objects nothing but the class
 * is written, always: in the place of such an object stands the form that Python has made for its class. Any other value
 * is for the slow snapshot, in Python.
 *
 * No code of Python runs while a value is taken, so that nobody changes it meanwhile. */
#include "native.h"
#include <string.h>

/* About what is held in memory, with the heads of objects. */
enum { HEAD = 32, TEXT_HEAD = 56, CONTAINER_HEAD = 16, FORM_SIZE = 64, DEEPEST = 8 };

static struct { Word *words; size_t count, room; } draft;  /* what is being taken; one for all, since the GIL is held */

static int make_room(void)
{
    size_t room = draft.room ? 2 * draft.room : 64;
    Word *words = PyMem_Realloc(draft.words, room * sizeof(Word));
    if (!words) return -1;
    draft.words = words;
    draft.room = room;
    return 0;
}

static inline int put(Word word)
{
    if (draft.count == draft.room && make_room() < 0) return -1;
    draft.words[draft.count++] = word;
    return 0;
}

static inline int put_head(enum form form, Py_ssize_t count) { return put((Word)count << COUNT_SHIFT | (Word)form); }

/* What it takes from the budget: about what orjson would write. */
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

/* --- forms of classes ---------------------------------------------------------------------------------------------- */

/* A class, as it was when its form was made. Its version is no other class's, and changes with its attributes; but not with
 * its name. One that can't be changed has none. */
typedef struct {
    PyTypeObject *type;                 /* borrowed: a later class at its address has another version */
    unsigned int version;
    PyObject *name;
    PyObject *form;                     /* NULL: its instances can't change, and are kept by reference */
} Settled;

enum { CLASSES = 512 };
static Settled classes[CLASSES];        /* a later class takes the place of an earlier one */

static inline Settled *place_of(PyTypeObject *type) { return &classes[((uintptr_t)type >> 5) % CLASSES]; }
static inline int is_fixed(PyTypeObject *type) { return !(type->tp_flags & Py_TPFLAGS_HEAPTYPE); }
static inline unsigned int version_of(PyTypeObject *type) { return is_fixed(type) ? 0 : type->tp_version_tag; }
static inline PyObject *name_of(PyTypeObject *type)
{
    return is_fixed(type) ? NULL : ((PyHeapTypeObject *)type)->ht_qualname;
}

/* A class has no version before something of it is looked up. */
static void give_version(PyTypeObject *type)
{
#if PY_VERSION_HEX >= 0x030C0000
    (void)PyUnstable_Type_AssignVersionTag(type);
#else
    (void)_PyType_Lookup(type, str_value);  /* whatever it finds */
#endif
}

static void put_class(Settled *place, Settled found)
{
    Settled earlier = *place;
    *place = found;
    Py_XDECREF(earlier.name);
    Py_XDECREF(earlier.form);
}

static PyObject *settle(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyTypeObject *type;
    PyObject *form;
    if (!PyArg_ParseTuple(args, "O!O:settle", &PyType_Type, &type, &form)) return NULL;
    if (form == Py_None) form = NULL;
    if (!is_fixed(type)) give_version(type);
    if (is_fixed(type) || version_of(type))
        put_class(place_of(type), (Settled){type, version_of(type), Py_XNewRef(name_of(type)), Py_XNewRef(form)});
    Py_RETURN_NONE;
}

static PyObject *unsettle(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    for (int at = 0; at < CLASSES; at++) put_class(&classes[at], (Settled){NULL, 0, NULL, NULL});
    Py_RETURN_NONE;
}

enum { NOT_TAKEN, COPIED, SAME };       /* what became of a value; SAME: it can't change, and is a single word */

/* What holds a form is a copy. */
static int take_form(PyObject *value, Budget *budget)
{
    PyTypeObject *type = Py_TYPE(value);
    Settled *place = place_of(type);
    if (place->type != type || place->version != version_of(type) || place->name != name_of(type)) return NOT_TAKEN;
    budget->left -= FORM_SIZE;
    budget->held += (Py_ssize_t)sizeof(Word);
    if (budget->left < 0 || put((Word)(place->form ? place->form : value)) < 0) return NOT_TAKEN;
    return place->form ? COPIED : SAME;
}

/* --- values --------------------------------------------------------------------------------------------------------- */

static int take(PyObject *value, Budget *budget, int depth);

static int take_dict(PyObject *value, Budget *budget, int depth)
{
    Py_ssize_t at = 0, count = PyDict_GET_SIZE(value);
    PyObject *key, *item;
    int settles = budget->settles;
    budget->settles = 0;                /* a key may be a secret name, and then the object itself is looked at */
    budget->held += CONTAINER_HEAD + 2 * (Py_ssize_t)sizeof(Word) * count;
    if (put_head(DICT, count) < 0) return NOT_TAKEN;
    while (PyDict_Next(value, &at, &key, &item)) {
        budget->left -= 2;
        if (!is_atom(key, budget) || put((Word)key) < 0 || !take(item, budget, depth + 1)) return NOT_TAKEN;
    }
    budget->settles = settles;
    return budget->left < 0 ? NOT_TAKEN : COPIED;
}

static int take_sequence(PyObject *value, PyObject *const *items, Py_ssize_t count, enum form form, Budget *budget, int depth)
{
    size_t start = draft.count;
    int is_same = form == TUPLE;
    budget->held += CONTAINER_HEAD + (Py_ssize_t)sizeof(Word) * count;
    if ((budget->left -= 2 * count) < 0 || put_head(form, count) < 0) return NOT_TAKEN;
    for (Py_ssize_t at = 0; at < count; at++) {
        int taken = take(items[at], budget, depth + 1);
        if (!taken) return NOT_TAKEN;
        is_same &= taken == SAME;
    }
    if (!is_same) return COPIED;
    draft.count = start;
    return put((Word)value) < 0 ? NOT_TAKEN : SAME;
}

static int take(PyObject *value, Budget *budget, int depth)
{
    if (is_atom(value, budget)) return budget->left < 0 || put((Word)value) < 0 ? NOT_TAKEN : SAME;
    PyTypeObject *type = Py_TYPE(value);
    if (depth > DEEPEST) return NOT_TAKEN;
    if (type == &PyDict_Type) return take_dict(value, budget, depth);
    if (type == &PyList_Type)
        return take_sequence(value, PySequence_Fast_ITEMS(value), PyList_GET_SIZE(value), LIST, budget, depth);
    if (type == &PyTuple_Type)
        return take_sequence(value, PySequence_Fast_ITEMS(value), PyTuple_GET_SIZE(value), TUPLE, budget, depth);
    return budget->settles ? take_form(value, budget) : NOT_TAKEN;
}

void begin_draft(void) { draft.count = 0; }
int draft_value(PyObject *value, Budget *budget) { return take(value, budget, 0) ? 0 : -1; }
int draft_reference(PyObject *value) { return put((Word)value); }

/* Add the draft to what is kept; NULL begins a block of just that size. Return -1 where there is no memory for it. */
int keep_draft(Kept **kept)
{
    size_t before = *kept ? (*kept)->count : 0, count = before + draft.count;
    if (!*kept || count > (*kept)->room) {
        size_t room = *kept ? 2 * count : count;
        Kept *larger = PyMem_Realloc(*kept, sizeof(Kept) + room * sizeof(Word));
        if (!larger) return -1;
        larger->room = room;
        *kept = larger;
    }
    Word *words = (*kept)->words + before;
    for (size_t at = 0; at < draft.count; at++) {
        if (is_reference(draft.words[at])) Py_INCREF(as_object(draft.words[at]));
        words[at] = draft.words[at];
    }
    (*kept)->count = count;
    return 0;
}

void let_go(Kept **kept)
{
    Kept *old = *kept;
    if (!old) return;
    *kept = NULL;
    for (size_t at = 0; at < old->count; at++)
        if (is_reference(old->words[at])) Py_DECREF(as_object(old->words[at]));
    PyMem_Free(old);
}

/* --- reading ------------------------------------------------------------------------------------------------------- */

static PyObject *value_at(const Word **at);

static PyObject *dict_at(const Word **at, Py_ssize_t count)
{
    PyObject *dict = PyDict_New();
    while (dict && count--) {
        PyObject *key = as_object(*(*at)++), *item = value_at(at);
        if (!item || PyDict_SetItem(dict, key, item) < 0) Py_CLEAR(dict);
        Py_XDECREF(item);
    }
    return dict;
}

static PyObject *value_at(const Word **at)
{
    Word word = *(*at)++;
    if (is_reference(word)) return Py_NewRef(as_object(word));
    Py_ssize_t count = count_of(word);
    if (form_of(word) == DICT) return dict_at(at, count);
    int is_list = form_of(word) == LIST;
    PyObject *made = is_list ? PyList_New(count) : PyTuple_New(count);
    for (Py_ssize_t place = 0; made && place < count; place++) {
        PyObject *item = value_at(at);
        if (!item) Py_CLEAR(made);
        else if (is_list) PyList_SET_ITEM(made, place, item);
        else PyTuple_SET_ITEM(made, place, item);
    }
    return made;
}

static Kept *copy_of(const Kept *kept)
{
    Kept *copy = NULL;
    draft.count = 0;
    while (draft.count < kept->count)
        if (put(kept->words[draft.count]) < 0) return NULL;
    return keep_draft(&copy) < 0 ? NULL : copy;
}

/* Return a new list of all values that are kept; nothing is kept at NULL. Making containers may run the garbage collector,
 * and that any code, which may let go of what is kept here: so they are made of a copy. */
PyObject *values_of(const Kept *kept)
{
    if (!kept) return PyList_New(0);
    Kept *copy = copy_of(kept);
    if (!copy) return PyErr_NoMemory();
    PyObject *list = PyList_New(0);
    const Word *at = copy->words, *end = at + copy->count;
    while (list && at < end) {
        PyObject *value = value_at(&at);
        if (!value || PyList_Append(list, value) < 0) Py_CLEAR(list);
        Py_XDECREF(value);
    }
    let_go(&copy);
    return list;
}

/* --- the types of many values -------------------------------------------------------------------------------------- */

static int add_type(PyObject *set, PyObject *value, PyTypeObject **last)
{
    PyTypeObject *type = Py_TYPE(value);
    if (type == *last) return 0;
    PyObject *number = PyLong_FromVoidPtr(type);
    int did = number ? PySet_Add(set, number) : -1;
    Py_XDECREF(number);
    *last = type;
    return did;
}

/* Of a list, the length is looked at each time: the garbage collector may run meanwhile, and that anything. */
static int add_types(PyObject *set, PyObject *values)
{
    PyTypeObject *last = NULL;
    int did = 0;
    if (PyList_CheckExact(values)) {
        for (Py_ssize_t at = 0; did == 0 && at < PyList_GET_SIZE(values); at++)
            did = add_type(set, PyList_GET_ITEM(values, at), &last);
        return did;
    }
    PyObject *iterator = PyObject_GetIter(values), *value;
    while (iterator && did == 0 && (value = PyIter_Next(iterator))) {
        did = add_type(set, value, &last);
        Py_DECREF(value);
    }
    Py_XDECREF(iterator);
    return PyErr_Occurred() ? -1 : did;
}

static PyObject *ids_of_types(PyObject *Py_UNUSED(module), PyObject *values)
{
    PyObject *set = PySet_New(NULL);
    if (set && add_types(set, values) < 0) Py_CLEAR(set);
    return set;
}

static PyMethodDef functions[] = {
    {"settle", settle, METH_VARARGS,
     "settle(cls, form)\n--\n\nKeep a form for all instances of a class; None where each is kept by reference."},
    {"unsettle", unsettle, METH_NOARGS, "unsettle()\n--\n\nForget the forms of all classes."},
    {"ids_of_types", ids_of_types, METH_O, "ids_of_types(values)\n--\n\nReturn the ids of the types of some values."},
    {NULL, NULL, 0, NULL},
};

int add_snapshots(PyObject *module) { return PyModule_AddFunctions(module, functions); }
