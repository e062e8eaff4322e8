"""The differences between two JSON values, each with its JSON Pointer. Nesting uses memory, never Python's stack.

A patch library would do for ordinary values; these come from traces, where `1`, `1.0` and `true` are three different
values, where depth has no bound, and where only the first few differences are wanted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from flowtrace.values.encode import TAG, canonical_bytes
from flowtrace.values.json import UNLIMITED, loads, plain

ABSENT: Final = object()
_MAX_COUNTED: Final = 100_000  # differences; two values with more of them have nothing in common


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between two values.

    Attributes:
        pointer: JSON Pointer (RFC 6901) of the part that differs; ``""`` is the complete value.
        kind: ``changed``, ``added`` or ``removed``.
        a: the value in A; None where it was added.
        b: the value in B; None where it was removed.
    """

    pointer: str
    kind: str
    a: Any
    b: Any

    def sides(self, text_of: Callable[[Any], str], absent: str = "absent") -> tuple[str, str]:
        """Return both values as text; where one is absent, a word for that."""
        a = absent if self.kind == "added" else text_of(self.a)
        return a, absent if self.kind == "removed" else text_of(self.b)

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON-like objects, without the side on which the value is absent."""
        found: dict[str, Any] = {"pointer": self.pointer, "kind": self.kind}
        if self.kind != "added":
            found["a"] = showable(self.a)
        if self.kind != "removed":
            found["b"] = showable(self.b)
        return found


def showable(value: Any) -> Any:
    """Return a value that JSON libraries can write: one that is nested too deeply is replaced by a cut value."""
    if plain([[[[[[[[value]]]]]]]], UNLIMITED) is not None:  # the document around it has some levels too
        return value
    try:
        shown = loads(canonical_bytes(value))
    except ValueError:
        shown = None
    return (
        {TAG: "cut", "reason": "nested"} if plain([[[[[[[[shown]]]]]]]], UNLIMITED) is None or shown is None else shown
    )


def is_same(a: Any, b: Any) -> bool:
    """Return True if two JSON values have the same canonical bytes."""
    return _canonical(a) == _canonical(b)


def changes(a: Any, b: Any, limit: int) -> tuple[list[Change], int]:
    """Return where two JSON values differ, in the order of A.

    Items of arrays are compared by index, after what both arrays begin and end with.

    Args:
        a: a JSON-like value.
        b: another.
        limit: return no more differences than this.

    Returns:
        The first differences, and how many more there are (at least).
    """
    found: list[Change] = []
    count = 0
    waiting: list[tuple[str, Any, Any]] = [("", a, b)]
    while waiting and count < _MAX_COUNTED:
        pointer, one, other = waiting.pop()
        if isinstance(one, dict) and isinstance(other, dict):
            waiting += reversed(_members(pointer, one, other))
        elif isinstance(one, list) and isinstance(other, list):
            waiting += reversed(_items(pointer, one, other))
        elif one is ABSENT or other is ABSENT or not is_same(one, other):
            count += 1
            if len(found) < limit:
                found.append(_change(pointer, one, other))
    return found, count - len(found)


def _change(pointer: str, a: Any, b: Any) -> Change:
    if a is ABSENT:
        return Change(pointer, "added", None, b)
    return Change(pointer, "removed", a, None) if b is ABSENT else Change(pointer, "changed", a, b)


def _members(pointer: str, a: dict[str, Any], b: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    return [
        (f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}", a.get(name, ABSENT), b.get(name, ABSENT))
        for name in {**a, **b}
    ]


def _items(pointer: str, a: list[Any], b: list[Any]) -> list[tuple[str, Any, Any]]:
    start, end = (0, 0) if len(a) == len(b) else _common(a, b)
    inner_a, inner_b = len(a) - end, len(b) - end
    return [
        (f"{pointer}/{at}", a[at] if at < inner_a else ABSENT, b[at] if at < inner_b else ABSENT)
        for at in range(start, max(inner_a, inner_b))
    ]


def _common(a: list[Any], b: list[Any]) -> tuple[int, int]:
    """Return how many items two arrays have in common at their beginnings, and at their ends."""
    ours, theirs = list(map(_canonical, a)), list(map(_canonical, b))
    shorter = min(len(ours), len(theirs))
    start = next((at for at in range(shorter) if ours[at] != theirs[at]), shorter)
    rest = shorter - start
    end = next((at for at in range(rest) if ours[-1 - at] != theirs[-1 - at]), rest)
    return start, end


def _canonical(value: Any) -> bytes:
    data = plain(value, UNLIMITED)
    return canonical_bytes(value) if data is None else data
