"""The texts by which hidden values can be recognized in other texts, as in that of an error."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from enum import Enum
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, Final

from flowtrace.host.objects import inherits, instance_dict, pairs_of
from flowtrace.host.signals import let_through
from flowtrace.values.copies import Copy
from flowtrace.values.forms import state
from flowtrace.values.forms_arrays import first_items
from flowtrace.values.forms_builtin import named_items
from flowtrace.values.forms_records import ENUM_NOTES
from flowtrace.values.redaction import MARKER, SecretNames

LONGEST_TEXT: Final = 8192  # characters of an error's text, and so of a secret that it may hold
EVERYTHING: Final = ""
"""Used where there are too many secrets to list: it is in every text."""
_BEGINNING: Final = slice(LONGEST_TEXT)
SHORTEST: Final = 4  # shorter ones, and short numbers, must match a complete word; a single character is no secret
SHORTEST_BESIDE: Final = 8  # of a key, an attribute of an object, a variable: most shorter ones are ordinary words
_MOST_TEXTS: Final = 1000
_MOST_PARTS: Final = 20_000
_FUNCTIONS: Final = (FunctionType, BuiltinFunctionType)
_DEEPEST_OBJECT: Final = 3
_ORDINARY: Final = frozenset({"none", "null", "true", "false", "yes", "no", "on", "off", MARKER.lower()})


def texts_in(hidden: Iterable[object], secret: SecretNames) -> tuple[str, ...]:
    """Return the texts by which hidden values can be recognized. Never raises, but for what a signal handler does.

    Args:
        hidden: the values. No code of theirs is run.
        secret: the test for secret names.

    Returns:
        At most 1,000 texts; `EVERYTHING` where there are more.
    """
    found: dict[str, None] = {}
    try:
        _collect(deque((value, 0, SHORTEST) for value in hidden), secret, found)
    except BaseException as error:
        let_through(error)
        return (EVERYTHING,)
    return tuple(found) if len(found) <= _MOST_TEXTS else (EVERYTHING,)


def _collect(waiting: deque[tuple[object, int, int]], secret: SecretNames, found: dict[str, None]) -> None:
    """Add the texts in plain containers, up to the limits, and the longer ones in other objects, a few levels deep."""
    seen: dict[int, object] = {}
    while waiting and len(found) <= _MOST_TEXTS:
        value, depth, shortest = waiting.popleft()
        kind = type(value)
        texts = _texts_of(value, kind)
        if texts is not None:
            found.update(
                dict.fromkeys(text[:LONGEST_TEXT] for text in texts if _is_worth_hiding(text, shortest, secret))
            )
        elif id(value) not in seen:
            seen[id(value)] = value
            if len(seen) > _MOST_PARTS:
                found[EVERYTHING] = None
                return
            waiting += _children(value, kind, depth, shortest, secret)


def _texts_of(value: Any, kind: type) -> list[str] | None:
    if value is None or kind is bool:
        return []
    if inherits(kind, str):
        return [str.__str__(value)]
    base = next((base for base in (bytes, bytearray) if inherits(kind, base)), None)
    if base is not None:  # a subclass may have a __buffer__ of its own
        data = bytes(base.__getitem__(value, _BEGINNING))
        return list({data.decode("utf-8", "replace"), data.decode("latin-1"), repr(data)[2:-1], data.hex()})
    if kind in (int, float):
        return [repr(value)] if kind is float or value.bit_length() < 4096 else []
    return None


def _is_worth_hiding(text: str, shortest: int, secret: SecretNames) -> bool:
    """Return True if a text is a secret. An attribute of an object may be a mere name, as that of a column."""
    if shortest > SHORTEST:
        return len(text) >= shortest and not secret(text)
    return len(text) > 1 and text.lower() not in _ORDINARY and not text.isspace()


def _children(value: Any, kind: type, depth: int, shortest: int, secret: SecretNames) -> list[tuple[object, int, int]]:
    if inherits(kind, dict):
        pairs = pairs_of(value)
        return [(key, depth, SHORTEST_BESIDE) for key, _ in pairs] + [(item, depth, shortest) for _, item in pairs]
    if kind in (list, tuple, set, frozenset, deque):
        return [(item, depth, shortest) for item in tuple(value)]
    if depth >= _DEEPEST_OBJECT:
        return []
    items, attributes = value.parts() if kind is Copy else (_items_of(value, kind), _attributes_of(value, kind, depth))
    least = {name: SHORTEST if type(name) is str and secret(name) else SHORTEST_BESIDE for name in attributes}
    inside = [(item, depth + 1, least[name]) for name, item in attributes.items()]
    return [(item, depth + 1, shortest) for item in items] + inside


def _attributes_of(value: Any, kind: type, depth: int) -> dict[str, Any]:
    """Return the attributes that an object has of its own, a named tuple's items among them."""
    if any(inherits(kind, base) for base in _FUNCTIONS):  # not the globals of its module
        return dict(instance_dict(value))
    if inherits(kind, type) or inherits(kind, ModuleType):  # what is kept in one, unless an object only refers to it
        return {} if depth else {name: item for name, item in state(value).items() if not _is_special(name)}
    if inherits(kind, Enum):
        return {name: item for name, item in state(value).items() if name not in ENUM_NOTES}
    return state(value) | (named_items(value, kind) or {})


def _is_special(name: object) -> bool:
    return type(name) is str and name.startswith("__") and name.endswith("__")


def _items_of(value: Any, kind: type) -> list[object]:
    for base in (list, tuple, set, frozenset):
        if inherits(kind, base):
            return list(base.__iter__(value))
    if items := first_items(value, kind, _MOST_TEXTS):
        return items
    if inherits(kind, BaseException):
        return [BaseException.__dict__["args"].__get__(value)]
    return [int.__int__(value)] if inherits(kind, int) else []


def remember(secrets: Iterable[str], kept: dict[str, None]) -> None:
    """Add secrets to those that are kept: the newest 1,000, which an error is likelier to quote."""
    kept.update(dict.fromkeys(secrets))
    while len(kept) > _MOST_TEXTS:
        del kept[next(iter(kept))]
