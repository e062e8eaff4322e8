"""A fork waits while another thread loads a module of ours: its child would wait for the end of it for ever."""

from __future__ import annotations

import os
from concurrent.futures import thread as thread  # registers a lock for forks: not while a fork waits here
from contextlib import suppress
from threading import RLock
from typing import Final

MAX_WAIT: Final = 10.0
"""For how many seconds a fork waits; who loads may itself wait for what the forking thread holds."""

_lock: Final = RLock()
_registered: Final[list[bool]] = []
_torn: Final[list[bool]] = []


def no_fork() -> RLock:
    """Return a lock to load modules under, in a ``with``; a fork by any other thread waits for its release.

    Returns:
        A re-entrant lock. Nothing may be called under it that waits for a lock of ours.
    """
    if not _registered and hasattr(os, "register_at_fork"):
        # in this order: two threads that come here at once register twice, which does no harm
        os.register_at_fork(before=_wait, after_in_parent=_go_on, after_in_child=_look)
        _registered.append(True)
    return _lock


def is_torn() -> bool:
    """Tell whether this process was forked in the middle of a loading, so that no module of ours can be loaded."""
    return bool(_torn)


def _wait() -> None:
    _lock.acquire(timeout=MAX_WAIT)


def _go_on() -> None:
    with suppress(RuntimeError):  # it was not to be had
        _lock.release()


def _look() -> None:
    _go_on()
    if _lock.acquire(blocking=False):
        _lock.release()
    else:
        _torn.append(True)
