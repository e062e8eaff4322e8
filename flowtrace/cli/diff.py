"""`flowtrace diff`: the first difference between two traces, and its kind. `check` prints the same lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from flowtrace.cli.common import (
    TRACE,
    Command,
    Line,
    TraceSource,
    collector_off,
    configured_trace,
    json_option,
    predecessor,
    print_result,
    printable,
    several,
    shortened,
)

if TYPE_CHECKING:
    from flowtrace.comparing.evidence import Side
    from flowtrace.comparing.json_changes import Change
    from flowtrace.comparing.result import Aspect, Divergence, Group, TraceDiff

_HASH_DIGITS: Final = 8
_WIDTH: Final = 120
_TEXT: Final = 500
_CHANGES: Final = 10
_LABEL: Final = 18
CAUSES: Final = {
    "upstream": "the difference began before this step",
    "code": "{input}, changed code",
    "inside": "{input}; a step inside it differs",
    "nondeterminism": "{input}, same code: it is not deterministic",
    "unseen": "{input}, same code: what differs may come from there",
    "unknown": "{input}; the traces don't show if the code is the same",
}


@click.command(
    "diff",
    cls=Command,
    examples="""
    flowtrace diff
    flowtrace diff before.json after.json
    flowtrace diff --full failed/ fixed/
    flowtrace diff --timing monday.json tuesday.json
    flowtrace diff --json before.json after.json | jq -r .first.node_id
    """,
)
@click.option("--timing", is_flag=True, help="Also show where the durations differ most.")
@click.option("--full", is_flag=True, help="Show every divergence in detail.")
@click.option(
    "--limit", type=click.IntRange(1), default=100, show_default=True, help="Describe at most this many divergences."
)
@json_option
@click.argument("a", metavar="A", type=TRACE, required=False)
@click.argument("b", metavar="B", type=TRACE, required=False)
def command(timing: bool, full: bool, limit: int, as_json: bool, a: TraceSource | None, b: TraceSource | None) -> int:
    """Compare two traces, A and B, and name the first step that differs.

    Without A and B, the trace that the program wrote last (FLOWTRACE_OUT, or trace.json) is compared with the one
    before, which a later process keeps as trace.prev.json.

    The kinds of difference: another input, so the difference began earlier; changed code; another output or error with
    the same input and code; a step that is missing, added or moved.

    Exit code 0: no difference was found; 1: there is one, or the traces can't be compared.
    """
    from flowtrace.comparing.diff import compare

    if a is None:
        b = configured_trace()
        a = predecessor(b)
    if b is None:
        raise click.UsageError("Missing argument 'B'.")
    if a.path is None and b.path is None:
        raise click.UsageError("only one of A and B can be standard input")
    with collector_off():
        result = compare(side_of(a), side_of(b), timing=timing, limit=limit)
    print_result(as_json, result.to_json, lambda _: _lines(result, full))
    return result.exit_code


def side_of(source: TraceSource) -> Side:
    """Return a trace as one side of a comparison."""
    from flowtrace.comparing.evidence import Side

    return Side(source.load(), source.name, None if source.path is None else str(source.path))


def _lines(result: TraceDiff, full: bool) -> Iterator[Line]:
    style = "bold green" if result.exit_code == 0 else "bold red"
    count = f", {result.total:,} divergences" if result.total > 1 else ""
    yield [(str(result.verdict), style), (f"  {several(result.compared, 'step')} compared{count}", "dim")]
    yield [("A ", "dim"), (printable(result.a), ""), ("   B ", "dim"), (printable(result.b), "")]
    if result.first is not None:
        yield []
        yield from first_lines(result, full)
    elif result.exit_code and not result.compared:
        yield [("  A and B have no step in common: record more steps (FLOWTRACE_BUFFER_SIZE)", "")]
    yield from other_lines(result, full)
    yield from note_lines(result)
    yield from timing_lines(result)


# --- divergences


def first_lines(result: TraceDiff, full: bool = False) -> Iterator[Line]:
    """Return the lines of the first divergence, in detail."""
    first = result.first
    if first is None:
        return
    yield [("first divergence: ", "bold"), (step_title(first), "bold red")]
    yield from _detail(first, full)
    if first.kind == "input changed":
        where = f"inside {_name(first.inside)}" if first.inside else "outside any step"
        yield [("  ", ""), (f"no step before it differs: the input was made {where}, by code that is not traced", "")]
    if first.unseen and first.cause in ("upstream", "caller"):
        yield [("  ", ""), (f"the input of {_name(first.inside)} is {seen_text(first)}", "")]


def other_lines(result: TraceDiff, full: bool) -> Iterator[Line]:
    """Return the lines of the other divergences: each that was described, or their numbers by kind and node."""
    if result.total < 2:
        return
    yield []
    if full:
        yield [("the others, in the order of execution", "bold")]
        for divergence in result.divergences[1:]:
            yield [(step_title(divergence), "red")]
            yield from _detail(divergence, full)
        if result.total > len(result.divergences):
            yield [(f"and {result.total - len(result.divergences):,} more", "dim")]
        return
    yield [("all divergences, by kind", "bold")]
    yield from (_group(group) for group in result.groups)


def note_lines(result: TraceDiff) -> Iterator[Line]:
    """Return lines on what could not be compared, and on differences that are no divergence."""
    notes: list[Line] = []
    for doubt in result.doubts:
        more = ", ..." if doubt.examples and doubt.count > len(doubt.examples) else ""
        pointers = f": {', '.join(map(printable, doubt.examples))}{more}" if doubt.examples else ""
        notes.append([(f"  {printable(doubt.reason)} ({doubt.count:,}{pointers})", "yellow")])
    ours, theirs = result.rolled_out
    if ours or theirs:
        text = f"  {several(ours, 'step')} of A and {theirs:,} of B may have their counterparts among those"
        notes.append([(text, "yellow")])
    if notes:
        yield []
        yield [("not compared, or only in part", "bold")]
        yield from notes
    yield from _context_lines(result)


def _context_lines(result: TraceDiff) -> Iterator[Line]:
    if result.code_changes:
        yield []
        yield [("changed code", "bold")]
        for change in result.code_changes:
            yield [(f"  {_name(change.node_id)}", "")]
            yield from _both_sides("", code_line(change.a), code_line(change.b))
    if result.context:
        yield []
        yield [("about the runs", "bold")]
        for name, values in result.context.items():
            a, b = (shortened(str(value), _TEXT) if value is not None else "none" for value in values)
            yield [(f"  {name:<{_LABEL - 2}}", "dim"), (f"A {a}   B {b}", "")]


def timing_lines(result: TraceDiff) -> Iterator[Line]:
    """Return the lines of the largest differences in duration."""
    if result.timings is None:
        return
    yield []
    yield [("largest differences in time", "bold") if result.timings else ("no differences in time", "bold")]
    for timing in result.timings:
        change = f"{timing.a_ns / 1_000_000:.3f} ms -> {timing.b_ns / 1_000_000:.3f} ms"
        yield [(f"  {_name(timing.node_id)}  ", ""), (change, "cyan"), (f"  {_steps(timing.a, timing.b)}", "dim")]


def step_title(divergence: Divergence) -> str:
    """Return which step differs, and how."""
    name = _name(divergence.node_id)
    if divergence.kind == "outcome changed":
        return f"{name}: {divergence.kind}"
    inside = f", inside {_name(divergence.inside)}" if divergence.inside else ""
    return f"{name}, call {divergence.occurrence}{inside}: {divergence.kind}"


def _detail(divergence: Divergence, full: bool) -> Iterator[Line]:
    cause = CAUSES.get(divergence.cause)
    if cause is not None and divergence.kind != "outcome changed":
        given = f"the input is {seen_text(divergence)}" if divergence.unseen else "same input"
        yield [("  ", ""), (cause.format(input=given), "")]
    yield [(f"  {'step':<{_LABEL - 2}}", "dim"), (_steps(divergence.a, divergence.b), "")]
    for aspect in divergence.aspects:
        yield from _aspect(aspect, full)


def seen_text(divergence: Divergence) -> str:
    """Return how far inputs are the same that have parts which can't be seen."""
    return f"the same as far as it can be seen ({', '.join(map(printable, divergence.unseen))})"


def _aspect(aspect: Aspect, full: bool) -> Iterator[Line]:
    label = aspect.what.replace("_", " ")
    if not (aspect.changes and aspect.what in ("input", "output", "validation_issues")):
        texts = (code_line(value) if aspect.what == "code" else brief(value) for value in (aspect.a, aspect.b))
        yield from _both_sides(label, *texts)
    else:
        count = len(aspect.changes) + aspect.left_out
        yield [(f"  {label:<{_LABEL - 2}}", "dim"), (f"{several(count, 'value')} differ{'s' * (count == 1)}", "")]
        shown = aspect.changes if full else aspect.changes[:_CHANGES]
        for change in shown:
            yield from _change(change)
        left_out = len(aspect.changes) - len(shown) + aspect.left_out
        if left_out:
            yield [(f"{'':{_LABEL}}and {left_out:,} more", "dim")]
    if aspect.note:
        yield [(f"{'':{_LABEL}}({shortened(aspect.note, _TEXT)})", "dim")]


def _change(change: Change) -> Iterator[Line]:
    pointer = shortened(change.pointer, _TEXT) or "(complete value)"
    a, b = change.sides(_as_text)
    yield [(f"{'':{_LABEL}}{pointer}", "bold"), (f"  {a}", "red"), (" -> ", "dim"), (b, "green")]


def _both_sides(label: str, a: str, b: str) -> Iterator[Line]:
    yield [(f"  {label:<{_LABEL - 2}}", "dim"), ("A ", "dim"), (a, "red")]
    yield [(f"{'':{_LABEL}}", ""), ("B ", "dim"), (b, "green")]


def brief(value: Any) -> str:
    """Return the beginning of a hash, an error as a traceback has it, or a value in Python's words."""
    if value is None:
        return "none"
    if isinstance(value, dict) and "message" in value and "code" in value:
        kind = f"{value['type']}: " if isinstance(value.get("type"), str) else ""
        code = "" if value["code"] == "node_error" else f" ({value['code']})"
        return shortened(f"{kind}{value['message']}{code}", _TEXT)
    return _hash_digits(value) if isinstance(value, str) else _as_text(value)


def _hash_digits(text: str) -> str:
    algorithm, colon, digits = text.partition(":")
    return shortened(f"{algorithm}{colon}{digits[:_HASH_DIGITS]}", _TEXT)


def code_line(text: str) -> str:
    """Return where a function is defined, with the beginning of its code's hash."""
    location, space, code_hash = text.rpartition(" ")
    return f"{shortened(location, _TEXT)}{space}{_hash_digits(code_hash)}"


def _as_text(value: Any) -> str:
    from flowtrace.values.shown import value_text

    return shortened(value_text(value), _WIDTH)


def _group(group: Group) -> Line:
    times = "" if group.count == 1 else f"  x {group.count:,}, first"
    steps = _steps(group.a, group.b)
    return [(f"  {group.kind:<26}", "red"), (_name(group.node_id), ""), (f"{times}  {steps}", "dim")]


def _steps(a: str | None, b: str | None) -> str:
    return "   ".join(f"{side} {printable(pointer)}" for side, pointer in (("A", a), ("B", b)) if pointer is not None)


def _name(text: str | None) -> str:
    return shortened(text or "", _WIDTH)
