"""The texts in a step's record that come from the program, of its thread, error, issues and logs."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from flowtrace.host.system import CLOCK
from flowtrace.trace import model
from flowtrace.values.redaction import SecretNames
from flowtrace.values.scrub import Scrubber, without_lookalikes

if TYPE_CHECKING:
    from flowtrace.recording.logs import StepLogs


@lru_cache(maxsize=256)
def thread_name(name: str, secret: SecretNames) -> str:
    """Return the name of a thread without what looks like a secret in it."""
    return without_lookalikes(name, secret)


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
    error = record.error
    if error is not None:
        error = model.StepError(
            code=error.code, message=scrubber.text(error.message), details=scrubber.scrubbed(error.details)
        )
    issues = [scrubbed_issue(issue, scrubber) for issue in record.validation_issues]
    logs = [_scrubbed_log(entry, scrubber) for entry in record.logs]
    return model.changed(record, error=error, validation_issues=issues, logs=logs)


def scrubbed_issue(issue: model.ValidationIssue, scrubber: Scrubber) -> model.ValidationIssue:
    """Return a validation issue without secrets in it."""
    return model.ValidationIssue(scrubber.text(issue.code), scrubber.text(issue.path), scrubber.text(issue.message))


def _scrubbed_log(entry: model.LogEntry, scrubber: Scrubber) -> model.LogEntry:
    texts = {name: getattr(entry, name) for name in ("level", "logger", "message", "error")}
    return model.changed(entry, **{name: text and scrubber.text(text) for name, text in texts.items()})
