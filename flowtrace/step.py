"""One call while it is in memory: as little as the trace needs, taken as cheaply as possible."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final, Protocol

from flowtrace import log
from flowtrace.calls import seal_state_delta
from flowtrace.canonical import Encoded
from flowtrace.failure import Failure
from flowtrace.model import Step as Record
from flowtrace.model import ValidationIssue
from flowtrace.nodes import Node, Policy
from flowtrace.streams import Snapshot, Stream


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


class Step:
    """A call that runs or has run.

    Attributes:
        node: what was called.
        number: its number in this process; 0 before it started.
        parent: number of the step it was called in; 0 for none.
        run: the recorder of its run; None for an outermost call that has not needed one yet.
        owns_run: it is an outermost call, so that the run ends with it.
        previous: what was current before it, while it runs.
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

    # What most steps never change stands in the class: setting it for each call would cost more than the call's clock.
    node: Node
    input: Snapshot
    bound = False
    number = 0
    parent = 0
    thread = 0
    started = 0
    ended = 0
    run: Any = None
    owns_run = False
    previous: Any = None
    output: Snapshot | None = None
    stream: Stream | None = None
    failure: Failure | None = None
    expected = False
    issues: list[ValidationIssue] | None = None
    state_delta: Encoded | None = None
    record: Record | None = None
    slot: Any = None

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
        if self.issues is None:
            self.issues = []
        self.issues.append(issue)

    def record_state_delta(self, value: object) -> None:
        """See `CurrentStep`."""
        try:
            policy = IN_FORCE[0]() if self.run is None else self.run.policy
            self.state_delta = seal_state_delta(self.node, value, policy)
        except Exception as error:
            log.internal_fault("record a state delta", error)


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

IN_FORCE: Final[list[Callable[[], Policy]]] = []
"""Returns what is kept of values, for steps without a run of their own; the runtime puts it here."""

LIVE: Final[dict[int, Step]] = {}
"""The steps that run at this moment in this process, by number."""
