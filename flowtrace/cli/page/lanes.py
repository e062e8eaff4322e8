"""Where each step stands in a timeline: one lane a thread, and in it as many rows as steps ran at the same time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flowtrace.trace.outline import Entry

if TYPE_CHECKING:
    from flowtrace.trace.model import Step

LARGEST: Final = 2**53 - 1
"""A larger number is none that a script could count with."""
MOST_ROWS: Final = 40
"""A deep recursion would fill a screen with its rows: what is deeper stands in the last of them."""
_SLACK: Final = 1
"""Microseconds: starts are cut to whole ones, so that one step may seem to begin before the last has ended."""


def duration_ns(step: Step) -> int:
    """Return how long a step took, in nanoseconds, as far as a script can count."""
    length = step.duration_ms * 1_000_000 if step.duration_ns is None else step.duration_ns
    return min(max(length, 0), LARGEST)


class Lanes:
    """The rows of the steps within their threads' lanes.

    Args:
        entries: the steps, in the order of the tree.
        starts: when each began, in microseconds; None where that is not known.

    Attributes:
        rows: the row of each step, from 0; no two steps of a thread overlap in a row but in the last one.
    """

    def __init__(self, entries: list[Entry], starts: list[int | None]) -> None:
        self.rows = [0] * len(entries)
        at = {id(entry): row for row, entry in enumerate(entries)}
        ends: dict[str | None, list[int]] = {}
        timed = [row for row, start in enumerate(starts) if start is not None]
        for row in sorted(timed, key=lambda row: (starts[row] or 0, row)):
            entry = entries[row]
            start = starts[row] or 0
            lane = ends.setdefault(entry.step.thread, [])
            parent = entry.parent
            below = 0 if parent is None or parent.step.thread != entry.step.thread else self.rows[at[id(parent)]] + 1
            own = next((n for n in range(below, len(lane)) if lane[n] <= start + _SLACK), max(below, len(lane)))
            own = min(own, MOST_ROWS - 1)
            lane += [0] * (own + 1 - len(lane))
            lane[own] = max(lane[own], start + duration_ns(entry.step) // 1000)
            self.rows[row] = own
