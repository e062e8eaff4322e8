"""What happens to a step: it is prepared, started, suspended and resumed, and it ends.

The functions here run inside the host's calls. None of them raises an Exception; each does as little as it can.
"""

from __future__ import annotations

from functools import partial
from threading import get_ident
from typing import Any

from flowtrace import failure
from flowtrace.calls import Node, Snapshot, Stream, seal_output, snapshot_call
from flowtrace.canonical import plain
from flowtrace.clock import CLOCK
from flowtrace.runtime import STATE, Scope, close_run, ensure, open_run, outcome_of, report
from flowtrace.shapes import Subject
from flowtrace.step import CURRENT, LIVE, Step


def prepare(node: Node, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool) -> Step | None:
    """Take what a node is called with; None where that is impossible, and then nothing is recorded."""
    try:
        recorder = STATE.recorder or ensure()
        if recorder.is_off:
            return None
        step = Step()
        step.node = node
        step.input = snapshot_call(node, args, kwargs, bound, recorder.policy)
        if bound:
            step.bound = True
    except Exception as error:
        report("take the arguments of a call", error)
        return None
    return step


def start(step: Step) -> None:
    """Make a step current, as the child of the one that was."""
    parent = CURRENT.get()
    CURRENT.set(step)
    try:
        if parent is None:
            step.owns_run = True
        else:
            step.previous = parent
            step.run = parent.run or open_run(parent)
            step.parent = parent.number
        step.thread = get_ident()
        step.number = number = CLOCK.step_number()
        LIVE[number] = step
        step.started = CLOCK.now()
    except Exception as error:
        LIVE.pop(step.number, None)
        step.number = 0
        report("record the start of a call", error)


def begin(node: Node, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool) -> Step | None:
    """`prepare` and `start` at once, for a plain call."""
    step = prepare(node, args, kwargs, bound)
    if step is not None:
        start(step)
    return step


def suspend(step: Step | Scope) -> None:
    """Make current what was so before a generator's body was resumed."""
    CURRENT.set(step.previous)


def resume(step: Step | Scope) -> None:
    """Make a generator's step current again while its body runs, whoever resumes it."""
    step.previous = CURRENT.get()
    CURRENT.set(step)


def emit(step: Step, item: object) -> None:
    """Take one value that a generator yields."""
    try:
        if step.stream is None:
            step.stream = Stream(step.node, ensure().policy)
        step.stream.item(item)
    except Exception as error:
        report("record a yielded value", error)


def end(step: Step, output: object) -> None:
    """Record that a call ended well. This is `_leave` and `_settle`, with what most calls don't need left out."""
    CURRENT.set(step.previous)
    number = step.number
    if not number:
        return
    try:
        step.ended = CLOCK.now()
        del LIVE[number]
        recorder = STATE.recorder or ensure()
        policy = recorder.policy
        data: Snapshot | None = plain(output)
        if data is None or len(data) > policy.max_value_bytes:
            data = seal_output(step.node, output, policy)
        step.output = data
        if step.run is None and step.issues is None and not recorder.is_always:
            recorder.buffer.add(step)
            if STATE.throttle.holds:
                STATE.throttle.write_due()
        else:
            step.previous = None
            _settle(step, None)
    except Exception as error:
        LIVE.pop(number, None)
        step.previous = None
        report("record the end of a call", error)


def end_stream(step: Step, *returned: object) -> None:
    """Record that a generator ended: with its return value, or with nothing where it was closed."""
    _leave(step)
    try:
        if step.ended:
            step.output = (step.stream or Stream(step.node, ensure().policy)).finish(*returned)
            step.stream = None
            _settle(step, None)
    except Exception as error:
        report("record the end of a generator", error)


def fail(step: Step, error: BaseException) -> None:
    """Record that a call ended with an exception."""
    _leave(step)
    try:
        if step.ended:
            step.stream = None
            step.failure = failure.describe(error, failure.code_of(error))
            step.expected = failure.is_a(error, step.node.expected_errors)
            _settle(step, "ok" if step.expected else outcome_of(error))
    except Exception as fault:
        report("record the error of a call", fault)


def _leave(step: Step) -> None:
    """Stop the step's clock and make current what was so before it. One that never started keeps ``ended`` at 0."""
    CURRENT.set(step.previous)
    try:
        if step.number:
            step.ended = CLOCK.now()
            del LIVE[step.number]
    except Exception as error:
        LIVE.pop(step.number, None)
        report("read the clock", error)
    if step.previous is not None:
        step.previous = None


def _settle(step: Step, outcome: str | None) -> None:
    """Put a finished step where it belongs, and write what must be written now."""
    process = ensure()
    process.add(step)
    if step.issues and process.has_issues(step) and outcome in (None, "ok"):
        outcome = "failed"
    failed = outcome in ("failed", "interrupted")
    run = step.run
    if step.owns_run and run is None and (failed or process.is_always):
        run = open_run(step)
    if run is None:
        return
    run.add(step)
    if step.owns_run:
        STATE.outermost_calls += 1
        close_run(run, outcome or "ok", "call")
    elif failed and (not run.failed or not run.written):
        run.failed = True
        STATE.throttle.write(run, outcome or "failed", ended=False)
    if run.is_over:
        step.run = None  # a task that outlived its run


def node_subject(node: Node) -> Subject:
    """Return a node as the wrappers of `flowtrace.shapes` see it: its calls become steps."""
    return Subject(
        begin=partial(begin, node),
        prepare=partial(prepare, node),
        start=start,
        suspend=suspend,
        resume=resume,
        emit=emit,
        end=end,
        end_stream=end_stream,
        fail=fail,
    )
