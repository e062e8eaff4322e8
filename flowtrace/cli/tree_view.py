"""A trace as lines for a terminal: what failed first, then the steps as a tree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from flowtrace.cli.common import UNBOUNDED, Line, printable, printable_lines, several
from flowtrace.cli.step_text import (
    ASCII,
    UNICODE,
    details_of,
    duration_of,
    flow_text,
    frame_text,
    frames_of,
    items_in,
    libraries_text,
    outcome_of,
    path_text,
    related_errors,
    short_name,
    step_name,
    task_of,
    text_in,
    traced_folders,
    values_of,
    verdict,
)
from flowtrace.cli.why import sentence
from flowtrace.trace.outline import OUTSIDE, Entry, is_outside, log_lines
from flowtrace.values.shown import value_text

if TYPE_CHECKING:
    from rich.console import Console

    from flowtrace.trace.model import Hash, Step, StepError, ValidationIssue
    from flowtrace.trace.payload_files import PayloadValues
    from flowtrace.trace.skimming import Skimmed

_HASH_DIGITS: Final = 8
_LISTED: Final = 5  # pointers, issues
_VALUE_WIDTH: Final = 160
_DURATION_WIDTH: Final = 9
_NAME_WIDTH: Final = 60
_DRAWN_LEVELS: Final = 20  # deeper steps only have the number of their level
_BESIDE_TREE: Final = 34  # columns that are left for what stands right of the tree
_LEAST_VALUE: Final = 12  # columns
_TEXT_LENGTH: Final = 2000
_STATE_STYLES: Final = {"ok": "green", "failed": "bold red", "running": "bold yellow"}
_OUTCOME_STYLES: Final = {
    "failed": "bold red",
    "interrupted": "bold red",
    "recovered": "yellow",
    "slow": "yellow",
    "ok": "green",
}


class Detail(NamedTuple):
    """A choice: how much is shown of each step.

    Attributes:
        full: values and hashes in full, and the details of every error.
        pointers: the pointers of redacted and opaque parts, and the frames of libraries.
    """

    full: bool = False
    pointers: bool = False


class TreeView:
    """Makes the lines for a trace.

    Args:
        console: what they are printed on.
        skimmed: the trace; each step is read again where it is shown.
        entries: the steps that are shown.
        failed: the one where the failure began; None where nothing failed.
        detail: how much is shown of each step.
        files: reads payload files.
    """

    def __init__(
        self,
        console: Console,
        skimmed: Skimmed,
        entries: list[Entry],
        failed: Entry | None,
        detail: Detail,
        files: PayloadValues,
    ) -> None:
        self.console = console
        self.skimmed = skimmed
        self.trace = trace = skimmed.trace
        self.entries = entries
        self.failed = failed
        self.detail = detail
        self.full = detail.full
        self.files = files
        self.width = _width()
        self.marks = UNICODE if console.encoding.lower().startswith("utf") else ASCII
        self.room = console.width if self.full else min(console.width, _VALUE_WIDTH)
        self.is_bounded = console.width < UNBOUNDED and not self.full
        self.drawn = min(_DRAWN_LEVELS, max(1, (console.width - _BESIDE_TREE) // 3))
        self.number_width = len(str(len(trace.steps)))
        self.several_threads = len({entry.step.thread for entry in entries}) > 1
        self.folders = traced_folders(trace)
        self.states = {state: (f"{getattr(self.marks, state)} ", style) for state, style in _STATE_STYLES.items()}
        self.rooms: dict[str, int] = {}
        self.names: dict[str, tuple[str, int]] = {}
        names = [self._name(entry.step)[1] + 3 * min(entry.depth, self.drawn) for entry in entries]
        self.name_width = min(max(names, default=0), _NAME_WIDTH)

    def lines(self, name: str) -> Iterator[Line]:
        """Return all lines.

        Args:
            name: of the trace.
        """
        yield from self._fitted(self._head(name))
        yield []
        dropped = self.trace.dropped_steps
        if dropped:
            text = f"{several(dropped, 'earlier step')} not kept (FLOWTRACE_BUFFER_SIZE)"
            yield from self._fitted([[(f"{'':{self.number_width}} ", ""), (text, "dim")]])
        if not self.entries:
            yield [("no steps", "dim")]
        others = [entry for entry in self.entries if entry.step.run_id is not None]
        if others:
            yield from self._fitted([[(f"{several(len(others), 'step')} of other runs of this process:", "dim")]])
            yield from self._tree(others)
            yield [("this run:", "dim")]
        yield from self._tree([entry for entry in self.entries if entry.step.run_id is None])

    def lines_of(self, name: str, chosen: list[Entry]) -> Iterator[Line]:
        """Return the lines of some steps, in detail.

        Args:
            name: of the trace.
            chosen: the steps.
        """
        yield from self._fitted(self._head(name))
        self.name_width = max(self._name(entry.step)[1] for entry in chosen)
        for entry in chosen:
            yield []
            step = self.skimmed.step(entry)
            yield from self._step_line(entry, step, "", is_alone=True)
            indent = f"{'':{self.number_width}}     "
            yield from self._fitted([[(indent, ""), (text, "dim")] for text in self._about(entry, step)])
            yield from self._fitted(self._step_details(entry, step, indent))

    def _about(self, entry: Entry, step: Step) -> Iterator[str]:
        above = entry.parent
        callers = []
        while above is not None:
            number = "" if above.number is None else f" #{above.number}"
            callers.append(f"{step_name(above.step)}{number}")
            above = above.parent
        if callers:
            yield f"called by {', by '.join(callers)}"
        if step.code is not None:
            location = f" at {path_text(step.code.file)}:{step.code.line}" if step.code.file else ""
            yield f"defined{location} as {short_name(step.code.module)}.{short_name(step.code.qualname)}"
        facts = [f"{label} {short_name(value)}" for label, value in _facts(step) if value]
        if facts:
            yield ", ".join(facts)

    def _tree(self, entries: list[Entry]) -> Iterator[Line]:
        # The lines of the tree to the left of a step's children, by its pointer.
        guides: dict[str, str] = {}
        left = " " * (self.number_width + 3)
        for entry in entries:
            above = guides.get(entry.parent.pointer, "") if entry.parent else ""
            inner = above
            if entry.depth and entry.depth <= self.drawn:
                inner += "   " if entry.is_last else self.marks.bar
            guides[entry.pointer] = inner
            step = self.skimmed.step(entry)
            yield from self._step_line(entry, step, above)
            yield from self._fitted(self._step_details(entry, step, f"{left}{inner}  "))

    def _fitted(self, lines: Iterable[Line]) -> Iterable[Line]:
        """Break lines that are too wide at their spaces; what follows stands below the line's text."""
        return self._all_fitted(lines) if self.is_bounded else lines

    def _all_fitted(self, lines: Iterable[Line]) -> Iterator[Line]:
        for line in lines:
            if sum(self.width(text) for text, _ in line) <= self.console.width:
                yield line
                continue
            indent = [line[0]] if line[0][0].isspace() or not line[0][0].strip("│| ") else []
            yield from self._broken(indent, line[len(indent) :])

    def _broken(self, indent: Line, line: Line) -> Iterator[Line]:
        from rich.text import Text

        text = Text()
        for part, style in line:
            text.append(part, style)
        room = max(_LEAST_VALUE, self.console.width - sum(self.width(part) for part, _ in indent))
        for piece in text.wrap(self.console, room):
            piece.rstrip()
            yield [*indent, *((span.text, str(span.style or "")) for span in piece.render(self.console) if span.text)]

    # --- the head

    def _head(self, name: str) -> Iterator[Line]:
        trace, run = self.trace, self.trace.run
        text, state = verdict(trace, self.failed, self.folders)
        yield [(f"{getattr(self.marks, state)} {self._cut_message(text)[0]}", _STATE_STYLES[state])]
        outcome = outcome_of(trace, self.failed)
        yield [(printable(outcome), _OUTCOME_STYLES.get(outcome, "bold")), (f", {flow_text(trace)}", "")]
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

    # --- a step

    def _step_line(self, entry: Entry, step: Step, above: str, is_alone: bool = False) -> Iterable[Line]:
        number = "" if entry.number is None else str(entry.number)
        mark = self.states[entry.state]
        guide = above
        if entry.depth and not is_alone:
            guide += self.marks.last if entry.is_last else self.marks.branch
        name, width = self._name(step)
        duration, remarks = duration_of(entry), self._remarks(entry)
        padding = " " * (self.name_width - len(guide) - width)  # each of the tree's characters takes one column
        start: Line = [(f"{number.rjust(self.number_width)} ", "dim"), mark, (guide, "dim")]
        named = (name, "" if entry.state == "ok" else mark[1])
        time = (f"  {duration.rjust(_DURATION_WIDTH)}", "cyan")
        complete = [*start, named, (padding, ""), time, (self._hashes(step), "dim"), *remarks]
        if not self.is_bounded or self._width_of(complete) <= self.console.width:
            return [complete]
        return self._narrow([piece for piece in start if piece[0]], named, (f"  {duration}", "cyan"), remarks)

    def _narrow(self, start: Line, named: tuple[str, str], time: tuple[str, str], remarks: Line) -> Iterator[Line]:
        """Return a step's line without hashes; where it is still too wide, with its name cut, and remarks below it."""
        line = [*start, named, time, *remarks]
        if self._width_of(line) <= self.console.width:
            yield line
            return
        room = self.console.width - self._width_of([*start, time])
        yield [*start, (self._cut(named[0], room), named[1]), time]
        if remarks:
            indent = [(" " * (self._width_of(start) - 2), "")]
            yield from self._fitted([[*indent, ("".join(text for text, _ in remarks).strip(), remarks[-1][1])]])

    def _width_of(self, line: Line) -> int:
        return sum(self.width(text) for text, _ in line)

    def _name(self, step: Step) -> tuple[str, int]:
        """Return a step's name, and how many columns it takes; most names are there many times."""
        found = self.names.get(step.node_id)
        if is_outside(step):
            return OUTSIDE, self.width(OUTSIDE)
        if found is None:
            name = short_name(step.node_id)
            found = self.names[step.node_id] = name, self.width(name)
        return found

    def _remarks(self, entry: Entry) -> Line:
        remarks: Line = []
        if entry.depth > self.drawn:
            remarks.append((f"  (level {entry.depth})", "dim"))
        if self.several_threads and entry.step.thread is not None:
            remarks.append((f"  {short_name(entry.step.thread)}", "magenta"))
        if entry.lost_parent:
            remarks.append(("  (its caller is not in the trace)", "dim"))
        if self._is_origin(entry):
            remarks.append((f"  {self.marks.here}", "bold red"))
        return remarks

    def _is_origin(self, entry: Entry) -> bool:
        return self.failed is not None and entry.pointer == self.failed.pointer

    def _hashes(self, step: Step) -> str:
        digits, output = self._hash_digits, step.output_hash
        text = f"  in {digits(step.input_hash)}" + ("" if output is None else f"  out {digits(output)}")
        return text if step.state_delta_hash is None else f"{text}  delta {digits(step.state_delta_hash)}"

    def _hash_digits(self, found: Hash) -> str:
        value = printable(found.value if self.full else found.value[:_HASH_DIGITS])
        return value if found.algorithm == "blake3" else f"{printable(found.algorithm)}:{value}"

    # --- the details below a step

    def _step_details(self, entry: Entry, step: Step, indent: str) -> Iterator[Line]:
        if step.error is not None:
            yield from self._error(step.error, indent, self.full or self._is_origin(entry))
            why = sentence(self.skimmed.complete(), step, self.files.trace_path) if self._is_origin(entry) else ""
            if why:
                yield [(indent, ""), ("why ", "dim"), (why, "bold")]
        for label, value in values_of(step):
            yield self._value(label, value, indent, step)
        for label, path in (("input", step.invocation_path), ("output", step.output_path)):
            if path is not None:
                yield from self._payload_file(label, path, indent, step)
        if step.validation_issues:
            yield from self._issues(step.validation_issues, indent)
        if step.logs or step.dropped_logs:
            yield from self._logs(step, indent, self.full or self._is_origin(entry))
        if step.cut or (self.detail.pointers and (step.redacted or step.opaque)):
            yield from self._left_out(step, indent)

    def _issues(self, issues: list[ValidationIssue], indent: str) -> Iterator[Line]:
        for issue in self._some(issues):
            pointer = printable(issue.path) or "(complete payload)"
            yield [(indent, ""), (f"! {printable(issue.code)} at {pointer}: {printable(issue.message)}", "yellow")]
        if len(issues) > _LISTED and not self.full:
            yield [(indent, ""), (f"and {several(len(issues) - _LISTED, 'more issue')}", "dim")]

    def _logs(self, step: Step, indent: str, in_detail: bool) -> Iterator[Line]:
        """Yield the last log records of a step; all that it has of the one where the failure began."""
        found = log_lines(step)
        shown = found if in_detail else found[-_LISTED:]
        if len(shown) < len(found):
            yield [(indent, ""), (f"log ({several(len(found) - len(shown), 'earlier record')})", "dim")]
        for level, line in shown:
            text = self._cut_message(line)[0]
            yield [(indent, ""), ("log ", "dim"), (text, "red" if level in ("ERROR", "CRITICAL") else "")]

    def _left_out(self, step: Step, indent: str) -> Iterator[Line]:
        parts = [f"{printable(cut.path)} ({printable(cut.reason)}, after {cut.count})" for cut in step.cut]
        listed = [("cut", parts)]
        if self.detail.pointers:
            pointers = [("redacted", step.redacted), ("opaque", step.opaque)]
            listed = [(label, list(map(printable, found))) for label, found in pointers] + listed
        for label, found in listed:
            if found:
                more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED and not self.full else ""
                yield [(indent, ""), (f"{label} {', '.join(self._some(found))}{more}", "dim")]

    def _payload_file(self, label: str, path: str, indent: str, step: Step) -> Iterator[Line]:
        value, reason = self.files.read_once(path)
        yield [(indent, ""), (f"{label} in {short_name(path)}", "")]
        if reason:
            yield [(indent, ""), (f"  {short_name(reason)}", "yellow")]
        else:
            yield self._value(label, value, indent, step)

    def _some(self, items: list[Any]) -> list[Any]:
        return items if self.full else items[:_LISTED]

    def _error(self, error: StepError, indent: str, in_detail: bool) -> Iterator[Line]:
        details = details_of(error)
        code = "" if error.code == "node_error" else f" ({printable(error.code)})"
        first, *rest = self._cut_message(error.message)
        kind = printable(text_in(details, "type"))
        yield [(indent, ""), (f"{kind}: {first}{code}" if kind else f"{first}{code}", "red")]
        if not in_detail:
            return
        yield from ([(indent, ""), (line, "red")] for line in rest)
        for line in related_errors(details):
            yield from ([(f"{indent}  ", ""), (text, "red")] for text in self._cut_message(line))
        for note in items_in(details, "notes", str):
            yield from ([(f"{indent}  ", ""), (f"note: {text}", "yellow")] for text in self._cut_message(note))
        yield from ([(f"{indent}  ", ""), line] for line in self._frames(details))

    def _frames(self, details: dict[str, Any]) -> Iterator[tuple[str, str]]:
        frames = frames_of(details, self.folders)
        if self.detail.pointers or not frames.libraries:
            yield from ((frame_text(frame), "" if frame in frames.own else "dim") for frame in frames.every)
            return
        yield from ((frame_text(frame), "") for frame in frames.own or frames.every[-1:])
        count = sum(frames.libraries.values())
        if frames.own or count > 1:
            yield libraries_text(frames.libraries), "dim"

    def _cut_message(self, text: str) -> list[str]:
        """Return the lines of a message, cut to what fits a screen."""
        lines = printable_lines(text if self.full else text[:_TEXT_LENGTH])
        if len(text) > _TEXT_LENGTH and not self.full:
            lines[-1] += f"{self.marks.cut} ({len(text):,} characters)"
        return lines

    def _value(self, label: str, value: object, indent: str, step: Step) -> Line:
        text = printable(value_text(value, None if self.full else partial(self.files.array, step.arrays)))
        if not self.full:
            room = max(_LEAST_VALUE, self._room_beside(indent) - len(label) - 1)
            text = text if len(text) <= room and text.isascii() else self._cut(text, room)
        return [(indent, ""), (f"{label} ", "dim"), (text, "")]

    def _room_beside(self, indent: str) -> int:
        """Return how many columns an indent leaves; most indents are there many times."""
        found = self.rooms.get(indent)
        if found is None:
            found = self.rooms[indent] = self.room - self.width(indent)
        return found

    def _cut(self, text: str, room: int) -> str:
        """Return a text that takes no more columns than there are, with its length where there is room for that."""
        if len(text) <= room and self.width(text) <= room:
            return text
        size = f"{self.marks.cut} ({len(text)} characters)"
        if len(size) + _LEAST_VALUE > room:
            size = self.marks.cut
        left = max(1, room - self.width(size))
        kept = text[:left]
        while self.width(kept) > left:
            kept = kept[:-1]
        return kept + size


def _width() -> Callable[[str], int]:
    """Return a function that tells how many columns a text takes: mostly one for each character."""
    from rich.cells import cell_len

    return lambda text: len(text) if text.isascii() else cell_len(text)


def _facts(step: Step) -> list[tuple[str, str | None]]:
    facts = [("step", step.step_id), ("run", step.run_id), ("thread", step.thread)]
    return [*facts, ("task", task_of(step)), ("started", step.started_at)]
