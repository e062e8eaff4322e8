"""Tells which values JSON holds as they are, and how much JSON that would be, before anything is written.

A pickler is the one part of the standard library that goes through a value in C and can be told to refuse: whatever
is not of an exact built-in type ends in `reducer_override`, before any code of its class runs and before a byte of
its buffer is touched. In fast mode it follows each reference again, as a JSON writer would, so that its output,
which goes nowhere, shows in time that a small value would become a huge text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pickle import Pickler
from typing import Any, Final

LIGHT: Final = 64 * 1024  # the pickler hands over what it has at this size, and else at the end
LONG_TEXT: Final = 4096
# Types by their ids: a metaclass may have an __eq__ and a __hash__ of its own.
SCALARS: Final = frozenset(map(id, (str, int, float, bool, type(None))))
CONTAINERS: Final = frozenset(map(id, (dict, list, tuple)))
_JSON_TYPES: Final = SCALARS | CONTAINERS

Probe = Callable[[Any], None]
"""Takes a value that is light and of exact built-in types alone. Raises `TooLargeError`, or TypeError and others."""
resting: Final[list[Probe]] = []
"""Probes to be used again. One in use is never here, so that neither threads nor finalizers share it."""


class TooLargeError(Exception):
    """The value is not light."""


class _Light:
    """A file that takes one small write."""

    def write(self, data: bytes) -> None:
        if len(data) >= LIGHT:
            raise TooLargeError


class _Refusing(Pickler):
    def reducer_override(self, _obj: Any) -> Any:
        raise TypeError


def new_probe() -> Probe:
    """Return a probe."""
    pickler = _Refusing(_Light(), 5)
    pickler.fast = True
    return pickler.dump


def is_tree(value: object) -> bool:
    """Tell whether a value has exact JSON types alone, and no container or long text in two places.

    Each container is looked at once, without a copy of it.
    """
    todo: list[Any] = [(value,)]
    seen: set[int] = set()
    while todo:
        items = todo.pop()
        kinds = type_ids(items)
        if not kinds <= _JSON_TYPES:
            return False
        for item in items if id(str) in kinds or kinds & CONTAINERS else ():
            kind = type(item)
            if id(kind) in SCALARS and (kind is not str or len(item) < LONG_TEXT):
                continue
            if id(item) in seen:
                return False
            if item:
                seen.add(id(item))
            if kind is not str:
                todo.append(item.values() if kind is dict else item)
    return True


def type_ids(items: Iterable[object]) -> set[int]:
    """Return the ids of the types of some values."""
    return set(map(id, map(type, items)))
