"""`flowtrace view`: one HTML file that shows a trace, two traces side by side, or a folder of traces."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from flowtrace.cli.common import EXIT_OK, TRACE, Command, TraceSource, collector_off, printable, say

if TYPE_CHECKING:
    from collections.abc import Sequence

_KILOBYTE: Final = 1000


@click.command(
    "view",
    cls=Command,
    examples="""
    flowtrace view trace.json
    flowtrace view trace.json -o failure.html
    flowtrace view trace.json --open
    """,
)
@click.option("-o", "--output", metavar="FILE", help="The file to write; - for standard output (default: TRACE.html).")
@click.option("--open", "opens", is_flag=True, help="Open the page in the browser.")
@click.option(
    "--limit", type=click.IntRange(100), default=400, show_default=True, help="Leave out values beyond so many kB."
)
@click.argument("traces", metavar="TRACE", type=TRACE, nargs=-1, required=True)
def command(output: str | None, opens: bool, limit: int, traces: Sequence[TraceSource]) -> int:
    """Write one HTML file that shows a TRACE: what failed, where, why, and the steps that led there.

    The file needs no network and no other file, so that it can be kept with a CI run or sent to somebody.
    """
    from flowtrace.cli.page.trace_page import trace_page

    if len(traces) > 1:
        raise click.UsageError("one TRACE is shown")
    trace = traces[0]
    with collector_off():
        text = trace_page(trace.name, trace.load(), trace.path, limit * _KILOBYTE)
    _write(text, output or _beside(trace), opens)
    return EXIT_OK


def _beside(trace: TraceSource) -> str:
    return "trace.html" if trace.path is None else str(trace.path.with_suffix(".html"))


def _write(text: str, output: str, opens: bool) -> None:
    if output == "-":
        sys.stdout.buffer.write(text.encode())
        return
    from flowtrace.trace.files import write_atomically

    data = text.encode()
    write_atomically(output, data)
    say(f"{len(data) // _KILOBYTE:,} kB in {printable(output)}")
    if opens:
        click.launch(Path(output).absolute().as_uri())
