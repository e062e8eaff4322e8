"""A run's recorder: the buffer of the last steps, the steps in flight, and when a trace is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from threading import RLock
from typing import TYPE_CHECKING, Any

from flowtrace.host import log
from flowtrace.host.signals import let_through
from flowtrace.host.switch import MUTED
from flowtrace.host.system import CLOCK, NEVER, nanoseconds
from flowtrace.recording import failure, program_texts, to_records
from flowtrace.recording.call_values import canonical_input, snapshot_output, snapshot_payload
from flowtrace.recording.node import Node, Policy
from flowtrace.recording.state import STATE, LastSteps, running
from flowtrace.recording.step import THIS_THREAD, RunName, Step, flow_of, new_buffer, new_step, other_runs
from flowtrace.recording.step_records import Shared
from flowtrace.recording.to_records import StepTexts
from flowtrace.settings.config import TraceConfig, TraceContext, TraceMode, ValidationMode, is_disabled
from flowtrace.settings.kinds import TRACE_NAME, absolute, in_folder
from flowtrace.trace import files
from flowtrace.trace.model import ValidationIssue
from flowtrace.trace.payload_files import write_payload
from flowtrace.trace.retention import Retention
from flowtrace.trace.shared_paths import Target

if TYPE_CHECKING:
    from flowtrace.recording.plugin import NodeEvent

UNKNOWN = "unknown"
_SHARED = ("config", "has_own_file", "is_always", "is_off", "is_quiet", "policy", "slow_after", "_out", "_retention")
_PUBLIC = ("on_", "flu")  # reports, and flushes


class TraceRecorder:
    """Records one run. An engine feeds it through the `ExecutionObserver` methods; none of them ever raises.

    Args:
        config: how it works; ``FLOWTRACE_DISABLED`` turns it off all the same.
        context: what its trace says about the program.

    Attributes:
        config: see above.
        context: see above.
        buffer: the last finished steps.
        open_buffer: the same, until the run is over; then None.
        is_off: nothing is recorded.
        is_always: a trace is written on success too.
        is_over: the run has ended; late steps of it may still come.
        is_late: all of its steps began after the run that they belong to was over.
        outcome: how it ended, once it has; ``failed``: something in it has failed.
        failed_step: number of the step in which the error began that ends the run, if that fails; 0 for none.
        slow_after: nanoseconds after which a step, or the flow itself, is slow.
        is_slow: it, or a step in it, was slow; ``slow_at`` is the time of the latest snapshot for that, in ns, or 0.
        written: the run's trace is on disk.
        started: clock reading at its start, in ns.
        overtaken: earlier runs to the same file that were not written, because this one came.
        has_own_file: no other run writes to the same path.
        shows_process: its trace shows the last steps of the process, and not only its own.
        frozen: the steps to write, where its trace has to wait; else None.
        name: its id.
        is_process_wide: its trace shows every step in flight, of all runs; ``is_quiet``: it only writes when asked to.
    """

    # Class attributes, since a run is made for each call that has calls in it: they cost nothing there.
    is_process_wide = is_over = is_late = failed = is_slow = written = shows_process = is_quiet = False
    failed_step = slow_at = overtaken = 0
    outcome = "ok"
    frozen: LastSteps | None = None
    _texts: StepTexts | None = None  # of the last trace of it

    def __init__(self, config: TraceConfig, context: TraceContext) -> None:
        self.config = replace(config, mode=TraceMode.OFF) if is_disabled() else config
        self.context = context
        self.is_off = self.config.mode is TraceMode.OFF
        self.is_always = self.config.mode is TraceMode.ALWAYS
        self.slow_after = NEVER if config.slow is None else nanoseconds(config.slow)
        self.policy = Policy(config)
        self._out = absolute(config.out_path)
        self._retention = Retention(self.template(), config.max_files)
        self.has_own_file = "{run_id}" in self._out
        self._begin(CLOCK.now())

    def __dir__(self) -> list[str]:
        """List what a program may use."""
        return [*dir(object), "config", "context", "run_id", *(name for name in dir(type(self)) if name[:3] in _PUBLIC)]

    @property
    def run_id(self) -> str:
        """The run's id, 32 hex digits; made when it is first asked for."""
        return self.name.id

    def end_run(self) -> None:
        """Mark the run as over, and take it from its steps: they and it would keep each other alive."""
        self.is_over, self.open_buffer, self._texts = True, None, None
        self.name.context = self.context
        for step in self.buffer.newest():
            step.run, step.ended_run = None, self.name

    def new_run(self, context: TraceContext, started: int | None = None) -> TraceRecorder:
        """Return the recorder of another run under the same configuration.

        Args:
            context: what its trace says about the program.
            started: clock reading at its start, in ns; None means now.
        """
        run = TraceRecorder.__new__(TraceRecorder)
        for name in _SHARED:
            setattr(run, name, getattr(self, name))
        run.context = context
        run._begin(CLOCK.now() if started is None else started)
        return run

    def of_a_call(self) -> dict[str, Any]:
        """Return the attributes that the runs of outermost calls share."""
        return {name: getattr(self, name) for name in (*_SHARED, "context")} | {"shows_process": not self.is_always}

    def _begin(self, started: int) -> None:
        self.started = started
        self.name = RunName()
        self.buffer = self.open_buffer = new_buffer(self.config)
        self._events: dict[int, tuple[NodeEvent, Step]] = {}
        self._writing = RLock()

    def forget_lock(self) -> None:
        """Make a new lock: in a forked child the old one may be held by a thread that is not there."""
        self._writing = RLock()
        self._retention.forget_lock()

    # --- the observer protocol

    def on_node_start(self, event: NodeEvent) -> None:
        """Note that a node starts, with the hash of its payload as it is now.

        Args:
            event: the execution; pass the same object to the calls that follow.
        """
        self._guarded("record the start of a node", self._start, event)

    def on_node_end(self, event: NodeEvent, output: Any) -> None:
        """Record that a node ended well. One that has not started is recorded with duration 0.

        Args:
            event: the execution.
            output: its result, any value with a canonical form.
        """
        self._guarded("record the end of a node", self._end, event, output)

    def on_node_error(self, event: NodeEvent, error: BaseException | str) -> None:
        """Record that a node failed, and write the trace at once.

        Args:
            event: the execution.
            error: its exception, or the text of that.
        """
        self._guarded("record the error of a node", self._error, event, error)

    def on_validation(self, event: NodeEvent, issues: Sequence[ValidationIssue]) -> None:
        """Attach validation issues to a node that has started; for any other node they are dropped.

        Args:
            event: the execution.
            issues: what was found.
        """
        self._guarded("record validation issues", self._validation, event, issues)

    def flush_success(self) -> None:
        """End the run well: its trace is written in mode ``ALWAYS``, once."""
        if self.is_always and not self.written:
            self.write("recovered" if self.failed else "slow" if self.is_slow else "ok", ended=True)

    def flush_error(self, error: BaseException | str) -> None:
        """End the run badly: the step in flight gets the error, or a step ``unknown``; the trace is written, once.

        Args:
            error: what went wrong, or the text of it.
        """
        self._guarded("record the error of a flow", self._flush_error, error)

    def flush_buffer(self) -> None:
        """Write what is in the buffer now, unless the mode is ``OFF`` or the run is written already."""
        if not self.is_off and not self.written:
            self.snapshot()

    # --- steps and files

    def add_flow_error(self, error: BaseException | str) -> int:
        """Add the step that stands for a failure outside any node, and return its number."""
        node = Node(UNKNOWN, UNKNOWN, UNKNOWN, capture_inputs=False)
        step = self._step_of(node, None)
        step.ended = step.started
        step.failure = failure.describe(error, "flow_error")
        self.buffer.add(step)
        return step.number

    def has_issues(self, step: Step) -> bool:
        """Return True if validation issues make a step count as failed; log them unless validation is off."""
        if not step.issues or self.config.validation is ValidationMode.OFF:
            return False
        program_texts.log_issues(step, to_records.scrubber_of([step, *self._in_flight()], self.policy))
        return self.config.validation is ValidationMode.ERROR

    def snapshot(self, path: str | None = None) -> str | None:
        """Write the buffer and the steps in flight as they are now.

        Args:
            path: the file; None means the configured one.

        Returns:
            The file's path, or None where it could not be written.
        """
        return self._write("snapshot", False, path)

    def write(self, outcome: str, *, ended: bool = False, in_turn: files.InTurn = files.at_once) -> None:
        """Write the run's trace; after a failed write the next call of this tries again.

        Args:
            outcome: ``failed``, ``recovered``, ``ok``, ``interrupted`` or ``slow``.
            ended: the run is over.
            in_turn: decides whether the new file is still the latest, as in `flowtrace.trace.files.write_atomically`.
        """
        if not (self.is_off or self.is_quiet) and self._write(outcome, ended, None, in_turn) is not None:
            self.written = ended or outcome != "slow"  # that of a run which goes on

    def path(self, template: str = "") -> str:
        """Return the file that this run's trace goes to, in this process; the template is made where none is given."""
        template = template or self.template()
        names = (self.run_id, flow_of(self), CLOCK.timestamp(self.started)) if "{" in template else ()
        return files.render_path(template, *names)

    def lane(self) -> str:
        """Return what stands for the path among the throttle's: no folder is looked at unless it has placeholders."""
        return self.path() if "{" in self._out else self._out

    def template(self) -> str:
        """Return the template of that path, which is absolute; a folder that it names may have been made just now."""
        return self._out if STATE.shared_paths.has_written(self._out) else in_folder(self._out, TRACE_NAME)

    # --- inside

    def _guarded(self, doing: str, work: Callable[..., None], *arguments: Any) -> None:
        if self.is_off:
            return
        try:
            work(*arguments)
        except Exception as error:
            log.internal_fault(doing, error)

    def _start(self, event: NodeEvent) -> None:
        step = self._new_step(event)
        self._events[id(event)] = (event, step)
        if (processor := self.policy.processor) is not None:
            processor.start(step)

    def _end(self, event: NodeEvent, output: Any) -> None:
        step = self._end_in_flight(event)
        step.output = snapshot_output(step.node, output, self.policy)
        self._finish(step)
        if self.has_issues(step):
            self._fail(step)
        elif step.ended - step.started > self.slow_after:
            STATE.throttle.note_slow(self, step.started)

    def _error(self, event: NodeEvent, error: BaseException | str) -> None:
        step = self._end_in_flight(event)
        step.failure = failure.describe(error)
        self._finish(step)
        self.has_issues(step)
        self._fail(step)

    def _fail(self, step: Step) -> None:
        self.failed = True
        if not self.written:
            self.failed_step = step.number
            self.write("failed")

    def _validation(self, event: NodeEvent, issues: Sequence[ValidationIssue]) -> None:
        found = self._find_in_flight(event)
        if found is not None:
            for issue in issues:
                self._events[found][1].note(issue)

    def _flush_error(self, error: BaseException | str) -> None:
        if self.written:
            return
        if self._events:
            event, _ = self._events[next(reversed(self._events))]
            step = self._end_in_flight(event)
            step.failure = failure.describe(error)
            self._finish(step)
            self.failed_step = step.number
        else:
            self.failed_step = self.add_flow_error(error)
        self.failed = True
        self.write("failed", ended=True)

    def _finish(self, step: Step) -> None:
        """Keep a step that an engine has reported."""
        if (processor := self.policy.processor) is not None:
            (processor.adopt if step.slot is None else processor.finish)(step)
        self.buffer.add(step)

    def _new_step(self, event: NodeEvent) -> Step:
        node = Node(event.component_id, event.operation or UNKNOWN, event.node_id)
        return self._step_of(node, event.payload)

    def _step_of(self, node: Node, payload: object) -> Step:
        step = new_step(node)
        step.input = snapshot_payload(node, payload, self.policy)
        step.run = self
        step.thread = THIS_THREAD.number
        step.number = next(CLOCK.numbers)
        step.started = CLOCK.now()
        return step

    def _end_in_flight(self, event: NodeEvent) -> Step:
        """Take an event's step out of flight; one that was never started is made now, and lasts no time."""
        found = self._find_in_flight(event)
        if found is None:
            step = self._new_step(event)
            step.ended = step.started
            return step
        _, step = self._events.pop(found)
        step.ended = CLOCK.now()
        return step

    def _find_in_flight(self, event: NodeEvent) -> int | None:
        """Return the key of an event in flight: the same object, or else the last one with the same content."""
        if id(event) in self._events:
            return id(event)
        key = (event.node_id, event.component_id, event.operation or UNKNOWN)
        for found, (_, step) in reversed(self._events.items()):
            node = step.node
            if key == (node.node_id, node.component, node.operation) and self._has_payload(step, event):
                return found
        return None

    def _has_payload(self, step: Step, event: NodeEvent) -> bool:
        given = snapshot_payload(step.node, event.payload, self.policy)
        digests = (canonical_input(step.node, payload, False, self.policy).digest for payload in (given, step.input))
        return given == step.input or next(digests) == next(digests)  # most often they are not made

    def _in_flight(self) -> list[Step]:
        reported = [step for _, step in self._events.values()]
        return [step for step in running() if self.is_process_wide or step.run is self] + reported

    def _write(self, outcome: str, ended: bool, path: str | None, in_turn: files.InTurn = files.at_once) -> str | None:
        target = path or "(unknown)"
        try:
            template = path or self.template()
            target = path or self.path(template)
            if MUTED:
                return target
            with self._writing:
                write = partial(self.write_to, outcome, ended, in_turn)
                if path is not None:
                    write(Target(path))
                else:
                    files.refuse_links(template, target)
                    target, stored = STATE.shared_paths.write(target, template, to_records.host_name(), write)
                    self._retention.after_write(target, self.context.pack_ref, stored)
        except Exception as error:
            self._warn_of_failed_write(target, error)
            return None
        return target

    def write_to(self, outcome: str, ended: bool, in_turn: files.InTurn, to: Target) -> bool:
        """Write to a path, and return True if there are payload files beside it."""
        stored: dict[tuple[str, str], bytes] = {}
        content = self._content(to.path, outcome, ended, stored)
        write = partial(files.write_atomically, to.path, content, in_turn, self._flush(ended), to.is_there)
        try:
            write()
        except FileNotFoundError:  # another process removed the folder when it was empty: it is made again
            write()
        for (digest, suffix), payload in stored.items():  # or it took them for those of an older trace
            self._store(to.path, digest, payload, suffix)
        return bool(stored)

    def _flush(self, ended: bool) -> files.Flush:
        return files.Flush.FOLDER if self.config.durable else files.Flush.FILE if ended else files.Flush.NOTHING

    def _store(self, target: str, digest: str, data: bytes, suffix: str) -> str | None:
        flush = self._flush(ended=False)
        try:
            try:
                return write_payload(target, digest, data, flush, suffix)
            except FileNotFoundError:  # as above
                return write_payload(target, digest, data, flush, suffix)
        except OSError as error:
            self._warn_of_failed_write(target, error)
            return None

    def _content(self, target: str, outcome: str, ended: bool, stored: dict[tuple[str, str], bytes]) -> files.Content:
        failed = self.failed_step if outcome in ("failed", "interrupted") else 0
        steps, dropped, in_flight = self.shown_steps()
        run_id, end = self.run_id, CLOCK.now() if ended else None
        others = other_runs(steps, run_id) if self.shows_process else {}
        facts = to_records.RunFacts(run_id, self.started, end, outcome, dropped, self.overtaken, failed)

        def store(digest: str, data: bytes, suffix: str) -> str | None:
            relative = self._store(target, digest, data, suffix)
            if relative is not None:
                stored[digest, suffix] = data
            return relative

        shared = Shared(self.policy, store, others)
        text = to_records.trace_text(facts, self.context, steps, in_flight, shared, self._texts)
        self._texts = None if ended or in_flight or self.is_process_wide else text.texts
        return text.pieces

    def blame(self, number: int) -> None:
        """Note which step has failed, after it was added; a writer in another thread reads both the other way round."""
        self.frozen = None
        self.failed_step = number

    def freeze(self) -> None:
        """Keep what its trace will show: it is written later, and the process goes on."""
        if self.shows_process and self.frozen is None:
            self.frozen = LastSteps(*self.shown_steps())

    def shown_steps(self) -> tuple[list[Step], int, list[Step]]:
        """Return the steps to write, how many there were before them, and those in flight."""
        in_flight = self._in_flight()  # before the others: none that ends meanwhile is in neither
        return self.last_steps().beside(in_flight)

    def last_steps(self) -> LastSteps:
        """Return the steps to write."""
        process, frozen = STATE.recorder, self.frozen  # another thread may let go of them
        if frozen is not None:
            return frozen
        if not self.shows_process or process is None:
            return LastSteps(*self.buffer.contents())
        steps, dropped = process.buffer.contents()
        if process.started > self.started:  # a forked child, or tracing was configured anew: it lacks what ended before
            listed = set(steps)
            steps = [*(step for step in self.buffer.newest() if step not in listed), *steps]
            steps = steps[max(0, len(steps) - self.config.buffer_size) :]
        return LastSteps(steps, dropped)

    def _warn_of_failed_write(self, path: str, error: Exception) -> None:
        """Log each cause once; runs whose paths come from one template share their causes."""
        number = error.errno if isinstance(error, OSError) else None
        let_through(error)
        reason = (error.strerror if isinstance(error, OSError) else None) or type(error).__qualname__
        cause = ("write", self._out, number, reason)
        log.warn_once("failed to write trace", cause, path=path, errno=number, reason=reason)
