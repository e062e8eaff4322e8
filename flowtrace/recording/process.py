"""The process-global recorder, the runs of calls and flows, and the hooks for the end, forks and lost errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from flowtrace.calls.core import forget_native_steps
from flowtrace.host import interpreter_hooks, log, switch
from flowtrace.host.clock import CLOCK, NEVER
from flowtrace.host.safe_loading import load_once
from flowtrace.host.signals import SnapshotSignal, let_through
from flowtrace.host.system import os
from flowtrace.recording import current, failure, plugin, to_records
from flowtrace.recording.current import CURRENT, Scope
from flowtrace.recording.failure import mark_of, outcome_of
from flowtrace.recording.recorder import TraceRecorder
from flowtrace.recording.state import STATE, running
from flowtrace.recording.step import Step
from flowtrace.settings.config import TraceConfig, TraceContext, is_disabled
from flowtrace.settings.kinds import signal_number


def global_recorder() -> TraceRecorder:
    """Return the process-global recorder, made from the environment on first use.

    Every call takes its values by this recorder's policy. The hot path writes ``STATE.recorder or global_recorder()``,
    which is one call less.
    """
    recorder = STATE.recorder
    if recorder is None or switch.is_unread():
        interpreter_hooks.listen_to_forks(_after_fork)
        with STATE.lock:
            if STATE.recorder is None or switch.is_unread():
                set_recorder(TraceConfig.from_env(), TraceContext.from_env())
            recorder = STATE.recorder
            assert recorder is not None
    return recorder


def set_recorder(config: TraceConfig, context: TraceContext) -> TraceRecorder:
    """Replace the process-global recorder by a new one, and turn tracing on or off by its mode."""
    interpreter_hooks.listen_to_forks(_after_fork)
    with STATE.lock:
        STATE.throttle.write_all()
        STATE.throttle.renew_slow()
        STATE.recorder = recorder = TraceRecorder(config, context)
        recorder.is_process_wide = True
        STATE.outermost_calls = 0
        STATE.last_run = ""
        _apply(recorder)
    return recorder


def restore_recorder(recorder: TraceRecorder | None) -> None:
    """Make an earlier recorder the process-global one again; None returns to the state before first use."""
    with STATE.lock:
        STATE.throttle.write_all()
        STATE.recorder = recorder
        _apply(recorder)
        if recorder is None:
            switch.forget()


def _apply(recorder: TraceRecorder | None) -> None:
    """Bring the switch, the hooks, the step processor and the thread pools into the state that a recorder asks for."""
    _set_dump_signal(None if recorder is None or is_disabled() else recorder.config.dump_signal)
    plugin.reopen(recorder)
    if recorder is None or recorder.is_off:
        current.unpatch_thread_pools()
        interpreter_hooks.uninstall()
        switch.turn_off()
    else:
        load_once(to_records.warm_up)
        interpreter_hooks.install(_LISTENERS)
        current.patch_thread_pools()
        switch.turn_on()
    if STATE.open_fast_path is not None:
        STATE.open_fast_path(recorder)


def _set_dump_signal(name: str | None) -> None:
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
    recorder = global_recorder()
    if recorder.config.dump_signal is None:  # it could not be taken away outside the main thread
        return
    if recorder.is_off:
        log.warn("a snapshot was asked for, and tracing is off")
    else:
        recorder.snapshot()


def report_fault(doing: str, error: BaseException) -> None:
    """Report a fault of ours; near the recursion limit even that may be too much. Signal handlers' errors go on."""
    let_through(error)
    try:
        log.internal_fault(doing, error)
    except Exception:
        pass


# --- runs


def open_run(step: Step | Scope) -> TraceRecorder:
    """Return the recorder of an outermost call's run, made when it is first needed."""
    with STATE.lock:
        if step.run is None:
            process = global_recorder()
            assert isinstance(step, Step)  # a flow has its recorder from the start
            run = process.new_run(process.context, step.started or None)
            run.shows_process = not process.is_always
            step.run = run
        return step.run


def close_run(run: TraceRecorder, outcome: str, kind: str) -> None:
    """End a run, and write it where its mode or a failure in it asks for that.

    Args:
        run: its recorder.
        outcome: how it ended, as `outcome_of` says; "ok" for no error.
        kind: ``call`` or ``flow``.
    """
    if outcome in ("failed", "interrupted"):
        run.failed = True
    elif run.is_slow and not run.failed:
        outcome = "slow"
    elif outcome == "stopped":
        outcome = "interrupted"
    elif run.failed:
        outcome = "recovered"
    if run.failed or run.is_always or run.slow_at:
        STATE.throttle.write(run, outcome, ended=True)
        STATE.last_run = kind
    elif STATE.throttle.holds:
        STATE.throttle.write_due()
    run.end_run()


def open_flow(context: Callable[[TraceContext], TraceContext], slow_after: int = 0) -> Scope | None:
    """Return the scope of a new flow's run; `flowtrace.recording.hot_path.resume` makes it current.

    Args:
        context: takes the global recorder's context, and returns the flow's.
        slow_after: nanoseconds after which the flow is slow; 0 follows the configuration.

    Returns:
        The scope; None where tracing is off.
    """
    try:
        recorder = global_recorder()
        if recorder.is_off:
            return None
        run = recorder.new_run(context(recorder.context))
        run.slow_after = slow_after or run.slow_after
        return Scope(run)
    except Exception as error:
        report_fault("start a flow", error)
        return None


def close_flow(scope: Scope, error: BaseException | None) -> None:
    """End a flow's run, with the exception that leaves it if there is one."""
    try:
        CURRENT.set(scope.previous)
        scope.previous = None
        run = scope.run
        assert run is not None  # a flow has its recorder from the start
        if run.slow_after != NEVER and CLOCK.now() - run.started > run.slow_after:
            STATE.throttle.note_slow(run, run.started, is_end=True)
        close_run(run, _flow_outcome(run, error), "flow")
    except Exception as fault:
        report_fault("end a flow", fault)


def _flow_outcome(run: TraceRecorder, error: BaseException | None) -> str:
    if error is None or failure.is_a(error, GeneratorExit):
        return "ok"
    outcome = outcome_of(error)
    STATE.reported = mark_of(error)
    if outcome in ("failed", "interrupted"):
        passed = STATE.passed.steps_of(error)
        outside = 0
        if passed is None or passed.run_id != run.run_id:
            outside = run.add_flow_error(error)
        elif passed.expected:
            return "ok"
        run.failed_step = STATE.passed.began(error, run.run_id) or outside
    return outcome


# --- the interpreter's reports


def _uncaught(error: BaseException) -> None:
    """Write the trace of a failure that no node and no flow has seen."""
    recorder = global_recorder()
    if recorder.is_off or failure.is_a(error, SystemExit):
        return
    if mark_of(error) == STATE.reported or STATE.passed.steps_of(error) is not None:
        return
    STATE.throttle.write_all()
    outside = recorder.add_flow_error(error)
    recorder.failed_step = STATE.passed.began(error) or outside
    recorder.failed = True
    recorder.write(outcome_of(error))
    STATE.last_run = "process"


def _at_exit() -> None:
    """Write what is still to be written, and let go of everything that is held.

    In mode ``always`` that is a trace of the last steps of the process, unless the file shows them already: a flow was
    written last, or one call is all there was. A process that recorded nothing leaves an earlier trace alone.
    """
    if STATE.dump_signal is not None:
        STATE.dump_signal.wait()
    STATE.throttle.write_all()
    recorder = global_recorder()
    has_more = STATE.last_run in ("", "call") and (STATE.outermost_calls != 1 or running())
    if has_more and recorder.is_always and not _would_only_empty(recorder):
        recorder.write("recovered" if recorder.failed else "ok", ended=True)
    log.summarise()
    # what the last steps hold would keep the main module, and all that it should finalise, alive for good
    switch.turn_off()
    if STATE.keeper is not None:
        STATE.keeper.close()
    STATE.in_flight.clear()
    forget_native_steps()
    recorder.buffer.clear()


def _would_only_empty(recorder: TraceRecorder) -> bool:
    """Return True if there is no step to write, and a file in the place of the trace, which may hold some."""
    steps, dropped = recorder.buffer.contents()
    return not steps and not dropped and not running() and os.path.lexists(recorder.path())


def _after_fork() -> None:
    """Forget the threads that a forked child does not have, with their steps and locks."""
    STATE.renew_locks()
    log.forget_lock()
    if STATE.keeper is not None:
        STATE.keeper.after_fork()
    mine: dict[int, Step] = {}
    around = CURRENT.get()
    while around is not None:
        if isinstance(around, Step):
            mine[around.number] = around
        if around.run is not None:
            around.run.forget_lock()
        around = around.previous
    forget_native_steps()
    STATE.in_flight.clear()
    STATE.in_flight.update(sorted(mine.items()))
    if STATE.dump_signal is not None:
        STATE.dump_signal.forget_thread()
    if STATE.recorder is not None:
        set_recorder(STATE.recorder.config, STATE.recorder.context)


_LISTENERS: Final = interpreter_hooks.Listeners(_uncaught, _at_exit)
