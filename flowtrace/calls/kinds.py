"""The kinds of functions, by the body that their calls give."""

from __future__ import annotations

import inspect
from enum import IntEnum
from functools import partial, partialmethod
from typing import Any, Final

from flowtrace.host.signals import let_through


class Kind(IntEnum):
    """The body that a call gives, or none. The numbers are those of ``enum kind`` in ``native/native.h``."""

    PLAIN = 0
    COROUTINE = 1
    GENERATOR = 2
    ASYNC_GENERATOR = 3
    ITERABLE_COROUTINE = 4


_BY_FLAG: Final = (
    (inspect.CO_ITERABLE_COROUTINE, Kind.ITERABLE_COROUTINE),
    (inspect.CO_COROUTINE, Kind.COROUTINE),
    (inspect.CO_ASYNC_GENERATOR, Kind.ASYNC_GENERATOR),
    (inspect.CO_GENERATOR, Kind.GENERATOR),
)


def kind_of(function: Any) -> Kind:
    """Return the kind of a callable, by the flags of its code; what has no code counts as plain."""
    while isinstance(function, partial | partialmethod):
        function = function.func
    flags = _flags(function)
    return next((kind for flag, kind in _BY_FLAG if flags & flag), Kind.PLAIN)


def _flags(function: Any) -> int:
    try:
        flags = function.__code__.co_flags
    except BaseException as error:  # no code, or an object that answers for attributes in its own way
        let_through(error)
        return 0
    return flags if type(flags) is int else 0
