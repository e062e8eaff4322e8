"""What happens to a flow: its scope is made, and is closed with its run."""

from __future__ import annotations

from collections.abc import Callable

from flowtrace.recording import failure
from flowtrace.recording.process import STATE, Scope, close_run, ensure, mark_of, outcome_of, report, step_passed
from flowtrace.recording.recorder import TraceRecorder
from flowtrace.recording.step import CURRENT
from flowtrace.settings.config import TraceContext


def new_scope(context: Callable[[TraceContext], TraceContext]) -> Scope | None:
    """Make the scope of a flow's run; `resume` makes it current.

    Args:
        context: takes the global recorder's context, and returns the flow's.

    Returns:
        The scope; None where tracing is off.
    """
    try:
        recorder = ensure()
        if recorder.is_off:
            return None
        return Scope(recorder.new_run(context(recorder.context)))
    except Exception as error:
        report("start a flow", error)
        return None


def close_flow(scope: Scope, error: BaseException | None) -> None:
    """End a flow's run, with the exception that leaves it if there is one."""
    try:
        CURRENT.set(scope.previous)
        scope.previous = None
        close_run(scope.run, _flow_outcome(scope.run, error), "flow")
    except Exception as fault:
        report("end a flow", fault)


def encloses(scope: Scope) -> bool:
    """Tell whether a scope is current here, or around what is current."""
    around = CURRENT.get()
    while around is not None and around is not scope:
        around = around.previous
    return around is scope


def _flow_outcome(run: TraceRecorder, error: BaseException | None) -> str:
    if error is None or failure.is_a(error, GeneratorExit):
        return "ok"
    outcome = outcome_of(error)
    STATE.reported = mark_of(error)
    if outcome in ("failed", "interrupted"):
        step = step_passed(error, run)
        if step is None:
            run.add_flow_error(error)
        elif step.expected:
            return "ok"
    return outcome
