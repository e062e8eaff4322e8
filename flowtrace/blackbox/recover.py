"""The trace of a process that died, made from its black box: how it is read, where it goes, how many are kept.

Nothing in the file is trusted: a record that makes no step is left out.
"""

from __future__ import annotations

from itertools import starmap
from typing import Any, Final

from flowtrace.blackbox import ring_file
from flowtrace.blackbox.ring_file import IS_KEYED, Content, SlotRecord
from flowtrace.host.signals import let_through
from flowtrace.host.system import open_file, os, re, rfc3339, step_id
from flowtrace.recording.recorder import TraceRecorder
from flowtrace.recording.step_records import cut, cut_records, json_of
from flowtrace.settings.kinds import TRACE_NAME, in_folder
from flowtrace.trace import files, model
from flowtrace.trace.reading import parse_trace
from flowtrace.values.encoded import ALGORITHM, KEYED_ALGORITHM, CutPart, hash_bytes
from flowtrace.values.json import pretty

_MESSAGE: Final = "the process ended while this step was running"
_UNKNOWN: Final = "unknown"
_RUN_ID: Final = re.compile("[0-9a-f]{32}")
MOST: Final = 100
"""Recovered traces that are kept in a folder."""
LARGEST: Final = 64 << 20
"""Bytes of a recovered trace that is read, to see whether it may be removed."""
_ID: Final = "[0-9a-f]{8}"
_LARGEST_NUMBER: Final = 2**63 - 1
_LATEST: Final = 253_402_300_799 * 1_000_000_000  # the end of the year 9999, in ns


def recover(path: str | os.PathLike[str]) -> model.Trace:
    """Read what a process left in its black box; the file stays as it is.

    Args:
        path: the ring file (``FLOWTRACE_BLACKBOX``).

    Returns:
        The last finished steps, and in ``in_flight`` those that ran when the process ended, with the error
        ``process_died``. Records that are torn or cut off are left out.

    Raises:
        RingFileError: it is no ring file, or its header is damaged.
        OSError: the file can't be read.
    """
    return trace_of(ring_file.read(os.fspath(path)))


def trace_of(content: Content) -> model.Trace:
    """Return the trace of a ring file's content."""
    header = content.header
    ended = [(start, end) for start, end in content.steps if end is not None]
    ended.sort(key=lambda pair: (pair[0].fields[2] + pair[1].fields[1], -pair[0].fields[0]))  # an inner step ends first
    kept_at_most = max(0, _number_in(header, "buffer_size"))
    ended = ended[-kept_at_most:] if kept_at_most else []
    running = sorted((start for start, end in content.steps if end is None), key=lambda start: start.fields[0])
    moments = [start.fields[2] + (end.fields[1] if end else 0) for start, end in content.steps]
    stopped = max(moments, default=0)
    steps = [_step(content, start, end, 0) for start, end in ended]
    in_flight = [_step(content, start, None, stopped - start.fields[2]) for start in running]
    kept = [step for step in steps if step is not None]
    return model.Trace(
        trace_version=model.TRACE_VERSION,
        runner_version=_text_in(header, "runner_version") or None,
        git_sha=_text_in(header, "git_sha") or None,
        pack=model.Pack(
            pack_ref=_text_in(header, "pack_ref"), resolved_digest=_text_in(header, "resolved_digest") or None
        ),
        flow=model.Flow(id=_text_in(header, "flow_id"), version=_text_in(header, "flow_version")),
        steps=kept,
        run=_run(content),
        in_flight=[step for step in in_flight if step is not None],
        dropped_steps=max(0, _begun(content) - len(running) - len(kept)),
    )


def _begun(content: Content) -> int:
    """Return how many steps had begun since the box was made; those that it adopted then are among them."""
    newest = max((start.fields[0] for start, _ in content.steps), default=0)
    return newest - _number_in(content.header, "steps_before")


def started_at(header: dict[str, Any]) -> str:
    """Return when the process's recorder began, as RFC 3339 text."""
    return _moment(header, _number_in(header, "started"))


def _run(content: Content) -> model.Run:
    header = content.header
    run_id = _text_in(header, "run_id")
    return model.Run(
        id=run_id if _RUN_ID.fullmatch(run_id) else "0" * 32,
        started_at=started_at(header),
        outcome="snapshot" if content.is_clean or ring_file.is_alive(header) else "interrupted",
        pid=_number_in(header, "pid"),
        host=_text_in(header, "host"),
        python=_text_in(header, "python"),
    )


def _step(content: Content, start: SlotRecord, end: SlotRecord | None, running: int) -> model.Step | None:
    """Return a step's record; None where the content of the file makes none."""
    try:
        return model.checked(_record(content, start, end, running))
    except Exception as error:
        let_through(error)
        return None


def _record(content: Content, start: SlotRecord, end: SlotRecord | None, running: int) -> model.Step:
    number, parent, started, thread, node = start.fields
    about = content.nodes.get(node, {})
    node_id, component, operation = about.get("names") or (_UNKNOWN, _UNKNOWN, _UNKNOWN)
    duration = min(max(0, running if end is None else end.fields[1]), _LARGEST_NUMBER)
    code = about.get("code")
    record = model.Step(
        node_id=node_id,
        component_id=component,
        operation=operation,
        input_hash=_hash_of(start),
        duration_ms=duration // 1_000_000,
        step_id=step_id(number),
        parent_step_id=step_id(parent) if parent else None,
        started_at=_moment(content.header, started),
        duration_ns=duration,
        thread=f"thread-{thread}",
        code=model.Code(**code) if isinstance(code, dict) else None,
        opaque=[model.INPUT + pointer for pointer in start.about.get("opaque", ())],
        redacted=[model.INPUT + pointer for pointer in start.about.get("redacted", ())],
        cut=cut_records(model.INPUT, starmap(CutPart, start.about.get("cut", ()))),
    )
    if start.data or "size" in start.about:
        payload = _value_or_cut(content, start)
        record.invocation_json = {"component_id": component, "operation": operation, "payload": payload}
    if end is None:
        record.error = model.StepError(code="process_died", message=_MESSAGE, details=None)
    else:
        _add_end(record, content, end)
    return record


def _add_end(record: model.Step, content: Content, end: SlotRecord) -> None:
    about = end.about
    if end.data or end.digest:
        record.output_hash = _hash_of(end)
        record.opaque += [model.OUTPUT + pointer for pointer in about.get("opaque", ())]
        record.redacted += [model.OUTPUT + pointer for pointer in about.get("redacted", ())]
        record.cut += cut_records(model.OUTPUT, starmap(CutPart, about.get("cut", ())))
        if end.data or "size" in about:
            record.output_json = _value_or_cut(content, end)
    if "failure" in about:
        code, message, details = about["failure"]
        record.error = model.StepError(code=code, message=message, details=details)
    record.validation_issues = [model.ValidationIssue(*issue) for issue in about.get("issues", ())]
    if "state_delta" in about:
        algorithm, value = about["state_delta"]
        record.opaque += [model.STATE_DELTA + pointer for pointer in about.get("opaque_delta", ())]
        record.redacted += [model.STATE_DELTA + pointer for pointer in about.get("redacted_delta", ())]
        record.cut += cut_records(model.STATE_DELTA, starmap(CutPart, about.get("cut_delta", ())))
        record.state_delta_hash = model.Hash(algorithm=algorithm, value=value)


def _hash_of(record: SlotRecord) -> model.Hash:
    algorithm = KEYED_ALGORITHM if record.flags & IS_KEYED else ALGORITHM
    return model.Hash(algorithm=algorithm, value=record.digest.hex() or hash_bytes(record.data).value)


def _value_or_cut(content: Content, record: SlotRecord) -> Any:
    if not record.data:
        size = record.about.get("size", 0)
        limit = _number_in(content.header, "max_value_bytes")
        reason = "larger than FLOWTRACE_MAX_VALUE_BYTES" if size > limit else "larger than a slot of the black box"
        return cut(reason, size)
    return json_of(record.data)


def _text_in(header: dict[str, Any], name: str) -> str:
    value = header.get(name)
    return value if isinstance(value, str) else ""


def _number_in(header: dict[str, Any], name: str) -> int:
    value = header.get(name)
    return value if type(value) is int and 0 <= value <= _LARGEST_NUMBER else 0


def _moment(header: dict[str, Any], now: int) -> str:
    return rfc3339(max(0, min(_number_in(header, "epoch") + now, _LATEST)))


# --- the file


def write(recorder: TraceRecorder, trace: model.Trace, header: dict[str, Any]) -> str:
    """Write a dead process's trace beside ours, with its run in the name, and remove the oldest such traces.

    Args:
        recorder: of this process, with the path of its traces.
        trace: the trace of the dead process.
        header: the header of its ring file.

    Returns:
        The file's path.

    Raises:
        OSError: it can't be written.
    """
    template = in_folder(os.path.join(os.getcwd(), recorder.config.out_path), TRACE_NAME)
    pid = str(_number_in(header, "pid"))
    flow_id, started = str(header.get("flow_id")), started_at(header)
    run_id = trace.run.id if trace.run else ""
    rendered = files.render_path(template.replace("{pid}", pid), run_id=run_id, flow_id=flow_id, timestamp=started)
    files.refuse_links(template, rendered)
    stem, suffix = os.path.splitext(rendered)
    path = f"{stem}.recovered.{run_id[:8]}{suffix}"
    files.write_atomically(path, pretty(model.new_document(trace)))
    try:
        _make_room(path, os.path.basename(template))
    except OSError as error:
        let_through(error)
    return path


def names_of(template: str, before: str) -> re.Pattern[str]:
    """Return the pattern of the file names that processes make of a template.

    Args:
        template: a file name with any of the placeholders of paths.
        before: pattern of the text before the suffix.
    """
    stem, suffix = os.path.splitext(template)
    return re.compile(files.pattern_of(stem) + before + re.escape(suffix))


def _make_room(newest: str, template: str) -> None:
    """Remove the oldest recovered traces that are too many; other files, and those that were changed, stay."""
    folder = os.path.dirname(newest)
    pattern = names_of(template, rf"(\.[0-9]+)?\.recovered\.{_ID}")
    with os.scandir(folder) as entries:
        found = sorted(
            (entry.stat(follow_symlinks=False).st_mtime_ns, entry.path)
            for entry in entries
            if pattern.fullmatch(entry.name) and entry.path != newest and entry.is_file(follow_symlinks=False)
        )
    for _, path in found[: max(0, len(found) + 1 - MOST)]:
        try:
            if _is_unchanged(path):
                os.unlink(path)
        except OSError as error:  # another process was quicker, or the folder can't be changed any more
            let_through(error)


def _is_unchanged(path: str) -> bool:
    """Return True if a file is, byte for byte, the trace that flowtrace wrote of the run in its name."""
    descriptor = os.open(path, files.FILE)
    with open_file(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        if not files.is_ours(about) or about.st_size > LARGEST:
            return False
        data = file.read(LARGEST)
    try:
        trace = parse_trace(data)
    except ValueError:
        return False
    run_id = trace.run.id if trace.run else ""
    named = os.path.splitext(path)[0].endswith(f".recovered.{run_id[:8]}")
    return named and pretty(model.new_document(trace)) == data
