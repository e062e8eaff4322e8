"""Snapshots: a small value as bytes, taken while the program waits. They are encoded later, when a trace is written.

Two libraries copy a value in C without running code of its class:

- orjson is faster, but would write an enum or a UUID as its content. The garbage collector tracks such an object. An
  untracked one has only atoms in it: numbers, texts, and dicts or tuples of them (CPython up to 3.13 does not track
  those). orjson refuses every other atom, and writes NaN as null: where there is a null, the pickler has the value.
- A pickler refuses each object that is not of an exact built-in type, in `reducer_override`: before any code of its
  class runs, and before a byte of its buffer is copied. In fast mode it follows each reference again, as a JSON writer
  would, so that it stops in time where a small value would become a huge text.

The bytes never leave the process, and hold nothing but built-in types.
"""

from __future__ import annotations

from collections.abc import Callable
from gc import is_tracked
from pickle import Pickler, dumps, loads
from typing import Any, Final

from flowtrace.host.signals import let_through
from flowtrace.values import json

SMALL: Final = 64 * 1024  # a pickler writes its output at once below this size, and in pieces above it
_PROTOCOL: Final = 5
FEW_ITEMS: Final = 32  # a larger dict goes to the pickler, as each tuple does: all its values may be one long text
_PICKLED: Final = dumps(None, _PROTOCOL)[:1]  # no JSON begins with this byte
_dumps: Final = json.dumps
_OPTIONS: Final = json.EXACT_TYPES
_tracked: Final = is_tracked


class TooLargeError(Exception):
    """The value is not small."""


class _Memory:
    """A file that takes one small write."""

    __slots__ = ("data",)

    def write(self, data: bytes) -> None:
        if len(data) >= SMALL:
            raise TooLargeError
        self.data = data


def _refuse(_value: Any) -> Any:
    raise TypeError


class _Refusing(Pickler):
    def reducer_override(self, _obj: Any) -> Any:
        raise TypeError


_PicklerAndFile = tuple[Callable[[Any], None], _Memory]
IDLE_PICKLERS: Final[list[_PicklerAndFile]] = []
"""Process-global: picklers to use again; one in use is not here, so that no thread or finalizer shares it."""


def _new_pickler() -> _PicklerAndFile:
    memory = _Memory()
    # `buffer_callback` for a PickleBuffer, which `reducer_override` does not see
    pickler = _Refusing(memory, _PROTOCOL, buffer_callback=_refuse)
    pickler.fast = True
    return pickler.dump, memory


def take_call(args: tuple[Any, ...], kwargs: dict[str, Any], limit: int) -> bytes | None:
    """Return the snapshot of a call's arguments; None where they are not small, or not of built-in types.

    The snapshot is of the pair of both; of the positional arguments alone where there is only one argument.

    Args:
        args: positional arguments.
        kwargs: keyword arguments.
        limit: the most bytes that the snapshot may have.
    """
    if _tracked(kwargs):
        return take_pickled((args, kwargs), limit)
    for value in args:
        if _tracked(value) or type(value) is tuple or (type(value) is dict and len(value) > FEW_ITEMS):
            return take_pickled((args, kwargs), limit)
    try:
        data = _dumps(args if len(args) == 1 and not kwargs else (args, kwargs), None, _OPTIONS)
        if b"null" in data:  # it may be NaN, which orjson writes so
            return take_pickled((args, kwargs), limit)
    except BaseException as error:
        let_through(error)
        return take_pickled((args, kwargs), limit)
    return data if len(data) <= limit else None


def take_value(value: object, limit: int) -> bytes | None:
    """Return the snapshot of a value; None where it is not small, or not of exact built-in types alone.

    Args:
        value: anything.
        limit: the most bytes that the snapshot may have.
    """
    if _tracked(value) or type(value) is tuple or (type(value) is dict and len(value) > FEW_ITEMS):
        return take_pickled(value, limit)
    try:
        data = _dumps(value, None, _OPTIONS)
        if b"null" in data and value is not None:
            return take_pickled(value, limit)
    except BaseException as error:
        let_through(error)
        return take_pickled(value, limit)
    return data if len(data) <= limit else None


def take_pickled(value: object, limit: int) -> bytes | None:
    """Do the same as `take_value` for a value that orjson must not see, or has refused."""
    try:
        pickle, file = idle = IDLE_PICKLERS.pop() if IDLE_PICKLERS else _new_pickler()
        pickle(value)
        data = file.data
        IDLE_PICKLERS.append(idle)
    except BaseException as error:
        let_through(error)
        return None
    return data if len(data) <= limit else None


def restore(snapshot: bytes) -> Any:
    """Return a value that is equal to the one in a snapshot, but for tuples that may have become lists."""
    if snapshot[:1] == _PICKLED:
        return loads(snapshot)  # noqa: S301  # made by this module, of built-in types alone
    return json.loads(snapshot)
