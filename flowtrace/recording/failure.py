"""An error as it is written: its code, text, type, causes, notes and frames, and no reference to itself."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from types import TracebackType
from typing import Any, Final, NamedTuple

from flowtrace.host.objects import class_name, inherits, instance_dict, mro
from flowtrace.host.signals import OWN_FOLDER, let_through, traceback_of

MAX_MESSAGE: Final = 8192
MAX_FRAMES: Final = 40
MAX_CAUSES: Final = 10
# The class of an exception may compute these attributes with code of its own: read the interpreter's own ones.
_ATTRIBUTES: Final = BaseException.__dict__
_cause_of: Final = _ATTRIBUTES["__cause__"].__get__
_context_of: Final = _ATTRIBUTES["__context__"].__get__
_suppresses_context: Final = _ATTRIBUTES["__suppress_context__"].__get__
_parts_of: Final = BaseExceptionGroup.__dict__["exceptions"].__get__
_exit_code_of: Final = SystemExit.__dict__["code"].__get__


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
    """Return an error as it is written. Never raises an Exception.

    Args:
        error: what was raised; or its text alone, where an engine has nothing else.
        code: the error code.

    Returns:
        The failure; without details where the error was never raised and carries neither cause nor notes.
    """
    if not inherits(type(error), BaseException):
        return Failure(code, _shortened(str(error)), None)
    raised: Any = error
    try:
        details = _details(raised)
    except BaseException as fault:
        let_through(fault)
        details = {"type": type_of(raised)}
    return Failure(code, message_of(raised), details)


def is_a(error: BaseException, classes: type[BaseException] | tuple[type[BaseException], ...]) -> bool:
    """Return True if an error is of a class, by its real type: no code of its class is run."""
    found = classes if isinstance(classes, tuple) else (classes,)
    return any(inherits(type(error), base) for base in found)


def is_clean_exit(error: BaseException) -> bool:
    """Return True if an error is ``sys.exit()`` or ``sys.exit(0)``."""
    return is_a(error, SystemExit) and (_exit_code_of(error) is None or _is_zero(_exit_code_of(error)))


def _is_zero(code: object) -> bool:
    return type(code) is int and code == 0


def code_of(error: BaseException) -> str:
    """Return the error code of an exception that ended a node."""
    if is_a(error, Exception):
        return "node_error"
    if is_a(error, (KeyboardInterrupt, SystemExit)):
        return "node_interrupted"
    # asyncio.CancelledError, trio.Cancelled: by name, so that neither library need be loaded
    names = {class_name(base).partition(":")[2] for base in mro(type(error))}
    return "node_cancelled" if names & {"CancelledError", "Cancelled"} else "node_interrupted"


def outcome_of(error: BaseException) -> str:
    """Return the outcome of a run that an exception ends; "stopped" is no failure, but no success either."""
    code = code_of(error)
    if code == "node_error":
        return "failed"
    if is_clean_exit(error):
        return "ok"
    return "stopped" if code == "node_cancelled" else "interrupted"


def mark_of(error: BaseException) -> tuple[Any, ...]:
    """Return a mark by which an exception is recognised later, without keeping it alive."""
    traceback = traceback_of(error)
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    origin = (id(traceback.tb_frame.f_code), traceback.tb_lineno) if traceback is not None else ()
    return (id(error), type(error).__qualname__, origin)


def message_of(error: BaseException) -> str:
    """Return an error's text; where its ``__str__`` fails, say so instead."""
    try:
        return _shortened(str.__str__(str(error)))
    except BaseException as raised:  # an error that its __str__ raises would replace the error itself
        let_through(raised)
        return f"<{type_of(error)} whose text could not be made>"


def type_of(error: BaseException) -> str:
    """Return an error's type as a traceback names it: with its module, unless that is builtins."""
    module, _, name = class_name(type(error)).partition(":")
    return name if module == "builtins" else f"{module}.{name}"


def _shortened(text: str) -> str:
    if len(text) > MAX_MESSAGE:
        text = f"{text[:MAX_MESSAGE]}... ({len(text)} characters)"
    return text.encode("utf-8", "backslashreplace").decode()


def _details(error: BaseException) -> dict[str, Any] | None:
    causes = _causes(error)
    notes = _notes(error)
    traceback = traceback_of(error)
    if traceback is None and not causes and not notes:
        return None
    details: dict[str, Any] = {"type": type_of(error)}
    if causes:
        details["causes"] = causes
    if notes:
        details["notes"] = notes
    if is_a(error, BaseExceptionGroup):
        details["exceptions"] = [_type_and_message(part) for part in _parts_of(error)[:MAX_CAUSES]]
    details["frames"] = frames(traceback)
    return details


def _type_and_message(error: BaseException) -> dict[str, Any]:
    return {"type": type_of(error), "message": message_of(error)}


def _causes(error: BaseException) -> list[dict[str, Any]]:
    """Return the chain of causes and contexts, nearest first, as a traceback would show it."""
    chain: list[dict[str, Any]] = []
    seen = {id(error)}
    while len(chain) < MAX_CAUSES:
        relation, following = "cause", _cause_of(error)
        if following is None and not _suppresses_context(error):
            relation, following = "context", _context_of(error)
        if following is None or id(following) in seen:
            break
        seen.add(id(following))
        error = following
        chain.append({"relation": relation, **_type_and_message(error)})
    return chain


def _notes(error: BaseException) -> list[str]:
    notes = instance_dict(error).get("__notes__")
    if type(notes) is not list:
        return []
    return [_shortened(str.__str__(note)) for note in notes[:MAX_CAUSES] if inherits(type(note), str)]


def frames(traceback: TracebackType | None) -> list[dict[str, Any]]:
    """Return a traceback's frames, outermost first, without our own and without any value."""
    found: list[dict[str, Any]] = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if not code.co_filename.startswith(OWN_FOLDER):
            line = traceback.tb_lineno
            found.append({"file": code.co_filename, "line": line, "function": code.co_qualname})
        traceback = traceback.tb_next
    if len(found) <= MAX_FRAMES:
        return found
    half = MAX_FRAMES // 2
    left_out = {"left_out": len(found) - 2 * half}
    return [*islice(found, half), left_out, *found[-half:]]


# --- where an error comes from


def parts_of(error: BaseException) -> tuple[BaseException, ...]:
    """Return the members of an exception group; none for any other error."""
    found: tuple[BaseException, ...] = _parts_of(error) if is_a(error, BaseExceptionGroup) else ()
    return found


def cause_of(error: BaseException) -> BaseException | None:
    """Return the error that another one was raised from."""
    cause: BaseException | None = _cause_of(error)
    return cause


def context_of(error: BaseException) -> BaseException | None:
    """Return the error that was being handled when another one was raised, where a traceback would show it."""
    hidden = _cause_of(error) is not None or _suppresses_context(error)
    context: BaseException | None = None if hidden else _context_of(error)
    return context


def origins_of(traceback: TracebackType | None) -> Iterator[tuple[int, int | None]]:
    """Yield the code and the line of each entry of a traceback, outermost first."""
    while traceback is not None:
        yield id(traceback.tb_frame.f_code), traceback.tb_lineno
        traceback = traceback.tb_next
