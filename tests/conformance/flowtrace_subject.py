"""flowtrace as the decorator under test, and what its pure twin can't do."""

from __future__ import annotations

import flowtrace
from flowtrace.calls.core import implementation

from .subject import Subject


def _set_mode(mode: str) -> None:
    flowtrace.configure(mode=mode, out_path="trace.json")


FLOWTRACE = Subject("flowtrace", flowtrace.traced_node, _set_mode)

_FRAME = "a wrapper written in Python has a frame, below that of the function, while the call runs"
_TRACEBACK = "that frame stays in the traceback of an error; it has let go of the arguments by then"
_PYTHON = "what records is Python, and profilers and debuggers follow Python wherever it runs"
_TYPE = "the wrapper is one of wrapt's, whose type has every special method, to pass it on"

INHERENT = {
    "frames": _FRAME,
    "tracebacks": _TRACEBACK,
    "profiler": _PYTHON,
    "debugger": _PYTHON,
    "protocols": _TYPE,
    "operators": _TYPE,
    "callers: finding the caller": _FRAME,
    "callers: printed stacks": _FRAME,
    "callers: stepping into a call": _PYTHON,
    "registries: exit stacks": _TYPE,
}
"""Checks and scenarios that the pure twin fails, each with the reason why it always will."""


def excused(name: str) -> bool:
    """Tell whether the implementation in use may fail a check or a scenario."""
    return implementation() == "pure" and name in INHERENT
