"""The formats of other tools by their names, and what writes each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flowtrace.exporting.chrome import chrome
from flowtrace.exporting.perfetto import perfetto
from flowtrace.exporting.rows import json_lines, parquet, row_of
from flowtrace.exporting.speedscope import speedscope
from flowtrace.exporting.timeline import timeline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flowtrace.trace.model import Trace
    from flowtrace.trace.outline import Entry

BINARY: Final = ("perfetto", "parquet")
FORMATS: Final = ("perfetto", "chrome", "speedscope", "jsonl", "parquet")


def exported(form: str, name: str, trace: Trace, outcome: str, entries: list[Entry]) -> Iterator[bytes]:
    """Yield the content of a file in another tool's format, in pieces.

    Args:
        form: one of `FORMATS`.
        name: of the trace.
        trace: the trace.
        outcome: how its run ended.
        entries: its steps, as `outline` returns them.

    Raises:
        MissingExtraError: a package that the format takes is not installed.
    """
    name = name.encode(errors="backslashreplace").decode()  # the name of a file need not be UTF-8
    rows = (row_of(name, trace, outcome, entry) for entry in entries)
    if form == "jsonl":
        return json_lines(rows)
    if form == "parquet":
        return parquet(rows)
    tracks, listed = timeline(entries), list(rows)
    if form == "perfetto":
        return perfetto(trace, tracks, listed)
    if form == "chrome":
        return chrome(trace, tracks, listed)
    return speedscope(name, tracks, listed)
