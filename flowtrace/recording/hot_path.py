"""What happens to a step: it is prepared, started, suspended and resumed, and it ends.

The functions here run inside the host's calls. None of them raises an Exception; each does as little as it can.
"""

from __future__ import annotations

from gc import is_tracked
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final

from flowtrace.host.clock import CLOCK
from flowtrace.host.signals import is_from_handler, let_through
from flowtrace.recording import failure
from flowtrace.recording.call_values import Stream, seal_call, seal_output, snapshot_output, snapshot_with_defaults
from flowtrace.recording.process import STATE, Scope, close_run, ensure, open_run, outcome_of, report
from flowtrace.recording.recorder import TraceRecorder
from flowtrace.recording.step import LIVE, Step, current, make_current, restore_current
from flowtrace.values.json import EXACT_TYPES, dumps
from flowtrace.values.snapshot import FEW, take_call, take_pickled

if TYPE_CHECKING:
    from flowtrace.instrument.wrappers import Subject

_tracked: Final = is_tracked


def prepare(subject: Subject, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool) -> Step | None:
    """Take what a node is called with; None where that is impossible, and then nothing is recorded."""
    # this is `new_step`, without a call
    step = Step()
    step.node = node = subject.target
    step.bound = bound
    step.owns_run = False
    step.number = step.parent = step.thread = step.started = step.ended = 0
    step.run = step.previous = step.token = step.output = step.stream = step.slot = step.rest = None
    try:
        policy = (STATE.recorder or ensure()).policy
        box = policy.box
        if box is not None:
            if box.limit >= 0:
                subject.begin, subject.end = box.begin_call, box.end_call
            step.input = box.take(node, args, kwargs, bound)
        elif node.live_defaults:
            step.input = snapshot_with_defaults(node, args, kwargs, bound, policy)
        else:
            data = take_call(args, kwargs, policy.max_value_bytes)
            step.input = data or seal_call(node, args, kwargs, bound, policy)
    except Exception as error:
        report("take the arguments of a call", error)
        return None
    return step


def start(step: Step) -> None:
    """Make a step current, as the child of the one that was."""
    parent = current()
    step.token = make_current(step)
    try:
        if parent is None:
            step.owns_run = True
        else:
            step.previous = parent
            step.run = parent.run or open_run(parent)
            step.parent = parent.number
        step.thread = get_ident()
        step.number = number = next(CLOCK.numbers)
        LIVE[number] = step
        box = (STATE.recorder or ensure()).policy.box
        if box is not None:
            box.start(step)
        if not step.started:  # the box has taken the time, where it could
            step.started = CLOCK.now()
    except BaseException as error:
        forget(step)
        step.number = 0
        if not isinstance(error, Exception) or is_from_handler(error):
            make_current(parent)
            raise
        report("record the start of a call", error)


def begin(subject: Subject, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool) -> Step | None:
    """Do what `prepare` and `start` do, for a call whose body starts at once. One function counts in every call."""
    parent = current()
    # this is `new_step`, without a call
    step = Step()
    step.node = node = subject.target
    step.bound = bound
    step.number = step.parent = step.started = step.ended = 0
    step.run = step.previous = step.output = step.stream = step.slot = step.rest = None
    try:
        policy = (STATE.recorder or ensure()).policy
        if policy.box is not None:
            return _begin_in_box(subject, args, kwargs, bound)
        if node.live_defaults:
            step.input = snapshot_with_defaults(node, args, kwargs, bound, policy)
        else:
            if (
                len(args) != 1
                or kwargs
                or _tracked(value := args[0])
                or type(value) is tuple
                or (type(value) is dict and len(value) > FEW)
            ):
                data = take_call(args, kwargs, policy.max_value_bytes)
            else:  # this is `take_call` for most calls, without a call
                try:
                    data = dumps(args, None, EXACT_TYPES)
                except Exception as error:
                    let_through(error)
                    data = take_pickled((args, kwargs), policy.max_value_bytes)
                if data is not None and len(data) > policy.max_value_bytes:
                    data = None
            step.input = data or seal_call(node, args, kwargs, bound, policy)
        if parent is None:
            step.owns_run = True
        else:
            step.owns_run = False
            step.previous = parent
            step.run = parent.run or open_run(parent)
            step.parent = parent.number
        step.thread = get_ident()
        step.number = number = next(CLOCK.numbers)
        LIVE[number] = step
        step.token = make_current(step)
        step.started = CLOCK.now()
    except BaseException as error:
        make_current(parent)
        forget(step)
        if not isinstance(error, Exception):  # Ctrl-C: what was current stays so
            raise
        report("record the start of a call", error)
        return None
    return step


def _begin_in_box(subject: Subject, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool) -> Step | None:
    step = prepare(subject, args, kwargs, bound)
    if step is not None:
        start(step)
    return step


def suspend(step: Step | Scope) -> None:
    """Make current what was so before a generator's body was resumed."""
    make_current(step.previous)


def resume(step: Step | Scope) -> None:
    """Make a generator's step current again while its body runs, whoever resumes it."""
    step.token = None  # it would make current what was so at the start
    step.previous = current()
    make_current(step)


def emit(step: Step, item: object) -> None:
    """Take one value that a generator yields, and make current what was so before its body was resumed."""
    try:
        stream = step.stream
        if stream is None:
            step.stream = stream = Stream()
        stream.item(item, step.node, (STATE.recorder or ensure()).policy)
    except Exception as error:
        if is_from_handler(error):  # it goes on, and nobody ends the step
            forget(step)
        report("record a yielded value", error)
    finally:
        make_current(step.previous)


def end(step: Step, output: object) -> None:
    """Record that a call ended well."""
    # this is `_leave`, without a call: what is done here counts for every function
    token, number = step.token, step.number
    if token is None:
        make_current(step.previous)
    else:
        step.token = None
        try:
            restore_current(token)
        except ValueError:
            make_current(step.previous)
    step.previous = None
    if not number:
        return
    try:
        try:
            step.ended = CLOCK.now()
        finally:
            try:
                del LIVE[number]  # faster than pop()
            except KeyError:  # the step of a slot; or a forked child does not have the coroutines that were suspended
                if (slot := step.slot) is not None:
                    slot.step = None
        recorder = STATE.recorder or ensure()
        policy = recorder.policy
        if policy.box is not None:
            take_end(step, output, recorder)
            return
        # this is `take`, without a call
        if _tracked(output) or type(output) is tuple or (type(output) is dict and len(output) > FEW):
            data = take_pickled(output, policy.max_value_bytes)
        else:
            try:
                data = dumps(output, None, EXACT_TYPES)
            except Exception as error:
                let_through(error)
                data = take_pickled(output, policy.max_value_bytes)
            if data is not None and len(data) > policy.max_value_bytes:
                data = None
        step.output = data or seal_output(step.node, output, policy)
        buffer = recorder.buffer
        if data is None or type(step.input) is not bytes or buffer.counts_bytes:
            buffer.add(step)
        else:  # this is `add`, without a call
            buffer.steps.append(step)
            next(buffer.ticks)
        if step.run is not None or step.rest is not None or recorder.is_always:
            settle(step)
        elif STATE.throttle.holds:
            STATE.throttle.write_due()
    except Exception as error:
        forget(step)
        report("record the end of a call", error)


def take_end(step: Step, output: object, recorder: TraceRecorder) -> None:
    """Record what a call returned that has left its context, and whose clock has stopped."""
    box = recorder.policy.box  # another thread may close it
    if box is None:
        step.output = snapshot_output(step.node, output, recorder.policy)
    else:
        box.end(step, output)
    recorder.buffer.add(step)
    if step.run is not None or step.rest is not None or recorder.is_always:
        settle(step)
    elif STATE.throttle.holds:
        STATE.throttle.write_due()


def end_stream(step: Step, *returned: object) -> None:
    """Record that a generator ended: with its return value, or with nothing where it was closed."""
    if not _leave(step):
        return
    try:
        recorder = STATE.recorder or ensure()
        step.output = (step.stream or Stream()).finish(returned, step.node, recorder.policy)
        step.stream = None
        box = recorder.policy.box
        if box is not None:
            box.finish(step)
        recorder.buffer.add(step)
        if step.run is not None or step.rest is not None or recorder.is_always:
            settle(step)
    except Exception as error:
        forget(step)
        report("record the end of a generator", error)


def fail(step: Step, error: BaseException) -> None:
    """Record that a call ended with an exception."""
    if not _leave(step):
        return
    try:
        step.failure = failure.describe(error, failure.code_of(error))
        step.expected = failure.is_a(error, step.node.expected_errors)
        recorder = STATE.recorder or ensure()
        box = recorder.policy.box
        if box is not None:
            box.finish(step)
        step.stream = None
        recorder.buffer.add(step)
        settle(step, "ok" if step.expected else outcome_of(error))
    except Exception as fault:
        forget(step)
        report("record the error of a call", fault)


def forget(step: Step) -> None:
    """Let a step that could not be recorded run no more, and take it out of the black box again."""
    LIVE.pop(step.number, None)
    if (slot := step.slot) is not None:
        slot.step = None
        slot.box.forget(step)


def _leave(step: Step) -> bool:
    """Stop the step's clock and make current what was so before it; tell whether it had been started."""
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
            finally:  # without a call of a function: there may be no room left on the stack
                LIVE.pop(number, None)
                if (slot := step.slot) is not None:
                    slot.step = None
            return True
    except Exception as error:
        report("read the clock", error)
    return False


def settle(step: Step, outcome: str | None = None) -> None:
    """Put a finished step into its run, and write what must be written now."""
    run = step.run
    if outcome is None and run is not None and not (step.owns_run or step.issues or run.is_over):
        run.buffer.add(step)
        return
    process = STATE.recorder or ensure()
    if step.issues and process.has_issues(step) and outcome in (None, "ok"):
        outcome = "failed"
    failed = outcome in ("failed", "interrupted")
    if step.owns_run:
        _end_run(step, outcome, failed or process.is_always)
        return
    if run is None:  # its run is over, or could not be opened
        return
    run.buffer.add(step)
    if failed and (not run.failed or not run.written):
        run.failed = True
        STATE.throttle.write(run, outcome or "failed", ended=False)
    if run.is_over:
        step.run = None  # a task that outlived its run


def _end_run(step: Step, outcome: str | None, is_written: bool) -> None:
    """End the run of an outermost call; one that left nothing but its own step has no recorder, and needs none."""
    run = step.run
    if run is None and is_written:
        run = open_run(step)
    if run is not None:
        run.buffer.add(step)
        STATE.outermost_calls += 1
        close_run(run, outcome or "ok", "call")
    elif STATE.throttle.holds:
        STATE.throttle.write_due()
