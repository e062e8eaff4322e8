"""What an error leaves in the trace: its text, type, causes, notes and frames, and no reference to itself."""

from __future__ import annotations

import os
from itertools import islice
from types import TracebackType
from typing import Any, Final, NamedTuple

from flowtrace.forms import class_name

MAX_MESSAGE: Final = 8192
MAX_FRAMES: Final = 40
MAX_CAUSES: Final = 10
_OWN_FOLDER: Final = os.path.dirname(__file__) + os.sep


class Failure(NamedTuple):
    """Why a step failed, as it will be written.

    Attributes:
        code: one of the error codes of the trace file.
        message: the error's text.
        details: JSON-like details, or None.
    """

    code: str
    message: str
    details: dict[str, Any] | None


def describe(error: BaseException | str, code: str = "node_error") -> Failure:
    """Return what is written about an error. Never raises an Exception.

    Args:
        error: what was raised; or its text alone, where an engine has nothing else.
        code: the error code.

    Returns:
        The failure; without details where the error was never raised and carries neither cause nor notes.
    """
    if not isinstance(error, BaseException):
        return Failure(code, _cut(str(error)), None)
    return Failure(code, message_of(error), _details(error))


def code_of(error: BaseException) -> str:
    """Return the error code for what ended a node."""
    if isinstance(error, Exception):
        return "node_error"
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return "node_interrupted"
    # asyncio.CancelledError, trio.Cancelled: told by name, so that neither library need be loaded
    names = {base.__name__ for base in type(error).__mro__}
    return "node_cancelled" if names & {"CancelledError", "Cancelled"} else "node_interrupted"


def message_of(error: BaseException) -> str:
    """Return an error's text; where its ``__str__`` fails, say so instead."""
    try:
        return _cut(str(error))
    except Exception:
        return f"<{type(error).__qualname__} whose text could not be made>"


def type_of(error: BaseException) -> str:
    """Return an error's type as a traceback names it: with its module, unless that is builtins."""
    module, _, name = class_name(type(error)).partition(":")
    return name if module == "builtins" else f"{module}.{name}"


def _cut(text: str) -> str:
    if len(text) > MAX_MESSAGE:
        text = f"{text[:MAX_MESSAGE]}... ({len(text)} characters)"
    return text.encode("utf-8", "backslashreplace").decode()


def _details(error: BaseException) -> dict[str, Any] | None:
    causes = _causes(error)
    notes = _notes(error)
    if error.__traceback__ is None and not causes and not notes:
        return None
    details: dict[str, Any] = {"type": type_of(error)}
    if causes:
        details["causes"] = causes
    if notes:
        details["notes"] = notes
    if isinstance(error, BaseExceptionGroup):
        details["exceptions"] = [_brief(part) for part in error.exceptions[:MAX_CAUSES]]
    details["frames"] = frames(error.__traceback__)
    return details


def _brief(error: BaseException) -> dict[str, Any]:
    return {"type": type_of(error), "message": message_of(error)}


def _causes(error: BaseException) -> list[dict[str, Any]]:
    """Return the chain of causes and contexts, nearest first, as a traceback would show it."""
    chain: list[dict[str, Any]] = []
    seen = {id(error)}
    while len(chain) < MAX_CAUSES:
        relation = "cause"
        following = error.__cause__
        if following is None and not error.__suppress_context__:
            relation, following = "context", error.__context__
        if following is None or id(following) in seen:
            break
        seen.add(id(following))
        error = following
        chain.append({"relation": relation, **_brief(error)})
    return chain


def _notes(error: BaseException) -> list[str]:
    notes = getattr(error, "__notes__", None)
    if not isinstance(notes, list):
        return []
    return [_cut(note) for note in notes[:MAX_CAUSES] if isinstance(note, str)]


def frames(traceback: TracebackType | None) -> list[dict[str, Any]]:
    """Return a traceback's frames, outermost first, without our own and without any value."""
    found: list[dict[str, Any]] = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if not code.co_filename.startswith(_OWN_FOLDER):
            line = traceback.tb_lineno
            found.append({"file": code.co_filename, "line": line, "function": code.co_qualname})
        traceback = traceback.tb_next
    if len(found) <= MAX_FRAMES:
        return found
    half = MAX_FRAMES // 2
    left_out = {"left_out": len(found) - 2 * half}
    return [*islice(found, half), left_out, *found[-half:]]
