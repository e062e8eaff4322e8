"""The page of one trace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flowtrace.cli.page.arguments import Arguments
from flowtrace.cli.page.failure import head, screen
from flowtrace.cli.page.render import render
from flowtrace.cli.page.steps_data import (
    StepValues,
    Values,
    by_importance,
    failing_path,
    in_base64,
    packed,
    step_columns,
)
from flowtrace.cli.step_text import outcome_of, traced_folders
from flowtrace.trace.outline import failed_entry, outline

if TYPE_CHECKING:
    from pathlib import Path

    from flowtrace.trace.model import Trace

MOST_BYTES: Final = 400_000
"""The size of a page; of a trace whose steps alone take that much, it is more."""
_LEAST_VALUES: Final = 20_000
_ENDS: Final = 2_000  # of the compressed data


def trace_page(name: str, trace: Trace, path: Path | None, most_bytes: int = MOST_BYTES) -> str:
    """Return the HTML text of a page about a trace.

    Args:
        name: of the trace.
        trace: the trace.
        path: its file, which payload files are looked for beside; None where there is none.
        most_bytes: how large the page may become; values that go beyond are left out, and that is said.

    Raises:
        FlowtraceError: jinja2 is not installed.
    """
    trees = StepValues(path)
    entries = outline(trace)
    failed = failed_entry(trace, entries)
    path_down = failing_path(failed, outcome_of(trace, failed))
    arguments = Arguments(entries, trees.input_of)
    facts = head(name, trace, failed)
    facts["screen"] = None if failed is None else screen(trace, entries, failed, path_down, trees, arguments)
    facts["steps"] = packed(step_columns(trace, entries, failed, path_down, arguments.paths))
    facts |= {"count": len(entries), "values": "", "left_out": len(entries)}
    room = most_bytes - len(render("trace.html", facts).encode())
    values = Values(
        trees, traced_folders(trace), max(_LEAST_VALUES, room - _ENDS) * 3 // 4
    )  # base64 takes a third more
    values.fill(entries, by_importance(entries, failed, path_down))
    facts |= {"values": in_base64(values.text), "left_out": values.left_out}
    return render("trace.html", facts)
