"""Checking a trace file: is it JSON, is it version 1, and does it contradict itself?"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain
from typing import Final, NamedTuple

from flowtrace.errors import TraceFileError
from flowtrace.host.system import os
from flowtrace.trace import model, reading
from flowtrace.trace.files import read_trace_bytes
from flowtrace.trace.flat_records import NO_INPUT, from_flat, is_flat
from flowtrace.trace.repeated_keys import repeated_keys
from flowtrace.trace.rules import Finding, Severity, inconsistencies

MAX_FINDINGS: Final = 1000  # of each severity


class Checked(NamedTuple):
    """A trace file that was checked.

    Attributes:
        findings: what was found; the file is valid where no finding is an error.
        trace: its records; None where it is not a version 1 trace.
        is_flat: it is a flat one-step record, and ``trace`` is the trace made from it.
    """

    findings: list[Finding]
    trace: model.Trace | None
    is_flat: bool = False

    @property
    def is_valid(self) -> bool:
        """Whether there are no errors."""
        return all(finding.severity is not Severity.ERROR for finding in self.findings)


def validate(trace: model.Trace | str | os.PathLike[str]) -> list[Finding]:
    """Check a trace: the types of its fields, and whether it contradicts itself.

    Hashes are computed again where the complete value was captured, with nothing hidden and no key. Payload files are
    read only inside the trace's folder, and never through a link. Flat one-step records are checked too.

    Args:
        trace: the path of a trace file, or a trace in memory, whose payload files can't be checked.

    Returns:
        What was found, in the order of the checks, at most 1,000 findings of each severity; an empty list for a
        perfect trace.

    Raises:
        TraceFileError: the path is that of a device or a pipe, or the file is larger than 256 MiB.
        OSError: the file can't be read.
    """
    if isinstance(trace, model.Trace):
        return _first_of_each(inconsistencies(trace, None))
    path = os.fspath(trace)
    return check(partial(read_trace_bytes, path), path, path).findings


def check(read: Callable[[], bytes], name: str, path: str | None) -> Checked:
    """Check the content of a trace file.

    Args:
        read: gives the content, which is not kept while the records are checked.
        name: its name in findings.
        path: the file, to find its payload files; None where it is not known.
    """
    found = _records(read(), name)
    if found.trace is None or found.is_flat:
        return found
    return found._replace(findings=_first_of_each(chain(found.findings, inconsistencies(found.trace, path))))


def _records(data: bytes, name: str) -> Checked:
    """Return the records of a file with the keys that are there again, or else what is wrong with it."""
    trace = reading.typed(data)
    if trace is not None:
        return Checked(_repeated(data), trace)
    try:
        document = reading.parse_document(data, name)
    except TraceFileError as error:
        return Checked([_refusal(error, "not-a-trace")], None)
    try:
        if is_flat(document):
            return _flat(document, name, _repeated(data))
        return Checked(_repeated(data), reading.from_document(document, name))
    except TraceFileError as error:
        found = [] if is_flat(document) else reading.problems(document)
        fields = (Finding(Severity.ERROR, "field", pointer, reason) for pointer, reason in found)
        return Checked(_first_of_each(fields) or [_refusal(error, "field")], None)


def _repeated(data: bytes) -> list[Finding]:
    """Return a finding for each key that an object has more than once, of which readers take one or another."""
    message = "is there more than once: readers differ in which one they take"
    return [Finding(Severity.ERROR, "repeated-key", pointer, message) for pointer in repeated_keys(data)]


def _refusal(error: TraceFileError, code: str) -> Finding:
    return Finding(Severity.ERROR, code, error.pointer, error.reason)


def _flat(document: dict[str, object], name: str, findings: list[Finding]) -> Checked:
    trace = from_flat(document, name)
    findings = [*findings, Finding(Severity.NOTE, "flat-record", "", "is a flat one-step record")]
    if document.get("input_hash") is None:
        findings.append(Finding(Severity.WARNING, "no-input-hash", "/input_hash", NO_INPUT))
    return Checked(findings, trace, is_flat=True)


def _first_of_each(findings: Iterable[Finding]) -> list[Finding]:
    """Return the first findings of each severity: many warnings must not hide an error."""
    kept: list[Finding] = []
    counts = dict.fromkeys(Severity, 0)
    for finding in findings:
        counts[finding.severity] += 1
        if counts[finding.severity] <= MAX_FINDINGS:
            kept.append(finding)
    left_out = sum(counts.values()) - len(kept)
    if left_out:
        kept.append(Finding(Severity.NOTE, "more", "", f"{left_out} more findings are left out"))
    return kept
