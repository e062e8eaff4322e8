"""The rules that the records of a trace must keep, and the findings where one is broken.

An error is a contradiction that no recorder writes. A warning is something that may confuse a reader, or that can
happen in a correct trace.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, Final, NamedTuple

from flowtrace.errors import PayloadFileError, pointer_token
from flowtrace.host.system import parse_timestamp
from flowtrace.trace.model import INPUT, OUTPUT, STATE_DELTA, UNSET, Hash, Run, Step, Trace, is_within
from flowtrace.trace.payload_files import holds_what_its_name_says, read_payload
from flowtrace.values.encode import TAG
from flowtrace.values.encoded import ALGORITHM, CUT_REASONS, KEYED_ALGORITHM, hash_bytes
from flowtrace.values.json import bytes_of_tree, loads
from flowtrace.values.redaction import MARKER

_DIED: Final = "process_died"
ERROR_CODES: Final = (
    *("node_error", "flow_error", "node_cancelled", "node_interrupted", "invocation_validation_failed"),
    _DIED,
)
OUTCOMES: Final = ("failed", "recovered", "ok", "interrupted", "snapshot", "slow")
_HEX_64: Final = re.compile("[0-9a-f]{64}", re.ASCII).fullmatch
_HEX_32: Final = re.compile("[0-9a-f]{32}", re.ASCII).fullmatch
_HEX_16: Final = re.compile("[0-9a-f]{16}", re.ASCII).fullmatch
_ALGORITHMS: Final = (ALGORITHM, KEYED_ALGORITHM)
_MICROSECOND: Final = 1_000  # nanoseconds; times are cut to whole ones


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


def _error(code: str, pointer: str, message: str) -> Finding:
    return Finding(Severity.ERROR, code, pointer, message)


def _warning(code: str, pointer: str, message: str) -> Finding:
    return Finding(Severity.WARNING, code, pointer, message)


def inconsistencies(trace: Trace, path: str | None) -> Findings:
    """Yield what is wrong in a trace whose fields all have the right types.

    Args:
        trace: its records.
        path: its file, to find its payload files; None where it is not known.
    """
    steps = _Steps.of(trace)
    if trace.dropped_steps is not None and trace.dropped_steps < 0:
        yield _error("negative", "/dropped_steps", "is negative")
    if trace.run is not None:
        yield from _run(trace.run)
    files = _PayloadFiles(path)
    for at, step in enumerate(steps.records):
        pointer = steps.pointer(at)
        yield from _step(pointer, step, steps.started[at])
        yield from _values(pointer, step, files)
    for at, step in enumerate(trace.in_flight):
        yield from _in_flight(f"/in_flight/{at}", step)
    yield from _parents(steps, bool(trace.dropped_steps))
    yield from _order(steps)
    yield from _failed_step(trace, steps.records)
    if trace.run is not None:
        yield from _inside_run(trace.run, steps)


class _Steps(NamedTuple):
    """The steps of a trace.

    Attributes:
        records: those that finished, then those that were in flight.
        started: when each began, in ns; None where the trace does not say.
        finished: how many finished.
    """

    records: list[Step]
    started: list[int | None]
    finished: int

    @classmethod
    def of(cls, trace: Trace) -> _Steps:
        records = [*trace.steps, *trace.in_flight]
        return cls(records, [parse_timestamp(step.started_at) for step in records], len(trace.steps))

    def ended(self, at: int) -> int | None:
        """Return when a step ended, in ns; None where the trace does not say."""
        started, duration = self.started[at], self.records[at].duration_ns
        return None if started is None or duration is None else started + duration

    def pointer(self, at: int) -> str:
        """Return the JSON Pointer of a step."""
        return f"/steps/{at}" if at < self.finished else f"/in_flight/{at - self.finished}"


# --- one record


def _run(run: Run) -> Findings:
    if not _HEX_32(run.id):
        yield _warning("id-form", "/run/id", "is not 32 lowercase hex digits")
    if run.outcome not in OUTCOMES:
        yield _warning("unknown-outcome", "/run/outcome", f"is none of {', '.join(OUTCOMES)}")
    started, ended = parse_timestamp(run.started_at), parse_timestamp(run.ended_at)
    if started is None:
        yield _error("time-form", "/run/started_at", "is not an RFC 3339 time")
    if run.ended_at is not None and ended is None:
        yield _error("time-form", "/run/ended_at", "is not an RFC 3339 time")
    if started is not None and ended is not None and ended < started:
        yield _error("time-order", "/run/ended_at", "is before the run began")


def _step(pointer: str, step: Step, started: int | None) -> Findings:
    for name, found in (
        ("input_hash", step.input_hash),
        ("output_hash", step.output_hash),
        ("state_delta_hash", step.state_delta_hash),
        ("code/hash", step.code.hash if step.code is not None else None),
    ):
        if found is not None and not _is_usual(found):
            yield from _unusual_hash(f"{pointer}/{name}", found)
    for name in ("duration_ms", "duration_ns", "dropped_logs"):
        if (getattr(step, name) or 0) < 0:
            yield _error("negative", f"{pointer}/{name}", "is negative")
    for at, entry in enumerate(step.logs):
        if parse_timestamp(entry.logged_at) is None:
            yield _error("time-form", f"{pointer}/logs/{at}/logged_at", "is not an RFC 3339 time")
    if step.duration_ns is not None and step.duration_ns // 1_000_000 != step.duration_ms:
        yield _error("duration-mismatch", f"{pointer}/duration_ms", f"is not {step.duration_ns} ns in whole ms")
    if started is None and step.started_at is not None:
        yield _error("time-form", f"{pointer}/started_at", "is not an RFC 3339 time")
    for name, text in (("step_id", step.step_id), ("parent_step_id", step.parent_step_id)):
        if text is not None and not _HEX_16(text):
            yield _warning("id-form", f"{pointer}/{name}", "is not 16 lowercase hex digits")
    if step.error is not None and step.error.code not in ERROR_CODES:
        yield _warning("unknown-error-code", f"{pointer}/error/code", f"is none of {', '.join(ERROR_CODES)}")
    if step.error is not None and step.output_hash is not None:
        yield _error("failed-with-output", f"{pointer}/output_hash", "a step that failed has no output")


def _is_usual(found: Hash) -> bool:
    return found.algorithm in _ALGORITHMS and _HEX_64(found.value) is not None


def _unusual_hash(pointer: str, found: Hash) -> Findings:
    if not _HEX_64(found.value):
        yield _error("hash-form", f"{pointer}/value", "is not 64 lowercase hex digits")
    if found.algorithm not in _ALGORITHMS:
        yield _warning("unknown-algorithm", f"{pointer}/algorithm", f"is neither {' nor '.join(_ALGORITHMS)}")


def _in_flight(pointer: str, step: Step) -> Findings:
    if step.output_hash is not None:
        yield _error("in-flight-ended", f"{pointer}/output_hash", "a step that still runs has no end yet")
    if step.error is not None and step.error.code != _DIED:
        yield _error("in-flight-ended", f"{pointer}/error", f"a step that still runs has no error but {_DIED}")


# --- captured values


class _Captured(NamedTuple):
    """The input or the output of a step, as far as the trace has it; ``field`` is ``invocation`` or ``output``."""

    part: str
    field: str
    hash_field: str
    value: Any
    is_inline: bool
    path: str | None
    hash: Hash | None


def _values(pointer: str, step: Step, files: _PayloadFiles) -> Findings:
    invocation, output = step.invocation_json, step.output_json
    has_input, has_output = invocation is not UNSET, output is not UNSET
    if has_input:
        yield from _invocation(pointer, step)
    payload = invocation.get("payload", UNSET) if isinstance(invocation, dict) else UNSET
    for captured in (
        _Captured(INPUT, "invocation", "input_hash", payload, has_input, step.invocation_path, step.input_hash),
        _Captured(OUTPUT, "output", "output_hash", output, has_output, step.output_path, step.output_hash),
    ):
        if not captured.is_inline and captured.path is None:
            continue
        is_redacted = bool(step.redacted) and any(is_within(hidden, captured.part) for hidden in step.redacted)
        yield from _captured(pointer, captured, is_redacted, files)
    for digest, relative in step.arrays.items():
        yield from files.look(f"{pointer}/arrays/{pointer_token(digest)}", relative)[0]
    if step.opaque or step.redacted:
        yield from _pointers(pointer, step, {INPUT: payload, OUTPUT: output})
    if step.cut:
        yield from _cut(pointer, step)


def _captured(pointer: str, captured: _Captured, is_redacted: bool, files: _PayloadFiles) -> Findings:
    hashes: set[str] | None = None
    if captured.path is not None:
        path_pointer = f"{pointer}/{captured.field}_path"
        if captured.is_inline:
            yield _warning("captured-twice", path_pointer, f"there is an {captured.field}_json too")
        findings, hashes = files.look(path_pointer, captured.path)
        yield from findings
    if captured.hash is None:
        for kind, is_there in (("json", captured.is_inline), ("path", captured.path is not None)):
            if is_there:
                at = f"{pointer}/{captured.field}_{kind}"
                yield _error("output-without-hash", at, "is captured, but there is no output_hash")
    elif not is_redacted:
        hash_pointer = f"{pointer}/{captured.hash_field}"
        if hashes is not None:
            yield from _compare_file(hash_pointer, captured.hash, hashes)
        yield from _compare(hash_pointer, captured.hash, captured.value)


def _invocation(pointer: str, step: Step) -> Findings:
    invocation = step.invocation_json
    if not isinstance(invocation, dict) or "payload" not in invocation:
        message = "is not an object of component_id, operation and payload"
        yield _error("invocation-form", f"{pointer}/invocation_json", message)
        return
    for name, value in (("component_id", step.component_id), ("operation", step.operation)):
        if invocation.get(name) != value:
            yield _error("invocation-mismatch", f"{pointer}/invocation_json/{name}", "is not that of the step")


def _compare(pointer: str, recorded: Hash, value: Any) -> Findings:
    """Hash a captured value again, unless it was cut or hashed with a key."""
    if value is UNSET or recorded.algorithm != ALGORITHM or _is_cut(value):
        return
    data = bytes_of_tree(value)
    if data is None:
        yield _warning("not-checked", pointer, "the captured value is nested too deeply to be hashed again")
    elif hash_bytes(data) != recorded.value:
        yield _error("hash-mismatch", pointer, "is not the hash of the captured value")


def _compare_file(pointer: str, recorded: Hash, hashes: set[str]) -> Findings:
    if recorded.algorithm == ALGORITHM and recorded.value not in hashes:
        yield _error("hash-mismatch", pointer, "is not the hash of the payload file's content")


def _is_cut(value: Any) -> bool:
    return isinstance(value, dict) and value.get(TAG) == "cut"


class _PayloadFiles:
    """Reads each payload file once, however many steps name it.

    Args:
        path: the trace file; None where it is not known, so that the files can't be found.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._found: dict[str, tuple[list[Finding], set[str] | None]] = {}

    def look(self, pointer: str, relative: str) -> tuple[list[Finding], set[str] | None]:
        """Return what is wrong with a file, and the hashes that its payload may have.

        Args:
            pointer: JSON Pointer of the file's path in the trace.
            relative: that path.
        """
        if relative not in self._found:
            self._found[relative] = self._read(pointer, relative)
        findings, hashes = self._found[relative]
        return [replace(finding, pointer=pointer) for finding in findings], hashes

    def _read(self, pointer: str, relative: str) -> tuple[list[Finding], set[str] | None]:
        if self._path is None:
            message = "payload files are not checked: the folder of the trace is not known"
            return [_warning("not-checked", pointer, message)], None
        try:
            data = read_payload(self._path, relative, pointer=pointer)
        except PayloadFileError as error:
            return [_error("payload-file", pointer, error.reason)], None
        if holds_what_its_name_says(relative, data) is False:
            message = "the file's content does not have the hash that its name says"
            return [_error("payload-mismatch", pointer, message)], _possible_hashes(data)
        return [], _possible_hashes(data)


def _possible_hashes(data: bytes) -> set[str]:
    """Return the hashes of a payload file's content as it is, and of the value and the payload in it."""
    found = {hash_bytes(data).value}
    try:
        content = loads(data)
    except ValueError:
        return found
    values = [content, content["payload"]] if isinstance(content, dict) and "payload" in content else [content]
    return found | {hash_bytes(text).value for text in map(bytes_of_tree, values) if text is not None}


def _pointers(pointer: str, step: Step, values: dict[str, Any]) -> Findings:
    for name, pointers in (("opaque", step.opaque), ("redacted", step.redacted)):
        for at, target in enumerate(pointers):
            if is_within(target, STATE_DELTA):
                continue  # a trace has only its hash
            part = next((part for part in values if is_within(target, part)), None)
            if part is None:
                message = f"leads neither into {INPUT} nor into {OUTPUT}"
                yield _warning("pointer-form", f"{pointer}/{name}/{at}", message)
            elif name == "redacted" and _is_shown(values[part], target.removeprefix(part)):
                yield _warning("not-hidden", f"{pointer}/{name}/{at}", f"leads to a value that is not {MARKER}")


def _cut(pointer: str, step: Step) -> Findings:
    for at, cut in enumerate(step.cut):
        if cut.reason not in CUT_REASONS:
            yield _warning("unknown-cut-reason", f"{pointer}/cut/{at}/reason", f"is none of {', '.join(CUT_REASONS)}")
        if cut.count < 0:
            yield _error("negative", f"{pointer}/cut/{at}/count", "is negative")
        if cut.path not in step.opaque:
            yield _error("cut-not-opaque", f"{pointer}/cut/{at}/path", "is not in the step's opaque list as well")


def _is_shown(value: Any, pointer: str) -> bool:
    """Return True if a pointer leads to a text that should have been hidden; in a container only a part is hidden."""
    for token in pointer.split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isascii() and name.isdigit() and int(name[:9]) < len(value):
            value = value[int(name[:9])]
        else:
            return False
    return isinstance(value, str) and MARKER not in value and not _HEX_64(value)  # only a part may look like a secret


# --- the records together


def _parents(steps: _Steps, has_dropped: bool) -> Findings:
    by_id: dict[str, int] = {}
    for at, step in enumerate(steps.records):
        own = step.step_id
        if own is not None and by_id.setdefault(own, at) != at:
            message = f"is also the id of {steps.pointer(by_id[own])}"
            yield _error("id-repeated", f"{steps.pointer(at)}/step_id", message)
    for at, step in enumerate(steps.records):
        if step.parent_step_id is None:
            continue
        parent = by_id.get(step.parent_step_id)
        if parent is None and not has_dropped and step.run_id is None:  # that of another run may still be running
            message = "is the id of no step in the trace, and no step has rolled out of the buffer"
            yield _warning("parent-unknown", f"{steps.pointer(at)}/parent_step_id", message)
        if parent is not None and _is_before(steps.started[at], steps.started[parent]):
            message = f"is before that of its caller, {steps.pointer(parent)}"
            yield _error("began-before-parent", f"{steps.pointer(at)}/started_at", message)
    for at in _cycles(steps, by_id):
        yield _error("parent-cycle", f"{steps.pointer(at)}/parent_step_id", "leads back to the step itself")


def _failed_step(trace: Trace, steps: list[Step]) -> Findings:
    found = None if trace.run is None else trace.run.failed_step_id
    if trace.run is None or found is None:
        return
    at = "/run/failed_step_id"
    if not _HEX_16(found):
        yield _warning("id-form", at, "is not 16 lowercase hex digits")
    if trace.run.outcome in ("ok", "recovered", "slow"):
        yield _error("failed-step-of-success", at, f"a run that ended as {trace.run.outcome} has no failed step")
    named = next((step for step in steps if step.step_id == found), None)
    if named is None and not trace.dropped_steps:
        message = "is the id of no step in the trace, and no step has rolled out of the buffer"
        yield _warning("failed-step-unknown", at, message)
    if named is not None and named.error is None and not named.validation_issues:
        yield _error("failed-step-ended-well", at, "names a step that has neither an error nor validation issues")


def _is_before(time: int | None, other: int | None) -> bool:
    return time is not None and other is not None and time < other


def _cycles(steps: _Steps, by_id: dict[str, int]) -> Iterator[int]:
    """Yield one step of each cycle of parents."""
    visit_of: dict[str, int] = {}
    for visit, start in enumerate(by_id):
        here: str | None = start
        while here is not None and here in by_id and here not in visit_of:
            visit_of[here] = visit
            here = steps.records[by_id[here]].parent_step_id
        if here is not None and visit_of.get(here) == visit:
            yield by_id[here]


def _order(steps: _Steps) -> Findings:
    """Compare each step with the ones before it in the same thread: other threads may report theirs a moment late."""
    last: dict[str | None, int] = {}
    for at in range(steps.finished):
        ended, thread = steps.ended(at), steps.records[at].thread
        if ended is None:
            continue
        latest = last.get(thread, 0)
        if ended + _MICROSECOND < latest:
            yield _warning("order", steps.pointer(at), "finished before a step that is listed before it")
        if ended > latest:
            last[thread] = ended


def _inside_run(run: Run, steps: _Steps) -> Findings:
    run_started, run_ended = parse_timestamp(run.started_at), parse_timestamp(run.ended_at)
    for at, started in enumerate(steps.started):
        if steps.records[at].run_id is not None:
            continue
        ended = steps.ended(at)
        if run_started is not None and started is not None and started + _MICROSECOND < run_started:
            yield _warning("outside-run", f"{steps.pointer(at)}/started_at", "is before the run began")
        if run_ended is not None and ended is not None and ended > run_ended + _MICROSECOND:
            yield _warning("outside-run", f"{steps.pointer(at)}/duration_ns", "the step ends after its run")
