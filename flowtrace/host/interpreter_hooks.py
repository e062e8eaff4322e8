"""The interpreter's hooks for uncaught exceptions, for its exit and for forks; and those for the ends of workers."""

from __future__ import annotations

import sys
import threading
from atexit import register, unregister
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

from flowtrace.host.signals import hook, let_through
from flowtrace.host.system import os


class Listeners(NamedTuple):
    """The functions that our hooks call.

    Attributes:
        uncaught: takes an uncaught exception, before the previous hook prints it, and whether it ends the program.
        at_exit: runs when the interpreter exits.
        at_worker_end: runs when a worker process ends that may leave by `os._exit`.
    """

    uncaught: Callable[[BaseException, bool], None]
    at_exit: Callable[[], None]
    at_worker_end: Callable[[], None]


_AFTER_ALL_OTHERS: Final = -(1 << 30)  # a finalizer of the program may call a traced function


class _State:
    """Process-global: our hooks, and those that they replaced. The caller of this module holds a lock."""

    def __init__(self) -> None:
        self.listeners: Listeners | None = None
        self.after_fork: Callable[[], None] | None = None
        self.main: Any = None
        self.previous_main: Any = None
        self.threads: Any = None
        self.finalizer: Any = None
        self.is_registered = False
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
    _call(_listen_to_worker_end)


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
        os.register_at_fork(after_in_child=hook(_after_fork, is_vital=True))
        _STATE.after_fork = after_fork


def _uncaught(error: BaseException | None, ends_program: bool) -> None:
    if _STATE.listeners is not None and error is not None:
        _call(partial(_STATE.listeners.uncaught, error, ends_program))


def _main_hook(previous: Callable[..., Any]) -> Callable[..., Any]:
    def excepthook(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
        try:
            _uncaught(error, not hasattr(sys, "ps1"))  # an interactive session goes on
        finally:  # Ctrl-C may have ended the writing of a trace
            previous(kind, error, traceback)

    return excepthook


def _thread_hook(previous: Callable[..., Any]) -> Callable[..., Any]:
    def excepthook(args: threading.ExceptHookArgs) -> None:
        try:
            _uncaught(args.exc_value, False)
        finally:
            previous(args)

    return excepthook


def _at_exit() -> None:
    if _STATE.listeners is not None:
        _call(_STATE.listeners.at_exit)  # Ctrl-C is printed: the program is over, and its other functions still run


def _at_worker_end(**_of_celery: object) -> None:
    if _STATE.listeners is not None:
        _call(_STATE.listeners.at_worker_end)


def _listen_to_worker_end() -> None:
    """Listen for the end of this process, if it is a worker: workers leave by `os._exit`, and nothing of `atexit` runs.

    Those of multiprocessing, loky and billiard run the finalizers of `multiprocessing.util`; those of Celery leave
    before that, and send a signal. Nothing is loaded for it: a worker has what it is made of.
    """
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        if not _STATE.is_registered:
            _STATE.is_registered = True
            util.register_after_fork(_finish_worker, _call)  # a worker that begins forgets its finalizers first
        _finish_worker()
    signals = sys.modules.get("celery.signals")
    if signals is not None:
        signals.worker_process_shutdown.connect(_at_worker_end, weak=False, dispatch_uid="flowtrace")


def _finish_worker() -> None:
    is_set = _STATE.finalizer is not None and _STATE.finalizer.still_active()
    if _is_worker() and not is_set:
        finalize = sys.modules["multiprocessing.util"].Finalize
        _STATE.finalizer = finalize(None, _at_worker_end, exitpriority=_AFTER_ALL_OTHERS)


def _call(function: Callable[[], None]) -> None:
    try:
        function()
    except Exception as error:
        let_through(error)


def _is_worker() -> bool:
    names = ("multiprocessing.process", "billiard.process")
    found = [sys.modules[name].current_process() for name in names if name in sys.modules]
    return any(process.name != "MainProcess" for process in found)


def _after_fork() -> None:
    if _STATE.listeners is not None:
        _call(_listen_to_worker_end)
    if _STATE.after_fork is not None:
        _call(_STATE.after_fork)
