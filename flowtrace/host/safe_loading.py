"""A fork waits while another thread loads a module of ours: its child would wait for the end of it for ever.

Nothing waits for a fork, and no thread that loads waits for another one: who loads has a lock of its own, which is only
looked at.


Which interpreter of the process this is: the recorder's libraries are made for the main one only.
"""

from __future__ import annotations

import os
import time
from _thread import interrupt_main
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import lru_cache
from importlib import import_module
from threading import Lock, Timer, get_ident
from typing import Any, Final

with suppress(RuntimeError):  # the interpreter is about to end, and registers nothing more
    # It registers a lock for forks, and that must not come to pass while a fork waits here.
    from concurrent.futures import thread as thread

MAX_WAIT: Final = 10.0
"""For how many seconds a fork waits; who loads may itself wait for what the forking thread holds."""
_PAUSE: Final = 0.001

_marks: Final[dict[int, Any]] = {}
"""By the identifier of a thread: a lock that is held while it loads."""
_registered: Final[list[bool]] = []
_torn: Final[list[bool]] = []
_done: Final[set[Callable[[], object]]] = set()


def no_fork() -> AbstractContextManager[Any]:
    """Return a context in which to load modules; a fork by any other thread waits for its end.

    Returns:
        A lock of this thread's own: an interrupt can't leave it held.
    """
    if not _registered and hasattr(os, "register_at_fork"):
        # in this order: two threads that come here at once register twice, which does no harm
        os.register_at_fork(before=_wait, after_in_child=_look)
        _registered.append(True)
    mark = _marks.setdefault(get_ident(), Lock())
    return nullcontext() if mark.locked() else mark


def load_once(load: Callable[[], object]) -> bool:
    """Load modules, unless that has been done, in such a context.

    Args:
        load: imports them.

    Returns:
        Whether they are there; a process that was forked in the middle of a loading loads nothing more.
    """
    if load not in _done:
        if _torn:
            return False
        with no_fork():
            load()
        _done.add(load)
    return True


def _others_load() -> bool:
    mine = get_ident()
    return any(mark.locked() for owner, mark in _marks.copy().items() if owner != mine)


def _wait() -> None:
    until = time.monotonic() + MAX_WAIT
    try:
        while _others_load() and time.monotonic() < until:
            time.sleep(_PAUSE)
    except KeyboardInterrupt:  # what is raised in here is only printed
        Timer(_PAUSE, interrupt_main).start()


def _look() -> None:
    if _others_load():
        _torn.append(True)
    _marks.clear()


REFUSAL: Final = "flowtrace records in the main interpreter only, not in a subinterpreter"


@lru_cache(maxsize=1)
def is_main() -> bool:
    """Tell whether this is the main interpreter; where Python can't tell, it is."""
    for name in ("_interpreters", "_xxsubinterpreters"):
        try:
            interpreters = import_module(name)
            here, main = interpreters.get_current(), interpreters.get_main()
            return bool(here == main)
        except (ImportError, AttributeError):
            continue
    return True


def require_main() -> None:
    """Refuse to go on in a subinterpreter: libraries that the recorder needs would crash the process there.

    Raises:
        ImportError: this is no main interpreter.
    """
    if not is_main():
        raise ImportError(REFUSAL)
