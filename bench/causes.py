"""Why goals of the benchmark are missed: the page shows a cause where its row misses, and only there."""

from __future__ import annotations

_AT_THE_EDGE = "it is at the edge of its goal: some runs meet it, others do not"
_SMALL_CALL = (
    "wrapt's own wrapper is two fifths of the call and the two snapshots are a quarter; the context variable, the "
    "clock, the table of running steps and the buffer share the rest"
)
_ENTRY = (
    "all that is added is that the interpreter calls C and C calls the interpreter, where a plain call of a Python "
    "function stays inside of it; `functools.partial` adds more, and a type in C that only hands the call on, tried "
    "beside it, as much. A real function with a `vectorcall` of ours would cost nothing while off: tried too, but "
    "3.11 runs a function's code without asking it, so that calls would be lost"
)

# By the key of the row, as `benchmark.py` prints it; no full stop at the end.
CAUSES = {
    "off-added": _ENTRY,
    "off-method": _ENTRY,
    "added-coroutine": (
        "from 3.12 on the interpreter drives a coroutine of Python's own without leaving its loop, and takes the "
        "result of any other one out of an exception that is made for it"
    ),
    "pure-off-method": (
        "wrapt binds the method anew for every call, and the wrapper in Python is one more frame: the core in C needs "
        "neither"
    ),
    "pure-off-closure": "wrapt's wrapper and one in Python stand where the closure is one function",
    "pure-off-otel": "wrapt's wrapper calls one in Python, which is about what a closure adds",
    "pure-on-otel": _SMALL_CALL,
    "pure-on-wrapt": _SMALL_CALL,
    "pure-on-coroutine": (
        "its step begins in two halves, at the call and at the first await, and a coroutine of ours drives the body; a "
        "plain call, which it is measured against, begins in one function"
    ),
    "pure-on-generator": (
        "a generator of one item is stopped once and goes on again: its step leaves the context and enters it again, "
        "the item is a second value to take, and its body is driven by a generator of ours, all in Python"
    ),
    "box-captured": (
        "the interpreters of 3.14 and 3.15 are Debian's, built with profile-guided optimisation, as pyenv's of "
        "the other versions are not: OpenTelemetry's SDK, all of it Python, gains more by that than the core in C"
    ),
    "dict-time": _AT_THE_EDGE,
    "failure": (
        "a run inside a flow is written twice, at the failure and at the end of the flow; the second time with the one "
        "sync of the file, which is most of the bare write. The system calls for two files, not one, take a fifth "
        "of the bare write, the 20 calls and their texts, made in C and once for both, a tenth; the rest is 400 short "
        "functions in Python: the error, the lines round it, whose the path is, and the texts of both traces"
    ),
    "readers-show": _AT_THE_EDGE,
    "readers-show-json": _AT_THE_EDGE,
    "readers-validate": _AT_THE_EDGE,
    "readers-why-memory": _AT_THE_EDGE,
    "readers-replay": (
        "each step is a call again: its arguments are rebuilt, the call is recorded, its input and output are made "
        "canonical and hashed, and both hashes are compared, in Python; of a dataclass alone, making the form takes as "
        "long as `orjson.loads` of five steps"
    ),
    "scale-threads": _AT_THE_EDGE,
    "scale-tasks": "ten thousand tasks hold ten thousand steps and contexts, more than the caches of the processor do",
    "scale-depth": "at this depth the interpreter's own stack of frames grows by a piece, which it gives back at once",
}
