"""Keys that a JSON object has more than once. Decoders pass them over, and keep the last value, or the first."""

from __future__ import annotations

from collections.abc import Iterator
from json import loads
from typing import Any, Final

from flowtrace.errors import pointer_token

MOST: Final = 1000


class _Pointers(list[str]):
    """JSON Pointers in an object, to its keys that are there again."""


def repeated_keys(data: bytes) -> list[str]:
    """Return JSON Pointers to the keys that objects have more than once, at most `MOST` of them.

    Args:
        data: a JSON document; what is none has no such keys.
    """
    try:
        # A number may have any count of digits here: none is looked at.
        found = loads(data.decode(), object_pairs_hook=_look, parse_int=str, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError):
        return []
    return list(_inside(found))[:MOST]


def _look(pairs: list[tuple[str, Any]]) -> _Pointers | None:
    """Look at an object whose inner objects were looked at already; its other values are let go."""
    names = dict(pairs)
    nested = [(key, value) for key, value in pairs if value.__class__ is list or value.__class__ is _Pointers]
    if len(names) == len(pairs) and not nested:
        return None
    seen: set[str] = set()
    found = _Pointers()
    for key, _ in pairs:
        if key in seen:
            found.append(f"/{pointer_token(key)}")
        seen.add(key)
    for key, value in nested:
        found += (f"/{pointer_token(key)}{pointer}" for pointer in _inside(value))
    return _Pointers(found[:MOST]) or None


def _inside(value: Any) -> Iterator[str]:
    if value.__class__ is _Pointers:
        yield from value
    elif value.__class__ is list:
        for at, item in enumerate(value):
            yield from (f"/{at}{pointer}" for pointer in _inside(item))
