"""Comparing two traces: the first step that differs, and the kind of difference."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from flowtrace.comparing.align import Call, Pair, align, bounded, dropped_of, walk
from flowtrace.comparing.evidence import Evidence, Side, code_text, error_of_unmatched
from flowtrace.comparing.result import Aspect, Cause, CodeChange, Divergence, DivergenceKind, Group, Timing, TraceDiff
from flowtrace.trace import model
from flowtrace.trace.reading import load_trace

MAX_DIVERGENCES: Final = 100
_MAX_TIMINGS: Final = 20
_ENDED: Final = frozenset({"ok", "failed", "recovered", "interrupted"})
_FROM_CALLER: Final = (Cause.UPSTREAM, Cause.CALLER)
_KINDS: Final = {
    "output": DivergenceKind.OUTPUT,
    "state_delta": DivergenceKind.STATE_DELTA,
    "validation_issues": DivergenceKind.ISSUES,
}


def diff(
    a: model.Trace | str | os.PathLike[str],
    b: model.Trace | str | os.PathLike[str],
    *,
    timing: bool = False,
    limit: int = MAX_DIVERGENCES,
) -> TraceDiff:
    """Compare two traces step by step.

    Steps are the same call if they have the same node and the same caller, and the same input or else the same
    position among that node's calls. The order of steps that ran at the same time is no difference, nor are times,
    hosts and line numbers. Payload files are read where the traces are given as files.

    Args:
        a: a trace, or the path of its file.
        b: the trace to compare it with.
        timing: also list where the durations differ most; they never count as divergences.
        limit: describe at most this many divergences; all are counted.

    Returns:
        The divergences in the order of execution, and a verdict.

    Raises:
        TraceFileError: a file is not a version 1 trace.
        OSError: a file can't be read.
    """
    return compare(_side(a, "A"), _side(b, "B"), timing=timing, limit=limit)


def compare(a: Side, b: Side, *, timing: bool = False, limit: int = MAX_DIVERGENCES) -> TraceDiff:
    """Compare two traces that were read already; see `diff`."""
    result = TraceDiff(a.name, b.name)
    pairs = align(a.trace, b.trace)
    _Comparison(result, Evidence(a, b), limit).run(pairs)
    if timing:
        result.timings = _timings(pairs)
    return result


def _side(trace: model.Trace | str | os.PathLike[str], name: str) -> Side:
    if isinstance(trace, model.Trace):
        return Side(trace, name, None)
    path = os.fspath(trace)
    return Side(load_trace(path), path, path)


@dataclass(slots=True)
class _Open:
    """A pair of calls that have begun and not ended.

    Attributes:
        kind: the difference found when they began; None for none.
        cause: where it comes from.
        aspects: its details.
        has_new_code: the same input went into changed code.
        at: its number in the order of execution.
        earlier: how many divergences there were when they began.
    """

    kind: DivergenceKind | None
    cause: Cause
    aspects: list[Aspect]
    has_new_code: bool
    at: int
    earlier: int


@dataclass(slots=True)
class _Comparison:
    result: TraceDiff
    evidence: Evidence
    limit: int
    found: list[tuple[int, Pair, DivergenceKind, Cause, list[Aspect]]] = field(default_factory=list)
    opened: dict[int, _Open] = field(default_factory=dict)
    code_changes: dict[str, CodeChange] = field(default_factory=dict)
    pair_of: dict[int, Pair] = field(default_factory=dict)  # by the id of each call

    def run(self, pairs: list[Pair]) -> None:
        """Fill the result."""
        result, traces = self.result, self.evidence.traces
        result.dropped = (dropped_of(traces[0]), dropped_of(traces[1]))
        for at, (pair, is_end) in enumerate(walk(pairs)):
            if is_end:
                self._end(pair, at)
            else:
                self._begin(pair, at)
        if not result.compared and any(result.dropped):
            self.found.clear()
            self._compare_code_by_node()
        self.found.sort(key=lambda item: item[0])
        result.total = len(self.found)
        result.is_certain = self._is_certain()
        result.groups = self._groups()
        result.divergences = [self._divergence(*item[1:]) for item in self.found[: self.limit]]
        self._compare_envelopes()
        self.evidence.note_dropped(result.dropped)
        result.undecided = self.evidence.undecided
        result.doubts = self.evidence.doubts()
        result.code_changes = sorted(self.code_changes.values(), key=lambda change: change.node_id)

    def _begin(self, pair: Pair, at: int) -> None:
        self.pair_of |= {id(call): pair for call in (pair.a, pair.b) if call is not None}
        if pair.a is None or pair.b is None:
            self._add_unmatched(pair, at)
            return
        self.result.compared += 1
        given = self.evidence.input(pair.a, pair.b)
        new_code = self._has_new_code(pair.a.step, pair.b.step)
        opened = _Open(None, Cause.UNKNOWN, [], new_code and given is None, at, len(self.found))
        if given is not None:
            opened.kind, opened.cause, opened.aspects = DivergenceKind.INPUT, Cause.UPSTREAM, [given]
        elif pair.is_moved:
            opened.kind, opened.cause = DivergenceKind.REORDERED, Cause.CALLER
        self.opened[id(pair)] = opened

    def _add_unmatched(self, pair: Pair, at: int) -> None:
        if pair.is_rolled_out:
            ours, theirs = self.result.rolled_out
            self.result.rolled_out = (ours + (pair.a is not None), theirs + (pair.b is not None))
            return
        kind = DivergenceKind.MISSING if pair.b is None else DivergenceKind.ADDED
        self.found.append((at, pair, kind, Cause.CALLER, error_of_unmatched(pair.a, pair.b)))

    def _has_new_code(self, a: model.Step, b: model.Step) -> bool:
        ours, theirs = _code_hash(a), _code_hash(b)
        if ours is None or theirs is None or ours == theirs:
            return False
        self.code_changes.setdefault(a.node_id, CodeChange(a.node_id, code_text(a), code_text(b)))
        return True

    def _end(self, pair: Pair, at: int) -> None:
        opened = self.opened.pop(id(pair), None)
        if opened is None or pair.a is None or pair.b is None:
            return
        ends = self.evidence.ends(pair.a, pair.b)
        differs_inside = len(self.found) > opened.earlier
        if opened.has_new_code and (ends or differs_inside):
            code = Aspect("code", code_text(pair.a.step), code_text(pair.b.step))
            self.found.append((opened.at, pair, DivergenceKind.CODE, Cause.CODE, [code, *ends]))
        elif opened.kind is not None:
            self.found.append((opened.at, pair, opened.kind, opened.cause, [*opened.aspects, *ends]))
        elif ends:
            cause = Cause.INSIDE if differs_inside else self._cause(pair.a, pair.b)
            self.found.append((at, pair, _kind(pair.a.step, pair.b.step, ends[0]), cause, ends))

    def _cause(self, a: Call, b: Call) -> Cause:
        if _code_hash(a.step) is None or _code_hash(a.step) != _code_hash(b.step):
            return Cause.UNKNOWN
        return Cause.UNSEEN if self.evidence.unseen(a, b) else Cause.NONDETERMINISM

    def _unseen(self, pair: Pair, cause: Cause) -> tuple[str, ...]:
        """Return the unseen parts of the input that a difference may come from: the step's own, or its caller's."""
        if cause in _FROM_CALLER:
            caller = pair.either.parent
            from_pair = None if caller is None else self.pair_of.get(id(caller))
        else:
            from_pair = pair
        if from_pair is None or from_pair.a is None or from_pair.b is None:
            return ()
        return self.evidence.unseen(from_pair.a, from_pair.b)

    def _is_certain(self) -> bool:
        """Return True if a step is not deterministic, or the first difference can't come from unseen parts."""
        if not self.found or any(cause is Cause.NONDETERMINISM for _, _, _, cause, _ in self.found):
            return bool(self.found)
        _, pair, _, cause, _ = self.found[0]
        return cause is Cause.CODE or not self._unseen(pair, cause)

    def _groups(self) -> list[Group]:
        groups: dict[tuple[DivergenceKind, str], Group] = {}
        for _, pair, kind, _, _ in self.found:
            node_id = pair.either.step.node_id
            group = groups.get((kind, node_id))
            if group is None:
                group = groups[kind, node_id] = Group(kind, node_id, 0, *_pointers(pair))
            group.count += 1
        return list(groups.values())

    def _divergence(self, pair: Pair, kind: DivergenceKind, cause: Cause, aspects: Iterable[Aspect]) -> Divergence:
        call = pair.either
        return Divergence(
            kind,
            cause,
            call.step.node_id,
            pair.occurrence,
            call.parent.step.node_id if call.parent is not None else None,
            *_pointers(pair),
            tuple(self.evidence.with_values(aspect, pair.a, pair.b) for aspect in aspects),
            self._unseen(pair, cause),
        )

    def _compare_code_by_node(self) -> None:
        """Look for changed code in the nodes that are in both traces, where no step has a counterpart."""
        ours, theirs = ({step.node_id: step for step in trace.steps} for trace in self.evidence.traces)
        for node_id in ours.keys() & theirs.keys():
            self._has_new_code(ours[node_id], theirs[node_id])

    def _compare_envelopes(self) -> None:
        ours, theirs = map(_facts_of_run, self.evidence.traces)
        names = {**ours, **theirs}
        self.result.context = {
            name: (ours.get(name), theirs.get(name)) for name in names if ours.get(name) != theirs.get(name)
        }
        outcomes = self.result.context.get("outcome", ())
        comparable = self.result.compared and not self.result.total
        if comparable and len(outcomes) == 2 and _ENDED.issuperset(outcomes):
            aspect = Aspect("outcome", *outcomes)
            flow = self.evidence.traces[0].flow.id
            outcome = Divergence(
                DivergenceKind.OUTCOME, Cause.UNKNOWN, flow, 1, None, "/run/outcome", "/run/outcome", (aspect,)
            )
            self.result.total, self.result.divergences, self.result.is_certain = 1, [outcome], True
            self.result.groups = [Group(DivergenceKind.OUTCOME, flow, 1, outcome.a, outcome.b)]


def _pointers(pair: Pair) -> tuple[str | None, str | None]:
    return pair.a.pointer if pair.a else None, pair.b.pointer if pair.b else None


def _kind(a: model.Step, b: model.Step, aspect: Aspect) -> DivergenceKind:
    if aspect.what == "state":
        return DivergenceKind.UNFINISHED
    if aspect.what != "error":
        return _KINDS[aspect.what]
    if a.error is None:
        return DivergenceKind.ERROR_APPEARED
    return DivergenceKind.ERROR_VANISHED if b.error is None else DivergenceKind.ERROR_CHANGED


def _code_hash(step: model.Step) -> model.Hash | None:
    return step.code.hash if step.code is not None else None


def _facts_of_run(trace: model.Trace) -> dict[str, str | None]:
    run = trace.run
    return {
        "flow": trace.flow.id,
        "flow version": trace.flow.version,
        "pack": trace.pack.pack_ref,
        "digest": trace.pack.resolved_digest,
        "commit": trace.git_sha,
        "outcome": run.outcome if run is not None else None,
        "failed step": trace.failed_step.node_id if trace.failed_step is not None else None,
        "python": run.python if run is not None else None,
        "flowtrace": trace.runner_version,
    }


def _timings(pairs: list[Pair]) -> list[Timing]:
    found = [
        Timing(pair.a.step.node_id, pair.a.pointer, pair.b.pointer, _duration(pair.a.step), _duration(pair.b.step))
        for pair, is_end in walk(pairs)
        if is_end and pair.a is not None and pair.b is not None
    ]
    found.sort(key=lambda timing: abs(timing.a_ns - timing.b_ns), reverse=True)
    return [timing for timing in found if timing.a_ns != timing.b_ns][:_MAX_TIMINGS]


def _duration(step: model.Step) -> int:
    return bounded(step.duration_ms * 1_000_000 if step.duration_ns is None else step.duration_ns)
