"""The records of a trace file, version 1: their fields, their text, and their JSON Schema.

The fields of the v1 core come first in each record, in the order of the format; everything that flowtrace adds
comes after them and is optional. Fields that this version does not know are kept in ``extra``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import msgspec
from msgspec import UNSET as UNSET
from msgspec import DecodeError as DecodeError
from msgspec import Raw as Raw
from msgspec import Struct as Struct
from msgspec import UnsetType as UnsetType
from msgspec import ValidationError as ValidationError
from msgspec import convert as convert
from msgspec import field as field
from msgspec import to_builtins as to_builtins

from flowtrace.values.encoded import Digest

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from flowtrace.trace.provenance import Provenance


TRACE_VERSION: Final = 1
INPUT: Final = "/invocation_json/payload"  # pointers in a step's opaque and redacted begin with one of these three
OUTPUT: Final = "/output_json"
STATE_DELTA: Final = "/state_delta"
EXTRA_FIELD: Final = "(fields unknown to this version of flowtrace)"  # no real field has this name
Json = dict[str, Any] | list[Any] | str | int | float | bool | None
_RecordT = TypeVar("_RecordT", bound="Record")


class Record(Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Base of every record. Unknown fields are refused here, so that `flowtrace.trace.reading` can set them apart.

    Attributes:
        extra: the fields of this record that this version of flowtrace does not know, as they were in the file.
    """

    extra: dict[str, Any] = field(default_factory=dict, name=EXTRA_FIELD)


class Hash(Record, kw_only=True, gc=False):
    """A hash of a value's canonical JSON.

    Attributes:
        algorithm: ``"blake3"`` or ``"blake3-keyed"``.
        value: 64 lowercase hex digits.
    """

    algorithm: str
    value: str


class ValidationIssue(Record, frozen=True, gc=False):  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
    """A problem that a validator found in a payload.

    Attributes:
        code: machine-readable kind, such as ``"missing_required_field"``.
        path: JSON Pointer (RFC 6901) into the payload.
        message: the same for people.
    """

    code: str
    path: str
    message: str


class Cut(Record, kw_only=True):
    """A part of a value that was left out, since recording it would have cost too much.

    Attributes:
        path: JSON Pointer of the mark that stands for it, as in ``opaque``.
        reason: ``work``: the value took all the work that a value may take. ``overhead``: the values of this node took
            too much of the program's time. ``nested``: it never ends.
        count: how many items or members of the container there were seen before it.
    """

    path: str
    reason: str
    count: int


class LogEntry(Record, kw_only=True, gc=False):
    """A log record that the program made while a step ran.

    Attributes:
        logged_at: RFC 3339 UTC.
        level: the name of its level, such as ``"WARNING"``.
        logger: the name of its logger; absent where it has none.
        message: its text; a long one is cut.
        error: type and text of the exception that it was logged with.
    """

    logged_at: str
    level: str
    logger: str | None = None
    message: str
    error: str | None = None


class StepError(Record, kw_only=True):
    """Why a step failed.

    Attributes:
        code: ``node_error``, ``flow_error``, ``node_cancelled``, ``node_interrupted`` or ``process_died``.
        message: the error's text.
        details: type, cause chain, notes, task and frames, or None where there is nothing to add.
    """

    code: str
    message: str
    details: Json


class Code(Record, kw_only=True, frozen=True, gc=False):  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
    """Where a step's function is defined.

    Attributes:
        module: its module's name.
        qualname: its qualified name.
        file: its source file, or None.
        line: the line of its definition, from 1, or None.
        hash: hash of its syntax tree without positions and docstrings, or None where there is no source.
    """

    module: str
    qualname: str
    file: str | None = None
    line: int | None = None
    hash: Hash | None = None


class Step(Record, kw_only=True):
    """One call of a node.

    Attributes:
        node_id: the node within its flow.
        component_id: the component that the node belongs to.
        operation: what was called in it.
        input_hash: hash of the bound parameters as they were before the call.
        invocation_json: component_id, operation and the captured payload.
        invocation_path: payload file beside the trace, for a captured payload over the limit.
        output_hash: hash of the result; absent where the step failed or still runs.
        state_delta_hash: hash of the last value given to ``record_state_delta``.
        duration_ms: whole milliseconds.
        validation_issues: what was reported while the step ran.
        error: why it failed.
        step_id: 16 hex digits, unique in the run.
        parent_step_id: the step that this one was called in.
        started_at: RFC 3339 UTC.
        duration_ns: the same duration in nanoseconds.
        thread: name of the thread that the call began in.
        code: the function's definition.
        output_json: the captured result.
        output_path: payload file beside the trace, for a captured result over the limit.
        opaque: JSON Pointers of the parts of the payload (``/invocation_json/payload...``) and of the
            result (``/output_json...``) whose content could not be recorded, and of a state delta.
        redacted: JSON Pointers of the parts that were hidden, in the same way; and of those of a state delta
            (``/state_delta...``), of which the trace has only the hash. Of a text, only a part may be hidden, which the
            hash of the value still covers.
        cut: the parts that were left out, with their reasons; each is in ``opaque`` as well.
        arrays: payload files with the content of large arrays and columns, by the hash that stands for it in the
            captured values.
        logs: the last log records that were made while it ran and no step inside it did, oldest first; at most 20.
        dropped_logs: how many earlier ones there were; absent for none.
        run_id: id of its run, where that is another one than ``run.id``: outside a flow, a trace has the last steps of
            the process.
    """

    node_id: str
    component_id: str
    operation: str
    input_hash: Hash
    invocation_json: Json | UnsetType = UNSET
    invocation_path: str | None = None
    output_hash: Hash | None = None
    state_delta_hash: Hash | None = None
    duration_ms: int
    validation_issues: list[ValidationIssue] = field(default_factory=list)
    error: StepError | None = None
    step_id: str | None = None
    parent_step_id: str | None = None
    started_at: str | None = None
    duration_ns: int | None = None
    thread: str | None = None
    code: Code | None = None
    output_json: Json | UnsetType = UNSET
    output_path: str | None = None
    opaque: list[str] = field(default_factory=list)
    redacted: list[str] = field(default_factory=list)
    cut: list[Cut] = field(default_factory=list)
    arrays: dict[str, str] = field(default_factory=dict)
    logs: list[LogEntry] = field(default_factory=list)
    dropped_logs: int | None = None
    run_id: str | None = None

    def __repr__(self) -> str:
        from flowtrace.trace.notebook import step_line

        return step_line(self)

    def _repr_html_(self) -> str:
        from flowtrace.trace.notebook import step_html

        return step_html(self)


class Pack(Record, kw_only=True):
    """The program or package that the flow was shipped in.

    Attributes:
        pack_ref: name of the program or package.
        resolved_digest: digest of the shipped artifact.
    """

    pack_ref: str
    resolved_digest: str | None = None


class Flow(Record, kw_only=True):
    """The flow that ran.

    Attributes:
        id: the flow's name.
        version: its version, or ``"unknown"``.
    """

    id: str
    version: str


class Run(Record, kw_only=True):
    """One execution of a flow.

    Attributes:
        id: 32 hex digits.
        started_at: RFC 3339 UTC.
        ended_at: RFC 3339 UTC; absent while the run goes on.
        outcome: ``failed``, ``recovered``, ``ok``, ``interrupted``, ``snapshot`` or ``slow``.
        pid: process id.
        host: the machine's name.
        python: version of the interpreter.
        overtaken_runs: how many earlier runs in a burst never reached this file; absent for none.
        failed_step_id: the step in which the error began that ended the run, or that is on its way to do so.
    """

    id: str
    started_at: str
    ended_at: str | None = None
    outcome: str
    pid: int
    host: str
    python: str
    overtaken_runs: int | None = None
    failed_step_id: str | None = None


class SourceLines(Record, kw_only=True):
    """Lines of a source file, as they were when the trace was written.

    Attributes:
        file: the file.
        line: the number of the first one, from 1.
        lines: their texts, without line ends; long ones are cut.
    """

    file: str
    line: int
    lines: list[str]


class Trace(Record, kw_only=True):
    """The records of a trace file.

    Attributes:
        trace_version: 1.
        runner_version: version of the program that wrote the file.
        git_sha: the commit that ran.
        pack: the program or package that the flow was shipped in.
        flow: the flow that ran.
        steps: the last steps, in the order in which they finished.
        run: the execution that the steps belong to.
        in_flight: steps that were still running when the file was written, outermost first.
        dropped_steps: how many earlier steps rolled out of the buffer.
        source: the lines round the program's own frames of the error that ended the run, innermost first.
    """

    trace_version: int
    runner_version: str | None = None
    git_sha: str | None = None
    pack: Pack
    flow: Flow
    steps: list[Step]
    run: Run | None = None
    in_flight: list[Step] = field(default_factory=list)
    dropped_steps: int | None = None
    source: list[SourceLines] = field(default_factory=list)

    def __repr__(self) -> str:
        from flowtrace.trace.notebook import trace_line

        return trace_line(self)

    def _repr_html_(self) -> str:
        from flowtrace.trace.notebook import trace_html

        return trace_html(self)

    @property
    def failed_step(self) -> Step | None:
        """The step in which the failure began; None where nothing failed in the end, or the step is not in the file.

        It is the one that ``run.failed_step_id`` names. In a file that names none, it is the innermost step of the last
        failure that was no cancellation.
        """
        run = self.run
        if run is not None and run.failed_step_id is not None:
            listed = (*self.steps, *self.in_flight)
            return next((step for step in listed if step.step_id == run.failed_step_id), None)
        is_over_well = run is not None and run.outcome in ("ok", "recovered", "slow")
        return None if is_over_well else likely_failed_step(self.steps, self.in_flight)

    def provenance(
        self,
        step: Step | int | str | None = None,
        pointer: str | None = None,
        *,
        path: str | os.PathLike[str] | None = None,
    ) -> Provenance:
        """Return where a value came from: its way backwards through the recorded steps.

        Args:
            step: the step that has it: the record, its number, step id or node id; None means the one that failed.
            pointer: JSON Pointer into the step's input (``/line/list_price``), or into its output where it begins with
                ``/output_json``; None means the value that the step's error is about.
            path: the trace file, to find its payload files.

        Returns:
            The links, the value itself first. What can't be known is a link, too.

        Raises:
            ProvenanceError: there is no such step or value; the message says what there is.
        """
        from flowtrace.trace.origins import Origins

        return Origins(self, path).of(step, pointer)


def is_within(pointer: str, part: str) -> bool:
    """Return True if a JSON Pointer leads to a part of a step, or into it."""
    return pointer == part or pointer.startswith(f"{part}/")


def checked(record: _RecordT) -> _RecordT:
    """Return a copy of a record, every field of which has been checked.

    Raises:
        ValidationError: a field has the wrong type.
    """
    return convert(msgspec.to_builtins(record), type(record))


to_json: Final = msgspec.json.Encoder().encode
"""Returns a record as JSON on one line; captured values in it may be `Raw`, JSON text that is copied."""


def in_lines(data: bytes) -> bytes:
    """Return JSON text in the layout of the trace file, without making objects of it."""
    return msgspec.json.format(data, indent=2)


from_json: Final = msgspec.json.decode
decoder_of: Final = msgspec.json.Decoder
schema_of: Final = msgspec.json.schema
set_frozen: Final = msgspec.structs.force_setattr


def hash_record(digest: Digest) -> Hash:
    """Return a digest as a record."""
    return Hash(algorithm=digest.algorithm, value=digest.value)


def new_document(record: Record) -> dict[str, Any]:
    """Return a record that has no unknown fields as JSON-like objects in the file's field order."""
    return cast("dict[str, Any]", msgspec.to_builtins(record))


def to_document(record: Record) -> dict[str, Any]:
    """Return a record as JSON-like objects in the file's field order, unknown fields last."""
    return cast("dict[str, Any]", _spread(msgspec.to_builtins(record)))


def _spread(value: Any) -> Any:
    """Put each record's unknown fields back beside its known ones."""
    if isinstance(value, list):
        return [_spread(item) for item in value]
    if not isinstance(value, dict):
        return value
    extra = value.pop(EXTRA_FIELD, {})
    # payloads and details belong to the user: nothing inside them is ours to rearrange
    kept = {key: item if key.endswith("_json") or key == "details" else _spread(item) for key, item in value.items()}
    return kept | extra


def changed(record: _RecordT, **changes: Any) -> _RecordT:
    """Return a record with other values in some attributes."""
    return msgspec.structs.replace(record, **changes)


def likely_failed_step(steps: Iterable[Step], in_flight: Iterable[Step]) -> Step | None:
    """Return the innermost step of the last failure; None where no step failed but by being cancelled.

    Args:
        steps: finished steps, in the order of their ends.
        in_flight: steps that still ran, or that their process died in.
    """
    listed = [*in_flight, *steps]  # in the order of their ends: one in flight ended last, but its error is no cause
    failed = [step for step in listed if step.error is not None and step.error.code != "node_cancelled"]
    last_inside: dict[str, Step] = {}
    for step in failed:
        if step.parent_step_id is not None:
            last_inside[step.parent_step_id] = step
    found = failed[-1] if failed else None
    while found is not None and found.step_id is not None and found.step_id in last_inside:
        found = last_inside.pop(found.step_id)
    return found
