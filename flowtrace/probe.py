"""Tells which values JSON holds as they are, before anything walks them for good.

A pickler is the one part of the standard library that goes through a value in C and can be told to refuse: whatever
is not of an exact built-in type ends in `reducer_override`, before any code of its class runs, and a buffer is never
copied. In fast mode it follows each reference again, as a JSON writer would, so what it writes measures how much
JSON there will be; its output goes nowhere.
"""

from __future__ import annotations

from collections.abc import Callable
from pickle import Pickler
from typing import Any, Final

LIGHT: Final = 64 * 1024
LONG_TEXT: Final = 4096
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_CONTAINERS: Final = frozenset({dict, list, tuple})
JSON_TYPES: Final = _SCALARS | _CONTAINERS


class _TooLarge(Exception):
    """The value is not light."""


class _Meter:
    """A file for the pickler that only counts."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = LIGHT

    def write(self, data: bytes) -> None:
        self.left -= len(data)
        if self.left < 0:
            raise _TooLarge


class _Refusing(Pickler):
    def reducer_override(self, obj: Any) -> Any:
        raise TypeError


_Probe = tuple[Callable[[Any], None], _Meter]
# Probes at rest: one that is in use is never here, so neither threads nor finalizers share one.
_resting: Final[list[_Probe]] = []


def is_json(value: object) -> bool:
    """Tell whether a value is made of exact JSON types alone, or of types that no JSON writer takes.

    A larger value must also be a tree: one that holds the same container in two places could be exponentially
    larger as text than it is in memory.

    Raises:
        Exception: the value holds anything else, is cyclic, or is nested too deeply.
    """
    try:
        probe = _resting.pop()
    except IndexError:
        probe = _new()
    dump, meter = probe
    meter.left = LIGHT
    try:
        dump(value)
    except _TooLarge:
        _resting.append(_new())
        return _is_json_tree(value)
    _resting.append(probe)
    return True


def _new() -> _Probe:
    meter = _Meter()
    pickler = _Refusing(meter, 5)
    pickler.fast = True
    return pickler.dump, meter


def _is_json_tree(value: object) -> bool:
    """Look at each container once, at C speed and without a copy of it."""
    todo: list[Any] = [(value,)]
    seen: set[int] = set()
    while todo:
        items = todo.pop()
        kinds = set(map(type, items))
        if not kinds <= JSON_TYPES:
            return False
        large = kinds & _CONTAINERS or str in kinds
        for item in items if large else ():
            kind = type(item)
            if not item or kind not in _CONTAINERS and (kind is not str or len(item) < LONG_TEXT):
                continue
            if id(item) in seen:
                return False
            seen.add(id(item))
            if kind is not str:
                todo.append(item.values() if kind is dict else item)
    return True
