/* What the files of the native core share.
 *
 * The core stands between a caller and a traced function, where the pure twin (flowtrace/calls/pure.py, which says the
 * same in Python) would put a frame of ours. It is written against the public C API of CPython 3.11 to 3.15.
 *
 * A *subject* says what is recorded (subject.c). Its functions are Python; they handle every fault of ours themselves.
 * So an exception that leaves one of them was raised by a signal handler of the host, and goes to the host; but for
 * RecursionError, which only says that there was no room left to record anything. An exception that one of them *returns*
 * is to be raised in place of the call: raised here, it has no frame of ours.
 */
#ifndef FLOWTRACE_NATIVE_H
#define FLOWTRACE_NATIVE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <structmember.h>

#if defined(__GNUC__)
#pragma GCC visibility push(hidden) /* names of ours must not meet those of other libraries in the process */
#endif

#if defined(_MSC_VER)
#define NOT_INLINE __declspec(noinline)
#else
#define NOT_INLINE __attribute__((noinline))
#endif

/* Which body the call of a function makes. The numbers are those of flowtrace/calls/core.py. */
enum kind { PLAIN, COROUTINE, GENERATOR, ASYNC_GENERATOR, ITERABLE_COROUTINE, KINDS };

/* --- errors.c --------------------------------------------------------------------------------------------------- */

PyObject *take_raised(void);            /* the exception that is raised, which is cleared; a new reference or NULL */
void raise_again(PyObject *error);      /* takes the reference; NULL raises nothing */
void raise_stop(PyObject *value);       /* StopIteration(value), whatever the value is */
PyObject *take_stop_value(void);        /* clears a raised StopIteration and returns its value; else NULL */
int host_raised(void);                  /* after a callout failed: 1 if the exception is the host's, which stays raised */
int failed_for_host(void);              /* the same, with or without an exception: -1 if it is the host's, else 0 */

void raise_newer(PyObject *older);      /* takes the reference: the context of what is raised now */
int raised_by_handler(void);            /* after a fault: -1 if it is a signal handler's, which stays raised, else 0 */
void raise_in_program(PyObject *where); /* takes what is raised, where nothing can be raised */

/* --- stack.c ---------------------------------------------------------------------------------------------------- */

#if defined(_WIN32)
#define THREAD_LOCAL __declspec(thread)
#elif defined(__GLIBC__)                /* no function is called to find it; musl can't do that for a module */
#define THREAD_LOCAL _Thread_local __attribute__((tls_model("initial-exec")))
#else
#define THREAD_LOCAL _Thread_local
#endif

#if PY_VERSION_HEX < 0x030E0000
extern THREAD_LOCAL char *stack_calm;   /* above it there is nothing to look after */
int is_below_floor(char *here);

/* Raise RecursionError where the C stack is nearly used up. */
static inline int no_stack_left(void)
{
    char here;
    return &here < stack_calm && is_below_floor(&here);
}
#else
static inline int no_stack_left(void) { return 0; }
#endif

#if PY_VERSION_HEX >= 0x030C0000 && PY_VERSION_HEX < 0x030E0000
#define UNITS_OF_AN_ENTRY 2
#define GIVE_BACK \
    char here; \
    PyThreadState *thread = &here < stack_calm ? PyThreadState_Get() : NULL; \
    if (thread) thread->c_recursion_remaining += UNITS_OF_AN_ENTRY;
#define TAKE_BACK if (thread) thread->c_recursion_remaining -= UNITS_OF_AN_ENTRY;
#else
#define GIVE_BACK
#define TAKE_BACK
#endif

/* Call what is traced. Somebody may replace __wrapped__ meanwhile: a function keeps itself alive while it runs, and to
 * anything else the reference is our own. */
static inline PyObject *call_through(PyObject *callee, PyObject *const *args, size_t flags, PyObject *names)
{
    PyObject *result;
    GIVE_BACK
    if (Py_TYPE(callee) == &PyFunction_Type) result = ((PyFunctionObject *)callee)->vectorcall(callee, args, flags, names);
    else {
        Py_INCREF(callee);
        result = PyObject_Vectorcall(callee, args, flags, names);
        Py_DECREF(callee);
    }
    TAKE_BACK
    return result;
}

PyObject *next_through(PyObject *iterator);
PySendResult send_through(PyObject *body, PyObject *value, PyObject **result);

/* --- unseen.c --------------------------------------------------------------------------------------------------- */

/* Every call of the Python half is between these two. */
PyThreadState *hide_calls(void);
void show_calls(PyThreadState *thread);
int is_asked_about_us(void);
PyObject *call_unseen(PyObject *function, PyObject *const *args, Py_ssize_t count);

/* --- objects that were let go, ready for the next of their type: while they come and go, none is allocated ------ */

typedef struct {
    PyObject *objects[32];
    int count;
} Spare;

static inline PyObject *take_spare(Spare *spare, PyTypeObject *type)
{
    return spare->count ? PyObject_Init(spare->objects[--spare->count], type) : PyObject_GC_New(PyObject, type);
}

/* Keep an object that is taken apart, or free it; lets its type go. Whose finalizer has run is not used again: the mark of
 * that stays, and its finalizer would not run a second time. */
static inline void put_spare(Spare *spare, void *object, PyTypeObject *type, PyTypeObject *expected)
{
    int has_room = spare->count < (int)(sizeof(spare->objects) / sizeof(*spare->objects));
    if (type == expected && has_room && !PyObject_GC_IsFinalized((PyObject *)object))
        spare->objects[spare->count++] = (PyObject *)object;
    else type->tp_free(object);
    Py_DECREF(type);
}

/* --- subject.c -------------------------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    PyObject *begin, *prepare, *start, *suspend, *resume, *emit, *end, *end_stream, *fail;
    PyObject *target;
    char takes_receiver, is_bound;
    char is_simple;                     /* a node: its calls may take the fast path */
    char is_simple_unchecked;           /* the same for a node with checks of values, while nothing is checked */
    char has_live_defaults;             /* objects that may change: Python takes them, with the arguments */
    PyObject *open_names;               /* parameters, none of whose values is hidden; else NULL */
    char has_open_result;
    unsigned long asked;                /* when Python was asked for these two, as record.c counts; 0 where it was not */
    int64_t slow_after;                 /* nanoseconds after which a call is slow; 0 follows the recorder */
    PyObject *function, *code, *defaults, *keyword_defaults;  /* a plain function, and what it had when it was looked at */
} Subject;

enum { REFUSED = -2 };                  /* the exception that is raised stands for the call, whose body must not go on */

extern PyTypeObject *SubjectType;
extern PyObject *switch_list;           /* not empty while calls are recorded */

/* Was a function given other code or other defaults? Then Python looks at it again. */
static inline int is_changed(Subject *subject)
{
    PyFunctionObject *f = (PyFunctionObject *)subject->function;
    return f && (f->func_code != subject->code || f->func_defaults != subject->defaults
        || f->func_kwdefaults != subject->keyword_defaults);
}

static inline int is_on(void) { return PyList_GET_SIZE(switch_list) != 0; }

/* Each returns 1 and a step, 0 where the call is not recorded, -1 with an exception for the host. */
int subject_begin(Subject *subject, PyObject *const *args, Py_ssize_t count, PyObject *names, PyObject **step);
int subject_prepare(Subject *subject, PyObject *const *args, Py_ssize_t count, PyObject *names, PyObject **step);
int subject_begin_packed(Subject *subject, int starts, PyObject *instance, PyObject *args, PyObject *kwargs, PyObject **step);

PyObject *as_tuple(PyObject *const *items, Py_ssize_t count);
PyObject *as_dict(PyObject *const *values, PyObject *names);

/* --- snapshot.c ------------------------------------------------------------------------------------------------- */

typedef uintptr_t Word;                 /* a reference, which is even, or the head of a container: what is in that follows */

enum form { DICT = 1, LIST = 3, TUPLE = 5, OBJECT = 7, SET = 9, FROZEN_SET = 11, FORM = 15, COUNT_SHIFT = 4 };  /* all odd */
static inline int is_reference(Word word) { return !(word & 1); }
static inline PyObject *as_object(Word word) { return (PyObject *)word; }
static inline enum form form_of(Word word) { return (enum form)(word & FORM); }
static inline Py_ssize_t count_of(Word word) { return (Py_ssize_t)(word >> COUNT_SHIFT); }

typedef struct {
    size_t count, room;
    Word words[];
} Kept;                                 /* values as they were; each is its owner's alone */

typedef struct {
    Py_ssize_t left;                    /* of what a small value may have, about as JSON counts */
    Py_ssize_t held;                    /* bytes of memory that a snapshot keeps */
    int takes;                          /* of `enum takes` */
} Budget;

/* Which objects may be taken: none that can change; those with attributes; those of which only the class is written, too. */
enum takes { CONSTANTS, RECORDS, ALL_OBJECTS };

void begin_draft(void);
PyTypeObject *unfamiliar_class(void);   /* of which no copier is known: why there is no draft; a reference, or NULL */
int draft_value(PyObject *value, Budget *budget);  /* -1, without an exception, where it is not plain, or too large */
int draft_reference(PyObject *value);
int keep_draft(Kept **kept);            /* -1, without an exception, where there is no memory */
void let_go(Kept **kept);
PyObject *values_of(const Kept *kept);  /* a new list */

/* --- copiers.c --------------------------------------------------------------------------------------------------- */

/* How an instance is taken. The numbers are those of flowtrace/values/copies.py. */
enum copy_mode { NEVER, BY_REFERENCE, ZONED, NAMED, FIELDS, MEMBER, ITEMS };

typedef struct {
    PyTypeObject *type;                 /* borrowed: a later class at its address has another version */
    unsigned int version;
    char mode;
    PyObject *name, *make, *names, *slots;  /* the qualified name; a function; a frozenset, or NULL; a tuple */
} Copier;

const Copier *copier_of(PyTypeObject *type);
int learn_copier(PyTypeObject *type);
PyObject *dictionary_of(PyObject *value);
PyObject *slot_of(PyObject *value, PyObject *name);
PyObject *zone_of(PyObject *value);
PyObject *items_of(PyObject *set);
Py_ssize_t size_of(PyObject *value);

/* --- step.c ----------------------------------------------------------------------------------------------------- */

typedef struct Step {
    PyObject_HEAD
    PyObject *node, *input, *output, *run, *ended_run, *previous, *token, *stream, *slot, *rest;
    Kept *arguments, *result;           /* taken here; else input and output are what Python took, or NULL */
    PyObject *outside, *inside;         /* context.c: the mappings without this step and with it, or NULL */
    PyObject *around;                   /* what is current in the first of them, borrowed from it */
    PyObject *weakrefs;
    struct Step *before, *after;        /* in the list of steps in flight */
    int64_t number, parent, started, ended;
    Py_ssize_t held;                    /* bytes of memory, with its values; 0 where Python has to count them */
    unsigned long thread;
    char bound, owns_run;
    char is_listed;                     /* in flight, and started here: the core ends it, too */
} Step;

extern PyTypeObject *StepType, *StepBaseType;  /* Python's class, and what it derives from */
extern PyObject *current;

Step *new_step(void);
int read_clock(int64_t *time);           /* -1 with or without an exception */
int read_own_clock(int64_t *time);       /* -1 without an exception where the clock is another */
int start_step(Step *step);             /* -1, with or without an exception, and then it is not current */
int leave_step(Step *step);             /* -1 with an exception of the host's */
void suspend_step(Step *step);
void use_step_type(PyTypeObject *type);
int resume_step(Step *step);

/* --- context.c -------------------------------------------------------------------------------------------------- */

void learn_contexts(void);
int enter(Step *step, PyObject *around);  /* -1 with an exception */
int enter_again(Step *step);            /* 0 where it has to be entered, or left, otherwise */
int leave_again(Step *step);
void leave_pair(Step *step);

/* --- ring.c ----------------------------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    PyObject *hashed;                   /* Python's running hash */
    Kept *items, *returned;             /* what is not hashed yet; nothing, or what the generator returned */
    Py_ssize_t spent, held;             /* by the items */
    char is_stopped;                    /* no more items are taken */
    char is_left_out;                   /* nor is anything kept of those before */
} Stream;

extern PyTypeObject *RingType, *StreamType;

int ring_add(PyObject *ring, Step *step);
PyObject *new_ring(Py_ssize_t room, Py_ssize_t max_bytes);
void ring_leave_run(PyObject *ring, PyObject *name);
Stream *new_stream(void);
void use_stream_type(PyTypeObject *type);
PyObject *stream_take_items(PyObject *stream, PyObject *ignored);

/* --- postponed.c ------------------------------------------------------------------------------------------------ */

extern PyTypeObject *PostponedType;

int has_turn(PyObject *postponed, Step *step);
void postpone(PyObject *postponed, PyObject *last);

/* --- run.c ------------------------------------------------------------------------------------------------------ */

PyObject *open_own_run(Step *step);
int close_own_run(Step *step, PyObject *postponed);

/* --- record.c --------------------------------------------------------------------------------------------------- */

extern struct callouts {
    PyObject *open_run, *add_to_run, *write_due, *slow_input, *slow_output, *hash_items, *finish_hashed, *ended,
        *stream_ended, *failed, *start_processed, *end_processed, *finish_processed, *thread_number, *is_from_handler, *raise_later,
        *open_values;
} callouts;

int call_out(PyObject *function, PyObject *first, PyObject *second);
int takes_fast_path(Subject *subject);
int fast_begin(Subject *subject, PyObject *const *args, Py_ssize_t count, PyObject *names, int bound, PyObject **step);
int fast_prepare(Subject *subject, PyObject *const *args, Py_ssize_t count, PyObject *names, int bound, PyObject **step);

/* Each returns 0, or -1 with an exception of the host's, or REFUSED. */
int step_starts(Subject *subject, PyObject *step);
int step_suspends(Subject *subject, PyObject *step);
int step_resumes(Subject *subject, PyObject *step);
int step_emits(Subject *subject, PyObject *step, PyObject *value);
int step_ends(Subject *subject, PyObject *step, PyObject *value);
int step_ends_stream(Subject *subject, PyObject *step, PyObject *returned);  /* NULL: it was closed */
void step_fails(Subject *subject, PyObject *step);  /* the exception stays raised, or is replaced by a newer one of the host's */

/* --- text.c ------------------------------------------------------------------------------------------------------- */

enum { MOST_KEYS = 32 };                /* of an object */

Py_ssize_t text_of_value(const Word *value, PyObject *not_secret, PyObject *dumps, char *room, Py_ssize_t size);
Py_ssize_t text_of_call(const Kept *kept, PyObject *names, PyObject *defaults, PyObject *not_secret, PyObject *dumps, char *room,
                        Py_ssize_t size);
int holds_no_secret(const char *at, Py_ssize_t length);

/* --- blake3.c ----------------------------------------------------------------------------------------------------- */

enum { DIGEST = 32, SHORT_TEXT = 1024 };

void hash_short(const unsigned char *text, Py_ssize_t size, unsigned char digest[DIGEST]);

/* --- box.c -------------------------------------------------------------------------------------------------------- */

int box_is_open(void);
int box_starts(Step *step);             /* -1 with an exception of the host's */
void box_erases(Step *step);            /* a step that could not be started after all */
int box_ends(Step *step, PyObject *value, const Kept *taken);  /* -1 with an exception of the host's */

/* --- function.c and body.c -------------------------------------------------------------------------------------- */

extern PyTypeObject *FunctionType_, *RecorderType;
extern PyObject *function_names, *body_names;  /* frozensets: what is looked up in our object and not in what it stands for */

PyObject *body_around(Subject *subject, PyObject *step, PyObject *inner, int kind);  /* takes step and inner */
int add_functions(PyObject *module);
int add_bodies(PyObject *module);
int add_subject(PyObject *module);
int add_steps(PyObject *module);
int add_snapshots(PyObject *module);
int add_copiers(PyObject *module);
int add_rings(PyObject *module);
int add_postponed(PyObject *module);
int add_runs(PyObject *module);
int add_recording(PyObject *module);
int add_box(PyObject *module);
int add_lines(PyObject *module);
int add_unseen(PyObject *module);
PyTypeObject *make_type(PyObject *module, PyType_Spec *spec);

extern PyObject *str_close, *str_throw, *str_wrapped, *str_qualname, *str_value, *str_asend, *str_athrow, *str_aclose,
    *str_run, *str_open_buffer;

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif
