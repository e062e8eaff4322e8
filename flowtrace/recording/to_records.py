"""From what is in memory to the records of the trace file. Everything slow happens here, at the time of writing."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Callable, Iterable
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, NamedTuple

from flowtrace.host import log
from flowtrace.host.clock import CLOCK, step_id
from flowtrace.recording import call_values, code_location
from flowtrace.recording.node import Node, Policy
from flowtrace.recording.step import Step
from flowtrace.settings.config import TraceContext
from flowtrace.settings.variables import git_sha
from flowtrace.trace import model
from flowtrace.values.digest import Digest, hash_bytes
from flowtrace.values.encode import encode
from flowtrace.values.encoded import MAX_DEPTH, Encoded
from flowtrace.values.forms import Opaque
from flowtrace.values.json import loads, pretty
from flowtrace.values.scrub import EVERYTHING, Scrubber, texts_in_environment

Store = Callable[[str, bytes], str | None]
"""Puts a payload's bytes, under their hash, beside the trace: the relative path, or None where that failed."""
_INPUT: Final = "/invocation_json/payload"
_OUTPUT: Final = "/output_json"
_STATE_DELTA: Final = "/state_delta"
_NO_FILE: Final = ", and no payload file could be written"


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
        scrubber: takes what the steps hide out of the texts of their errors.
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
        facts: what is known of the run.
        context: what the trace says about the program.
        steps: finished steps, oldest first.
        in_flight: running steps, outermost first.
        policy: what to keep of their values.
        store: where payloads over the limit go.
    """
    steps, in_flight = list(steps), list(in_flight)
    threads = {thread.ident: thread.name for thread in threading.enumerate()}
    setting = _Setting(policy, store, threads, scrubber_of([*steps, *in_flight], policy))
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


def scrubber_of(steps: Iterable[Step], policy: Policy) -> Scrubber:
    """Return what knows the values that some steps hide; each value takes its final form for that.

    Args:
        steps: which steps.
        policy: what to keep of their values.
    """
    steps = list(steps)
    names = policy.secret(*dict.fromkeys(step.node for step in steps if step.node.redact))
    texts = dict.fromkeys(texts_in_environment(os.environ, names))
    for step in steps:
        try:
            texts.update(dict.fromkeys(_secrets(step, policy)))
        except Exception as error:
            log.internal_fault("find what a step hides", error)
            texts[EVERYTHING] = None
    return Scrubber(texts, names)


def _secrets(step: Step, policy: Policy) -> tuple[str, ...]:
    step.input = given = call_values.final_input(step.node, step.input, step.bound, policy)
    secrets = given.secrets
    if step.output is not None:
        step.output = output = call_values.final_output(step.node, step.output, policy)
        secrets += output.secrets
    return secrets if step.state_delta is None else secrets + step.state_delta.secrets


def _safe_record(step: Step, setting: _Setting) -> model.Step:
    """Return a step's record; one whose values can't be told says so, and does not cost the others their file."""
    if step.record is not None:  # a run's first failure was written, and now its end is
        return step.record
    try:
        record = _record(step, setting)
        if step.ended and record.invocation_path is None is record.output_path:  # these are beside this one trace
            step.record = record
        return record
    except Exception as error:
        log.internal_fault("make the record of a step", error)
        step.input = encode(Opaque("unknown"))
        step.output = None
        return _record(step, setting)


def _record(step: Step, setting: _Setting) -> model.Step:
    node, policy = step.node, setting.policy
    given = call_values.final_input(node, step.input, step.bound, policy)
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
        record.state_delta_hash = _hash(step.state_delta.digest)
        record.redacted += [_STATE_DELTA + pointer for pointer in step.state_delta.redacted]
    _add_end(record, step, policy, setting.store)
    _scrub(record, setting.scrubber)
    return record


def _scrub(record: model.Step, scrubber: Scrubber) -> None:
    """Take secrets out of the texts that came from the program."""
    if record.error is not None:
        record.error.message = scrubber.text(record.error.message)
        record.error.details = scrubber.scrubbed(record.error.details)
    record.validation_issues = [scrubbed_issue(issue, scrubber) for issue in record.validation_issues]


def scrubbed_issue(issue: model.ValidationIssue, scrubber: Scrubber) -> model.ValidationIssue:
    """Return a validation issue without secrets in it."""
    return model.ValidationIssue(scrubber.known(issue.code), scrubber.known(issue.path), scrubber.text(issue.message))


def _show_input(record: model.Step, given: Encoded, policy: Policy, store: Store) -> None:
    record.invocation_path = _beside(given, policy, store)
    if record.invocation_path is None:
        record.invocation_json = {
            "component_id": record.component_id,
            "operation": record.operation,
            "payload": shown(given, policy, _NO_FILE),
        }


def _beside(value: Encoded, policy: Policy, store: Store) -> str | None:
    """Put a value that is too large for the trace beside it; None where it isn't, or can't be."""
    if value.data is None or value.size <= policy.max_value_bytes:
        return None
    return store(hash_bytes(value.data).value, value.data)


def _add_end(record: model.Step, step: Step, policy: Policy, store: Store) -> None:
    """Add how a step ended: its output or its error."""
    if step.failure is not None:
        code, message, details = step.failure
        record.error = model.StepError(code=code, message=message, details=details)
    if step.output is None:
        return
    output = call_values.final_output(step.node, step.output, policy)
    step.output = output
    record.output_hash = _hash(output.digest)
    record.opaque += [_OUTPUT + pointer for pointer in output.opaque]
    record.redacted += [_OUTPUT + pointer for pointer in output.redacted]
    if policy.capture_outputs:
        record.output_path = _beside(output, policy, store)
        if record.output_path is None:
            record.output_json = shown(output, policy, _NO_FILE)


def _hash(digest: Digest) -> model.Hash:
    return model.Hash(algorithm=digest.algorithm, value=digest.value)


def shown(encoded: Encoded, policy: Policy, remark: str = "") -> Any:
    """Return a value as it stands in the trace; one that is too large or too deep is cut, and says so.

    Args:
        encoded: the value.
        policy: the limits.
        remark: what to add where the value could have gone beside the trace.
    """
    if encoded.data is None:
        too_large = encoded.size > policy.buffer_bytes
        reason = "larger than FLOWTRACE_BUFFER_BYTES" if too_large else "no room in FLOWTRACE_BUFFER_BYTES"
        return cut(reason, encoded.size)
    if encoded.size > policy.max_value_bytes:
        return cut(f"larger than FLOWTRACE_MAX_VALUE_BYTES{remark}", encoded.size)
    return shown_whole(encoded.data)


def shown_whole(data: bytes) -> Any:
    """Return a value as it stands in the trace, from its canonical bytes; one that is too deep is cut."""
    try:
        value = loads(data)
    except ValueError:
        value = None
    if (value is None and data != b"null") or _is_deep(value):
        return cut(f"nested more than {MAX_DEPTH} levels", len(data))
    return value


def cut(reason: str, size: int) -> dict[str, Any]:
    """Return what stands in the place of a value that is not shown.

    Args:
        reason: why not.
        size: of the value, in bytes.
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


def _located(node: Node) -> model.Code | None:
    if node.located is None and node.function is not None:
        node.located = code_location.locate(node.function)
    return node.located
