"""Matching the steps of two traces: which call in one is which call in the other.

Calls are matched if they have the same node and their parents match: first those with the same input, in the order in
which they began, then the others between them. Where this order means nothing, as between threads, calls that also
have the same calls inside them come first. Traces with only the v1 core have neither parents nor times; there only the
order in the file counts.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from operator import attrgetter
from typing import Final

from flowtrace.host.system import parse_timestamp
from flowtrace.trace.model import Step, Trace

_LARGEST: Final = 2**63 - 1
_MICROSECOND: Final = 1_000  # nanoseconds


@dataclass(slots=True, eq=False)
class Call:
    """A step of a trace, and where it is in the tree of calls.

    Attributes:
        step: its record.
        pointer: JSON Pointer of the record in the trace.
        finished_before: how many steps of the run had finished before it, with those that were dropped; None while it
            runs.
        started: when it began, in ns; None where the trace does not say.
        parent: the call that it was made in, if that is in the trace.
        children: the calls that were made in it, in the order in which they began.
        is_unordered: it ran at the same time as a sibling, or in another thread than its parent, so that its order
            means nothing.
        fingerprint: the same number for calls of a node with the same input and the same calls inside them, in any
            order.
    """

    step: Step
    pointer: str
    finished_before: int | None
    started: int | None
    parent: Call | None = None
    children: list[Call] = field(default_factory=list)
    is_unordered: bool = False
    fingerprint: int = 0

    @property
    def node(self) -> tuple[str, str, str]:
        """The node that was called."""
        return self.step.node_id, self.step.component_id, self.step.operation


@dataclass(slots=True, eq=False)
class Pair:
    """A call that is in both traces, or one that has no counterpart.

    Attributes:
        a: the call in A, or None.
        b: the call in B, or None.
        occurrence: its number among the calls of its node below its parent, from 1, in the order of A if it is in A.
        is_moved: its position among its siblings differs.
        is_rolled_out: its counterpart may have rolled out of the other trace's buffer.
        children: the pairs of the calls inside both.
    """

    a: Call | None
    b: Call | None
    occurrence: int = 1
    is_moved: bool = False
    is_rolled_out: bool = False
    children: list[Pair] = field(default_factory=list)

    @property
    def either(self) -> Call:
        """The call in A, or else the one in B."""
        call = self.a or self.b
        assert call is not None
        return call


def tree(trace: Trace) -> list[Call]:
    """Return the outermost calls of a trace, in the order in which they began, with the calls inside them."""
    dropped = dropped_of(trace)
    calls = [_call(step, f"/steps/{at}", dropped + at) for at, step in enumerate(trace.steps)]
    calls += [_call(step, f"/in_flight/{at}", None) for at, step in enumerate(trace.in_flight)]
    by_id: dict[str, Call] = {}
    for call in calls:
        if call.step.step_id is not None:
            by_id.setdefault(call.step.step_id, call)
    inner: dict[int, list[Call]] = {}
    roots: list[Call] = []
    for call in calls:
        parent = by_id.get(call.step.parent_step_id or "")
        if parent is None or parent is call:
            roots.append(call)
        else:
            inner.setdefault(id(parent), []).append(call)
    _add_children(roots, calls, inner)
    for siblings in (roots, *(call.children for call in calls if call.children)):
        _sort(siblings)
    _add_fingerprints(roots)
    return roots


def _add_children(roots: list[Call], calls: list[Call], inner: dict[int, list[Call]]) -> None:
    """Put every call below its parent; of calls that claim to be inside each other, one becomes outermost."""
    seen: set[int] = set()
    for start in (list(roots), calls):
        for root in start:
            if id(root) in seen:
                continue
            seen.add(id(root))
            if start is calls:
                roots.append(root)
            waiting = [root]
            while waiting:
                call = waiting.pop()
                for child in inner.get(id(call), ()):
                    if id(child) not in seen:
                        seen.add(id(child))
                        child.parent = call
                        call.children.append(child)
                        waiting.append(child)


def _add_fingerprints(roots: list[Call]) -> None:
    waiting = list(roots)
    outer_first: list[Call] = []
    while waiting:
        call = waiting.pop()
        outer_first.append(call)
        waiting += call.children
    for call in reversed(outer_first):
        call.fingerprint = hash((call.node, _input(call), *sorted(child.fingerprint for child in call.children)))


def bounded(number: int) -> int:
    """Return a number of a trace, made at least 0 and small enough to calculate with."""
    return min(max(number, 0), _LARGEST)


def dropped_of(trace: Trace) -> int:
    """Return how many steps had rolled out of the buffer when a trace was written."""
    return bounded(trace.dropped_steps or 0)


def _call(step: Step, pointer: str, finished_before: int | None) -> Call:
    return Call(step, pointer, finished_before, parse_timestamp(step.started_at))


def _sort(siblings: list[Call]) -> None:
    """Sort siblings by the times at which they began, and note which of them ran at the same time."""
    if all(call.started is not None for call in siblings):
        siblings.sort(key=lambda call: (call.started or 0, call.step.step_id or ""))
    parent = siblings[0].parent if siblings else None
    home = parent.step.thread if parent is not None else None
    threads = {call.step.thread for call in siblings}
    last: Call | None = None
    for call in siblings:
        call.is_unordered = call.step.thread != home if parent is not None else len(threads) > 1
        if last is not None and _overlap(last, call):
            last.is_unordered = call.is_unordered = True
        if last is None or _end(call) > _end(last):
            last = call


def _overlap(earlier: Call, later: Call) -> bool:
    # times are cut to whole microseconds, so that steps in a row may seem to overlap by less than one
    return later.started is not None and later.started + _MICROSECOND < _end(earlier)


def _end(call: Call) -> int:
    return (call.started or 0) + bounded(call.step.duration_ns or 0)


def align(a: Trace, b: Trace) -> list[Pair]:
    """Return the outermost calls of two traces in pairs, with the pairs inside them, in the order of A.

    A call that is only in B comes after the one that it follows there.
    """
    dropped = (dropped_of(a), dropped_of(b))
    pairs: list[Pair] = []
    waiting = [(tree(a), tree(b), pairs)]
    while waiting:
        ours, theirs, into = waiting.pop()
        into += _pair_siblings(ours, theirs, dropped)
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


def _pair_siblings(ours: list[Call], theirs: list[Call], dropped: tuple[int, int]) -> list[Pair]:
    if not any(dropped) and _are_alike(ours, theirs):
        pairs = list(map(Pair, ours, theirs))
        _number_calls(pairs)
        return pairs
    groups: dict[tuple[str, str, str], tuple[list[int], list[int]]] = {}
    for side, siblings in enumerate((ours, theirs)):
        for at, call in enumerate(siblings):
            groups.setdefault(call.node, ([], []))[side].append(at)
    matches: list[tuple[int, int]] = []
    for positions_a, positions_b in groups.values():
        matches += _Group(ours, theirs, dropped).match(positions_a, positions_b)
    matches.sort()
    in_order = _longest_rising([at_b for _, at_b in matches])
    counterpart: dict[int, Pair] = {}
    pairs_of_b: dict[int, Pair] = {}
    for number, (at_a, at_b) in enumerate(matches):
        pair = Pair(ours[at_a], theirs[at_b])
        pair.is_moved = number not in in_order and not (ours[at_a].is_unordered or theirs[at_b].is_unordered)
        counterpart[at_a] = pairs_of_b[at_b] = pair
    found = [counterpart.get(at) or _unmatched(call, None, dropped) for at, call in enumerate(ours)]
    merged = _merge(found, [pairs_of_b.get(at) or _unmatched(None, call, dropped) for at, call in enumerate(theirs)])
    _number_calls(merged)
    return merged


def _are_alike(ours: list[Call], theirs: list[Call]) -> bool:
    """Return True if each call on one side is sure to be the one in the same place on the other."""
    if len(ours) != len(theirs):
        return False
    is_any_unordered = any(call.is_unordered for call in (*ours, *theirs))
    return all(
        a.node == b.node and _input(a) == _input(b) and (a.fingerprint == b.fingerprint or not is_any_unordered)
        for a, b in zip(ours, theirs, strict=True)
    )


def _unmatched(a: Call | None, b: Call | None, dropped: tuple[int, int]) -> Pair:
    pair = Pair(a, b)
    pair.is_rolled_out = _may_be_dropped(pair.either, dropped[1] if a is not None else dropped[0])
    return pair


def _may_be_dropped(call: Call, dropped: int) -> bool:
    """Return True if a call's counterpart may be among the first steps of the other trace, which dropped so many."""
    return call.finished_before is not None and call.finished_before < dropped


def _merge(pairs_a: list[Pair], pairs_b: list[Pair]) -> list[Pair]:
    """Return all pairs in the order of A; those that are only in B come after the one that they follow in B."""
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


def _number_calls(pairs: list[Pair]) -> None:
    """Number the calls of each node, separately for A and B."""
    counts: dict[tuple[bool, tuple[str, str, str]], int] = {}
    for pair in pairs:
        for is_a, call in ((False, pair.b), (True, pair.a)):
            if call is not None:
                key = (is_a, call.node)
                pair.occurrence = counts[key] = counts.get(key, 0) + 1


class _Group:
    """The calls of one node below one parent, on both sides."""

    def __init__(self, ours: list[Call], theirs: list[Call], dropped: tuple[int, int]) -> None:
        self._ours = ours
        self._theirs = theirs
        self._dropped = dropped

    def match(self, at_a: list[int], at_b: list[int]) -> list[tuple[int, int]]:
        """Return pairs of positions, in A and in B, that are the same call."""
        keys = (attrgetter("fingerprint"), _input) if self._any_unordered(at_a, at_b) else (_input,)
        same: list[tuple[int, int]] = []
        for key in keys:
            found = self._match_by(key, at_a, at_b)
            matched_a, matched_b = {a for a, _ in found}, {b for _, b in found}
            at_a = [at for at in at_a if at not in matched_a]
            at_b = [at for at in at_b if at not in matched_b]
            same += found
        same.sort()
        rest_a = [at for at in at_a if not _may_be_dropped(self._ours[at], self._dropped[1])]
        rest_b = [at for at in at_b if not _may_be_dropped(self._theirs[at], self._dropped[0])]
        if self._any_unordered(rest_a, rest_b) or not same:
            return same + list(zip(rest_a, rest_b, strict=False))
        return same + _between(same, rest_a, rest_b)

    def _any_unordered(self, at_a: list[int], at_b: list[int]) -> bool:
        return any(self._ours[at].is_unordered for at in at_a) or any(self._theirs[at].is_unordered for at in at_b)

    def _match_by(self, key: Callable[[Call], Hashable], at_a: list[int], at_b: list[int]) -> list[tuple[int, int]]:
        waiting: dict[Hashable, deque[int]] = {}
        for at in self._kept_first(at_b, self._theirs):
            waiting.setdefault(key(self._theirs[at]), deque()).append(at)
        found: list[tuple[int, int]] = []
        for at in self._kept_first(at_a, self._ours):
            candidates = waiting.get(key(self._ours[at]))
            if candidates:
                found.append((at, candidates.popleft()))
        return found

    def _kept_first(self, positions: list[int], siblings: list[Call]) -> list[int]:
        """Put the calls that both traces can hold before those that only one can."""
        dropped = max(self._dropped)
        return sorted(positions, key=lambda at: _may_be_dropped(siblings[at], dropped))


def _input(call: Call) -> tuple[str, str]:
    return call.step.input_hash.algorithm, call.step.input_hash.value


def _between(same: list[tuple[int, int]], rest_a: list[int], rest_b: list[int]) -> list[tuple[int, int]]:
    """Match the rest one by one, between the same two neighbours in A and in B."""
    kept = _longest_rising([b for _, b in same])
    fixed = [(-1, -1), *(pair for number, pair in enumerate(same) if number in kept)]
    fixed.append((max([*rest_a, *(a for a, _ in same)]) + 1, max([*rest_b, *(b for _, b in same)]) + 1))
    found: list[tuple[int, int]] = []
    waiting_a, waiting_b = deque(rest_a), deque(rest_b)
    for _, (end_a, end_b) in pairwise(fixed):
        found += zip(_take_until(waiting_a, end_a), _take_until(waiting_b, end_b), strict=False)
    return found


def _take_until(waiting: deque[int], end: int) -> list[int]:
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
        length = bisect_left(tails, value)
        before.append(tail_at[length - 1] if length else -1)
        tails[length : length + 1] = [value]
        tail_at[length : length + 1] = [at]
    found: set[int] = set()
    at = tail_at[-1] if tail_at else -1
    while at >= 0:
        found.add(at)
        at = before[at]
    return found
