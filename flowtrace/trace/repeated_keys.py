"""Keys that a JSON object has more than once. Decoders pass them over, and keep the last value, or the first."""

from __future__ import annotations

from collections.abc import Iterator
from json import loads
from typing import Any, Final

from flowtrace.errors import pointer_token
from flowtrace.host.system import re
from flowtrace.trace.model import EXTRA_FIELD, Raw, Step, from_json, to_json
from flowtrace.values import json

MOST: Final = 1000
_COLON: Final = b":"
_EXTRA: Final = EXTRA_FIELD.encode()  # a key that only the record has
_LIST: Final = ord("[")
_ESCAPED_COLON: Final = re.compile(rb"\\u003[aA]")


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
    """Return True if a quick look shows that no key is repeated: as many colons are read as are written.

    The items of each list in the document are read one by one, since all of them together may be many objects.
    """
    if _hides_a_colon(data):
        return False
    try:
        fields = from_json(data, type=dict[str, Raw])
        found = sum(1 + name.count(":") for name in fields)
        for value in fields.values():
            items = from_json(value, type=list[Raw]) if memoryview(value)[0] == _LIST else [value]
            found += sum(json.tree_bytes(json.loads(bytes(item))).count(_COLON) for item in items)
    except (ValueError, TypeError, RecursionError):
        return False
    return found == data.count(_COLON)


class KeyCounts:
    """A quick look at the parts of a document, one by one.

    Attributes:
        may_repeat: a key may be there again in one of them, so that `repeated_keys` has to look at all of it.
    """

    def __init__(self) -> None:
        self.may_repeat = False

    def look(self, text: bytes, step: Step) -> None:
        """Look at the text of a step, which was read as this record."""
        self.may_repeat = self.may_repeat or not (_is_all_in(step, text) or _has_none(text))

    def look_at_document(self, text: bytes) -> None:
        """Look at a text that was not read as a step."""
        self.may_repeat = self.may_repeat or not _has_none(text)


def _is_all_in(step: Step, text: bytes) -> bool:
    """Return True if a record has as many keys as its text; a field that has its default may be in the text alone."""
    if _hides_a_colon(text):
        return False
    written = to_json(step)
    return written.count(_COLON) == text.count(_COLON) and _EXTRA not in written


def _hides_a_colon(data: bytes) -> bool:
    return b"\\" in data and _ESCAPED_COLON.search(data) is not None


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
