"""A trace as a file of speedscope, the viewer of flame graphs: one evented profile a track.

The format is that of https://www.speedscope.app/file-format-schema.json; the times of a profile must not decrease, and
frames are closed in the reverse order of their opening.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flowtrace.exporting.rows import json_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flowtrace.exporting.rows import Row
    from flowtrace.exporting.timeline import Timeline, Track

_SCHEMA: Final = "https://www.speedscope.app/file-format-schema.json"


def speedscope(name: str, timeline: Timeline, rows: list[Row]) -> Iterator[bytes]:
    """Yield the content of a speedscope file. A frame is a function; failed calls of it are a frame of their own.

    Args:
        name: of the trace.
        timeline: its steps on their tracks.
        rows: the same steps with what is known of them, in the order of the tree.
    """
    frames: dict[tuple[Any, ...], int] = {}
    of_row = [frames.setdefault(_frame(row), len(frames)) for row in rows]
    document = {
        "$schema": _SCHEMA,
        "exporter": "flowtrace",
        "name": name,
        "activeProfileIndex": 0,
        "shared": {"frames": [_described(*frame) for frame in frames]},
        "profiles": [_profile(track, of_row) for track in timeline.tracks],
    }
    yield json_of(document)


def _frame(row: Row) -> tuple[Any, ...]:
    state = row["state"]
    error = row["error_type"] or row["error_code"]
    said = f" (failed: {error})" if state == "failed" else " (running)" if state == "running" else ""
    return row["node_id"] + said, row["file"], row["line"]


def _described(name: str, file: str | None, line: int | None) -> dict[str, Any]:
    return {"name": name, **({"file": file} if file else {}), **({"line": line} if line is not None else {})}


def _profile(track: Track, of_row: list[int]) -> dict[str, Any]:
    events = [
        {"type": "O" if event.begins else "C", "at": event.at, "frame": of_row[event.row]} for event in track.events
    ]
    first, last = track.events[0].at, track.events[-1].at
    return {
        "type": "evented",
        "name": track.name,
        "unit": "nanoseconds",
        "startValue": first,
        "endValue": last,
        "events": events,
    }
