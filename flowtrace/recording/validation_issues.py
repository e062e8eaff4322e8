"""The errors of validators, as validation issues: of msgspec, pydantic, jsonschema, and of any other kind."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

from flowtrace.errors import pointer_token
from flowtrace.host.objects import class_name, inherits
from flowtrace.host.signals import let_through
from flowtrace.host.system import re
from flowtrace.recording.failure import is_a, message_of, type_of
from flowtrace.trace.model import ValidationError, ValidationIssue

MISSING_FIELD: Final = "missing_required_field"
INVALID_TYPE: Final = "invalid_type"
SCHEMA: Final = "schema_validation"
MOST_ISSUES: Final = 20
"""Of one value: the first ones say enough, and a long list with one mistake in each item has thousands."""
_LONGEST_MESSAGE: Final = 500
_PYDANTIC: Final = "pydantic_core._pydantic_core:ValidationError"
# as in: Expected `int`, got `str` - at `$.items[0].count`
_LOCATION: Final = re.compile(r" - at (?:`key` in )?`\$(.*)`$", re.DOTALL)
_TOKEN_OF_LOCATION: Final = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")
_MISSING: Final = re.compile(r"^Object missing required field `(.*)`$", re.DOTALL)
LOST_KEY: Final = "..."
"""Stands for the key of a mapping, in the locations that msgspec names."""


def is_validation_error(error: BaseException) -> bool:
    """Return True if msgspec or pydantic raised an error because a value is not valid; no code of its class is run."""
    return is_a(error, ValidationError) or class_name(type(error)) == _PYDANTIC


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
        if class_name(type(error)) == _PYDANTIC:
            return list(islice(_of_pydantic(error, pointer), MOST_ISSUES))
        if _is_of_jsonschema(error):
            return of_jsonschema([error], pointer)
    except BaseException as fault:  # a text that the program's own code makes
        let_through(fault)
    return [issue(SCHEMA, pointer, message_of(error) or type_of(error))]


def issue(code: str, pointer: str, message: str) -> ValidationIssue:
    """Return an issue with a message of bounded length."""
    text = message if len(message) <= _LONGEST_MESSAGE else f"{message[:_LONGEST_MESSAGE]}..."
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


def _is_of_jsonschema(error: BaseException) -> bool:
    exceptions = sys.modules.get("jsonschema.exceptions")
    cls = getattr(exceptions, "ValidationError", None)
    return isinstance(cls, type) and inherits(type(error), cls)


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
        yield issue(SCHEMA, here, f"does not fit {keyword!r} of the schema: {wanted!r}"[: _LONGEST_MESSAGE + 1])


def _json_type(value: object) -> str:
    names = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", float: "number"}
    return "null" if value is None else names.get(type(value), type(value).__name__)
