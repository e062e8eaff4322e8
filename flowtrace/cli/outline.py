"""A trace as a tree of steps, and the step where its failure began; for any trace that can be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from flowtrace.trace.model import Step, StepError, Trace

FAILED: Final = "failed"
OK: Final = "ok"
RUNNING: Final = "running"


class Entry(NamedTuple):
    """A step of the tree.

    Attributes:
        step: its record.
        pointer: JSON Pointer of the record in the trace.
        number: index in ``steps``; None for a step that was still running.
        state: FAILED, OK or RUNNING.
        depth: 0 for a step without a parent here.
        is_last: whether no sibling follows it.
        parent: the entry of the step that it was called in; None without one here.
        lost_parent: whether it had a parent that is not in the trace: it rolled out of the buffer.
    """

    step: Step
    pointer: str
    number: int | None
    state: str
    depth: int
    is_last: bool
    parent: Entry | None
    lost_parent: bool


class _Located(NamedTuple):
    """A step with its location in the file, as in `Entry`."""

    step: Step
    pointer: str
    number: int | None


def outline(trace: Trace) -> list[Entry]:
    """Return every step of a trace once, each after its parent, siblings in the order in which they began."""
    located = [_Located(step, f"/steps/{at}", at) for at, step in enumerate(trace.steps)]
    located += [_Located(step, f"/in_flight/{at}", None) for at, step in enumerate(trace.in_flight)]
    by_id: dict[str, int] = {}
    for at, found in enumerate(located):
        if found.step.step_id is not None:
            by_id.setdefault(found.step.step_id, at)
    children: dict[int | None, list[int]] = {None: []}
    for at, found in enumerate(located):
        parent = by_id.get(found.step.parent_step_id or "")
        children.setdefault(None if parent == at else parent, []).append(at)
    for siblings in children.values():
        if all(located[at].step.started_at for at in siblings):
            siblings.sort(key=lambda at: located[at].step.started_at or "")
    return _walk(located, children, by_id)


def _walk(located: list[_Located], children: dict[int | None, list[int]], by_id: dict[str, int]) -> list[Entry]:
    """Go through the tree without recursion; of steps that are each other's parents, the first becomes a root."""
    entries: list[Entry] = []
    seen: set[int] = set()
    for start in (children[None], range(len(located))):
        roots = [at for at in start if at not in seen]
        waiting: list[tuple[int, Entry | None, bool]] = [(at, None, at == roots[-1]) for at in reversed(roots)]
        while waiting:
            at, parent, is_last = waiting.pop()
            if at in seen:
                continue
            seen.add(at)
            entry = _entry(located[at], parent, is_last, by_id)
            entries.append(entry)
            inner = [child for child in children.get(at, ()) if child not in seen]
            waiting += [(child, entry, child == inner[-1]) for child in reversed(inner)]
    return entries


def _entry(found: _Located, parent: Entry | None, is_last: bool, by_id: dict[str, int]) -> Entry:
    step = found.step
    state = FAILED if step.error is not None else RUNNING if found.number is None else OK
    lost = step.parent_step_id is not None and step.parent_step_id not in by_id
    depth = 0 if parent is None else parent.depth + 1
    return Entry(step, found.pointer, found.number, state, depth, is_last, parent, lost)


def origin(entries: list[Entry]) -> Entry | None:
    """Return the step where the last failure of a trace began: the innermost step that failed with it."""
    failed = [entry for entry in entries if entry.state == FAILED]
    if not failed:
        return None
    last_child: dict[str, Entry] = {}
    for entry in failed:
        if entry.parent is not None:
            before = last_child.get(entry.parent.pointer)
            if before is None or _finished(before) < _finished(entry):
                last_child[entry.parent.pointer] = entry
    entry = max(failed, key=_finished)
    while entry.pointer in last_child:
        entry = last_child[entry.pointer]
    return entry


def _finished(entry: Entry) -> int:
    """Return the rank of a step in the order in which steps finished, which is that of the file."""
    return -1 if entry.number is None else entry.number


class Details(NamedTuple):
    """The details of an error, as far as they have the form that flowtrace writes.

    Attributes:
        type: the exception's type, or "".
        causes: "caused by" or "while handling", and the exception, nearest first.
        notes: texts added with ``add_note``.
        exceptions: those of a group.
        frames: file, line and function, outermost first; a text in place of frames that were left out.
    """

    type: str
    causes: list[str]
    notes: list[str]
    exceptions: list[str]
    frames: list[tuple[str, int, str] | str]


def details_of(error: StepError) -> Details:
    """Return the details of an error; anything in another form than flowtrace's is ignored."""
    found = error.details if isinstance(error.details, dict) else {}
    causes = [
        f"{'while handling' if item.get('relation') == 'context' else 'caused by'} {_error_line(item)}"
        for item in _dicts(found.get("causes"))
    ]
    notes = [note for note in _list(found.get("notes")) if isinstance(note, str)]
    exceptions = [_error_line(item) for item in _dicts(found.get("exceptions"))]
    frames = [_frame(item) for item in _dicts(found.get("frames"))]
    return Details(_text_or_empty(found.get("type")), causes, notes, exceptions, frames)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in _list(value) if isinstance(item, dict)]


def _text_or_empty(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _error_line(error: dict[str, Any]) -> str:
    kind, message = _text_or_empty(error.get("type")), _text_or_empty(error.get("message"))
    return f"{kind}: {message}" if kind and message else kind or message


def _frame(frame: dict[str, Any]) -> tuple[str, int, str] | str:
    left_out = frame.get("left_out")
    if isinstance(left_out, int):
        return f"({left_out} frames left out)"
    line = frame.get("line")
    return (
        _text_or_empty(frame.get("file")),
        line if isinstance(line, int) else 0,
        _text_or_empty(frame.get("function")),
    )
