"""Traces made by hand: what a test says of a step is in it, and everything else has a plain default."""

from __future__ import annotations

import json

from blake3 import blake3

from flowtrace.trace.reading import parse_trace


def hash_of(value, algorithm="blake3"):
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return {"algorithm": algorithm, "value": blake3(text.encode()).hexdigest()}


def step(node, given=None, result=..., *, error=None, captured=False, code=None, at=None, lasts=1000, **fields):
    """Return a step's record: its input and result as values, its error as text, its code as a word."""
    component, _, operation = node.rpartition(".")
    record = {"node_id": node, "component_id": component, "operation": operation, "input_hash": hash_of(given)}
    if captured:
        record["invocation_json"] = {"component_id": component, "operation": operation, "payload": given}
    if error is None and result is not None:
        record["output_hash"] = hash_of("out" if result is ... else result)
        if captured and result is not ...:
            record["output_json"] = result
    record["duration_ms"] = 0
    if error is not None:
        record["error"] = {"code": "node_error", "message": error, "details": None}
    if code is not None:
        record["code"] = {"module": "m", "qualname": operation, "file": "m.py", "line": 1, "hash": hash_of(code)}
    if at is not None:
        record |= {"started_at": f"2026-11-24T00:00:00.{at:06d}Z", "duration_ns": lasts}
    return record | fields


def trace(*steps, flow="f", dropped=None, **fields):
    """Return a trace of these steps."""
    document = {"trace_version": 1, "pack": {"pack_ref": "p"}, "flow": {"id": flow, "version": "1"}, "steps": steps}
    if dropped is not None:
        document["dropped_steps"] = dropped
    return parse_trace(json.dumps(document | fields).encode())


def run(outcome, python="3.13.0"):
    """Return a run's record."""
    times = {"started_at": "2026-11-24T00:00:00Z", "ended_at": "2026-11-24T00:00:01Z"}
    return {"id": "0" * 32, **times, "outcome": outcome, "pid": 1, "host": "h", "python": python}
