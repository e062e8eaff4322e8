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

from flowtrace.errors import PayloadFileError
from flowtrace.host.clock import parse_timestamp
from flowtrace.trace.model import INPUT, OUTPUT, STATE_DELTA, UNSET, Hash, Run, Step, Trace, is_within
from flowtrace.trace.payload_files import holds_what_its_name_says, read_payload
from flowtrace.values.digest import ALGORITHM, KEYED_ALGORITHM, hash_bytes
from flowtrace.values.encode import TAG
from flowtrace.values.encoded import CUT_REASONS
from flowtrace.values.json import UNLIMITED, loads, plain
from flowtrace.values.redaction import MARKER

_DIED: Final = "process_died"
ERROR_CODES: Final = ("node_error", "flow_error", "node_cancelled", "node_interrupted", _DIED)
OUTCOMES: Final = ("failed", "recovered", "ok", "interrupted", "snapshot")
_HEX_64: Final = re.compile("[0-9a-f]{64}", re.ASCII).fullmatch
_HEX_32: Final = re.compile("[0-9a-f]{32}", re.ASCII).fullmatch
_HEX_16: Final = re.compile("[0-9a-f]{16}", re.ASCII).fullmatch
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
    finished = [(f"/steps/{at}", step) for at, step in enumerate(trace.steps)]
    running = [(f"/in_flight/{at}", step) for at, step in enumerate(trace.in_flight)]
    steps = [*finished, *running]
    if trace.dropped_steps is not None and trace.dropped_steps < 0:
        yield _error("negative", "/dropped_steps", "is negative")
    if trace.run is not None:
        yield from _run(trace.run)
    files = _PayloadFiles(path)
    for pointer, step in steps:
        yield from _step(pointer, step)
        yield from _values(pointer, step, files)
    for pointer, step in running:
        yield from _in_flight(pointer, step)
    yield from _parents(steps, bool(trace.dropped_steps))
    yield from _order(finished)
    yield from _failed_step(trace, steps)
    if trace.run is not None:
        yield from _inside_run(trace.run, steps)


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
            yield _error("negative", f"{pointer}/{name}", "is negative")
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
        is_redacted = any(is_within(hidden, captured.part) for hidden in step.redacted)
        yield from _captured(pointer, captured, is_redacted, files)
    yield from _pointers(pointer, step, {INPUT: payload, OUTPUT: output})
    yield from _cut(pointer, step)


def _captured(pointer: str, captured: _Captured, is_redacted: bool, files: _PayloadFiles) -> Findings:
    json_pointer, path_pointer = (f"{pointer}/{captured.field}_{kind}" for kind in ("json", "path"))
    hashes: set[str] | None = None
    if captured.path is not None:
        if captured.is_inline:
            yield _warning("captured-twice", path_pointer, f"there is an {captured.field}_json too")
        findings, hashes = files.look(path_pointer, captured.path)
        yield from findings
    if captured.hash is None:
        for at, is_there in ((json_pointer, captured.is_inline), (path_pointer, captured.path is not None)):
            if is_there:
                yield _error("output-without-hash", at, "is captured, but there is no output_hash")
    elif not is_redacted:
        yield from _compare_file(f"{pointer}/{captured.hash_field}", captured.hash, hashes)
        yield from _compare(f"{pointer}/{captured.hash_field}", captured.hash, captured.value)


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
    data = plain(value, UNLIMITED)
    if data is None:
        yield _warning("not-checked", pointer, "the captured value is nested too deeply to be hashed again")
    elif hash_bytes(data).value != recorded.value:
        yield _error("hash-mismatch", pointer, "is not the hash of the captured value")


def _compare_file(pointer: str, recorded: Hash, hashes: set[str] | None) -> Findings:
    if hashes is not None and recorded.algorithm == ALGORITHM and recorded.value not in hashes:
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
    return found | {hash_bytes(text).value for text in map(plain, values) if text is not None}


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


def _parents(steps: list[tuple[str, Step]], has_dropped: bool) -> Findings:
    by_id: dict[str, tuple[str, Step]] = {}
    for pointer, step in steps:
        if step.step_id is None:
            continue
        if step.step_id in by_id:
            yield _error("id-repeated", f"{pointer}/step_id", f"is also the id of {by_id[step.step_id][0]}")
        by_id.setdefault(step.step_id, (pointer, step))
    for pointer, step in steps:
        if step.parent_step_id is None:
            continue
        parent = by_id.get(step.parent_step_id)
        if parent is None and not has_dropped:
            message = "is the id of no step in the trace, and no step has rolled out of the buffer"
            yield _warning("parent-unknown", f"{pointer}/parent_step_id", message)
        if parent is not None and _began_before(step, parent[1]):
            yield _error("began-before-parent", f"{pointer}/started_at", f"is before that of its caller, {parent[0]}")
    for pointer in _cycles(by_id):
        yield _error("parent-cycle", f"{pointer}/parent_step_id", "leads back to the step itself")


def _failed_step(trace: Trace, steps: list[tuple[str, Step]]) -> Findings:
    found = None if trace.run is None else trace.run.failed_step_id
    if trace.run is None or found is None:
        return
    at = "/run/failed_step_id"
    if not _HEX_16(found):
        yield _warning("id-form", at, "is not 16 lowercase hex digits")
    if trace.run.outcome in ("ok", "recovered"):
        yield _error("failed-step-of-success", at, f"a run that ended as {trace.run.outcome} has no failed step")
    named = next((step for _, step in steps if step.step_id == found), None)
    if named is None and not trace.dropped_steps:
        message = "is the id of no step in the trace, and no step has rolled out of the buffer"
        yield _warning("failed-step-unknown", at, message)
    if named is not None and named.error is None and not named.validation_issues:
        yield _error("failed-step-ended-well", at, "names a step that has neither an error nor validation issues")


def _began_before(step: Step, parent: Step) -> bool:
    started, above = parse_timestamp(step.started_at), parse_timestamp(parent.started_at)
    return started is not None and above is not None and started < above


def _cycles(by_id: dict[str, tuple[str, Step]]) -> Iterator[str]:
    """Yield the pointer of one step of each cycle of parents."""
    visit_of: dict[str, int] = {}
    for visit, start in enumerate(by_id):
        here: str | None = start
        while here is not None and here in by_id and here not in visit_of:
            visit_of[here] = visit
            here = by_id[here][1].parent_step_id
        if here is not None and visit_of.get(here) == visit:
            yield by_id[here][0]


def _order(finished: list[tuple[str, Step]]) -> Findings:
    """Compare each step with the ones before it in the same thread: other threads may report theirs a moment late."""
    last: dict[str | None, int] = {}
    for pointer, step in finished:
        ended = _end(step)
        if ended is None:
            continue
        if ended + _MICROSECOND < last.get(step.thread, 0):
            yield _warning("order", pointer, "finished before a step that is listed before it")
        last[step.thread] = max(ended, last.get(step.thread, 0))


def _inside_run(run: Run, steps: list[tuple[str, Step]]) -> Findings:
    run_started, run_ended = parse_timestamp(run.started_at), parse_timestamp(run.ended_at)
    for pointer, step in steps:
        started, ended = parse_timestamp(step.started_at), _end(step)
        if run_started is not None and started is not None and started + _MICROSECOND < run_started:
            yield _warning("outside-run", f"{pointer}/started_at", "is before the run began")
        if run_ended is not None and ended is not None and ended > run_ended + _MICROSECOND:
            yield _warning("outside-run", f"{pointer}/duration_ns", "the step ends after its run")


def _end(step: Step) -> int | None:
    started = parse_timestamp(step.started_at)
    return None if started is None or step.duration_ns is None else started + step.duration_ns
