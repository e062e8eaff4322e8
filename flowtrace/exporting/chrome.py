"""A trace as Chrome's trace events, in JSON, for chrome://tracing, Perfetto and other viewers of them.

The format is described in "Trace Event Format", https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flowtrace.exporting.rows import json_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flowtrace.exporting.rows import Row
    from flowtrace.exporting.timeline import Event, Timeline
    from flowtrace.trace.model import Trace

_COLORS: Final = {"failed": "terrible", "running": "bad"}
"""The viewer's names of red and orange; it chooses the others by the name of the step."""


def chrome(trace: Trace, timeline: Timeline, rows: list[Row]) -> Iterator[bytes]:
    """Yield the content of a JSON file of trace events, one event a line; times are microseconds, with decimals.

    Args:
        trace: the trace.
        timeline: its steps on their tracks.
        rows: the same steps with what is known of them, in the order of the tree.
    """
    pid = 0 if trace.run is None else trace.run.pid
    about = {"pack": trace.pack.pack_ref, "flow": trace.flow.id, "origin_ns": str(timeline.origin)}
    yield b'{"displayTimeUnit":"ns","otherData":' + json_of(about) + b',"traceEvents":[\n'
    yield json_of({"ph": "M", "pid": pid, "tid": 0, "name": "process_name", "args": {"name": trace.pack.pack_ref}})
    for number, track in enumerate(timeline.tracks, 1):
        where = {"pid": pid, "tid": number}
        yield b",\n" + json_of({**where, "ph": "M", "name": "thread_name", "args": {"name": track.name}})
        yield b",\n" + json_of({**where, "ph": "M", "name": "thread_sort_index", "args": {"sort_index": number}})
        for event in track.events:
            yield b",\n" + json_of({**where, **_event(event, rows[event.row])})
    yield b"\n]}\n"


def _event(event: Event, row: Row) -> dict[str, Any]:
    found: dict[str, Any] = {"ph": "B" if event.begins else "E", "ts": event.at / 1000}
    if event.begins:
        found |= {"name": row["node_id"], "cat": row["state"]}
        found["args"] = {name: value for name, value in row.items() if value not in (None, [])}
        if row["state"] in _COLORS:
            found["cname"] = _COLORS[row["state"]]
    return found
