"""JSON by orjson: reading it, writing it, and finding out whether a value is JSON as it is."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from gc import is_tracked
from itertools import islice
from math import isfinite
from typing import Any, Final

import orjson

from flowtrace.host import objects
from flowtrace.host.signals import let_through
from flowtrace.host.system import re

EXACT_TYPES: Final = (
    orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
)
Fragment: Final = orjson.Fragment
JSONError: Final = orjson.JSONEncodeError
SORTED_KEYS: Final = orjson.OPT_SORT_KEYS
INDENTED: Final = orjson.OPT_INDENT_2
dumps: Final = orjson.dumps
"""orjson's own function, for the hot path: one more call would be too slow there."""
_loads: Final = orjson.loads
_CANONICAL: Final = EXACT_TYPES | SORTED_KEYS
UNIT_OF_TEXT: Final = 512  # characters of a text that count as one more atom
# Types by their ids: a metaclass may have an __eq__ and a __hash__ of its own.
SCALARS: Final = frozenset(map(id, (str, int, float, bool, type(None))))
CONTAINERS: Final = frozenset(map(id, (dict, list, tuple)))
_ATOMS: Final = frozenset(map(id, (int, float, bool, type(None))))  # without texts, which may be long
_MANY: Final = 1000  # from so many items on, a quick look at all of them pays
_FEW: Final = 10  # of them, at which one looks before
_MOST_LEVELS: Final = 254  # of lists and dicts, that orjson writes
_JSON_TYPES: Final = SCALARS | CONTAINERS
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"')
_ONE_KIND: Final = bytes.maketrans(b"{}", b"[]")
_OTHER_BYTES: Final = bytes(code for code in range(256) if code not in b"[]{}")
MAX_WORK: Final = 200_000
"""Units of work that a value may take: an atom or a container 1, a value that needs a form 20."""
UNLIMITED: Final = 1 << 62
"""For what was read from JSON, so that it holds nothing twice."""


def plain(value: object, limit: int = MAX_WORK) -> bytes | None:
    """Return the canonical bytes of a value of exact JSON types; None for any other value.

    Args:
        value: anything.
        limit: units of work that it may take: 1 for each atom and container.
    """
    found = plain_within(value, limit)
    return None if found is None else found[0]


def plain_within(value: object, limit: int) -> tuple[bytes, int] | None:
    """Do what `plain` does; return the units of work that are left, too."""
    try:
        left = _work_left(value, limit)
        data = dumps(value, None, _CANONICAL) if left >= 0 else None
        return None if data is None or holds_odd_float(value, data) else (data, left)
    except BaseException as error:
        let_through(error)
        return None


def tree_bytes(tree: object) -> bytes:
    """Return the canonical bytes of a value that was read from JSON, so that it is a tree of exact types.

    Raises:
        TypeError: it can't be written, for example since it is nested deeper than orjson writes (254 levels).
    """
    return dumps(tree, None, _CANONICAL)


def bytes_of_tree(tree: object) -> bytes | None:
    """Return what `tree_bytes` does; None where it raises."""
    try:
        return dumps(tree, None, _CANONICAL)
    except TypeError:
        return None


def sized_bytes_of_tree(tree: object) -> bytes | None:
    """Return what `bytes_of_tree` does, in its own size: any text of orjson's own takes a kilobyte or more."""
    try:
        return dumps(tree, None, _CANONICAL | orjson.OPT_APPEND_NEWLINE)[:-1]
    except TypeError:
        return None


def loads(data: bytes) -> Any:
    """Return the JSON-like objects of canonical bytes, or of any JSON document.

    Raises:
        ValueError: the bytes are not JSON, or nested deeper than orjson reads (1,024 levels).
    """
    return _loads(data)


def pretty(document: object) -> bytes:
    """Return a document in the layout of the trace file: 2-space indent, raw UTF-8, no trailing newline.

    A lone surrogate, as a file name may hold, is written as the text of its escape.
    """
    try:
        return dumps(document, option=INDENTED)
    except JSONError:
        return dumps(_escaped(document), option=INDENTED)


def _escaped(document: Any) -> Any:
    if isinstance(document, str):
        return document.encode("utf-8", "backslashreplace").decode()
    if isinstance(document, dict):
        return {_escaped(name): _escaped(item) for name, item in document.items()}
    return [_escaped(item) for item in document] if isinstance(document, list) else document


def is_deeper(data: bytes, levels: int) -> bool:
    """Return True if JSON text is nested deeper than a number of levels, without making its objects."""
    if data.count(b"[") + data.count(b"{") <= levels:
        return False
    brackets = _STRING.sub(b"", data).translate(_ONE_KIND, _OTHER_BYTES)
    for _ in range(levels):
        inner = brackets.replace(b"[]", b"")
        if not inner:
            return False
        if len(inner) == len(brackets):
            break
        brackets = inner
    return True


def dumps_each(items: Collection[object]) -> list[bytes]:
    """Return the bytes of each of many scalars with one call: line breaks separate them, and no scalar contains one."""
    if not items:
        return []
    lines = dumps(list(items), option=INDENTED)
    texts = lines[len(b"[\n  ") : -len(b"\n]")].split(b",\n  ")
    if b"null" not in texts:
        return texts
    return [
        float_form(item) if text == b"null" and type(item) is float else text
        for item, text in zip(items, texts, strict=True)
    ]


def float_form(value: float) -> bytes:
    """Return what is written of NaN or an infinity, which JSON does not have; orjson writes all of them as null."""
    return b'{"$py":"float","value":"%b"}' % str(value).encode()


def holds_odd_float(tree: object, data: bytes) -> bool:
    """Return True if NaN or an infinity is in a value of exact JSON types.

    Args:
        tree: the value; an `orjson.Fragment` in it is not looked into.
        data: its JSON text by orjson.
    """
    if b"null" not in data:
        return False
    todo: list[Any] = [(tree,)]
    while todo:
        items = todo.pop()
        values = items.values() if type(items) is dict else items
        if not all(map(isfinite, [item for item in values if type(item) is float])):
            return True
        todo += [item for item in values if id(type(item)) in CONTAINERS]
    return False


def _work_left(value: object, limit: int) -> int:
    """Return the units of work that are left of some after a value; -1 where it has not only exact JSON types.

    A container is looked at each time that it is met, without a copy of it. One that is too deep is -1, too: orjson
    writes tuples in tuples at any depth, beyond the memory that it has for them.
    """
    if id(type(value)) in _ATOMS:
        return max(limit - 1, -1)
    level: list[Any] = [(value,)]
    limit += 1  # the value as such
    for _ in range(_MOST_LEVELS + 1):
        deeper: list[Any] = []
        for items in level:
            limit = _work_left_after(items, limit, deeper)
            if limit < 0:
                return -1
        if not deeper:
            return limit
        level = deeper
    return -1


def _work_left_after(items: Any, limit: int, deeper: list[Any]) -> int:
    """Return the units of work that are left after some items, or -1; add what is in their containers to a list."""
    limit -= len(items)
    if limit < 0 or (len(items) > _MANY and not type_ids(islice(items, _FEW)) <= _JSON_TYPES):
        return -1
    kinds = type_ids(items)
    if not kinds <= _JSON_TYPES:
        return -1
    if id(str) in kinds:
        limit -= work_of_texts(items)
    for item in items if kinds & CONTAINERS else ():
        if type(item) is dict:
            if len(item) < _MANY or len(item) > limit or not _has_numbers_alone(item):
                deeper.append(item.values())
            else:
                limit -= len(item)
        elif type(item) is list or type(item) is tuple:
            deeper.append(item)
    return max(limit, -1)


def work_of_texts(items: Iterable[Any]) -> int:
    """Return how many units of work the texts among some values take, in addition to 1 each."""
    return sum([len(item) // UNIT_OF_TEXT for item in items if type(item) is str and len(item) >= UNIT_OF_TEXT])


def _has_numbers_alone(mapping: dict[Any, Any]) -> bool:
    """Return True if a quick look shows that all values of a dict are numbers.

    The garbage collector does not track a dict of atoms; and among atoms, only numbers compare with a number, as `max`
    does with each of them.
    """
    if is_tracked(mapping):
        return False
    try:
        return type(max(mapping.values())) in (int, float)
    except BaseException as error:
        let_through(error)
        return False


def keys_of(tree: object) -> set[str]:
    """Return the keys of all mappings in a value of exact JSON types."""
    found: set[str] = set()
    todo: list[Any] = [(tree,)]
    while todo:
        items = todo.pop()
        if type(items) is dict:
            found.update(items)
            items = items.values()
        todo += [item for item in items if id(type(item)) in CONTAINERS]
    return found


def type_ids(items: Iterable[object]) -> set[int]:
    """Return the ids of the types of some values."""
    return objects.ids_of_types(items)
