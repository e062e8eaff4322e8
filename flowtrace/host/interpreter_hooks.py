"""The interpreter's hooks for uncaught exceptions, for its exit and for forks."""

from __future__ import annotations

import sys
import threading
from atexit import register, unregister
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NamedTuple

from flowtrace.host.system import os


class Listeners(NamedTuple):
    """The functions that our hooks call.

    Attributes:
        uncaught: takes an uncaught exception, before the previous hook prints it.
        at_exit: runs when the interpreter exits.
    """

    uncaught: Callable[[BaseException], None]
    at_exit: Callable[[], None]


class _State:
    """Process-global: our hooks, and those that they replaced. The caller of this module holds a lock."""

    def __init__(self) -> None:
        self.listeners: Listeners | None = None
        self.after_fork: Callable[[], None] | None = None
        self.main: Any = None
        self.previous_main: Any = None
        self.threads: Any = None
        self.previous_threads: Any = None


_STATE: Final = _State()


def install(listeners: Listeners) -> None:
    """Install our hooks; the previous ones still run, after ours.

    Args:
        listeners: called by the hooks, until `uninstall`.
    """
    if _STATE.listeners is not None:
        return
    _STATE.listeners = listeners
    _STATE.previous_main, _STATE.previous_threads = sys.excepthook, threading.excepthook
    sys.excepthook = _STATE.main = _main_hook(sys.excepthook)
    threading.excepthook = _STATE.threads = _thread_hook(threading.excepthook)
    register(_at_exit)


def uninstall() -> None:
    """Restore the previous hooks. Ours stays where another hook calls it since, and only calls the previous one."""
    if _STATE.listeners is None:
        return
    _STATE.listeners = None
    unregister(_at_exit)
    if sys.excepthook is _STATE.main:
        sys.excepthook = _STATE.previous_main
    if threading.excepthook is _STATE.threads:
        threading.excepthook = _STATE.previous_threads


def listen_to_forks(after_fork: Callable[[], None]) -> None:
    """Call a function in each forked child, from now on: `uninstall` does not end that.

    A call that began while tracing was on may hold a lock for long after tracing was turned off.
    """
    if hasattr(os, "register_at_fork") and _STATE.after_fork is None:
        os.register_at_fork(after_in_child=_after_fork)
        _STATE.after_fork = after_fork


def _uncaught(error: BaseException | None) -> None:
    if _STATE.listeners is not None and error is not None:
        with suppress(Exception):
            _STATE.listeners.uncaught(error)


def _main_hook(previous: Callable[..., Any]) -> Callable[..., Any]:
    def excepthook(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
        _uncaught(error)
        previous(kind, error, traceback)

    return excepthook


def _thread_hook(previous: Callable[..., Any]) -> Callable[..., Any]:
    def excepthook(args: threading.ExceptHookArgs) -> None:
        _uncaught(args.exc_value)
        previous(args)

    return excepthook


def _at_exit() -> None:
    if _STATE.listeners is not None:
        with suppress(Exception):
            _STATE.listeners.at_exit()


def _after_fork() -> None:
    if _STATE.after_fork is not None:
        with suppress(Exception):
            _STATE.after_fork()
