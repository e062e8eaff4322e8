"""The page of a folder: its traces, the newest first, each with its outcome and the node that failed."""

from __future__ import annotations

import shlex
from itertools import islice
from typing import TYPE_CHECKING, Final

from flowtrace.cli.common import TraceSource, newest_traces, printable, shortened
from flowtrace.cli.page.failure import Facts, moment, type_name
from flowtrace.cli.page.render import render
from flowtrace.cli.step_text import details_of, flow_text, location_of, outcome_of, step_name, text_in, traced_folders
from flowtrace.errors import FlowtraceError
from flowtrace.trace.outline import failed_entry, outline

if TYPE_CHECKING:
    from pathlib import Path

    from flowtrace.trace.model import Trace

MOST_TRACES: Final = 200
_MOST_READ: Final = 1 << 28  # bytes of all files together
_MESSAGE: Final = 300


def folder_page(folder: Path) -> str:
    """Return the HTML text of a page that lists the traces in a folder; folders inside it are not searched.

    Raises:
        FlowtraceError: jinja2 is not installed, or there is no trace.
    """
    files = list(newest_traces(folder))
    if not files:
        raise FlowtraceError(f"there is no trace in the folder '{folder}'")
    rows: list[Facts] = []
    left = _MOST_READ
    for file in islice(files, MOST_TRACES):
        left -= file.stat().st_size
        if left < 0 and rows:
            break
        rows.append(_row(file))
    failed, named = sum(row["failed"] for row in rows), printable(folder.resolve().name or "/")
    facts: Facts = {"folder": named, "rows": rows, "failed": failed, "more": len(files) - len(rows)}
    return render("folder.html", facts)


def _row(file: Path) -> Facts:
    """Return what the list says of a trace; of a file that can't be read, why."""
    command = printable(shlex.join(["flowtrace", "view", str(file)]))
    facts: Facts = {"file": printable(file.name), "command": command, "failed": False, "problem": ""}
    try:
        trace = TraceSource(file.name, file).load()
    except (FlowtraceError, OSError) as error:
        return facts | {"problem": shortened(str(error), _MESSAGE)}
    return facts | _facts(trace)


def _facts(trace: Trace) -> Facts:
    failed = failed_entry(trace, outline(trace))
    outcome = outcome_of(trace, failed)
    facts: Facts = {
        "outcome": printable(outcome),
        "flow": flow_text(trace),
        "when": moment(trace.run.started_at) if trace.run is not None else "",
        "steps": len(trace.steps) + len(trace.in_flight),
        "failed": failed is not None and outcome != "recovered",
        "node": "",
        "error": "",
        "place": "",
    }
    if failed is not None:
        error = failed.step.error
        kind = type_name(text_in(details_of(error), "type")) if error is not None else ""
        message = shortened(error.message.partition("\n")[0], _MESSAGE) if error is not None else ""
        number = "" if failed.number is None else f" #{failed.number}"
        facts |= {"node": f"{step_name(failed.step)}{number}", "error": ": ".join(filter(None, (kind, message)))}
        facts |= {"place": location_of(failed.step, traced_folders(trace))}
    return facts
