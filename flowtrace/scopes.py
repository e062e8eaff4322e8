"""What happens to a flow: its scope is made, becomes current, and is closed with its run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flowtrace import failure
from flowtrace.config import TraceContext
from flowtrace.lifecycle import resume, suspend
from flowtrace.recorder import TraceRecorder
from flowtrace.runtime import STATE, Scope, close_run, ensure, mark_of, outcome_of, report, step_passed
from flowtrace.shapes import Subject
from flowtrace.step import CURRENT


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


def flow_subject(make_scope: Callable[[], Scope | None]) -> Subject:
    """Return a flow as the wrappers of `flowtrace.shapes` see it: each body runs in a scope of its own.

    Args:
        make_scope: makes a scope; None where tracing is off.
    """

    def begin_scope(_subject: Subject, _args: tuple[Any, ...], _kwargs: dict[str, Any], _bound: bool) -> Scope | None:
        scope = make_scope()
        if scope is not None:
            resume(scope)
        return scope

    return Subject(
        begin=begin_scope,
        prepare=lambda subject, args, kwargs, bound: make_scope(),
        start=resume,
        suspend=suspend,
        resume=resume,
        emit=lambda scope, item: suspend(scope),
        end=lambda scope, output: close_flow(scope, None),
        end_stream=lambda scope, *returned: close_flow(scope, None),
        fail=close_flow,
    )


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
