"""A value as bytes, taken while the program waits; what these bytes mean is worked out when they are written.

Two parts of other libraries copy a value in C, and each in its own way can be kept from running code of the value's:

- orjson is the fastest, but takes enums and UUIDs for what they hold. Such an object is one that the garbage collector
  tracks. What is not tracked has only atoms in it: numbers, texts, and dicts or tuples of them (CPython leaves those
  alone up to 3.13). What else is an atom is refused by orjson.
- A pickler refuses whatever is not of an exact built-in type in `reducer_override`, before any code of its class runs
  and before a byte of its buffer is touched. In fast mode it follows each reference again, as a JSON writer would, so
  that its output shows in time that a small value would become a huge text.

The bytes never leave the process, and hold nothing but built-in types.
"""

from __future__ import annotations

from collections.abc import Callable
from gc import is_tracked
from pickle import Pickler, dumps, loads
from typing import Any, Final

from flowtrace.host.signals import let_through
from flowtrace.values import json

LIGHT: Final = 64 * 1024  # the pickler hands over what it has at this size, and else at the end
_PROTOCOL: Final = 5
FEW: Final = 32  # items of a dict that may all be one long text; tuples may even say one thing a billion times
_PICKLED: Final = dumps(None, _PROTOCOL)[:1]  # no JSON begins like this
_dumps: Final = json.dumps
_OPTIONS: Final = json.EXACT_TYPES
_tracked: Final = is_tracked


class TooLargeError(Exception):
    """The value is not light."""


class _Memory:
    """A file that keeps one small write."""

    __slots__ = ("data",)

    def write(self, data: bytes) -> None:
        if len(data) >= LIGHT:
            raise TooLargeError
        self.data = data


def _refuse(_value: Any) -> Any:
    raise TypeError


class _Refusing(Pickler):
    def reducer_override(self, _obj: Any) -> Any:
        raise TypeError


_Camera = tuple[Callable[[Any], None], _Memory]
resting: Final[list[_Camera]] = []
"""Picklers and their files, used again and again. One in use is never here: neither threads nor finalizers share it."""


def _new_camera() -> _Camera:
    memory = _Memory()
    pickler = _Refusing(memory, _PROTOCOL, buffer_callback=_refuse)  # a PickleBuffer comes by another way
    pickler.fast = True
    return pickler.dump, memory


def take_call(args: tuple[Any, ...], kwargs: dict[str, Any], limit: int) -> bytes | None:
    """Return the snapshot of a call's arguments; None where they are not light, or not of built-in types.

    It is that of a pair, or of the positional arguments alone where there is one argument, as in most calls.

    Args:
        args: positional arguments.
        kwargs: keyword arguments.
        limit: how many bytes the snapshot may have.
    """
    if _tracked(kwargs):
        return take_pickled((args, kwargs), limit)
    for value in args:
        if _tracked(value) or type(value) is tuple or (type(value) is dict and len(value) > FEW):
            return take_pickled((args, kwargs), limit)
    try:
        data = _dumps(args if len(args) == 1 and not kwargs else (args, kwargs), None, _OPTIONS)
    except Exception as error:
        let_through(error)
        return take_pickled((args, kwargs), limit)
    return data if len(data) <= limit else None


def take(value: object, limit: int) -> bytes | None:
    """Return the snapshot of a value; None where it is not light, or not of exact built-in types alone.

    Args:
        value: anything.
        limit: how many bytes the snapshot may have.
    """
    if _tracked(value) or type(value) is tuple or (type(value) is dict and len(value) > FEW):
        return take_pickled(value, limit)
    try:
        data = _dumps(value, None, _OPTIONS)
    except Exception as error:
        let_through(error)
        return take_pickled(value, limit)
    return data if len(data) <= limit else None


def take_pickled(value: object, limit: int) -> bytes | None:
    """Do what `take` does for values that orjson is not to see, or has refused."""
    try:
        camera = resting.pop() if resting else _new_camera()
        camera[0](value)
        data = camera[1].data
        resting.append(camera)
    except Exception as error:
        let_through(error)
        return None
    return data if len(data) <= limit else None


def restore(snapshot: bytes) -> Any:
    """Return an equal value; its tuples may have become lists.

    Args:
        snapshot: bytes that were taken here.
    """
    if snapshot[:1] == _PICKLED:
        return loads(snapshot)  # noqa: S301  # made here, of built-in types alone, and never out of this process
    return json.loads(snapshot)
