"""All traces that one run of a program leaves, as one trace, so that two runs can be compared as wholes.

In mode ``always`` each flow and each outermost call has a file of its own; where the program did not end with a flow,
there is one of the whole process beside them, with all their steps. A flow becomes a step around its steps, whose
output is the flow's outcome.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from flowtrace.host.clock import parse_timestamp, step_id
from flowtrace.trace.model import TRACE_VERSION, Flow, Hash, Pack, Step, Trace, changed
from flowtrace.values.encode import hash_value

FLOW_COMPONENT: Final = "flow"


def gather(traces: Iterable[Trace], outside: str) -> Trace:
    """Return the traces of one run of a program as one.

    Args:
        traces: all that it left, of its child processes too.
        outside: id of the flow that calls outside any flow are said to belong to.

    Returns:
        A trace without a run; the ids of its steps are unique across processes, and its steps stand in the order of
        the traces' beginnings.
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
            steps += [_moved(step, process, wrapper) for step in trace.steps]
            running += [_moved(step, process, wrapper) for step in trace.in_flight]
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
    """Keep the trace of the whole process alone where it has every step, and else the others."""
    counts = Counter(step.step_id for trace in traces for step in trace.steps)
    repeated = {step_id for step_id, count in counts.items() if count > 1}
    if not repeated:
        return traces
    whole = max(traces, key=lambda trace: len(trace.steps))
    if {step.step_id for step in whole.steps} == set(counts):
        return [whole]
    return [trace for trace in traces if trace is not whole]


def _moved(step: Step, process: int, wrapper: str | None) -> Step:
    """Return a step with ids of its own process; one without a parent goes into the flow."""
    parent = wrapper if step.parent_step_id is None else _id_in(process, step.parent_step_id)
    own = None if step.step_id is None else _id_in(process, step.step_id)
    return changed(step, step_id=own, parent_step_id=parent, thread=_thread_in(process, step))


def _id_in(process: int, own: str) -> str:
    return step_id((process << 48) + int(own, 16))


def _thread_in(process: int, step: Step | None) -> str | None:
    thread = step.thread if step is not None else None
    return f"{thread} of child {process}" if process else thread


def _flow_step(trace: Trace, own: str, process: int) -> Step:
    run = trace.run
    started = parse_timestamp(run.started_at) if run is not None else None
    ended = parse_timestamp(run.ended_at) if run is not None else None
    duration = ended - started if started is not None and ended is not None else 0
    outcome = run.outcome if run is not None else None
    outermost = next((step for step in trace.steps if step.parent_step_id is None), None)
    return Step(
        node_id=trace.flow.id,
        component_id=FLOW_COMPONENT,
        operation=trace.flow.version,
        input_hash=_hash(None),
        output_hash=_hash(outcome),
        output_json=outcome,
        duration_ms=duration // 1_000_000,
        duration_ns=duration,
        step_id=own,
        started_at=run.started_at if run is not None else None,
        thread=_thread_in(process, outermost),
    )


def _hash(value: object) -> Hash:
    found = hash_value(value)
    return Hash(algorithm=found.algorithm, value=found.value)
