"""`flowtrace show`: a trace for people, with the step that failed plain to see."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from flowtrace.cli.beside import Beside
from flowtrace.cli.common import (
    EXIT_OK,
    TRACE,
    Command,
    Line,
    TraceSource,
    harmless,
    harmless_lines,
    json_option,
    make_console,
    print_json,
    print_lines,
)
from flowtrace.cli.outline import Entry, details_of, origin, outline

if TYPE_CHECKING:
    from rich.console import Console

    from flowtrace.trace.model import Hash, Step, StepError, Trace

_SHORT: Final = 8  # hex digits of a hash
_LISTED: Final = 5  # pointers, issues
_VALUE_WIDTH: Final = 160
_NAME_WIDTH: Final = 60
_NAME_LENGTH: Final = 300
_LONGEST_NS: Final = 10**20  # three thousand years: more is no duration
_GUIDED: Final = 20  # levels drawn; deeper ones only say so
_LIBRARIES: Final = ("/site-packages/", "/dist-packages/", "/lib/python3", "<frozen ")
_TEXT_LENGTH: Final = 2000
_STATE_STYLES: Final = {"ok": "green", "failed": "bold red", "running": "bold yellow"}
_OUTCOME_STYLES: Final = {"failed": "bold red", "interrupted": "bold red", "recovered": "yellow", "ok": "green"}


class Marks(NamedTuple):
    """The signs that an output can show."""

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
@click.option("--full", is_flag=True, help="Whole values and hashes, and the details of every error.")
@json_option
@click.argument("trace", type=TRACE)
def command(full: bool, as_json: bool, trace: TraceSource) -> int:
    """Show the steps of a TRACE as a tree, and where and why it failed.

    The number of a step is its index in the file, from 0. A step stands below the one that it was called in; steps
    without a parent in the file begin at the margin. Hashes are shortened, and captured values are cut to a line.
    """
    loaded = trace.load()
    entries = outline(loaded)
    failed = origin(entries)
    if as_json:
        print_json(_document(trace.name, loaded, entries, failed))
        return EXIT_OK
    console = make_console()
    view = _View(console, loaded, entries, failed, full, Beside(trace))
    print_lines(console, view.lines(trace.name))
    return EXIT_OK


def _document(name: str, trace: Trace, entries: list[Entry], failed: Entry | None) -> dict[str, Any]:
    from flowtrace.trace.model import to_document

    envelope = to_document(trace)
    records = {"steps": envelope.pop("steps"), "in_flight": envelope.pop("in_flight", [])}
    steps = []
    for entry in entries:
        _, group, index = entry.pointer.split("/")
        place = {
            "pointer": entry.pointer,
            "depth": entry.depth,
            "parent": entry.parent.pointer if entry.parent else None,
            "state": entry.state,
        }
        steps.append(place | {"record": records[group][int(index)]})
    return {
        "trace": name,
        "outcome": outcome_of(trace, failed),
        "failed_step": failed.pointer if failed else None,
        "envelope": envelope,
        "steps": steps,
    }


def outcome_of(trace: Trace, failed: Entry | None) -> str:
    """Return how a trace says that its run ended; the core of the format has no word for it."""
    if trace.run is not None:
        return trace.run.outcome
    return "failed" if failed is not None else "no failure"


class _View:
    """A trace on its way to the screen."""

    def __init__(
        self,
        console: Console,
        trace: Trace,
        entries: list[Entry],
        failed: Entry | None,
        full: bool,
        beside: Beside,
    ) -> None:
        from rich.cells import cell_len

        self.trace = trace
        self.entries = entries
        self.failed = failed
        self.full = full
        self.beside = beside
        self.width = cell_len
        self.marks = _UNICODE if console.encoding.lower().startswith("utf") else _ASCII
        self.room = console.width if full else min(console.width, _VALUE_WIDTH)
        self.number_width = len(str(len(trace.steps)))
        self.several_threads = len({entry.step.thread for entry in entries}) > 1
        names = [self.width(_name(entry.step)) + 3 * min(entry.depth, _GUIDED) for entry in entries]
        self.name_width = min(max(names, default=0), _NAME_WIDTH)

    def lines(self, name: str) -> Iterator[Line]:
        """Return all that is to be shown."""
        yield from self._head(name)
        yield []
        dropped = self.trace.dropped_steps
        if dropped:
            yield [
                (
                    f"{'':{self.number_width}} {_several(dropped, 'earlier step')} not kept (FLOWTRACE_BUFFER_SIZE)",
                    "dim",
                )
            ]
        if not self.entries:
            yield [("no steps", "dim")]
        # What is drawn before a step's children, by its pointer.
        guides: dict[str, str] = {}
        for entry in self.entries:
            above = guides[entry.parent.pointer] if entry.parent else ""
            inner = above
            if entry.depth and entry.depth <= _GUIDED:
                inner += "   " if entry.is_last else self.marks.bar
            guides[entry.pointer] = inner
            yield self._step(entry, above)
            yield from self._below(entry, f"{'':{self.number_width}}   {inner}  ")

    # --- the head

    def _head(self, name: str) -> Iterator[Line]:
        trace, run = self.trace, self.trace.run
        outcome = outcome_of(trace, self.failed)
        title = f"{harmless(trace.flow.id)} {harmless(trace.flow.version)}"
        yield [(title, "bold"), ("  ", ""), (harmless(outcome), _OUTCOME_STYLES.get(outcome, "bold"))]
        origin = [f"trace {harmless(name)}", f"pack {harmless(trace.pack.pack_ref)}"]
        if trace.pack.resolved_digest:
            origin.append(harmless(trace.pack.resolved_digest))
        if trace.git_sha:
            origin.append(f"commit {harmless(trace.git_sha)}")
        if run is not None:
            origin += [f"python {harmless(run.python)}", f"pid {run.pid} on {harmless(run.host)}"]
        yield [(", ".join(origin), "dim")]
        if run is not None:
            ended = f" to {harmless(run.ended_at)}" if run.ended_at else ", not ended yet"
            yield [(f"run {harmless(run.id)}, {harmless(run.started_at)}{ended}", "dim")]
            if run.overtaken_runs:
                earlier = _several(run.overtaken_runs, "earlier run")
                yield [(f"{earlier} of the same burst were not written to this file", "yellow")]
        if self.failed is not None:
            yield from self._verdict(self.failed)

    def _verdict(self, failed: Entry) -> Iterator[Line]:
        error = failed.step.error
        assert error is not None
        kind = details_of(error).type
        message = self._text(error.message)[0]
        number = "" if failed.number is None else f" #{failed.number}"
        what = f"{_cut(kind)}: {message}" if kind else message
        yield [(f"{self.marks.failed} {_name(failed.step)}{number}: {what}", "bold red")]

    # --- a step

    def _step(self, entry: Entry, above: str) -> Line:
        step = entry.step
        number = "" if entry.number is None else str(entry.number)
        mark, style = getattr(self.marks, entry.state), _STATE_STYLES[entry.state]
        guide = above
        if entry.depth:
            guide += self.marks.last if entry.is_last else self.marks.branch
        name = _name(step)
        padding = " " * max(0, self.name_width - self.width(guide) - self.width(name))
        return [
            (f"{number:>{self.number_width}} ", "dim"),
            (f"{mark} ", style),
            (guide, "dim"),
            (name, "" if entry.state == "ok" else style),
            (f"{padding}  {_duration(step, entry.state == 'running'):>9}", "cyan"),
            (self._hashes(step), "dim"),
            *self._remarks(entry),
        ]

    def _remarks(self, entry: Entry) -> Line:
        remarks: Line = []
        if entry.depth > _GUIDED:
            remarks.append((f"  (level {entry.depth})", "dim"))
        if self.several_threads and entry.step.thread is not None:
            remarks.append((f"  {_cut(entry.step.thread)}", "magenta"))
        if entry.lost_parent:
            remarks.append(("  (its caller is not in the trace)", "dim"))
        if self._is_origin(entry):
            remarks.append((f"  {self.marks.here}", "bold red"))
        return remarks

    def _is_origin(self, entry: Entry) -> bool:
        return self.failed is not None and entry.pointer == self.failed.pointer

    def _hashes(self, step: Step) -> str:
        hashes = (("in", step.input_hash), ("out", step.output_hash), ("delta", step.state_delta_hash))
        return "".join(f"  {name} {self._hash(found)}" for name, found in hashes if found is not None)

    def _hash(self, found: Hash) -> str:
        value = harmless(found.value) if self.full else harmless(found.value[:_SHORT])
        return value if found.algorithm == "blake3" else f"{harmless(found.algorithm)}:{value}"

    # --- what stands below a step

    def _below(self, entry: Entry, indent: str) -> Iterator[Line]:
        step = entry.step
        if step.error is not None:
            yield from self._error(step.error, indent, self.full or self._is_origin(entry))
        for label, value in _values(step):
            yield from self._value(label, value, indent)
        for label, path in (("input", step.invocation_path), ("output", step.output_path)):
            if path is not None:
                yield from self._payload_file(label, path, indent)
        issues = step.validation_issues
        for issue in self._some(issues):
            text = f"! {harmless(issue.code)} at {harmless(issue.path) or '(whole payload)'}: {harmless(issue.message)}"
            yield [(indent, ""), (text, "yellow")]
        yield from self._rest(indent, issues, "issue")
        for label, pointers in (("redacted", step.redacted), ("opaque", step.opaque)):
            if pointers:
                more = f" and {len(pointers) - _LISTED} more" if len(pointers) > _LISTED and not self.full else ""
                yield [(indent, ""), (f"{label} {', '.join(map(harmless, self._some(pointers)))}{more}", "dim")]

    def _payload_file(self, label: str, path: str, indent: str) -> Iterator[Line]:
        value, reason = self.beside.look(path)
        yield [(indent, ""), (f"{label} in {_cut(path)}", "")]
        if reason:
            yield [(indent, ""), (f"  {_cut(reason)}", "yellow")]
        else:
            yield from self._value(label, value, indent)

    def _some(self, items: list[Any]) -> list[Any]:
        return items if self.full else items[:_LISTED]

    def _rest(self, indent: str, items: list[Any], what: str) -> Iterator[Line]:
        if len(items) > _LISTED and not self.full:
            yield [(indent, ""), (f"and {_several(len(items) - _LISTED, f'more {what}')}", "dim")]

    def _error(self, error: StepError, indent: str, whole: bool) -> Iterator[Line]:
        details = details_of(error)
        kind = f"{harmless(details.type)}: " if details.type else ""
        code = "" if error.code == "node_error" else f" ({harmless(error.code)})"
        first, *rest = self._text(error.message)
        yield [(indent, ""), (f"{kind}{first}{code}", "red")]
        if not whole:
            return
        yield from ([(indent, ""), (line, "red")] for line in rest)
        for line in (*(f"with {part}" for part in details.parts), *details.causes):
            yield from ([(indent, ""), (f"  {text}", "red")] for text in self._text(line))
        for note in details.notes:
            yield from ([(indent, ""), (f"  note: {text}", "yellow")] for text in self._text(note))
        yield from self._frames(details.frames, indent)

    def _text(self, text: str) -> list[str]:
        """Return a text of several lines, cut to what fits a screen."""
        lines = harmless_lines(text if self.full else text[:_TEXT_LENGTH])
        if len(text) > _TEXT_LENGTH and not self.full:
            lines[-1] += f"{self.marks.cut} ({len(text):,} characters)"
        return lines

    def _frames(self, frames: Iterable[tuple[str, int, str] | str], indent: str) -> Iterator[Line]:
        for frame in frames:
            if isinstance(frame, str):
                yield [(indent, ""), (f"  {frame}", "dim")]
                continue
            file, line, function = frame
            theirs = any(part in file.replace("\\", "/") for part in _LIBRARIES)
            text = f"  at {_cut(file)}:{line} in {_cut(function)}"
            yield [(indent, ""), (text, "dim" if theirs else "")]

    def _value(self, label: str, value: object, indent: str) -> Iterator[Line]:
        from flowtrace.values.json import plain

        data = plain(value)
        text = "(nested too deeply to be shown)" if data is None else harmless(data.decode())
        room = max(20, self.room - len(indent) - len(label) - 1)
        if len(text) > room and not self.full:
            size = f" ({len(text)} characters)"
            text = text[: max(10, room - len(size))] + self.marks.cut + size
        yield [(indent, ""), (f"{label} ", "dim"), (text, "")]


def _cut(text: str) -> str:
    """Return a name, harmless; one that is no name any more is cut."""
    return harmless(text) if len(text) <= _NAME_LENGTH else harmless(text[:_NAME_LENGTH]) + "..."


def _name(step: Step) -> str:
    return _cut(step.node_id)


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


def _duration(step: Step, runs: bool) -> str:
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
    return _cut(f"{text} so far" if runs else text)


def _several(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
