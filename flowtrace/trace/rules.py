"""The rules that the records of a trace must keep, and the findings where one is broken.

An error is a contradiction that no recorder writes. A warning is something that may confuse a reader, or that can
happen in a correct trace.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from flowtrace.host.system import parse_timestamp
from flowtrace.trace.findings import Findings, error, warning
from flowtrace.trace.model import Hash, Run, Step, Struct, Trace
from flowtrace.trace.value_rules import PayloadFiles, of_values
from flowtrace.values.encoded import ALGORITHM, KEYED_ALGORITHM

_DIED: Final = "process_died"
ERROR_CODES: Final = (
    *("node_error", "flow_error", "node_cancelled", "node_interrupted", "invocation_validation_failed"),
    _DIED,
)
OUTCOMES: Final = ("failed", "recovered", "ok", "interrupted", "snapshot", "slow")
_HEX_64: Final = re.compile("[0-9a-f]{64}", re.ASCII).fullmatch
_HEX_32: Final = re.compile("[0-9a-f]{32}", re.ASCII).fullmatch
_HEX_16: Final = re.compile("[0-9a-f]{16}", re.ASCII).fullmatch
_ALGORITHMS: Final = (ALGORITHM, KEYED_ALGORITHM)
_MICROSECOND: Final = 1_000  # nanoseconds; times are cut to whole ones


def inconsistencies(trace: Trace, path: str | None) -> Findings:
    """Yield what is wrong in a trace whose fields all have the right types.

    Args:
        trace: its records.
        path: its file, to find its payload files; None where it is not known.
    """
    rules = Rules(path)
    yield from of_envelope(trace)
    for step in trace.steps:
        yield from rules.of_step(step)
    yield from rules.of_the_rest(trace)


class Rules:
    """Checks the steps of a trace one by one, and then together, without their records.

    Args:
        path: the trace's file, to find its payload files; None where it is not known.
    """

    def __init__(self, path: str | None) -> None:
        self._files = PayloadFiles(path)
        self._steps = _Steps([], 0)

    @property
    def finished(self) -> int:
        """How many steps that ended were checked."""
        return len(self._steps.records)

    def of_step(self, step: Step) -> Findings:
        """Yield what is wrong in the next step that ended."""
        return self._of_next(f"/steps/{len(self._steps.records)}", step)

    def of_the_rest(self, trace: Trace) -> Findings:
        """Yield what is wrong in the steps in flight, and in all steps together; those that ended were checked."""
        steps = self._steps = self._steps._replace(finished=len(self._steps.records))
        for at, step in enumerate(trace.in_flight):
            yield from self._of_next(f"/in_flight/{at}", step)
        for at, step in enumerate(trace.in_flight):
            yield from _in_flight(f"/in_flight/{at}", step)
        yield from _parents(steps, bool(trace.dropped_steps))
        yield from _order(steps)
        yield from _failed_step(trace, steps)
        if trace.run is not None:
            yield from _inside_run(trace.run, steps)

    def _of_next(self, pointer: str, step: Step) -> Findings:
        started = parse_timestamp(step.started_at)
        self._steps.records.append(
            _Kept(
                step.step_id,
                step.parent_step_id,
                step.run_id,
                step.thread,
                started,
                None if started is None or step.duration_ns is None else started + step.duration_ns,
                step.error is not None or bool(step.validation_issues),
            )
        )
        yield from _step(pointer, step, started)
        yield from of_values(pointer, step, self._files)


class _Kept(Struct, gc=False):
    """The facts about a step that are kept; times are in ns, and None where the trace does not say."""

    step_id: str | None
    parent_step_id: str | None
    run_id: str | None
    thread: str | None
    started: int | None
    ended: int | None
    is_bad: bool


class _Steps(NamedTuple):
    """The steps of a trace: those that finished, then those that were in flight; and how many finished."""

    records: list[_Kept]
    finished: int

    def pointer(self, at: int) -> str:
        """Return the JSON Pointer of a step."""
        return f"/steps/{at}" if at < self.finished else f"/in_flight/{at - self.finished}"


# --- the envelope, and one record


def of_envelope(trace: Trace) -> Findings:
    """Yield what is wrong in a trace apart from its steps."""
    if trace.dropped_steps is not None and trace.dropped_steps < 0:
        yield error("negative", "/dropped_steps", "is negative")
    if trace.run is not None:
        yield from _run(trace.run)


def _run(run: Run) -> Findings:
    if not _HEX_32(run.id):
        yield warning("id-form", "/run/id", "is not 32 lowercase hex digits")
    if run.outcome not in OUTCOMES:
        yield warning("unknown-outcome", "/run/outcome", f"is none of {', '.join(OUTCOMES)}")
    started, ended = parse_timestamp(run.started_at), parse_timestamp(run.ended_at)
    if started is None:
        yield error("time-form", "/run/started_at", "is not an RFC 3339 time")
    if run.ended_at is not None and ended is None:
        yield error("time-form", "/run/ended_at", "is not an RFC 3339 time")
    if started is not None and ended is not None and ended < started:
        yield error("time-order", "/run/ended_at", "is before the run began")


def _step(pointer: str, step: Step, started: int | None) -> Findings:
    for name, found in (
        ("input_hash", step.input_hash),
        ("output_hash", step.output_hash),
        ("state_delta_hash", step.state_delta_hash),
        ("code/hash", step.code.hash if step.code is not None else None),
    ):
        if found is not None and not (found.algorithm in _ALGORITHMS and _HEX_64(found.value)):
            yield from _unusual_hash(f"{pointer}/{name}", found)
    for name in ("duration_ms", "duration_ns", "dropped_logs"):
        if (getattr(step, name) or 0) < 0:
            yield error("negative", f"{pointer}/{name}", "is negative")
    for at, entry in enumerate(step.logs):
        if parse_timestamp(entry.logged_at) is None:
            yield error("time-form", f"{pointer}/logs/{at}/logged_at", "is not an RFC 3339 time")
    if step.duration_ns is not None and step.duration_ns // 1_000_000 != step.duration_ms:
        yield error("duration-mismatch", f"{pointer}/duration_ms", f"is not {step.duration_ns} ns in whole ms")
    if started is None and step.started_at is not None:
        yield error("time-form", f"{pointer}/started_at", "is not an RFC 3339 time")
    for name, text in (("step_id", step.step_id), ("parent_step_id", step.parent_step_id)):
        if text is not None and not _HEX_16(text):
            yield warning("id-form", f"{pointer}/{name}", "is not 16 lowercase hex digits")
    if step.error is not None and step.error.code not in ERROR_CODES:
        yield warning("unknown-error-code", f"{pointer}/error/code", f"is none of {', '.join(ERROR_CODES)}")
    if step.error is not None and step.output_hash is not None:
        yield error("failed-with-output", f"{pointer}/output_hash", "a step that failed has no output")


def _unusual_hash(pointer: str, found: Hash) -> Findings:
    if not _HEX_64(found.value):
        yield error("hash-form", f"{pointer}/value", "is not 64 lowercase hex digits")
    if found.algorithm not in _ALGORITHMS:
        yield warning("unknown-algorithm", f"{pointer}/algorithm", f"is neither {' nor '.join(_ALGORITHMS)}")


def _in_flight(pointer: str, step: Step) -> Findings:
    if step.output_hash is not None:
        yield error("in-flight-ended", f"{pointer}/output_hash", "a step that still runs has no end yet")
    if step.error is not None and step.error.code != _DIED:
        yield error("in-flight-ended", f"{pointer}/error", f"a step that still runs has no error but {_DIED}")


# --- the records together


def _parents(steps: _Steps, has_dropped: bool) -> Findings:
    by_id: dict[str, int] = {}
    for at, step in enumerate(steps.records):
        own = step.step_id
        if own is not None and by_id.setdefault(own, at) != at:
            message = f"is also the id of {steps.pointer(by_id[own])}"
            yield error("id-repeated", f"{steps.pointer(at)}/step_id", message)
    for at, step in enumerate(steps.records):
        if step.parent_step_id is None:
            continue
        parent = by_id.get(step.parent_step_id)
        if parent is None and not has_dropped and step.run_id is None:  # that of another run may still be running
            message = "is the id of no step in the trace, and no step has rolled out of the buffer"
            yield warning("parent-unknown", f"{steps.pointer(at)}/parent_step_id", message)
        if parent is not None and _is_before(steps.records[at].started, steps.records[parent].started):
            message = f"is before that of its caller, {steps.pointer(parent)}"
            yield error("began-before-parent", f"{steps.pointer(at)}/started_at", message)
    for at in _cycles(steps, by_id):
        yield error("parent-cycle", f"{steps.pointer(at)}/parent_step_id", "leads back to the step itself")


def _failed_step(trace: Trace, steps: _Steps) -> Findings:
    found = None if trace.run is None else trace.run.failed_step_id
    if trace.run is None or found is None:
        return
    at = "/run/failed_step_id"
    if not _HEX_16(found):
        yield warning("id-form", at, "is not 16 lowercase hex digits")
    if trace.run.outcome in ("ok", "recovered", "slow"):
        yield error("failed-step-of-success", at, f"a run that ended as {trace.run.outcome} has no failed step")
    named = next((step for step in steps.records if step.step_id == found), None)
    if named is None and not trace.dropped_steps:
        message = "is the id of no step in the trace, and no step has rolled out of the buffer"
        yield warning("failed-step-unknown", at, message)
    if named is not None and not named.is_bad:
        yield error("failed-step-ended-well", at, "names a step that has neither an error nor validation issues")


def _is_before(time: int | None, other: int | None) -> bool:
    return time is not None and other is not None and time < other


def _cycles(steps: _Steps, by_id: dict[str, int]) -> Iterator[int]:
    """Yield one step of each cycle of parents."""
    visit_of: dict[str, int] = {}
    for visit, start in enumerate(by_id):
        here: str | None = start
        while here is not None and here in by_id and here not in visit_of:
            visit_of[here] = visit
            here = steps.records[by_id[here]].parent_step_id
        if here is not None and visit_of.get(here) == visit:
            yield by_id[here]


def _order(steps: _Steps) -> Findings:
    """Compare each step with the ones before it in the same thread: other threads may report theirs a moment late."""
    last: dict[str | None, int] = {}
    for at in range(steps.finished):
        ended, thread = steps.records[at].ended, steps.records[at].thread
        if ended is None:
            continue
        latest = last.get(thread, 0)
        if ended + _MICROSECOND < latest:
            yield warning("order", steps.pointer(at), "finished before a step that is listed before it")
        if ended > latest:
            last[thread] = ended


def _inside_run(run: Run, steps: _Steps) -> Findings:
    run_started, run_ended = parse_timestamp(run.started_at), parse_timestamp(run.ended_at)
    for at, step in enumerate(steps.records):
        if step.run_id is not None:
            continue
        started, ended = step.started, step.ended
        if run_started is not None and started is not None and started + _MICROSECOND < run_started:
            yield warning("outside-run", f"{steps.pointer(at)}/started_at", "is before the run began")
        if run_ended is not None and ended is not None and ended > run_ended + _MICROSECOND:
            yield warning("outside-run", f"{steps.pointer(at)}/duration_ns", "the step ends after its run")
