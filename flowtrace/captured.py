"""The captured input of a step: from the trace itself, or from the payload file beside it."""

from __future__ import annotations

import os
import re
import stat
from typing import Any, Final

from flowtrace.canonical import loads
from flowtrace.digest import hash_bytes
from flowtrace.model import Step

MAX_PAYLOAD_BYTES: Final = 1 << 28  # 256 MiB: a recorder keeps no more of one value than its whole buffer
_PLACE: Final = "/invocation_json/payload"
_NAME: Final = re.compile(r"([0-9a-f]{64})\.json", re.ASCII)
_OPEN: Final = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


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
        payload = _from_file(step.invocation_path, folder)
    elif isinstance(step.invocation_json, dict):
        payload = step.invocation_json.get("payload")
    else:
        raise NotCapturedError("its input was not captured")
    if not isinstance(payload, dict):
        raise NotCapturedError("its input is not an object of parameters")
    if payload.get("$py") == "cut":
        raise NotCapturedError(f"its input was cut: {payload.get('reason')}")
    return payload


def _from_file(relative: str, folder: str | None) -> Any:
    if folder is None:
        raise NotCapturedError(f"its input is in the file {relative}, and where the trace lies is not known")
    parts = relative.split("/")
    name = _NAME.fullmatch(parts[-1])
    if name is None or "\0" in relative or "\\" in relative or ":" in relative or not all(map(_is_plain, parts)):
        raise NotCapturedError(f"{relative!r:.200} is no path of a payload file")
    data = _read(os.path.join(os.path.realpath(folder), *parts), relative)
    if hash_bytes(data).value != name[1]:
        raise NotCapturedError(f"the payload file {relative} holds something else than its name says")
    try:
        return loads(data)
    except ValueError as error:
        raise NotCapturedError(f"the payload file {relative} can't be read: {error}") from error


def _is_plain(part: str) -> bool:
    return part not in ("", ".", "..")


def _read(path: str, shown: str) -> bytes:
    """Read a regular file that is reached without a symbolic link."""
    if os.path.realpath(path) != path:
        raise NotCapturedError(f"the payload file {shown} is reached through a symbolic link")
    try:
        descriptor = os.open(path, _OPEN)
    except OSError as error:
        raise NotCapturedError(f"the payload file {shown} can't be read: {error.strerror}") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_PAYLOAD_BYTES:
        os.close(descriptor)
        what = f"larger than {MAX_PAYLOAD_BYTES >> 20} MiB" if stat.S_ISREG(status.st_mode) else "no file"
        raise NotCapturedError(f"the payload file {shown} is {what}")
    with open(descriptor, "rb") as file:
        return file.read(MAX_PAYLOAD_BYTES + 1)
