"""Following a value backwards through the steps of a trace.

A value that turns up everywhere (None, 0, an empty text) is never looked for by itself, but by what holds it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from flowtrace.errors import ProvenanceError
from flowtrace.host.log import printable
from flowtrace.trace.bad_value import bad_value
from flowtrace.trace.equal_values import EqualValues, Spot
from flowtrace.trace.model import Step, is_within, likely_failed_step
from flowtrace.trace.provenance import Provenance, ProvenanceLink, Relation
from flowtrace.trace.step_values import SIDES, StepValues
from flowtrace.trace.value_parts import (
    is_telling,
    listed,
    names_below,
    pointer_of,
    resolve,
    short_tokens,
    split,
    values_along,
    what_is_there,
)
from flowtrace.values.shown import value_text

if TYPE_CHECKING:
    from flowtrace.trace.model import Trace

_MOST_LINKS: Final = 40
_TOO_LONG: Final = f"it was followed through {_MOST_LINKS} links, and no further"
_MOST_OTHERS: Final = 5
_MOST_ISSUES: Final = 3  # of one step, about one value
_MOST_LEVELS: Final = 24  # containers round a value, the innermost ones
_VALUE_LENGTH: Final = 60
_WHY: Final = {
    "cut": "was cut",
    "redacted": "is redacted",
    "opaque": "is opaque",
    "not captured": "was not captured (FLOWTRACE_CAPTURE_INPUTS=1 and FLOWTRACE_CAPTURE_OUTPUTS=1 keep values)",
    "unread": "is in a payload file that can't be read",
}


class _Back(NamedTuple):
    """A link back to an earlier spot.

    Attributes:
        link: the link.
        spot: where the value is there.
        equal: what is equal there, as a text.
        depth: how deep the value is in it.
    """

    link: ProvenanceLink
    spot: Spot
    equal: str
    depth: int


class Origins:
    """Answers where values of a trace came from. What it looks up is made once, at the first question.

    Args:
        trace: the trace.
        path: its file, to find its payload files; None where it is not known.
    """

    def __init__(self, trace: Trace, path: str | os.PathLike[str] | None = None) -> None:
        self._trace = trace
        self._all = StepValues(trace, path)
        self._equal = EqualValues(self._all)

    # --- questions

    def of(self, step: Step | int | str | None = None, pointer: str | None = None) -> Provenance:
        """Return the history of a value.

        Args:
            step: the step, its number, step id or node id; None means the one that failed.
            pointer: JSON Pointer into its input, or a pointer of the trace that begins with ``/output_json``; None
                means what the step's error is about.

        Raises:
            ProvenanceError: there is no such step or value; the message says what there is.
        """
        at = self._chosen(step)
        spot, count = self._blamed(at) if pointer is None else (self._named(at, pointer), 1)
        return Provenance(tuple(self._without_explained(self._links(spot, count))))

    def _chosen(self, step: Step | int | str | None) -> int:
        steps = self._all.steps
        if step is None:
            step = self._trace.failed_step or likely_failed_step(self._trace.steps, self._trace.in_flight)
            if step is None:
                raise ProvenanceError("no step failed: name a step and a value of it")
        if isinstance(step, Step):
            found = [at for at, item in enumerate(steps) if item is step]
        elif isinstance(step, int):
            found = [step] if 0 <= step < len(self._trace.steps) else []
        else:
            found = [at for at, item in enumerate(steps) if step in (str(at), item.step_id, item.node_id)]
        if not found:
            last = len(self._trace.steps) - 1
            there = f"the trace has the steps 0 to {last}" if last >= 0 else "the trace has none"
            name = "of that record" if isinstance(step, Step) else f"'{printable(str(step)[:200])}'"
            raise ProvenanceError(f"there is no step {name}: {there}; a step id or a node id names one, too")
        return ([at for at in found if steps[at].error is not None] or found)[-1]

    def _named(self, at: int, pointer: str) -> Spot:
        side = "input"
        for name, start in SIDES.items():
            if is_within(pointer, start):
                side, pointer = name, pointer.removeprefix(start)
        pointer = f"/{pointer}" if pointer and not pointer.startswith("/") else pointer
        value, reason = self._all.value(at, side)
        owner = f"the {side} of {self._all.name(at)}"
        if reason and pointer:
            raise ProvenanceError(f"{owner} {_WHY[reason]}, so nothing can be found in it")
        tokens = () if reason else resolve(value, pointer)
        if tokens is None:
            raise ProvenanceError(f"there is no {printable(pointer)} in {owner}{what_is_there(value, pointer)}")
        return Spot(at, side, tokens)

    def _blamed(self, at: int) -> tuple[Spot, int]:
        step = self._all.steps[at]
        value, reason = self._all.value(at, "input")
        if reason:
            return Spot(at, "input", ()), 1
        found = None if step.error is None else bad_value(step, value)
        if found is None:
            which = "its error names no value of its input" if step.error is not None else "it did not fail"
            there = f": it has {listed(names_below(value))}" if names_below(value) else ""
            raise ProvenanceError(f"no pointer was given for {self._all.name(at)}, and {which}{there}")
        return Spot(at, "input", found.tokens, found.missing), found.likely

    # --- links

    def _links(self, spot: Spot, count: int) -> Iterator[ProvenanceLink]:
        yield self._start(spot, count)
        yield from self._issues(spot)
        backs: list[_Back] = []
        here, seen = spot, {spot}
        while len(backs) < _MOST_LINKS:
            back = None if self._all.hidden(*here[:3]) else self._earlier(here)
            if back is None or back.spot in seen:
                break
            backs.append(back)
            here = back.spot
            seen.add(here)
        is_reported = False
        for link, at in self._in_brief(spot, backs):
            issues = list(self._issues(at))
            is_reported = bool(issues)
            yield link
            yield from issues
        end = self._end(here) if len(backs) < _MOST_LINKS else self._unknown(here, "long", _TOO_LONG)
        yield replace(end, brief="") if is_reported and end.relation is Relation.MADE else end

    def _in_brief(self, shown: Spot, backs: list[_Back]) -> Iterator[tuple[ProvenanceLink, Spot]]:
        """Yield links; those in the sentence skip the inputs that a value only came through."""
        nearest: _Back | None = None
        for number, back in enumerate(backs):
            if nearest is None or back.depth < nearest.depth:
                nearest = back
            is_member = back.link.relation is Relation.MEMBER
            is_passed = back.spot.side == "input" and number + 1 < len(backs) and not any(self._issues(back.spot))
            if is_passed and not is_member:
                yield replace(back.link, brief=""), back.spot
                continue
            if is_member:
                yield back.link, back.spot
            else:
                yield replace(back.link, brief=self._said(shown, back.spot, nearest.equal)), back.spot
            shown, nearest = back.spot, None

    def _link(self, relation: Relation, spot: Spot, text: str, **more: Any) -> ProvenanceLink:
        step = self._all.steps[spot.at]
        number = spot.at if spot.at < len(self._trace.steps) else None
        where = (self._all.pointer(spot.at), number, step.node_id, spot.side, pointer_of(spot.tokens), self._path(spot))
        return ProvenanceLink(relation, *where, self._shown(spot), text, text, **more)

    def _start(self, spot: Spot, count: int) -> ProvenanceLink:
        where = f"the {spot.side} of {self._all.name(spot.at)}"
        path = self._path(spot)
        note = f"the first of {count:,} that may be meant" if count > 1 else ""
        text = f"`{path}` {self._shown(spot)}, in {where}" if path else f"{self._shown(spot)}, {where}"
        return self._link(Relation.START, spot, text, note=note)

    def _issues(self, spot: Spot) -> Iterator[ProvenanceLink]:
        """Yield a link for each issue that the step reported about a value with this name."""
        own = split(self._path(spot))
        issues = self._all.steps[spot.at].validation_issues if own else []
        about = (issue for issue in issues if split(issue.path)[-1:] == own[-1:])
        for issue in islice(about, _MOST_ISSUES):
            text = f"and reported `{printable(issue.code[:80])}`"
            yield self._link(Relation.ISSUE, spot, text, note=printable(issue.message[:200]))

    def _shown(self, spot: Spot) -> str:
        if spot.missing:
            return "missing"
        value, reason = self._all.value(spot.at, spot.side)
        if reason:
            return _WHY[reason]
        text = printable(value_text(values_along(value, spot.tokens)[-1]))
        return text if len(text) <= _VALUE_LENGTH else f"{text[:_VALUE_LENGTH]}..."

    def _path(self, spot: Spot) -> str:
        """Return the path of a value as people write it, made printable."""
        value = self._all.value(spot.at, spot.side)[0]
        tokens = short_tokens(value, spot.tokens) + ((spot.missing,) if spot.missing else ())
        return printable(pointer_of(tokens))

    def _without_explained(self, links: Iterable[ProvenanceLink]) -> Iterator[ProvenanceLink]:
        """Yield links without other candidates that the history comes through, or that are inside a step of it."""
        links = list(links)
        later = {link.number for link in links[1:] if link.number is not None} - {links[0].number}
        through = later.union(*(self._all.inside(at) for at in later))
        explained = {f"/steps/{at}" for at in through}
        for link in links:
            others = tuple(other for other in link.others if other not in explained)
            yield replace(link, others=others[:_MOST_OTHERS])

    # --- the last link

    def _end(self, spot: Spot) -> ProvenanceLink:
        """Return the last link: who made the value, or why that can't be known."""
        value, reason = self._all.value(spot.at, spot.side)
        reason = reason or self._all.hidden(*spot[:3])
        if reason:
            return self._unknown(spot, reason, f"it {_WHY[reason]}, so it can't be followed")
        if not any(map(is_telling, values_along(value, spot.tokens))):
            text = f"such a common value can't be followed without something that holds it{self._maybe_from(spot)}"
            return self._unknown(spot, "common", text)
        return self._end_of_input(spot) if spot.side == "input" else self._end_of_output(spot)

    def _unknown(self, spot: Spot, reason: str, text: str) -> ProvenanceLink:
        return self._link(Relation.UNKNOWN, spot, text, reason=reason)

    def _end_of_input(self, spot: Spot) -> ProvenanceLink:
        name, caller = self._all.name(spot.at), self._all.caller(spot.at)
        dropped = self._trace.dropped_steps
        if dropped:
            text = f"no step that was kept gave it to {name}, and {dropped:,} earlier ones were not kept"
            return self._unknown(spot, "dropped", text)
        blind = self._all.uncaptured(self._all.before(spot.at, "input"))
        if blind:
            text = f"no captured output holds it, and those of {blind:,} earlier steps were not captured"
            return self._unknown(spot, "not captured", text)
        if caller is not None:
            text = f"the code of {self._all.name(caller)} itself made or read it{self._maybe_from(spot)}"
            return self._link(Relation.MADE, Spot(caller, "input", ()), text)
        if self._all.steps[spot.at].parent_step_id is not None:
            return self._unknown(spot, "dropped", f"the step that called {name} is not in the trace")
        return self._link(Relation.OUTSIDE, spot, f"{name} got it from outside the recorded steps")

    def _maybe_from(self, spot: Spot) -> str:
        """Return what to say of steps that gave just such a value, where that is no proof."""
        value = values_along(self._all.value(spot.at, spot.side)[0], spot.tokens)[-1]
        givers = [] if spot.missing or spot.side == "output" or is_telling(value) else self._equal.given_as_such(spot)
        names = ", ".join(map(self._all.name, givers))
        return f", or took it from {names}, which gave {self._shown(spot)}" if names else ""

    def _end_of_output(self, spot: Spot) -> ProvenanceLink:
        reason = self._all.value(spot.at, "input")[1]
        inside = [at for at in self._all.inside(spot.at) if self._all.steps[at].output_hash is not None]
        blind = self._all.uncaptured(inside)
        if reason or blind:
            what = f"its input {_WHY[reason]}" if reason else f"{blind:,} outputs of steps inside it were not captured"
            return self._unknown(spot, reason or "not captured", f"{what}, so it can't be followed further")
        code = self._all.steps[spot.at].code
        where = f" ({printable(os.path.basename(code.file))}:{code.line})" if code is not None and code.file else ""
        unseen = self._all.unseen(spot.at, "input", ())
        note = f"of its input, {unseen}" if unseen else ""
        others = self._equal_before(spot)
        return self._link(Relation.MADE, spot, f"its own code made or read it{where}", others=others, note=note)

    def _equal_before(self, spot: Spot) -> tuple[str, ...]:
        """Return the steps before one that gave an equal value, which may have reached it as no argument does."""
        start = spot._replace(side="input")
        candidates = self._all.before(spot.at, "input")
        for holder in values_along(self._all.value(spot.at, "output")[0], spot.tokens)[-_MOST_LEVELS:]:
            hits = self._equal.of(start, holder, candidates) if is_telling(holder) else []
            if any(hit.side == "output" for hit in hits):
                return self._pointers(hits)
        return ()

    # --- one link further back

    def _earlier(self, spot: Spot) -> _Back | None:
        """Return where a value came from: the largest equal container counts most, then the nearest step."""
        value, reason = self._all.value(spot.at, spot.side)
        if reason:
            hits = self._equal.by_hash(spot)
            return self._step_back(spot, 0, hits) if hits else None
        candidates = self._all.before(spot.at, spot.side)
        along = values_along(value, spot.tokens)
        holders = along if spot.missing else along[:-1]
        for level, holder in list(enumerate(holders))[-_MOST_LEVELS:]:
            hits = self._equal.of(spot, holder, candidates) if is_telling(holder) else []
            if hits:
                return self._step_back(spot, level, hits)
        alike = self._equal.by_member(spot, along, candidates)
        if alike:
            return self._step_to_member(spot, alike)
        if spot.missing or not is_telling(along[-1]):
            return None
        hits = self._equal.of(spot, along[-1], candidates)
        return self._step_back(spot, len(spot.tokens), hits) if hits else None

    def _step_back(self, spot: Spot, level: int, hits: list[Spot]) -> _Back:
        first, rest = hits[0], spot.tokens[level:]
        new = first._replace(tokens=first.tokens + rest, missing=spot.missing)
        is_held = bool(rest or spot.missing)
        relation = Relation.CONTAINER if is_held else Relation.PART if first.tokens else Relation.EQUAL
        equal = self._noun(spot, level) if is_held else "an equal value"
        unseen = self._all.unseen(spot.at, spot.side, spot.tokens[:level])
        note = f"equal as far as it can be seen: {unseen}" if unseen else ""
        others = self._pointers(hits[1:])
        link = self._link(relation, new, self._said(spot, new, equal), others=others, note=note)
        return _Back(link, new, equal, len(rest))

    def _noun(self, spot: Spot, level: int) -> str:
        """Return what to call the part of a value that holds what is followed."""
        names = short_tokens(self._all.value(spot.at, spot.side)[0], spot.tokens[:level])
        if not names:
            return "an equal result" if spot.side == "output" else "equal arguments"
        name = next((name for name in reversed(names) if isinstance(name, str)), "")
        noun = f"`{printable(name[:80])}`" if name else ""
        return f"an equal {noun}" if name == names[-1] else f"an equal item of {noun}" if noun else "an equal item"

    def _said(self, spot: Spot, new: Spot, equal: str) -> str:
        return self._said_of(spot, new, equal, f"{equal} came out of {self._all.name(new.at)}")

    def _said_of(self, spot: Spot, new: Spot, what: str, given: str) -> str:
        """Return what is said of an earlier spot: what an output gave, or what a step was called with."""
        name = self._all.name(new.at)
        if new.side == "output":
            inside = "inside it " if spot.side == "output" and new.at in self._all.inside(spot.at) else ""
            return f"{inside}{given}"
        owner = "it" if new.at == spot.at else f"its caller {name}" if self._is_caller(spot, new) else name
        return f"{owner} was called with {what}"

    def _is_caller(self, spot: Spot, new: Spot) -> bool:
        return self._all.caller(spot.at) == new.at

    def _pointers(self, spots: Iterable[Spot]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self._all.pointer(spot.at) for spot in spots if spot.side == "output"))

    def _step_to_member(self, spot: Spot, alike: list[tuple[Spot, list[str]]]) -> _Back:
        new, shared = alike[0]
        text = self._said_of_member(spot, new, str(spot.tokens[-1]), shared)
        others = self._pointers(other for other, _ in alike if other.at != new.at)
        note = "" if shared else "nothing else there is in common"
        return _Back(self._link(Relation.MEMBER, new, text, others=others, note=note), new, "", 0)

    def _said_of_member(self, spot: Spot, new: Spot, key: str, shared: list[str]) -> str:
        alike = f" with the same {_joined(shared)}" if shared else ""
        what = f"`{printable(key)}` {self._shown(new)}{alike}"
        return self._said_of(spot, new, what, f"{self._all.name(new.at)} gave {what}")


def _joined(names: list[str]) -> str:
    texts = [f"`{printable(name[:80])}`" for name in names[:3]]
    return " and ".join(filter(None, [", ".join(texts[:-1]), texts[-1]]))
