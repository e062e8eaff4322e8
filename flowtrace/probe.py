"""Tells which values JSON holds as they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from gc import is_tracked
from typing import Any, Final

from flowtrace.interruption import let_through

LONG_TEXT: Final = 4096
# Types by their ids: a metaclass may have an __eq__ and a __hash__ of its own.
SCALARS: Final = frozenset(map(id, (str, int, float, bool, type(None))))
CONTAINERS: Final = frozenset(map(id, (dict, list, tuple)))
_MANY: Final = 1000  # items, from which on it is worth while to look for a shorter way
_JSON_TYPES: Final = SCALARS | CONTAINERS


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
