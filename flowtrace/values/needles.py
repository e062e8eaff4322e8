"""Which of many short texts are in a text. In a very short one, the first two letters of most of them are missing."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Final

_SHORT: Final = 30  # characters; in a longer text, to search for each text is quicker
Starts = dict[object, list[str]]
"""Texts by their first two letters, by their only one, or by None for an empty one."""


def by_starts(needles: Iterable[str]) -> Starts:
    """Return texts as `needles_in` takes them."""
    found: Starts = {}
    for needle in needles:
        start = tuple(needle[:2]) if len(needle) > 1 else needle or None
        found.setdefault(start, []).append(needle)
    return found


def needles_in(text: str, starts: Starts) -> list[str]:
    """Return those of some texts that are in a text, in no order of their own."""
    if len(text) > _SHORT:
        return [needle for needles in starts.values() for needle in needles if needle in text]
    here = {None, *text, *pairwise(text)}
    return [needle for start in starts.keys() & here for needle in starts[start] if needle in text]
