"""`flowtrace ci`: what failed, where a CI system shows it: the job's summary, a page to keep, and the failing line.

GitHub's commands: https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands, and their escapes:
https://github.com/actions/toolkit/blob/main/packages/core/src/command.ts. GitLab's report of code quality:
https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from flowtrace.cli.common import (
    EXIT_OK,
    Command,
    collector_off,
    configured_trace,
    json_text,
    newest_traces,
    printable,
    say,
    several,
    write_output,
)
from flowtrace.errors import FlowtraceError
from flowtrace.trace.outline import failed_entry, outline

if TYPE_CHECKING:
    from flowtrace.trace.model import Step, Trace
    from flowtrace.trace.outline import Entry

_PYTEST_FOLDER: Final = ".flowtrace"
_MOST: Final = 10
"""Traces that are reported: GitHub shows no more than 10 errors of a step."""
_SUMMARY_BYTES: Final = 1_000_000
"""Of all summaries of a step together; GitHub takes 1 MiB, and of a longer one nothing."""
_MESSAGE: Final = 1000
_SUMMARY: Final = "summary.md"
_QUALITY: Final = "gl-code-quality-report.json"
_OVER_WELL: Final = ("ok", "recovered", "slow")
_ESCAPES: Final = {"%": "%25", "\r": "%0D", "\n": "%0A"}
_ESCAPES_OF_PROPERTIES: Final = _ESCAPES | {":": "%3A", ",": "%2C"}


class _Failure(NamedTuple):
    """A trace of something that failed.

    Attributes:
        path: its file.
        trace: the trace.
        entries: its steps.
        failed: the one in which it began.
        line: where that was: a file, relative to the repository, and a line; None where it was not in the repository.
        message: the error, without secrets, on one line.
    """

    path: Path
    trace: Trace
    entries: list[Entry]
    failed: Entry
    line: tuple[str, int] | None
    message: str


@click.command(
    "ci",
    cls=Command,
    examples="""
    flowtrace ci
    flowtrace ci .flowtrace -o flowtrace-report
    flowtrace ci --system gitlab artifacts/trace.json
    """,
)
@click.option(
    *("-o", "--output"), "folder", metavar="FOLDER", default="flowtrace-report", show_default=True,
    type=click.Path(file_okay=False), help="The folder to keep: the pages, and the summary.",
)  # fmt: skip
@click.option(
    "--system", type=click.Choice(["github", "gitlab", "none"]), help="The CI system (default: as its variables say)."
)
@click.argument("traces", metavar="TRACE", type=click.Path(path_type=Path), nargs=-1)
def command(folder: str, system: str | None, traces: Sequence[Path]) -> int:
    """Report failures to the CI system: a summary of the job, an HTML page for each, and the failing line.

    TRACE is a trace, or a folder: all traces in it. Without any, it is the folder .flowtrace, which pytest's plugin
    fills, or else where the program writes (FLOWTRACE_OUT, or trace.json). Of many failures, 10 are reported: of a
    folder, the newest.

    On GitHub Actions it appends to the job's summary, annotates the failing lines, and sets the output `failed`. For
    GitLab it writes a report of code quality. Everywhere, the pages and `summary.md` are in the folder.

    Exit code 0, whether or not something failed: that is said by the job that failed.
    """
    system = system or _system()
    with collector_off():
        failures, left_out = _failures(traces or _usual_traces())
        summary = _summary(failures, left_out, _room() if system == "github" else _SUMMARY_BYTES)
        for failure, name in zip(failures, _names(failures), strict=True):
            from flowtrace.cli.page.trace_page import trace_page

            page = trace_page(failure.path.name, failure.trace, failure.path)
            write_output(os.path.join(folder, name), page.encode(), [item.path for item in failures])
    write_output(os.path.join(folder, _SUMMARY), summary.encode(), [])
    if system == "github":
        _report_to_github(failures, left_out, summary)
    elif system == "gitlab":
        report = json_text([_quality_issue(failure) for failure in failures])
        write_output(os.path.join(folder, _QUALITY), report, [])
    count = several(len(failures) + left_out, "failure")
    click.echo(f"flowtrace: {count}, reported in {_log_text(folder)}")
    return EXIT_OK


def _system() -> str:
    found = (
        name for name, variable in (("github", "GITHUB_ACTIONS"), ("gitlab", "GITLAB_CI")) if os.environ.get(variable)
    )
    return next(found, "none")


# --- the failures


def _usual_traces() -> list[Path]:
    if os.path.isdir(_PYTEST_FOLDER) and not os.environ.get("FLOWTRACE_OUT"):
        return [Path(_PYTEST_FOLDER)]
    try:
        path = configured_trace().path
    except click.BadParameter:  # the job failed before it could write one
        return []
    return [] if path is None else [path]


def _failures(named: Sequence[Path]) -> tuple[list[_Failure], int]:
    """Return the newest failures among some traces, and how many more there are. What can't be read is said."""
    found: list[_Failure] = []
    left_out = 0
    for path in [file for item in named for file in (newest_traces(item) if item.is_dir() else [item])]:
        failure = _failure(path)
        if failure is not None and len(found) < _MOST:
            found.append(failure)
        elif failure is not None:
            left_out += 1
    return found, left_out


def _failure(path: Path) -> _Failure | None:
    from flowtrace.cli.step_text import outcome_of, traced_folders, verdict
    from flowtrace.trace.reading import load_trace

    try:
        trace = load_trace(path)
    except (FlowtraceError, OSError) as error:
        reason = f"{path}: {error.strerror}" if isinstance(error, OSError) else str(error)
        say(_log_text(reason))
        return None
    entries = outline(trace)
    failed = failed_entry(trace, entries)
    if failed is None or outcome_of(trace, failed) in _OVER_WELL:
        return None
    text, _ = verdict(trace, failed, traced_folders(trace))
    return _Failure(path, trace, entries, failed, _line_of(trace, failed.step), _scrubbed(text))


def _scrubbed(text: str) -> str:
    """Return a text without what looks like a secret: another version of flowtrace may have written it."""
    from flowtrace.values.redaction import secret_names
    from flowtrace.values.scrub import without_lookalikes

    return without_lookalikes(printable(text[: 4 * _MESSAGE]), secret_names())[:_MESSAGE]


def _line_of(trace: Trace, step: Step) -> tuple[str, int] | None:
    """Return the innermost line of the repository's own code that an error came through, or else its function's."""
    from flowtrace.cli.step_text import details_of, frames_of, traced_folders

    frames = [] if step.error is None else frames_of(details_of(step.error), traced_folders(trace)).own
    lines = [(frame.get("file"), frame.get("line")) for frame in reversed(frames)]
    if step.code is not None:
        lines.append((step.code.file, step.code.line))
    root = os.path.realpath(os.environ.get("GITHUB_WORKSPACE") or os.environ.get("CI_PROJECT_DIR") or os.curdir)
    for file, line in lines:
        if isinstance(file, str) and type(line) is int and line > 0 and (relative := _inside(root, file)):
            return relative, line
    return None


def _inside(root: str, file: str) -> str | None:
    try:
        path = os.path.realpath(file)
        inside = os.path.commonpath([root, path]) == root and os.path.isfile(path)
    except (OSError, ValueError):  # another drive, or no path at all
        return None
    return os.path.relpath(path, root).replace(os.sep, "/") if inside else None


# --- what is written


def _names(failures: list[_Failure]) -> Iterator[str]:
    """Yield a name for the page of each failure."""
    used: set[str] = set()
    for failure in failures:
        stem = name = failure.path.stem
        number = 1
        while name in used:
            number += 1
            name = f"{stem}-{number}"
        used.add(name)
        yield f"{name}.html"


def _room() -> int:
    path = os.environ.get("GITHUB_STEP_SUMMARY", "")
    return _SUMMARY_BYTES - (os.path.getsize(path) if os.path.isfile(path) else 0)


def _summary(failures: list[_Failure], left_out: int, room: int) -> str:
    """Return the Markdown of all failures that there is room for."""
    from flowtrace.cli.markdown_view import markdown

    written: list[str] = []
    for failure in failures:
        lines = markdown(failure.path.name, failure.trace, failure.entries, failure.failed, failure.path)
        text = "".join(f"{line}\n" for line in lines) + "\n"
        room -= len(text.encode())
        if room < _MESSAGE:
            break
        written.append(text)
    missing = len(failures) - len(written) + left_out
    more = f"{several(missing, 'more failure')}: see the pages that this job keeps.\n" if missing else ""
    return "".join(written) + more or "flowtrace: nothing failed.\n"


def _report_to_github(failures: list[_Failure], left_out: int, summary: str) -> None:
    for failure in failures:
        click.echo(_annotation(failure))
    _append("GITHUB_STEP_SUMMARY", summary)
    _append("GITHUB_OUTPUT", f"failed={len(failures) + left_out}\n")


def _append(variable: str, text: str) -> None:
    """Append to a file that the runner reads after the step."""
    if path := os.environ.get(variable):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)


def _annotation(failure: _Failure) -> str:
    """Return the command that shows an error at a line. Nothing in a text can end it or begin another one."""
    properties = {"title": f"flowtrace: {printable(failure.failed.step.node_id)[:100]}"}
    if failure.line is not None:
        properties = {"file": failure.line[0], "line": str(failure.line[1])} | properties
    listed = ",".join(f"{name}={_escaped(value, _ESCAPES_OF_PROPERTIES)}" for name, value in properties.items())
    return f"::error {listed}::{_escaped(failure.message, _ESCAPES)}"


def _escaped(text: str, escapes: dict[str, str]) -> str:
    return "".join(escapes.get(character, character) for character in text)


def _log_text(text: str) -> str:
    """Return a text for a line of a log that GitHub reads commands in: ``##[command]`` may stand anywhere in it."""
    return printable(text).replace("##[", "## [")


def _quality_issue(failure: _Failure) -> dict[str, Any]:
    """Return a failure as GitLab shows it at a merge request; the fingerprint stays the same where lines move."""
    file, line = failure.line or (failure.path.name, 1)
    node = failure.failed.step.node_id
    return {
        "description": failure.message,
        "check_name": "flowtrace",
        "fingerprint": hashlib.sha256(f"{file}\0{node}\0{failure.path.stem}".encode()).hexdigest(),
        "severity": "critical",
        "location": {"path": file, "lines": {"begin": line}},
    }
