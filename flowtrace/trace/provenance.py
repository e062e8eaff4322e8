"""Where a value came from: the result of following it backwards through the recorded steps, one link each."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Relation(StrEnum):
    """How a link of a value's history is connected with the link before it.

    ``START``: the value that was asked for. ``EQUAL``: a complete input or output is equal. ``PART``: a part of one is
    equal. ``CONTAINER``: what holds the value is equal there. ``MEMBER``: an object there has the same member, and
    others in common. ``ISSUE``: the step reported a validation issue about it. ``MADE``: nothing that the step was
    called with, or that the steps inside it gave, is equal: its own code made the value, or read it somewhere.
    ``OUTSIDE``: code around the recorded steps made it. ``UNKNOWN``: the trace can't show more; ``reason`` says why.
    """

    START = "start"
    EQUAL = "equal"
    PART = "part of"
    CONTAINER = "container"
    MEMBER = "same member"
    ISSUE = "reported issue"
    MADE = "made here"
    OUTSIDE = "from outside"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ProvenanceLink:
    """One place that a value was at.

    Attributes:
        relation: how it is connected with the link before it.
        step: JSON Pointer of the step in the trace, such as ``/steps/9``.
        number: the step's index in ``steps``; None for one that was still running.
        node_id: the step's node.
        side: ``input`` or ``output``.
        pointer: JSON Pointer of the value in that captured input or output.
        path: the same as people write it, without the levels of tagged forms.
        value: the value in Python's words, shortened.
        text: what this link says, as a part of a sentence.
        brief: the same in the one sentence about the value; empty where that leaves it out, since the value only came
            through there.
        reason: why no more is known: ``cut``, ``opaque``, ``redacted``, ``dropped``, ``not captured``, ``unread``,
            ``common`` or ``long``; else empty.
        others: JSON Pointers of other steps that gave an equal value before, the nearest first.
        note: how far the link can be trusted; empty where there is no doubt.
    """

    relation: Relation
    step: str
    number: int | None
    node_id: str
    side: str
    pointer: str
    path: str
    value: str
    text: str
    brief: str
    reason: str = ""
    others: tuple[str, ...] = ()
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON-like objects."""
        return asdict(self) | {"relation": str(self.relation), "others": list(self.others)}


@dataclass(frozen=True, slots=True)
class Provenance:
    """The history of a value, backwards: from where it was found to where it came from.

    Attributes:
        links: the value itself first, its origin last.
    """

    links: tuple[ProvenanceLink, ...]

    @property
    def text(self) -> str:
        """The history as one sentence."""
        text = ""
        for link in self.links:
            joint = "" if not text else " " if link.relation is Relation.ISSUE else "; "
            text += joint + link.brief if link.brief else ""
        return text

    @property
    def is_found(self) -> bool:
        """True if the value was followed to a step, or out of the recorded ones."""
        return any(link.relation not in (Relation.START, Relation.ISSUE, Relation.UNKNOWN) for link in self.links)

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON-like objects."""
        return {"text": self.text, "found": self.is_found, "links": [link.to_json() for link in self.links]}
