"""Errors that a signal's handler raises while our code runs: they are the host's, and none of our guards keeps them.

The signal that asks for a snapshot from outside: its handler starts a thread and does nothing else.

A handler may come in the middle of our own work, under our own locks. A thread waits for those as any other does, so
what it sees is whole, and the program goes on at once. The thread is started below `threading`, whose locks the signal
may have interrupted as well.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from _thread import start_new_thread
from collections.abc import Callable
from threading import Lock
from traceback import walk_tb
from types import FrameType
from typing import Any, Final

OWN_FOLDER: Final = os.path.dirname(os.path.dirname(__file__)) + os.sep  # of the package: it tells our frames apart
traceback_of: Final = BaseException.__dict__["__traceback__"].__get__


def let_through(error: BaseException) -> None:
    """Raise an error again that a signal's handler raised between two of our instructions; else do nothing.

    A guard that is about to swallow an Exception calls this first: a timeout that an alarm raises, say, is lost
    otherwise, and the program that waits for it goes on for ever.

    Args:
        error: what the guard has caught.
    """
    if is_from_handler(error):
        raise error


def is_from_handler(error: BaseException) -> bool:
    """Tell whether a signal's handler raised an error."""
    codes = [frame.f_code for frame, _ in walk_tb(traceback_of(error))]
    if all(code.co_filename.startswith(OWN_FOLDER) for code in codes):
        return False
    handlers = [_code_of(signal.getsignal(number)) for number in signal.valid_signals()]
    return any(code in handlers for code in codes)


def _code_of(handler: Any) -> object:
    """Return what a handler runs: the code of a function, a method, a partial one, or an object that can be called."""
    handler = getattr(handler, "func", handler)
    called = getattr(type(handler), "__call__", None)  # noqa: B004  # its code is asked for, not whether there is one
    return getattr(handler, "__code__", None) or getattr(called, "__code__", None)


_LONGEST_WAIT: Final = 2.0  # at exit, in seconds


class SnapshotSignal:
    """A signal's handler of ours, and the one that was there before, which still runs after it.

    Args:
        number: the signal.
        answer: writes the snapshot; runs in a thread of its own, never twice at once.
    """

    def __init__(self, number: int, answer: Callable[[], None]) -> None:
        self.number = number
        self._answer = answer
        self._before: Any = None
        self._handler = self._handle  # a bound method is a new object each time
        self._is_in_use = False
        self._is_asked = False
        self._answering = Lock()

    def install(self) -> str:
        """Put the handler in its place; only the main thread can.

        Returns:
            Why that was not possible; ``""`` where it was.
        """
        self._before = signal.getsignal(self.number)
        if self._before is None or (self._before in (signal.SIG_DFL, signal.SIG_IGN) and _is_caught(self.number)):
            return "the program has a handler in C for it, which could not be called from ours"
        try:
            signal.signal(self.number, self._handler)
        except ValueError:
            return "a handler can only be installed in the main thread; flowtrace.configure() there does it"
        self._is_in_use = True
        return ""

    def uninstall(self) -> bool:
        """Put the earlier handler back, unless the program has installed one since; False outside the main thread."""
        if signal.getsignal(self.number) is self._handler:
            try:
                signal.signal(self.number, self._before)
            except ValueError:
                return False
        self._is_in_use = False  # a handler of the program's may still pass on to ours
        return True

    def forget_thread(self) -> None:
        """In a forked child the thread that writes is not there."""
        self._is_asked = False
        self._answering = Lock()

    def wait(self) -> None:
        """Let a snapshot that was asked for be written before the process ends."""
        give_up = time.monotonic() + _LONGEST_WAIT
        while self._is_asked and time.monotonic() < give_up:
            time.sleep(0.001)
        if self._answering.acquire(timeout=_LONGEST_WAIT):
            self._answering.release()

    def _handle(self, number: int, frame: FrameType | None) -> Any:
        if self._is_in_use and not self._is_asked:  # a snapshot that has not begun yet will answer this one too
            self._is_asked = True
            try:
                start_new_thread(self._serve, ())
            except Exception:  # no thread to be had: the next signal tries again
                self._is_asked = False
        return self._before(number, frame) if callable(self._before) else None

    def _serve(self) -> None:
        with self._answering:
            self._is_asked = False
            with contextlib.suppress(Exception):
                self._answer()


def _is_caught(number: int) -> bool:
    """Tell whether the process has a handler for a signal that Python does not know of; False where Linux isn't."""
    if not sys.platform.startswith("linux"):
        return False
    with (
        contextlib.suppress(OSError, ValueError),
        open("/proc/self/status", encoding="ascii", errors="replace") as lines,
    ):
        for line in lines:
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False
