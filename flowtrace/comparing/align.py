"""Which step of one trace is which of another: the trees of their steps, laid side by side.

Steps are matched below the same parent and by the same node: first those with the same input, in the order in which
they began, then the others between them. Where this order means nothing, as between threads, those with the same calls
inside them come first of all. Traces of the v1 core alone have neither parents nor times; there the order in the file
is all there is.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from flowtrace.host.clock import parse_timestamp
from flowtrace.trace.model import Step, Trace

_LARGEST: Final = 2**63 - 1
MICROSECOND: Final = 1_000  # nanoseconds


@dataclass(slots=True, eq=False)
class Place:
    """A step in the tree of its trace.

    Attributes:
        step: its record.
        pointer: JSON Pointer of the record in the trace.
        finished: how many steps of the run had finished before it, those that were dropped included; None while it
            runs.
        started: when it began, in ns; None where the trace does not say.
        parent: the step that it was called in, if that is in the trace.
        children: the steps that were called in it, in the order in which they began.
        is_loose: it ran beside a sibling, or in another thread than its parent, so that its order means nothing.
        inside: the same number for steps with the same input and the same calls inside them, in whatever order.
    """

    step: Step
    pointer: str
    finished: int | None
    started: int | None
    parent: Place | None = None
    children: list[Place] = field(default_factory=list)
    is_loose: bool = False
    inside: int = 0

    @property
    def node(self) -> tuple[str, str, str]:
        """What was called."""
        return self.step.node_id, self.step.component_id, self.step.operation


@dataclass(slots=True, eq=False)
class Pair:
    """Two steps that are the same call, or a step that has no counterpart.

    Attributes:
        a: the step of A, or None.
        b: the step of B, or None.
        occurrence: which call of its node below its parent it is, from 1, in the order of A where it is there.
        is_moved: it comes before or after other siblings than in the other trace.
        is_rolled_out: its counterpart may have rolled out of the other trace's buffer.
        children: the pairs of the steps inside both.
    """

    a: Place | None
    b: Place | None
    occurrence: int = 1
    is_moved: bool = False
    is_rolled_out: bool = False
    children: list[Pair] = field(default_factory=list)

    @property
    def either(self) -> Place:
        """The step of A, or else that of B."""
        place = self.a or self.b
        assert place is not None
        return place


def tree(trace: Trace) -> list[Place]:
    """Return the outermost steps of a trace, in the order in which they began, with those inside them."""
    dropped = dropped_of(trace)
    places = [_place(step, f"/steps/{at}", dropped + at) for at, step in enumerate(trace.steps)]
    places += [_place(step, f"/in_flight/{at}", None) for at, step in enumerate(trace.in_flight)]
    by_id: dict[str, Place] = {}
    for place in places:
        if place.step.step_id is not None:
            by_id.setdefault(place.step.step_id, place)
    inner: dict[int, list[Place]] = {}
    roots: list[Place] = []
    for place in places:
        parent = by_id.get(place.step.parent_step_id or "")
        if parent is None or parent is place:
            roots.append(place)
        else:
            inner.setdefault(id(parent), []).append(place)
    _grow(roots, places, inner)
    for siblings in (roots, *(place.children for place in places if place.children)):
        _put_in_order(siblings)
    _look_inside(roots)
    return roots


def _look_inside(roots: list[Place]) -> None:
    waiting = list(roots)
    outer_first: list[Place] = []
    while waiting:
        place = waiting.pop()
        outer_first.append(place)
        waiting += place.children
    for place in reversed(outer_first):
        place.inside = hash((place.node, _input(place), *sorted(child.inside for child in place.children)))


def _grow(roots: list[Place], places: list[Place], inner: dict[int, list[Place]]) -> None:
    """Hang every step below its parent; of steps that claim to be inside each other, one becomes outermost."""
    seen: set[int] = set()
    for start in (list(roots), places):
        for root in start:
            if id(root) in seen:
                continue
            seen.add(id(root))
            if start is places:
                roots.append(root)
            waiting = [root]
            while waiting:
                place = waiting.pop()
                for child in inner.get(id(place), ()):
                    if id(child) not in seen:
                        seen.add(id(child))
                        child.parent = place
                        place.children.append(child)
                        waiting.append(child)


def bounded(number: int) -> int:
    """Return a number of a trace, at least 0 and no larger than any that is meant."""
    return min(max(number, 0), _LARGEST)


def dropped_of(trace: Trace) -> int:
    """Return how many steps had rolled out of the buffer when a trace was written."""
    return bounded(trace.dropped_steps or 0)


def _place(step: Step, pointer: str, finished: int | None) -> Place:
    return Place(step, pointer, finished, parse_timestamp(step.started_at))


def _put_in_order(siblings: list[Place]) -> None:
    """Sort siblings by their beginnings, and note which of them ran beside others."""
    if all(place.started is not None for place in siblings):
        siblings.sort(key=lambda place: (place.started or 0, place.step.step_id or ""))
    parent = siblings[0].parent if siblings else None
    home = parent.step.thread if parent is not None else None
    threads = {place.step.thread for place in siblings}
    last: Place | None = None
    for place in siblings:
        place.is_loose = place.step.thread != home if parent is not None else len(threads) > 1
        if last is not None and _ran_beside(last, place):
            last.is_loose = place.is_loose = True
        if last is None or _end(place) > _end(last):
            last = place


def _ran_beside(earlier: Place, later: Place) -> bool:
    # times are cut to whole microseconds, so that steps in a row may seem to overlap by less than one
    return later.started is not None and later.started + MICROSECOND < _end(earlier)


def _end(place: Place) -> int:
    return (place.started or 0) + bounded(place.step.duration_ns or 0)


def align(a: Trace, b: Trace) -> list[Pair]:
    """Return the outermost steps of two traces side by side, with the pairs inside them, in the order of A.

    A step that is in B alone comes after what it follows there.
    """
    windows = (dropped_of(a), dropped_of(b))
    pairs: list[Pair] = []
    waiting = [(tree(a), tree(b), pairs)]
    while waiting:
        ours, theirs, into = waiting.pop()
        into += _laid_side_by_side(ours, theirs, windows)
        waiting += [
            (pair.a.children, pair.b.children, pair.children)
            for pair in into
            if pair.a and pair.b and (pair.a.children or pair.b.children)
        ]
    return pairs


def walk(pairs: Iterable[Pair]) -> Iterator[tuple[Pair, bool]]:
    """Go through pairs in the order of execution: each with False when it begins, and with True when it ends."""
    waiting = [(pair, False) for pair in reversed(list(pairs))]
    while waiting:
        pair, is_end = waiting.pop()
        yield pair, is_end
        if not is_end:
            waiting.append((pair, True))
            waiting += [(child, False) for child in reversed(pair.children)]


def _laid_side_by_side(ours: list[Place], theirs: list[Place], windows: tuple[int, int]) -> list[Pair]:
    groups: dict[tuple[str, str, str], tuple[list[int], list[int]]] = {}
    for side, siblings in enumerate((ours, theirs)):
        for at, place in enumerate(siblings):
            groups.setdefault(place.node, ([], []))[side].append(at)
    matches: list[tuple[int, int]] = []
    for positions_a, positions_b in groups.values():
        matches += _Group(ours, theirs, windows).match(positions_a, positions_b)
    matches.sort()
    in_order = _longest_rising([at_b for _, at_b in matches])
    counterpart: dict[int, Pair] = {}
    pairs_of_b: dict[int, Pair] = {}
    for number, (at_a, at_b) in enumerate(matches):
        pair = Pair(ours[at_a], theirs[at_b])
        pair.is_moved = number not in in_order and not (ours[at_a].is_loose or theirs[at_b].is_loose)
        counterpart[at_a] = pairs_of_b[at_b] = pair
    found = [counterpart.get(at) or _alone(place, None, windows) for at, place in enumerate(ours)]
    merged = _merged(found, [pairs_of_b.get(at) or _alone(None, place, windows) for at, place in enumerate(theirs)])
    return _counted(merged)


def _alone(a: Place | None, b: Place | None, windows: tuple[int, int]) -> Pair:
    pair = Pair(a, b)
    pair.is_rolled_out = _may_be_gone(pair.either, windows[1] if a is not None else windows[0])
    return pair


def _may_be_gone(place: Place, window: int) -> bool:
    """Tell whether a step's counterpart would be among the first ``window`` steps, which the other trace dropped."""
    return place.finished is not None and place.finished < window


def _merged(pairs_a: list[Pair], pairs_b: list[Pair]) -> list[Pair]:
    """Return all pairs in the order of A, with those of B alone after what they follow in B."""
    following: dict[int, list[Pair]] = {}
    last = 0
    for pair in pairs_b:
        if pair.a is None:
            following.setdefault(last, []).append(pair)
        else:
            last = id(pair)
    merged = following.get(0, [])
    for pair in pairs_a:
        merged.append(pair)
        merged += following.get(id(pair), ())
    return merged


def _counted(pairs: list[Pair]) -> list[Pair]:
    """Number the calls of each node, on each side apart."""
    counts: dict[tuple[bool, tuple[str, str, str]], int] = {}
    for pair in pairs:
        for is_a, place in ((False, pair.b), (True, pair.a)):
            if place is not None:
                key = (is_a, place.node)
                pair.occurrence = counts[key] = counts.get(key, 0) + 1
    return pairs


class _Group:
    """The calls of one node below one parent, on both sides."""

    def __init__(self, ours: list[Place], theirs: list[Place], windows: tuple[int, int]) -> None:
        self._ours = ours
        self._theirs = theirs
        self._windows = windows

    def match(self, at_a: list[int], at_b: list[int]) -> list[tuple[int, int]]:
        """Return which position in A is which in B."""
        keys = (_inside, _input) if self._any_loose(at_a, at_b) else (_input,)
        same: list[tuple[int, int]] = []
        for key in keys:
            found = self._by(key, at_a, at_b)
            at_a = _without(at_a, {a for a, _ in found})
            at_b = _without(at_b, {b for _, b in found})
            same += found
        same.sort()
        rest_a = [at for at in at_a if not _may_be_gone(self._ours[at], self._windows[1])]
        rest_b = [at for at in at_b if not _may_be_gone(self._theirs[at], self._windows[0])]
        if self._any_loose(rest_a, rest_b) or not same:
            return same + list(zip(rest_a, rest_b, strict=False))
        return same + _between(same, rest_a, rest_b)

    def _any_loose(self, at_a: list[int], at_b: list[int]) -> bool:
        return any(self._ours[at].is_loose for at in at_a) or any(self._theirs[at].is_loose for at in at_b)

    def _by(self, key: Callable[[Place], Hashable], at_a: list[int], at_b: list[int]) -> list[tuple[int, int]]:
        waiting: dict[Hashable, deque[int]] = {}
        for at in self._kept_first(at_b, self._theirs):
            waiting.setdefault(key(self._theirs[at]), deque()).append(at)
        found: list[tuple[int, int]] = []
        for at in self._kept_first(at_a, self._ours):
            candidates = waiting.get(key(self._ours[at]))
            if candidates:
                found.append((at, candidates.popleft()))
        return found

    def _kept_first(self, positions: list[int], siblings: list[Place]) -> list[int]:
        """Put the steps that both traces can hold before those that only one can."""
        window = max(self._windows)
        return sorted(positions, key=lambda at: _may_be_gone(siblings[at], window))


def _inside(place: Place) -> int:
    return place.inside


def _without(positions: list[int], taken: set[int]) -> list[int]:
    return [at for at in positions if at not in taken]


def _input(place: Place) -> tuple[str, str]:
    return place.step.input_hash.algorithm, place.step.input_hash.value


def _between(same: list[tuple[int, int]], rest_a: list[int], rest_b: list[int]) -> list[tuple[int, int]]:
    """Match the rest one by one between the same two neighbours on both sides."""
    kept = _longest_rising([b for _, b in same])
    fixed = [(-1, -1), *(pair for number, pair in enumerate(same) if number in kept)]
    fixed.append((max([*rest_a, *(a for a, _ in same)]) + 1, max([*rest_b, *(b for _, b in same)]) + 1))
    found: list[tuple[int, int]] = []
    waiting_a, waiting_b = deque(rest_a), deque(rest_b)
    for _, (end_a, end_b) in pairwise(fixed):
        found += zip(_taken(waiting_a, end_a), _taken(waiting_b, end_b), strict=False)
    return found


def _taken(waiting: deque[int], end: int) -> list[int]:
    taken: list[int] = []
    while waiting and waiting[0] < end:
        taken.append(waiting.popleft())
    return taken


def _longest_rising(values: Sequence[int]) -> set[int]:
    """Return the indexes of a longest rising subsequence (patience sorting, O(n log n))."""
    tails: list[int] = []
    tail_at: list[int] = []
    before: list[int] = []
    for at, value in enumerate(values):
        place = bisect_left(tails, value)
        before.append(tail_at[place - 1] if place else -1)
        tails[place : place + 1] = [value]
        tail_at[place : place + 1] = [at]
    found: set[int] = set()
    at = tail_at[-1] if tail_at else -1
    while at >= 0:
        found.add(at)
        at = before[at]
    return found
