"""A trace as Markdown (that of GitHub): for the summary of a CI job, an issue, or a coding agent.

What comes from the trace stands in code, where nothing in it is markup.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from flowtrace.cli.common import printable, printable_lines, several
from flowtrace.cli.step_text import (
    UNICODE,
    details_of,
    duration_of,
    flow_text,
    frame_text,
    frames_of,
    items_in,
    libraries_text,
    outcome_of,
    related_errors,
    step_name,
    text_in,
    traced_folders,
    values_of,
    verdict,
)
from flowtrace.cli.why import sentence
from flowtrace.trace.outline import Entry, log_lines
from flowtrace.values.shown import value_text

if TYPE_CHECKING:
    from pathlib import Path

    from flowtrace.trace.model import Trace

_VALUE_LENGTH: Final = 80
_BLOCK_LENGTH: Final = 4000
_SENTENCE_LENGTH: Final = 2000
_MOST_STEPS: Final = 200  # the summary of a job on GitHub takes 1 MiB


def markdown(
    name: str, trace: Trace, entries: list[Entry], failed: Entry | None, path: Path | None = None
) -> Iterator[str]:
    """Yield the lines of a page about a trace.

    Args:
        name: of the trace.
        trace: the trace.
        entries: the steps that are shown.
        failed: the one where the failure began; None where nothing failed.
        path: the trace's file, to find its payload files; None where it is not known.
    """
    folders = traced_folders(trace)
    text, state = verdict(trace, failed, folders)
    yield f"### {getattr(UNICODE, state)} {_code(text, 300)}"
    yield ""
    yield ", ".join(_origin(name, trace, failed)) + "."
    yield ""
    yield "| step | | node | time | input | output |"
    yield "| ---: | --- | --- | ---: | --- | --- |"
    yield from (_row(entry, failed) for entry in entries[-_MOST_STEPS:])
    if len(entries) > _MOST_STEPS:
        yield ""
        yield f"{several(len(entries) - _MOST_STEPS, 'earlier step')} left out."
    if failed is not None:
        yield ""
        yield from _block("text", _error_lines(failed, folders))
        why = sentence(trace, failed.step, path)
        if why:
            yield ""
            yield f"Why: {_code(why.replace('`', ''), _SENTENCE_LENGTH)}"
        logs = log_lines(failed.step)
        if logs:
            yield ""
            yield f"Last log records of step {_title(failed)}:"
            yield ""
            yield from _block("text", [" ".join(printable_lines(line)) for _, line in logs])
        for label, value in values_of(failed.step):
            yield ""
            yield f"{label.capitalize()} of step {_title(failed)}:"
            yield ""
            yield from _block("python", [value_text(value)])


def _origin(name: str, trace: Trace, failed: Entry | None) -> Iterator[str]:
    yield f"{_code(outcome_of(trace, failed))}, {_code(flow_text(trace))}"
    yield f"trace {_code(name)}"
    yield f"pack {_code(trace.pack.pack_ref)}"
    if trace.git_sha:
        yield f"commit {_code(trace.git_sha)}"
    if trace.run is not None:
        yield f"Python {_code(trace.run.python)}"
        yield f"started {_code(trace.run.started_at)}"
    if trace.dropped_steps:
        yield f"{several(trace.dropped_steps, 'earlier step')} not kept"


def _row(entry: Entry, failed: Entry | None) -> str:
    values = dict(values_of(entry.step))
    guide = "  " * (entry.depth - 1) + "└ " if entry.depth else ""
    here = f" {UNICODE.here}" if failed is not None and entry.pointer == failed.pointer else ""
    other = " (another run)" if entry.step.run_id is not None else ""
    cells = [
        "" if entry.number is None else str(entry.number),
        getattr(UNICODE, entry.state),
        _code(guide + step_name(entry.step)) + here + other,
        duration_of(entry),
        *(_code(value_text(values[label]), _VALUE_LENGTH) if label in values else "" for label in ("input", "output")),
    ]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _title(entry: Entry) -> str:
    return _code(step_name(entry.step)) if entry.number is None else str(entry.number)


def _error_lines(entry: Entry, folders: frozenset[str]) -> Iterator[str]:
    step = entry.step
    if step.error is not None:
        details = details_of(step.error)
        kind = text_in(details, "type")
        yield from printable_lines(f"{kind}: {step.error.message}" if kind else step.error.message)
        for line in related_errors(details):
            yield from (f"  {text}" for text in printable_lines(line))
        for note in items_in(details, "notes", str):
            yield from (f"  note: {text}" for text in printable_lines(note))
        frames = frames_of(details, folders)
        yield from (f"  {frame_text(frame)}" for frame in frames.own or frames.every)
        if frames.own and frames.libraries:
            yield f"  {libraries_text(frames.libraries)}"
    for issue in step.validation_issues:
        yield f"! {printable(issue.code)} at {printable(issue.path)}: {printable(issue.message)}"


def _code(text: str, length: int = 300) -> str:
    """Return a text as code on one line, cut where it is longer than that."""
    text = printable(text if len(text) <= length else f"{text[:length]}…")
    ticks = "`" * (_longest_run(text) + 1)
    space = " " if text.startswith("`") or text.endswith("`") or not text.strip() else ""
    return f"{ticks}{space}{text}{space}{ticks}" if text else ""


def _block(language: str, lines: Iterator[str] | list[str]) -> Iterator[str]:
    text = printable_lines("\n".join(lines)[:_BLOCK_LENGTH])
    fence = "`" * max(3, max(map(_longest_run, text), default=0) + 1)
    yield fence + language
    yield from text
    yield fence


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)
