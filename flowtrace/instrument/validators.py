"""The checks that ``validate=`` and ``validate_output=`` ask for, made into functions that find issues.

They are made when a node's values are checked for the first time: then the names in its annotations can be resolved.
Values are looked at, never changed: where a library converts them, the copy is dropped.
"""

from __future__ import annotations

import datetime
import decimal
import sys
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from inspect import Parameter, Signature, signature
from itertools import islice
from typing import Any, Final, Unpack, get_args, get_origin

import flowtrace.host.objects as objects
from flowtrace.errors import FlowtraceError, MissingExtraError
from flowtrace.host import log
from flowtrace.host.objects import MISSING, class_attribute, inherits
from flowtrace.host.safe_loading import load_once
from flowtrace.host.signals import is_from_handler
from flowtrace.recording.failure import (
    INVALID_TYPE,
    LOST_KEY,
    MOST_ISSUES,
    SCHEMA,
    is_a,
    is_of_key,
    is_validation_error,
    issue,
    issues_of,
    of_jsonschema,
    of_msgspec,
    pointer_to,
)
from flowtrace.trace.model import ValidationError, ValidationIssue, convert, to_builtins
from flowtrace.values.annotations import hints_of, members, shape, takes_items_of

Check = Callable[[Any, str], list[ValidationIssue]]
"""Takes a value and the JSON Pointer to it."""
_AS_THEY_ARE: Final = (
    *(bytes, bytearray, datetime.datetime, datetime.date, datetime.time, datetime.timedelta, uuid.UUID),
    decimal.Decimal,
)
"""A text is none of these, although msgspec would make one of it."""
_NUMBERS_TAKEN_AS: Final[dict[type, tuple[type, ...]]] = {float: (int,), complex: (float, int)}
"""As type checkers have it."""
_BUILTIN_COLLECTIONS: Final[tuple[type, ...]] = (
    range,
    str,
    bytes,
    bytearray,
    memoryview,
    deque,
    type({}.keys()),
    type({}.items()),
)
"""Those that only say that they are collections, by being registered."""
_CONTAINERS: Final[tuple[Any, ...]] = (dict, list, tuple, set, frozenset, deque)
_ATOMS: Final = frozenset(map(id, (type(None), bool, int, float, str, bytes)))
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
        code, tokens, message = of_msgspec(error)
        exact, part, expected = _exact(value, hint, tokens)
        fits = _keys_fit if is_of_key(error) else _is_instance
        if code != INVALID_TYPE or not fits(part, expected):
            return [issue(code, pointer_to(pointer, exact), message)]
    return []


def _converted(value: Any, hint: Any) -> Any:
    return convert(value, hint, builtin_types=_AS_THEY_ARE)


def _is_instance(value: Any, hint: Any) -> bool:
    """Return True if a value fits an annotation by its class alone.

    msgspec asks for just that class. To Python, which the caller writes, a bool is an int, NumPy's float64 a float, and
    a range a sequence.
    """
    return any(_is_of_class(type(value), shape(member).origin) for member in members(hint))


def _keys_fit(mapping: Any, hint: Any) -> bool:
    arguments = shape(_member_for(mapping, hint)).arguments
    return type(mapping) is dict and len(arguments) == 2 and all(_is_instance(key, arguments[0]) for key in [*mapping])


def _is_of_class(kind: type, origin: Any) -> bool:
    if not isinstance(origin, type):
        return False
    if any(inherits(kind, base) for base in (origin, *_NUMBERS_TAKEN_AS.get(origin, ()))):
        return True
    return any(kind is builtin for builtin in _BUILTIN_COLLECTIONS) and issubclass(kind, origin)


def _exact(value: Any, hint: Any, tokens: list[str]) -> tuple[list[object], Any, Any]:
    """Return the tokens of a location, with the keys of mappings that msgspec does not name, as far as found.

    Returns:
        The tokens; what is there, and its annotation, which are a unique object and `Any` where that is not found.
    """
    found: list[object] = []
    for token in tokens:
        if token != LOST_KEY:
            found.append(token)
            value, hint = _inside(value, hint, token)
            continue
        arguments = shape(_member_for(value, hint)).arguments
        if type(value) is not dict or len(arguments) != 2:
            return found, MISSING, Any
        key = next((key for key, item in value.items() if _refuses(arguments[1], item)), None)
        if key is None:  # another thread has changed it
            return found, MISSING, Any
        found.append(key)
        value, hint = value[key], arguments[1]
    return found, value, hint


def _inside(value: Any, hint: Any, token: str) -> tuple[Any, Any]:
    origin, arguments = shape(_member_for(value, hint))
    if token.isdigit() and any(type(value) is kind for kind in (list, tuple, set, frozenset)):
        fixed = origin is tuple and arguments[-1:] != (...,)
        at = int(token)
        return next(islice(value, at, None)), (arguments[at if fixed else 0] if arguments else Any)
    if type(value) is dict and isinstance(origin, type):
        return value.get(token), hints_of(origin).get(token, Any)
    return MISSING, Any


def _member_for(value: Any, hint: Any) -> Any:
    """Return the member of a union that a container is checked by."""
    found = members(hint)
    if len(found) == 1:
        return hint
    return next((member for member in found if takes_items_of(shape(member).origin, type(value))), Any)


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
    if _is_read_once(value):  # pydantic would make a list of an iterator, and leave an empty one to the function
        return []
    try:
        objects.call_seen(validate, value)
    except Exception as error:
        if not is_validation_error(error):
            raise
        return issues_of(error, pointer)
    return []


def _is_read_once(value: Any) -> bool:
    """Return True if a value, or a part of it in plain containers, may be an iterator, which a look uses up."""
    waiting, seen = [value], set()
    while waiting:
        part = waiting.pop()
        kind = type(part)
        if id(kind) in _ATOMS or id(part) in seen:
            continue
        base = next((base for base in _CONTAINERS if inherits(kind, base)), None)
        if base is not None:
            seen.add(id(part))
            waiting += dict.values(part) if base is dict else base.__iter__(part)
        elif _is_one_pass(kind):
            return True
    return False


def _is_one_pass(kind: type) -> bool:
    """Return True if what a class iterates over may be there only once: it has no length, or is an iterator."""
    if class_attribute(kind, "__pydantic_validator__") is not MISSING:
        return False
    has = {name: class_attribute(kind, name) is not MISSING for name in ("__next__", "__iter__", "__len__")}
    return has["__next__"] or (has["__iter__"] and not has["__len__"])


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
    if _is_one_issue(answer):
        answer = [answer]
    if type(answer) is not list and type(answer) is not tuple:
        return []
    return [found for item in answer[:MOST_ISSUES] if (found := _as_issue(item, pointer)) is not None]


def _as_issue(item: Any, pointer: str) -> ValidationIssue | None:
    if not _is_one_issue(item):
        return None
    if inherits(type(item), ValidationIssue):
        return issue(item.code, pointer + item.path, item.message)
    text = str.__str__(item)
    return issue(SCHEMA, pointer, text) if text else None


def _is_one_issue(item: Any) -> bool:
    """Return True if a validator's answer is an issue; its class is looked at only, as it may have code of its own."""
    return inherits(type(item), str) or inherits(type(item), ValidationIssue)


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
    import jsonschema  # noqa: F401  # pyright: ignore[reportUnusedImport]


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
