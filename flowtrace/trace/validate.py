"""Checking a trace file: is it JSON, is it version 1, and does it contradict itself?"""

from __future__ import annotations

from typing import BinaryIO, NamedTuple, cast

from flowtrace.errors import TraceFileError
from flowtrace.host.system import os
from flowtrace.trace import model, reading
from flowtrace.trace.files import open_trace
from flowtrace.trace.findings import Finding, FirstOfEach, Severity, error
from flowtrace.trace.flat_records import NO_INPUT, from_flat, is_flat
from flowtrace.trace.repeated_keys import KeyCounts, repeated_keys
from flowtrace.trace.rules import Rules, inconsistencies, of_envelope
from flowtrace.trace.step_texts import StepTexts


class Checked(NamedTuple):
    """A trace file that was checked.

    Attributes:
        findings: what was found; the file is valid where no finding is an error.
        steps: how many steps ended; None where it is not a version 1 trace.
        flat: the trace that is made from it, where it is a flat one-step record.
    """

    findings: list[Finding]
    steps: int | None
    flat: model.Trace | None = None

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
        return FirstOfEach(inconsistencies(trace, None)).listed()
    path = os.fspath(trace)
    with open_trace(path) as file:
        return check(file, path, path).findings


def check(file: BinaryIO, name: str, path: str | None) -> Checked:
    """Check the content of a trace file.

    Args:
        file: is open, and can be read twice.
        name: its name in findings.
        path: the file, to find its payload files; None where it is not known.
    """
    try:
        found = _step_by_step(file, name, path)
    except reading.UNREADABLE:
        found = None
    return found or _at_once(reading.all_of(file, name), name, path)


def _step_by_step(file: BinaryIO, name: str, path: str | None) -> Checked | None:
    """Check a trace without keeping the records of its steps; None where it has to be said what it is.

    Raises:
        DecodeError, UnicodeDecodeError, RecursionError: the same.
    """
    texts, rules, keys, found = StepTexts(file), Rules(path), KeyCounts(), FirstOfEach()
    for text in texts:
        step = reading.step_in(text)
        keys.look(text, step)
        found.add(rules.of_step(step))
    trace = reading.unread_trace(texts.envelope, texts.is_split)
    if trace is None:
        return None
    keys.look_at_document(texts.envelope)
    for raw in cast("list[model.Raw]", trace.steps):
        found.add(rules.of_step(reading.step_of(raw)))
    trace.in_flight = [reading.step_of(raw) for raw in cast("list[model.Raw]", trace.in_flight)]
    steps = rules.finished
    every = FirstOfEach(_repeated(reading.all_of(file, name)) if keys.may_repeat else ())
    for part in (of_envelope(trace), found, rules.of_the_rest(trace)):
        every.add(part)
    return Checked(every.listed(), steps)


def _at_once(data: bytes, name: str, path: str | None) -> Checked:
    """Check what has unknown fields, is a flat record, or is no trace."""
    try:
        document = reading.parse_document(data, name)
    except TraceFileError as refusal:
        return Checked([_refusal(refusal, "not-a-trace")], None)
    try:
        if is_flat(document):
            return _flat(document, name, _repeated(data))
        trace = reading.from_document(document, name)
    except TraceFileError as refusal:
        found = [] if is_flat(document) else reading.problems(document)
        fields = FirstOfEach(error("field", pointer, reason) for pointer, reason in found)
        return Checked(fields.listed() or [_refusal(refusal, "field")], None)
    every = FirstOfEach(_repeated(data))
    every.add(inconsistencies(trace, path))
    return Checked(every.listed(), len(trace.steps))


def _repeated(data: bytes) -> list[Finding]:
    """Return a finding for each key that an object has more than once, of which readers take one or another."""
    message = "is there more than once: readers differ in which one they take"
    return [error("repeated-key", pointer, message) for pointer in repeated_keys(data)]


def _refusal(refusal: TraceFileError, code: str) -> Finding:
    return error(code, refusal.pointer, refusal.reason)


def _flat(document: dict[str, object], name: str, findings: list[Finding]) -> Checked:
    trace = from_flat(document, name)
    findings = [*findings, Finding(Severity.NOTE, "flat-record", "", "is a flat one-step record")]
    if document.get("input_hash") is None:
        findings.append(Finding(Severity.WARNING, "no-input-hash", "/input_hash", NO_INPUT))
    return Checked(findings, len(trace.steps), trace)
