"""Joining all the traces that one run of a program leaves into one trace, so that two runs can be compared.

In mode ``always`` each flow and each outermost call has a file of its own; where the program did not end with a flow,
the process has a file too, with all their steps. A flow becomes a step around its steps, whose output is the flow's
outcome.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from flowtrace.host.system import parse_timestamp, step_id
from flowtrace.trace.model import TRACE_VERSION, Flow, Pack, Step, Trace, changed, hash_record
from flowtrace.values.encode import hash_value

FLOW_COMPONENT: Final = "flow"


def gather(traces: Iterable[Trace], outside: str) -> Trace:
    """Return the traces of one run of a program as one.

    Args:
        traces: all that it left, with those of its child processes.
        outside: id of the flow in the traces of calls outside any flow.

    Returns:
        A trace without a run. The ids of its steps are unique across processes; the steps are in the order in which
        the traces began.
    """
    written = sorted(traces, key=_began)
    by_process: dict[int, list[Trace]] = {}
    for trace in written:
        by_process.setdefault(trace.run.pid if trace.run is not None else 0, []).append(trace)
    steps: list[Step] = []
    running: list[Step] = []
    dropped = 0
    for process, own in enumerate(by_process.values()):
        for number, trace in enumerate(_without_repetition(own)):
            wrapper = None if trace.flow.id == outside else step_id((process << 48) + (1 << 47) + number)
            steps += [_renumbered(step, process, wrapper) for step in trace.steps]
            running += [_renumbered(step, process, wrapper) for step in trace.in_flight]
            dropped += max(trace.dropped_steps or 0, 0)
            if wrapper is not None:
                steps.append(_flow_step(trace, wrapper, process))
    return Trace(
        trace_version=TRACE_VERSION,
        pack=written[0].pack if written else Pack(pack_ref="unknown"),
        flow=Flow(id=outside, version="unknown"),
        steps=steps,
        in_flight=running,
        dropped_steps=dropped,
    )


def _began(trace: Trace) -> int:
    return parse_timestamp(trace.run.started_at) or 0 if trace.run is not None else 0


def _without_repetition(traces: list[Trace]) -> list[Trace]:
    """Return only the trace of the process where it has every step, and else the others."""
    counts = Counter(step.step_id for trace in traces for step in trace.steps)
    repeated = {step_id for step_id, count in counts.items() if count > 1}
    if not repeated:
        return traces
    process_trace = max(traces, key=lambda trace: len(trace.steps))
    if {step.step_id for step in process_trace.steps} == set(counts):
        return [process_trace]
    return [trace for trace in traces if trace is not process_trace]


def _renumbered(step: Step, process: int, wrapper: str | None) -> Step:
    """Return a step with ids that are unique across processes; one without a parent goes into the flow."""
    parent = wrapper if step.parent_step_id is None else _id_in(process, step.parent_step_id)
    own = None if step.step_id is None else _id_in(process, step.step_id)
    return changed(step, step_id=own, parent_step_id=parent, thread=_thread_in(process, step.thread))


def _id_in(process: int, own: str) -> str:
    return step_id((process << 48) + int(own, 16))


def _thread_in(process: int, thread: str | None) -> str | None:
    return f"{thread} of child {process}" if process else thread


def _flow_step(trace: Trace, own: str, process: int) -> Step:
    run = trace.run
    started = parse_timestamp(run.started_at) if run is not None else None
    ended = parse_timestamp(run.ended_at) if run is not None else None
    duration = ended - started if started is not None and ended is not None else 0
    outcome = run.outcome if run is not None else None
    outcome = "ok" if outcome == "slow" else outcome  # how long it took is no result
    outermost = next((step for step in trace.steps if step.parent_step_id is None), None)
    return Step(
        node_id=trace.flow.id,
        component_id=FLOW_COMPONENT,
        operation=trace.flow.version,
        input_hash=hash_record(hash_value(None)),
        output_hash=hash_record(hash_value(outcome)),
        output_json=outcome,
        duration_ms=duration // 1_000_000,
        duration_ns=duration,
        step_id=own,
        started_at=run.started_at if run is not None else None,
        thread=_thread_in(process, outermost.thread if outermost is not None else None),
    )
