"""Divergences as lines for people; `diff` and `check` print them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from flowtrace.cli.common import Line, harmless

if TYPE_CHECKING:
    from flowtrace.comparing.json_changes import Change
    from flowtrace.comparing.result import Aspect, Divergence, Group, TraceDiff

_SHORT: Final = 8  # hex digits of a hash
_WIDTH: Final = 120
_TEXT: Final = 500
_CHANGES: Final = 10
_LABEL: Final = 18
_CAUSES: Final = {
    "upstream": "the difference began before this step",
    "code": "same input, changed code",
    "inside": "same input; a step inside it differs",
    "nondeterminism": "same input, same code: it is not deterministic",
    "unknown": "same input; the traces don't tell whether the code is the same",
}


def first_lines(result: TraceDiff, full: bool = False) -> Iterator[Line]:
    """Return the first divergence in detail."""
    first = result.first
    if first is None:
        return
    yield [("first divergence: ", "bold"), (_named(first), "bold red")]
    yield from _detail(first, full)
    if first.kind == "input changed":
        where = f"inside {_name(first.inside)}" if first.inside else "outside any step"
        yield [("  ", ""), (f"no step before it differs: the input was made {where}, by code that is not traced", "")]


def other_lines(result: TraceDiff, full: bool) -> Iterator[Line]:
    """Return the other divergences: each of those that were described, or their numbers by kind and node."""
    if result.total < 2:
        return
    yield []
    if full:
        yield [("the others, in the order of execution", "bold")]
        for divergence in result.divergences[1:]:
            yield [(_named(divergence), "red")]
            yield from _detail(divergence, full)
        if result.total > len(result.divergences):
            yield [(f"and {result.total - len(result.divergences):,} more", "dim")]
        return
    yield [("all divergences, by kind", "bold")]
    yield from (_group(group) for group in result.groups)


def note_lines(result: TraceDiff) -> Iterator[Line]:
    """Return what could not be compared, and what differs without being a divergence."""
    notes: list[Line] = []
    for doubt in result.doubts:
        more = ", ..." if doubt.examples and doubt.count > len(doubt.examples) else ""
        places = f": {', '.join(map(harmless, doubt.examples))}{more}" if doubt.examples else ""
        notes.append([(f"  {harmless(doubt.reason)} ({doubt.count:,}{places})", "yellow")])
    ours, theirs = result.rolled_out
    if ours or theirs:
        text = f"  {several(ours, 'step')} of A and {theirs:,} of B may have their counterparts among those"
        notes.append([(text, "yellow")])
    if notes:
        yield []
        yield [("not compared, or not wholly", "bold")]
        yield from notes
    yield from _aside(result)


def _aside(result: TraceDiff) -> Iterator[Line]:
    if result.code_changes:
        yield []
        yield [("changed code", "bold")]
        for change in result.code_changes:
            yield [(f"  {_name(change.node_id)}", "")]
            yield from _sides("", _code(change.a), _code(change.b))
    if result.context:
        yield []
        yield [("about the runs", "bold")]
        for name, values in result.context.items():
            a, b = (harmless(_cut(str(value), _TEXT)) if value is not None else "none" for value in values)
            yield [(f"  {name:<{_LABEL - 2}}", "dim"), (f"A {a}   B {b}", "")]


def timing_lines(result: TraceDiff) -> Iterator[Line]:
    """Return the largest differences in duration."""
    if result.timings is None:
        return
    yield []
    yield [("largest differences in time", "bold") if result.timings else ("no differences in time", "bold")]
    for timing in result.timings:
        change = f"{_milliseconds(timing.a_ns)} -> {_milliseconds(timing.b_ns)}"
        yield [(f"  {_name(timing.node_id)}  ", ""), (change, "cyan"), (f"  {_steps(timing.a, timing.b)}", "dim")]


def several(count: int, what: str) -> str:
    """Return a number of things as words."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def _milliseconds(nanoseconds: int) -> str:
    return f"{nanoseconds / 1_000_000:.3f} ms"


def _named(divergence: Divergence) -> str:
    if divergence.kind == "outcome changed":
        return f"{_name(divergence.node_id)}: {divergence.kind}"
    inside = f", inside {_name(divergence.inside)}" if divergence.inside else ""
    kind = _name(divergence.node_id)
    return f"{kind}, call {divergence.occurrence}{inside}: {divergence.kind}"


def _detail(divergence: Divergence, full: bool) -> Iterator[Line]:
    cause = _CAUSES.get(divergence.cause)
    if cause is not None and divergence.kind != "outcome changed":
        yield [("  ", ""), (cause, "")]
    yield [(f"  {'step':<{_LABEL - 2}}", "dim"), (_steps(divergence.a, divergence.b), "")]
    for aspect in divergence.aspects:
        yield from _aspect(aspect, full)


def _aspect(aspect: Aspect, full: bool) -> Iterator[Line]:
    label = aspect.what.replace("_", " ")
    if not (aspect.changes and aspect.what in ("input", "output", "validation_issues")):
        texts = (_code(value) if aspect.what == "code" else _told(value) for value in (aspect.a, aspect.b))
        yield from _sides(label, *texts)
    else:
        yield [(f"  {label:<{_LABEL - 2}}", "dim"), (_places(len(aspect.changes) + aspect.left_out), "")]
        shown = aspect.changes if full else aspect.changes[:_CHANGES]
        for change in shown:
            yield from _change(change)
        left_out = len(aspect.changes) - len(shown) + aspect.left_out
        if left_out:
            yield [(f"{'':{_LABEL}}and {left_out:,} more", "dim")]
    if aspect.note:
        yield [(f"{'':{_LABEL}}({harmless(_cut(aspect.note, _TEXT))})", "dim")]


def _places(count: int) -> str:
    return "1 place differs" if count == 1 else f"{count:,} places differ"


def _change(change: Change) -> Iterator[Line]:
    place = harmless(_cut(change.pointer, _TEXT)) or "(the whole)"
    a = "absent" if change.kind == "added" else _value(change.a)
    b = "absent" if change.kind == "removed" else _value(change.b)
    yield [(f"{'':{_LABEL}}{place}", "bold"), (f"  {a}", "red"), (" -> ", "dim"), (b, "green")]


def _sides(label: str, a: str, b: str) -> Iterator[Line]:
    yield [(f"  {label:<{_LABEL - 2}}", "dim"), ("A ", "dim"), (a, "red")]
    yield [(f"{'':{_LABEL}}", ""), ("B ", "dim"), (b, "green")]


def _told(value: Any) -> str:
    """Return a hash shortened, an error as Python names it, or a value."""
    if value is None:
        return "none"
    if isinstance(value, dict) and "message" in value and "code" in value:
        kind = f"{value['type']}: " if isinstance(value.get("type"), str) else ""
        code = "" if value["code"] == "node_error" else f" ({value['code']})"
        return harmless(_cut(f"{kind}{value['message']}{code}", _TEXT))
    return _hash(value) if isinstance(value, str) else _value(value)


def _hash(text: str) -> str:
    algorithm, colon, digits = text.partition(":")
    return harmless(_cut(f"{algorithm}{colon}{digits[:_SHORT]}", _TEXT))


def _code(text: str) -> str:
    place, space, found = text.rpartition(" ")
    return f"{harmless(_cut(place, _TEXT))}{space}{_hash(found)}"


def _value(value: Any) -> str:
    from flowtrace.values.encode import canonical_bytes

    return harmless(_cut(canonical_bytes(value).decode(), _WIDTH))


def _group(group: Group) -> Line:
    times = "" if group.count == 1 else f"  x {group.count:,}, first"
    steps = _steps(group.a, group.b)
    return [(f"  {group.kind:<26}", "red"), (_name(group.node_id), ""), (f"{times}  {steps}", "dim")]


def _steps(a: str | None, b: str | None) -> str:
    return "   ".join(f"{side} {harmless(pointer)}" for side, pointer in (("A", a), ("B", b)) if pointer is not None)


def _name(text: str | None) -> str:
    return harmless(_cut(text or "", _WIDTH))


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}... ({len(text):,} characters)"
