"""A trace as flat rows, one a step, for DuckDB, pandas and Spark: in JSON lines, and in Parquet."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any, Final

from flowtrace.errors import MissingExtraError
from flowtrace.host.log import json_printable
from flowtrace.host.system import parse_timestamp
from flowtrace.trace.model import UNSET, Json, UnsetType, to_document
from flowtrace.values.json import bytes_of_tree, tree_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flowtrace.trace.model import Hash, Step, StepError, Trace
    from flowtrace.trace.outline import Entry

Row = dict[str, Any]
_LARGEST: Final = 2**63 - 1
_CHUNK: Final = 10_000  # rows that are held at a time
_COLUMNS: Final = {
    "trace": "text",
    "pack": "text",
    "flow": "text",
    "flow_version": "text",
    "outcome": "text",
    "run_id": "text",
    "pointer": "text",
    "parent": "text",
    "depth": "number",
    "state": "text",
    "node_id": "text",
    "component_id": "text",
    "operation": "text",
    "step_id": "text",
    "parent_step_id": "text",
    "thread": "text",
    "started_at": "time",
    "duration_ms": "number",
    "duration_ns": "number",
    "error_code": "text",
    "error_type": "text",
    "error_message": "text",
    "error_details": "text",
    "issues": "text",
    "logs": "text",
    "input_hash": "text",
    "output_hash": "text",
    "state_delta_hash": "text",
    "input": "text",
    "input_path": "text",
    "output": "text",
    "output_path": "text",
    "redacted": "texts",
    "opaque": "texts",
    "cut": "text",
    "module": "text",
    "qualname": "text",
    "file": "text",
    "line": "number",
    "code_hash": "text",
}


def row_of(name: str, trace: Trace, outcome: str, entry: Entry) -> Row:
    """Return a step as a flat row: text, numbers, lists of text, and None where it has no value.

    Values, details of errors and other records are JSON text; a hash is ``algorithm:digits``. A number that has more
    than 64 bits is None.

    Args:
        name: of the trace.
        trace: the trace.
        outcome: how its run ended.
        entry: the step.
    """
    step, run = entry.step, trace.run
    return {
        "trace": name,
        "pack": trace.pack.pack_ref,
        "flow": trace.flow.id,
        "flow_version": trace.flow.version,
        "outcome": outcome,
        "run_id": step.run_id or (None if run is None else run.id),
        "pointer": entry.pointer,
        "parent": None if entry.parent is None else entry.parent.pointer,
        "depth": entry.depth,
        "state": entry.state,
        "node_id": step.node_id,
        "component_id": step.component_id,
        "operation": step.operation,
        "step_id": step.step_id,
        "parent_step_id": step.parent_step_id,
        "thread": step.thread,
        "started_at": step.started_at,
        "duration_ms": _number(step.duration_ms),
        "duration_ns": _number(step.duration_ns),
        **_error(step.error),
        "issues": _records(step.validation_issues),
        "logs": _records(step.logs),
        **_values(step),
        "redacted": step.redacted,
        "opaque": step.opaque,
        "cut": _records(step.cut),
        **_code(step),
    }


def error_type(error: StepError) -> str | None:
    """Return the class of a step's error as a traceback has it; None where the trace does not say it."""
    found = error.details.get("type") if isinstance(error.details, dict) else None
    return found if isinstance(found, str) else None


def _error(error: StepError | None) -> Row:
    names = ("error_code", "error_type", "error_message", "error_details")
    if error is None:
        return dict.fromkeys(names)
    details = None if error.details is None else _text(error.details)
    return dict(zip(names, (error.code, error_type(error), error.message, details), strict=True))


def _values(step: Step) -> Row:
    invocation = step.invocation_json
    payload = invocation.get("payload", UNSET) if isinstance(invocation, dict) else invocation
    return {
        "input_hash": _hash(step.input_hash),
        "output_hash": _hash(step.output_hash),
        "state_delta_hash": _hash(step.state_delta_hash),
        "input": _text(payload),
        "input_path": step.invocation_path,
        "output": _text(step.output_json),
        "output_path": step.output_path,
    }


def _code(step: Step) -> Row:
    code = step.code
    if code is None:
        return dict.fromkeys(("module", "qualname", "file", "line", "code_hash"))
    found = {"module": code.module, "qualname": code.qualname, "file": code.file, "line": _number(code.line)}
    return {**found, "code_hash": _hash(code.hash)}


def _number(value: int | None) -> int | None:
    return value if value is not None and -_LARGEST <= value <= _LARGEST else None


def _hash(found: Hash | None) -> str | None:
    return None if found is None else f"{found.algorithm}:{found.value}"


def _records(found: list[Any]) -> str | None:
    return _text([to_document(item) for item in found]) if found else None


def _text(value: Json | UnsetType) -> str | None:
    """Return a value as JSON text; None for no value."""
    if isinstance(value, UnsetType):
        return None
    data = bytes_of_tree(value)
    return json.dumps(value, separators=(",", ":")) if data is None else data.decode()  # deeper than orjson writes


# --- files


def json_of(document: object) -> bytes:
    """Return a document of text and numbers as JSON on one line, safe for a terminal.

    Raises:
        TypeError: it is nested too deeply, which nothing is that is made of rows.
    """
    return json_printable(tree_bytes(document).decode()).encode()


def json_lines(rows: Iterator[Row]) -> Iterator[bytes]:
    """Yield each row as a line of JSON."""
    for row in rows:
        yield json_of(row) + b"\n"


def parquet(rows: Iterator[Row]) -> Iterator[bytes]:
    """Yield the content of a Parquet file of the rows; ``started_at`` is a time in UTC there.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa  # pyright: ignore[reportMissingImports]
        from pyarrow import parquet as pq  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingExtraError("Parquet", "export", "pyarrow") from error
    types = {
        "text": pa.string(),
        "number": pa.int64(),
        "time": pa.timestamp("us", "UTC"),
        "texts": pa.list_(pa.string()),
    }
    schema = pa.schema([(name, types[kind]) for name, kind in _COLUMNS.items()])
    out = io.BytesIO()
    with pq.ParquetWriter(out, schema, compression="zstd") as writer:
        while chunk := [_with_time(row) for row, _ in zip(rows, range(_CHUNK), strict=False)]:
            writer.write_table(pa.Table.from_pylist(chunk, schema))
    yield out.getvalue()


def _with_time(row: Row) -> Row:
    start = parse_timestamp(row["started_at"])
    return {**row, "started_at": None if start is None else start // 1000}
