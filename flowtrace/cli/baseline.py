"""The baseline of `flowtrace check`: the trace of a run that was right, in the repository with its payload files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from flowtrace.cli.common import UnreadableError
from flowtrace.trace.files import Flush, write_atomically
from flowtrace.trace.model import changed, to_document
from flowtrace.trace.payload_files import PAYLOAD_NAME, payload_folder, read_payload, write_payload
from flowtrace.trace.reading import load_trace
from flowtrace.values.json import pretty

if TYPE_CHECKING:
    from flowtrace.comparing.evidence import Side
    from flowtrace.trace.model import Step


def load(path: str) -> Side:
    """Return a baseline as one side of a comparison.

    Raises:
        UnreadableError: there is none.
        TraceFileError: it is no trace.
    """
    from flowtrace.comparing.evidence import Side

    if not os.path.lexists(path):
        raise UnreadableError(f"{path}: is not there yet; --update makes it")
    return Side(load_trace(path), path, path)


def renew(path: str, run: Side) -> None:
    """Put the trace of a run in the place of a baseline, which stays as it was until the new one is whole.

    Raises:
        OSError: it can't be written.
        PayloadFileError: a payload file of the run can't be read.
    """
    assert run.path is not None
    copied: set[str] = set()
    trace = changed(
        run.trace,
        steps=[_moved(step, run.path, path, copied) for step in run.trace.steps],
        in_flight=[_moved(step, run.path, path, copied) for step in run.trace.in_flight],
    )
    write_atomically(path, pretty(to_document(trace)), flush=Flush.FOLDER)
    _remove_others(path, copied)


def _moved(step: Step, source: str, target: str, copied: set[str]) -> Step:
    """Copy the payload files of a step to another trace's folder, and return the step that names them there."""

    def move(relative: str) -> str:
        digest, _, suffix = relative.rpartition("/")[2].rpartition(".")
        moved = write_payload(target, digest, read_payload(source, relative), Flush.FILE, suffix)
        copied.add(moved.rpartition("/")[2])
        return moved

    paths = {name: getattr(step, name) for name in ("invocation_path", "output_path")}
    new = {name: move(relative) for name, relative in paths.items() if relative is not None}
    arrays = {digest: move(relative) for digest, relative in step.arrays.items()}
    return changed(step, **new, **({"arrays": arrays} if arrays else {}))


def _remove_others(path: str, kept: set[str]) -> None:
    """Remove the payload files that only the old baseline named."""
    folder = os.path.join(os.path.dirname(path), payload_folder(path))
    if not os.path.isdir(folder) or os.path.islink(folder):
        return
    for name in os.listdir(folder):
        if PAYLOAD_NAME.fullmatch(name) and name not in kept:
            os.unlink(os.path.join(folder, name))
    if not os.listdir(folder):
        os.rmdir(folder)
