"""The life of a step: it is prepared, started, suspended and resumed, and it ends.

The functions here run inside the program's calls. None of them raises an Exception; each does as little as it can.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowtrace.host.signals import is_from_handler
from flowtrace.host.system import CLOCK
from flowtrace.recording import failure
from flowtrace.recording.call_values import Stream, snapshot_call, snapshot_output
from flowtrace.recording.failure import outcome_of
from flowtrace.recording.process import close_run, global_recorder, note_failure, open_run, report_fault, run_of
from flowtrace.recording.recorder import TraceRecorder
from flowtrace.recording.state import IN_FLIGHT, STATE, Scope, current, make_current, restore_current
from flowtrace.recording.step import THIS_THREAD, Step, new_step
from flowtrace.values.secret_texts import EVERYTHING

if TYPE_CHECKING:
    from flowtrace.calls.core import Subject
    from flowtrace.recording.node import Node


def prepare(subject: Subject, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool) -> Step | None:
    """Make a step of a call's arguments; return None where that is impossible, and then nothing is recorded."""
    step = new_step(subject.target, bound)
    try:
        if step.node.is_changed():
            step.node = renew(subject)
        policy = (STATE.recorder or global_recorder()).policy
        processor = policy.processor
        if processor is None:
            step.input = snapshot_call(step.node, args, kwargs, bound, policy)
        else:
            if processor.limit >= 0 and step.node.checks is None:
                subject.begin, subject.end = processor.begin_call, processor.end_call
            step.input = processor.snapshot(step.node, args, kwargs, bound)
    except Exception as error:
        report_fault("take the arguments of a call", error)
        return None
    return step


def renew(subject: Subject) -> Node:
    """Look again at a function that was given other code or defaults; return the node of its calls from now on."""
    node: Node = subject.target.successor()
    subject.target = node
    note_function(subject, node)
    return node


def note_function(subject: Subject, node: Node) -> None:
    """Note for a subject what the function of its node has now."""
    subject.has_live_defaults = node.live_defaults
    subject.watch(node.live)


def start(step: Step) -> None:
    """Start a step, as the child of the current one, and make it current."""
    parent = current()
    step.token = make_current(step)
    try:
        if parent is None:
            step.owns_run = True
        else:
            step.previous = parent
            step.run = parent.run or open_run(parent)
            step.parent = parent.number
        step.thread = THIS_THREAD.number
        step.number = number = next(CLOCK.numbers)
        IN_FLIGHT[number] = step
        processor = (STATE.recorder or global_recorder()).policy.processor
        if processor is not None:
            processor.start(step)
        if not step.started:  # a processor may have read the clock
            step.started = CLOCK.now()
    except BaseException as error:
        forget(step)
        step.number = 0
        if not failure.is_a(error, Exception) or is_from_handler(error):
            make_current(parent)
            raise
        report_fault("record the start of a call", error)


def begin(subject: Subject, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool) -> Step | None:
    """Make a step of a call whose body starts at once, and start it."""
    step = prepare(subject, args, kwargs, bound)
    if step is not None:
        start(step)
    return step


def suspend(step: Step | Scope) -> None:
    """Restore the step or flow that was current before a generator's body was resumed."""
    make_current(step.previous)


def resume(step: Step | Scope) -> None:
    """Make a generator's step current again while its body runs, as a child of the step that resumes it."""
    step.token = None  # it would restore the step that was current at the start
    step.previous = current()
    make_current(step)


def emit(step: Step, item: object) -> None:
    """Record one value that a generator yields, and restore the previous step."""
    try:
        stream = step.stream
        if stream is None:
            step.stream = stream = Stream()
        stream.item(item, step.node, (STATE.recorder or global_recorder()).policy)
    except Exception as error:
        if is_from_handler(error):  # it goes on, and nothing else ends the step
            forget(step)
        report_fault("record a yielded value", error)
    finally:
        make_current(step.previous)


def end(step: Step, output: object) -> None:
    """Record that a call ended well."""
    if _leave(step):
        try:
            record_output(step, output, STATE.recorder or global_recorder())
        except Exception as error:
            forget(step)
            report_fault("record the end of a call", error)


def record_output(step: Step, output: object, recorder: TraceRecorder) -> None:
    """Record the result of a call that has left its context, and whose clock has stopped."""
    processor = recorder.policy.processor  # another thread may close it
    if processor is None:
        step.output = snapshot_output(step.node, output, recorder.policy)
    else:
        processor.end(step, output)
    recorder.buffer.add(step)
    if step.run is not None or step.rest is not None or recorder.is_always or _is_slow(step, recorder):
        add_to_run(step)
    elif STATE.throttle.holds:
        STATE.throttle.write_due()


def end_stream(step: Step, *returned: object) -> None:
    """Record that a generator ended: with its return value, or with nothing where it was closed."""
    if _leave(step):
        record_stream_end(step, *returned)


def record_stream_end(step: Step, *returned: object) -> None:
    """Record what a generator yielded and returned that has left its context, and whose clock has stopped."""
    try:
        recorder = STATE.recorder or global_recorder()
        step.output = (step.stream or Stream()).finish(returned, step.node, recorder.policy)
        step.stream = None
        processor = recorder.policy.processor
        if processor is not None:
            processor.finish(step)
        recorder.buffer.add(step)
        if step.run is not None or step.rest is not None or recorder.is_always or _is_slow(step, recorder):
            add_to_run(step)
    except Exception as error:
        forget(step)
        report_fault("record the end of a generator", error)


def fail(step: Step, error: BaseException, code: str | None = None) -> None:
    """Record that a call ended with an exception; the error code is that of the exception unless one is given."""
    if _leave(step):
        record_failure(step, error, code)


def record_failure(step: Step, error: BaseException, code: str | None = None) -> None:
    """Record the error of a call that has left its context, and whose clock has stopped."""
    try:
        own_code = failure.code_of(error)
        step.failure = found = failure.describe(error, code or own_code, STATE.passed.inside(error, step))
        step.expected = expected = code is None and failure.is_a(error, step.node.expected_errors)
        STATE.passed.note(error, step, found, "" if step.run is None else step.run.run_id, expected)
        if failure.is_validation_error(error) and not expected and _began_in(step, error):
            for issue in failure.issues_of(error):
                step.note(issue)
        recorder = STATE.recorder or global_recorder()
        if step.stream is not None:
            _hide_yielded(step, step.stream, recorder)
        processor = recorder.policy.processor
        if processor is not None:
            processor.finish(step)
        step.stream = None
        recorder.buffer.add(step)
        # A recursion that went too deep leaves no room to write: the end of the run does it, further up.
        outcome = "ok" if expected else outcome_of(error, own_code)
        add_to_run(step, outcome, error, at_once=not failure.is_a(error, RecursionError))
    except Exception as fault:
        forget(step)
        report_fault("record the error of a call", fault)


def _hide_yielded(step: Step, stream: Stream, recorder: TraceRecorder) -> None:
    """Note what a generator that failed hides in what it has yielded: its error may quote that."""
    try:
        step.hidden += stream.secrets(step.node, recorder.policy)
    except Exception as error:  # no room on the stack, say
        step.hidden = (EVERYTHING,)
        report_fault("find what a generator hides", error)


def _began_in(step: Step, error: BaseException) -> bool:
    passed = STATE.passed.steps_of(error)
    return passed is not None and passed.first_in(None) == step.number


def forget(step: Step) -> None:
    """Take a step that could not be recorded off the steps in flight, and back from the step processor."""
    IN_FLIGHT.pop(step.number, None)
    if (slot := step.slot) is not None:
        slot.step = None
        slot.erase(step)


def _leave(step: Step) -> bool:
    """Restore the previous step and stop the step's clock; return True if the step had been started."""
    token, number = step.token, step.number
    if token is None:
        make_current(step.previous)
    else:
        step.token = None
        try:
            restore_current(token)
        except ValueError:  # greenlets that share a thread without a context of their own each
            make_current(step.previous)
    step.previous = None
    try:
        if number:
            try:
                step.ended = CLOCK.now()
            finally:  # inline: there may be no room left on the stack for a call
                IN_FLIGHT.pop(number, None)
                if (slot := step.slot) is not None:
                    slot.step = None
            return True
    except Exception as error:
        report_fault("read the clock", error)
    return False


def add_to_run(
    step: Step, outcome: str | None = None, error: BaseException | None = None, *, at_once: bool = True
) -> None:
    """Add a finished step to its run, and write what must be written now.

    Args:
        step: what has ended.
        outcome: that of an exception; None for a result.
        error: the exception.
        at_once: the first failure of a run is written now, and not only at the run's end.
    """
    run = step.run
    process = STATE.recorder or global_recorder()
    is_slow = _is_slow(step, process)
    if outcome is None and run is not None and not (step.owns_run or step.issues or run.is_over or is_slow):
        run.buffer.add(step)
        return
    if step.issues and process.has_issues(step) and outcome in (None, "ok"):
        outcome = "failed"
    failed = outcome in ("failed", "interrupted")
    if step.owns_run:
        if is_slow and not failed:
            step.run = step.run or run_of(step)
            STATE.throttle.note_slow(step.run, step.started, is_end=True)
        _end_run(step, outcome, error if failed else None, failed or process.is_always)
        return
    if run is None:  # its run is over, or could not be opened
        return
    run.buffer.add(step)
    if failed and not at_once:
        run.failed = True
    elif failed and (not run.failed or not run.written):
        run.failed = True
        run.outcome = outcome or "failed"
        run.blame(_failed_step(step, error))
        STATE.throttle.write(run, run.outcome, ended=run.is_over)
        if run.is_over and error is not None:
            note_failure(run, run.outcome, error)
    elif run.is_over and run.is_always and run.config is process.config:
        STATE.throttle.write_late(run)
    elif is_slow:
        STATE.throttle.note_slow(run, step.started)
    if run.is_over:
        step.run, step.ended_run = None, run.name  # a task that outlived its run


def _is_slow(step: Step, process: TraceRecorder) -> bool:
    return step.ended - step.started > (step.node.slow_after or process.slow_after)


def _failed_step(step: Step, error: BaseException | None) -> int:
    """Return the number of the step in which the failure of a step began; validation issues begin in the step."""
    return (error is not None and STATE.passed.began(error)) or step.number


def _end_run(step: Step, outcome: str | None, error: BaseException | None, is_written: bool) -> None:
    """End the run of an outermost call; one with no other step than its own has no recorder, and needs none."""
    run = step.run
    if run is None and is_written:
        if outcome is None and STATE.throttle.postponed.add(step):
            return
        run = step.run = run_of(step)
    if run is not None:
        run.buffer.add(step)
        if outcome not in (None, "ok"):  # otherwise another thread may be writing an inner failure just now
            run.blame(_failed_step(step, error))
        STATE.ended_runs.outermost_calls += 1
        close_run(run, outcome or "ok", "call", error)
    elif STATE.throttle.holds:
        STATE.throttle.write_due()
