"""Flat one-step records, which related component test tools write, and their conversion to traces.

Such a record has the version of a trace and the fields of one step, without an envelope::

    {
        "trace_version": 1,
        "component_id": "ai.card",
        "operation": "render",
        "input_hash": "blake3:<64 hex digits>",
        "output_hash": null,
        "duration_ms": 3,
        "error": {"code": "test.failure", "message": "no such card"},
    }

``input_hash`` and ``output_hash`` may be null, ``error`` and its ``details`` may be left out.
"""

from __future__ import annotations

import re
from typing import Any, Final

from flowtrace.errors import TraceFileError
from flowtrace.trace.model import TRACE_VERSION, Flow, Hash, Pack, Step, StepError, Trace, hash_record
from flowtrace.values.encoded import hash_bytes

_HASH: Final = re.compile(r"blake3:([0-9a-f]{64})", re.ASCII)
_FIELDS: Final = frozenset(
    {"trace_version", "component_id", "operation", "input_hash", "output_hash", "duration_ms", "error"}
)
NO_INPUT: Final = "input_hash is null: the trace has the hash of null in its place"


def is_flat(document: dict[str, Any]) -> bool:
    """Return True if a version 1 document is a flat record, not a trace."""
    return "steps" not in document and "component_id" in document


def from_flat(document: dict[str, Any], name: str) -> Trace:
    """Return a flat record as a trace of one step.

    Pack and flow are named after the component. The error becomes a ``node_error``, with its code as ``type`` in the
    details, as for the class of an exception. Fields that the format does not have are kept in the step.

    Args:
        document: the record, whose version was checked already.
        name: its name in errors.

    Raises:
        TraceFileError: a field is missing or has the wrong type.
    """
    reader = _Reader(document, name)
    component, operation = reader.text("component_id"), reader.text("operation")
    step = Step(
        node_id=f"{component}.{operation}",
        component_id=component,
        operation=operation,
        input_hash=reader.hash("input_hash") or hash_record(hash_bytes(b"null")),
        output_hash=reader.hash("output_hash"),
        duration_ms=reader.milliseconds("duration_ms"),
        error=reader.error(),
        extra={field: value for field, value in document.items() if field not in _FIELDS},
    )
    flow = Flow(id=component, version="unknown")
    return Trace(trace_version=TRACE_VERSION, pack=Pack(pack_ref=component), flow=flow, steps=[step])


class _Reader:
    def __init__(self, document: dict[str, Any], name: str) -> None:
        self._document = document
        self._name = name

    def text(self, field: str) -> str:
        return self._text_in(self._document, field, "")

    def milliseconds(self, field: str) -> int:
        value = self._document.get(field)
        if type(value) is int and value >= 0:
            return value
        raise self._refusal(f"/{field}", value, "a whole number of milliseconds")

    def hash(self, field: str) -> Hash | None:
        value = self._document.get(field)
        if value is None:
            return None
        found = _HASH.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            raise self._refusal(f"/{field}", value, 'null or "blake3:" and 64 lowercase hex digits')
        return Hash(algorithm="blake3", value=found[1])

    def error(self) -> StepError | None:
        value = self._document.get("error")
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self._refusal("/error", value, "an object with code and message")
        code, message = self._text_in(value, "code", "/error"), self._text_in(value, "message", "/error")
        more = {field: item for field, item in value.items() if field not in ("code", "message")}
        return StepError(code="node_error", message=message, details={"type": code, **more})

    def _text_in(self, owner: dict[str, Any], field: str, start: str) -> str:
        value = owner.get(field)
        if isinstance(value, str):
            return value
        raise self._refusal(f"{start}/{field}", value, "text")

    def _refusal(self, pointer: str, value: object, accepted: str) -> TraceFileError:
        shown = "absent" if value is None else f"{value!r:.60}"
        return TraceFileError(self._name, pointer, f"is {shown}; a flat record takes {accepted}")
