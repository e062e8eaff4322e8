"""Texts about a step, for every form in which a trace is shown: its name, time, place, values, error and frames."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from flowtrace.cli.common import printable, several
from flowtrace.host.system import parse_timestamp
from flowtrace.trace.model import UNSET
from flowtrace.trace.outline import OUTSIDE, Entry, is_outside

if TYPE_CHECKING:
    from flowtrace.trace.model import Step, StepError, Trace

_NAME_LENGTH: Final = 300
_LONGEST_NS: Final = 10**20  # three thousand years; a longer duration is an error in the file
_PACKAGE: Final = re.compile(r".*/(?:site|dist)-packages/([^/]+)")
_STANDARD_LIBRARY: Final = re.compile(r"/lib/python3[^/]*/|/Lib/|^<frozen ")
_NO_FLOW: Final = ("process", "unknown")  # what a trace has where there was no flow and no variable that names one


class Frames(NamedTuple):
    """The frames of an error.

    Attributes:
        own: of the program, outermost first.
        libraries: how many there are of libraries, by the names of these.
        every: all, in their order, with the mark for those that the file leaves out.
    """

    own: list[dict[str, Any]]
    libraries: dict[str, int]
    every: list[dict[str, Any]]


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


UNICODE: Final = Marks("✓", "✗", "▶", "◀ failed here", "├─ ", "└─ ", "│  ", "…")
ASCII: Final = Marks(".", "X", ">", "<- failed here", "|- ", "`- ", "|  ", "...")


def short_name(text: str) -> str:
    """Return a name made `printable`, cut where it is longer than any real name."""
    return printable(text) if len(text) <= _NAME_LENGTH else printable(text[:_NAME_LENGTH]) + "..."


def step_name(step: Step) -> str:
    """Return the name of a step's node; the step of an error outside any node has none."""
    return OUTSIDE if is_outside(step) else short_name(step.node_id)


def outcome_of(trace: Trace, failed: Entry | None) -> str:
    """Return how the run ended; the core of the format has no field for it."""
    if trace.run is not None:
        return trace.run.outcome
    return "failed" if failed is not None else "no failure"


def flow_text(trace: Trace) -> str:
    """Return the flow that a trace is of, and its version."""
    if (trace.flow.id, trace.flow.version) == _NO_FLOW:
        return "outside any flow"
    return f"flow {printable(trace.flow.id)} {printable(trace.flow.version)}"


def traced_folders(trace: Trace) -> frozenset[str]:
    """Return the folders of the traced functions: what is in them is the program's own, wherever it is installed."""
    return frozenset(
        os.path.dirname(step.code.file) for step in trace.steps if step.code is not None and step.code.file
    )


def verdict(trace: Trace, failed: Entry | None, folders: frozenset[str]) -> tuple[str, str]:
    """Return what failed where, or how many steps there are where nothing did; and the state that this stands for."""
    outcome = outcome_of(trace, failed)
    if failed is None:
        counts = [several(len(trace.steps), "step")] + (
            [f"{len(trace.in_flight)} in flight"] if trace.in_flight else []
        )
        slow = _slow_text(trace) if outcome == "slow" else None
        if slow is not None:
            return f"slow: {slow}; {', '.join(counts)}", "running"
        said = {"ok": "nothing failed", "no failure": "nothing failed"}.get(outcome, printable(outcome))
        return f"{said}: {', '.join(counts)}", "ok" if outcome in ("ok", "no failure") else "running"
    step = failed.step
    error, issues = step.error, step.validation_issues
    kind = "" if error is None else text_in(details_of(error), "type")
    reason = error.message if error is not None else issues[0].message if issues else "failed"
    number = "" if failed.number is None else f" #{failed.number}"
    location = location_of(step, folders)
    where = f" at {location}" if location else ""
    text = f"{short_name(kind)}: {reason}" if kind else reason
    handled = " (handled)" if outcome == "recovered" else ""
    return f"{step_name(step)}{number}{where}: {text.partition(chr(10))[0]}{handled}", "failed"


def _slow_text(trace: Trace) -> str | None:
    """Return what took the time of a slow run: a step, or the flow where no step took most of that."""
    slowest, run = slowest_step(trace), trace.run
    started, ended = (parse_timestamp(run.started_at), parse_timestamp(run.ended_at)) if run else (None, None)
    if started is not None and ended is not None and (trace.flow.id, trace.flow.version) != _NO_FLOW:
        length = ended - started
        if slowest is None or 2 * _length(slowest) < length:
            return f"{flow_text(trace)} took {_time_text(length)}"
    return None if slowest is None else f"{step_name(slowest)} took {short_name(_time_text(_length(slowest)))}"


def slowest_step(trace: Trace) -> Step | None:
    """Return the step that took the time of a slow run: the longest one, or the one inside that took most of that."""
    longest: dict[str | None, Step] = {}
    for step in trace.steps:
        if step.run_id is None:
            for key in {step.parent_step_id, None}:
                if key not in longest or _length(step) > _length(longest[key]):
                    longest[key] = step
    found = longest.pop(None, None)
    while found is not None:
        inner = longest.pop(found.step_id, None)
        if inner is None or 2 * _length(inner) < _length(found):
            break
        found = inner
    return found


def _length(step: Step) -> int:
    return step.duration_ms * 1_000_000 if step.duration_ns is None else step.duration_ns


def location_of(step: Step, folders: frozenset[str]) -> str:
    """Return file and line of the program's own code where a step's error was raised; empty where none is known."""
    own = frames_of(details_of(step.error), folders).own if step.error is not None else []
    return f"{path_text(text_in(own[-1], 'file'))}:{_line(own[-1])}" if own else ""


def path_text(path: str) -> str:
    """Return the path of a source file, relative to the working folder where it is in there."""
    here = os.getcwd() + os.sep
    return short_name(path.removeprefix(here) if path.startswith(here) else path)


# --- errors


def details_of(error: StepError) -> dict[str, Any]:
    """Return the details of an error; empty where they have another form than flowtrace's."""
    return error.details if isinstance(error.details, dict) else {}


def text_in(found: dict[str, Any], name: str) -> str:
    """Return a text of an error's details; empty where it has another form than flowtrace's."""
    value = found.get(name)
    return value if isinstance(value, str) else ""


def task_of(step: Step) -> str | None:
    """Return the name of the task that a step failed in; None where there was none."""
    return text_in(details_of(step.error), "task") or None if step.error is not None else None


def items_in(found: dict[str, Any], name: str, kind: type = dict) -> list[Any]:
    """Return the items of a list in an error's details, without those of another form than flowtrace's."""
    items = found.get(name)
    return [item for item in items if isinstance(item, kind)] if isinstance(items, list) else []


def related_errors(details: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each member of a group, and for each cause and context."""
    related = [("with", item) for item in items_in(details, "exceptions")]
    related += [
        ("while handling" if item.get("relation") == "context" else "caused by", item)
        for item in items_in(details, "causes")
    ]
    for relation, item in related:
        line = ": ".join(filter(None, (text_in(item, "type"), text_in(item, "message"))))
        yield f"{relation} {line}"


def frames_of(details: dict[str, Any], folders: frozenset[str]) -> Frames:
    """Return the frames of an error, with the program's own ones apart.

    Args:
        details: of the error.
        folders: what `traced_folders` returned; a program may be installed like a library.
    """
    frames = items_in(details, "frames")
    own: list[dict[str, Any]] = []
    libraries: dict[str, int] = {}
    for frame in frames:
        file = text_in(frame, "file")
        if isinstance(frame.get("left_out"), int):
            continue
        name = "" if os.path.dirname(file) in folders else _library_of(file.replace("\\", "/"))
        if name:
            libraries[name] = libraries.get(name, 0) + 1
        else:
            own.append(frame)
    return Frames(own, libraries, frames)


def _library_of(file: str) -> str:
    """Return the library that a source file is of; empty for none."""
    package = _PACKAGE.match(file)
    if package is not None:
        return package[1].removesuffix(".py")
    return "Python" if _STANDARD_LIBRARY.search(file) else ""


def frame_text(frame: dict[str, Any]) -> str:
    """Return the line of a frame, or of those that the file leaves out."""
    left_out = frame.get("left_out")
    if isinstance(left_out, int):
        return f"({left_out} frames left out)"
    return f"at {path_text(text_in(frame, 'file'))}:{_line(frame)} in {short_name(text_in(frame, 'function'))}"


def _line(frame: dict[str, Any]) -> int:
    line = frame.get("line")
    return line if isinstance(line, int) else 0


def libraries_text(found: dict[str, int]) -> str:
    """Return the line that stands for the frames of libraries."""
    return f"({several(sum(found.values()), 'frame')} in {', '.join(map(short_name, found))}: -v shows them)"


# --- values and time


def values_of(step: Step) -> list[tuple[str, object]]:
    """Return the captured values of a step with their labels."""
    invocation, output = step.invocation_json, step.output_json
    found: list[tuple[str, object]] = []
    if invocation is not UNSET:
        found.append(("input", invocation.get("payload", invocation) if isinstance(invocation, dict) else invocation))
    if output is not UNSET:
        found.append(("output", output))
    return found


def duration_of(entry: Entry) -> str:
    """Return how long a step took, or has taken so far; of one that its process died in, as far as that is known."""
    step = entry.step
    text = f"{step.duration_ms} ms" if step.duration_ns is None else _time_text(step.duration_ns)
    if entry.state == "ok" and len(text) < _NAME_LENGTH:
        return text
    if entry.state == "running":
        return short_name(f"{text} so far")
    if entry.number is None and step.error is not None and step.error.code == "process_died":
        return short_name(f"{text} or more") if step.duration_ns or step.duration_ms else "in flight"
    return short_name(text)


def _time_text(nanoseconds: int) -> str:
    if -_LONGEST_NS <= nanoseconds < 1_000_000:
        return f"{nanoseconds / 1_000:.1f} µs"
    if abs(nanoseconds) > _LONGEST_NS:
        return f"{nanoseconds} ns"
    if nanoseconds < 1_000_000_000:
        return f"{nanoseconds / 1_000_000:.2f} ms"
    return f"{nanoseconds / 1_000_000_000:.2f} s"
