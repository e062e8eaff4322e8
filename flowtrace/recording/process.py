"""The process-global recorder, the runs beside it, and what the interpreter tells: its end, forks, lost exceptions."""

from __future__ import annotations

from threading import RLock
from typing import Any, Final

from flowtrace.host import interpreter_hooks, log, switch
from flowtrace.host.safe_loading import load_once
from flowtrace.host.signals import SnapshotSignal, let_through, traceback_of
from flowtrace.recording import buffer, failure, plugin, threads, to_records
from flowtrace.recording.recorder import TraceRecorder
from flowtrace.recording.step import CURRENT, IN_FORCE, LIVE, Step, running
from flowtrace.recording.throttle import Throttle
from flowtrace.settings.config import TraceConfig, TraceContext, is_disabled
from flowtrace.settings.kinds import signal_number


class Scope:
    """A flow that runs: what is current in it outside any step.

    Attributes:
        run: its recorder.
        number: 0, since a flow is no step's parent.
        previous: what was current before it.
        token: None, as that of a step that has been resumed.
    """

    __slots__ = ("number", "previous", "run", "token")

    def __init__(self, run: TraceRecorder) -> None:
        self.run = run
        self.number = 0
        self.previous: Step | Scope | None = None
        self.token: None = None


class _State:
    """What the whole process shares.

    Attributes:
        recorder: the process-global recorder; None before first use.
        outermost_calls: how many runs outside any flow have ended that left more than a step behind.
        last_run: which kind of run was written last: "call", "flow", "process" or nothing yet.
        throttle: decides when the runs' traces are written.
        dump_signal: the signal that asks for a snapshot, while its handler is installed.
        reported: mark of the last error that left a flow, which the uncaught-exception hook will see again.
    """

    __slots__ = ("dump_signal", "last_run", "outermost_calls", "recorder", "reported", "throttle")

    def __init__(self) -> None:
        self.recorder: TraceRecorder | None = None
        self.outermost_calls = 0
        self.last_run = ""
        self.throttle = Throttle()
        self.dump_signal: SnapshotSignal | None = None
        self.reported: tuple[Any, ...] = ()


STATE: Final = _State()
_lock = RLock()


def ensure() -> TraceRecorder:
    """Return the process-global recorder, made from the environment on first use."""
    recorder = STATE.recorder
    if recorder is None or switch.is_unread():
        interpreter_hooks.listen_to_forks(_after_fork)
        with _lock:
            if STATE.recorder is None or switch.is_unread():
                put(TraceConfig.from_env(), TraceContext.from_env())
            recorder = STATE.recorder
            assert recorder is not None
    return recorder


def put(config: TraceConfig, context: TraceContext) -> TraceRecorder:
    """Replace the process-global recorder, and turn the switch to its mode."""
    interpreter_hooks.listen_to_forks(_after_fork)
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
    _listen(None if recorder is None or is_disabled() else recorder.config.dump_signal)
    keeper = plugin.keeper_for(recorder)
    if keeper is not None:
        keeper.put(recorder)
    if recorder is None or recorder.is_off:
        threads.uninstall()
        interpreter_hooks.uninstall()
        switch.turn_off()
    else:
        load_once(to_records.warm_up)
        interpreter_hooks.install(_LISTENERS)
        threads.install()
        switch.turn_on()


def _listen(name: str | None) -> None:
    """Install the handler of the signal that asks for a snapshot, or take it away."""
    number = None if name is None else signal_number(name)
    installed = STATE.dump_signal
    if installed is not None and installed.number != number and installed.uninstall():
        STATE.dump_signal = installed = None
    if number is None or installed is not None:
        return
    wanted = SnapshotSignal(number, _answer_signal)
    reason = wanted.install()
    if reason:
        log.warn_once("dump signal is not installed", ("signal", reason), signal=name, reason=reason)
    else:
        STATE.dump_signal = wanted


def _answer_signal() -> None:
    recorder = ensure()
    if recorder.config.dump_signal is None:  # it could not be taken away outside the main thread
        return
    if recorder.is_off:
        log.warn("a snapshot was asked for, and tracing is off")
    else:
        recorder.snapshot()


def recorder_here() -> TraceRecorder:
    """Return the recorder in force here: that of the run, or the process-global one outside any."""
    recorder = ensure()
    current = CURRENT.get()
    if current is None or recorder.is_off:
        return recorder
    return current.run or open_run(current)


# --- runs


def open_run(step: Step | Scope) -> TraceRecorder:
    """Make the recorder of an outermost call's run, when something first needs it."""
    with _lock:
        if step.run is None:
            process = ensure()
            assert isinstance(step, Step)  # a flow has its recorder from the start
            step.run = process.new_run(process.context, step.started or None)
        run: TraceRecorder = step.run
    return run


def close_run(run: TraceRecorder, outcome: str, kind: str) -> None:
    """End a run, and write it where its mode or a failure in it asks for that.

    Args:
        run: its recorder.
        outcome: what ended it, as `outcome_of` tells; "ok" where nothing did.
        kind: ``call`` or ``flow``.
    """
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
    run.end_run()


def outcome_of(error: BaseException) -> str:
    """Return the outcome of a run that an exception ends; "stopped" is no failure, but no success either."""
    code = failure.code_of(error)
    if code == "node_error":
        return "failed"
    if failure.is_clean_exit(error):
        return "ok"
    return "stopped" if code == "node_cancelled" else "interrupted"


def step_passed(error: BaseException, run: TraceRecorder | None) -> Step | None:
    """Return the outermost step, of one run or of any, that an exception came through: its traceback tells."""
    traceback = traceback_of(error)
    while traceback is not None:
        frame = traceback.tb_frame
        if frame.f_globals.get("__name__") == "flowtrace.instrument.wrappers":
            step = frame.f_locals.get("step")
            if isinstance(step, Step) and (run is None or step.run is run):
                return step
        traceback = traceback.tb_next
    return None


def mark_of(error: BaseException) -> tuple[Any, ...]:
    """Return what tells an exception from others without keeping it alive."""
    traceback = traceback_of(error)
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    place = (id(traceback.tb_frame.f_code), traceback.tb_lineno) if traceback is not None else ()
    return (id(error), type(error).__qualname__, place)


def report(doing: str, error: BaseException) -> None:
    """Report a fault of ours; near the recursion limit even that may be too much. Signal handlers' errors go on."""
    let_through(error)
    try:
        log.internal_fault(doing, error)
    except Exception:
        pass


# --- what the interpreter tells


def _uncaught(error: BaseException) -> None:
    """Write the trace of a failure that no node and no flow has seen."""
    recorder = ensure()
    if recorder.is_off or failure.is_a(error, SystemExit):
        return
    if mark_of(error) == STATE.reported or step_passed(error, None) is not None:
        return
    STATE.throttle.write_all()
    recorder.add_flow_error(error)
    recorder.failed = True
    recorder.write(outcome_of(error))
    STATE.last_run = "process"


def _at_exit() -> None:
    """In mode ``always``, leave a trace of the last steps of the whole process.

    Where a flow was written last, or one call is all there was, the file says that already.
    """
    if STATE.dump_signal is not None:
        STATE.dump_signal.wait()
    STATE.throttle.write_all()
    recorder = ensure()
    says_more = STATE.last_run in ("", "call") and (STATE.outermost_calls != 1 or running())
    if says_more and recorder.is_always:
        recorder.write("recovered" if recorder.failed else "ok", ended=True)
    log.summarise()
    # what the last steps hold would keep the main module, and all that it should finalise, alive for good
    switch.turn_off()
    keeper = plugin.keeper()
    if keeper is not None:
        keeper.close()
    LIVE.clear()
    recorder.buffer.clear()


def _after_fork() -> None:
    """Forget the threads that a forked child does not have, with their steps and locks."""
    global _lock
    _lock = RLock()
    log.forget_lock()
    buffer.forget_lock()
    keeper = plugin.keeper()
    if keeper is not None:
        keeper.after_fork()
    mine: dict[int, Step] = {}
    current = CURRENT.get()
    while current is not None:
        if isinstance(current, Step):
            mine[current.number] = current
        if current.run is not None:
            current.run.forget_lock()
        current = current.previous
    LIVE.clear()
    LIVE.update(sorted(mine.items()))
    if STATE.dump_signal is not None:
        STATE.dump_signal.forget_thread()
    STATE.throttle = Throttle()  # what waits is the parent's to write
    if STATE.recorder is not None:
        put(STATE.recorder.config, STATE.recorder.context)


IN_FORCE[:] = [lambda: ensure().policy]
_LISTENERS: Final = interpreter_hooks.Listeners(_uncaught, _at_exit)
