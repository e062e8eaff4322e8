"""Reading the payload files beside a trace. A trace may come from anywhere, so the paths in it are not trusted.

The captured values of a step: from the trace itself, or from the payload files beside it.
"""

from __future__ import annotations

import os
import re
import stat
from typing import Any, Final, NoReturn

from flowtrace.errors import PayloadFileError
from flowtrace.trace import files
from flowtrace.trace.model import UNSET, Step
from flowtrace.values.digest import hash_bytes
from flowtrace.values.json import loads

MAX_PAYLOAD_BYTES: Final = 1 << 28  # 256 MiB: a recorder keeps no more of one value than its whole buffer
MAX_SHOWN_BYTES: Final = 1 << 22  # 4 MiB, of a file that somebody looks into
MAX_ALL_SHOWN_BYTES: Final = 1 << 26  # 64 MiB, of all files of one look
_LONGEST_PATH: Final = 1024
_NAME: Final = re.compile(r"([0-9a-f]{64})\.json", re.ASCII)
_WALKS: Final = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")


def read_payload(
    trace_path: str | os.PathLike[str], relative: str, *, pointer: str = "", limit: int = MAX_PAYLOAD_BYTES
) -> bytes:
    """Return the content of a payload file, which may only be a regular file in or below the folder of its trace.

    What the file is called after its hash is not looked at here; see `holds_what_its_name_says`.

    Args:
        trace_path: the trace file.
        relative: the path that stands in the trace, relative to the trace's folder, with forward slashes.
        pointer: JSON Pointer of the place where that path stands, for the error.
        limit: read no more bytes than this.

    Raises:
        PayloadFileError: the path leads out of the folder or through a symbolic link, or there is no readable file
            of that size behind it.
    """
    name = os.fspath(trace_path)
    reader = _Reader(name, relative, pointer, limit)
    return reader.read(os.path.dirname(os.path.abspath(name)))


def holds_what_its_name_says(relative: str, data: bytes) -> bool | None:
    """Tell whether a payload file's content has the hash that the file is named after.

    Args:
        relative: the file's path, as it stands in the trace.
        data: its content.

    Returns:
        None where the name is no hash, so that there is nothing to compare.
    """
    name = _NAME.fullmatch(relative.rpartition("/")[2])
    return None if name is None else hash_bytes(data).value == name[1]


class _Reader:
    def __init__(self, trace_path: str, relative: str, pointer: str, limit: int) -> None:
        self._trace_path = trace_path
        self._relative = relative
        self._pointer = pointer
        self._limit = limit

    def read(self, folder: str) -> bytes:
        parts = self._parts()
        try:
            descriptor = _walk(folder, parts) if _WALKS else _open_by_path(folder, parts)
            if descriptor is None:
                self._refuse("is reached through a symbolic link, which may lead anywhere")
            try:
                return self._content(descriptor)
            finally:
                os.close(descriptor)
        except (OSError, ValueError) as error:
            if isinstance(error, PayloadFileError):
                raise
            self._refuse(f"can't be read: {getattr(error, 'strerror', None) or error}")

    def _parts(self) -> list[str]:
        text = self._relative
        parts = text.split("/")
        if len(text) > _LONGEST_PATH or not text.isprintable() or any(character in text for character in '\\:*?"<>|'):
            self._refuse("is not the path of a payload file")
        if any(part in ("", ".", "..") for part in parts):
            self._refuse("is not a path that stays below the trace's folder")
        return parts

    def _content(self, descriptor: int) -> bytes:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            self._refuse("is not a file")
        chunks: list[bytes] = []
        left = self._limit + 1
        while left > 0 and (chunk := os.read(descriptor, min(left, 1 << 20))):
            chunks.append(chunk)
            left -= len(chunk)
        if left <= 0:
            self._refuse(f"is larger than {self._limit} bytes")
        return b"".join(chunks)

    def _refuse(self, reason: str) -> NoReturn:
        shown = f"{self._relative[:200]!r}"
        raise PayloadFileError(self._trace_path, self._pointer, f"the payload file {shown} {reason}") from None


def _walk(folder: str, parts: list[str]) -> int | None:
    """Open a file from folder to folder, so that nobody can put a link in between; None where there is one."""
    *folders, last = parts
    here = os.open(folder, files.FOLDER & ~os.O_NOFOLLOW)
    try:
        for part in folders:
            if _is_link(part, here):
                return None
            following = os.open(part, files.FOLDER, dir_fd=here)
            os.close(here)
            here = following
        return None if _is_link(last, here) else os.open(last, files.FILE, dir_fd=here)
    finally:
        os.close(here)


def _is_link(name: str, folder: int) -> bool:
    """Tell which error to give; O_NOFOLLOW is what keeps a link from being followed."""
    return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)


def _open_by_path(folder: str, parts: list[str]) -> int | None:
    """Do the same where a system can't open a name inside an open folder."""
    path = os.path.join(os.path.realpath(folder), *parts)
    return os.open(path, files.FILE) if os.path.realpath(path) == path else None


_PLACE: Final = "/invocation_json/payload"


class NotCapturedError(Exception):
    """A step's input can't be had from the trace; the text says why."""


def captured_input(step: Step, folder: str | None) -> dict[str, Any]:
    """Return what a step's function was called with, as JSON-like objects by the names of the parameters.

    Args:
        step: the step.
        folder: where the trace lies, and its payload files; None where that is not known.

    Raises:
        NotCapturedError: it was not captured, not whole, or its payload file can't be trusted.
    """
    for what, pointers in (("redacted", step.redacted), ("opaque", step.opaque)):
        found = [pointer for pointer in pointers if pointer == _PLACE or pointer.startswith(_PLACE + "/")]
        if found:
            raise NotCapturedError(f"its input is {what} at {found[0].removeprefix(_PLACE) or 'its root'}")
    if step.invocation_path is not None:
        payload = _from_file("input", step.invocation_path, folder)
    elif isinstance(step.invocation_json, dict):
        payload = step.invocation_json.get("payload")
    else:
        raise NotCapturedError("its input was not captured")
    if not isinstance(payload, dict):
        raise NotCapturedError("its input is not an object of parameters")
    if payload.get("$py") == "cut":
        raise NotCapturedError(f"its input was cut: {payload.get('reason')}")
    return payload


def captured_output(step: Step, folder: str | None) -> Any:
    """Return what a step's function gave back, as JSON-like objects; ``UNSET`` where that was not captured.

    Args:
        step: the step.
        folder: where the trace lies, and its payload files; None where that is not known.

    Raises:
        NotCapturedError: its payload file can't be trusted, or is not there.
    """
    if step.output_path is None or step.output_json is not UNSET:
        return step.output_json
    return _from_file("output", step.output_path, folder)


def _from_file(what: str, relative: str, folder: str | None) -> Any:
    if folder is None:
        raise NotCapturedError(f"its {what} is in the file {relative}, and where the trace lies is not known")
    return from_file(relative, folder)[0]


def from_file(relative: str, folder: str, limit: int = MAX_PAYLOAD_BYTES) -> tuple[Any, int]:
    """Return the value in a payload file, and the file's size in bytes.

    Args:
        relative: the file's path, as it stands in the trace.
        folder: where the trace lies.
        limit: read no more bytes than this.

    Raises:
        NotCapturedError: the file can't be trusted, or is not there.
    """
    try:
        data = read_payload(os.path.join(folder, "trace"), relative, limit=limit)
    except PayloadFileError as error:
        raise NotCapturedError(error.reason) from error
    if not holds_what_its_name_says(relative, data):
        raise NotCapturedError(f"the payload file {relative!r:.200} is not named after the hash of its content")
    try:
        return loads(data), len(data)
    except ValueError as error:
        raise NotCapturedError(f"the payload file {relative!r:.200} can't be read: {error}") from error
