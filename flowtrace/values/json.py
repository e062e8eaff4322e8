"""JSON as orjson writes and reads it, and which Python values it holds as they are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from gc import is_tracked
from typing import Any, Final

import orjson

from flowtrace.host.signals import let_through

EXACT_TYPES: Final = (
    orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
)
Fragment: Final = orjson.Fragment
JSONError: Final = orjson.JSONEncodeError
SORTED_KEYS: Final = orjson.OPT_SORT_KEYS
dumps: Final = orjson.dumps
"""What orjson has to offer to the hot path, where even a call in between would count."""
_CANONICAL: Final = EXACT_TYPES | SORTED_KEYS
LONG_TEXT: Final = 4096
# Types by their ids: a metaclass may have an __eq__ and a __hash__ of its own.
SCALARS: Final = frozenset(map(id, (str, int, float, bool, type(None))))
CONTAINERS: Final = frozenset(map(id, (dict, list, tuple)))
_MANY: Final = 1000  # items, from which on it is worth while to look for a shorter way
_JSON_TYPES: Final = SCALARS | CONTAINERS


def plain(value: object) -> bytes | None:
    """Return the canonical bytes of a value that JSON holds as it is; None for any other value.

    Also None for a value that holds one container in two places: `encode` sets bounds to what that becomes.
    """
    try:
        return orjson.dumps(value, None, _CANONICAL) if is_tree(value) else None
    except Exception as error:
        let_through(error)
        return None


def tree_bytes(tree: object) -> bytes:
    """Return the canonical bytes of what was read from JSON: it is known to be a tree of exact types.

    Raises:
        TypeError: it can't be written, for example since it is nested more than orjson writes (254 levels).
    """
    return orjson.dumps(tree, None, _CANONICAL)


def loads(data: bytes) -> Any:
    """Return the JSON-like objects of canonical bytes, or of any JSON document.

    Raises:
        ValueError: the bytes are not JSON, or nested more than orjson reads (1,024 levels).
    """
    return orjson.loads(data)


def pretty(document: object) -> bytes:
    """Return a document in the layout of the trace file: 2-space indent, raw UTF-8, no trailing newline.

    A lone surrogate, as a file name may hold, is written as the text of its escape.
    """
    try:
        return orjson.dumps(document, option=orjson.OPT_INDENT_2)
    except orjson.JSONEncodeError:
        return orjson.dumps(_escaped(document), option=orjson.OPT_INDENT_2)


def _escaped(document: Any) -> Any:
    if isinstance(document, str):
        return document.encode("utf-8", "backslashreplace").decode()
    if isinstance(document, dict):
        return {_escaped(name): _escaped(item) for name, item in document.items()}
    return [_escaped(item) for item in document] if isinstance(document, list) else document


def dumps_each(items: Collection[object]) -> list[bytes]:
    """Return the bytes of each of many scalars by one call: a line break can stand between them, but in none."""
    if not items:
        return []
    lines = orjson.dumps(list(items), option=orjson.OPT_INDENT_2)
    return lines[len(b"[\n  ") : -len(b"\n]")].split(b",\n  ")


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
            if kind is dict:
                if len(item) < _MANY or not _has_numbers_alone(item):
                    todo.append(item.values())
            elif kind is not str:
                todo.append(item)
    return True


def _has_numbers_alone(mapping: dict[Any, Any]) -> bool:
    """Tell, where it is quickly seen, that a dict's values are numbers: a dict of atoms can be compared to its maximum.

    The garbage collector does not track a dict of atoms, and among those only numbers compare with a number.
    """
    if is_tracked(mapping):
        return False
    try:
        return type(max(mapping.values())) in (int, float)
    except Exception as error:
        let_through(error)
        return False


def keys_of(tree: object) -> Iterator[str]:
    """Give the keys of all mappings in a value of exact JSON types."""
    todo: list[Any] = [(tree,)]
    while todo:
        items = todo.pop()
        if type(items) is dict:
            yield from items
            items = items.values()
        todo += [item for item in items if id(type(item)) in CONTAINERS]


def type_ids(items: Iterable[object]) -> set[int]:
    """Return the ids of the types of some values."""
    return set(map(id, map(type, items)))
