"""The captured values of a step: from the trace itself, or from the payload files beside it."""

from __future__ import annotations

import os
from typing import Any, Final

from flowtrace.canonical import loads
from flowtrace.errors import PayloadFileError
from flowtrace.model import UNSET, Step
from flowtrace.payloads import MAX_PAYLOAD_BYTES, holds_what_its_name_says, read_payload

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
