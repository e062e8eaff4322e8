"""The process-global recorder: its runs, the end of the process, forks, and lost errors."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Final, cast

from flowtrace.calls.core import forget_native_steps
from flowtrace.host import interpreter_hooks, log, switch
from flowtrace.host.safe_loading import load_once
from flowtrace.host.signals import SnapshotSignal, is_taken, let_through
from flowtrace.host.system import CLOCK, NEVER
from flowtrace.recording import failure, state, to_records
from flowtrace.recording.failure import mark_of, outcome_of
from flowtrace.recording.recorder import TraceRecorder
from flowtrace.recording.state import CURRENT, STATE, EndedRuns, Failure, Scope, running
from flowtrace.recording.step import RunName, Step
from flowtrace.settings.config import (
    TraceConfig,
    TraceContext,
    is_disabled,
)
from flowtrace.settings.kinds import signal_number
from flowtrace.trace.files import is_child_process

if TYPE_CHECKING:
    from flowtrace.recording.plugin import ProcessorKeeper

_LOGS: Final = "flowtrace.recording.logs"
_BLACK_BOX: Final = "flowtrace.blackbox.keeper"


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


def set_recorder(config: TraceConfig, context: TraceContext, *, is_quiet: bool = False) -> TraceRecorder:
    """Replace the process-global recorder by a new one, and turn tracing on or off by its mode."""
    interpreter_hooks.listen_to_forks(_after_fork)
    with STATE.lock:
        STATE.throttle.write_all()
        STATE.throttle.renew_slow()
        STATE.recorder = recorder = TraceRecorder(config, context)
        recorder.is_process_wide, recorder.is_quiet = True, is_quiet
        STATE.ended_runs = EndedRuns()
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
    _reopen(recorder)
    if recorder is None or recorder.is_off:
        state.unpatch_thread_pools()
        interpreter_hooks.uninstall()
        switch.turn_off()
    else:
        load_once(to_records.warm_up)
        interpreter_hooks.install(_LISTENERS)
        state.patch_thread_pools()
        switch.turn_on()
    STATE.throttle.end_call = _end_call
    if STATE.open_fast_path is not None:
        STATE.open_fast_path(recorder)


def _reopen(recorder: TraceRecorder | None) -> None:
    """Give a recorder the step processor and the logs that it asks for; they are loaded when one first does."""
    if recorder is not None and recorder.config.blackbox is not None and not recorder.is_off:
        load_once(_load_black_box)
    if STATE.keeper is not None:
        STATE.keeper.reopen(recorder)
    if recorder is not None and recorder.config.logs and not recorder.is_off:
        load_once(_load_logs)
    if STATE.use_logs is not None:
        STATE.use_logs(recorder)


def _load_black_box() -> None:
    STATE.keeper = cast("ProcessorKeeper", import_module(_BLACK_BOX))


def _load_logs() -> None:
    STATE.use_logs = import_module(_LOGS).use


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
    except Exception as fault:
        let_through(fault)


# --- runs


def open_run(step: Step | Scope) -> TraceRecorder:
    """Return the recorder of an outermost call's run, made when it is first needed.

    Where the call has ended, a task goes on that it had started: it belongs to the call's run as long as nothing else
    was written since, and to a run of its own after that.
    """
    if isinstance(step, Step) and step.ended:
        STATE.throttle.take_in()
    with STATE.lock:
        latest = STATE.ended_runs.latest
        if step.run is not None:
            return step.run
        assert isinstance(step, Step)  # a flow has its recorder from the start
        if step.ended and latest is not None and getattr(step, "ended_run", None) is latest.name:
            return latest
        run = run_of(step)
        step.run = run = step.run or run  # the native core takes no lock: in another thread it may have been quicker
        if step.ended:
            run.name, run.is_late = RunName(), True
            run.end_run()
            STATE.ended_runs.outermost_calls += 1
        return run


def run_of(step: Step) -> TraceRecorder:
    """Return a new recorder for the run of an outermost call."""
    process = global_recorder()
    run = process.new_run(process.context, step.started or None)
    run.name = getattr(step, "ended_run", None) or run.name  # somebody has asked for its id
    run.shows_process = not process.is_always
    return run


def close_run(run: TraceRecorder, outcome: str, kind: str, error: BaseException | None = None) -> None:
    """End a run, and write it where its mode or a failure in it asks for that.

    Args:
        run: its recorder.
        outcome: how it ended, as `outcome_of` says; "ok" for no error.
        kind: ``call`` or ``flow``.
        error: the exception that ended it badly.
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
        STATE.ended_runs.last_written = kind
    elif STATE.throttle.holds:
        STATE.throttle.write_due()
    if error is not None:
        note_failure(run, outcome, error)
    run.outcome = outcome
    run.end_run()
    if run.is_always:
        STATE.ended_runs.latest = run


def _end_call(last: Step | TraceRecorder, count: int) -> None:
    """End the last of so many outermost calls that were postponed: a step, or the run of it and the calls in it."""
    ended = STATE.ended_runs
    ended.outermost_calls += count
    if not global_recorder().is_always:  # another thread has configured tracing meanwhile
        return
    if isinstance(last, TraceRecorder):
        run = last
        STATE.throttle.hold(run, count - 1)
    else:
        run = last.run = run_of(last)
        run.buffer.add(last)
        STATE.throttle.hold(run, count - 1)
        run.end_run()
    ended.last_written, ended.latest = "call", run


def note_failure(run: TraceRecorder, outcome: str, error: BaseException) -> None:
    """Keep a run that an error has left: only when that has come all the way out it is known to end the program."""
    STATE.ended_runs.note_failure(Failure(mark_of(error), run, outcome, run.last_steps()))


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
        outcome = _flow_outcome(run, error)
        close_run(run, outcome, "flow", error if outcome in ("failed", "interrupted") else None)
    except Exception as fault:
        report_fault("end a flow", fault)


def _flow_outcome(run: TraceRecorder, error: BaseException | None) -> str:
    if error is None or failure.is_a(error, GeneratorExit):
        return "ok"
    outcome = outcome_of(error)
    STATE.reported = mark_of(error)
    if outcome in ("failed", "interrupted"):
        passed, run_id = STATE.passed.steps_of(error), run.run_id
        outside = 0
        if passed is None or passed.run_id != run_id:
            outside = run.add_flow_error(error)
        elif passed.expected:
            return "ok"
        run.failed_step = STATE.passed.began(error, run_id) or outside
    return outcome


# --- the interpreter's reports


def _uncaught(error: BaseException, ends_program: bool) -> None:
    """Write the trace of a failure that no node and no flow has seen, or where another one has replaced it."""
    recorder = global_recorder()
    if recorder.is_off or failure.is_a(error, SystemExit):
        return
    is_new = mark_of(error) != STATE.reported and STATE.passed.steps_of(error) is None
    final = _failure_outside(recorder, error) if is_new else STATE.ended_runs.failure_of(mark_of(error))
    if final is not None and (ends_program or is_new):
        STATE.throttle.write_final(final, ended=ends_program)
    if ends_program:
        STATE.ended_runs.final = final


def _failure_outside(recorder: TraceRecorder, error: BaseException) -> Failure:
    """Return the failure of the process, as a run that shows its last steps."""
    STATE.throttle.write_all()
    STATE.ended_runs.last_written = "process"
    run = recorder.new_run(recorder.context, recorder.started)
    run.is_process_wide = run.failed = recorder.failed = True
    outside = recorder.add_flow_error(error)
    run.failed_step = STATE.passed.began(error) or outside
    return Failure(mark_of(error), run, outcome_of(error), recorder.last_steps())


def _at_exit() -> None:
    """Write what is still to be written, and let go of everything that is held."""
    if STATE.dump_signal is not None:
        STATE.dump_signal.wait()
    recorder = global_recorder()
    _write_end(recorder)
    log.summarise()
    # what the last steps hold would keep the main module, and all that it should finalise, alive for good
    switch.turn_off()
    if STATE.keeper is not None:
        STATE.keeper.close()
    STATE.in_flight.clear()
    forget_native_steps()
    recorder.buffer.clear()
    if recorder.policy.governor is not None:
        recorder.policy.governor.forget()
    STATE.ended_runs = EndedRuns()


def _at_worker_end() -> None:
    """Write the same in a worker process, in which the interpreter may not come to its exit."""
    recorder = global_recorder()
    if recorder.buffer.newest() or running():
        _write_end(recorder)
        log.summarise()


def _write_end(recorder: TraceRecorder) -> None:
    """Write what is still to be written when the process ends.

    In mode ``always`` that is a trace of the last steps of the process, unless the file shows them already: a flow was
    written last, or one call is all there was. A process that recorded nothing leaves an earlier trace alone, and the
    failure that ended the program stays what the file is about.
    """
    STATE.throttle.write_all()
    runs, final = STATE.ended_runs, STATE.ended_runs.final
    has_more = runs.last_written in ("", "call") and (runs.outermost_calls != 1 or running())
    steps = recorder.buffer.newest()
    has_final = final is None or any(step.number == final.run.failed_step for step in steps)
    if has_more and recorder.is_always and has_final and not _would_only_empty(recorder):
        recorder.failed_step = 0 if final is None else final.run.failed_step
        recovered = recorder.failed or any(step.has_failed() for step in steps)
        recorder.write(final.outcome if final else "recovered" if recovered else "ok", ended=True)
    elif final is not None:
        STATE.throttle.write_final(final, ended=True)


def _would_only_empty(recorder: TraceRecorder) -> bool:
    """Return True if there is no step to write, in a worker, or with a file in its place, which may hold some."""
    steps, dropped = recorder.buffer.contents()
    has_steps = steps or dropped or running()
    return not has_steps and (is_child_process() or is_taken(recorder.path()))


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
        set_recorder(STATE.recorder.config, STATE.recorder.context, is_quiet=STATE.recorder.is_quiet)


_LISTENERS: Final = interpreter_hooks.Listeners(_uncaught, _at_exit, _at_worker_end)
