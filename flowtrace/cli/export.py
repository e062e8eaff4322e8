"""`flowtrace export`: a trace in the format of another tool."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING

import click

from flowtrace.cli.common import EXIT_OK, TRACE, Command, TraceSource, collector_off, write_output
from flowtrace.cli.step_text import outcome_of
from flowtrace.exporting.formats import BINARY, FORMATS, exported
from flowtrace.trace.outline import failed_entry, outline

if TYPE_CHECKING:
    from flowtrace.trace.model import Trace


@click.command(
    "export",
    cls=Command,
    examples="""
    flowtrace export trace.json --format perfetto -o trace.pftrace
    flowtrace export trace.json --format speedscope -o trace.speedscope.json
    flowtrace export trace.json --format parquet -o steps.parquet
    flowtrace export artifacts/ --format jsonl | jq -r 'select(.error_type) | .node_id'
    """,
)
@click.option("--format", "form", type=click.Choice([*FORMATS, "markdown"]), required=True, help="The format.")
@click.option("-o", "--output", metavar="FILE", help="The file to write; - for standard output, the default.")
@click.argument("trace", metavar="TRACE", type=TRACE)
def command(form: str, output: str | None, trace: TraceSource) -> int:
    """Write a TRACE in the format of another tool.

    perfetto, chrome and speedscope are timelines: a track for each thread, and more where steps of it overlap, as tasks
    do. jsonl and parquet are rows for DuckDB, pandas and Spark, one a step, with values as JSON text. markdown is what
    `flowtrace show --format markdown` prints. perfetto and parquet need the extra `export`.
    """
    out = None if output == "-" else output
    if out is None and form in BINARY and sys.stdout.isatty():
        raise click.UsageError(f"{form} is no text for a terminal: name a file with -o")
    with collector_off():
        pieces = _pieces(form, trace, trace.load())
        if out is None:
            _print(pieces)
        else:
            write_output(out, b"".join(pieces), [trace])
    return EXIT_OK


def _pieces(form: str, source: TraceSource, trace: Trace) -> Iterator[bytes]:
    entries = outline(trace)
    failed = failed_entry(trace, entries)
    if form != "markdown":
        return exported(form, source.name, trace, outcome_of(trace, failed), entries)
    from flowtrace.cli.markdown_view import markdown

    return (f"{line}\n".encode() for line in markdown(source.name, trace, entries, failed, source.path))


def _print(pieces: Iterator[bytes]) -> None:
    first = next(pieces, b"")  # what is not installed is noticed before anything is printed
    sys.stdout.flush()
    for piece in chain([first], pieces):
        sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()
