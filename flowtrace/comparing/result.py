"""What a comparison of two traces found: the divergences in the order of execution, and a verdict."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from flowtrace.comparing.json_changes import Change, showable


class DivergenceKind(StrEnum):
    """How a step of one trace differs from its counterpart in the other.

    ``INPUT``: it was called with something else, so that the difference began before it. ``CODE``: the same input and
    changed code; what that led to stands in the aspects, or in steps inside it. ``OUTPUT``, ``ERROR_APPEARED``,
    ``ERROR_VANISHED``, ``ERROR_CHANGED``, ``STATE_DELTA``, ``ISSUES``: the same input, and another end.
    ``UNFINISHED``: it had ended in one trace only. ``MISSING``, ``ADDED``: it is in A, or in B, alone.
    ``REORDERED``: it comes at another place among its siblings. ``OUTCOME``: the runs ended in different ways, though
    no step tells why.
    """

    INPUT = "input changed"
    CODE = "code changed"
    OUTPUT = "output changed"
    ERROR_APPEARED = "error appeared"
    ERROR_VANISHED = "error vanished"
    ERROR_CHANGED = "error changed"
    STATE_DELTA = "state delta changed"
    ISSUES = "validation issues changed"
    UNFINISHED = "finished in one only"
    MISSING = "step missing"
    ADDED = "step added"
    REORDERED = "step reordered"
    OUTCOME = "outcome changed"


class Cause(StrEnum):
    """Where a divergence comes from, as far as the traces tell.

    ``UPSTREAM``: whatever made the input. ``CODE``: the function was changed. ``INSIDE``: a step inside it differs.
    ``NONDETERMINISM``: input and code are the same. ``CALLER``: whatever called the step, or did not.
    ``UNKNOWN``: the traces don't say whether the code is the same.
    """

    UPSTREAM = "upstream"
    CODE = "code"
    INSIDE = "inside"
    NONDETERMINISM = "nondeterminism"
    CALLER = "caller"
    UNKNOWN = "unknown"


class Verdict(StrEnum):
    """What a comparison came to.

    ``SAME``: no divergence, and everything could be compared. ``SAME_SO_FAR``: no divergence; but values have parts
    that a hash does not cover. ``DIFFERENT``: something diverges. ``NOT_COMPARABLE``: no divergence was found,
    because hashes, or all steps, have no counterpart that they could be compared with.
    """

    SAME = "same"
    SAME_SO_FAR = "same as far as can be compared"
    DIFFERENT = "different"
    NOT_COMPARABLE = "not comparable"


@dataclass(frozen=True, slots=True)
class Aspect:
    """One thing about a step that differs.

    Attributes:
        what: ``input``, ``output``, ``error``, ``state_delta``, ``validation_issues``, ``code``, ``state`` (failed, ok
            or running) or ``outcome``.
        a: what it is in A: ``algorithm:hex`` for a hash, JSON for others; None where there is none.
        b: the same for B.
        changes: where the captured values differ, if both were captured.
        left_out: how many more such places there are, at least.
        note: why there are no changes to show, or how far they can be trusted.
    """

    what: str
    a: Any
    b: Any
    changes: tuple[Change, ...] = ()
    left_out: int = 0
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON-like objects."""
        return {
            "what": self.what,
            "a": showable(self.a),
            "b": showable(self.b),
            "changes": [change.to_json() for change in self.changes],
            "left_out": self.left_out,
            "note": self.note,
        }


@dataclass(frozen=True, slots=True)
class Divergence:
    """A step that differs.

    Attributes:
        kind: how.
        cause: where that comes from.
        node_id: the step's node; the flow's id for an outcome.
        occurrence: which call of this node it is within its caller, from 1, among those in the trace.
        inside: node_id of the step around it, or None.
        a: JSON Pointer of the step in A, or None.
        b: JSON Pointer of the step in B, or None.
        aspects: what differs, in detail.
    """

    kind: DivergenceKind
    cause: Cause
    node_id: str
    occurrence: int
    inside: str | None
    a: str | None
    b: str | None
    aspects: tuple[Aspect, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON-like objects."""
        return {
            "kind": str(self.kind),
            "cause": str(self.cause),
            "node_id": self.node_id,
            "occurrence": self.occurrence,
            "inside": self.inside,
            "a": self.a,
            "b": self.b,
            "aspects": [aspect.to_json() for aspect in self.aspects],
        }


@dataclass(slots=True)
class Group:
    """The divergences of one kind at one node.

    Attributes:
        kind: how the steps differ.
        node_id: their node.
        count: how many there are.
        a: JSON Pointer in A of the first one, or None.
        b: JSON Pointer in B of the first one, or None.
    """

    kind: DivergenceKind
    node_id: str
    count: int
    a: str | None
    b: str | None

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON-like objects."""
        return {"kind": str(self.kind), "node_id": self.node_id, "count": self.count, "a": self.a, "b": self.b}


@dataclass(slots=True)
class Doubt:
    """Something that could not be compared.

    Attributes:
        reason: why.
        count: how many times.
        examples: JSON Pointers in A of the first ones.
    """

    reason: str
    count: int = 0
    examples: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON-like objects."""
        return {"reason": self.reason, "count": self.count, "examples": self.examples}


@dataclass(frozen=True, slots=True)
class CodeChange:
    """A node whose function was changed between the traces.

    Attributes:
        node_id: the node.
        a: where the function is defined in A: ``file:line``, and its hash.
        b: the same for B.
    """

    node_id: str
    a: str
    b: str

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON-like objects."""
        return {"node_id": self.node_id, "a": self.a, "b": self.b}


@dataclass(frozen=True, slots=True)
class Timing:
    """How long the same step took in both traces.

    Attributes:
        node_id: its node.
        a: JSON Pointer of the step in A.
        b: JSON Pointer of the step in B.
        a_ns: duration in A, in nanoseconds.
        b_ns: duration in B, in nanoseconds.
    """

    node_id: str
    a: str
    b: str
    a_ns: int
    b_ns: int

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON-like objects."""
        return {"node_id": self.node_id, "a": self.a, "b": self.b, "a_ns": self.a_ns, "b_ns": self.b_ns}


@dataclass(slots=True)
class TraceDiff:
    """What a comparison of two traces found.

    Attributes:
        a: what the first trace is called.
        b: what the second trace is called.
        divergences: the first ones, in the order of execution.
        total: how many there are.
        groups: all of them, counted by kind and node, in the order of their first ones.
        compared: how many steps have a counterpart.
        dropped: how many steps had rolled out of the buffer when A, and B, was written.
        rolled_out: steps in A, and in B, whose counterpart may be among those that the other trace dropped.
        undecided: how many hashes could not be compared at all.
        doubts: what could not be compared, or not wholly.
        code_changes: every node whose code was changed, whether or not that led to anything.
        context: what the envelopes say differently, by name: the value in A, and in B.
        timings: the largest differences in duration, where asked for.
    """

    a: str
    b: str
    divergences: list[Divergence] = field(default_factory=list)
    total: int = 0
    groups: list[Group] = field(default_factory=list)
    compared: int = 0
    dropped: tuple[int, int] = (0, 0)
    rolled_out: tuple[int, int] = (0, 0)
    undecided: int = 0
    doubts: list[Doubt] = field(default_factory=list)
    code_changes: list[CodeChange] = field(default_factory=list)
    context: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    timings: list[Timing] | None = None

    @property
    def first(self) -> Divergence | None:
        """The first divergence in the order of execution, or None; None too where nothing could be compared."""
        return self.divergences[0] if self.divergences else None

    @property
    def verdict(self) -> Verdict:
        """What the comparison came to."""
        if self.total:
            return Verdict.DIFFERENT
        if self.undecided or (not self.compared and any(self.dropped)):
            return Verdict.NOT_COMPARABLE
        return Verdict.SAME_SO_FAR if self.doubts else Verdict.SAME

    @property
    def exit_code(self) -> int:
        """0 where no divergence was found and the traces could be compared, else 1."""
        return 0 if self.verdict in (Verdict.SAME, Verdict.SAME_SO_FAR) else 1

    def to_json(self) -> dict[str, Any]:
        """Return the whole as JSON-like objects."""
        return {
            "a": self.a,
            "b": self.b,
            "verdict": str(self.verdict),
            "first": None if self.first is None else self.first.to_json(),
            "divergences": [divergence.to_json() for divergence in self.divergences],
            "total": self.total,
            "groups": [group.to_json() for group in self.groups],
            "compared": self.compared,
            "dropped": {"a": self.dropped[0], "b": self.dropped[1]},
            "rolled_out": {"a": self.rolled_out[0], "b": self.rolled_out[1]},
            "undecided": self.undecided,
            "doubts": [doubt.to_json() for doubt in self.doubts],
            "code_changes": [change.to_json() for change in self.code_changes],
            "context": {name: {"a": ours, "b": theirs} for name, (ours, theirs) in self.context.items()},
            "timings": None if self.timings is None else [timing.to_json() for timing in self.timings],
        }
