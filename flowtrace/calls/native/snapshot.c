/* Snapshots: what a value is at this moment, so that it can be written later, whatever the program does to it.
 *
 * What can't change is kept by reference: numbers, texts, bytes, None, tuples of them, moments. Of a plain list, dict or
 * tuple the contents are kept, flat, as words: a word is a reference, or the head of a container, whose contents follow it.
 * So are the attributes of an object whose copier is known (copiers.c). One block of memory holds all values of a call, and
 * the garbage collector need not know it: nothing in it can form a cycle. Containers, and what stands for an object, are
 * made of it when somebody reads the step, which few steps ever see. Any other value is for the slow snapshot, in Python.
 *
 * No code of Python runs while a value is taken, so that nobody changes it meanwhile. */
#include "native.h"
#include <string.h>

/* About what is held in memory, with the heads of objects. */
enum { HEAD = 32, TEXT_HEAD = 56, CONTAINER_HEAD = 16, DEEPEST = 8 };

static struct {
    Word *words;
    size_t count, room;
    PyTypeObject *unfamiliar;           /* borrowed */
} draft;                                /* what is being taken; one for all, since the GIL is held */

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
static inline int is_paid(Budget *budget, Py_ssize_t size, Py_ssize_t held)
{
    budget->left -= size;
    budget->held += held;
    return 1;
}

static int is_paid_as_held(Budget *budget, PyObject *value)
{
    Py_ssize_t size = size_of(value);
    return size >= 0 && is_paid(budget, size, size);
}

static inline int is_atom(PyObject *value, Budget *budget)
{
    PyTypeObject *type = Py_TYPE(value);
    if (type == &PyUnicode_Type) {
        Py_ssize_t size = PyUnicode_GET_LENGTH(value) * PyUnicode_KIND(value);
        return is_paid(budget, size + 2, size + TEXT_HEAD);
    }
    if (type == &PyLong_Type) {
        int is_large;
        (void)PyLong_AsLongLongAndOverflow(value, &is_large);  /* can't fail for an exact int */
        return is_large ? is_paid_as_held(budget, value) : is_paid(budget, 8, HEAD);
    }
    if (type == &PyFloat_Type || value == Py_None || type == &PyBool_Type) return is_paid(budget, 8, HEAD);
    if (type == &PyBytes_Type) return is_paid(budget, PyBytes_GET_SIZE(value), PyBytes_GET_SIZE(value) + HEAD);
    return 0;
}

enum { NOT_TAKEN, COPIED, SAME };       /* what became of a value; SAME: it can't change, and is a single word */
static int take(PyObject *value, Budget *budget, int depth);
static int take_object(PyObject *value, Budget *budget, int depth);

/* Where values have names of the program's, one may be a secret; then texts are searched for what the object itself holds. */
static int hide_names(Budget *budget)
{
    int before = budget->takes;
    if (before == ALL_OBJECTS) budget->takes = RECORDS;
    return before;
}

static int take_dict(PyObject *value, Budget *budget, int depth)
{
    Py_ssize_t at = 0, count = PyDict_GET_SIZE(value);
    PyObject *key, *item;
    int before = hide_names(budget);
    budget->held += CONTAINER_HEAD + 2 * (Py_ssize_t)sizeof(Word) * count;
    if (put_head(DICT, count) < 0) return NOT_TAKEN;
    while (PyDict_Next(value, &at, &key, &item)) {
        budget->left -= 2;
        if (!is_atom(key, budget) || put((Word)key) < 0 || !take(item, budget, depth + 1)) return NOT_TAKEN;
    }
    budget->takes = before;
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

enum { MOST_OF_A_SET = 256 };

/* A set holds its items, too: what is taken of the tuple stays when that goes. A large one is for Python, which is asked for
 * less where that takes too much of the time: a program may pass one that grows in each of thousands of calls. */
static int take_set(PyObject *set, Budget *budget, int depth)
{
    Py_ssize_t count = PySet_GET_SIZE(set);
    if (count > MOST_OF_A_SET || (budget->left -= 2 * count) < 0) return NOT_TAKEN;
    PyObject *items = items_of(set);
    if (!items || put_head(PyFrozenSet_CheckExact(set) ? FROZEN_SET : SET, count) < 0) { Py_XDECREF(items); return NOT_TAKEN; }
    budget->held += CONTAINER_HEAD + (Py_ssize_t)sizeof(Word) * count;
    int taken = COPIED;
    for (Py_ssize_t at = 0; taken && at < count; at++) taken = take(PyTuple_GET_ITEM(items, at), budget, depth + 1);
    Py_DECREF(items);
    return taken ? COPIED : NOT_TAKEN;
}

static int take_named(PyObject *name, PyObject *value, Budget *budget, int depth)
{
    return put((Word)name) == 0 && value && take(value, budget, depth + 1);
}

/* May an enum member have an attribute that is not taken? Where it may be secret, only if it says nothing more of it. */
static int may_be_left(PyObject *name, const Copier *copier, int takes)
{
    int is_note = takes == ALL_OBJECTS || PySequence_Contains(copier->slots, name);
    if (is_note < 0) PyErr_Clear();
    return copier->mode == MEMBER && is_note > 0;
}

/* Take the attributes of an object that have the names that its copier says. Return how many they are, or -1. */
static Py_ssize_t take_dictionary(PyObject *value, const Copier *copier, int takes, Budget *budget, int depth)
{
    PyObject *dict = dictionary_of(value), *key, *item;
    Py_ssize_t at = 0, count = 0;
    if (!dict || (copier->mode == FIELDS && PyDict_GET_SIZE(dict) != PySet_GET_SIZE(copier->names))) return -1;
    while (PyDict_Next(dict, &at, &key, &item)) {
        int is_one = PyUnicode_CheckExact(key) ? PySet_Contains(copier->names, key) : -1;
        if (is_one < 0) PyErr_Clear();
        if (is_one < 0 || (!is_one && !may_be_left(key, copier, takes))) return -1;
        if (!is_one) continue;
        if (!take_named(key, item, budget, depth)) return -1;
        count++;
    }
    return count;
}

/* An object that has these attributes, and whose class says all else. */
static int take_attributes(PyObject *value, const Copier *copier, Budget *budget, int depth)
{
    Py_ssize_t named = copier->names ? PySet_GET_SIZE(copier->names) : 0;
    Py_ssize_t slots = copier->mode == MEMBER ? 0 : PyTuple_GET_SIZE(copier->slots);
    int before = hide_names(budget);
    is_paid(budget, 64, CONTAINER_HEAD + 2 * (Py_ssize_t)sizeof(Word) * (named + slots));
    if (put_head(OBJECT, named + slots) < 0 || put((Word)copier->make) < 0) return NOT_TAKEN;
    if (copier->names && take_dictionary(value, copier, before, budget, depth) != named) return NOT_TAKEN;
    if (copier->mode == ITEMS && PyTuple_GET_SIZE(value) != slots) return NOT_TAKEN;
    for (Py_ssize_t at = 0; at < slots; at++) {
        PyObject *name = PyTuple_GET_ITEM(copier->slots, at);
        PyObject *item = copier->mode == ITEMS ? PyTuple_GET_ITEM(value, at) : slot_of(value, name);
        if (!take_named(name, item, budget, depth)) return NOT_TAKEN;
    }
    budget->takes = before;
    return budget->left < 0 ? NOT_TAKEN : COPIED;
}

static int take_constant(PyObject *value, const Copier *copier, Budget *budget, int depth)
{
    PyObject *zone = copier->mode == ZONED ? zone_of(value) : Py_None;
    if (!zone || (zone != Py_None && take_object(zone, budget, depth + 1) != SAME)) return NOT_TAKEN;
    if (zone != Py_None) draft.count--;
    return is_paid_as_held(budget, value) && budget->left >= 0 && put((Word)value) == 0 ? SAME : NOT_TAKEN;
}

static int take_object(PyObject *value, Budget *budget, int depth)
{
    const Copier *copier = copier_of(Py_TYPE(value));
    if (!copier) {
        draft.unfamiliar = Py_TYPE(value);
        return NOT_TAKEN;
    }
    if (copier->mode == BY_REFERENCE || copier->mode == ZONED) return take_constant(value, copier, budget, depth);
    int is_known = copier->mode == NAMED ? budget->takes == ALL_OBJECTS : copier->mode != NEVER && budget->takes != CONSTANTS;
    return is_known ? take_attributes(value, copier, budget, depth) : NOT_TAKEN;
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
    return PyAnySet_CheckExact(value) ? take_set(value, budget, depth) : take_object(value, budget, depth);
}

void begin_draft(void)
{
    draft.count = 0;
    draft.unfamiliar = NULL;
}

PyTypeObject *unfamiliar_class(void) { return (PyTypeObject *)Py_XNewRef((PyObject *)draft.unfamiliar); }
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

static PyObject *set_at(const Word **at, Py_ssize_t count, int is_frozen)
{
    PyObject *set = PySet_New(NULL);
    while (set && count--) {
        PyObject *item = value_at(at);
        if (!item || PySet_Add(set, item) < 0) Py_CLEAR(set);
        Py_XDECREF(item);
    }
    PyObject *made = set && is_frozen ? PyFrozenSet_New(set) : Py_XNewRef(set);
    Py_XDECREF(set);
    return made;
}

/* What Python makes of the attributes of an object. */
static PyObject *stand_in_at(const Word **at, Py_ssize_t count)
{
    PyObject *make = as_object(*(*at)++), *attributes = dict_at(at, count);
    PyObject *made = attributes ? PyObject_CallOneArg(make, attributes) : NULL;
    Py_XDECREF(attributes);
    return made;
}

static PyObject *value_at(const Word **at)
{
    Word word = *(*at)++;
    if (is_reference(word)) return Py_NewRef(as_object(word));
    Py_ssize_t count = count_of(word);
    if (form_of(word) == DICT) return dict_at(at, count);
    if (form_of(word) == OBJECT) return stand_in_at(at, count);
    if (form_of(word) == SET || form_of(word) == FROZEN_SET) return set_at(at, count, form_of(word) == FROZEN_SET);
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
    begin_draft();
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
    {"ids_of_types", ids_of_types, METH_O, "ids_of_types(values)\n--\n\nReturn the ids of the types of some values."},
    {NULL, NULL, 0, NULL},
};

int add_snapshots(PyObject *module) { return PyModule_AddFunctions(module, functions); }
