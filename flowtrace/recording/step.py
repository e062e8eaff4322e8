"""One call while it is in memory: as little as the trace needs, recorded as cheaply as possible."""

from __future__ import annotations

from contextvars import Token
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, overload

from flowtrace.calls.core import StepBase
from flowtrace.host import log
from flowtrace.recording.call_values import Snapshot, Stream, encode_state_delta
from flowtrace.recording.failure import Failure
from flowtrace.recording.node import Node
from flowtrace.recording.state import STATE
from flowtrace.trace.model import ValidationIssue
from flowtrace.values.encoded import Encoded

if TYPE_CHECKING:
    from flowtrace.recording.current import Scope
    from flowtrace.recording.plugin import Slot
    from flowtrace.recording.recorder import TraceRecorder
    from flowtrace.recording.run_names import RunName


class CurrentStep(Protocol):
    """The step that runs here, for the code inside it. Its methods never raise."""

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
        ended_run: the name of its run, once that is over; not set by the maker, since no call needs it.
        owns_run: it is an outermost call, so that the run ends with it.
        previous: the step or flow that was current before it, while it runs.
        token: restores that one, in the context that the token was made in; None where that may be another one.
        bound: the payload leaves out the receiver.
        thread: identifier of the thread that it started in.
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
        secrets: what it hides, where it has a text.
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
    secrets = _Rare[tuple[str, ...]](())

    def is_small(self) -> bool:
        """Return True if no value of the step is larger than a snapshot may be."""
        return _is_small(self.input) and _is_small(self.output)

    def size(self) -> int:
        """Return how many bytes of values the step holds."""
        return _size(self.input) + _size(self.output)

    def shed(self, limit: int) -> None:
        """Let go of values that are more bytes than a whole buffer may hold; their hashes stay."""
        if self.size() > limit and isinstance(self.output, Encoded):
            self.output = self.output._replace(data=None)
        if self.size() > limit and isinstance(self.input, Encoded):
            self.input = self.input._replace(data=None)
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

    def record_state_delta(self, value: object) -> None:
        """See `CurrentStep`."""
        try:
            recorder = self.run or STATE.recorder
            if recorder is not None:  # else none is left that could write it
                self.state_delta = encode_state_delta(self.node, value, recorder.policy)
        except Exception as error:
            log.internal_fault("record a state delta", error)


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
