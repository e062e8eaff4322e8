"""One call while it is in memory, recorded as cheaply as possible; the run it was in; and a run's last steps.

At most so many steps are kept, with at most so many bytes of values.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from contextvars import Token
from itertools import count
from threading import enumerate as living_threads
from threading import get_ident, local
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar, overload

from flowtrace.calls.core import NATIVE, StepBase
from flowtrace.host import log
from flowtrace.host.signals import let_through
from flowtrace.host.system import CLOCK, step_id
from flowtrace.recording.call_values import Snapshot, Stream, encode_state_delta
from flowtrace.recording.failure import Failure
from flowtrace.recording.node import Node
from flowtrace.recording.state import STATE
from flowtrace.settings.config import TraceConfig, TraceContext
from flowtrace.trace.model import ValidationIssue
from flowtrace.values.encoded import Encoded

if TYPE_CHECKING:
    from flowtrace.recording.plugin import Slot
    from flowtrace.recording.recorder import TraceRecorder
    from flowtrace.recording.state import Scope


class CurrentStep(Protocol):
    """The step that runs here, for the code inside it. Its methods never raise.

    Its ids are those of the trace, which may be written later. They are looked up when they are asked for, so that a
    call costs nothing for them.
    """

    @property
    def run_id(self) -> str | None:
        """The run that it belongs to, 32 hex digits; None outside any step."""

    @property
    def step_id(self) -> str | None:
        """The step, 16 hex digits; None outside any step."""

    @property
    def component(self) -> str | None:
        """The ``component`` of its decorator; None outside any step."""

    @property
    def operation(self) -> str | None:
        """The ``operation`` of its decorator; None outside any step."""

    @property
    def flow_id(self) -> str | None:
        """The flow that it runs in, outside any that of the process; None outside any step."""

    def add_validation_issue(self, code: str, path: str, message: str) -> None:
        """Report something wrong with the step's payload.

        Args:
            code: machine-readable kind, such as ``"missing_required_field"``.
            path: JSON Pointer (RFC 6901) into the payload; ``""`` means all of it.
            message: the same for people.
        """

    def record_state_delta(self, value: object) -> None:
        """Keep the hash of what the step changed in some state; the last one counts.

        Args:
            value: the change, any value with a canonical form.
        """


T = TypeVar("T")
TEXTS: Final = frozenset({"text", "scrubbed"})  # the attributes of a step that hold its text, once that was written
_MOST_THREADS: Final = 1000
THREAD_NAMES: Final[dict[int, str]] = {}
"""Process-global: the names of threads in which a step has started, by number; no more than the last thousand."""


class _ThisThread(local):
    """The number of each thread, given when its first step starts: a thread may have ended when its name is written.

    The system's identifier would not do: a later thread gets it again.
    """

    _numbers = count(1)

    def __init__(self) -> None:
        self.number = number = next(self._numbers)
        identifier = get_ident()
        name = f"thread-{identifier}"
        try:
            name = next((str(thread.name) for thread in living_threads() if thread.ident == identifier), name)
            if len(THREAD_NAMES) >= _MOST_THREADS:
                THREAD_NAMES.pop(min(THREAD_NAMES), None)
        except Exception as error:  # another thread came in between, or a class of the program's fails
            let_through(error)
        THREAD_NAMES[number] = name


THIS_THREAD: Final = _ThisThread()


class _Rare(Generic[T]):
    """An attribute that few steps ever set: all such attributes of a step share one dictionary, made for the first."""

    def __init__(self, default: T) -> None:
        self.default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, step: None, owner: type) -> _Rare[T]: ...
    @overload
    def __get__(self, step: Step, owner: type) -> T: ...
    def __get__(self, step: Step | None, owner: type) -> T | _Rare[T]:
        if step is None:
            return self
        found: T = self.default if step.rest is None else step.rest.get(self.name, self.default)
        return found

    def __set__(self, step: Step, value: T) -> None:
        if step.rest is None:
            step.rest = {}
        step.rest[self.name] = value


class Step(StepBase):
    """A call that runs or has run. Its maker sets all that `new_step` sets.

    Attributes:
        node: what was called.
        number: its number in this process; 0 before it started.
        parent: number of the step it was called in; 0 for none.
        run: the recorder of its run; None for an outermost call that has not needed one yet.
        ended_run: the name of its run, once that is over, or was asked for; not set by the maker: no call needs it.
        owns_run: it is an outermost call, so that the run ends with it.
        previous: the step or flow that was current before it, while it runs.
        token: restores that one, in the context that the token was made in; None where that may be another one.
        bound: the payload leaves out the receiver.
        thread: number of the thread that it started in; see `THREAD_NAMES`.
        started: clock reading at its start, in ns.
        ended: clock reading at its end, in ns; 0 while it runs, or where it could not be started.
        input: what was passed.
        output: what came back, where it ended well.
        stream: what a generator has yielded so far.
        failure: why it failed.
        expected: the error is part of the node's contract.
        issues: validation issues, or None.
        state_delta: the last recorded state change.
        text: its text in the trace, once it has ended and was written, if that will not change.
        scrubbed: where its text depends on what any step of the trace hides: that, and the text; else None.
        secrets: what it hides, where it has a text.
        hidden: what it hides in values that were not kept, as a result that was refused.
        logs: its last log records as `StepLogs`, where they are kept, or None.
        unchecked: the arguments of a body that has not started, until they are checked.
        checked: how many of its yielded values were checked.
        slot: its slot in the step processor, while it runs.
        held: bytes of memory that it holds, where the native core has counted them; else 0.
    """

    __slots__ = ()

    node: Node
    input: Snapshot
    bound: bool
    held: int
    number: int
    parent: int
    thread: int
    started: int
    ended: int
    run: TraceRecorder | None
    ended_run: RunName
    owns_run: bool
    previous: Step | Scope | None
    token: Token[Any] | None
    output: Snapshot | None
    stream: Stream | None
    slot: Slot | None
    rest: dict[str, Any] | None
    failure = _Rare[Failure | None](None)
    expected = _Rare(False)
    issues = _Rare[list[ValidationIssue] | None](None)
    state_delta = _Rare[Encoded | None](None)
    text = _Rare[bytes | None](None)
    scrubbed = _Rare[tuple[tuple[object, ...], bytes] | None](None)
    secrets = _Rare[tuple[str, ...]](())
    hidden = _Rare[tuple[str, ...]](())
    logs = _Rare[Any](None)
    unchecked = _Rare[tuple[tuple[Any, ...], dict[str, Any]] | None](None)
    checked = _Rare(0)

    def __dir__(self) -> list[str]:
        """List what a program may use: it gets the step as a `CurrentStep`."""
        ids = ("run_id", "step_id", "component", "operation", "flow_id")
        return [*dir(object), *ids, "add_validation_issue", "record_state_delta"]

    @property
    def run_id(self) -> str:
        """See `CurrentStep`."""
        return name_of_run(self).id

    @property
    def step_id(self) -> str:
        """See `CurrentStep`."""
        return step_id(self.number)

    @property
    def component(self) -> str:
        """See `CurrentStep`."""
        return self.node.component

    @property
    def operation(self) -> str:
        """See `CurrentStep`."""
        return self.node.operation

    @property
    def flow_id(self) -> str | None:
        """See `CurrentStep`; None where tracing was switched off in the meantime."""
        run = self.run or STATE.recorder
        return None if run is None else flow_of(run, getattr(name_of_run(self), "context", None))

    def is_small(self) -> bool:
        """Return True if no value of the step is larger than a snapshot may be."""
        return _is_small(self.input) and _is_small(self.output)

    def has_failed(self) -> bool:
        """Return True if an error that is no part of its contract ended it; a cancellation or a clean exit is none."""
        failure = self.failure
        if failure is None or self.expected or failure.code == "node_cancelled":
            return False
        return failure.code != "node_interrupted" or (failure.details or {}).get("type") != "SystemExit"

    def size(self) -> int:
        """Return how many bytes of values the step holds."""
        logs = self.logs
        return _size(self.input) + _size(self.output) + (0 if logs is None else logs.bytes_kept())

    def shed(self, limit: int) -> None:
        """Let go of values that are more bytes than a whole buffer may hold; their hashes stay."""
        if self.size() > limit and isinstance(self.output, Encoded):
            self.output = self.output._replace(data=None)
        if self.size() > limit and isinstance(self.input, Encoded):
            self.input = self.input._replace(data=None)
        while self.size() > limit and self.logs is not None and self.logs.lines:
            self.logs.lines.popleft()
        self.held = self.size()

    def add_validation_issue(self, code: str, path: str, message: str) -> None:
        """See `CurrentStep`."""
        try:
            self.note(ValidationIssue(str(code), str(path), str(message)))
        except BaseException as error:
            log.internal_fault("add a validation issue", error)

    def note(self, issue: ValidationIssue) -> None:
        """Keep a validation issue."""
        issues = self.issues
        if issues is None:
            self.issues = issues = []
        issues.append(issue)
        self._forget_texts()

    def record_state_delta(self, value: object) -> None:
        """See `CurrentStep`."""
        try:
            recorder = self.run or STATE.recorder
            if recorder is not None:  # else none is left that could write it
                self.state_delta = encode_state_delta(self.node, value, recorder.policy)
                self._forget_texts()
        except Exception as error:
            log.internal_fault("record a state delta", error)

    def _forget_texts(self) -> None:
        for name in TEXTS:
            (self.rest or {}).pop(name, None)
        STATE.addition = object()


def new_step(node: Node, bound: bool = False) -> Step:
    """Return a step that has not started."""
    step = Step()
    step.node = node
    step.bound = bound
    step.owns_run = False
    step.held = step.number = step.parent = step.thread = step.started = step.ended = 0
    step.run = step.previous = step.token = step.output = step.stream = step.slot = step.rest = None
    return step


def _is_small(snapshot: Snapshot | None) -> bool:
    return not isinstance(snapshot, Encoded) or snapshot.data is None


def _size(snapshot: Snapshot | None) -> int:
    if snapshot is None:
        return 0
    if isinstance(snapshot, bytes):
        return len(snapshot)
    if isinstance(snapshot, Encoded):
        return len(snapshot.data or b"")
    return 0 if isinstance(snapshot, tuple) else snapshot.size


class RunName:
    """The id of a run, made when it is first asked for: few runs are ever written.

    Attributes:
        context: its flow, once the run is over; not set before, nor for a run that never had a recorder.
    """

    __slots__ = ("__dict__", "context")
    context: TraceContext

    @property
    def id(self) -> str:
        """32 hex digits."""
        made: str | None = self.__dict__.get("made")
        # in one go: two threads of a run may fail at the same time
        return made or self.__dict__.setdefault("made", CLOCK.run_id())


def other_runs(steps: Iterable[Step], run_id: str) -> dict[int, str]:
    """Return the ids of the runs of some steps, by the numbers of the steps; without those of one run.

    Args:
        steps: finished steps.
        run_id: that run.
    """
    found = {step.number: name_of_run(step).id for step in steps}
    return {number: other for number, other in found.items() if other != run_id}


def name_of_run(step: Step) -> RunName:
    """Return the name of a step's run; where the run has no recorder yet, that will get it."""
    with STATE.buffer_lock:  # two threads may ask
        if step.run is not None:
            return step.run.name
        name = step.ended_run = getattr(step, "ended_run", None) or RunName()
        opened: Any = step.run
        if opened is not None:  # by another thread, in this moment
            opened.name = name
        return name


def flow_of(run: TraceRecorder, context: TraceContext | None = None) -> str:
    """Return the name of a run's flow as its trace has it, or that of another context under the same policy."""
    return run.policy.shown(context or run.context).flow_id


def new_buffer(config: TraceConfig) -> Any:
    """Return a buffer for the last steps: that of the native core, where there is one, or a `Buffer`."""
    return Buffer(config) if NATIVE is None else NATIVE.Ring(config.buffer_size, config.buffer_bytes)


class Buffer:
    """Keeps the last finished steps.

    As long as every value is below the limit of one value, the number of steps alone bounds the bytes. Then adding a
    step takes no lock: one append to `steps` and one tick, two calls in C that no other thread can interrupt. The first
    larger value ends that: from then on bytes are counted.

    Args:
        config: how many steps and bytes.

    Attributes:
        counts_bytes: the number of steps alone is not enough.
        steps: the steps that are kept, oldest first.
        ticks: counts the steps that were added.
    """

    __slots__ = ("_bytes", "_config", "_counted", "_sizes", "counts_bytes", "steps", "ticks")

    def __init__(self, config: TraceConfig) -> None:
        self._config = config
        self.steps: deque[Step] = deque(maxlen=config.buffer_size)
        self._sizes: dict[Step, int] = {}  # as they were when they were counted: a trace that is written changes them
        self.ticks = count(1)
        self._counted = self._bytes = 0
        self.counts_bytes = config.logs or 2 * config.max_value_bytes * config.buffer_size > config.buffer_bytes

    def add(self, step: Step) -> None:
        """Keep a step, and let the oldest ones go that are too many."""
        if self.counts_bytes or type(step.input) is Encoded or type(step.output) is Encoded:
            self._add_under_lock(step)
        else:
            self.steps.append(step)
            next(self.ticks)

    def clear(self) -> None:
        """Let go of all steps."""
        with STATE.buffer_lock:
            self.steps.clear()
            self._sizes.clear()
            self._bytes = 0

    def newest(self) -> list[Step]:
        """Return the steps, oldest first."""
        return list(self.steps)

    def contents(self) -> tuple[list[Step], int]:
        """Return the steps, oldest first, and how many others there were before them."""
        with STATE.buffer_lock:
            self._counted += 1  # reading the count adds one
            total = next(self.ticks) - self._counted
            steps = self.newest()
        return steps, max(0, total - len(steps))

    def _add_under_lock(self, step: Step) -> None:
        with STATE.buffer_lock:
            if not self.counts_bytes and step.is_small():
                self.steps.append(step)
                next(self.ticks)
                return
            self.counts_bytes = True
            max_steps = self._config.buffer_size
            oldest = self.steps[0] if len(self.steps) == max_steps and self.steps else None
            self.steps.append(step)
            next(self.ticks)
            if max_steps:
                step.shed(self._config.buffer_bytes)
                self._sizes[step] = step.size()
                self._bytes += self._sizes[step]
            if oldest is not None:
                self._let_go(oldest)
            if len(self._sizes) != len(self.steps):  # nothing was counted before
                self._count_all()
            while self.steps and self._bytes > self._config.buffer_bytes:
                self._let_go(self.steps.popleft())

    def _let_go(self, step: Step) -> None:
        size = self._sizes.pop(step, None)
        if size is None:  # a thread was adding it while counting began
            self._count_all()
        else:
            self._bytes -= size

    def _count_all(self) -> None:
        counted = self._sizes
        self._sizes = {step: counted[step] if step in counted else step.size() for step in self.newest()}
        self._bytes = sum(self._sizes.values())
