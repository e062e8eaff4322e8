"""Findings: each names something wrong or notable in a trace file, and where it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Final


class Severity(StrEnum):
    """How bad a finding is.

    ``ERROR``: the file is not a trace, or contradicts itself. ``WARNING``: it may confuse a reader. ``NOTE``: good to
    know.
    """

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong or notable in a trace file.

    Attributes:
        severity: how bad it is.
        code: machine-readable kind, such as ``"hash-mismatch"``.
        pointer: JSON Pointer (RFC 6901) of the value that it is about; ``""`` is the document itself.
        message: the same for people.
    """

    severity: Severity
    code: str
    pointer: str
    message: str

    def to_json(self) -> dict[str, str]:
        """Return this as JSON-like objects."""
        return asdict(self) | {"severity": str(self.severity)}


Findings = Iterator[Finding]
MAX_FINDINGS: Final = 1000
"""Of each severity, more are left out."""


def error(code: str, pointer: str, message: str) -> Finding:
    """Return an error."""
    return Finding(Severity.ERROR, code, pointer, message)


def warning(code: str, pointer: str, message: str) -> Finding:
    """Return a warning."""
    return Finding(Severity.WARNING, code, pointer, message)


class FirstOfEach:
    """The first findings of each severity: many warnings must not hide an error.

    Attributes:
        kept: these findings, in their order.
    """

    def __init__(self, findings: Iterable[Finding] = ()) -> None:
        self.kept: list[Finding] = []
        self._counts = dict.fromkeys(Severity, 0)
        self.add(findings)

    def add(self, findings: Iterable[Finding] | FirstOfEach) -> None:
        """Add findings that come after these; of those that were gathered so, the ones that are left out count, too."""
        if isinstance(findings, FirstOfEach):
            self.add(findings.kept)
            for finding in findings.kept:
                findings._counts[finding.severity] -= 1
            for severity, count in findings._counts.items():
                self._counts[severity] += count
            return
        for finding in findings:
            self._counts[finding.severity] += 1
            if self._counts[finding.severity] <= MAX_FINDINGS:
                self.kept.append(finding)

    def listed(self) -> list[Finding]:
        """Return the findings, and where some are left out, at the end a note that says how many."""
        left_out = sum(self._counts.values()) - len(self.kept)
        note = [Finding(Severity.NOTE, "more", "", f"{left_out} more findings are left out")] if left_out else []
        return self.kept + note
