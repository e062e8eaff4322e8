"""The one switch that every decorated function looks at.

`SWITCH` is a plain list because wrapt tests ``enabled`` in C when it is not callable: an empty list is "off" at the
cost of a length check. So every decorated function is turned on or off at any time, however it was imported, by filling
or emptying this one list.

It starts filled: the environment is not read before the first call.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final

from flowtrace.host.system import open_file, os

SWITCH: Final[list[str]] = ["unread"]
"""Process-global: empty while tracing is off."""
MUTED: Final[list[str]] = []
"""Process-global: while this is not empty a replay is running, and no recorder writes a file."""
LOADERS: Final[list[Callable[[], object]]] = []
"""Process-global: called before tracing is turned on, to load what calls need before the first one comes."""
HOME_PID: Final = os.getpid()
"""The process that imported flowtrace; its forks have other ids."""

TRUE: Final = ("1", "true", "yes", "on")
FALSE: Final = ("0", "false", "no", "off")
_AT_SECURE: Final = 23  # of getauxval(3)


def turn_on() -> None:
    """Send every later call of a decorated function to the recorder."""
    for load in LOADERS:
        load()
    SWITCH[:] = ["on"]


def turn_off() -> None:
    """Let every later call of a decorated function go straight to the function."""
    SWITCH.clear()


def forget() -> None:
    """Return to the state before first use: the next call reads the environment."""
    SWITCH[:] = ["unread"]


def is_unread() -> bool:
    """Return True if nothing in this process has been configured so far, by code or by the environment."""
    return SWITCH == ["unread"]


def may_be_on() -> bool:
    """Return False if tracing is off; turn it off where the environment is not read yet and does not ask for it."""
    if is_unread() and not environment_may_enable():
        turn_off()
    return bool(SWITCH)


def environment_may_enable() -> bool:
    """Return False if the environment does not ask for tracing; `settings` reads the details, and loads modules."""
    if _variable("FLOWTRACE_DISABLED") in TRUE:
        return False
    if _variable("FLOWTRACE_DUMP_SIGNAL"):  # also where nothing is traced: without a handler, the signal would kill
        return True
    mode = _variable("FLOWTRACE_MODE")
    return mode not in FALSE and bool(mode or _variable("FLOWTRACE_OUT") or _variable("FLOWTRACE_BLACKBOX"))


def _variable(name: str) -> str:
    return environment().get(name, "").strip().lower()


# --- whose variables count


def environment() -> Mapping[str, str]:
    """Return the variables of this process; none where they may be somebody else's.

    That is so where Python ignores its own (``-E``, ``-I``), and where the process has more rights than its caller, as
    a set-user-id program has.
    """
    return {} if is_ignored() else os.environ


def is_ignored() -> bool:
    """Return True if no variable counts; see `environment`."""
    return bool(sys.flags.ignore_environment) or _has_more_rights()


@lru_cache(maxsize=1)
def _has_more_rights() -> bool:
    """Return True if the kernel says so; where it says nothing, if users or groups differ."""
    try:
        with open_file("/proc/self/auxv", "rb") as file:
            numbers = memoryview(file.read()).cast("L")
        return bool(dict(zip(numbers[::2], numbers[1::2], strict=True)).get(_AT_SECURE))
    except (OSError, TypeError, ValueError):
        return hasattr(os, "geteuid") and (os.getuid(), os.getgid()) != (os.geteuid(), os.getegid())
