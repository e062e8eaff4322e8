"""From what is in memory to the records of the trace file. Everything slow happens here, at the time of writing."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Callable, Iterable
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, NamedTuple

from flowtrace import calls, log, model, source
from flowtrace.calls import Node, Policy
from flowtrace.canonical import MAX_DEPTH, Encoded, encode, loads, pretty
from flowtrace.clock import CLOCK, step_id
from flowtrace.config import TraceContext
from flowtrace.digest import Digest, hash_bytes
from flowtrace.environment import git_sha
from flowtrace.forms import Opaque
from flowtrace.step import Step

Store = Callable[[str, bytes], str | None]
"""Puts a payload's bytes, under their hash, beside the trace: the relative path, or None where that failed."""
_INPUT: Final = "/invocation_json/payload"
_OUTPUT: Final = "/output_json"


@lru_cache(maxsize=1)
def own_version() -> str:
    """Return flowtrace's version."""
    try:
        return version("flowtrace")
    except PackageNotFoundError:  # run from a source folder that was never installed
        return "0+unknown"


def warm_up() -> None:
    """Load what writing needs: in a forked child, an import that another thread had begun would never end."""
    own_version()
    platform.node()
    platform.python_version()


class RunFacts(NamedTuple):
    """What the envelope says of a run.

    Attributes:
        id: 32 hex digits.
        started: clock reading at its start, in ns.
        ended: clock reading at its end, in ns; None while it goes on.
        outcome: ``failed``, ``recovered``, ``ok``, ``interrupted`` or ``snapshot``.
        dropped: steps that rolled out of the buffer.
        overtaken: earlier runs to the same file that were not written.
    """

    id: str
    started: int
    ended: int | None
    outcome: str
    dropped: int
    overtaken: int


class _Setting(NamedTuple):
    """What the records of one trace have in common.

    Attributes:
        policy: what to keep of values.
        store: where payloads over the limit go.
        threads: name by identifier, of the threads that are alive.
    """

    policy: Policy
    store: Store
    threads: dict[int | None, str]


def trace_bytes(
    facts: RunFacts,
    context: TraceContext,
    steps: Iterable[Step],
    in_flight: Iterable[Step],
    policy: Policy,
    store: Store,
) -> bytes:
    """Return the bytes of a trace file.

    Args:
        facts: what is known of the run.
        context: what the trace says about the program.
        steps: finished steps, oldest first.
        in_flight: running steps, outermost first.
        policy: what to keep of their values.
        store: where payloads over the limit go.
    """
    setting = _Setting(policy, store, {thread.ident: thread.name for thread in threading.enumerate()})
    trace = model.Trace(
        trace_version=model.TRACE_VERSION,
        runner_version=own_version(),
        git_sha=git_sha(os.environ),
        pack=model.Pack(pack_ref=context.pack_ref, resolved_digest=context.resolved_digest),
        flow=model.Flow(id=context.flow_id, version=context.flow_version),
        steps=[_safe_record(step, setting) for step in steps],
        run=_run(facts),
        in_flight=[_safe_record(step, setting) for step in in_flight],
        dropped_steps=facts.dropped,
    )
    return pretty(model.new_document(trace))


def _run(facts: RunFacts) -> model.Run:
    return model.Run(
        id=facts.id,
        started_at=CLOCK.timestamp(facts.started),
        ended_at=None if facts.ended is None else CLOCK.timestamp(facts.ended),
        outcome=facts.outcome,
        pid=os.getpid(),
        host=platform.node(),
        python=platform.python_version(),
        overtaken_runs=facts.overtaken or None,
    )


def _safe_record(step: Step, setting: _Setting) -> model.Step:
    """Return a step's record; one whose values can't be told says so, and does not cost the others their file."""
    if step.record is not None:  # a run's first failure was written, and now its end is
        return step.record
    try:
        record = _record(step, setting)
        if step.ended and record.invocation_path is None:  # which tells of a file beside this one trace
            step.record = record
        return record
    except Exception as error:
        log.internal_fault("make the record of a step", error)
        step.input = encode(Opaque("unknown"))
        step.output = None
        return _record(step, setting)


def _record(step: Step, setting: _Setting) -> model.Step:
    node, policy = step.node, setting.policy
    given = calls.final_input(node, step.input, step.bound, policy)
    step.input = given  # a later write of the same run need not do this again
    duration = (step.ended or CLOCK.now()) - step.started
    record = model.Step(
        node_id=node.node_id,
        component_id=node.component,
        operation=node.operation,
        input_hash=_hash(given.digest),
        duration_ms=duration // 1_000_000,
        validation_issues=list(step.issues or ()),
        step_id=step_id(step.number),
        parent_step_id=step_id(step.parent) if step.parent else None,
        started_at=CLOCK.timestamp(step.started),
        duration_ns=duration,
        thread=setting.threads.get(step.thread) or f"thread-{step.thread}",
        code=_located(node),
        opaque=[_INPUT + pointer for pointer in given.opaque],
        redacted=[_INPUT + pointer for pointer in given.redacted],
    )
    if policy.captures_input(node):
        _show_input(record, given, policy, setting.store)
    if step.state_delta is not None:
        record.state_delta_hash = _hash(step.state_delta)
    _add_end(record, step, policy)
    return record


def _show_input(record: model.Step, given: Encoded, policy: Policy, store: Store) -> None:
    if given.data is not None and given.size > policy.max_value_bytes:
        record.invocation_path = store(hash_bytes(given.data).value, given.data)
        if record.invocation_path is not None:
            return
    record.invocation_json = {
        "component_id": record.component_id,
        "operation": record.operation,
        "payload": shown(given, policy),
    }


def _add_end(record: model.Step, step: Step, policy: Policy) -> None:
    """Add how a step ended: its output or its error."""
    if step.failure is not None:
        code, message, details = step.failure
        record.error = model.StepError(code=code, message=message, details=details)
    if step.output is None:
        return
    output = calls.final_output(step.node, step.output, policy)
    step.output = output
    record.output_hash = _hash(output.digest)
    record.opaque += [_OUTPUT + pointer for pointer in output.opaque]
    record.redacted += [_OUTPUT + pointer for pointer in output.redacted]
    if policy.capture_outputs:
        record.output_json = shown(output, policy)


def _hash(digest: Digest) -> model.Hash:
    return model.Hash(algorithm=digest.algorithm, value=digest.value)


def shown(encoded: Encoded, policy: Policy) -> Any:
    """Return a value as it stands in the trace; one that is too large or too deep is cut, and says so."""
    if encoded.data is None or encoded.size > policy.max_value_bytes:
        return _cut("larger than FLOWTRACE_MAX_VALUE_BYTES", encoded)
    try:
        value = loads(encoded.data)
    except ValueError:
        value = None
    if (value is None and encoded.data != b"null") or is_deep(value):
        return _cut(f"nested more than {MAX_DEPTH} levels", encoded)
    return value


def _cut(reason: str, encoded: Encoded) -> dict[str, Any]:
    return {"$py": "cut", "reason": reason, "size": encoded.size}


def is_deep(value: Any) -> bool:
    """Tell whether a value is nested deeper than what is shown."""
    level = [value]
    for _ in range(MAX_DEPTH):
        inner = [item for item in level if isinstance(item, list | dict)]
        if not inner:
            return False
        level = [part for item in inner for part in (item.values() if isinstance(item, dict) else item)]
    return True


def _located(node: Node) -> model.Code | None:
    if node.located is None and node.function is not None:
        node.located = source.locate(node.function)
    return node.located
