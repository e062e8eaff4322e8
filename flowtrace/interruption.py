"""Errors that a signal's handler raises while our code runs: they are the host's, and none of our guards keeps them."""

from __future__ import annotations

import os
import signal
from traceback import walk_tb
from typing import Any, Final

OWN_FOLDER: Final = os.path.dirname(__file__) + os.sep
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
