"""A trace as a tree of steps, and where its failure began. Takes whatever a readable file may hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from flowtrace.trace.model import Step, StepError, Trace

FAILED: Final = "failed"
OK: Final = "ok"
RUNNING: Final = "running"


class Entry(NamedTuple):
    """A step in its place in the tree.

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


class _Place(NamedTuple):
    step: Step
    pointer: str
    number: int | None


def outline(trace: Trace) -> list[Entry]:
    """Return every step of a trace once, each after its parent, siblings in the order in which they began."""
    places = [_Place(step, f"/steps/{at}", at) for at, step in enumerate(trace.steps)]
    places += [_Place(step, f"/in_flight/{at}", None) for at, step in enumerate(trace.in_flight)]
    by_id: dict[str, int] = {}
    for at, place in enumerate(places):
        if place.step.step_id is not None:
            by_id.setdefault(place.step.step_id, at)
    children: dict[int | None, list[int]] = {None: []}
    for at, place in enumerate(places):
        parent = by_id.get(place.step.parent_step_id or "")
        children.setdefault(None if parent == at else parent, []).append(at)
    for siblings in children.values():
        if all(places[at].step.started_at for at in siblings):
            siblings.sort(key=lambda at: places[at].step.started_at or "")
    return _walk(places, children, by_id)


def _walk(places: list[_Place], children: dict[int | None, list[int]], by_id: dict[str, int]) -> list[Entry]:
    """Go through the tree without recursion; steps that are each other's parents are taken apart, not left out."""
    entries: list[Entry] = []
    seen: set[int] = set()
    for start in (children[None], range(len(places))):
        roots = [at for at in start if at not in seen]
        waiting: list[tuple[int, Entry | None, bool]] = [(at, None, at == roots[-1]) for at in reversed(roots)]
        while waiting:
            at, parent, is_last = waiting.pop()
            if at in seen:
                continue
            seen.add(at)
            entry = _entry(places[at], parent, is_last, by_id)
            entries.append(entry)
            inner = [child for child in children.get(at, ()) if child not in seen]
            waiting += [(child, entry, child == inner[-1]) for child in reversed(inner)]
    return entries


def _entry(place: _Place, parent: Entry | None, is_last: bool, by_id: dict[str, int]) -> Entry:
    step = place.step
    state = FAILED if step.error is not None else RUNNING if place.number is None else OK
    lost = step.parent_step_id is not None and step.parent_step_id not in by_id
    depth = 0 if parent is None else parent.depth + 1
    return Entry(step, place.pointer, place.number, state, depth, is_last, parent, lost)


def origin(entries: list[Entry]) -> Entry | None:
    """Return the step where the last failure of a trace began: the innermost of those that failed with it."""
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
    """Return the place of a step in the order in which steps finished, which is that of the file."""
    return -1 if entry.number is None else entry.number


class Details(NamedTuple):
    """What an error's details say, as far as they are what flowtrace writes.

    Attributes:
        type: the exception's type, or "".
        causes: "caused by" or "while handling", and the exception, nearest first.
        notes: what was added with ``add_note``.
        parts: the exceptions of a group.
        frames: file, line and function, outermost first; a text alone stands for frames that were left out.
    """

    type: str
    causes: list[str]
    notes: list[str]
    parts: list[str]
    frames: list[tuple[str, int, str] | str]


def details_of(error: StepError) -> Details:
    """Return what is known of an error beside its message; anything that is not in our form is passed over."""
    found = error.details if isinstance(error.details, dict) else {}
    causes = [f"{_relation(item)} {_brief(item)}" for item in _dicts(found.get("causes"))]
    notes = [note for note in _list(found.get("notes")) if isinstance(note, str)]
    parts = [_brief(item) for item in _dicts(found.get("exceptions"))]
    frames = [_frame(item) for item in _dicts(found.get("frames"))]
    return Details(_text(found.get("type")), causes, notes, parts, frames)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in _list(value) if isinstance(item, dict)]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _relation(cause: dict[str, Any]) -> str:
    return "while handling" if cause.get("relation") == "context" else "caused by"


def _brief(error: dict[str, Any]) -> str:
    kind, message = _text(error.get("type")), _text(error.get("message"))
    return f"{kind}: {message}" if kind and message else kind or message


def _frame(frame: dict[str, Any]) -> tuple[str, int, str] | str:
    left_out = frame.get("left_out")
    if isinstance(left_out, int):
        return f"({left_out} frames left out)"
    line = frame.get("line")
    return _text(frame.get("file")), line if isinstance(line, int) else 0, _text(frame.get("function"))
