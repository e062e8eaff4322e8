"""What a trace must not say about itself: rules over its records, each with the place that breaks it.

An error is a contradiction that no recorder writes. A warning is something that a reader may stumble over, or that can
come about in an honest trace.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from flowtrace.errors import PayloadFileError
from flowtrace.host.clock import parse_timestamp
from flowtrace.trace.model import UNSET, Hash, Run, Step, Trace
from flowtrace.trace.payload_files import holds_what_its_name_says, read_payload
from flowtrace.values.digest import ALGORITHM, KEYED_ALGORITHM, hash_bytes
from flowtrace.values.encode import TAG
from flowtrace.values.json import loads, plain
from flowtrace.values.redaction import MARKER

_DIED: Final = "process_died"
ERROR_CODES: Final = ("node_error", "flow_error", "node_cancelled", "node_interrupted", _DIED)
OUTCOMES: Final = ("failed", "recovered", "ok", "interrupted", "snapshot")
_PAYLOAD: Final = "/invocation_json/payload"
_OUTPUT: Final = "/output_json"
_STATE_DELTA: Final = "/state_delta"
_HEX_64: Final = re.compile("[0-9a-f]{64}", re.ASCII).fullmatch
_HEX_32: Final = re.compile("[0-9a-f]{32}", re.ASCII).fullmatch
_HEX_16: Final = re.compile("[0-9a-f]{16}", re.ASCII).fullmatch
_MICROSECOND: Final = 1_000  # nanoseconds; times are cut to whole ones
_NO_VALUE: Final = object()


class Severity(StrEnum):
    """How bad a finding is.

    ``ERROR``: the file is not a trace, or contradicts itself. ``WARNING``: a reader may stumble over it. ``NOTE``: good
    to know.
    """

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a trace file.

    Attributes:
        severity: how bad it is.
        code: machine-readable kind, such as ``"hash-mismatch"``.
        pointer: JSON Pointer (RFC 6901) of the place; ``""`` is the whole document.
        message: the same for people.
    """

    severity: Severity
    code: str
    pointer: str
    message: str

    def to_json(self) -> dict[str, str]:
        """Return this as JSON-like objects."""
        return {
            "severity": str(self.severity),
            "code": self.code,
            "pointer": self.pointer,
            "message": self.message,
        }


Findings = Iterator[Finding]


def _error(code: str, pointer: str, message: str) -> Finding:
    return Finding(Severity.ERROR, code, pointer, message)


def _warning(code: str, pointer: str, message: str) -> Finding:
    return Finding(Severity.WARNING, code, pointer, message)


def inconsistencies(trace: Trace, path: str | None) -> Findings:
    """Yield what is wrong in a trace whose fields all have the right types.

    Args:
        trace: its records.
        path: its file, beside which its payload files are; None where that is not known.
    """
    placed = [(f"/steps/{at}", step) for at, step in enumerate(trace.steps)]
    running = [(f"/in_flight/{at}", step) for at, step in enumerate(trace.in_flight)]
    if trace.dropped_steps is not None and trace.dropped_steps < 0:
        yield _error("negative", "/dropped_steps", "is less than nothing")
    if trace.run is not None:
        yield from _run(trace.run)
    files = _PayloadFiles(path)
    for pointer, step in (*placed, *running):
        yield from _step(pointer, step)
        yield from _values(pointer, step, files)
    for pointer, step in running:
        yield from _in_flight(pointer, step)
    yield from _tree([*placed, *running], bool(trace.dropped_steps))
    yield from _order(placed)
    if trace.run is not None:
        yield from _within(trace.run, [*placed, *running])


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


def _step(pointer: str, step: Step) -> Findings:
    yield from _hashes(pointer, step)
    for name, value in (("duration_ms", step.duration_ms), ("duration_ns", step.duration_ns)):
        if value is not None and value < 0:
            yield _error("negative", f"{pointer}/{name}", "is less than nothing")
    if step.duration_ns is not None and step.duration_ns // 1_000_000 != step.duration_ms:
        yield _error("duration-mismatch", f"{pointer}/duration_ms", f"is not {step.duration_ns} ns in whole ms")
    if step.started_at is not None and parse_timestamp(step.started_at) is None:
        yield _error("time-form", f"{pointer}/started_at", "is not an RFC 3339 time")
    for name, text in (("step_id", step.step_id), ("parent_step_id", step.parent_step_id)):
        if text is not None and not _HEX_16(text):
            yield _warning("id-form", f"{pointer}/{name}", "is not 16 lowercase hex digits")
    if step.error is not None and step.error.code not in ERROR_CODES:
        yield _warning("unknown-error-code", f"{pointer}/error/code", f"is none of {', '.join(ERROR_CODES)}")
    if step.error is not None and step.output_hash is not None:
        yield _error("failed-with-output", f"{pointer}/output_hash", "a step that failed has no output")


def _hashes(pointer: str, step: Step) -> Findings:
    hashes: list[tuple[str, Hash | None]] = [
        ("input_hash", step.input_hash),
        ("output_hash", step.output_hash),
        ("state_delta_hash", step.state_delta_hash),
        ("code/hash", step.code.hash if step.code is not None else None),
    ]
    for name, found in hashes:
        if found is None:
            continue
        if not _HEX_64(found.value):
            yield _error("hash-form", f"{pointer}/{name}/value", "is not 64 lowercase hex digits")
        if found.algorithm not in (ALGORITHM, KEYED_ALGORITHM):
            message = f"is neither {ALGORITHM} nor {KEYED_ALGORITHM}"
            yield _warning("unknown-algorithm", f"{pointer}/{name}/algorithm", message)


def _in_flight(pointer: str, step: Step) -> Findings:
    if step.output_hash is not None:
        yield _error("in-flight-ended", f"{pointer}/output_hash", "a step that still runs has no end yet")
    if step.error is not None and step.error.code != _DIED:
        yield _error("in-flight-ended", f"{pointer}/error", f"a step that still runs has no error but {_DIED}")


# --- captured values


def _values(pointer: str, step: Step, files: _PayloadFiles) -> Findings:
    payload: Any = _NO_VALUE
    if step.invocation_json is not UNSET:
        yield from _invocation(pointer, step)
        if isinstance(step.invocation_json, dict):
            payload = step.invocation_json.get("payload", _NO_VALUE)
            yield from _compare(f"{pointer}/input_hash", step, step.input_hash, payload, _PAYLOAD)
    if step.invocation_path is not None:
        yield from _payload_file(pointer, step, files)
    if step.output_path is not None:
        yield from _output_file(pointer, step, files)
    output: Any = _NO_VALUE
    if step.output_json is not UNSET:
        output = step.output_json
        if step.output_hash is None:
            yield _error("output-without-hash", f"{pointer}/output_json", "is captured, and there is no output_hash")
        else:
            yield from _compare(f"{pointer}/output_hash", step, step.output_hash, output, _OUTPUT)
    yield from _pointers(pointer, step, {_PAYLOAD: payload, _OUTPUT: output})


def _invocation(pointer: str, step: Step) -> Findings:
    place, invocation = f"{pointer}/invocation_json", step.invocation_json
    if not isinstance(invocation, dict) or "payload" not in invocation:
        yield _error("invocation-form", place, "is not an object of component_id, operation and payload")
        return
    for name, value in (("component_id", step.component_id), ("operation", step.operation)):
        if invocation.get(name) != value:
            yield _error("invocation-mismatch", f"{place}/{name}", "is not that of the step")


def _compare(pointer: str, step: Step, found: Hash, value: Any, part: str) -> Findings:
    """Compute a captured value's hash again: not of one that was cut, nor where a key or hidden parts are in play."""
    if value is _NO_VALUE or found.algorithm != ALGORITHM or _is_cut(value) or _leads_into(step.redacted, part):
        return
    data = plain(value)
    if data is None:
        yield _warning("not-checked", pointer, "the captured value is nested too deeply to be hashed again")
    elif hash_bytes(data).value != found.value:
        yield _error("hash-mismatch", pointer, "is not the hash of the captured value")


def _is_cut(value: Any) -> bool:
    return isinstance(value, dict) and value.get(TAG) == "cut"


class _PayloadFiles:
    """Reads each payload file once, however many steps name it.

    Args:
        path: the trace file; None where it is not known, and the files can't be found.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._known: dict[str, tuple[list[Finding], set[str] | None]] = {}

    def look(self, place: str, relative: str) -> tuple[list[Finding], set[str] | None]:
        """Return what is wrong with a file named at a place, and the hashes that its payload may have."""
        found, hashes = self._known.get(relative) or self._known.setdefault(relative, self._read(place, relative))
        return [replace(finding, pointer=place) for finding in found], hashes

    def _read(self, place: str, relative: str) -> tuple[list[Finding], set[str] | None]:
        if self._path is None:
            message = "payload files are not looked for: where the trace lies is not known"
            return [_warning("not-checked", place, message)], None
        try:
            data = read_payload(self._path, relative, pointer=place)
        except PayloadFileError as error:
            return [_error("payload-file", place, error.reason)], None
        if holds_what_its_name_says(relative, data) is False:
            message = "the file's content does not have the hash that its name says"
            return [_error("payload-mismatch", place, message)], _possible_hashes(data)
        return [], _possible_hashes(data)


def _payload_file(pointer: str, step: Step, files: _PayloadFiles) -> Findings:
    place = f"{pointer}/invocation_path"
    if step.invocation_json is not UNSET:
        yield _warning("captured-twice", place, "there is an invocation_json too")
    findings, hashes = files.look(place, step.invocation_path or "")
    yield from findings
    if not _leads_into(step.redacted, _PAYLOAD):
        yield from _is_hash_of_file(f"{pointer}/input_hash", step.input_hash, hashes)


def _output_file(pointer: str, step: Step, files: _PayloadFiles) -> Findings:
    place = f"{pointer}/output_path"
    if step.output_json is not UNSET:
        yield _warning("captured-twice", place, "there is an output_json too")
    findings, hashes = files.look(place, step.output_path or "")
    yield from findings
    if step.output_hash is None:
        yield _error("output-without-hash", place, "is captured, and there is no output_hash")
    elif not _leads_into(step.redacted, _OUTPUT):
        yield from _is_hash_of_file(f"{pointer}/output_hash", step.output_hash, hashes)


def _is_hash_of_file(place: str, recorded: Hash, hashes: set[str] | None) -> Findings:
    if hashes is not None and recorded.algorithm == ALGORITHM and recorded.value not in hashes:
        yield _error("hash-mismatch", place, "is not the hash of the payload file's content")


def _possible_hashes(data: bytes) -> set[str]:
    """Return the hashes of a payload file's content as it is, and of the payload in it as canonical JSON."""
    found = {hash_bytes(data).value}
    try:
        content = loads(data)
    except ValueError:
        return found
    inner = [content, content["payload"]] if isinstance(content, dict) and "payload" in content else [content]
    return found | {hash_bytes(text).value for text in map(plain, inner) if text is not None}


def _leads_into(pointers: list[str], part: str) -> bool:
    return any(pointer == part or pointer.startswith(f"{part}/") for pointer in pointers)


def _pointers(pointer: str, step: Step, values: dict[str, Any]) -> Findings:
    for name, pointers in (("opaque", step.opaque), ("redacted", step.redacted)):
        for at, target in enumerate(pointers):
            place = f"{pointer}/{name}/{at}"
            if target.startswith(f"{_STATE_DELTA}/") or target == _STATE_DELTA:
                continue  # only its hash is told
            part = next((part for part in values if target == part or target.startswith(f"{part}/")), None)
            if part is None:
                yield _warning("pointer-form", place, f"leads neither into {_PAYLOAD} nor into {_OUTPUT}")
            elif name == "redacted" and _is_bare(values[part], target.removeprefix(part)):
                yield _warning("not-hidden", place, f"leads to a value that is not {MARKER}")


def _is_bare(value: Any, pointer: str) -> bool:
    """Tell whether a pointer leads to a text that should have been hidden; containers only hold some hidden part."""
    for token in pointer.split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isascii() and name.isdigit() and int(name[:9]) < len(value):
            value = value[int(name[:9])]
        else:
            return False
    return isinstance(value, str) and value != MARKER and not _HEX_64(value)


# --- the records together


def _tree(placed: list[tuple[str, Step]], has_dropped: bool) -> Findings:
    by_id: dict[str, tuple[str, Step]] = {}
    for pointer, step in placed:
        if step.step_id is None:
            continue
        if step.step_id in by_id:
            yield _error("id-repeated", f"{pointer}/step_id", f"is that of {by_id[step.step_id][0]} too")
        by_id.setdefault(step.step_id, (pointer, step))
    for pointer, step in placed:
        parent = by_id.get(step.parent_step_id) if step.parent_step_id is not None else None
        place = f"{pointer}/parent_step_id"
        if step.parent_step_id is not None and parent is None and not has_dropped:
            yield _warning("parent-unknown", place, "is no step here, and no step has rolled out of the buffer")
        if parent is not None and _began_before(step, parent[1]):
            yield _error("began-before-parent", f"{pointer}/started_at", f"is before that of its caller, {parent[0]}")
    for pointer in _knots(by_id):
        yield _error("parent-cycle", f"{pointer}/parent_step_id", "leads back to the step itself")


def _began_before(step: Step, parent: Step) -> bool:
    started, above = parse_timestamp(step.started_at), parse_timestamp(parent.started_at)
    return started is not None and above is not None and started < above


def _knots(by_id: dict[str, tuple[str, Step]]) -> Iterator[str]:
    """Yield the pointer of one step of each ring of parents."""
    known: dict[str, int] = {}
    for number, start in enumerate(by_id):
        here: str | None = start
        while here is not None and here in by_id and here not in known:
            known[here] = number
            here = by_id[here][1].parent_step_id
        if here is not None and known.get(here) == number and here in by_id:
            yield by_id[here][0]


def _order(placed: list[tuple[str, Step]]) -> Findings:
    """Compare with the step before it in the same thread: those of others may be noted a moment late."""
    last: dict[str | None, int] = {}
    for pointer, step in placed:
        ended = _end(step)
        if ended is None:
            continue
        if ended + _MICROSECOND < last.get(step.thread, 0):
            yield _warning("order", pointer, "finished before a step that stands before it")
        last[step.thread] = max(ended, last.get(step.thread, 0))


def _within(run: Run, placed: list[tuple[str, Step]]) -> Findings:
    started, ended = parse_timestamp(run.started_at), parse_timestamp(run.ended_at)
    for pointer, step in placed:
        begun, end = parse_timestamp(step.started_at), _end(step)
        if started is not None and begun is not None and begun + _MICROSECOND < started:
            yield _warning("outside-run", f"{pointer}/started_at", "is before the run began")
        if ended is not None and end is not None and end > ended + _MICROSECOND:
            yield _warning("outside-run", f"{pointer}/duration_ns", "the step ends after its run")


def _end(step: Step) -> int | None:
    started = parse_timestamp(step.started_at)
    return None if started is None or step.duration_ns is None else started + step.duration_ns
