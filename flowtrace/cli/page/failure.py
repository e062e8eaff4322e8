"""The first screen of a page as facts: the failure, where it was, its inputs, and the steps before it."""

from __future__ import annotations

import re
import shlex
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from flowtrace.cli.common import printable, printable_lines, several, shortened
from flowtrace.cli.page.arguments import Arguments
from flowtrace.cli.page.lanes import duration_ns
from flowtrace.cli.page.source_lines import code_of_failure, source_line
from flowtrace.cli.page.steps_data import StepValues, Timing, logs_of, name_parts, state_of
from flowtrace.cli.page.value_tree import Shown, as_line
from flowtrace.cli.step_text import (
    details_of,
    flow_text,
    frame_text,
    frames_of,
    items_in,
    location_of,
    outcome_of,
    path_text,
    short_name,
    task_of,
    text_in,
    traced_folders,
    verdict,
)
from flowtrace.trace.outline import Entry, is_outside

if TYPE_CHECKING:
    from pathlib import Path

    from flowtrace.trace.model import Step, Trace
    from flowtrace.trace.provenance import ProvenanceLink

Facts = dict[str, Any]
"""What a template gets: texts that are `printable`, and lists and dictionaries of them."""
_MESSAGE: Final = 2000
_BEFORE: Final = 8  # rows of steps before the next one on the way
_INPUT_ROWS: Final = 14
_VALUE: Final = 120
_MOST_FRAMES: Final = 20
_INSTALLED: Final = re.compile(r".*[/\\](?:site-packages|dist-packages|lib[/\\]python3[^/\\]*)[/\\]", re.IGNORECASE)
_NOT_AGAIN: Final = {
    "running": "it had not ended",
    "outside": "the error was raised outside any node",
    "redacted": "part of its input is redacted",
    "opaque": "part of its input could not be recorded",
    "cut": "part of its input was left out",
    "missing": "its input was not captured",
}


def head(name: str, trace: Trace, failed: Entry | None) -> Facts:
    """Return the facts of the page's head: the outcome, what failed, and which run it was."""
    folders = traced_folders(trace)
    text, _ = verdict(trace, failed, folders)
    outcome = outcome_of(trace, failed)
    facts: Facts = {
        "outcome": printable(outcome),
        "failed": failed is not None,
        "handled": outcome == "recovered",
        "verdict": shortened(text, _MESSAGE),
        "flow": flow_text(trace),
        "pack": short_name(trace.pack.pack_ref),
        "file": short_name(name),
        "facts": run_facts(trace),
        "run_id": short_name(trace.run.id) if trace.run is not None else "",
    }
    if failed is not None:
        component, operation = name_parts(failed.step)
        facts |= {"component": component, "operation": operation, "step": _number(failed)}
        names = failed.step.thread or "", task_of(failed.step) or ""
        facts |= {"place": location_of(failed.step, folders), "within": [short_name(name) for name in names if name]}
        facts |= _errors(failed, folders)
        facts |= replay_command(name, failed, debug=True)
    return facts


def run_facts(trace: Trace) -> list[tuple[str, str]]:
    """Return what is known of a run, each with its label."""
    run = trace.run
    steps = f"{len(trace.steps):,} kept"
    steps += f", {trace.dropped_steps:,} earlier dropped" if trace.dropped_steps else ""
    steps += f", {len(trace.in_flight):,} in flight" if trace.in_flight else ""
    by = f", flowtrace {short_name(trace.runner_version)}" if trace.runner_version else ""
    found = [("When", moment(run.started_at))] if run is not None else []
    found += [("Commit", printable(trace.git_sha[:12]))] if trace.git_sha else []
    found += [("Digest", short_name(trace.pack.resolved_digest))] if trace.pack.resolved_digest else []
    if run is not None:
        found += [("Python", f"{short_name(run.python)}{by}"), ("Host", f"{short_name(run.host)}, pid {run.pid}")]
    found.append(("Steps", steps))
    if run is not None and run.overtaken_runs:
        found.append(("Burst", f"{several(run.overtaken_runs, 'earlier run')} not written to this file"))
    return found


def moment(text: str) -> str:
    """Return a time of a trace to the second."""
    return short_name(f"{text[:10]} {text[11:19]} UTC" if text.endswith("Z") and len(text) > 19 else text)


def _number(entry: Entry) -> str:
    return "" if entry.number is None else f"#{entry.number}"


def _errors(failed: Entry, folders: frozenset[str]) -> Facts:
    """Return the error of a step, the errors that it comes from, and how it left the steps around it."""
    error = failed.step.error
    if error is None:
        issue = failed.step.validation_issues[0] if failed.step.validation_issues else None
        return {"kind": "", "message": printable(issue.message[:_MESSAGE]) if issue else "failed", "chain": []}
    details = details_of(error)
    chain = [_related("with", item, folders) for item in items_in(details, "exceptions")]
    causes = items_in(details, "causes")
    chain += [
        _related("while handling" if item.get("relation") == "context" else "caused by", item, folders)
        for item in causes
    ]
    said = (text_in(details, "type"), error.message)
    above = failed.parent
    while above is not None and above.step.error is not None:
        found = text_in(details_of(above.step.error), "type"), above.step.error.message
        if found != said:
            relation = f"left {short_name(above.step.node_id)} as"
            chain.append(_related(relation, {"type": found[0], "message": found[1]}, folders))
            said = found
        above = above.parent
    notes = [shortened(note, _MESSAGE) for note in items_in(details, "notes", str)]
    kind = type_name(text_in(details, "type"))
    lines = printable_lines(error.message[:_MESSAGE])
    code = "" if error.code == "node_error" else printable(error.code)
    return {"kind": kind, "code": code, "message": lines[0], "rest": lines[1:], "chain": chain, "notes": notes}


def type_name(name: str) -> str:
    """Return the name of an error's type; that of the program itself without ``__main__``, which says nothing."""
    return short_name(name.removeprefix("__main__."))


def _related(relation: str, item: dict[str, Any], folders: frozenset[str]) -> Facts:
    message = text_in(item, "message").partition("\n")[0]
    own = frames_of(item, folders).own
    location = frame_text(own[-1]).partition(" in ")[0] if own else ""
    kind = type_name(text_in(item, "type"))
    return {"relation": relation, "kind": kind, "message": shortened(message, 500), "place": location}


def replay_command(name: str, entry: Entry, *, debug: bool = False) -> Facts:
    """Return the command that calls a step again, or why none can; and how much of its input is there."""
    why = why_not_again(entry)
    if why:
        return {"command": "", "why_not": why}
    parts = ["flowtrace", "replay", name, "--step", str(entry.number)] + (["--pdb"] if debug else [])
    return {"command": printable(shlex.join(parts)), "why_not": ""}


def why_not_again(entry: Entry) -> str:
    """Return why a step can't be replayed from what is recorded; empty where it can."""
    from flowtrace.trace.model import INPUT, UNSET, is_within

    step = entry.step
    if is_outside(step):
        return _NOT_AGAIN["outside"]
    if entry.number is None:
        return _NOT_AGAIN["running"]
    if step.invocation_json is UNSET and step.invocation_path is None:
        return _NOT_AGAIN["missing"]
    parts = (("redacted", step.redacted), ("cut", [cut.path for cut in step.cut]), ("opaque", step.opaque))
    found = next((kind for kind, paths in parts if any(is_within(path, INPUT) for path in paths)), None)
    return _NOT_AGAIN[found] if found else ""


# --- what stands under the head


def screen(
    trace: Trace, entries: list[Entry], failed: Entry, path: list[Entry], values: StepValues, arguments: Arguments
) -> Facts:
    """Return the facts of the first screen: source, inputs, and the steps that led to the failure."""
    folders = traced_folders(trace)
    history = _history(trace, failed.step, values.path)
    return {
        "source": code_of_failure(trace, failed.step, folders),
        "frames": _stack(trace, failed, folders),
        "inputs": _inputs(failed.step, values, _blamed(failed, history)),
        "digits": printable(failed.step.input_hash.value[:8]),
        "issues": [_issue(issue) for issue in failed.step.validation_issues[:5]],
        "logs": logs_of(failed.step),
        "path": path_rows(trace, entries, failed, path or _above(failed), arguments),
        "history": [_link(link, entries) for link in history[1:]],
    }


def _stack(trace: Trace, failed: Entry, folders: frozenset[str]) -> list[Facts]:
    """Return the frames of a step's error, innermost first, and those of the steps around it, which it came through."""
    found: list[Facts] = []
    seen: set[tuple[str, Any]] = set()
    entry: Entry | None = failed
    while entry is not None and entry.step.error is not None and len(found) < _MOST_FRAMES:
        frames = frames_of(details_of(entry.step.error), folders)
        for frame in reversed(frames.every):
            key = text_in(frame, "file"), frame.get("line")
            if key not in seen:
                seen.add(key)
                text = source_line(trace, entry.step, frame) if frame in frames.own else []
                found.append({"text": _frame_text(frame), "library": frame not in frames.own, "pieces": text})
        entry = entry.parent
    return found[:_MOST_FRAMES]


def _frame_text(frame: dict[str, Any]) -> str:
    """Return a frame's line, without the folder where a library is installed."""
    return frame_text(frame | {"file": _INSTALLED.sub("", text_in(frame, "file"))})


def _above(entry: Entry | None) -> list[Entry]:
    found: list[Entry] = []
    while entry is not None:
        found.insert(0, entry)
        entry = entry.parent
    return found


def _issue(issue: Any) -> str:
    return f"{short_name(issue.code)} at {short_name(issue.path)}: {shortened(issue.message, 300)}"


def _history(trace: Trace, step: Step, path: Path | None) -> tuple[ProvenanceLink, ...]:
    """Return the links of the value that a step's error is about, the value itself first; none where none is known."""
    from flowtrace.errors import ProvenanceError

    try:
        return trace.provenance(step, path=path).links
    except ProvenanceError:
        return ()


def _blamed(failed: Entry, history: tuple[ProvenanceLink, ...]) -> str:
    """Return the path, in the failing step's input, of the value that its error is about; empty for none."""
    start = history[0] if history else None
    is_here = start is not None and start.side == "input" and start.step == failed.pointer
    return start.path if start is not None and is_here else ""


def _link(link: ProvenanceLink, entries: list[Entry]) -> Facts:
    """Return a link of a value's history in pieces: the step's name leads to the step, what is in ticks is code."""
    row = next((row for row, entry in enumerate(entries) if entry.pointer == link.step), -1)
    name = f"{'' if link.number is None else f'#{link.number} '}{link.node_id}"
    text = f"{link.text}: {link.note}" if link.relation == "reported issue" else link.text
    before, found, after = text.partition(name)
    pieces = [*_ticks(before), ("go", short_name(found)), *_ticks(after)] if found else _ticks(text)
    others = f"an equal one came out of {', '.join(link.others)}, too" if link.others else ""
    note = "" if link.relation == "reported issue" else link.note
    return {"pieces": pieces, "row": row, "notes": [shortened(item, _VALUE) for item in (note, others) if item]}


def _ticks(text: str) -> list[tuple[str, str]]:
    parts = text.split("`")
    return [("code" if at % 2 else "", shortened(part, _MESSAGE)) for at, part in enumerate(parts) if part]


def _inputs(step: Step, values: StepValues, blamed: str) -> list[Facts] | None:
    """Return the rows of a step's inputs: each with its name, level, type and text; None where none were captured."""
    value = values.of(step, "input")
    if value is None:
        return None
    tree = value[0]
    if isinstance(tree, list) and tree[0] == "m":
        rows: list[Facts] = []
        for name, part in zip(tree[2][::2], tree[2][1::2], strict=True):
            _add_rows(rows, "", _bare(name) if tree[1] == "dict" else name, part, 0)
        for row in rows:
            row["marked"] = bool(blamed) and row["path"] == blamed
        return rows
    return [_row("", "", tree, 0)]


def _bare(name: str) -> str:
    """Return the name of a parameter: it is a key of the payload, where it stands in quotes."""
    return name[1:-1] if len(name) > 1 and name[0] == name[-1] == "'" else name


def _add_rows(rows: list[Facts], above: str, name: str, value: Shown, depth: int) -> None:
    """Add a value with the members of an object below it, as far as a screen has room."""
    is_open = isinstance(value, list) and value[0] == "m" and depth < 2 and 0 < len(value[2]) <= 2 * _INPUT_ROWS
    if not is_open or len(rows) >= _INPUT_ROWS:
        rows.append(_row(above, name, value, depth))
        return
    rows.append(_row(above, name, value, depth) | {"text": "", "kind": "group"})
    for inner, part in zip(value[2][::2], value[2][1::2], strict=True):
        _add_rows(rows, f"{above}/{name}", inner, part, depth + 1)
    if value[3]:
        rows.append(_row("", "…", ["v", "", f"{value[3]} more"], depth + 1))


def _row(above: str, name: str, value: Shown, depth: int) -> Facts:
    kind, type_name = kind_of(value)
    text = value[2] if isinstance(value, list) and kind in ("value", "hidden") else as_line(value, _VALUE)
    path = f"{above}/{_bare(name)}"
    return {"name": name, "depth": depth, "type": type_name, "text": text, "kind": kind, "path": path, "marked": False}


def kind_of(value: Shown) -> tuple[str, str]:
    """Return what a part of a value is, for its style, and the name of its type."""
    if isinstance(value, list):
        return {"v": ("value", value[1]), "h": ("hidden", value[1]), "t": ("table", "")}.get(value[0], ("", value[1]))
    if value is None:
        return "none", ""
    return ("text", "str") if isinstance(value, str) else ("value", type(value).__name__)


# --- the steps before


def path_rows(
    trace: Trace, entries: list[Entry], failed: Entry, path: list[Entry], arguments: Arguments
) -> list[Facts]:
    """Return a row for each step on the way to the failure, and for the steps that ran before the next one in it."""
    timing = Timing(trace, entries)
    starts = {id(entry): start for entry, start in zip(entries, timing.starts, strict=True)}
    children: dict[int, list[Entry]] = {}
    for entry in entries:
        if entry.parent is not None:
            children.setdefault(id(entry.parent), []).append(entry)
    rows: list[Facts] = []
    for depth, entry in enumerate(path):
        rows.append(_path_row([entry], depth, starts, arguments, on_path=True, here=entry is failed))
        if depth == 0 and trace.dropped_steps:
            rows.append({"gap": f"{several(trace.dropped_steps, 'earlier step')} not kept", "depth": 1})
        if entry is failed:
            break
        rows += _before(children.get(id(entry), []), path[depth + 1], depth + 1, starts, arguments)
    return rows


def _before(
    siblings: list[Entry], following: Entry, depth: int, starts: dict[int, int | None], arguments: Arguments
) -> list[Facts]:
    at = next(at for at, entry in enumerate(siblings) if entry is following)
    runs = [list(group) for _, group in groupby(siblings[:at], key=lambda entry: entry.step.node_id)]
    hidden = sum(map(len, runs[:-_BEFORE]))
    rows: list[Facts] = [{"gap": f"{several(hidden, 'earlier step')} more", "depth": depth}] if hidden else []
    return rows + [_path_row(run, depth, starts, arguments) for run in runs[-_BEFORE:]]


def _path_row(
    run: list[Entry],
    depth: int,
    starts: dict[int, int | None],
    arguments: Arguments,
    *,
    on_path: bool = False,
    here: bool = False,
) -> Facts:
    first = run[0]
    component, operation = name_parts(first.step)
    states = {state_of(entry, on_path) for entry in run}
    state = next(state for state in ("failed", "handled", "cancelled", "running", "ok") if state in states)
    start = starts[id(first)]
    return {
        "row": first.pointer,
        "depth": depth,
        "start": "" if start is None else f"{start / 1000:.1f}",
        "state": state,
        "component": component,
        "operation": operation,
        "count": len(run) if len(run) > 1 else 0,
        "arguments": arguments.of(first.step) if len(run) == 1 else "",
        "took": time_text(sum(duration_ns(entry.step) for entry in run)),
        "on_path": on_path,
        "here": here,
        "issues": sum(len(entry.step.validation_issues) for entry in run),
    }


def time_text(nanoseconds: int) -> str:
    """Return a length of time as `flowtrace show` has it."""
    if nanoseconds < 1_000_000:
        return f"{nanoseconds / 1_000:.1f} µs"
    return f"{nanoseconds / 1e6:.2f} ms" if nanoseconds < 1_000_000_000 else f"{nanoseconds / 1e9:.2f} s"


def definition(step: Step) -> str:
    """Return where a step's function is defined; empty where that is not known."""
    return f"{path_text(step.code.file)}:{step.code.line}" if step.code is not None and step.code.file else ""
