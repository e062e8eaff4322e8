"""The process-global recorder, the runs that feed it, and the switch that turns it on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import RLock, get_ident
from typing import Any, Final

from flowtrace import failure, hooks, log, propagation, switch
from flowtrace.calls import Node, Stream, seal_output, snapshot_call
from flowtrace.canonical import plain
from flowtrace.clock import CLOCK
from flowtrace.config import TraceConfig, TraceContext
from flowtrace.recorder import TraceRecorder
from flowtrace.shapes import Subject
from flowtrace.step import CURRENT, LIVE, Step
from flowtrace.throttle import Throttle


class Scope:
    """A flow that runs: what is current in it outside any step.

    Attributes:
        run: its recorder.
        number: 0, since a flow is no step's parent.
        previous: what was current before it.
    """

    __slots__ = ("number", "previous", "run")

    def __init__(self, run: TraceRecorder) -> None:
        self.run = run
        self.number = 0
        self.previous: Step | Scope | None = None


class _State:
    """What the whole process shares.

    Attributes:
        recorder: the process-global recorder; None before first use.
        outermost_calls: how many runs outside any flow have ended that left more than a step behind.
        last_run: which kind of run was written last: "call", "flow", "process" or nothing yet.
        throttle: decides when the runs' traces are written.
        reported: mark of the last error that left a flow, which the uncaught-exception hook will see again.
    """

    __slots__ = ("last_run", "outermost_calls", "recorder", "reported", "throttle")

    def __init__(self) -> None:
        self.recorder: TraceRecorder | None = None
        self.outermost_calls = 0
        self.last_run = ""
        self.throttle = Throttle()
        self.reported: tuple[Any, ...] = ()


STATE: Final = _State()
_lock = RLock()


# --- the global recorder


def ensure() -> TraceRecorder:
    """Return the process-global recorder, made from the environment on first use."""
    recorder = STATE.recorder
    if recorder is None or switch.is_unread():
        with _lock:
            if STATE.recorder is None or switch.is_unread():
                put(TraceConfig.from_env(), TraceContext.from_env())
            recorder = STATE.recorder
            assert recorder is not None
    return recorder


def put(config: TraceConfig, context: TraceContext) -> TraceRecorder:
    """Replace the process-global recorder, and turn the switch to its mode."""
    with _lock:
        STATE.throttle.write_all()
        STATE.recorder = recorder = TraceRecorder(config, context)
        recorder.is_process_wide = True
        STATE.outermost_calls = 0
        STATE.last_run = ""
        _turn(recorder)
    return recorder


def put_back(recorder: TraceRecorder | None) -> None:
    """Put an earlier global recorder back; None returns to the state before first use."""
    with _lock:
        STATE.throttle.write_all()
        STATE.recorder = recorder
        _turn(recorder)
        if recorder is None:
            switch.forget()


def _turn(recorder: TraceRecorder | None) -> None:
    """Put the switch, the hooks and the thread pools into the state that a recorder asks for."""
    if recorder is None or recorder.is_off:
        propagation.uninstall()
        hooks.uninstall()
        switch.turn_off()
    else:
        hooks.install(_LISTENERS)
        propagation.install()
        switch.turn_on()


def recorder_here() -> TraceRecorder:
    """Return the recorder in force here: that of the run, or the process-global one outside any."""
    recorder = ensure()
    current = CURRENT.get()
    if current is None or recorder.is_off:
        return recorder
    return current.run or _open_run(current)


# --- steps


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
        _report("take the arguments of a call", error)
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
            step.run = parent.run or _open_run(parent)
            step.parent = parent.number
        step.thread = get_ident()
        step.number = number = CLOCK.step_number()
        LIVE[number] = step
        step.started = CLOCK.now()
    except Exception as error:
        LIVE.pop(step.number, None)
        step.number = 0
        _report("record the start of a call", error)


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
        _report("record a yielded value", error)


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
        data = plain(output)
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
        _report("record the end of a call", error)


def end_stream(step: Step, *returned: object) -> None:
    """Record that a generator ended: with its return value, or with nothing where it was closed."""
    _leave(step)
    try:
        if step.ended:
            step.output = (step.stream or Stream(step.node, ensure().policy)).finish(*returned)
            step.stream = None
            _settle(step, None)
    except Exception as error:
        _report("record the end of a generator", error)


def fail(step: Step, error: BaseException) -> None:
    """Record that a call ended with an exception."""
    _leave(step)
    try:
        if step.ended:
            step.stream = None
            step.failure = failure.describe(error, failure.code_of(error))
            step.expected = failure.is_a(error, step.node.expected_errors)
            _settle(step, "ok" if step.expected else _outcome(error))
    except Exception as fault:
        _report("record the error of a call", fault)


def _leave(step: Step) -> None:
    """Stop the step's clock and make current what was so before it. One that never started keeps ``ended`` at 0."""
    CURRENT.set(step.previous)
    try:
        if step.number:
            step.ended = CLOCK.now()
            del LIVE[step.number]
    except Exception as error:
        LIVE.pop(step.number, None)
        _report("read the clock", error)
    if step.previous is not None:
        step.previous = None


def _report(doing: str, error: BaseException) -> None:
    """Report a fault of ours; near the recursion limit even that may be too much."""
    try:
        log.internal_fault(doing, error)
    except Exception:
        pass


def _outcome(error: BaseException) -> str:
    """Return the outcome of a run that an exception ends; "stopped" is no failure, but no success either."""
    code = failure.code_of(error)
    if code == "node_error":
        return "failed"
    if failure.is_clean_exit(error):
        return "ok"
    return "stopped" if code == "node_cancelled" else "interrupted"


def _settle(step: Step, outcome: str | None) -> None:
    """Put a finished step where it belongs, and write what must be written now."""
    process = ensure()
    process.add(step)
    if step.issues and process.has_issues(step) and outcome in (None, "ok"):
        outcome = "failed"
    failed = outcome in ("failed", "interrupted")
    run = step.run
    if step.owns_run:
        if run is None and (failed or process.is_always):
            run = _open_run(step)
    if run is None:
        return
    run.add(step)
    if step.owns_run:
        STATE.outermost_calls += 1
        _close_run(run, outcome or "ok", "call")
    elif failed and (not run.failed or not run.written):
        run.failed = True
        STATE.throttle.write(run, outcome or "failed", ended=False)


def _open_run(step: Step | Scope) -> TraceRecorder:
    """Make the recorder of an outermost call's run, when something first needs it."""
    with _lock:
        if step.run is None:
            process = ensure()
            assert isinstance(step, Step)  # a flow has its recorder from the start
            step.run = process.new_run(process.context, step.started or None)
        run: TraceRecorder = step.run
    return run


def _close_run(run: TraceRecorder, outcome: str, kind: str) -> None:
    if outcome in ("failed", "interrupted"):
        run.failed = True
    elif outcome == "stopped":
        outcome = "interrupted"
    elif run.failed:
        outcome = "recovered"
    if run.failed or run.is_always:
        STATE.throttle.write(run, outcome, ended=True)
        STATE.last_run = kind
    elif STATE.throttle.holds:
        STATE.throttle.write_due()


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


# --- flows


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
        _report("start a flow", error)
        return None


def close_flow(scope: Scope, error: BaseException | None) -> None:
    """End a flow's run, with the exception that leaves it if there is one."""
    try:
        CURRENT.set(scope.previous)
        scope.previous = None
        _close_run(scope.run, _flow_outcome(scope.run, error), "flow")
    except Exception as fault:
        _report("end a flow", fault)


def flow_subject(make_scope: Callable[[], Scope | None]) -> Subject:
    """Return a flow as the wrappers of `flowtrace.shapes` see it: each body runs in a scope of its own.

    Args:
        make_scope: makes a scope; None where tracing is off.
    """

    def begin_scope(args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool) -> Scope | None:
        scope = make_scope()
        if scope is not None:
            resume(scope)
        return scope

    return Subject(
        begin=begin_scope,
        prepare=lambda args, kwargs, bound: make_scope(),
        start=resume,
        suspend=suspend,
        resume=resume,
        emit=lambda scope, item: None,
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
    outcome = _outcome(error)
    STATE.reported = _mark(error)
    if outcome in ("failed", "interrupted"):
        step = _step_passed(error, run)
        if step is None:
            run.add_flow_error(error)
        elif step.expected:
            return "ok"
    return outcome


def _step_passed(error: BaseException, run: TraceRecorder | None) -> Step | None:
    """Return the outermost step, of one run or of any, that an exception came through: its traceback tells."""
    traceback = failure.traceback_of(error)
    while traceback is not None:
        frame = traceback.tb_frame
        if frame.f_globals.get("__name__") == "flowtrace.shapes":
            step = frame.f_locals.get("step")
            if isinstance(step, Step) and (run is None or step.run is run):
                return step
        traceback = traceback.tb_next
    return None


def _mark(error: BaseException) -> tuple[Any, ...]:
    """Return what tells an exception from others without keeping it alive."""
    traceback = failure.traceback_of(error)
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    place = (id(traceback.tb_frame.f_code), traceback.tb_lineno) if traceback is not None else ()
    return (id(error), type(error).__qualname__, place)


# --- what the interpreter tells


def _uncaught(error: BaseException) -> None:
    """Write the trace of a failure that no node and no flow has seen."""
    recorder = ensure()
    if recorder.is_off or failure.is_a(error, SystemExit):
        return
    if _mark(error) == STATE.reported or _step_passed(error, None) is not None:
        return
    STATE.throttle.write_all()
    recorder.add_flow_error(error)
    recorder.failed = True
    recorder.write(_outcome(error))
    STATE.last_run = "process"


def _at_exit() -> None:
    """In mode ``always``, leave a trace of the last steps of the whole process.

    Where a flow was written last, or one call is all there was, the file says that already.
    """
    STATE.throttle.write_all()
    recorder = ensure()
    says_more = STATE.last_run in ("", "call") and (STATE.outermost_calls != 1 or LIVE)
    if says_more and recorder.is_always:
        recorder.write("recovered" if recorder.failed else "ok", ended=True)
    log.summarise()


def _after_fork() -> None:
    """Forget the threads that a forked child does not have, with their steps and locks."""
    global _lock
    _lock = RLock()
    log.forget_lock()
    mine: dict[int, Step] = {}
    current = CURRENT.get()
    while current is not None:
        if isinstance(current, Step):
            mine[current.number] = current
        if current.run is not None:
            current.run.forget_locks()
        current = current.previous
    LIVE.clear()
    LIVE.update(sorted(mine.items()))
    STATE.throttle = Throttle()  # what waits is the parent's to write
    if STATE.recorder is not None:
        put(STATE.recorder.config, STATE.recorder.context)


_LISTENERS: Final = hooks.Listeners(_uncaught, _at_exit, _after_fork)
