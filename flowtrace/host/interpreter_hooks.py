"""The places where the interpreter tells of uncaught exceptions, of its end, and of forks."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, Final


class Listeners:
    """Who is told.

    Attributes:
        uncaught: takes an exception that nothing caught, before the hook that was there prints it.
        at_exit: runs when the interpreter ends.
    """

    __slots__ = ("at_exit", "uncaught")

    def __init__(self, uncaught: Callable[[BaseException], None], at_exit: Callable[[], None]) -> None:
        self.uncaught = uncaught
        self.at_exit = at_exit


class _Hooks:
    """Which hooks are ours, and which were there before."""

    def __init__(self) -> None:
        self.listeners: Listeners | None = None
        self.after_fork: Callable[[], None] | None = None
        self.main: Any = None
        self.main_before: Any = None
        self.threads: Any = None
        self.threads_before: Any = None


_hooks: Final = _Hooks()


def install(listeners: Listeners) -> None:
    """Start telling ``listeners``; the hooks that are in place keep running after ours.

    Args:
        listeners: who is told, until `uninstall`.
    """
    if _hooks.listeners is not None:
        return
    _hooks.listeners = listeners
    _hooks.main_before, _hooks.threads_before = sys.excepthook, threading.excepthook
    sys.excepthook = _hooks.main = _main_hook(sys.excepthook)
    threading.excepthook = _hooks.threads = _thread_hook(threading.excepthook)
    atexit.register(_at_exit)


def listen_to_forks(after_fork: Callable[[], None]) -> None:
    """Start telling of forks. That has no end: a call that began while tracing was on may hold a lock for long.

    Args:
        after_fork: runs in a forked child.
    """
    if hasattr(os, "register_at_fork") and _hooks.after_fork is None:
        os.register_at_fork(after_in_child=_after_fork)
        _hooks.after_fork = after_fork


def uninstall() -> None:
    """Stop telling. A hook that somebody else has wrapped since stays in their chain, and only passes on."""
    if _hooks.listeners is None:
        return
    _hooks.listeners = None
    atexit.unregister(_at_exit)
    if sys.excepthook is _hooks.main:
        sys.excepthook = _hooks.main_before
    if threading.excepthook is _hooks.threads:
        threading.excepthook = _hooks.threads_before


def _tell(error: BaseException | None) -> None:
    if _hooks.listeners is not None and error is not None:
        with contextlib.suppress(Exception):
            _hooks.listeners.uncaught(error)


def _main_hook(before: Callable[..., Any]) -> Callable[..., Any]:
    def excepthook(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
        _tell(error)
        before(kind, error, traceback)

    return excepthook


def _thread_hook(before: Callable[..., Any]) -> Callable[..., Any]:
    def excepthook(args: threading.ExceptHookArgs) -> None:
        _tell(args.exc_value)
        before(args)

    return excepthook


def _at_exit() -> None:
    if _hooks.listeners is not None:
        with contextlib.suppress(Exception):
            _hooks.listeners.at_exit()


def _after_fork() -> None:
    if _hooks.after_fork is not None:
        with contextlib.suppress(Exception):
            _hooks.after_fork()
