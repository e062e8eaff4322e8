"""All that recording shares across the process, in one object; and the step or flow that runs here.

The latter is in a context variable: tasks, generators and threads each see their own. A thread starts with an empty
context. While tracing is on, `ThreadPoolExecutor.submit` therefore takes the current step along; while it is off,
nothing is patched. Only our own variable goes along: whatever else the program keeps in its context is as it would be
without us.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from functools import wraps
from threading import RLock
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from flowtrace.calls.core import native_steps
from flowtrace.host.signals import traceback_of
from flowtrace.recording import failure
from flowtrace.recording.throttle import Throttle
from flowtrace.trace.shared_paths import SharedPaths

if TYPE_CHECKING:
    from flowtrace.host.signals import SnapshotSignal
    from flowtrace.recording.plugin import ProcessorKeeper, Slot
    from flowtrace.recording.recorder import TraceRecorder
    from flowtrace.recording.step import Step

MOST_ERRORS: Final = 100  # errors that are remembered, of all threads and tasks
_MOST_LINKS: Final = 50  # causes, contexts and members that are followed
_HOPS: Final = 20
_MOST_FAILURES: Final = 8  # an error that ends the program may pass so many handled ones on its way


class LastSteps(NamedTuple):
    """The steps that a trace shows.

    Attributes:
        finished: the steps, in the order of their ends.
        dropped: how many others there were before them.
        in_flight: the steps that ran then, where these were kept for a later write; None for those that run now.
    """

    finished: list[Step]
    dropped: int
    in_flight: list[Step] | None = None

    def beside(self, running: list[Step]) -> tuple[list[Step], int, list[Step]]:
        """Return the same with steps that ran a moment before; what has ended since is in both lists."""
        kept = running if self.in_flight is None else self.in_flight
        listed = frozenset(self.finished if kept else ())
        return self.finished, self.dropped, [step for step in kept if step not in listed]


class Failure(NamedTuple):
    """A run that ended with an error.

    Attributes:
        mark: that of the error, as `flowtrace.recording.failure.mark_of` makes it.
        run: the run's recorder.
        outcome: ``failed`` or ``interrupted``.
        steps: what its trace shows.
    """

    mark: tuple[Any, ...]
    run: TraceRecorder
    outcome: str
    steps: LastSteps

    def bytes_kept(self) -> int:
        """Return how many bytes its steps hold."""
        return sum([step.held or step.size() for step in self.steps.finished])


# --- the errors on their way out


class Passed(NamedTuple):
    """The steps that an error came through.

    Attributes:
        run_id: of the run of the last one; "" for an outermost call without one.
        expected: the error is part of the contract of the last one's node.
        began: in each run, the number of the first step: the run's id and the number, in the order of the steps.
    """

    run_id: str
    expected: bool
    began: tuple[tuple[str, int], ...]

    def first_in(self, run_id: str | None) -> int:
        """Return the number of the first step, of a run or of all (None); 0 for none."""
        for run, number in self.began:
            if run_id is None or run_id == run:
                return number
        return 0


class _Noted(NamedTuple):
    """An error on its way out.

    Attributes:
        depth: how many entries its traceback had at the first step.
        origins: the hash of those entries.
        head: the outermost entry when it was last seen.
        around: number of the step around the last one that it came through.
        text: the hash of its text there.
        frames: what was written of its traceback there, or None.
        passed: the steps.
    """

    depth: int
    origins: int
    head: tuple[int, ...]
    around: int
    text: int
    frames: list[dict[str, Any]] | None
    passed: Passed


class ErrorsPassed:
    """The latest errors that came through steps.

    An error is known again by its address and its traceback, which only grows at its outer end. A later error at the
    same address has a traceback of its own.
    """

    __slots__ = ("_noted",)

    def __init__(self) -> None:
        self._noted: dict[tuple[int, int], _Noted] = {}

    def inside(self, error: BaseException, step: Step) -> failure.Inner | None:
        """Return what is known of an error's traceback from the step inside this one that it came through just now."""
        before = self._noted.get((id(error), id(type(error))))
        if before is None or before.around != step.number or before.frames is None:
            return None
        return failure.Inner(before.head, before.frames) if _stands_in(before.head, traceback_of(error)) else None

    def note(self, error: BaseException, step: Step, found: failure.Failure, run_id: str, expected: bool) -> None:
        """Note that an error comes through a step of some run, where it was found to be such a failure."""
        key = (id(error), id(type(error)))
        before = self._noted.pop(key, None)
        traceback, text = traceback_of(error), hash(found.message)
        began: tuple[tuple[str, int], ...] = ((run_id, step.number),)
        if before is not None and _goes_on(before, traceback, step.number, text):
            depth, origins = before.depth, before.origins
            began = before.passed.began if before.passed.first_in(run_id) else before.passed.began + began
        else:
            entries = tuple(failure.origins_of(traceback))
            depth, origins = len(entries), hash(entries)
        passed = Passed(run_id, expected, began)
        frames = (found.details or {}).get("frames")
        self._noted[key] = _Noted(depth, origins, failure.head_of(traceback), step.parent, text, frames, passed)
        while len(self._noted) > MOST_ERRORS:
            self._noted.pop(next(iter(self._noted)), None)

    def steps_of(self, error: BaseException) -> Passed | None:
        """Return the steps that an error came through; None where no step has seen it."""
        noted = self._noted.get((id(error), id(type(error))))
        if noted is None:
            return None
        traceback = traceback_of(error)
        is_same = _stands_in(noted.head, traceback) or _ends_as(tuple(failure.origins_of(traceback)), noted)
        return noted.passed if is_same else None

    def began(self, error: BaseException, run_id: str | None = None) -> int:
        """Return the number of the step in which an error began.

        It is found through members of groups, causes and contexts. Of what was cancelled, no step is to blame.

        Args:
            error: what left a call, a flow or the process.
            run_id: only steps of this run count; None means of any.

        Returns:
            The number; 0 where no step has seen the error nor any that it comes from.
        """
        return self._began(error, run_id, set())

    def _began(self, error: BaseException, run_id: str | None, seen: set[int]) -> int:
        if id(error) in seen or len(seen) >= _MOST_LINKS or failure.code_of(error) == "node_cancelled":
            return 0
        seen.add(id(error))
        older, handled = failure.links_of(error)
        for other in older:
            if found := self._began(other, run_id, seen):
                return found
        passed = self.steps_of(error)
        own = 0 if passed is None else passed.first_in(run_id)
        inner = 0 if handled is None else self._began(handled, run_id, seen)
        # what failed before the own step began, such as an earlier attempt, was only being handled around it
        return inner if inner > own else own


def _goes_on(before: _Noted, traceback: Any, number: int, text: int) -> bool:
    """Return True if an error that comes through a step is the one that was noted, and no later one at its address.

    Mostly it comes from a step inside this one: then the newest entries tell that. A recursion may pass a thousand
    steps, and none of them should cost a walk through them all. In any other step, the lines alone may be those of a
    later error that came through the same function while it was not traced: then the texts have to be equal, too.
    """
    is_inside = before.around == number
    if is_inside and _stands_in(before.head, traceback):
        return True
    entries = tuple(failure.origins_of(traceback))
    is_same = is_inside or (len(entries) > before.depth and text == before.text)
    return is_same and _ends_as(entries, before)


def _stands_in(head: tuple[int, ...], traceback: Any) -> bool:
    """Return True if a traceback has grown from another one: each caller puts its own entry before."""
    for _ in range(_HOPS):
        if traceback is None:
            return False
        if id(traceback) == head[0] and failure.head_of(traceback) == head:
            return True
        traceback = traceback.tb_next
    return False


def _ends_as(entries: tuple[Any, ...], noted: _Noted) -> bool:
    start = len(entries) - noted.depth
    return start >= 0 and hash(entries[start:]) == noted.origins


# --- what has ended


class EndedRuns:
    """The runs that have ended, as far as something is kept of them.

    Attributes:
        outermost_calls: how many of them there were outside any flow that left more than one step.
        last_written: the kind of run that was written last: "call", "flow", "process", or "" for none.
        latest: in mode ``always``, the one that ended last: what began in it and ends later is added to its trace.
        final: the one whose error has ended the program.
    """

    __slots__ = ("_failures", "final", "last_written", "latest", "outermost_calls")

    def __init__(self) -> None:
        self.outermost_calls = 0
        self.last_written = ""
        self.latest: TraceRecorder | None = None
        self.final: Failure | None = None
        self._failures: deque[Failure] = deque(maxlen=_MOST_FAILURES)

    def note_failure(self, failure: Failure) -> None:
        """Keep one of the latest runs that ended badly, as far as their values fit into the bytes of a buffer."""
        self._failures.append(failure)
        if len(self._failures) == 1:
            return
        spare = failure.run.config.buffer_bytes - sum(kept.bytes_kept() for kept in self._failures.copy())
        while spare < 0 and len(self._failures) > 1:
            spare += self._failures.popleft().bytes_kept()

    def failure_of(self, mark: tuple[Any, ...]) -> Failure | None:
        """Return the last run that ended with an error."""
        return next((failure for failure in reversed(self._failures.copy()) if failure.mark == mark), None)


class _State:
    """Process-global: the recorder, its step processor and throttle, the steps that run, and their locks.

    Attributes:
        lock: held while the recorder is replaced or a run's recorder is made.
        buffer_lock: held where a buffer is read, or counts bytes. Never the same as `lock`: a thread that writes a
            trace holds its run's lock and then takes this one, and one that replaces the recorder writes traces.
        recorder: the process-global recorder; None before first use.
        keeper: opens and closes the step processor; None until a recorder asks for one.
        use_logs: keeps log records where a recorder asks for them; None until one has.
        open_fast_path: opens the native core's fast path where a recorder allows it; None until it is connected.
        throttle: decides when the runs' traces are written.
        in_flight: the steps that run at this moment, by number, without those that `slots` or the native core hold.
        slots: the slots of each step processor; each may hold a step that runs.
        passed: which steps the latest errors came through.
        shared_paths: the paths that this process writes, and those that it leaves to others.
        ended_runs: what is kept of the runs that have ended.
        dump_signal: the signal that asks for a snapshot, while its handler is installed.
        reported: mark of the last error that left a flow, which the uncaught-exception hook will see again.
        addition: stands for the last time that something was added to a step whose text may be kept: another object
            for each.
    """

    __slots__ = (
        *("addition", "buffer_lock", "dump_signal", "ended_runs", "in_flight", "keeper", "lock", "open_fast_path"),
        *("passed", "recorder", "reported", "shared_paths", "slots", "throttle", "use_logs"),
    )

    def __init__(self) -> None:
        self.recorder: TraceRecorder | None = None
        self.keeper: ProcessorKeeper | None = None
        self.use_logs: Callable[[TraceRecorder | None], None] | None = None
        self.open_fast_path: Callable[[TraceRecorder | None], None] | None = None
        self.in_flight: dict[int, Step] = {}
        self.slots: list[Sequence[Slot]] = []
        self.passed = ErrorsPassed()
        self.ended_runs = EndedRuns()
        self.dump_signal: SnapshotSignal | None = None
        self.reported: tuple[Any, ...] = ()
        self.addition = object()
        self.renew_locks()

    def renew_locks(self) -> None:
        """Make new locks. In a forked child the old ones may be held by a thread that is not there.

        The throttle and the paths are new as well: what it holds back, and what is there, is the parent's.
        """
        self.lock = RLock()
        self.buffer_lock = RLock()
        self.throttle = Throttle()
        self.shared_paths = SharedPaths()


STATE: Final = _State()
IN_FLIGHT: Final = STATE.in_flight
"""The same dictionary: every call writes to it, and an attribute less to look up counts there."""


def running() -> list[Step]:
    """Return the steps that run at this moment in this process, in the order of their starts."""
    held = [step for slots in STATE.slots.copy() for slot in slots if (step := slot.step) is not None]
    listed = *IN_FLIGHT.copy().values(), *native_steps(), *held
    if not listed:
        return []
    found = {step.number: step for step in listed}  # one may be on its way from its slot to `in_flight`
    return [found[number] for number in sorted(found)]


def release(slots: Sequence[Slot]) -> None:
    """Move the steps of slots to `in_flight`, while any of them may end; these slots will hold none any more."""
    for slot in slots:
        step = slot.step
        if step is not None:
            IN_FLIGHT[step.number] = step
            slot.step = None
            if step.ended:  # its thread may have looked here before, and only at the slot
                IN_FLIGHT.pop(step.number, None)
    STATE.slots[:] = [others for others in STATE.slots if others is not slots]


class Scope:
    """A flow that runs: it is current inside the flow and outside any step.

    Attributes:
        run: its recorder.
        number: 0, since a flow is no step's parent.
        previous: the step or flow that was current before.
        token: None, as that of a step that has been resumed.
    """

    __slots__ = ("number", "previous", "run", "token")

    def __init__(self, run: TraceRecorder) -> None:
        self.run: TraceRecorder | None = run
        self.number = 0
        self.previous: Step | Scope | None = None
        self.token: None = None


CURRENT: Final[ContextVar[Step | Scope | None]] = ContextVar("flowtrace_current", default=None)
"""Process-global: the step or flow that runs here, a context variable: each task and each thread has its own."""
current: Final = CURRENT.get
"""The variable's methods, bound once: a call that looks one up makes an object for it."""
make_current: Final = CURRENT.set
restore_current: Final = CURRENT.reset


def encloses(scope: Scope) -> bool:
    """Return True if a scope is current here, or around the current step."""
    around = current()
    while around is not None and around is not scope:
        around = around.previous
    return around is scope


def carry(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that runs as a child of the step that is current now; the same one where there is none."""
    origin = current()
    if origin is None:
        return function

    @wraps(function, updated=())
    def carried(*args: Any, **kwargs: Any) -> Any:
        before = current()
        make_current(origin)
        try:
            return function(*args, **kwargs)
        finally:
            make_current(before)

    return carried


_original_submit: Final = ThreadPoolExecutor.submit


@wraps(_original_submit)  # type: ignore[arg-type]
def _submit(executor: ThreadPoolExecutor, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
    return _original_submit(executor, carry(function), *args, **kwargs)


def patch_thread_pools() -> None:
    """Let thread pools take the current step along, unless the program has replaced their ``submit``."""
    if ThreadPoolExecutor.submit is _original_submit:
        ThreadPoolExecutor.submit = _submit  # type: ignore[assignment,method-assign]


def unpatch_thread_pools() -> None:
    """Undo `patch_thread_pools`, unless the program has wrapped our ``submit`` since."""
    if ThreadPoolExecutor.submit is _submit:
        ThreadPoolExecutor.submit = _original_submit  # type: ignore[method-assign]
