"""`flowtrace show`: a trace for people, in which the step that failed stands out."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from flowtrace.cli.arrays import in_short
from flowtrace.cli.common import (
    EXIT_OK,
    TRACE,
    Command,
    Line,
    TraceSource,
    collector_off,
    json_option,
    json_text,
    make_console,
    print_json_text,
    print_lines,
    printable,
    printable_lines,
    several,
)
from flowtrace.cli.outline import OUTSIDE, Entry, failed_entry, is_outside, outline

if TYPE_CHECKING:
    from rich.console import Console

    from flowtrace.trace.model import Hash, Step, StepError, Trace, ValidationIssue
    from flowtrace.trace.payload_files import PayloadValues

_HASH_DIGITS: Final = 8
_LISTED: Final = 5  # pointers, issues
_VALUE_WIDTH: Final = 160
_NAME_WIDTH: Final = 60
_NAME_LENGTH: Final = 300
_LONGEST_NS: Final = 10**20  # three thousand years; a longer duration is an error in the file
_DRAWN_LEVELS: Final = 20  # deeper steps only have the number of their level
_LIBRARIES: Final = ("/site-packages/", "/dist-packages/", "/lib/python3", "<frozen ")
_TEXT_LENGTH: Final = 2000
_STATE_STYLES: Final = {"ok": "green", "failed": "bold red", "running": "bold yellow"}
_OUTCOME_STYLES: Final = {
    "failed": "bold red",
    "interrupted": "bold red",
    "recovered": "yellow",
    "slow": "yellow",
    "ok": "green",
}


class Marks(NamedTuple):
    """The characters for states and lines of the tree, in the encoding of the output."""

    ok: str
    failed: str
    running: str
    here: str
    branch: str
    last: str
    bar: str
    cut: str


_UNICODE: Final = Marks("✓", "✗", "▶", "◀ failed here", "├─ ", "└─ ", "│  ", "…")
_ASCII: Final = Marks(".", "X", ">", "<- failed here", "|- ", "`- ", "|  ", "...")


@click.command(
    "show",
    cls=Command,
    examples="""
    flowtrace show trace.json
    flowtrace show artifacts/
    flowtrace show --full trace.json | less -R
    flowtrace show --json trace.json | jq -r .failed_step
    """,
)
@click.option("--full", is_flag=True, help="Show values and hashes in full, and the details of every error.")
@click.option("--run", "only_run", is_flag=True, help="Leave out the steps of other runs.")
@json_option
@click.argument("trace", type=TRACE)
def command(full: bool, only_run: bool, as_json: bool, trace: TraceSource) -> int:
    """Show the steps of a TRACE as a tree, and where and why it failed.

    The number of a step is its index in the file, from 0. A step stands below the one that called it; steps without a
    parent in the file begin at the margin. Outside a flow, a trace also has the last steps of the other runs of the
    process, which come first. Hashes are shortened, and captured values are cut to a line.
    """
    from flowtrace.trace.payload_files import PayloadValues

    with collector_off():
        loaded = trace.load()
        entries = outline(loaded)
        failed = failed_entry(loaded, entries)
        if only_run:
            entries = [entry for entry in entries if entry.step.run_id is None]
        if as_json:
            _print_json(trace.name, loaded, entries, failed)
        else:
            console = make_console()
            view = _View(console, loaded, entries, failed, full, PayloadValues(trace.path))
            print_lines(console, view.lines(trace.name))
    return EXIT_OK


def _print_json(name: str, trace: Trace, entries: list[Entry], failed: Entry | None) -> None:
    """Print the document step by step: as a whole it would take many times the memory of the file."""
    from flowtrace.trace.layout import item_text, with_list
    from flowtrace.trace.model import changed, to_document

    envelope = to_document(changed(trace, steps=[], in_flight=[]))
    del envelope["steps"]
    document = {
        "trace": name,
        "outcome": _outcome(trace, failed),
        "failed_step": failed.pointer if failed else None,
        "envelope": envelope,
        "steps": [None],
    }
    print_json_text(with_list(json_text(document), (item_text(json_text([[_entry(entry)]])) for entry in entries)))


def _entry(entry: Entry) -> dict[str, Any]:
    from flowtrace.trace.model import to_document

    return {
        "pointer": entry.pointer,
        "depth": entry.depth,
        "parent": entry.parent.pointer if entry.parent else None,
        "state": entry.state,
        "record": to_document(entry.step),
    }


def _outcome(trace: Trace, failed: Entry | None) -> str:
    """Return how the run ended; the core of the format has no field for it."""
    if trace.run is not None:
        return trace.run.outcome
    return "failed" if failed is not None else "no failure"


class _View:
    """Makes the lines for a trace."""

    def __init__(
        self,
        console: Console,
        trace: Trace,
        entries: list[Entry],
        failed: Entry | None,
        full: bool,
        files: PayloadValues,
    ) -> None:
        from rich.cells import cell_len

        from flowtrace.values.json import bytes_of_tree

        self.bytes_of_tree = bytes_of_tree
        self.trace = trace
        self.entries = entries
        self.failed = failed
        self.full = full
        self.files = files
        self.width = cell_len
        self.marks = _UNICODE if console.encoding.lower().startswith("utf") else _ASCII
        self.room = console.width if full else min(console.width, _VALUE_WIDTH)
        self.number_width = len(str(len(trace.steps)))
        self.several_threads = len({entry.step.thread for entry in entries}) > 1
        self.names: dict[str, tuple[str, int]] = {}
        names = [self._name(entry.step)[1] + 3 * min(entry.depth, _DRAWN_LEVELS) for entry in entries]
        self.name_width = min(max(names, default=0), _NAME_WIDTH)

    def lines(self, name: str) -> Iterator[Line]:
        """Return all lines."""
        yield from self._head(name)
        yield []
        dropped = self.trace.dropped_steps
        if dropped:
            text = f"{several(dropped, 'earlier step')} not kept (FLOWTRACE_BUFFER_SIZE)"
            yield [(f"{'':{self.number_width}} {text}", "dim")]
        if not self.entries:
            yield [("no steps", "dim")]
        others = [entry for entry in self.entries if entry.step.run_id is not None]
        if others:
            yield [(f"{several(len(others), 'step')} of other runs of this process:", "dim")]
            yield from self._tree(others)
            yield [("this run:", "dim")]
        yield from self._tree([entry for entry in self.entries if entry.step.run_id is None])

    def _tree(self, entries: list[Entry]) -> Iterator[Line]:
        # The lines of the tree to the left of a step's children, by its pointer.
        guides: dict[str, str] = {}
        for entry in entries:
            above = guides.get(entry.parent.pointer, "") if entry.parent else ""
            inner = above
            if entry.depth and entry.depth <= _DRAWN_LEVELS:
                inner += "   " if entry.is_last else self.marks.bar
            guides[entry.pointer] = inner
            yield self._step_line(entry, above)
            yield from self._step_details(entry, f"{'':{self.number_width}}   {inner}  ")

    # --- the head

    def _head(self, name: str) -> Iterator[Line]:
        trace, run = self.trace, self.trace.run
        outcome = _outcome(trace, self.failed)
        title = f"{printable(trace.flow.id)} {printable(trace.flow.version)}"
        yield [(title, "bold"), ("  ", ""), (printable(outcome), _OUTCOME_STYLES.get(outcome, "bold"))]
        origin = [f"trace {printable(name)}", f"pack {printable(trace.pack.pack_ref)}"]
        if trace.pack.resolved_digest:
            origin.append(printable(trace.pack.resolved_digest))
        if trace.git_sha:
            origin.append(f"commit {printable(trace.git_sha)}")
        if run is not None:
            origin += [f"python {printable(run.python)}", f"pid {run.pid} on {printable(run.host)}"]
        yield [(", ".join(origin), "dim")]
        if run is not None:
            ended = f" to {printable(run.ended_at)}" if run.ended_at else ", not ended yet"
            yield [(f"run {printable(run.id)}, {printable(run.started_at)}{ended}", "dim")]
            if run.overtaken_runs:
                earlier = several(run.overtaken_runs, "earlier run")
                yield [(f"{earlier} of the same burst were not written to this file", "yellow")]
        if self.failed is not None:
            yield from self._verdict(self.failed)

    def _verdict(self, failed: Entry) -> Iterator[Line]:
        error, issues = failed.step.error, failed.step.validation_issues
        kind = "" if error is None else _text(_details(error), "type")
        reason = error.message if error is not None else issues[0].message if issues else "failed"
        message = self._message_lines(reason)[0]
        number = "" if failed.number is None else f" #{failed.number}"
        text = f"{_short_name(kind)}: {message}" if kind else message
        yield [(f"{self.marks.failed} {_step_name(failed.step)}{number}: {text}", "bold red")]

    # --- a step

    def _step_line(self, entry: Entry, above: str) -> Line:
        step = entry.step
        number = "" if entry.number is None else str(entry.number)
        mark, style = getattr(self.marks, entry.state), _STATE_STYLES[entry.state]
        guide = above
        if entry.depth:
            guide += self.marks.last if entry.is_last else self.marks.branch
        name, width = self._name(step)
        padding = " " * (self.name_width - len(guide) - width)  # each of the tree's characters takes one column
        return [
            (f"{number:>{self.number_width}} ", "dim"),
            (f"{mark} ", style),
            (guide, "dim"),
            (name, "" if entry.state == "ok" else style),
            (f"{padding}  {_duration(step, entry.state == 'running'):>9}", "cyan"),
            (self._hashes(step), "dim"),
            *self._remarks(entry),
        ]

    def _name(self, step: Step) -> tuple[str, int]:
        """Return a step's name, and how many columns it takes; most names are there many times."""
        if is_outside(step):
            return OUTSIDE, self.width(OUTSIDE)
        found = self.names.get(step.node_id)
        if found is None:
            name = _short_name(step.node_id)
            found = self.names[step.node_id] = name, self.width(name)
        return found

    def _remarks(self, entry: Entry) -> Line:
        remarks: Line = []
        if entry.depth > _DRAWN_LEVELS:
            remarks.append((f"  (level {entry.depth})", "dim"))
        if self.several_threads and entry.step.thread is not None:
            remarks.append((f"  {_short_name(entry.step.thread)}", "magenta"))
        if entry.lost_parent:
            remarks.append(("  (its caller is not in the trace)", "dim"))
        if self._is_origin(entry):
            remarks.append((f"  {self.marks.here}", "bold red"))
        return remarks

    def _is_origin(self, entry: Entry) -> bool:
        return self.failed is not None and entry.pointer == self.failed.pointer

    def _hashes(self, step: Step) -> str:
        text = f"  in {self._hash_digits(step.input_hash)}"
        if step.output_hash is not None:
            text += f"  out {self._hash_digits(step.output_hash)}"
        return text if step.state_delta_hash is None else f"{text}  delta {self._hash_digits(step.state_delta_hash)}"

    def _hash_digits(self, found: Hash) -> str:
        value = printable(found.value) if self.full else printable(found.value[:_HASH_DIGITS])
        return value if found.algorithm == "blake3" else f"{printable(found.algorithm)}:{value}"

    # --- the details below a step

    def _step_details(self, entry: Entry, indent: str) -> Iterator[Line]:
        step = entry.step
        if step.error is not None:
            yield from self._error(step.error, indent, self.full or self._is_origin(entry))
        for label, value in _values(step):
            yield self._value(label, value, indent, step)
        for label, path in (("input", step.invocation_path), ("output", step.output_path)):
            if path is not None:
                yield from self._payload_file(label, path, indent, step)
        if step.validation_issues:
            yield from self._issues(step.validation_issues, indent)
        if step.redacted or step.opaque or step.cut:
            yield from self._left_out(step, indent)

    def _issues(self, issues: list[ValidationIssue], indent: str) -> Iterator[Line]:
        for issue in self._some(issues):
            pointer = printable(issue.path) or "(complete payload)"
            yield [(indent, ""), (f"! {printable(issue.code)} at {pointer}: {printable(issue.message)}", "yellow")]
        if len(issues) > _LISTED and not self.full:
            yield [(indent, ""), (f"and {several(len(issues) - _LISTED, 'more issue')}", "dim")]

    def _left_out(self, step: Step, indent: str) -> Iterator[Line]:
        for label, pointers in (("redacted", step.redacted), ("opaque", step.opaque)):
            if pointers:
                more = f" and {len(pointers) - _LISTED} more" if len(pointers) > _LISTED and not self.full else ""
                yield [(indent, ""), (f"{label} {', '.join(map(printable, self._some(pointers)))}{more}", "dim")]
        if step.cut:
            parts = [f"{printable(cut.path)} ({printable(cut.reason)}, after {cut.count})" for cut in step.cut]
            more = f" and {len(parts) - _LISTED} more" if len(parts) > _LISTED and not self.full else ""
            yield [(indent, ""), (f"cut {', '.join(self._some(parts))}{more}", "dim")]

    def _payload_file(self, label: str, path: str, indent: str, step: Step) -> Iterator[Line]:
        value, reason = self.files.read_once(path)
        yield [(indent, ""), (f"{label} in {_short_name(path)}", "")]
        if reason:
            yield [(indent, ""), (f"  {_short_name(reason)}", "yellow")]
        else:
            yield self._value(label, value, indent, step)

    def _some(self, items: list[Any]) -> list[Any]:
        return items if self.full else items[:_LISTED]

    def _error(self, error: StepError, indent: str, in_detail: bool) -> Iterator[Line]:
        details = _details(error)
        code = "" if error.code == "node_error" else f" ({printable(error.code)})"
        first, *rest = self._message_lines(error.message)
        kind = printable(_text(details, "type"))
        yield [(indent, ""), (f"{kind}: {first}{code}" if kind else f"{first}{code}", "red")]
        if not in_detail:
            return
        yield from ([(indent, ""), (line, "red")] for line in rest)
        related = [("with", item) for item in _items(details, "exceptions")]
        related += [
            ("while handling" if item.get("relation") == "context" else "caused by", item)
            for item in _items(details, "causes")
        ]
        for relation, item in related:
            line = ": ".join(filter(None, (_text(item, "type"), _text(item, "message"))))
            yield from ([(indent, ""), (f"  {text}", "red")] for text in self._message_lines(f"{relation} {line}"))
        for note in _items(details, "notes", str):
            yield from ([(indent, ""), (f"  note: {text}", "yellow")] for text in self._message_lines(note))
        yield from ([(indent, ""), _frame(item)] for item in _items(details, "frames"))

    def _message_lines(self, text: str) -> list[str]:
        """Return the lines of a message, cut to what fits a screen."""
        lines = printable_lines(text if self.full else text[:_TEXT_LENGTH])
        if len(text) > _TEXT_LENGTH and not self.full:
            lines[-1] += f"{self.marks.cut} ({len(text):,} characters)"
        return lines

    def _value(self, label: str, value: object, indent: str, step: Step) -> Line:
        data = self.bytes_of_tree(value)
        if not self.full and data is not None and b'"$py":' in data:
            data = self.bytes_of_tree(in_short(value, partial(self.files.array, step.arrays)))
        text = "(nested too deeply to be shown)" if data is None else printable(data.decode())
        room = max(20, self.room - len(indent) - len(label) - 1)
        if len(text) > room and not self.full:
            size = f" ({len(text)} characters)"
            text = text[: max(10, room - len(size))] + self.marks.cut + size
        return [(indent, ""), (f"{label} ", "dim"), (text, "")]


def _short_name(text: str) -> str:
    """Return a name made `printable`, cut where it is longer than any real name."""
    return printable(text) if len(text) <= _NAME_LENGTH else printable(text[:_NAME_LENGTH]) + "..."


def _step_name(step: Step) -> str:
    """Return the name of a step's node; the step of an error outside any node has none."""
    return OUTSIDE if is_outside(step) else _short_name(step.node_id)


def _details(error: StepError) -> dict[str, Any]:
    return error.details if isinstance(error.details, dict) else {}


def _text(found: dict[str, Any], name: str) -> str:
    """Return a text of an error's details; empty where it has another form than flowtrace's."""
    value = found.get(name)
    return value if isinstance(value, str) else ""


def _items(found: dict[str, Any], name: str, kind: type = dict) -> list[Any]:
    """Return the items of a list in an error's details, without those of another form than flowtrace's."""
    items = found.get(name)
    return [item for item in items if isinstance(item, kind)] if isinstance(items, list) else []


def _frame(frame: dict[str, Any]) -> tuple[str, str]:
    left_out, line, file = frame.get("left_out"), frame.get("line"), _text(frame, "file")
    if isinstance(left_out, int):
        return f"  ({left_out} frames left out)", "dim"
    is_library = any(part in file.replace("\\", "/") for part in _LIBRARIES)
    number = line if isinstance(line, int) else 0
    text = f"  at {_short_name(file)}:{number} in {_short_name(_text(frame, 'function'))}"
    return text, "dim" if is_library else ""


def _values(step: Step) -> Iterator[tuple[str, object]]:
    """Return the captured values of a step with their labels."""
    from flowtrace.trace.model import UNSET

    invocation = step.invocation_json
    if isinstance(invocation, dict) and "payload" in invocation:
        yield "input", invocation["payload"]
    elif invocation is not UNSET:
        yield "input", invocation
    if step.output_json is not UNSET:
        yield "output", step.output_json


def _duration(step: Step, is_running: bool) -> str:
    nanoseconds = step.duration_ns
    if nanoseconds is None:
        text = f"{step.duration_ms} ms"
    elif abs(nanoseconds) > _LONGEST_NS:
        text = f"{nanoseconds} ns"
    elif nanoseconds < 1_000_000:
        text = f"{nanoseconds / 1_000:.1f} µs"
    elif nanoseconds < 1_000_000_000:
        text = f"{nanoseconds / 1_000_000:.2f} ms"
    else:
        text = f"{nanoseconds / 1_000_000_000:.2f} s"
    return _short_name(f"{text} so far" if is_running else text)
