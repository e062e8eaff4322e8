"""The traces that are made of dead processes: where they go, and that they stay few."""

from __future__ import annotations

import os
import re
from typing import Any, Final

from flowtrace import opening, salvage, writer
from flowtrace.canonical import pretty
from flowtrace.interruption import let_through
from flowtrace.model import Trace, new_document, parse_trace
from flowtrace.ownership import pattern_of
from flowtrace.recorder import TraceRecorder

MOST: Final = 100
LARGEST: Final = 64 << 20
_ID: Final = "[0-9a-f]{8}"


def write(recorder: TraceRecorder, trace: Trace, header: dict[str, Any]) -> str:
    """Write a dead process's trace beside ours, with its run in the name, and let the oldest such traces go.

    Args:
        recorder: of this process; says where its traces go.
        trace: what the dead process left.
        header: what its ring file says of it.

    Returns:
        The file's path.

    Raises:
        OSError: it can't be written.
    """
    template = os.path.join(os.getcwd(), recorder.config.out_path).replace("{pid}", str(header.get("pid")))
    flow_id, started = str(header.get("flow_id")), salvage.started_at(header)
    run_id = trace.run.id if trace.run else ""
    stem, suffix = os.path.splitext(writer.render_path(template, run_id=run_id, flow_id=flow_id, timestamp=started))
    path = f"{stem}.recovered.{run_id[:8]}{suffix}"
    writer.write_atomically(path, pretty(new_document(trace)))
    try:
        _make_room(path, os.path.basename(recorder.config.out_path))
    except OSError as error:
        let_through(error)
    return path


def names_of(template: str, before: str) -> re.Pattern[str]:
    """Return the pattern of file names that a template gives, in whatever process.

    Args:
        template: a file name with any of the placeholders of paths.
        before: pattern of what stands before the suffix.
    """
    stem, suffix = os.path.splitext(template)
    return re.compile(pattern_of(stem) + before + re.escape(suffix))


def _make_room(newest: str, template: str) -> None:
    """Remove the oldest recovered traces that are too many; what is no such trace, or was changed, stays."""
    folder = os.path.dirname(newest)
    pattern = names_of(template, rf"(\.[0-9]+)?\.recovered\.{_ID}")
    with os.scandir(folder) as entries:
        found = sorted(
            (entry.stat(follow_symlinks=False).st_mtime_ns, entry.path)
            for entry in entries
            if pattern.fullmatch(entry.name) and entry.path != newest and entry.is_file(follow_symlinks=False)
        )
    for _, path in found[: max(0, len(found) + 1 - MOST)]:
        try:
            if _is_ours(path):
                os.unlink(path)
        except OSError as error:  # another process was quicker, or the folder can't be changed any more
            let_through(error)


def _is_ours(path: str) -> bool:
    """Tell whether a file holds, byte for byte, what flowtrace wrote of the run that its name tells of."""
    descriptor = os.open(path, opening.FILE)
    with open(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        if not opening.is_ours(about) or about.st_size > LARGEST:
            return False
        data = file.read(LARGEST)
    try:
        trace = parse_trace(data)
    except ValueError:
        return False
    run_id = trace.run.id if trace.run else ""
    named = os.path.splitext(path)[0].endswith(f".recovered.{run_id[:8]}")
    return named and pretty(new_document(trace)) == data
