"""Loading modules late without harm: in the main interpreter only, and never in the middle of a fork.

If one thread forks while another one imports a module, the child waits for ever for the lock of that import, since the
thread that holds it does not exist there. So a fork waits until no thread imports for us. Nothing waits for a fork, and
no importing thread for another one: each has a lock of its own, and the fork only looks whether it is held.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import lru_cache
from importlib import import_module
from threading import Lock, get_ident
from typing import Any, Final

from flowtrace.host.signals import hook
from flowtrace.host.system import os, time

with suppress(RuntimeError):  # the interpreter is about to exit, and registers nothing more
    # It registers a lock for forks. Registered now, it is not taken while a fork waits for us.
    from concurrent.futures import thread as thread

MAX_WAIT: Final = 10.0
"""For how many seconds a fork waits: the importing thread may itself wait for a lock of the forking one."""
_NO_SUBINTERPRETER: Final = "flowtrace records in the main interpreter only, not in a subinterpreter"
_NO_FREE_THREADS: Final = "flowtrace records in a Python with the GIL only, not in a free-threaded one"
_PAUSE: Final = 0.001
_IMPORT: Final = builtins.__import__


class _State:
    """Process-global: who is importing, and what has been loaded.

    Attributes:
        importing: by the identifier of a thread, a lock that is held while it imports.
        loaded: the functions that `load_once` has called.
        is_registered: our fork hooks are registered.
        is_cut_off: this process was forked in the middle of an import, so that another one might wait for ever.
        interruption: what a signal handler raised while a fork waited; it is raised when the fork is over.
    """

    def __init__(self) -> None:
        self.importing: dict[int, Any] = {}
        self.loaded: set[Callable[[], object]] = set()
        self.is_registered = False
        self.is_cut_off = False
        self.interruption: BaseException | None = None

    def others_import(self) -> bool:
        """Return True if another thread imports."""
        me = get_ident()
        return any(lock.locked() for owner, lock in self.importing.copy().items() if owner != me)


_STATE: Final = _State()


@lru_cache(maxsize=1)
def is_main() -> bool:
    """Return True if this is the main interpreter, or where Python can't say."""
    for name in ("_interpreters", "_xxsubinterpreters"):
        try:
            interpreters = import_module(name)
            here, main = interpreters.get_current(), interpreters.get_main()
            return bool(here == main)
        except (ImportError, AttributeError):
            continue
    return True


@lru_cache(maxsize=1)
def refusal() -> str:
    """Return why nothing can be recorded in this interpreter; an empty text where it can.

    In a subinterpreter, libraries that the recorder needs would crash the process. In a free-threaded Python they
    switch the GIL on again, and nothing of ours is made for threads that run at once.
    """
    if not is_main():
        return _NO_SUBINTERPRETER
    return _NO_FREE_THREADS if "free-threading build" in sys.version else ""


def require_support() -> None:
    """Refuse to load where nothing can be recorded.

    Raises:
        ImportError: this is a subinterpreter, or a free-threaded Python.
    """
    if reason := refusal():
        raise ImportError(reason)


def no_fork() -> AbstractContextManager[Any]:
    """Return a context in which to import modules; a fork by any other thread waits until it is left.

    Returns:
        A lock of this thread's own, which an interrupt can't leave held.
    """
    if not _STATE.is_registered and hasattr(os, "register_at_fork"):
        # in this order: two threads that come here at once register twice, which does no harm
        os.register_at_fork(
            before=hook(_wait, _keep),
            after_in_parent=hook(_interrupt),
            after_in_child=hook(_look_around, is_vital=True),
        )
        _STATE.is_registered = True
    lock = _STATE.importing.setdefault(get_ident(), Lock())
    return nullcontext() if lock.locked() else lock


def is_loading() -> bool:
    """Return True if this thread imports modules for us."""
    lock = _STATE.importing.get(get_ident())
    return lock is not None and lock.locked()


def load_once(load: Callable[[], object]) -> bool:
    """Call a function that imports modules inside `no_fork`, unless it has been called before.

    Args:
        load: imports them.

    Returns:
        False if they can't be loaded: a process that was forked in the middle of an import loads nothing more.
    """
    if load not in _STATE.loaded:
        if _STATE.is_cut_off:
            return False
        with no_fork(), _real_imports():
            load()
        _STATE.loaded.add(load)
    return True


@contextmanager
def _real_imports() -> Generator[None]:
    """Import as Python did when flowtrace was loaded: a program's own `__import__` might see it, or fail in it."""
    theirs = builtins.__import__
    builtins.__import__ = _IMPORT
    try:
        yield
    finally:
        if builtins.__import__ is _IMPORT:  # else the program has put another one there meanwhile
            builtins.__import__ = theirs


def _wait() -> None:
    deadline = time.monotonic() + MAX_WAIT
    while _STATE.others_import() and time.monotonic() < deadline:
        time.sleep(_PAUSE)


def _keep(interruption: BaseException) -> Iterator[object]:
    """Let the fork go on at once. The hooks of others follow, and Python would swallow in them what is raised now."""
    _STATE.interruption = interruption
    return iter(())


def _interrupt() -> None:
    interruption, _STATE.interruption = _STATE.interruption, None
    if interruption is not None:
        raise interruption


def _look_around() -> None:
    _STATE.interruption = None  # it was meant for the parent
    if _STATE.others_import():
        _STATE.is_cut_off = True
    _STATE.importing.clear()
