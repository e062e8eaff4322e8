"""The record of a step in the trace file, made of the step in memory: its values in their canonical form, and the rest.

Secrets are still in the texts of its error, issues and logs: `flowtrace.recording.to_records` takes them out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from flowtrace.host.system import CLOCK, step_id
from flowtrace.recording import call_values
from flowtrace.recording.failure import Failure
from flowtrace.recording.node import Node, Policy
from flowtrace.recording.program_texts import add_logs, locate, seen_often
from flowtrace.recording.step import THREAD_NAMES, Step
from flowtrace.trace import model
from flowtrace.values.encoded import MAX_DEPTH, CutPart, Encoded, hash_bytes
from flowtrace.values.json import is_deeper, loads
from flowtrace.values.redaction import SecretNames
from flowtrace.values.scrub import piece_holds_secrets, without_secrets_in_texts

Store = Callable[[str, bytes, str], str | None]
"""Writes bytes beside the trace, named by their hash. Returns the relative path; None where that failed."""
_NO_FILE: Final = ", and no payload file could be written"


class Shared(NamedTuple):
    """The part that the records of one trace share.

    Attributes:
        policy: what to keep of values.
        store: writes payloads over the limit.
        other_runs: the runs of the steps that are of others, by number.
    """

    policy: Policy
    store: Store
    other_runs: dict[int, str]


class StepValues(NamedTuple):
    """The values of a step in their canonical form.

    Attributes:
        given: its payload.
        output: its result, where there is one.
        secrets: the texts that it hides.
    """

    given: Encoded
    output: Encoded | None
    secrets: tuple[str, ...]

    @classmethod
    def of(cls, step: Step, policy: Policy) -> StepValues:
        """Return the values of a step."""
        given = call_values.canonical_input(step.node, step.input, step.bound, policy)
        output = None if step.output is None else call_values.canonical_output(step.node, step.output, policy)
        delta = step.state_delta
        secrets = given.secrets + step.hidden
        if output is not None and output.secrets:
            secrets += output.secrets
        if delta is not None and delta.secrets:
            secrets += delta.secrets
        if step.logs is not None and step.logs.secrets:
            secrets += tuple(step.logs.secrets)
        return cls(given, output, secrets)

    def bytes_kept(self) -> int:
        """Return how many bytes of values are kept."""
        return len(self.given.data or b"") + (0 if self.output is None else len(self.output.data or b""))


def names_a_file(record: model.Step) -> bool:
    """Return True if a part of a step's values is in a file beside the trace."""
    return record.invocation_path is not None or record.output_path is not None or bool(record.arrays)


def record_of(step: Step, values: StepValues, shared: Shared) -> model.Step:
    """Return the record of a finished step; secrets are still in the texts of its error, issues and logs."""
    record = running_record(step, values, shared)
    if step.failure is not None:
        record.error = error_of(step.failure)
    if values.output is not None:
        _add_output(record, step.node, values.output, shared)
    return record


def error_of(failure: Failure) -> model.StepError:
    """Return the record of an error; secrets are still in its texts."""
    return model.StepError(code=failure.code, message=failure.message, details=failure.details)


def running_record(step: Step, values: StepValues, shared: Shared) -> model.Step:
    """Return the record of a step as far as it is known before its end."""
    node, policy, given = step.node, shared.policy, values.given
    duration = (step.ended or CLOCK.now()) - step.started
    record = model.Step(
        node_id=node.node_id,
        component_id=node.component,
        operation=node.operation,
        input_hash=model.hash_record(given.digest),
        duration_ms=duration // 1_000_000,
        validation_issues=list(step.issues or ()),
        step_id=step_id(step.number),
        parent_step_id=step_id(step.parent) if step.parent else None,
        started_at=CLOCK.timestamp(step.started),
        duration_ns=duration,
        thread=seen_often(THREAD_NAMES.get(step.thread) or f"thread-{step.thread}", policy.secret()),
        code=_code_of(node),
        opaque=[model.INPUT + pointer for pointer in given.opaque],
        redacted=[model.INPUT + pointer for pointer in given.redacted],
        cut=cut_records(model.INPUT, given.cut),
    )
    if policy.captures_input(node):
        _store_arrays(record, given, policy.secret(node), shared.store)
        given = without_secrets_in_texts(given, policy.secret(node))
        record.redacted = [model.INPUT + pointer for pointer in given.redacted]
        _add_payload(record, given, policy, shared.store)
    if step.state_delta is not None:
        record.state_delta_hash = model.hash_record(step.state_delta.digest)
        record.opaque += [model.STATE_DELTA + pointer for pointer in step.state_delta.opaque]
        record.redacted += [model.STATE_DELTA + pointer for pointer in step.state_delta.redacted]
        record.cut += cut_records(model.STATE_DELTA, step.state_delta.cut)
    if step.logs is not None:
        add_logs(record, step.logs)
    return record


def _add_payload(record: model.Step, given: Encoded, policy: Policy, store: Store) -> None:
    record.invocation_path = _stored_beside(given, policy, store)
    if record.invocation_path is None:
        record.invocation_json = {
            "component_id": record.component_id,
            "operation": record.operation,
            "payload": json_or_cut(given, policy, _NO_FILE),
        }


def _stored_beside(value: Encoded, policy: Policy, store: Store) -> str | None:
    """Store a value that is too large for the trace beside it; return None where it isn't, or that failed."""
    if value.data is None or value.size <= policy.max_value_bytes:
        return None
    return store(hash_bytes(value.data).value, value.data, "json")


def _store_arrays(record: model.Step, value: Encoded, secret: SecretNames, store: Store) -> None:
    """Store the content of the large arrays in a captured value; what looks like a secret is in none of it."""
    for piece in value.pieces:
        data = piece.data
        if piece.digest not in record.arrays and data and not piece_holds_secrets(piece.suffix, data, secret):
            path = store(hash_bytes(data).value, data, piece.suffix)
            if path is not None:
                record.arrays[piece.digest] = path


def _add_output(record: model.Step, node: Node, output: Encoded, shared: Shared) -> None:
    record.output_hash = model.hash_record(output.digest)
    if shared.policy.capture_outputs:
        _store_arrays(record, output, shared.policy.secret(node), shared.store)
        output = without_secrets_in_texts(output, shared.policy.secret(node))
    record.opaque += [model.OUTPUT + pointer for pointer in output.opaque]
    record.redacted += [model.OUTPUT + pointer for pointer in output.redacted]
    record.cut += cut_records(model.OUTPUT, output.cut)
    if shared.policy.capture_outputs:
        record.output_path = _stored_beside(output, shared.policy, shared.store)
        if record.output_path is None:
            record.output_json = json_or_cut(output, shared.policy, _NO_FILE)


def cut_records(part: str, parts: Iterable[CutPart]) -> list[model.Cut]:
    """Return what a step's record says about the cut parts of its input, output or state delta."""
    return [model.Cut(path=part + item.pointer, reason=item.reason, count=item.seen) for item in parts]


def json_or_cut(encoded: Encoded, policy: Policy, remark: str = "") -> Any:
    """Return a value as it stands in the trace; in place of one that is too large or too deep, a note that it was cut.

    Args:
        encoded: the value.
        policy: the limits.
        remark: added to the reason where the value could have gone beside the trace.

    Returns:
        Its text as `Raw`, or the note.
    """
    if encoded.data is None:
        too_large = encoded.size > policy.buffer_bytes
        reason = "larger than FLOWTRACE_BUFFER_BYTES" if too_large else "no room in FLOWTRACE_BUFFER_BYTES"
        return cut(reason, encoded.size)
    if encoded.size > policy.max_value_bytes:
        return cut(f"larger than FLOWTRACE_MAX_VALUE_BYTES{remark}", encoded.size)
    return _too_deep(encoded.data) or model.Raw(encoded.data)


def json_of(data: bytes) -> Any:
    """Return a value as it stands in the trace, from its canonical bytes; one that is too deep is cut."""
    try:
        return _too_deep(data) or loads(data)
    except ValueError:
        return _note_of_depth(data)


def _too_deep(data: bytes) -> dict[str, Any] | None:
    return _note_of_depth(data) if is_deeper(data, MAX_DEPTH - 1) else None


def _note_of_depth(data: bytes) -> dict[str, Any]:
    return cut(f"nested more than {MAX_DEPTH} levels", len(data))


def cut(reason: str, size: int) -> dict[str, Any]:
    """Return the note that stands in the trace instead of a value.

    Args:
        reason: why the value was cut.
        size: its size in bytes.
    """
    return {"$py": "cut", "reason": reason, "size": size}


def _code_of(node: Node) -> model.Code | None:
    if node.code is None and node.function is not None:
        node.code = locate(node.function)
    return node.code
