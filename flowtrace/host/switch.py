"""The one switch that every decorated function looks at.

It is a plain list because wrapt tests ``enabled`` in C when it is not callable: an empty list is "off" at the
cost of a length check, and emptying or filling this one list turns every node off or on, at any time, however
the function was imported.

The list starts filled: nobody has read the environment yet, and the first call has to.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

_TRUE: Final = ("1", "true", "yes", "on")
_FALSE: Final = ("0", "false", "no", "off")
SWITCH: Final[list[str]] = ["unread"]
listeners: Final[list[Callable[[], None]]] = []
"""Who is told when nodes are needed that were not, or the other way round."""


def turn_on() -> None:
    """Send every later call of a decorated function to the recorder."""
    _turn(["on"])


def turn_off() -> None:
    """Let every later call of a decorated function go straight to the function."""
    _turn([])


def forget() -> None:
    """Return to the state before first use: the next call reads the environment."""
    _turn(["unread"])


def _turn(state: list[str]) -> None:
    had = bool(SWITCH)
    SWITCH[:] = state
    if had != bool(state):
        for tell in listeners:
            tell()


def may_be_on() -> bool:
    """Tell whether tracing may be on: not where nobody has read the environment and it says nothing of it."""
    if is_unread() and not environment_speaks():
        turn_off()
    return bool(SWITCH)


def environment_speaks() -> bool:
    """Tell, without loading anything, whether the environment may ask for tracing; what it asks is read elsewhere."""
    if _word("FLOWTRACE_DISABLED") in _TRUE:
        return False
    if _word("FLOWTRACE_DUMP_SIGNAL"):  # also where nothing is traced: what the signal does by default is to kill
        return True
    mode = _word("FLOWTRACE_MODE")
    return mode not in _FALSE and bool(mode or _word("FLOWTRACE_OUT") or _word("FLOWTRACE_BLACKBOX"))


def _word(variable: str) -> str:
    return os.environ.get(variable, "").strip().lower()


def is_unread() -> bool:
    """Tell whether nothing has been configured in this process so far."""
    return SWITCH == ["unread"]


HOME_PID: Final = os.getpid()
"""The process that imported flowtrace; a fork of it is some other one."""

MUTED: Final[list[str]] = []
"""While something is in it, no recorder of this process writes a file: what runs then is a replay."""
