"""The records of the trace file, made of the steps in memory. Everything slow happens here, when a trace is written."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, NamedTuple

from flowtrace.host import log
from flowtrace.host.switch import environment
from flowtrace.host.system import CLOCK, copy_of, os, step_id
from flowtrace.recording import call_values
from flowtrace.recording.node import Node, Policy, locate
from flowtrace.recording.program_texts import add_logs, scrubbed_step, seen_often, source_of
from flowtrace.recording.step import THREAD_NAMES, Step
from flowtrace.settings.config import TraceContext
from flowtrace.settings.variables import git_sha
from flowtrace.trace import layout, model
from flowtrace.values.encode import encode
from flowtrace.values.encoded import MAX_DEPTH, CutPart, Encoded, hash_bytes
from flowtrace.values.forms import Opaque
from flowtrace.values.json import is_deeper, loads
from flowtrace.values.redaction import SecretNames
from flowtrace.values.scrub import (
    EVERYTHING,
    Scrubber,
    piece_holds_secrets,
    texts_in_environment,
    without_secrets_in_texts,
)

Store = Callable[[str, bytes, str], str | None]
"""Writes bytes beside the trace, named by their hash. Returns the relative path; None where that failed."""
_platform: Final = copy_of(platform)
host_name: Final[Callable[[], str]] = _platform.node
python_version: Final[Callable[[], str]] = _platform.python_version
_NO_FILE: Final = ", and no payload file could be written"
_OF_A_RECORD: Final = 1000  # bytes of a step's text or record, beside its values


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
        failed_step: number of the step in which the error of the run began; 0 for none.
    """

    id: str
    started: int
    ended: int | None
    outcome: str
    dropped: int
    overtaken: int
    failed_step: int


class _Shared(NamedTuple):
    """Shared by the records of one trace.

    Attributes:
        policy: what to keep of values.
        store: writes payloads over the limit.
        other_runs: the runs of the steps that are of others, by number.
    """

    policy: Policy
    store: Store
    other_runs: dict[int, str]


def trace_text(
    facts: RunFacts,
    context: TraceContext,
    steps: Iterable[Step],
    in_flight: Iterable[Step],
    policy: Policy,
    store: Store,
    other_runs: dict[int, str],
) -> Callable[[], Iterator[bytes]]:
    """Return a function that yields the text of a trace file in pieces.

    All values are looked at before it returns, since the text of an error may quote what any step hides.

    Args:
        facts: about the run.
        context: what the trace says about the program.
        steps: finished steps, oldest first.
        in_flight: running steps, outermost first.
        policy: what to keep of their values.
        store: writes payloads over the limit.
        other_runs: the id of the run of each step that is not of this one, by its number.
    """
    steps, in_flight = list(steps), list(in_flight)
    context = policy.shown(context)
    envelope = model.Trace(
        trace_version=model.TRACE_VERSION,
        runner_version=own_version(),
        git_sha=git_sha(environment()),
        pack=model.Pack(pack_ref=context.pack_ref, resolved_digest=context.resolved_digest),
        flow=model.Flow(id=context.flow_id, version=context.flow_version),
        steps=[],
        run=_run(facts),
        dropped_steps=facts.dropped,
    )
    texts = _StepTexts(steps, in_flight, _Shared(policy, store, other_runs))
    envelope.source = source_of(facts.failed_step, [*steps, *in_flight], texts.scrubber)
    count = len(steps)
    return lambda: layout.trace_text(envelope, texts.between(0, count), texts.between(count, None))


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
        failed_step_id=step_id(facts.failed_step) if facts.failed_step else None,
    )


# --- what the steps hide


def scrubber_of(steps: Iterable[Step], policy: Policy) -> Scrubber:
    """Return a scrubber for the values that some steps hide.

    Args:
        steps: the steps.
        policy: what to keep of their values.
    """
    steps = list(steps)
    names = _secret_names(steps, policy)
    texts = dict.fromkeys(texts_in_environment(os.environ, names))
    for step in steps:
        texts.update(dict.fromkeys(_hidden_texts(step, policy)))
    return Scrubber(texts, names)


def _secret_names(steps: Iterable[Step], policy: Policy) -> SecretNames:
    return policy.secret(*dict.fromkeys(step.node for step in steps if step.node.redact))


def _hidden_texts(step: Step, policy: Policy) -> tuple[str, ...]:
    if step.text is not None or step.scrubbed is not None:
        return step.secrets
    try:
        return _Values.of(step, policy).secrets
    except Exception as error:
        log.internal_fault("find what a step hides", error)
        return (EVERYTHING,)


class _Values(NamedTuple):
    """The values of a step in their canonical form."""

    given: Encoded
    output: Encoded | None
    secrets: tuple[str, ...]

    @classmethod
    def of(cls, step: Step, policy: Policy) -> _Values:
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
        return len(self.given.data or b"") + (0 if self.output is None else len(self.output.data or b""))


# --- the texts of the steps


_NOT_WRITTEN: Final = ((), b"")  # no scrubber hides so little


def _bytes_of_text(step: Step) -> int:
    return len(step.text or b"") + (0 if step.scrubbed is None else len(step.scrubbed[1]))


class _StepTexts:
    """Makes the texts of the steps of one trace: their values are looked at first, then they are written.

    What the first look made is kept for the second, and the text of a finished step also for later writes of the same
    run, up to the bytes of a buffer. Beyond it, a step is made again each time. The texts of errors and issues are
    made last: they are scrubbed of all that any of the steps hides, and again where a later trace hides others.

    A step in flight may end in another thread meanwhile. It stays in flight in this trace, and its text is not kept:
    its clock may have stopped already while its error or result is still to come.
    """

    def __init__(self, finished: list[Step], in_flight: list[Step], shared: _Shared) -> None:
        self._steps = steps = [*finished, *in_flight]
        self._running = frozenset(in_flight)
        self._shared = shared
        self._room = shared.policy.buffer_bytes - sum(map(_bytes_of_text, steps))
        names = _secret_names(steps, shared.policy)
        self._hidden = dict.fromkeys(texts_in_environment(os.environ, names))
        self._made = [self._look(step) for step in steps]
        self.scrubber = Scrubber(self._hidden, names)

    def between(self, start: int, end: int | None) -> Iterator[bytes]:
        """Yield the texts of some of the steps."""
        others = self._shared.other_runs
        for step, made in zip(self._steps[start:end], self._made[start:end], strict=True):
            text = self._text(step, made)
            yield layout.with_run(text, others[step.number]) if step.number in others else text

    def _look(self, step: Step) -> bytes | model.Step | None:
        """Note what a step hides, and return its text or its record where there is room to keep that."""
        text = step.text
        if step not in self._running and (text is not None or step.scrubbed is not None):
            self._hide(step.secrets)
            return text
        try:
            values = self._values(step)
            self._hide(values.secrets)
            self._room -= _OF_A_RECORD + values.bytes_kept() + (0 if step.logs is None else step.logs.bytes_kept())
            return self._kept(step, values) if self._room > 0 else None
        except Exception as error:
            log.internal_fault("find what a step hides", error)
            self._hide((EVERYTHING,))
            return None

    def _values(self, step: Step) -> _Values:
        values = _Values.of(step, self._shared.policy)
        return values._replace(output=None) if step in self._running else values

    def _record(self, step: Step, values: _Values) -> model.Step:
        return (_running_record if step in self._running else _record)(step, values, self._shared)

    def _hide(self, secrets: tuple[str, ...]) -> None:
        if secrets:
            self._hidden.update(dict.fromkeys(secrets))

    def _kept(self, step: Step, values: _Values) -> bytes | model.Step:
        record = self._record(step, values)
        if step in self._running or _names_a_file(record):  # payload files belong to this one trace
            return record
        if values.secrets:
            step.secrets = values.secrets
        if record.error is not None or record.validation_issues or record.logs:
            step.scrubbed = _NOT_WRITTEN
            return record
        step.text = layout.step_text(record)
        return step.text

    def _text(self, step: Step, made: bytes | model.Step | None) -> bytes:
        """Return a step's text; a fault in one step costs only its values, and not the other steps their file."""
        if isinstance(made, bytes):
            return made
        scrubbed = None if step in self._running else step.scrubbed
        if scrubbed is not None and scrubbed[0] == self.scrubber.hides:
            return scrubbed[1]
        try:
            record = made or self._record(step, self._values(step))
            text = layout.step_text(scrubbed_step(record, self.scrubber))
        except Exception as error:
            log.internal_fault("make the record of a step", error)
            unknown = _Values(encode(Opaque("unknown")), None, ())
            return layout.step_text(scrubbed_step(_record(step, unknown, self._shared), self.scrubber))
        if scrubbed is not None:
            step.scrubbed = self.scrubber.hides, text
        return text


def _names_a_file(record: model.Step) -> bool:
    return record.invocation_path is not None or record.output_path is not None or bool(record.arrays)


def _record(step: Step, values: _Values, shared: _Shared) -> model.Step:
    """Return the record of a finished step; secrets are still in the texts of its error, issues and logs."""
    record = _running_record(step, values, shared)
    if step.failure is not None:
        code, message, details = step.failure
        record.error = model.StepError(code=code, message=message, details=details)
    if values.output is not None:
        _add_output(record, step.node, values.output, shared)
    return record


def _running_record(step: Step, values: _Values, shared: _Shared) -> model.Step:
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


def _add_output(record: model.Step, node: Node, output: Encoded, shared: _Shared) -> None:
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
