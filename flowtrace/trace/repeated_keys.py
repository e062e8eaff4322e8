"""Keys that a JSON object has more than once. Decoders pass them over, and keep the last value, or the first."""

from __future__ import annotations

from collections.abc import Iterator
from json import loads
from typing import Any, Final

from flowtrace.errors import pointer_token
from flowtrace.host.system import re
from flowtrace.trace.model import Raw, from_json
from flowtrace.values import json

MOST: Final = 1000
_END_OF_KEY: Final = b'":'
_LIST: Final = ord("[")
_MAY_HIDE_ONE: Final = (b" :", b"\t:", b"\r:", b"\n:", b"\\u00")  # a search for an expression takes ten times as long
_HIDES_ONE: Final = re.compile(rb'"[ \t\r\n]+:|\\u00(?:22|3[aA])')
"""What may stand in a text where ``":`` is written of the same value: a space before a colon, or an escape."""


class _Pointers(list[str]):
    """JSON Pointers in an object, to its keys that are there again."""


def repeated_keys(data: bytes) -> list[str]:
    """Return JSON Pointers to the keys that objects have more than once, at most `MOST` of them.

    Args:
        data: a JSON document; what is none has no such keys.
    """
    if _has_none(data):
        return []
    try:
        # A number may have any count of digits here: none is looked at.
        found = loads(data.decode(), object_pairs_hook=_look, parse_int=str, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError):
        return []
    return list(_inside(found))[:MOST]


def _has_none(data: bytes) -> bool:
    """Return True if a quick look shows that no key is repeated: as many are read as are written.

    The items of each list in the document are read one by one, since all of them together may be many objects.
    """
    if any(map(data.__contains__, _MAY_HIDE_ONE)) and _HIDES_ONE.search(data):
        return False
    try:
        fields = from_json(data, type=dict[str, Raw])
        found = len(fields)
        for value in fields.values():
            items = from_json(value, type=list[Raw]) if memoryview(value)[0] == _LIST else [value]
            found += sum(json.tree_bytes(json.loads(bytes(item))).count(_END_OF_KEY) for item in items)
    except (ValueError, TypeError, RecursionError):
        return False
    return found == data.count(_END_OF_KEY)


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
