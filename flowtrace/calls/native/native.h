/* What the files of the native core share.
 *
 * The core stands between a caller and a traced function, where the pure twin (flowtrace/calls/pure.py, which says the
 * same in Python) would put a frame of ours. It is written against the public C API of CPython 3.11 to 3.15.
 *
 * A *subject* says what is recorded (subject.c). Its functions are Python; they handle every fault of ours themselves.
 * So an exception that leaves one of them was raised by a signal handler of the host, and goes to the host; but for
 * RecursionError, which only says that there was no room left to record anything.
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

/* Which body the call of a function makes. The numbers are those of flowtrace/calls/kinds.py. */
enum kind { PLAIN, COROUTINE, GENERATOR, ASYNC_GENERATOR, ITERABLE_COROUTINE, KINDS };

/* --- errors.c --------------------------------------------------------------------------------------------------- */

PyObject *take_raised(void);            /* the exception that is raised, which is cleared; a new reference or NULL */
void raise_again(PyObject *error);      /* takes the reference; NULL raises nothing */
void raise_stop(PyObject *value);       /* StopIteration(value), whatever the value is */
PyObject *take_stop_value(void);        /* clears a raised StopIteration and returns its value; else NULL */
int host_raised(void);                  /* after a callout failed: 1 if the exception is the host's, which stays raised */
int failed_for_host(void);              /* the same, with or without an exception: -1 if it is the host's, else 0 */

/* --- stack.c ---------------------------------------------------------------------------------------------------- */

int no_stack_left(void);                /* raises RecursionError where the C stack is nearly used up */
PyObject *call_through(PyObject *callee, PyObject *const *args, size_t flags, PyObject *names);
PySendResult send_through(PyObject *body, PyObject *value, PyObject **result);

/* --- unseen.c --------------------------------------------------------------------------------------------------- */

/* Every call of the Python half is between these two. */
PyThreadState *hide_calls(void);
void show_calls(PyThreadState *thread);
PyObject *call_unseen(PyObject *function, PyObject *const *args, Py_ssize_t count);

/* --- subject.c -------------------------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    PyObject *begin, *prepare, *start, *suspend, *resume, *emit, *end, *end_stream, *fail;
    PyObject *target;
    char takes_receiver, is_bound;
    char is_simple;                     /* a node whose defaults can't change: its calls may take the fast path */
} Subject;

extern PyTypeObject *SubjectType;
extern PyObject *switch_list;           /* not empty while calls are recorded */

static inline int is_on(void) { return PyList_GET_SIZE(switch_list) != 0; }

/* Each returns 1 and a step, 0 where the call is not recorded, -1 with an exception of the host's. */
int subject_begin(Subject *subject, PyObject *const *args, Py_ssize_t count, PyObject *names, PyObject **step);
int subject_prepare(Subject *subject, PyObject *const *args, Py_ssize_t count, PyObject *names, PyObject **step);
int subject_begin_packed(Subject *subject, int starts, PyObject *instance, PyObject *args, PyObject *kwargs, PyObject **step);

PyObject *as_tuple(PyObject *const *items, Py_ssize_t count);
PyObject *as_dict(PyObject *const *values, PyObject *names);

/* --- snapshot.c ------------------------------------------------------------------------------------------------- */

typedef uintptr_t Word;                 /* a reference, or the head of a container */

typedef struct {
    size_t count, room;
    Word words[];
} Kept;                                 /* values as they were; each is its owner's alone */

typedef struct {
    Py_ssize_t left;                    /* of what a small value may have, about as JSON counts */
    Py_ssize_t held;                    /* bytes of memory that a snapshot keeps */
} Budget;

void begin_draft(void);
int draft_value(PyObject *value, Budget *budget);  /* -1, without an exception, where it is not plain, or too large */
int draft_reference(PyObject *value);
int keep_draft(Kept **kept);            /* -1, without an exception, where there is no memory */
void let_go(Kept **kept);
PyObject *values_of(const Kept *kept);  /* a new list */

/* --- step.c ----------------------------------------------------------------------------------------------------- */

typedef struct Step {
    PyObject_HEAD
    PyObject *node, *input, *output, *run, *previous, *token, *stream, *slot, *rest;
    Kept *arguments, *result;           /* taken here; else input and output are what Python took, or NULL */
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
int start_step(Step *step);             /* -1, with or without an exception, and then it is not current */
int leave_step(Step *step);             /* -1 with an exception of the host's */
void suspend_step(Step *step);
void use_step_type(PyTypeObject *type);
int resume_step(Step *step);

/* --- ring.c ----------------------------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    PyObject *hashed;                   /* Python's running hash */
    Kept *items, *returned;             /* what is not hashed yet; nothing, or what the generator returned */
    Py_ssize_t spent, held;             /* by the items */
} Stream;

extern PyTypeObject *RingType, *StreamType;

int ring_add(PyObject *ring, Step *step);
Stream *new_stream(void);
PyObject *stream_take_items(PyObject *stream, PyObject *ignored);

/* --- record.c --------------------------------------------------------------------------------------------------- */

extern struct callouts {
    PyObject *open_run, *add_to_run, *write_due, *slow_input, *slow_output, *hash_items, *finish_hashed, *ended,
        *stream_ended, *failed, *start_processed, *end_processed, *finish_processed;
} callouts;

int call_out(PyObject *function, PyObject *first, PyObject *second);
int takes_fast_path(Subject *subject);
int fast_begin(Subject *subject, PyObject *const *args, Py_ssize_t count, PyObject *names, int bound, PyObject **step);
int fast_prepare(Subject *subject, PyObject *const *args, Py_ssize_t count, PyObject *names, int bound, PyObject **step);

/* Each returns 0, or -1 with an exception of the host's. */
int step_starts(Subject *subject, PyObject *step);
int step_suspends(Subject *subject, PyObject *step);
int step_resumes(Subject *subject, PyObject *step);
int step_emits(Subject *subject, PyObject *step, PyObject *value);
int step_ends(Subject *subject, PyObject *step, PyObject *value);
int step_ends_stream(Subject *subject, PyObject *step, PyObject *returned);  /* NULL: it was closed */
void step_fails(Subject *subject, PyObject *step);  /* the exception stays raised, or is replaced by a newer one of the host's */

/* --- text.c ------------------------------------------------------------------------------------------------------- */

enum { MOST_KEYS = 32 };                /* of an object */

Py_ssize_t text_of_value(PyObject *value, PyObject *not_secret, PyObject *dumps, char *room, Py_ssize_t size);
Py_ssize_t text_of_payload(PyObject *names, PyObject *const *values, PyObject *not_secret, PyObject *dumps, char *room,
                           Py_ssize_t size);

/* --- blake3.c ----------------------------------------------------------------------------------------------------- */

enum { DIGEST = 32, SHORT_TEXT = 1024 };

void hash_short(const unsigned char *text, Py_ssize_t size, unsigned char digest[DIGEST]);

/* --- box.c -------------------------------------------------------------------------------------------------------- */

int box_is_open(void);
int box_starts(Step *step);             /* -1 with an exception of the host's */
void box_erases(Step *step);            /* a step that could not be started after all */
int box_ends(Step *step, PyObject *value, PyObject *taken);  /* -1 with an exception of the host's */

/* --- function.c and body.c -------------------------------------------------------------------------------------- */

extern PyTypeObject *FunctionType_, *RecorderType;
extern PyObject *function_names, *body_names;  /* frozensets: what is looked up in our object and not in what it stands for */

PyObject *body_around(Subject *subject, PyObject *step, PyObject *inner, int kind);  /* takes step and inner */
int add_functions(PyObject *module);
int add_bodies(PyObject *module);
int add_subject(PyObject *module);
int add_steps(PyObject *module);
int add_rings(PyObject *module);
int add_recording(PyObject *module);
int add_box(PyObject *module);
int add_unseen(PyObject *module);
PyTypeObject *make_type(PyObject *module, PyType_Spec *spec);

extern PyObject *str_close, *str_throw, *str_wrapped, *str_qualname, *str_value, *str_asend, *str_athrow, *str_aclose,
    *str_run, *str_open_buffer;

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif
