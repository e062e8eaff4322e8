"""The checks that ``validate=`` and ``validate_output=`` ask for, made into functions that find issues.

They are made when a node's values are checked for the first time: then the names in its annotations can be resolved.
Values are looked at, never changed: where a library converts them, the copy is dropped.
"""

from __future__ import annotations

import datetime
import decimal
import sys
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from inspect import Parameter, Signature, signature
from typing import Any, Final, Unpack, get_args, get_origin

import flowtrace.host.objects as objects
from flowtrace.errors import FlowtraceError, MissingExtraError
from flowtrace.host import log
from flowtrace.host.objects import MISSING, class_attribute, inherits
from flowtrace.host.safe_loading import load_once
from flowtrace.host.signals import is_from_handler
from flowtrace.recording.failure import (
    LOST_KEY,
    MOST_ISSUES,
    SCHEMA,
    is_a,
    is_validation_error,
    issue,
    issues_of,
    of_jsonschema,
    of_msgspec,
    pointer_to,
)
from flowtrace.trace.model import ValidationError, ValidationIssue, convert, to_builtins
from flowtrace.values.annotations import hints_of, members, shape

Check = Callable[[Any, str], list[ValidationIssue]]
"""Takes a value and the JSON Pointer to it."""
_AS_THEY_ARE: Final = (
    *(bytes, bytearray, datetime.datetime, datetime.date, datetime.time, datetime.timedelta, uuid.UUID),
    decimal.Decimal,
)
"""A text is none of these, although msgspec would make one of it."""
_ITEM_OF: Final = ("Generator", "Iterator", "Iterable", "AsyncGenerator", "AsyncIterator", "AsyncIterable")


class Validators:
    """The checks of a node, each made when it is first needed.

    Args:
        function: the node's function.
        validate: True, a JSON Schema, a callable, or None.
        validate_output: the same for what it returns or yields.
        yields: it is a generator, whose values are checked one by one.
    """

    def __init__(self, function: Any, validate: Any, validate_output: Any, *, yields: bool) -> None:
        self._function = function
        self._asked = {"input": validate, "output": validate_output}
        self._yields = yields
        self._made: dict[str, Check | None] = {}
        self.has_input = validate is not None

    def input(self, payload: dict[str, Any]) -> list[ValidationIssue]:
        """Return what is wrong with the parameters of a call."""
        check = self._check("input")
        return [] if check is None else check(payload, "")

    @property
    def output(self) -> Check | None:
        """The check of a result, or of a yielded value."""
        return None if self._asked["output"] is None else self._check("output")

    def _check(self, side: str) -> Check | None:
        if side not in self._made:
            self._made[side] = _without_faults(self._function, self._make, side)
        return self._made[side]

    def _make(self, side: str) -> Check | None:
        asked = self._asked[side]
        if asked is None:
            return None
        if isinstance(asked, Mapping):
            return _by_schema(asked)
        if asked is not True:
            return partial(_by_callable, asked)
        hints = hints_of(self._function)
        if side == "input":
            return _by_parameters(signature(self._function), hints)
        result = hints.get("return", Any)
        return _by_hint(_item_of(result) if self._yields else result)


def _without_faults(function: Any, make: Callable[[str], Check | None], side: str) -> Check | None:
    """Make a check; say it once where that is impossible, and check nothing then."""
    try:
        return make(side)
    except Exception as error:
        if is_from_handler(error):
            raise
        name = getattr(function, "__qualname__", "?")
        reason = str(error) if isinstance(error, FlowtraceError | TypeError) else type(error).__qualname__
        log.warn_once("a node is not validated", ("validate", name, side), node=name, side=side, reason=reason)
        return None


# --- annotations


def _by_parameters(of: Signature, hints: dict[str, Any]) -> Check | None:
    """Return the check of a payload by the annotations of its parameters; None where none of them can be checked."""
    checks: dict[str, tuple[Check, str, Any]] = {}
    for name, hint in hints.items():
        parameter = of.parameters.get(name)
        check = None if parameter is None else _by_hint(_of_all(parameter, hint))
        if parameter is not None and check is not None:
            checks[name] = check, pointer_to("", [name]), parameter.default
    return partial(_by_name, checks) if checks else None


def _of_all(parameter: Parameter, hint: Any) -> Any:
    """Return the annotation of what a payload has under a parameter's name: of all arguments that it takes."""
    if parameter.kind is Parameter.VAR_POSITIONAL:
        return tuple[hint, ...]
    if parameter.kind is Parameter.VAR_KEYWORD:
        return get_args(hint)[0] if get_origin(hint) is Unpack else dict[str, hint]
    return hint


def _by_name(
    checks: dict[str, tuple[Check, str, Any]], payload: dict[str, Any], _pointer: str
) -> list[ValidationIssue]:
    found: list[ValidationIssue] = []
    for name, (check, own, default) in checks.items():
        # a default is the function's own, as in ``size: int = None``
        if name in payload and payload[name] is not default:
            found += check(payload[name], own)
    return found[:MOST_ISSUES]


def _by_hint(hint: Any) -> Check | None:
    """Return the check of an annotation; None where it says nothing that can be checked."""
    if hint is Any:
        return None
    if _names_model(hint):
        return partial(_by_pydantic, sys.modules["pydantic"].TypeAdapter(hint).validate_python)
    if _is_checkable(hint):
        return partial(_by_msgspec, hint)
    union = members(hint)
    checks = [check for member in union if (check := _by_hint(member)) is not None] if len(union) > 1 else []
    return partial(_by_any, checks) if checks and len(checks) == len(union) else None


def _names_model(hint: Any) -> bool:
    if isinstance(hint, type) and class_attribute(hint, "__pydantic_validator__") is not MISSING:
        return "pydantic" in sys.modules
    return any(map(_names_model, get_args(hint)))


def _is_checkable(hint: Any) -> bool:
    """Return True if msgspec can check an annotation."""
    try:
        convert(None, hint, builtin_types=_AS_THEY_ARE)
    except ValidationError:
        return True
    except Exception:
        return False
    return True


def _by_msgspec(hint: Any, value: Any, pointer: str) -> list[ValidationIssue]:
    try:
        objects.call_seen(_converted, value, hint)
    except ValidationError as error:
        # bool is an int, and NumPy's float64 a float: to Python, which the caller writes, they fit
        if isinstance(hint, type) and inherits(type(value), hint):
            return []
        code, tokens, message = of_msgspec(error)
        return [issue(code, pointer_to(pointer, _exact(value, hint, tokens)), message)]
    return []


def _converted(value: Any, hint: Any) -> Any:
    return convert(value, hint, builtin_types=_AS_THEY_ARE)


def _exact(value: Any, hint: Any, tokens: list[str]) -> list[object]:
    """Return the tokens of a location, with the keys of mappings that msgspec does not name, as far as found."""
    found: list[object] = []
    for token in tokens:
        if token != LOST_KEY:
            found.append(token)
            value, hint = _inside(value, hint, token)
            continue
        _, arguments = shape(hint)
        if type(value) is not dict or len(arguments) != 2:
            break
        key = next((key for key, item in value.items() if _refuses(arguments[1], item)), None)
        if key is None:  # another thread has changed it
            break
        found.append(key)
        value, hint = value[key], arguments[1]
    return found


def _inside(value: Any, hint: Any, token: str) -> tuple[Any, Any]:
    origin, arguments = shape(hint)
    if type(value) in (list, tuple) and token.isdigit():
        fixed = origin is tuple and arguments[-1:] != (...,)
        at = int(token)
        return value[at], (arguments[at if fixed else 0] if arguments else Any)
    if type(value) is dict and isinstance(origin, type):
        return value.get(token), hints_of(origin).get(token, Any)
    return None, Any


def _refuses(hint: Any, value: Any) -> bool:
    try:
        _converted(value, hint)
    except ValidationError:
        return True
    return False


def _by_any(checks: list[Check], value: Any, pointer: str) -> list[ValidationIssue]:
    """Check a union, a member at a time."""
    found = [check(value, pointer) for check in checks]
    return [] if any(not issues for issues in found) else found[0]


def _by_pydantic(validate: Callable[[Any], Any], value: Any, pointer: str) -> list[ValidationIssue]:
    try:
        objects.call_seen(validate, value)
    except Exception as error:
        if not is_validation_error(error):
            raise
        return issues_of(error, pointer)
    return []


def _item_of(hint: Any) -> Any:
    """Return what a generator yields, by the annotation of its result."""
    origin, arguments = shape(hint)
    return arguments[0] if arguments and getattr(origin, "__name__", "") in _ITEM_OF else Any


# --- a callable of the program's


def _by_callable(validator: Callable[[Any], Any], value: Any, pointer: str) -> list[ValidationIssue]:
    try:
        answer = objects.call_seen(validator, value)
    except Exception as error:
        if is_from_handler(error) or is_a(error, (RecursionError, MemoryError)):
            raise
        return issues_of(error, pointer)
    if answer is False:
        return [issue(SCHEMA, pointer, "the validator returned False")]
    if isinstance(answer, str | ValidationIssue):
        answer = [answer]
    if type(answer) not in (list, tuple):
        return []
    return [found for item in answer[:MOST_ISSUES] if (found := _as_issue(item, pointer)) is not None]


def _as_issue(item: Any, pointer: str) -> ValidationIssue | None:
    if isinstance(item, str):
        return issue(SCHEMA, pointer, item) if item else None
    return issue(item.code, pointer + item.path, item.message) if isinstance(item, ValidationIssue) else None


# --- a JSON Schema


def _by_schema(schema: Mapping[str, Any]) -> Check:
    """Return the check of a JSON Schema; what it refers to has to be in it, since nothing is fetched.

    Raises:
        MissingExtraError: the package ``jsonschema`` is not installed.
        TypeError: it is no schema.
    """
    try:
        load_once(_load_jsonschema)
    except ImportError as error:
        raise MissingExtraError("a JSON Schema", "validation", "jsonschema") from error
    jsonschema: Any = sys.modules["jsonschema"]
    cls = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
    try:
        cls.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise TypeError(f"no valid JSON Schema, at {error.json_path}: {error.message:.200}") from None
    arrays = cls.TYPE_CHECKER.redefine("array", lambda _checker, value: isinstance(value, list | tuple))
    registry = sys.modules["referencing"].Registry()  # jsonschema's own would fetch what a schema refers to
    validator = jsonschema.validators.extend(cls, type_checker=arrays)(schema, registry=registry)
    return partial(_by_validator, validator)


def _load_jsonschema() -> None:
    import jsonschema  # noqa: F401


def _by_validator(validator: Any, value: Any, pointer: str) -> list[ValidationIssue]:
    return of_jsonschema(validator.iter_errors(_as_json(value)), pointer)


def _as_json(value: Any) -> Any:
    """Return a value as JSON has it: fields of records as objects, dates as texts."""
    return to_builtins(value, str_keys=True, enc_hook=_record)


def _record(value: Any) -> Any:
    """Return an object that msgspec does not know: a pydantic model as its fields, any other without any."""
    if class_attribute(type(value), "__pydantic_validator__") is not MISSING and hasattr(value, "model_dump"):
        return objects.call_seen(value.model_dump)
    return {}
