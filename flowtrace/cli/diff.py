"""`flowtrace diff`: the first difference between two traces, and its kind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from flowtrace.cli.common import (
    TRACE,
    Command,
    Line,
    TraceSource,
    collector_off,
    harmless,
    json_option,
    make_console,
    print_json,
    print_lines,
)
from flowtrace.cli.differences import first_lines, note_lines, other_lines, several, timing_lines

if TYPE_CHECKING:
    from flowtrace.comparing.evidence import Side
    from flowtrace.comparing.result import TraceDiff


@click.command(
    "diff",
    cls=Command,
    examples="""
    flowtrace diff before.json after.json
    flowtrace diff --full failed/ fixed/
    flowtrace diff --timing monday.json tuesday.json
    flowtrace diff --json before.json after.json | jq -r .first.node_id
    """,
)
@click.option("--timing", is_flag=True, help="Also show where the durations differ most.")
@click.option("--full", is_flag=True, help="Every divergence in detail.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="Describe no more divergences.")
@json_option
@click.argument("a", metavar="A", type=TRACE)
@click.argument("b", metavar="B", type=TRACE)
def command(timing: bool, full: bool, limit: int, as_json: bool, a: TraceSource, b: TraceSource) -> int:
    """Compare two traces, A and B, and name the first step that differs.

    The kinds: another input, so that the difference began earlier; changed code; another output or error though input
    and code are the same; a step that is missing, added, or at another place.

    Ends with 0 where no difference was found, and with 1 where there is one, or where the traces can't be compared.
    """
    from flowtrace.comparing.diff import compare

    if a.path is None and b.path is None:
        raise click.UsageError("only one of A and B can be standard input")
    with collector_off():
        result = compare(_side(a), _side(b), timing=timing, limit=limit)
    if as_json:
        print_json(result.to_json())
    else:
        print_lines(make_console(), _lines(result, full))
    return result.exit_code


def _side(source: TraceSource) -> Side:
    from flowtrace.comparing.evidence import Side

    return Side(source.load(), source.name, None if source.path is None else str(source.path))


def _lines(result: TraceDiff, full: bool) -> Iterator[Line]:
    style = "bold green" if result.exit_code == 0 else "bold red"
    count = f", {result.total:,} divergences" if result.total > 1 else ""
    yield [(str(result.verdict), style), (f"  {several(result.compared, 'step')} compared{count}", "dim")]
    yield [("A ", "dim"), (harmless(result.a), ""), ("   B ", "dim"), (harmless(result.b), "")]
    if result.first is not None:
        yield []
        yield from first_lines(result, full)
    elif result.exit_code and not result.compared:
        yield [("  no step of one is in the other: record more steps (FLOWTRACE_BUFFER_SIZE)", "")]
    yield from other_lines(result, full)
    yield from note_lines(result)
    yield from timing_lines(result)
