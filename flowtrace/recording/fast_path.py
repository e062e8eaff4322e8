"""The fast path of a call: the native core records it alone, and calls out for what is rare.

It is open while the process-global recorder is on, and the step processor, where there is one, takes calls from the
native core. None of the functions here raises an Exception, but for what a signal handler of the program raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from threading import RLock
from typing import Any

from flowtrace.calls.core import NATIVE
from flowtrace.host import system
from flowtrace.host.signals import is_from_handler, raise_later
from flowtrace.host.system import CLOCK, time
from flowtrace.recording import hot_path
from flowtrace.recording.call_values import NativeStream, hides_result, of_native_call, snapshot_call, snapshot_output
from flowtrace.recording.node import Node, Policy, parameters_of
from flowtrace.recording.process import global_recorder, open_run, report_fault
from flowtrace.recording.recorder import TraceRecorder
from flowtrace.recording.state import CURRENT, STATE
from flowtrace.recording.step import THIS_THREAD, RunName, Step
from flowtrace.settings.config import ValidationMode
from flowtrace.values import codecs

_LOCK = type(RLock())  # its maker is a function of Python's, which a debugger would see
_HEAD = 480  # bytes of memory of a step and its tuples, as the native core counts them


def connect() -> None:
    """Give the native core, where there is one, the types and functions of the recorder."""
    if NATIVE is None or STATE.open_fast_path is not None:
        return
    NATIVE.connect_recorder(
        step_type=Step,
        stream_type=NativeStream,
        current=CURRENT,
        open_run=_guarded("record the start of a call", open_run),
        add_to_run=_guarded("record the end of a call", hot_path.add_to_run),
        write_due=_guarded("record the end of a call", lambda: STATE.throttle.write_due()),
        slow_input=_guarded("take the arguments of a call", _slow_input),
        slow_output=_guarded("record the end of a call", _slow_output),
        hash_items=_guarded("record a yielded value", _hash_items),
        finish_hashed=_guarded("record the end of a generator", _finish_hashed),
        ended=_guarded("record the end of a call", _ended),
        stream_ended=hot_path.record_stream_end,
        failed=hot_path.record_failure,
        start_processed=_guarded("record the start of a call", _start_processed),
        end_processed=_guarded("record the end of a call", _end_processed),
        finish_processed=_guarded("record the end of a generator", _finish_processed),
        thread_number=_guarded("record the start of a call", lambda: THIS_THREAD.number),
        is_from_handler=is_from_handler,
        raise_later=raise_later,
        open_values=_guarded("find out what a call may hide", _open_values),
    )
    NATIVE.use_copiers(_guarded("learn how to copy a value", codecs.copier_of), codecs.REGISTERED)
    system.FOLLOWERS.append(_follow_clock)
    _follow_clock()
    STATE.open_fast_path = open_for
    open_for(STATE.recorder)


def open_for(recorder: TraceRecorder | None) -> None:
    """Open the fast path where a recorder allows it, and close it elsewhere."""
    processor = None if recorder is None else recorder.policy.processor
    if recorder is None or recorder.is_off or not (processor is None or processor.takes_native_calls):
        NATIVE.close_fast_path()
    else:
        policy = recorder.policy
        limits = policy.max_value_bytes, recorder.slow_after
        governor = policy.governor if processor is None else None
        cut = governor and governor.left_out, policy.left_out, policy.left_out.size
        NATIVE.use_box(processor is not None)
        held_back = STATE.throttle.holds, STATE.throttle.postponed
        sizes = recorder.config.buffer_size, recorder.config.buffer_bytes
        NATIVE.use_runs(TraceRecorder, RunName, _LOCK, recorder.of_a_call(), *sizes)
        modes = recorder.is_always, recorder.config.validation is not ValidationMode.OFF
        NATIVE.open_fast_path(recorder.buffer, *held_back, *modes, *limits, *cut, policy.redactor is None)


def _follow_clock() -> None:
    standard = time.perf_counter_ns
    now = standard if CLOCK.now is standard else _guarded("read the clock", CLOCK.now)
    if type(CLOCK.numbers) is count:
        CLOCK.numbers = NATIVE.Counter(CLOCK.steps_begun() + 1)  # comes back here
        return
    numbers = CLOCK.numbers if type(CLOCK.numbers) is NATIVE.Counter else _Numbers(CLOCK.numbers)
    NATIVE.use_clock(now, numbers, standard)


class _Numbers:
    """Numbers from another source than `itertools.count`: where that fails, None says that the fault is reported."""

    __slots__ = ("_next",)

    def __init__(self, numbers: Iterator[int]) -> None:
        self._next = _guarded("number a step", partial(next, numbers))

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> Any:
        return self._next()


def _guarded(doing: str, function: Callable[..., Any]) -> Callable[..., Any]:
    return partial(_run_guarded, doing, function)


def _run_guarded(doing: str, function: Callable[..., Any], *args: Any) -> Any:
    """Return what a function returns; None where something of ours failed in it."""
    try:
        return function(*args)
    except Exception as error:
        report_fault(doing, error)
        return None


def _open_values(node: Node) -> tuple[frozenset[str] | None, bool]:
    """Return the names of a node's parameters, None if one of them is secret, and whether its result is none."""
    policy = global_recorder().policy
    if policy.redactor is not None or policy.processor is not None:  # which look at the objects themselves
        return None, False
    names = parameters_of(node)
    is_open = names is not None and not any(map(policy.secret(node), names))
    return names if is_open else None, not hides_result(node, policy)


def _slow_input(step: Step, call: tuple[tuple[Any, ...], dict[str, Any]]) -> None:
    """Take arguments that are not plain, or not small."""
    policy = (STATE.recorder or global_recorder()).policy
    if policy.processor is not None:
        step.input = policy.processor.snapshot(step.node, *call, step.bound)
    elif _is_left_out(step, policy):
        step.input = policy.left_out
        step.held = _HEAD + policy.left_out.size
        return
    else:
        step.input = snapshot_call(step.node, *call, step.bound, policy)
    step.held = _HEAD + step.size()


def _slow_output(step: Step, output: object) -> None:
    """Take a result that is not plain, or not small."""
    policy = (STATE.recorder or global_recorder()).policy
    if _is_left_out(step, policy):
        step.output = policy.left_out
        step.held += policy.left_out.size
        return
    step.held -= step.size()
    step.output = snapshot_output(step.node, output, policy)
    step.held += step.size()


def _is_left_out(step: Step, policy: Policy) -> bool:
    """Return True if the values of a step's node are left out for now: then none is even looked at."""
    return policy.governor is not None and policy.governor.leaves_out(step.node)


def _hash_items(step: Step, items: list[Any]) -> None:
    """Hash what a generator yielded, since it is no longer small."""
    stream: Any = step.stream
    stream.encode(items, step.node, global_recorder().policy)


def _finish_hashed(step: Step, returned: tuple[Any, ...]) -> None:
    """Finish the running hash of what a generator yielded."""
    stream: Any = step.stream
    step.held -= step.size() + stream.held
    step.output = stream.finish(returned, step.node, global_recorder().policy)
    step.stream = None
    step.held += step.size()


def _start_processed(step: Step) -> None:
    """Let the step processor see a call that starts, and that the native core could not write."""
    processor = global_recorder().policy.processor
    if processor is None or step.slot is not None:  # another thread has closed it, or opened one that has this step
        return
    if type(step.input) is tuple:
        step.input = processor.snapshot(step.node, *of_native_call(step.input), step.bound)
        step.held = _HEAD + step.size()
    processor.start(step)


def _end_processed(step: Step, output: object) -> None:
    """Let the step processor take a result that the native core could not write."""
    policy = global_recorder().policy
    step.held -= step.size()
    try:
        if policy.processor is None:
            step.output = snapshot_output(step.node, output, policy)
        else:
            policy.processor.end(step, output)
    except BaseException:
        hot_path.forget(step)
        raise
    step.held += step.size()


def _finish_processed(step: Step) -> None:
    """Let the step processor see a generator that has ended."""
    processor = global_recorder().policy.processor
    if processor is not None:
        processor.finish(step)


def _ended(step: Step, output: object) -> None:
    """Record the result of a call during which the fast path was closed."""
    hot_path.record_output(step, output, global_recorder())
