"""The steps of a trace as columns of short numbers, for the script of the page; and as many of their values as fit.

Ten thousand steps have to open in a moment, so each fact stands once: names in a table, steps as numbers into it. The
values go last, those of the failing step first, until the page is as large as it may be.
"""

from __future__ import annotations

import zlib
from base64 import b64encode
from collections.abc import Iterator
from functools import partial
from json import dumps
from typing import TYPE_CHECKING, Any, Final

from flowtrace.cli.common import printable, shortened
from flowtrace.cli.page.lanes import LARGEST, Lanes, duration_ns
from flowtrace.cli.page.value_tree import Shown, shown
from flowtrace.cli.step_text import (
    details_of,
    frame_text,
    frames_of,
    items_in,
    related_errors,
    short_name,
    step_name,
    text_in,
    values_of,
)
from flowtrace.host.system import parse_timestamp
from flowtrace.trace.outline import Entry, log_lines
from flowtrace.trace.payload_files import PayloadValues

if TYPE_CHECKING:
    from pathlib import Path

    from flowtrace.trace.model import Hash, Step, StepError, Trace

STATES: Final = ("ok", "failed", "handled", "cancelled", "running")
"""Of a row. ``failed``: on the way of the failure that ended the run; ``handled``: some other failure."""
REDACTED: Final = 1
OPAQUE: Final = 2
CUT: Final = 4
ISSUES: Final = 8
OTHER_RUN: Final = 16
LOST_PARENT: Final = 32
HERE: Final = 64
CAPTURED: Final = 128
_MESSAGE: Final = 300
_HASH_DIGITS: Final = 8
_FED_AT_ONCE: Final = 1 << 14
_MOST_MISSES: Final = 50  # values in a row of those that are too large for what room is left
_LISTED: Final = 20
_SHORT: Final = 16  # characters of JSON that cost no more than saying where they stand already


class Table:
    """Texts, each of which stands once, and is known by its number."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._numbers: dict[Any, int] = {}

    def number(self, key: Any, item: Any = None) -> int:
        """Return the number of a text, or of an item under a key."""
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = len(self.items)
            self.items.append(key if item is None else item)
        return found


class Timing:
    """When the steps of a trace began, in microseconds after the first of all."""

    def __init__(self, trace: Trace, entries: list[Entry]) -> None:
        begun = [parse_timestamp(entry.step.started_at) for entry in entries]
        first = min((start for start in begun if start is not None), default=0)
        run = parse_timestamp(trace.run.started_at) if trace.run is not None else None
        self.origin = run if run is not None and run <= first else first
        self.starts = [None if start is None else min((start - self.origin) // 1000, LARGEST) for start in begun]


def failing_path(failed: Entry | None, outcome: str) -> list[Entry]:
    """Return the steps that the failure came through, outermost first; none where it was handled."""
    path: list[Entry] = []
    while failed is not None and outcome != "recovered":
        path.insert(0, failed)
        failed = failed.parent
    return path


def state_of(entry: Entry, on_path: bool) -> str:
    """Return the state of a row; see `STATES`."""
    error = entry.step.error
    if error is None:
        return "running" if entry.number is None else "ok"
    return "cancelled" if error.code == "node_cancelled" else "failed" if on_path else "handled"


def step_columns(
    trace: Trace,
    entries: list[Entry],
    failed: Entry | None,
    path: list[Entry],
    telling: dict[str, list[tuple[str, ...]]],
) -> dict[str, Any]:
    """Return what the page's script knows of the steps, except for their values.

    Args:
        trace: the trace.
        entries: its steps, in the order of the tree.
        failed: the one where the failure began, or None.
        path: the steps that the failure came through.
        telling: by node, where the values in its input are that tell its calls apart.
    """
    timing = Timing(trace, entries)
    rows = {id(entry): row for row, entry in enumerate(entries)}
    nodes, components, threads, codes, errors = Table(), Table(), Table(), Table(), Table()
    on_path = {id(entry) for entry in path}
    lanes = Lanes(entries, timing.starts)
    columns = {
        "node": [nodes.number(_names(entry.step, components)) for entry in entries],
        "number": [-1 if entry.number is None else entry.number for entry in entries],
        "parent": [-1 if entry.parent is None else rows[id(entry.parent)] for entry in entries],
        "depth": [entry.depth for entry in entries],
        "state": [STATES.index(state_of(entry, id(entry) in on_path)) for entry in entries],
        "flags": [_flags(entry, entry is failed) for entry in entries],
        "start": timing.starts,
        "took": [duration_ns(entry.step) for entry in entries],
        "thread": [threads.number(short_name(entry.step.thread or "")) for entry in entries],
        "lane": lanes.rows,
        "code": [_code(entry.step, codes) for entry in entries],
    }
    return {
        "rows": len(entries),
        "nodes": [names for _, *names in nodes.items],
        "telling": [telling.get(node_id, []) for node_id, *_ in nodes.items],
        "components": components.items,
        "threads": threads.items,
        "codes": codes.items,
        "columns": columns,
        "hashes": [_hashes([getattr(entry.step, name) for entry in entries]) for name in _HASHES],
        "ids": " ".join(short_name(entry.step.step_id or "-").lstrip("0") or "0" for entry in entries),
        "errors": {
            row: errors.number(_error(entry.step.error)) for row, entry in enumerate(entries) if entry.step.error
        },
        "error_texts": errors.items,
        "issues": {row: _issues(entry.step) for row, entry in enumerate(entries) if entry.step.validation_issues},
        "path": [rows[id(entry)] for entry in path],
        "failed": -1 if failed is None else rows[id(failed)],
        "dropped": min(max(trace.dropped_steps or 0, 0), LARGEST),
    }


_HASHES: Final = ("input_hash", "output_hash", "state_delta_hash")


def _names(step: Step, components: Table) -> tuple[str, int, str, str]:
    component, operation = name_parts(step)
    return step.node_id, components.number(short_name(step.component_id)), component, operation


def name_parts(step: Step) -> tuple[str, str]:
    """Return a node's name in two: what stands before its last part, with the dot, and that part."""
    name = step_name(step)
    before, dot, last = name.rpartition(".")
    return (f"{before}.", last) if dot and last else ("", name)


def _flags(entry: Entry, is_failed: bool) -> int:
    from flowtrace.trace.model import UNSET

    step = entry.step
    captured = step.invocation_json is not UNSET or step.invocation_path is not None
    facts = (
        (step.redacted, REDACTED),
        (step.opaque, OPAQUE),
        (step.cut, CUT),
        (step.validation_issues, ISSUES),
        (step.run_id is not None, OTHER_RUN),
        (entry.lost_parent, LOST_PARENT),
        (is_failed, HERE),
        (captured, CAPTURED),
    )
    return sum(flag for is_so, flag in facts if is_so)


def _code(step: Step, codes: Table) -> int:
    code = step.code
    if code is None:
        return -1
    digits = "" if code.hash is None else code.hash.value[:_HASH_DIGITS]
    where = f"{code.file}:{code.line}" if code.file else ""
    return codes.number((short_name(where), short_name(f"{code.module}.{code.qualname}"), printable(digits)))


def _hashes(found: list[Hash | None]) -> str:
    """Return the first digits of each step's hash, all in a row; a step that has none has spaces."""
    if not any(found):
        return ""
    digits = ("" if item is None else printable(item.value)[:_HASH_DIGITS] for item in found)
    return "".join(f"{text:{_HASH_DIGITS}}" for text in digits)


def _error(error: StepError | None) -> tuple[str, str, str]:
    assert error is not None
    kind = text_in(details_of(error), "type")
    return printable(error.code), short_name(kind.removeprefix("__main__.")), printable(error.message[:_MESSAGE])


def _issues(step: Step) -> list[list[str]]:
    found = step.validation_issues[:_LISTED]
    return [[short_name(issue.code), short_name(issue.path), printable(issue.message[:_MESSAGE])] for issue in found]


# --- values


class _Packer:
    """Compresses the items of a list, as many as there is room for."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        self._packed = bytearray()
        self._waiting = bytearray(b"[")
        self._separator = b""
        self._misses = 0

    def takes(self, item: str) -> bool:
        """Add an item's JSON; return False where there is no room for it."""
        if self._misses == _MOST_MISSES:
            return False
        data = self._separator + item.encode()
        if len(self._packed) + len(self._waiting) + len(data) > self._room:
            self._pack()  # it takes less than it seemed
            if len(self._packed) + len(zlib.compress(data)) > self._room:
                self._misses += 1
                return False
        self._waiting += data
        self._separator = b","
        if len(self._waiting) > _FED_AT_ONCE:
            self._pack()
        return True

    def _pack(self) -> None:
        self._packed += self._packer.compress(bytes(self._waiting)) + self._packer.flush(zlib.Z_SYNC_FLUSH)
        self._waiting.clear()

    def end(self) -> bytes:
        """Return all of it."""
        return bytes(self._packed + self._packer.compress(bytes(self._waiting + b"]")) + self._packer.flush())


class Values:
    """The values of the steps, compressed, as far as there is room.

    Attributes:
        text: the compressed JSON: a list of ``[row, input, output, more]``. A value that an earlier step has is
            ``{"same": [row, 0 or 1]}``: that step's input or output; where there is none stands ``{}``.
        left_out: how many steps have values that are not in it.
    """

    def __init__(self, trees: StepValues, folders: frozenset[str], room: int) -> None:
        self.text = b""
        self.left_out = 0
        self._trees = trees
        self._folders = folders
        self._room = room
        self._seen: dict[str, tuple[int, int]] = {}
        self._new: list[str] = []

    def fill(self, entries: list[Entry], order: Iterator[int]) -> None:
        """Add the steps in an order, each by its row."""
        packer = _Packer(self._room)
        for row in order:
            self._new.clear()
            item = self._item(row, entries[row])
            if item is not None and not packer.takes(item):
                self.left_out += 1
                for text in self._new:  # a later step can't say that its value stands there
                    del self._seen[text]
        self.text = packer.end()

    def _item(self, row: int, entry: Entry) -> str | None:
        """Return the JSON of a step's values; None for a step without any."""
        step = entry.step
        more = {} if step.error is None else error_facts(step.error, self._folders)
        if step.logs:
            more["logs"] = logs_of(step)
        left_out = _left_out(step)
        if left_out:
            more["left_out"] = left_out
        values = [self._trees.of(step, label) for label in ("input", "output")]
        if values == [None, None] and not more:
            return None
        texts = (self._once(row, side, value) for side, value in enumerate(values))
        parts = [str(row), *texts, _json(more)]
        return f"[{','.join(parts)}]"

    def _once(self, row: int, side: int, value: list[Shown] | None) -> str:
        """Return the JSON of a value, or the place of the equal value that is there already."""
        if value is None:
            return "{}"
        text = _json(value[0])
        if len(text) < _SHORT:
            return text
        first = self._seen.get(text)
        if first is not None:
            return _json({"same": first})
        self._seen[text] = row, side
        self._new.append(text)
        return text


class StepValues:
    """Makes the trees of the steps' values, each once.

    Args:
        path: the trace file, which payload files are looked for beside; None where there is none.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._files = PayloadValues(path)
        self._made: dict[tuple[int, str], list[Shown] | None] = {}

    def input_of(self, step: Step) -> list[Shown] | None:
        """Return the tree of a step's input, as `of` does."""
        return self.of(step, "input")

    def of(self, step: Step, label: str) -> list[Shown] | None:
        """Return the tree of a step's ``input`` or ``output`` in a list of one; None where it was not captured."""
        key = id(step), label
        if key not in self._made:
            self._made[key] = self._make(step, label)
        return self._made[key]

    def _make(self, step: Step, label: str) -> list[Shown] | None:
        found = dict(values_of(step))
        find = partial(self._files.array, step.arrays)
        if label in found:
            return [shown(found[label], find)]
        path = step.invocation_path if label == "input" else step.output_path
        if path is None:
            return None
        value, reason = self._files.read_once(path)
        return [["h", "cut", f"in {short_name(path)}: {short_name(reason)}"]] if reason else [shown(value, find)]


def error_facts(error: StepError, folders: frozenset[str]) -> dict[str, Any]:
    """Return what a step's panel says of its error."""
    details = details_of(error)
    frames = frames_of(details, folders)
    facts: dict[str, Any] = {
        "message": printable(error.message[:4000]),
        "chain": [printable(line[:1000]) for line in related_errors(details)][:_LISTED],
        "notes": [printable(note[:1000]) for note in items_in(details, "notes", str)][:_LISTED],
        "frames": [[frame_text(frame), frame not in frames.own] for frame in frames.every][-_LISTED:],
        "task": short_name(text_in(details, "task")),
    }
    return {name: value for name, value in facts.items() if value}


def logs_of(step: Step) -> list[tuple[str, bool]]:
    """Return the lines of a step's log records, and whether each says that something is wrong."""
    return [(shortened(line, 600), level in ("ERROR", "CRITICAL")) for level, line in log_lines(step)]


def _left_out(step: Step) -> list[list[str]]:
    found = [["redacted", short_name(path)] for path in step.redacted[:_LISTED]]
    found += [["opaque", short_name(path)] for path in step.opaque[:_LISTED]]
    return found + [
        ["cut", f"{short_name(cut.path)} ({short_name(cut.reason)}, after {cut.count})"] for cut in step.cut[:_LISTED]
    ]


def by_importance(entries: list[Entry], failed: Entry | None, path: list[Entry]) -> Iterator[int]:
    """Yield the rows of all steps: the failing one and those around it first, then those nearest to it."""
    rows = {id(entry): row for row, entry in enumerate(entries)}
    home = len(entries) - 1 if failed is None else rows[id(failed)]
    above = {id(entry) for entry in path}

    def rank(row: int) -> tuple[int, int]:
        entry = entries[row]
        is_near = entry is failed or id(entry) in above or (entry.parent is not None and id(entry.parent) in above)
        is_odd = entry.step.error is not None or bool(entry.step.validation_issues)
        return (0 if is_near else 1 if is_odd else 2), abs(row - home)

    yield from sorted(range(len(entries)), key=rank)


def packed(document: object) -> str:
    """Return a document as compressed JSON, in base64."""
    return in_base64(zlib_gzip(_json(document).encode()))


def zlib_gzip(data: bytes) -> bytes:
    """Return data in the gzip format, without a name or a time in it: the same trace gives the same page."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return packer.compress(data) + packer.flush()


def in_base64(data: bytes) -> str:
    """Return data as base64."""
    return b64encode(data).decode()


def _json(value: object) -> str:
    return dumps(value, ensure_ascii=False, separators=(",", ":"))
