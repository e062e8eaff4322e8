"""The black box of this process: where its file goes, when it opens and closes, and traces of processes that died."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from threading import RLock
from typing import Any, Final

from flowtrace.blackbox import hot_path, recover, ring_file
from flowtrace.blackbox.box import BlackBox
from flowtrace.blackbox.ring_file import RingFile
from flowtrace.errors import RingFileError
from flowtrace.host import log, switch
from flowtrace.host.signals import is_taken, let_through
from flowtrace.host.switch import environment
from flowtrace.host.system import CLOCK, os
from flowtrace.recording.call_values import Snapshot, snapshot_call, snapshot_output
from flowtrace.recording.node import Node
from flowtrace.recording.recorder import TraceRecorder
from flowtrace.recording.state import STATE, running
from flowtrace.recording.step import Step
from flowtrace.recording.to_records import host_name, own_version, python_version
from flowtrace.settings.kinds import RING_NAME, in_folder
from flowtrace.settings.variables import git_sha
from flowtrace.trace import files

_MOST_FOUND: Final = 100
_MOST_WAITING: Final = 20
_LONGEST: Final = 500
_LAST: Final = -100  # after everything else that multiprocessing does at a worker's end


class _NotWrittenError(Exception):
    """A dead process's trace could not be written; a warning says why."""


class _State:
    """Process-global: the open box of this process.

    Attributes:
        recorder: the process-global recorder whose steps go into it.
        box: the box; None where there is none, or where it is not made yet.
        lock: held while these change.
    """

    def __init__(self) -> None:
        self.recorder: TraceRecorder | None = None
        self.box: BlackBox | None = None
        self.lock = RLock()


_state: Final = _State()


class _Pending:
    """The step processor of a forked child until something is traced there: only then its box is made.

    Most children only run another program. Those that end by ``os._exit`` would leave an empty file behind.
    """

    __slots__ = ("_recorder", "limit", "nodes", "takes_native_calls")
    begin_call: Callable[..., Any] = staticmethod(hot_path.begin)
    end_call: Callable[..., Any] = staticmethod(hot_path.end)

    def __init__(self, recorder: TraceRecorder) -> None:
        self._recorder = recorder
        self.nodes = None  # no entry of a node belongs to it ...
        self.limit = -1  # ... and nothing is written at once
        self.takes_native_calls = False

    def snapshot(self, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool) -> Snapshot:
        """Make the box, and let it take the snapshot."""
        box = self._made()
        if box is not None:
            return box.snapshot(node, args, kwargs, bound)
        return snapshot_call(node, args, kwargs, bound, self._recorder.policy)

    def start(self, step: Step) -> None:
        """Make the box: it adopts every step that runs, and so this one where that is in flight already."""
        box = self._made()
        if box is not None and not box.holds(step):
            box.start(step)

    def end(self, step: Step, output: object) -> None:
        """Make the box; it adopts the step, which began before it."""
        step.output = snapshot_output(step.node, output, self._recorder.policy)
        self.adopt(step)

    def adopt(self, step: Step) -> None:
        """Make the box; it adopts the step."""
        box = self._made()
        if box is not None:
            box.adopt(step)

    finish = adopt

    def _made(self) -> BlackBox | None:
        with _state.lock:
            if self._recorder.policy.processor is self:
                _open(self._recorder)
        return _state.box


def reopen(recorder: TraceRecorder | None) -> None:
    """Close the current box, and open the one that a recorder asks for; while a replay runs, do nothing.

    Args:
        recorder: the process-global one; None for none.
    """
    with _state.lock:
        if switch.MUTED:
            return
        close()
        if recorder is None or recorder.is_off or recorder.config.blackbox is None:
            return
        _state.recorder = recorder
        if os.getpid() != switch.HOME_PID:
            recorder.policy.processor = _Pending(recorder)
        else:
            _open(recorder)


def close() -> None:
    """End the box in order: its file goes."""
    box = _taken_away()
    if box is not None:
        box.close()


def after_fork() -> None:
    """Leave the box to the parent, in a forked child."""
    _state.lock = RLock()
    box = _taken_away()
    if box is not None:
        box.abandon()


def _taken_away() -> BlackBox | None:
    recorder, box = _state.recorder, _state.box
    _state.recorder = _state.box = None
    if recorder is not None:
        recorder.policy.processor = None
        if box is not None:
            box.disconnect()
    return box


def _open(recorder: TraceRecorder) -> None:
    """Make the box; where that is impossible, log one warning."""
    recorder.policy.processor = None
    path = template = str(recorder.config.blackbox)
    try:
        path, template = ring_path(recorder)
        file = _make(recorder, path, template)
        size = recorder.config.buffer_size
        box = BlackBox(file, ring_file.slots_for(size), size, recorder.policy)
    except (OSError, RingFileError, ValueError) as error:
        let_through(error)
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        log.warn_once("black box can't be used", ("black box", template, reason), path=path, reason=reason)
        return
    for step in _steps_of(recorder):
        box.adopt(step)
    _state.box = recorder.policy.processor = box
    box.connect()
    if STATE.open_fast_path is not None and STATE.recorder is recorder:
        STATE.open_fast_path(recorder)
    _close_with_worker()


def _steps_of(recorder: TraceRecorder) -> list[Step]:
    """Return the steps that a new box adopts: those that ended last, and those that run."""
    return [*recorder.buffer.newest(), *running()]


def _close_with_worker() -> None:
    """Let multiprocessing close the box of a worker, which may end without the interpreter's exit functions.

    A worker that has imported its program drops the finalisers that were registered meanwhile, and then calls those
    that ask for it by ``register_after_fork``: they register again.
    """
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None and files.is_child_process():
        util.Finalize(None, close, exitpriority=_LAST)
        util.register_after_fork(_state, lambda _state: util.Finalize(None, close, exitpriority=_LAST))


def ring_path(recorder: TraceRecorder) -> tuple[str, str]:
    """Return where the ring file of this process goes, unless that is taken, and the template that gives it.

    Args:
        recorder: the process-global one, whose configuration names a black box.

    Raises:
        OSError: a folder in the part that placeholders leave open is a link.
    """
    template = in_folder(os.path.join(os.getcwd(), str(recorder.config.blackbox)), RING_NAME)
    run_id, flow_id = recorder.run_id, recorder.policy.shown(recorder.context).flow_id
    timestamp = CLOCK.timestamp(recorder.started)
    path = files.render_path(template, run_id=run_id, flow_id=flow_id, timestamp=timestamp)
    files.refuse_links(template, path)
    return path, template


def try_ring(recorder: TraceRecorder) -> str:
    """Make a ring file as the process would, remove it again, and return where that would be.

    Args:
        recorder: one whose configuration names a black box.

    Raises:
        OSError: it can't be made there.
        RingFileError: what is there already is no ring file.
    """
    path, _ = ring_path(recorder)
    with suppress(FileNotFoundError):
        os.lstat(path)
        ring_file.read(path)
    probe = files.temporary_beside(path)
    RingFile(probe, {}, ring_file.slots_for(recorder.config.buffer_size)).finish()
    return path


def _make(recorder: TraceRecorder, path: str, template: str) -> RingFile:
    others = [] if files.is_child_process() else [other for other in _found(template) if other != path]
    waiting = sum(_waits(other, recorder) for other in others)
    if is_taken(path):
        try:
            is_gone = _is_gone(path, recorder)
        except _NotWrittenError:
            waiting, is_gone = waiting + 1, False
        if waiting > _MOST_WAITING:
            reason = f"its trace is still to be written, as those of {waiting - 1} more: no new ring file is made"
            raise RingFileError(path, reason)
        if not is_gone:
            stem, suffix = os.path.splitext(path)
            path = f"{stem}.{os.getpid()}{suffix}"
    return RingFile(path, _header(recorder), ring_file.slots_for(recorder.config.buffer_size))


def _waits(path: str, recorder: TraceRecorder) -> bool:
    """Make a trace of what may be another dead process's ring file; return True if that could not be written."""
    try:
        _is_gone(path, recorder)
    except _NotWrittenError:
        return True
    except (OSError, RingFileError) as error:  # not ours: it only has such a name
        let_through(error)
    return False


def _found(template: str) -> list[str]:
    """Return the files that this program may have made under a template, in other processes."""
    folder, name = os.path.split(template)
    try:
        names = sorted(filter(recover.names_of(name, r"(\.[0-9]+)?").fullmatch, os.listdir(folder or ".")))
    except OSError as error:
        let_through(error)
        return []
    return [os.path.join(folder, name) for name in names[:_MOST_FOUND]]


def _is_gone(path: str, recorder: TraceRecorder) -> bool:
    """Make a trace of a dead process's ring file, and remove it; return True if it is gone.

    Raises:
        RingFileError: it is something else.
        OSError: it is no file that may be read.
        _NotWrittenError: the trace can't be written, and the ring file stays.
    """
    with ring_file.taken_from_the_dead(path) as content:
        if content is not None:
            _write_trace(path, content, recorder)
    return content is not None


def _write_trace(path: str, content: ring_file.Content, recorder: TraceRecorder) -> None:
    trace = recover.trace_of(content)
    if content.is_clean or not (trace.steps or trace.in_flight):
        return
    try:
        target = recover.write(recorder, trace, content.header)
    except OSError as error:
        let_through(error)
        reason = error.strerror or str(error)
        log.warn_once("failed to write the trace of a process that died", ("dead", reason), path=path, reason=reason)
        raise _NotWrittenError from error
    log.warn("made a trace of a process that died", path=target, pid=trace.run.pid if trace.run else 0)


def _header(recorder: TraceRecorder) -> dict[str, Any]:
    pid = os.getpid()
    context = recorder.policy.shown(recorder.context)
    texts = {
        "runner_version": own_version(),
        "git_sha": git_sha(environment()),
        "pack_ref": context.pack_ref,
        "resolved_digest": context.resolved_digest,
        "flow_id": context.flow_id,
        "flow_version": context.flow_version,
        "run_id": recorder.run_id,
        "host": host_name(),
        "python": python_version(),
        "identity": ring_file.identity(pid),
    }
    cut = {name: text and text.encode("utf-8", "backslashreplace").decode()[:_LONGEST] for name, text in texts.items()}
    numbers = {
        "pid": pid,
        "started": recorder.started,
        "epoch": CLOCK.epoch(),
        "buffer_size": recorder.config.buffer_size,
        "max_value_bytes": recorder.config.max_value_bytes,
        "steps_before": min((step.number for step in _steps_of(recorder)), default=CLOCK.steps_begun() + 1) - 1,
    }
    return cut | numbers | {"captures_outputs": recorder.config.capture_outputs}
