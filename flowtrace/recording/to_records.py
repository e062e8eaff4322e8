"""The records of the trace file, made of the steps in memory. Everything slow happens here, when a trace is written."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from threading import enumerate as living_threads
from typing import Any, Final, NamedTuple

from flowtrace.host import log
from flowtrace.host.clock import CLOCK, step_id
from flowtrace.host.system import copy_of, os
from flowtrace.recording import call_values, code_location
from flowtrace.recording.node import Node, Policy
from flowtrace.recording.step import Step
from flowtrace.settings.config import TraceContext
from flowtrace.settings.variables import git_sha
from flowtrace.trace import model
from flowtrace.values.digest import hash_bytes
from flowtrace.values.encode import encode
from flowtrace.values.encoded import MAX_DEPTH, Encoded
from flowtrace.values.forms import Opaque
from flowtrace.values.json import loads, pretty
from flowtrace.values.scrub import EVERYTHING, Scrubber, texts_in_environment

Store = Callable[[str, bytes], str | None]
"""Writes a payload's bytes beside the trace, named by their hash. Returns the relative path; None where that failed."""
_platform: Final = copy_of(platform)
host_name: Final[Callable[[], str]] = _platform.node
python_version: Final[Callable[[], str]] = _platform.python_version
_NO_FILE: Final = ", and no payload file could be written"


@lru_cache(maxsize=1)
def own_version() -> str:
    """Return flowtrace's version."""
    try:
        return version("flowtrace")
    except PackageNotFoundError:  # run from a source folder that was never installed
        return "0+unknown"


def warm_up() -> None:
    """Load all that writing needs: in a forked child, an import that another thread had begun would never end."""
    own_version()
    host_name()
    python_version()


class RunFacts(NamedTuple):
    """The facts about a run in a trace's envelope.

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


class _Shared(NamedTuple):
    """Shared by the records of one trace.

    Attributes:
        policy: what to keep of values.
        store: writes payloads over the limit.
        threads: name by identifier, of the threads that are alive.
        scrubber: removes what the steps hide from the texts of their errors.
    """

    policy: Policy
    store: Store
    threads: dict[int | None, str]
    scrubber: Scrubber


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
        facts: about the run.
        context: what the trace says about the program.
        steps: finished steps, oldest first.
        in_flight: running steps, outermost first.
        policy: what to keep of their values.
        store: writes payloads over the limit.
    """
    steps, in_flight = list(steps), list(in_flight)
    threads = {thread.ident: thread.name for thread in living_threads()}
    shared = _Shared(policy, store, threads, scrubber_of([*steps, *in_flight], policy))
    trace = model.Trace(
        trace_version=model.TRACE_VERSION,
        runner_version=own_version(),
        git_sha=git_sha(os.environ),
        pack=model.Pack(pack_ref=context.pack_ref, resolved_digest=context.resolved_digest),
        flow=model.Flow(id=context.flow_id, version=context.flow_version),
        steps=[_safe_record(step, shared) for step in steps],
        run=_run(facts),
        in_flight=[_safe_record(step, shared) for step in in_flight],
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
        host=host_name(),
        python=python_version(),
        overtaken_runs=facts.overtaken or None,
    )


def scrubber_of(steps: Iterable[Step], policy: Policy) -> Scrubber:
    """Return a scrubber for the values that some steps hide; each value gets its canonical form for that.

    Args:
        steps: the steps.
        policy: what to keep of their values.
    """
    steps = list(steps)
    names = policy.secret(*dict.fromkeys(step.node for step in steps if step.node.redact))
    texts = dict.fromkeys(texts_in_environment(os.environ, names))
    for step in steps:
        try:
            texts.update(dict.fromkeys(_hidden_texts(step, policy)))
        except Exception as error:
            log.internal_fault("find what a step hides", error)
            texts[EVERYTHING] = None
    return Scrubber(texts, names)


def _hidden_texts(step: Step, policy: Policy) -> tuple[str, ...]:
    step.input = given = call_values.canonical_input(step.node, step.input, step.bound, policy)
    secrets = given.secrets
    if step.output is not None:
        step.output = output = call_values.canonical_output(step.node, step.output, policy)
        secrets += output.secrets
    return secrets if step.state_delta is None else secrets + step.state_delta.secrets


def _safe_record(step: Step, shared: _Shared) -> model.Step:
    """Return a step's record; a fault in one step costs only its values, and not the other steps their file."""
    if step.record is not None:  # it was made when the run's first failure was written
        return step.record
    try:
        record = _record(step, shared)
        if step.ended and record.invocation_path is None is record.output_path:  # those belong to this one trace
            step.record = record
        return record
    except Exception as error:
        log.internal_fault("make the record of a step", error)
        step.input = encode(Opaque("unknown"))
        step.output = None
        return _record(step, shared)


def _record(step: Step, shared: _Shared) -> model.Step:
    node, policy = step.node, shared.policy
    given = call_values.canonical_input(node, step.input, step.bound, policy)
    step.input = given  # for a later write of the same run
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
        thread=shared.threads.get(step.thread) or f"thread-{step.thread}",
        code=_code_of(node),
        opaque=[model.INPUT + pointer for pointer in given.opaque],
        redacted=[model.INPUT + pointer for pointer in given.redacted],
    )
    if policy.captures_input(node):
        _add_payload(record, given, policy, shared.store)
    if step.state_delta is not None:
        record.state_delta_hash = model.hash_record(step.state_delta.digest)
        record.redacted += [model.STATE_DELTA + pointer for pointer in step.state_delta.redacted]
    _add_end(record, step, policy, shared.store)
    _scrub(record, shared.scrubber)
    return record


def _scrub(record: model.Step, scrubber: Scrubber) -> None:
    """Remove secrets from the texts that came from the program."""
    if record.error is not None:
        record.error.message = scrubber.text(record.error.message)
        record.error.details = scrubber.scrubbed(record.error.details)
    record.validation_issues = [scrubbed_issue(issue, scrubber) for issue in record.validation_issues]


def scrubbed_issue(issue: model.ValidationIssue, scrubber: Scrubber) -> model.ValidationIssue:
    """Return a validation issue without secrets in it."""
    return model.ValidationIssue(
        scrubber.without_secrets(issue.code), scrubber.without_secrets(issue.path), scrubber.text(issue.message)
    )


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
    return store(hash_bytes(value.data).value, value.data)


def _add_end(record: model.Step, step: Step, policy: Policy, store: Store) -> None:
    """Add a step's output or its error."""
    if step.failure is not None:
        code, message, details = step.failure
        record.error = model.StepError(code=code, message=message, details=details)
    if step.output is None:
        return
    output = call_values.canonical_output(step.node, step.output, policy)
    step.output = output
    record.output_hash = model.hash_record(output.digest)
    record.opaque += [model.OUTPUT + pointer for pointer in output.opaque]
    record.redacted += [model.OUTPUT + pointer for pointer in output.redacted]
    if policy.capture_outputs:
        record.output_path = _stored_beside(output, policy, store)
        if record.output_path is None:
            record.output_json = json_or_cut(output, policy, _NO_FILE)


def json_or_cut(encoded: Encoded, policy: Policy, remark: str = "") -> Any:
    """Return a value as it stands in the trace; in place of one that is too large or too deep, a note that it was cut.

    Args:
        encoded: the value.
        policy: the limits.
        remark: added to the reason where the value could have gone beside the trace.
    """
    if encoded.data is None:
        too_large = encoded.size > policy.buffer_bytes
        reason = "larger than FLOWTRACE_BUFFER_BYTES" if too_large else "no room in FLOWTRACE_BUFFER_BYTES"
        return cut(reason, encoded.size)
    if encoded.size > policy.max_value_bytes:
        return cut(f"larger than FLOWTRACE_MAX_VALUE_BYTES{remark}", encoded.size)
    return json_of(encoded.data)


def json_of(data: bytes) -> Any:
    """Return a value as it stands in the trace, from its canonical bytes; one that is too deep is cut."""
    try:
        value = loads(data)
    except ValueError:
        value = None
    if (value is None and data != b"null") or _is_deep(value):
        return cut(f"nested more than {MAX_DEPTH} levels", len(data))
    return value


def cut(reason: str, size: int) -> dict[str, Any]:
    """Return the note that stands in the trace instead of a value.

    Args:
        reason: why the value was cut.
        size: its size in bytes.
    """
    return {"$py": "cut", "reason": reason, "size": size}


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        inner = [item for item in level if isinstance(item, list | dict)]
        if not inner:
            return False
        level = [part for item in inner for part in (item.values() if isinstance(item, dict) else item)]
    return True


def _code_of(node: Node) -> model.Code | None:
    if node.code is None and node.function is not None:
        node.code = code_location.locate(node.function)
    return node.code
