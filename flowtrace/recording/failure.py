"""An error as it is written: its code, text, type, causes, notes, task and frames; one of a validator as issues, too.

Nothing here keeps an error alive, and nothing is written on one: the program could see either.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from types import TracebackType
from typing import Any, Final, NamedTuple

from flowtrace.errors import pointer_token
from flowtrace.host.objects import class_name, inherits, mro
from flowtrace.host.signals import OWN_FOLDER, let_through, traceback_of
from flowtrace.host.system import re
from flowtrace.trace.model import ValidationError, ValidationIssue

MAX_MESSAGE: Final = 8192
MAX_FRAMES: Final = 40
MAX_CAUSES: Final = 10
_MOST_OF_A_NAME: Final = 200  # characters
MAX_INNER_FRAMES: Final = 10
"""Of a cause, a context or a member of a group: enough for the line of the program's that it began in."""
# The class of an exception may compute these attributes with code of its own: read the interpreter's own ones.
_ATTRIBUTES: Final = BaseException.__dict__
_cause_of: Final = _ATTRIBUTES["__cause__"].__get__
_context_of: Final = _ATTRIBUTES["__context__"].__get__
_suppresses_context: Final = _ATTRIBUTES["__suppress_context__"].__get__
_parts_of: Final = BaseExceptionGroup.__dict__["exceptions"].__get__
_attributes_of: Final = _ATTRIBUTES["__dict__"].__get__
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


class Inner(NamedTuple):
    """The part of a traceback that was looked at already, in a step inside.

    Attributes:
        head: its outermost entry, as `head_of` says.
        frames: what `frames` has made of it.
    """

    head: tuple[int, ...]
    frames: list[dict[str, Any]]


def describe(error: BaseException | str, code: str = "node_error", inner: Inner | None = None) -> Failure:
    """Return an error as it is written. Never raises an Exception.

    Args:
        error: what was raised; or its text alone, where an engine has nothing else.
        code: the error code.
        inner: the part of its traceback that is known already.

    Returns:
        The failure; without details where the error was never raised and carries neither cause nor notes.
    """
    if not inherits(type(error), BaseException):
        return Failure(code, shortened(str(error)), None)
    raised: Any = error
    try:
        details = _details(raised, inner)
    except BaseException as fault:
        let_through(fault)
        details = {"type": type_of(raised)}
    return Failure(code, message_of(raised), details)


def is_a(error: BaseException, classes: type[BaseException] | tuple[type[BaseException], ...]) -> bool:
    """Return True if an error is of a class, by its real type: no code of its class is run."""
    if isinstance(classes, tuple):
        return any([inherits(type(error), base) for base in classes])  # noqa: C419  # a generator takes longer
    return inherits(type(error), classes)


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


def outcome_of(error: BaseException, code: str = "") -> str:
    """Return the outcome of a run that an exception ends; "stopped" is no failure, but no success either.

    Args:
        error: the exception.
        code: its error code, where that was found out already.
    """
    code = code or code_of(error)
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
        return shortened(str.__str__(str(error)))
    except BaseException as raised:  # an error that its __str__ raises would replace the error itself
        let_through(raised)
        return f"<{type_of(error)} whose text could not be made>"


def type_of(error: BaseException) -> str:
    """Return an error's type as a traceback names it: with its module, unless that is builtins."""
    module, _, name = class_name(type(error)).partition(":")
    return name if module == "builtins" else f"{module}.{name}"


def shortened(text: str, longest: int = MAX_MESSAGE) -> str:
    """Return a text as a trace has it, cut where it is longer than so many characters."""
    if len(text) > longest:
        text = f"{text[:longest]}... ({len(text)} characters)"
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _details(error: BaseException, inner: Inner | None) -> dict[str, Any] | None:
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
        details["exceptions"] = [_inner(part) for part in _parts_of(error)[:MAX_CAUSES]]
    task = _task_name()
    if task:
        details["task"] = task
    details["frames"] = frames(traceback, inner=inner)
    return details


def _inner(error: BaseException) -> dict[str, Any]:
    """Return an error that another one came from: type, text, and where it was raised."""
    found: dict[str, Any] = {"type": type_of(error), "message": message_of(error)}
    inner = frames(traceback_of(error), MAX_INNER_FRAMES)
    return found | {"frames": inner} if inner else found


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
        chain.append({"relation": relation, **_inner(error)})
    return chain


def _notes(error: BaseException) -> list[str]:
    notes = _attributes_of(error).get("__notes__")
    if type(notes) is not list:
        return []
    return [shortened(str.__str__(note)) for note in notes[:MAX_CAUSES] if inherits(type(note), str)]


def _task_name() -> str:
    """Return the name of the asyncio or trio task that runs; "" where there is none, or it can't be found out."""
    try:
        tasks, trio = sys.modules.get("asyncio.tasks"), sys.modules.get("trio.lowlevel")
        if tasks is not None and tasks.events._get_running_loop() is not None:
            task = tasks.current_task()
            name = tasks.Task.get_name(task) if inherits(type(task), tasks.Task) else ""
        elif trio is not None and trio.in_trio_task():
            name = trio.current_task().name
        else:
            return ""
        return shortened(name[:_MOST_OF_A_NAME]) if type(name) is str else ""
    except BaseException as fault:
        let_through(fault)
        return ""


def frames(traceback: TracebackType | None, most: int = MAX_FRAMES, inner: Inner | None = None) -> list[dict[str, Any]]:
    """Return a traceback's frames, outermost first, without our own and without any value; of many, both ends."""
    found: list[dict[str, Any]] = []
    while traceback is not None:
        if inner is not None and id(traceback) == inner.head[0] and head_of(traceback) == inner.head:
            found += inner.frames
            break
        code = traceback.tb_frame.f_code
        if not code.co_filename.startswith(OWN_FOLDER):
            line = traceback.tb_lineno
            found.append({"file": code.co_filename, "line": line, "function": code.co_qualname})
        traceback = traceback.tb_next
    if len(found) <= most:
        return found
    half = most // 2
    left_out = sum([frame.get("left_out", 1) for frame in found]) - 2 * half
    return [*islice(found, half), {"left_out": left_out}, *found[-half:]]


# --- where an error comes from


def links_of(error: BaseException) -> tuple[tuple[BaseException, ...], BaseException | None]:
    """Return what an error comes from.

    Returns:
        The errors that are older than it: the members of a group, and what it was raised from. And the one that was
        being handled when it was raised, where a traceback would show that; else None.
    """
    older: tuple[BaseException, ...] = _parts_of(error) if is_a(error, BaseExceptionGroup) else ()
    cause = _cause_of(error)
    if cause is not None:
        return (*older, cause), None
    return older, None if _suppresses_context(error) else _context_of(error)


def origins_of(traceback: TracebackType | None) -> Iterator[tuple[int, int | None]]:
    """Yield the code and the line of each entry of a traceback, outermost first."""
    while traceback is not None:
        yield id(traceback.tb_frame.f_code), traceback.tb_lineno
        traceback = traceback.tb_next


def head_of(traceback: TracebackType | None) -> tuple[int, ...]:
    """Return a mark of the outermost entry of a traceback, by which it is known again further in; zeros for none."""
    return (0, 0, 0) if traceback is None else (id(traceback), id(traceback.tb_frame.f_code), traceback.tb_lineno or 0)


# --- what a validator's error says of a value


MISSING_FIELD: Final = "missing_required_field"
INVALID_TYPE: Final = "invalid_type"
SCHEMA: Final = "schema_validation"
MOST_ISSUES: Final = 20
"""Of one value: the first ones say enough, and a long list with one mistake in each item has thousands."""
_LONGEST_MESSAGE: Final = 500
_PYDANTIC: Final = "pydantic_core._pydantic_core"
# as in: Expected `int`, got `str` - at `$.items[0].count`
_LOCATION: Final = re.compile(r" - at (?:`key` in )?`\$(.*)`$", re.DOTALL)
_AT_KEY: Final = " - at `key` in "
_TOKEN_OF_LOCATION: Final = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")
_MISSING: Final = re.compile(r"^Object missing required field `(.*)`$", re.DOTALL)
LOST_KEY: Final = "..."
"""Stands for the key of a mapping, in the locations that msgspec names."""


def is_validation_error(error: BaseException) -> bool:
    """Return True if msgspec or pydantic raised an error because a value is not valid; no code of its class is run."""
    return is_a(error, ValidationError) or _is_of(error, _PYDANTIC)


def _is_of(error: BaseException, module: str) -> bool:
    """Return True for the ``ValidationError`` of a module, if that is loaded."""
    cls = getattr(sys.modules.get(module), "ValidationError", None)
    return isinstance(cls, type) and inherits(type(error), cls)


def issues_of(error: BaseException, pointer: str = "") -> list[ValidationIssue]:
    """Return what an error says of a value. Never raises an Exception.

    Args:
        error: what a validator raised; an error of another kind is one issue with its text.
        pointer: JSON Pointer of the value that was validated.
    """
    try:
        if is_a(error, ValidationError):
            code, tokens, message = of_msgspec(error)
            return [issue(code, pointer_to(pointer, before_lost_key(tokens)), message)]
        if _is_of(error, _PYDANTIC):
            return list(islice(_of_pydantic(error, pointer), MOST_ISSUES))
        if _is_of(error, "jsonschema.exceptions"):
            return of_jsonschema([error], pointer)
    except BaseException as fault:  # a text that the program's own code makes
        let_through(fault)
    return [issue(SCHEMA, pointer, message_of(error) or type_of(error))]


def issue(code: str, pointer: str, message: str) -> ValidationIssue:
    """Return an issue with a message of bounded length, cut so that the beginning of a secret at its end is found."""
    text = message
    if len(message) > _LONGEST_MESSAGE:
        text = f"{message[:_LONGEST_MESSAGE]}... ({len(message)} characters)"
    return ValidationIssue(code, pointer, text)


def pointer_to(pointer: str, tokens: Iterable[object]) -> str:
    """Return the JSON Pointer of a part of a value; names may be any text."""
    texts = (pointer_token(token).encode("utf-8", "backslashreplace").decode() for token in tokens)
    return pointer + "".join(f"/{text}" for text in texts)


# --- msgspec


def of_msgspec(error: BaseException) -> tuple[str, list[str], str]:
    """Return the code of an error of msgspec, the tokens of the location in it, and its message without that."""
    text = message_of(error)
    location = _LOCATION.search(text)
    tokens = [name or index for name, index in _TOKEN_OF_LOCATION.findall(location[1])] if location else []
    message = text[: location.start()] if location else text
    if missing := _MISSING.match(message):
        return MISSING_FIELD, [*tokens, missing[1]], message
    return INVALID_TYPE if message.startswith("Expected `") and "`, got `" in message else SCHEMA, tokens, message


def is_of_key(error: BaseException) -> bool:
    """Return True if an error of msgspec is about a key of the mapping that it locates."""
    location = _LOCATION.search(message_of(error))
    return location is not None and location[0].startswith(_AT_KEY)


def before_lost_key(tokens: list[str]) -> list[str]:
    """Return the tokens of a location up to the first key that is lost."""
    return tokens[: tokens.index(LOST_KEY)] if LOST_KEY in tokens else tokens


# --- pydantic


def _of_pydantic(error: Any, pointer: str) -> Iterator[ValidationIssue]:
    for found in error.errors(include_url=False, include_context=False, include_input=False):
        kind = str(found["type"])
        code = SCHEMA
        if kind in ("missing", "missing_argument", "missing_keyword_only_argument", "missing_positional_only_argument"):
            code = MISSING_FIELD
        elif kind.endswith(("_type", "_parsing", "_attributes_type")) or kind == "is_instance_of":
            code = INVALID_TYPE
        yield issue(code, pointer_to(pointer, found["loc"]), str(found["msg"]))


# --- jsonschema


def of_jsonschema(errors: Iterable[Any], pointer: str) -> list[ValidationIssue]:
    """Return errors of jsonschema as issues, in words of our own: its texts quote the values."""
    found: list[ValidationIssue] = []
    for error in errors:  # one for each missing property, and each lists them all
        found += [one for one in _of_one(error, pointer) if one not in found]
        if len(found) >= MOST_ISSUES:
            break
    return found[:MOST_ISSUES]


def _of_one(error: Any, pointer: str) -> Iterator[ValidationIssue]:
    here = pointer_to(pointer, error.absolute_path)
    keyword, wanted = str(error.validator), error.validator_value
    if keyword == "required" and isinstance(wanted, list) and isinstance(error.instance, dict):
        for name in wanted:
            if name not in error.instance:
                yield issue(MISSING_FIELD, pointer_to(here, [name]), "a required property is missing")
    elif keyword == "type":
        kinds = " or ".join(wanted) if isinstance(wanted, list) else str(wanted)
        yield issue(INVALID_TYPE, here, f"expected {kinds}, got {_json_type(error.instance)}")
    elif error.schema is False:
        yield issue(SCHEMA, here, "is not allowed here")
    else:
        yield issue(SCHEMA, here, f"does not fit {keyword!r} of the schema: {wanted!r}")


def _json_type(value: object) -> str:
    names: dict[type, str] = {dict: "object", list: "array", str: "string"}
    names |= {bool: "boolean", int: "integer", float: "number"}
    return "null" if value is None else names.get(type(value), type(value).__name__)
