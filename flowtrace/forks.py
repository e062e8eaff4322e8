"""A fork waits while another thread loads a module of ours: its child would wait for the end of it for ever."""

from __future__ import annotations

import os
from contextlib import suppress
from threading import RLock
from typing import Final

with suppress(RuntimeError):  # the interpreter is about to end, and registers nothing more
    # It registers a lock for forks, and that must not come to pass while a fork waits here.
    from concurrent.futures import thread as thread

MAX_WAIT: Final = 10.0
"""For how many seconds a fork waits; who loads may itself wait for what the forking thread holds."""
MAX_DELAY: Final = 1.0
"""For how many seconds a thread that wants to load waits for forks; they may wait for what it holds."""

_locks: Final = [RLock()]
_registered: Final[list[bool]] = []
_torn: Final[list[bool]] = []


class no_fork:  # noqa: N801 -- it is used as a function is
    """A context in which modules are loaded; a fork by any other thread waits for its end.

    Nothing may be called in it that waits for a lock of ours.
    """

    __slots__ = ("_lock",)

    def __enter__(self) -> None:
        """Wait for forks of other threads, and hold up later ones."""
        if not _registered and hasattr(os, "register_at_fork"):
            # in this order: two threads that come here at once register twice, which does no harm
            os.register_at_fork(before=_wait, after_in_parent=_go_on, after_in_child=_look)
            _registered.append(True)
        self._lock = _locks[0]
        self._lock.acquire(timeout=MAX_DELAY)

    def __exit__(self, *raised: object) -> None:
        """Let forks go on."""
        _release(self._lock)


def is_torn() -> bool:
    """Tell whether this process was forked in the middle of a loading, so that no module of ours can be loaded."""
    return bool(_torn)


def _release(lock: RLock) -> None:
    with suppress(RuntimeError):  # it was not to be had
        lock.release()


def _wait() -> None:
    _locks[0].acquire(timeout=MAX_WAIT)


def _go_on() -> None:
    _release(_locks[0])


def _look() -> None:
    _go_on()
    if _locks[0].acquire(blocking=False):
        _go_on()
    else:
        _torn.append(True)
        _locks[0] = RLock()
