"""From a captured payload to the arguments of a call."""

from __future__ import annotations

from collections.abc import Iterable
from inspect import Parameter
from types import GenericAlias
from typing import Any, Final

from flowtrace.errors import RebuildError
from flowtrace.values.rebuild import Rebuilder

_POSITIONAL: Final = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_VARIADIC: Final = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)

AnnotatedParameter = tuple[Parameter, Any]
"""A parameter, and the annotation of the payload's entry under its name."""


class UnfitError(Exception):
    """The function's parameters have changed since the payload was recorded; the message continues its name."""


def annotated_parameters(parameters: Iterable[Parameter], hints: dict[str, Any]) -> list[AnnotatedParameter]:
    """Return parameters with the annotations by which a payload is rebuilt.

    Args:
        parameters: of the function, without the receiver.
        hints: the function's annotations by name.
    """
    found: list[AnnotatedParameter] = []
    for parameter in parameters:
        hint = hints.get(parameter.name, Any)
        if parameter.kind is Parameter.VAR_POSITIONAL:
            hint = GenericAlias(list, (hint,))
        elif parameter.kind is Parameter.VAR_KEYWORD:
            hint = GenericAlias(dict, (str, hint))
        found.append((parameter, hint))
    return found


def arguments_of(
    parameters: list[AnnotatedParameter], payload: dict[str, Any], rebuilder: Rebuilder
) -> tuple[list[Any], dict[str, Any], bool]:
    """Rebuild the arguments of a call from its payload.

    Args:
        parameters: of the function.
        payload: canonical JSON by parameter name, as `flowtrace.recording.node.bind` makes it.
        rebuilder: makes values of it.

    Returns:
        Positional and keyword arguments, and whether the payload has all parameters. A parameter that was not recorded
        keeps its default.

    Raises:
        UnfitError: a parameter is gone, or is new and has no default.
        RebuildError: a value can't be rebuilt.
    """
    names = {parameter.name for parameter, _ in parameters}
    if payload.keys() != names and payload.keys() == {"args", "kwargs"}:  # a call that did not fit the signature
        args, kwargs = _value("args", payload, Any, rebuilder), _value("kwargs", payload, Any, rebuilder)
        if type(args) is not list or not _is_keywords(kwargs):
            raise RebuildError("these are no arguments of a call")
        return args, kwargs, False
    gone = sorted(payload.keys() - names)
    if gone:
        raise UnfitError(f"no longer takes {gone[0]!r:.80}")
    args, kwargs, is_complete = list[Any](), dict[str, Any](), True
    for parameter, hint in parameters:
        if parameter.name in payload:
            value = _value(parameter.name, payload, hint, rebuilder)
            _add_argument(parameter, value, args, kwargs, is_complete)
        elif parameter.default is parameter.empty and parameter.kind not in _VARIADIC:
            raise UnfitError(f"now takes {parameter.name!r}, which was not recorded and has no default")
        else:
            is_complete = False  # so the parameters after it can't be passed by position
    return args, kwargs, is_complete


def _value(name: str, payload: dict[str, Any], hint: Any, rebuilder: Rebuilder) -> Any:
    try:
        return rebuilder.rebuild(payload[name], hint)
    except RebuildError as error:
        raise error.inside(name) from error


def _is_keywords(value: Any) -> bool:
    return type(value) is dict and all(isinstance(key, str) for key in value)


def _add_argument(parameter: Parameter, value: Any, args: list[Any], kwargs: dict[str, Any], by_position: bool) -> None:
    if parameter.kind in _VARIADIC:
        is_list = parameter.kind is Parameter.VAR_POSITIONAL
        if not (type(value) is list if is_list else _is_keywords(value)):
            raise RebuildError("these are no arguments of a call", f"/{parameter.name}")
        args.extend(value) if is_list else kwargs.update(value)
    elif parameter.kind in _POSITIONAL and by_position:
        args.append(value)
    else:
        kwargs[parameter.name] = value
