"""The texts in a trace that come from the program: of threads, errors, issues and logs, and the lines that failed.

The source round the lines that an error came through is there for a trace that is read where the program is not. It is
read when a trace of a failure is written, and never in a call.
"""

from __future__ import annotations

import linecache
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from flowtrace.host import log
from flowtrace.host.signals import let_through
from flowtrace.host.system import CLOCK, os
from flowtrace.recording.node import lines_of
from flowtrace.trace import model
from flowtrace.trace.files import Stamp, stamp_of
from flowtrace.trace.model import SourceLines
from flowtrace.values.redaction import SecretNames
from flowtrace.values.scrub import Scrubber, without_lookalikes

if TYPE_CHECKING:
    from flowtrace.recording.logs import StepLogs
    from flowtrace.recording.step import Step

MOST_EXCERPTS: Final = 6
MOST_CALLERS: Final = 20
_BEFORE: Final = 6
_AFTER: Final = 3
_WIDTH: Final = 200
_MOST_BYTES: Final = 1 << 20  # of a source file
_read_before: Final[dict[str, Any]] = linecache.cache
_STANDARD_LIBRARY: Final = os.path.dirname(os.__file__) + os.sep
_INSTALLED: Final = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


def source_of(number: int, steps: Iterable[Step], scrubber: Scrubber) -> list[SourceLines]:
    """Return the lines round the program's own frames of an error, and of its causes, in the step where it began.

    After these come the lines of the steps around it that the error went through.

    Args:
        number: of the step; 0 for none.
        steps: those of the trace.
        scrubber: takes secrets out of a text.

    Returns:
        A few excerpts, the innermost first; none where there is no source. A fault of ours is logged.
    """
    if not number:
        return []
    try:
        by_number = {step.number: step for step in steps}
        locations: dict[tuple[str, int], None] = {}
        step = by_number.get(number)
        for _ in range(MOST_CALLERS):
            if step is None or step.failure is None:
                break
            locations.update(dict.fromkeys(_locations(step)))
            step = by_number.get(step.parent)
        return _excerpts(list(locations), scrubber)
    except Exception as error:
        log.internal_fault("read the source of a failure", error)
        return []


def _locations(step: Step) -> list[tuple[str, int]]:
    """Return file and line of the program's own frames, innermost first, and of the last one of each cause."""
    details = (step.failure.details if step.failure is not None else None) or {}
    own = [frame for frame in details.get("frames", ()) if _is_own(frame)]
    found = list(reversed(own))
    for item in (*details.get("causes", ()), *details.get("exceptions", ())):
        found += [frame for frame in item.get("frames", ()) if _is_own(frame)][-1:]
    return [(frame["file"], frame["line"]) for frame in found if isinstance(frame["line"], int)]


def _is_own(frame: dict[str, Any]) -> bool:
    file = frame.get("file")
    if not isinstance(file, str) or file.startswith("<"):
        return False
    return not file.startswith(_STANDARD_LIBRARY) and not any(part in file for part in _INSTALLED)


def _excerpts(locations: list[tuple[str, int]], scrubber: Scrubber) -> list[SourceLines]:
    found: list[SourceLines] = []
    for file, line in locations:
        if len(found) == MOST_EXCERPTS:
            break
        if any(item.file == file and item.line <= line < item.line + len(item.lines) for item in found):
            continue  # an excerpt that is there shows it
        excerpt = _excerpt(file, line, scrubber)
        if excerpt is not None:
            found.append(excerpt)
    return found


def _excerpt(file: str, line: int, scrubber: Scrubber) -> SourceLines | None:
    """Return the lines round a line; None where there are none, or where hiding a secret has moved them."""
    wanted = _lines_round(file, line)
    if wanted is None:
        return None
    shown = seen_often(scrubber.without_secrets(wanted), scrubber.secret)
    if shown.count("\n") != wanted.count("\n"):
        return None
    start = max(line - _BEFORE, 1)
    return SourceLines(file=file, line=start, lines=shown.split("\n"))  # a frame has the same name


def _lines_round(file: str, line: int) -> str | None:
    """Return the lines round a line of a file; None where there are none."""
    try:
        status = os.stat(file)
        if status.st_size > _MOST_BYTES:
            return None
        entry = _read_before.get(file, ())
        is_put_there = len(entry) > 1 and entry[1] is None  # by a program, which may put others there
        read = _read_round.__wrapped__ if is_put_there else _read_round
        return read(file, line, stamp_of(status))
    except Exception as error:  # no source, or none that can be read
        let_through(error)
        return None


@lru_cache(maxsize=64)
def _read_round(file: str, line: int, _version: Stamp) -> str | None:
    lines = lines_of(file, None, "")
    if not 1 <= line <= len(lines):
        return None
    start = max(line - _BEFORE, 1)
    return "\n".join(text.rstrip("\r\n")[:_WIDTH] for text in lines[start - 1 : line + _AFTER])


# --- in the record of a step


@lru_cache(maxsize=256)
def seen_often(text: str, secret: SecretNames) -> str:
    """Return a text without what looks like a secret in it: one that many traces have, as the name of a thread."""
    return without_lookalikes(text, secret)


def add_logs(record: model.Step, logs: StepLogs) -> None:
    """Add a step's log records to its record; secrets are still in their texts."""
    lines = logs.lines.copy()
    record.logs = [
        model.LogEntry(
            logged_at=CLOCK.timestamp(line.time),
            level=line.level,
            logger=line.logger or None,
            message=line.message,
            error=line.error,
        )
        for line in lines
    ]
    record.dropped_logs = max(0, logs.total - len(lines)) or None


def scrubbed_step(record: model.Step, scrubber: Scrubber) -> model.Step:
    """Return a step's record without secrets in the texts that came from the program."""
    error = None if record.error is None else scrubbed_error(record.error, scrubber)
    issues = [scrubbed_issue(issue, scrubber) for issue in record.validation_issues]
    logs = [_scrubbed_log(entry, scrubber) for entry in record.logs]
    return model.changed(record, error=error, validation_issues=issues, logs=logs)


def scrubbed_error(error: model.StepError, scrubber: Scrubber) -> model.StepError:
    """Return an error without secrets in it."""
    message, details = scrubber.text(error.message), scrubber.scrubbed(error.details)
    return model.StepError(code=error.code, message=message, details=details)


def scrubbed_issue(issue: model.ValidationIssue, scrubber: Scrubber) -> model.ValidationIssue:
    """Return a validation issue without secrets in it."""
    return model.ValidationIssue(scrubber.text(issue.code), scrubber.text(issue.path), scrubber.text(issue.message))


def _scrubbed_log(entry: model.LogEntry, scrubber: Scrubber) -> model.LogEntry:
    texts = {name: getattr(entry, name) for name in ("level", "logger", "message", "error")}
    return model.changed(entry, **{name: text and scrubber.text(text) for name, text in texts.items()})
