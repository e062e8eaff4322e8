"""Reading a trace file, version 1: its records with their types, and where a field is wrong.

A file is decoded into records one step at a time, and what its steps have in common is held once. Only where that can't
be done (its envelope has unknown fields, or it is no trace) are its objects made first, to say what is wrong and where.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from io import BytesIO
from shlex import quote
from typing import Any, BinaryIO, Final, TypeVar, cast, get_args, get_type_hints

from flowtrace.errors import TraceFileError
from flowtrace.host.system import os, re
from flowtrace.trace import files
from flowtrace.trace.files import open_trace
from flowtrace.trace.model import (
    EXTRA_FIELD,
    TRACE_VERSION,
    DecodeError,
    Raw,
    Record,
    Step,
    Trace,
    ValidationError,
    convert,
    field,
    from_json,
    set_frozen,
)
from flowtrace.trace.step_texts import GAP, StepTexts
from flowtrace.values.encoded import ALGORITHM

_RecordT = TypeVar("_RecordT", bound=Record)
RING: Final = b"FLTBOX"
"""The first bytes of a ring file, of any version."""
_EXTRA: Final = EXTRA_FIELD.encode()
UNREADABLE: Final = (DecodeError, UnicodeDecodeError, RecursionError)


class _Unread(Trace, kw_only=True):
    """A trace whose steps are still text."""

    steps: list[Raw]  # type: ignore[assignment]
    in_flight: list[Raw] = field(default_factory=list)  # type: ignore[assignment]


def load_trace(path: str | os.PathLike[str]) -> Trace:
    """Read a trace file.

    Args:
        path: the file.

    Returns:
        Its records; fields unknown to this version are in each record's ``extra``.

    Raises:
        TraceFileError: the path is that of a device or a pipe, or the file is larger than 256 MiB, is not JSON, or is
            not a version 1 trace; the error names the file and the field.
        OSError: the file can't be read.
    """
    name = os.fspath(path)
    try:
        with open_trace(name) as file:
            return read_trace(file, name)
    except FileNotFoundError as error:
        if found := siblings(name):
            error.add_note(f"beside it there are: {', '.join(found)}")
        raise


def siblings(path: str) -> list[str]:
    """Return the files beside a path whose names differ from its own before the suffix: ``trace.26225.json``, say.

    Child processes write to such names, as do processes that share a path. The newest file comes first.
    """
    folder, name = os.path.split(path)
    stem, suffix = os.path.splitext(name)
    pattern = re.compile(f"{re.escape(stem)}[.-].*{re.escape(suffix)}")
    try:
        with os.scandir(folder or ".") as entries:
            found = [entry for entry in entries if pattern.fullmatch(entry.name) and entry.is_file()]
            found.sort(key=lambda entry: (-entry.stat().st_mtime_ns, entry.name))
    except OSError:
        return []
    return [os.path.join(folder, entry.name) for entry in found]


def parse_trace(data: bytes, name: str = "<bytes>") -> Trace:
    """Read a trace from the bytes of a file.

    Args:
        data: the file's content.
        name: its name in errors.

    Returns:
        Its records, as `load_trace` does.

    Raises:
        TraceFileError: the bytes are not JSON, or not a version 1 trace.
    """
    return read_trace(BytesIO(data), name)


def read_trace(file: BinaryIO, name: str) -> Trace:
    """Read a trace from an open file, which can be read twice; see `parse_trace`."""
    texts = StepTexts(file)
    share: dict[Any, Any] = {}
    try:
        steps = [_shared(step_in(text), share.setdefault) for text in texts]
        trace = unread_trace(texts.envelope, texts.is_split)
        if trace is not None:
            for unread, read in ((trace.steps, steps), (trace.in_flight, [])):
                read += [_shared(step_of(text), share.setdefault) for text in cast("list[Raw]", unread)]
                unread[:] = read
            return trace
    except UNREADABLE:
        pass
    return from_document(parse_document(all_of(file, name), name), name)


def unread_trace(data: bytes, is_split: bool = False) -> Trace | None:
    """Return the record of a trace whose steps, and those in flight, are still `Raw`.

    Args:
        data: the document.
        is_split: the document is the envelope that `StepTexts` has made, and there are no steps in it.

    Returns:
        The record; None where `parse_document` and `from_document` have to say what is wrong.

    Raises:
        DecodeError, UnicodeDecodeError, RecursionError: the same.
    """
    if _EXTRA in data:
        return None
    unread = from_json(data, type=_Unread)
    if unread.trace_version != TRACE_VERSION:
        return None
    if is_split:
        if list(map(bytes, unread.steps)) != [GAP]:
            return None
        unread.steps.clear()
    fields = {name: getattr(unread, name) for name in unread.__struct_fields__}
    return Trace(**fields)


def all_of(file: BinaryIO, name: str) -> bytes:
    """Return the content of an open file from its beginning.

    Raises:
        TraceFileError: it is larger than ``MAX_TRACE_BYTES``.
    """
    file.seek(0)
    data = file.read(files.MAX_TRACE_BYTES + 1)
    if len(data) > files.MAX_TRACE_BYTES:
        raise files.too_large(name)
    return data


def step_of(text: bytes | Raw) -> Step:
    """Return the record of a step.

    Args:
        text: its JSON.

    Raises:
        DecodeError, UnicodeDecodeError, RecursionError: it is not the JSON of a step.
    """
    try:
        return from_json(text, type=Step)
    except ValidationError:  # a field is wrong, which is raised again, or unknown
        document = from_json(text, type=dict)
        return _keep_unknown(convert(_without_unknown(document, Step), Step), document)


def step_in(text: bytes) -> Step:
    """Return the record of a step that `StepTexts` has found; see `step_of`."""
    if _EXTRA in text:
        raise DecodeError("no record has a field of this name")
    return step_of(text)


def _shared(step: Step, share: Callable[[Any, Any], Any]) -> Step:
    """Return a step in which names, and the place of its function, are one object in all steps that have equal ones."""
    names = (step.node_id, step.component_id, step.operation, step.thread)
    step.node_id, step.component_id, step.operation, step.thread = names = share(names, names)
    invocation = step.invocation_json
    if type(invocation) is dict and invocation.get("component_id") == names[1]:
        invocation["component_id"] = names[1]
    if type(invocation) is dict and invocation.get("operation") == names[2]:
        invocation["operation"] = names[2]
    for found in (step.input_hash, step.output_hash):
        if found is not None and found.algorithm == ALGORITHM:
            found.algorithm = ALGORITHM
    code = step.code
    if code is not None and not code.extra and (code.hash is None or not code.hash.extra):
        digest = code.hash and (code.hash.algorithm, code.hash.value)
        step.code = share((code.module, code.qualname, code.file, code.line, digest), code)
    return step


def from_document(document: dict[str, Any], name: str = "<document>") -> Trace:
    """Return the records of what `parse_document` gave; see `parse_trace`."""
    try:
        trace = convert(_without_unknown(document, Trace), Trace)
    except ValidationError as error:
        pointer, reason = _pointer_and_reason(str(error))
        raise TraceFileError(name, pointer, reason) from error
    return _keep_unknown(trace, document)


def parse_document(data: bytes, name: str = "<bytes>") -> dict[str, Any]:
    """Return the JSON object of a file that says it is a version 1 trace; its fields may still be wrong.

    Raises:
        TraceFileError: the bytes are not JSON, or not an object of ``trace_version`` 1.
    """
    if data.startswith(RING):
        raise TraceFileError(name, "", f"is a ring file; a trace of it is made by: {recover_command(name)}")
    try:
        document = from_json(data)
    except (DecodeError, UnicodeDecodeError) as error:
        raise TraceFileError(name, "", f"not a JSON document: {error}") from error
    except RecursionError as error:
        raise TraceFileError(name, "", "nested too deeply to be a trace") from error
    _check_version(document, name)
    return cast("dict[str, Any]", document)


def recover_command(ring: str) -> str:
    """Return the command line that makes a trace of a ring file."""
    return f"flowtrace recover {quote(ring)}"


def problems(document: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the pointers of wrong fields in a trace, and the reasons: the first in the envelope, and in each step."""
    found = _problem({**document, "steps": [], "in_flight": []}, Trace, "")
    for name in ("steps", "in_flight"):
        steps = document.get(name, [])
        if isinstance(steps, list):
            for at, step in enumerate(steps):
                found += _problem(step, Step, f"/{name}/{at}")
        else:
            found += _problem({**document, "steps": [], "in_flight": [], name: steps}, Trace, "")
    return found if "steps" in document else [*found, ("", "Object missing required field `steps`")]


def _problem(value: object, cls: type[Record], start: str) -> list[tuple[str, str]]:
    try:
        convert(_without_unknown(value, cls), cls)
    except ValidationError as error:
        pointer, reason = _pointer_and_reason(str(error))
        return [(start + pointer, reason)]
    return []


def _check_version(document: object, name: str) -> None:
    if not isinstance(document, dict):
        kind = "an array" if isinstance(document, list) else "a single value"
        raise TraceFileError(name, "", f"a trace is a JSON object; this is {kind}")
    version = document.get("trace_version")
    if type(version) is not int or version != TRACE_VERSION:
        found = "absent" if "trace_version" not in document else f"{version!r:.40}"
        raise TraceFileError(name, "/trace_version", f"is {found}; this reader takes version {TRACE_VERSION}")


def _pointer_and_reason(message: str) -> tuple[str, str]:
    """Turn msgspec's ``Expected ... - at `$.steps[0].x` `` into a JSON Pointer and a reason."""
    reason, _, location = message.partition(" - at `$")
    tokens = re.findall(r"\.([^.\[\]`]+)|\[(\d+|\.\.\.)\]", location)
    return "".join(f"/{name or index}" for name, index in tokens), reason


def _without_unknown(source: Any, cls: type[Record]) -> Any:
    """Return what a file has in the place of a record, without the fields that records do not have."""
    if isinstance(source, list):
        return [_without_unknown(item, cls) for item in source]
    if not isinstance(source, dict):
        return source
    names, inner = _field_names(cls)
    kept = {name: value for name, value in source.items() if name in names}
    return kept | {name: _without_unknown(kept[name], held) for name, held in inner.items() if name in kept}


def _keep_unknown(record: _RecordT, source: dict[str, Any]) -> _RecordT:
    """Put the fields of the file that the records do not have into ``extra``, in this record and those inside it."""
    names, inner = _field_names(type(record))
    if not source.keys() <= names:
        set_frozen(record, "extra", {key: value for key, value in source.items() if key not in names})
    for name in inner:
        value = getattr(record, name)
        if isinstance(value, list):
            for item, original in zip(value, source.get(name, ()), strict=True):
                _keep_unknown(item, original)
        elif value is not None:
            _keep_unknown(value, source[name])
    return record


@lru_cache(maxsize=32)
def _field_names(cls: type[Record]) -> tuple[frozenset[str], dict[str, type[Record]]]:
    """Return the names of a record's fields, and the class of the records in those that hold some."""
    hints = get_type_hints(cls)
    names = [name for name in cls.__struct_fields__ if name != "extra"]
    held = {name: _record_in(hints[name]) for name in names}
    return frozenset(names), {name: inner for name, inner in held.items() if inner is not None}


def _record_in(hint: Any) -> type[Record] | None:
    if isinstance(hint, type) and issubclass(hint, Record):
        return hint
    return next(filter(None, map(_record_in, get_args(hint))), None)
