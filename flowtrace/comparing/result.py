"""The result of comparing two traces: the divergences in the order of execution, and a verdict."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, cast

from flowtrace.comparing.json_changes import Change, showable


class _JsonRecord:
    __slots__ = ()

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON-like objects."""
        return {item.name: _json(getattr(self, item.name)) for item in fields(cast(Any, self))}


def _json(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    if isinstance(value, StrEnum):
        return str(value)
    return value.to_json() if isinstance(value, _JsonRecord | Change) else value


class DivergenceKind(StrEnum):
    """How a step of one trace differs from its counterpart in the other.

    ``INPUT``: it was called with something else, so that the difference began before it. ``CODE``: the same input and
    changed code; the aspects, or the steps inside it, show what that led to. ``OUTPUT``, ``ERROR_APPEARED``,
    ``ERROR_VANISHED``, ``ERROR_CHANGED``, ``STATE_DELTA``, ``ISSUES``: the same input, but it ended differently.
    ``UNFINISHED``: it had ended in one trace only. ``MISSING``, ``ADDED``: it is only in A, or only in B.
    ``REORDERED``: its position among its siblings differs. ``OUTCOME``: the runs ended in different ways, though
    no step shows why.
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
    """Where a divergence comes from, as far as the traces show.

    ``UPSTREAM``: the code that made the input. ``CODE``: the function was changed. ``INSIDE``: a step inside it
    differs. ``NONDETERMINISM``: input and code are the same. ``UNSEEN``: the code is the same, and the input too as far
    as the traces show it: the difference may come from parts that are opaque, redacted or cut. ``CALLER``: the code
    that called the step, or did not. ``UNKNOWN``: the traces don't show if the code is the same.
    """

    UPSTREAM = "upstream"
    CODE = "code"
    INSIDE = "inside"
    NONDETERMINISM = "nondeterminism"
    UNSEEN = "unseen"
    CALLER = "caller"
    UNKNOWN = "unknown"


class Verdict(StrEnum):
    """The conclusion of a comparison.

    ``SAME``: no divergence, and everything could be compared. ``SAME_SO_FAR``: no divergence, but values have parts
    that a hash does not cover. ``DIFFERENT``: something diverges. ``NOT_COMPARABLE``: no divergence was found, but
    some hashes could not be compared, or no step had a counterpart.
    """

    SAME = "same"
    SAME_SO_FAR = "same as far as can be compared"
    DIFFERENT = "different"
    NOT_COMPARABLE = "not comparable"


@dataclass(frozen=True, slots=True)
class Aspect(_JsonRecord):
    """One thing about a step that differs.

    Attributes:
        what: ``input``, ``output``, ``error``, ``state_delta``, ``validation_issues``, ``code``, ``state`` (failed, ok
            or running) or ``outcome``.
        a: its value in A: ``algorithm:hex`` for a hash, JSON for others; None where there is none.
        b: the same for B.
        changes: where the captured values differ, if both were captured.
        left_out: how many more changes there are, at least.
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
        changes = [change.to_json() for change in self.changes]
        values = {"what": self.what, "a": showable(self.a), "b": showable(self.b), "changes": changes}
        return values | {"left_out": self.left_out, "note": self.note}


@dataclass(frozen=True, slots=True)
class Divergence(_JsonRecord):
    """A step that differs.

    Attributes:
        kind: how it differs.
        cause: where the difference comes from.
        node_id: the step's node; the flow's id for an outcome.
        occurrence: the number of this call among its caller's calls of the node in the trace, from 1.
        inside: node_id of the step around it, or None.
        a: JSON Pointer of the step in A, or None.
        b: JSON Pointer of the step in B, or None.
        aspects: what differs, in detail.
        unseen: where an input that is the same otherwise may differ, as ``opaque at /client``: the step's own; the
            caller's for a changed input and for a step that is missing, added or moved.
    """

    kind: DivergenceKind
    cause: Cause
    node_id: str
    occurrence: int
    inside: str | None
    a: str | None
    b: str | None
    aspects: tuple[Aspect, ...] = ()
    unseen: tuple[str, ...] = ()


@dataclass(slots=True)
class Group(_JsonRecord):
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


@dataclass(slots=True)
class Doubt(_JsonRecord):
    """A reason why parts of the traces could not be compared.

    Attributes:
        reason: why.
        count: how many times.
        examples: JSON Pointers in A of the first steps.
    """

    reason: str
    count: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class CodeChange(_JsonRecord):
    """A node whose function was changed between the traces.

    Attributes:
        node_id: the node.
        a: where the function is defined in A: ``file:line``, and its hash.
        b: the same for B.
    """

    node_id: str
    a: str
    b: str


@dataclass(frozen=True, slots=True)
class Timing(_JsonRecord):
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


@dataclass(slots=True)
class TraceDiff(_JsonRecord):
    """The result of comparing two traces.

    Attributes:
        a: the name of the first trace.
        b: the name of the second trace.
        divergences: the first ones, in the order of execution.
        total: how many there are.
        groups: all of them, counted by kind and node, in the order of their first ones.
        compared: how many steps have a counterpart.
        dropped: how many steps had rolled out of the buffer when A, and B, was written.
        rolled_out: steps in A, and in B, whose counterpart may be among those that the other trace dropped.
        undecided: how many hashes could not be compared at all.
        is_certain: something differs that can't come from parts of an input that the traces don't show.
        doubts: what could not be compared, or only in part.
        code_changes: every node whose code was changed, even where that had no effect.
        context: facts about the runs that differ, by name: the value in A, and in B.
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
    is_certain: bool = False
    doubts: list[Doubt] = field(default_factory=list)
    code_changes: list[CodeChange] = field(default_factory=list)
    context: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    timings: list[Timing] | None = None

    def __repr__(self) -> str:
        """Return one line: a comparison as a whole may fill many screens."""
        first = "" if self.first is None else f", first {self.first.node_id!r:.80}: {self.first.kind}"
        return f"<TraceDiff: {self.verdict}, {self.compared} steps compared{first}>"

    def _repr_html_(self) -> str:
        from flowtrace.comparing.notebook import diff_html

        return diff_html(self)

    @property
    def first(self) -> Divergence | None:
        """The first divergence in the order of execution, or None; None too where nothing could be compared."""
        return self.divergences[0] if self.divergences else None

    @property
    def verdict(self) -> Verdict:
        """The conclusion of the comparison."""
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
        """Return this as JSON-like objects."""
        found = _JsonRecord.to_json(self)
        start = {"a": self.a, "b": self.b, "verdict": str(self.verdict), "first": _json(self.first)}
        context = {name: _sides(values) for name, values in self.context.items()}
        sides = {"dropped": _sides(self.dropped), "rolled_out": _sides(self.rolled_out), "context": context}
        return start | found | sides


def _sides(values: tuple[Any, Any]) -> dict[str, Any]:
    return {"a": values[0], "b": values[1]}
