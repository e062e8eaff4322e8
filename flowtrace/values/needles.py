"""Which of many short texts are in a text. In a short one, most of them are ruled out by their first two letters."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Final

_SHORT: Final = 300  # characters; in a longer text most pairs of letters are somewhere
Starts = dict[Any, list[Any]]
"""Texts, or bytes, by their first two letters, by their only one, or by None for an empty one."""


def by_starts(needles: Iterable[Any]) -> Starts:
    """Return texts, or bytes, as `needles_in` takes them."""
    found: Starts = {}
    for needle in needles:
        start = tuple(needle[:2]) if len(needle) > 1 else needle[0] if needle else None
        found.setdefault(start, []).append(needle)
    return found


def needles_in(text: Any, starts: Starts) -> list[Any]:
    """Return those of some texts, or bytes, that are in a text of the same kind, in no order of their own."""
    if len(text) > _SHORT:
        return [needle for needles in starts.values() for needle in needles if needle in text]
    here = {None, *text, *pairwise(text)}
    return [needle for start in starts.keys() & here for needle in starts[start] if needle in text]
