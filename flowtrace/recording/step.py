"""One call while it is in memory: as little as the trace needs, taken as cheaply as possible."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar, Token
from typing import Any, Final, Generic, Protocol, TypeVar, overload

from flowtrace.host import log
from flowtrace.recording.call_values import Snapshot, Stream, seal_state_delta
from flowtrace.recording.failure import Failure
from flowtrace.recording.node import Node, Policy
from flowtrace.trace.model import Step as Record
from flowtrace.trace.model import ValidationIssue
from flowtrace.values.encoded import Encoded


class CurrentStep(Protocol):
    """The step that runs here, for the code inside it. Its methods never raise."""

    def add_validation_issue(self, code: str, path: str, message: str) -> None:
        """Report something wrong with the step's payload.

        Args:
            code: machine-readable kind, such as ``"missing_required_field"``.
            path: JSON Pointer (RFC 6901) of the place in the payload; ``""`` is the whole.
            message: the same for people.
        """

    def record_state_delta(self, value: object) -> None:
        """Keep the hash of what the step changed in some state; the last one counts.

        Args:
            value: the change, any value with a canonical form.
        """


T = TypeVar("T")


class _Rare(Generic[T]):
    """An attribute that few steps ever set: all such attributes of a step share one place, which is empty at first."""

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


class Step:
    """A call that runs or has run. Whoever makes one sets all that `new_step` sets.

    Attributes:
        node: what was called.
        number: its number in this process; 0 before it started.
        parent: number of the step it was called in; 0 for none.
        run: the recorder of its run; None for an outermost call that has not needed one yet.
        owns_run: it is an outermost call, so that the run ends with it.
        previous: what was current before it, while it runs.
        token: makes that current again, in the context that it was made in; None where that may be another one.
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
        record: how it was written, once it had ended.
        slot: where the black box keeps it, while it runs.
    """

    # A slot takes less time than an attribute, and none has a default: what each call sets counts.
    __slots__ = (
        *("bound", "ended", "input", "node", "number", "output", "owns_run", "parent", "previous", "rest", "run"),
        *("slot", "started", "stream", "thread", "token", "__weakref__"),
    )

    node: Node
    input: Snapshot
    bound: bool
    number: int
    parent: int
    thread: int
    started: int
    ended: int
    run: Any
    owns_run: bool
    previous: Any
    token: Token[Any] | None
    output: Snapshot | None
    stream: Stream | None
    slot: Any
    rest: dict[str, Any] | None
    failure = _Rare[Failure | None](None)
    expected = _Rare(False)
    issues = _Rare[list[ValidationIssue] | None](None)
    state_delta = _Rare[Encoded | None](None)
    record = _Rare[Record | None](None)

    def is_light(self) -> bool:
        """Tell whether no value of the step is larger than what a snapshot may be."""
        return _is_light(self.input) and _is_light(self.output)

    def size(self) -> int:
        """Return how many bytes of values the step holds."""
        return _size(self.input) + _size(self.output)

    def shed(self, limit: int) -> None:
        """Let values go that are more bytes than a whole buffer may hold: what they were is told by their hashes."""
        if self.size() > limit and isinstance(self.output, Encoded):
            self.output = self.output._replace(data=None)
        if self.size() > limit and isinstance(self.input, Encoded):
            self.input = self.input._replace(data=None)

    def add_validation_issue(self, code: str, path: str, message: str) -> None:
        """See `CurrentStep`."""
        try:
            self.note(ValidationIssue(str(code), str(path), str(message)))
        except Exception as error:
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
            policy = IN_FORCE[0]() if self.run is None else self.run.policy
            self.state_delta = seal_state_delta(self.node, value, policy)
        except Exception as error:
            log.internal_fault("record a state delta", error)


def new_step(node: Node) -> Step:
    """Return a step that has not started."""
    step = Step()
    step.node = node
    step.bound = step.owns_run = False
    step.number = step.parent = step.thread = step.started = step.ended = 0
    step.run = step.previous = step.token = step.output = step.stream = step.slot = step.rest = None
    return step


def _is_light(snapshot: Snapshot | None) -> bool:
    return not isinstance(snapshot, Encoded) or snapshot.data is None


def _size(snapshot: Snapshot | None) -> int:
    if snapshot is None:
        return 0
    if isinstance(snapshot, bytes):
        return len(snapshot)
    return len(snapshot.data or b"") if isinstance(snapshot, Encoded) else snapshot.size


CURRENT: Final[ContextVar[Any]] = ContextVar("flowtrace_current", default=None)
"""The step or flow that runs here."""

current: Final = CURRENT.get
"""Its methods, bound once: a call that looks one up makes an object for it."""
make_current: Final = CURRENT.set
restore_current: Final = CURRENT.reset

IN_FORCE: Final[list[Callable[[], Policy]]] = []
"""Returns what is kept of values, for steps without a run of their own; the runtime puts it here."""

LIVE: Final[dict[int, Step]] = {}
"""The steps that run at this moment in this process, by number, without those that are in `HOLDERS`."""


class Holder(Protocol):
    """Something that belongs to one step while that runs, and lists it for less than `LIVE` does.

    Attributes:
        step: that step; None for none.
    """

    step: Step | None


HOLDERS: Final[list[Sequence[Holder]]] = []
"""Where else there are steps that run: in the slots of a black box."""


def running() -> list[Step]:
    """Return the steps that run at this moment in this process, in the order of their starts."""
    held = [step for holders in HOLDERS.copy() for holder in holders if (step := holder.step) is not None]
    found = {step.number: step for step in (*LIVE.copy().values(), *held)}  # one may be on its way to `LIVE`
    return [found[number] for number in sorted(found)]


def let_go(holders: Sequence[Holder]) -> None:
    """Move the steps of holders, which are to hold none any more, to `LIVE`, while any of them may end."""
    for holder in holders:
        step = holder.step
        if step is not None:
            LIVE[step.number] = step
            holder.step = None
            if step.ended:  # its thread may have looked here before, and into the holder alone
                LIVE.pop(step.number, None)
    HOLDERS[:] = [others for others in HOLDERS if others is not holders]
