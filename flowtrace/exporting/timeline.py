"""The steps of a trace on tracks, so that on each of them what overlaps is nested as the calls were."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final, NamedTuple

from flowtrace.host.system import parse_timestamp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flowtrace.trace.model import Step
    from flowtrace.trace.outline import Entry

LONGEST: Final = 2**53 - 1
"""Nanoseconds: a longer time is none that a script could count with."""
_LATEST: Final = 2**62  # nanoseconds since 1970: a later start, or one before 1970, counts as not recorded
_UNIT: Final = 1000  # starts are recorded in whole microseconds, cut and not rounded
_ROUNDS: Final = 8
_NO_THREAD: Final = "(thread not recorded)"
_NO_START: Final = "(start not recorded)"


class Event(NamedTuple):
    """The begin or the end of a step on a track.

    Attributes:
        at: nanoseconds since the start of the timeline.
        row: index of the step in the order of the tree.
        begins: whether it is the begin.
    """

    at: int
    row: int
    begins: bool


class Track(NamedTuple):
    """Steps of one thread, of which any two are one after the other, or one in the other because it was called there.

    Attributes:
        name: the thread; with a number, where steps of it overlapped without one being called in the other.
        events: in the order of time; each end follows the ends of what is nested in its step.
    """

    name: str
    events: list[Event]


class Timeline(NamedTuple):
    """The tracks of a trace.

    Attributes:
        origin: nanoseconds from 1970 to the start of the timeline; 0 where no start is recorded.
        tracks: each step is on one of them.
        elsewhere: rows of the steps that are not on the track of the step that called them, or not inside it.
    """

    origin: int
    tracks: list[Track]
    elsewhere: set[int]


def duration_of(step: Step) -> int:
    """Return how long a step took, in nanoseconds, from 0 to `LONGEST`."""
    length = step.duration_ms * 1_000_000 if step.duration_ns is None else step.duration_ns
    return min(max(length, 0), LONGEST)


def timeline(entries: list[Entry]) -> Timeline:
    """Return the timeline of a trace.

    A step is nested in the one that called it where both are of one thread and it ended first. Tasks on one thread, and
    what outlives its caller, get tracks of their own. Steps without a start stand one after the other on a last track.

    Args:
        entries: its steps, as `outline` returns them.
    """
    found = [parse_timestamp(entry.step.started_at) for entry in entries]
    recorded = [None if start is None or not 0 <= start < _LATEST else start for start in found]
    origin = min((start for start in recorded if start is not None), default=0)
    starts = [None if start is None else start - origin for start in recorded]
    parents = _parents(entries, starts)
    lengths = [duration_of(entry.step) for entry in entries]
    lanes: dict[str, _Lanes] = {}
    settled = _settled(entries, starts, lengths, parents)
    nested: set[int] = set()
    timed = [row for row, start in enumerate(starts) if start is not None]
    for row in sorted(timed, key=lambda row: (settled[row], row)):
        of_thread = lanes.setdefault(entries[row].step.thread or _NO_THREAD, _Lanes())
        if of_thread.put(row, settled[row], settled[row] + lengths[row], parents[row]):
            nested.add(row)
    tracks = [track for thread, of_thread in lanes.items() for track in of_thread.tracks(thread)]
    untimed = [row for row, start in enumerate(starts) if start is None]
    if untimed:
        tracks.append(Track(_NO_START, _in_turn(untimed, lengths)))
    elsewhere = {row for row, entry in enumerate(entries) if entry.parent is not None and row not in nested}
    return Timeline(origin, tracks, elsewhere)


def _parents(entries: list[Entry], starts: list[int | None]) -> list[int | None]:
    """Return the row of the step that each was called in, where both have a start, and one thread."""
    rows = {id(entry): row for row, entry in enumerate(entries)}
    found: list[int | None] = []
    for row, entry in enumerate(entries):
        above = None if entry.parent is None else rows[id(entry.parent)]
        same = above is not None and starts[above] is not None and entries[above].step.thread == entry.step.thread
        found.append(above if same and starts[row] is not None else None)
    return found


def _settled(
    entries: list[Entry], starts: list[int | None], lengths: list[int], parents: list[int | None]
) -> list[int]:
    """Return starts in nanoseconds, within the microsecond that is recorded, at which steps lie as they did.

    With its nanoseconds cut off, a step may seem to end after the one that called it, or to begin before the one
    before it has ended. No start goes down here, so that the rounds come to an end; what still does not fit is no
    matter of nanoseconds.
    """
    settled = [start or 0 for start in starts]

    def begins_at_least(row: int, time: int) -> bool:
        if settled[row] < time <= (starts[row] or 0) + _UNIT - 1:
            settled[row] = time
            return True
        return False

    for _ in range(_ROUNDS):
        changed = False
        last: dict[tuple[int | None, str | None], int] = {}
        for row, above in enumerate(parents):
            if starts[row] is None:
                continue
            before = last.get((above, entries[row].step.thread))
            if before is not None:
                changed |= begins_at_least(row, settled[before] + lengths[before])
            last[above, entries[row].step.thread] = row
            if above is not None:
                changed |= begins_at_least(row, settled[above])
        for row in reversed(range(len(parents))):
            above = parents[row]
            if above is not None:
                changed |= begins_at_least(above, settled[row] + lengths[row] - lengths[above])
        if not changed:
            break
    return settled


class _Lane:
    """A track that is being filled: its events so far, and the ends and rows of the open steps, outermost first."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._open: list[tuple[int, int]] = []

    def close(self, time: int) -> None:
        """End the steps that are over by then."""
        while self._open and self._open[-1][0] <= time:
            end, row = self._open.pop()
            self.events.append(Event(end, row, begins=False))

    def holds(self, parent: int, start: int, end: int) -> bool:
        """End what is over in a step, and return True if another can be put into it."""
        while self._open and self._open[-1][1] != parent and self._open[-1][0] <= start:
            ended, row = self._open.pop()
            self.events.append(Event(ended, row, begins=False))
        return bool(self._open) and self._open[-1][1] == parent and end <= self._open[-1][0]

    def begin(self, row: int, start: int, end: int) -> None:
        """Put a step into the innermost open one."""
        self._open.append((end, row))
        self.events.append(Event(start, row, begins=True))


class _Lanes:
    """The tracks of a thread, which steps are put on in the order of their starts."""

    def __init__(self) -> None:
        self._lanes: list[_Lane] = []
        self._busy: list[tuple[int, int]] = []  # when a lane is free, and its index
        self._free: list[int] = []
        self._lane_of: dict[int, _Lane] = {}

    def put(self, row: int, start: int, end: int, parent: int | None) -> bool:
        """Put a step into the one that called it, or else on the first track that is free then.

        Returns:
            Whether it is in the one that called it.
        """
        own = None if parent is None else self._lane_of.get(parent)
        nested = own is not None and parent is not None and own.holds(parent, start, end)
        if own is None or not nested:
            own = self._free_lane(start, end)
        own.begin(row, start, end)
        self._lane_of[row] = own
        return nested

    def tracks(self, thread: str) -> Iterator[Track]:
        """Yield the tracks, once all steps are on them."""
        for at, lane in enumerate(self._lanes):
            lane.close(2 * _LATEST)
            yield Track(f"{thread} ({at + 1})" if at else thread, lane.events)

    def _free_lane(self, start: int, end: int) -> _Lane:
        while self._busy and self._busy[0][0] <= start:
            heappush(self._free, heappop(self._busy)[1])
        if not self._free:
            self._free.append(len(self._lanes))
            self._lanes.append(_Lane())
        at = heappop(self._free)
        heappush(self._busy, (end, at))
        self._lanes[at].close(start)
        return self._lanes[at]


def _in_turn(rows: list[int], lengths: list[int]) -> list[Event]:
    events: list[Event] = []
    time = 0
    for row in rows:
        events.append(Event(time, row, begins=True))
        time += lengths[row]
        events.append(Event(time, row, begins=False))
    return events
