"""A trace and a step as one line, and as HTML, which notebooks show: plain elements alone, every text escaped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from typing import TYPE_CHECKING, Any, Final

from flowtrace.host.log import printable
from flowtrace.trace.model import UNSET
from flowtrace.trace.outline import OUTSIDE, failed_entry, is_outside, log_lines, outline
from flowtrace.values.shown import value_text

if TYPE_CHECKING:
    from flowtrace.trace.model import Step, StepError, Trace
    from flowtrace.trace.outline import Entry

_MOST_STEPS: Final = 100
_SHORT: Final = 80  # characters
_LONG: Final = 4000
_MARKS: Final = {"ok": "✓", "failed": "✗", "running": "▶"}


def step_line(step: Step) -> str:
    """Return a step as one line: its node, how long it took, and its error."""
    parts = [_name(step), _duration(step)]
    parts += [_error_line(step.error)] if step.error is not None else []
    return printable(f"<Step {': '.join(cut(part, 2 * _SHORT) for part in parts)}>")


def trace_line(trace: Trace) -> str:
    """Return a trace as one line: its flow, how it ended, and how many steps it has."""
    failed = trace.failed_step
    about = [f"flow {trace.flow.id!r:.80} {trace.flow.version!r:.80}"]
    about += [f"outcome {trace.run.outcome!r:.80}"] if trace.run is not None else []
    about += [f"{len(trace.steps)} steps"]
    about += [f"{len(trace.in_flight)} in flight"] if trace.in_flight else []
    about += [f"failed step {failed.node_id!r:.80}"] if failed is not None else []
    return f"<Trace: {', '.join(about)}>"


def step_html(step: Step) -> str:
    """Return a step as HTML: its error with its frames, its values, and where its code is."""
    return "".join(["<div>", f"<p><b>{_text(_name(step))}</b> {_text(_duration(step))}</p>", *_details(step), "</div>"])


def trace_html(trace: Trace) -> str:
    """Return a trace as HTML: what failed, the last steps as a tree, and the step that failed."""
    entries = outline(trace)
    failed = failed_entry(trace, entries)
    parts = ["<div>", f"<p><b>{_text(_headline(failed))}</b></p>"]
    parts.append(f"<p>{_text(', '.join(_about(trace)))}</p>")
    left_out = len(entries) - _MOST_STEPS
    parts += [f"<p>{left_out:,} earlier steps are left out</p>"] if left_out > 0 else []
    rows = (_row(entry, failed) for entry in entries[-_MOST_STEPS:])
    parts += table(("step", "", "node", "time", "input", "output"), rows)
    parts += _details(failed.step) if failed is not None else []
    return "".join([*parts, "</div>"])


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """Yield a table of texts, which may be anything."""
    yield f"<table><thead><tr>{''.join(f'<th>{_text(cell)}</th>' for cell in head)}</tr></thead><tbody>"
    for row in rows:
        yield f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>"
    yield "</tbody></table>"


def cut(text: str, length: int) -> str:
    """Return a text, or its beginning."""
    return text if len(text) <= length else f"{text[:length]}…"


def _text(text: str) -> str:
    return escape(printable(cut(text, _LONG)))


def _headline(failed: Entry | None) -> str:
    if failed is None:
        return "nothing failed"
    number = "" if failed.number is None else f" #{failed.number}"
    error = failed.step.error
    return f"✗ {_name(failed.step)}{number}: {'failed' if error is None else _error_line(error)}"


def _about(trace: Trace) -> Iterator[str]:
    yield f"flow {trace.flow.id} {trace.flow.version}"
    if trace.run is not None:
        yield f"outcome {trace.run.outcome}"
        yield f"started {trace.run.started_at}"
    yield f"{len(trace.steps):,} steps"
    if trace.in_flight:
        yield f"{len(trace.in_flight):,} in flight"


def _row(entry: Entry, failed: Entry | None) -> Iterator[str]:
    step = entry.step
    here = " ◀ failed here" if failed is not None and entry.pointer == failed.pointer else ""
    yield "" if entry.number is None else str(entry.number)
    yield _MARKS[entry.state]
    yield f"{'· ' * min(entry.depth, 20)}{cut(_name(step), _SHORT)}{here}"
    yield _duration(step)
    values = dict(_values(step))
    yield from (cut(values.get(label, ""), _SHORT) for label in ("input", "output"))


def _details(step: Step) -> Iterator[str]:
    if step.error is not None:
        lines = [_error_line(step.error), *_frames(step.error)]
        yield f"<pre>{'<br>'.join(map(_text, lines))}</pre>"
    rows = [*_values(step), *((f"{issue.code} at {issue.path}", issue.message) for issue in step.validation_issues)]
    if step.code is not None:
        rows.append(("code", f"{step.code.module}.{step.code.qualname}, {step.code.file}:{step.code.line}"))
    yield from table(("", ""), rows)
    if step.logs:
        yield f"<pre>{'<br>'.join(_text(line) for _, line in log_lines(step))}</pre>"


def _name(step: Step) -> str:
    return OUTSIDE if is_outside(step) else step.node_id


def _duration(step: Step) -> str:
    return f"{step.duration_ms} ms" if step.duration_ns is None else f"{step.duration_ns / 1_000_000:.3f} ms"


def _error_line(error: StepError) -> str:
    kind = error.details.get("type") if isinstance(error.details, dict) else None
    return f"{kind}: {error.message}" if isinstance(kind, str) else error.message


def _frames(error: StepError) -> Iterator[str]:
    frames = error.details.get("frames") if isinstance(error.details, dict) else None
    for frame in frames if isinstance(frames, list) else ():
        if isinstance(frame, dict) and "file" in frame:
            yield f"  at {frame.get('file')}:{frame.get('line')} in {frame.get('function')}"


def _values(step: Step) -> Iterator[tuple[str, str]]:
    invocation: Any = step.invocation_json
    if isinstance(invocation, dict):
        yield "input", value_text(invocation.get("payload"))
    if step.output_json is not UNSET:
        yield "output", value_text(step.output_json)
