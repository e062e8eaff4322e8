"""From a captured payload to the arguments of a call."""

from __future__ import annotations

from inspect import Parameter
from types import GenericAlias
from typing import Any, Final

from flowtrace.errors import RebuildError
from flowtrace.rebuild import Rebuilder

_BY_PLACE: Final = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_MANY: Final = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


class UnfitError(Exception):
    """A function's parameters are others than those of the payload; the text goes on after its name."""


def arguments_of(
    parameters: list[Parameter], hints: dict[str, Any], payload: dict[str, Any], rebuilder: Rebuilder
) -> tuple[list[Any], dict[str, Any], bool]:
    """Return the arguments that a payload stands for.

    Args:
        parameters: of the function, without the receiver.
        hints: its annotations by name.
        payload: JSON-like objects by the names of the parameters, as `flowtrace.calls.bind` makes it.
        rebuilder: makes values of them.

    Returns:
        Positional and keyword arguments, and whether the payload has all parameters. One that was not recorded keeps
        its default.

    Raises:
        UnfitError: a parameter is gone, or is new and has no default.
        RebuildError: a value can't be rebuilt.
    """
    names = {item.name for item in parameters}
    if payload.keys() != names and payload.keys() == {"args", "kwargs"}:  # a call that did not fit the signature
        given = _value("args", payload, Any, rebuilder), _value("kwargs", payload, Any, rebuilder)
        if (
            type(given[0]) is not list
            or type(given[1]) is not dict
            or not all(isinstance(key, str) for key in given[1])
        ):
            raise RebuildError("these are no arguments of a call")
        return *given, False
    gone = sorted(payload.keys() - names)
    if gone:
        raise UnfitError(f"takes no {gone[0]!r:.80} any more")
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    is_whole = True
    for item in parameters:
        if item.name in payload:
            value = _value(item.name, payload, _hint(item, hints), rebuilder)
            if not _fits(item, value):
                raise RebuildError("these are no arguments of a call", f"/{item.name}")
            _place(item, value, args, kwargs, is_whole)
        elif item.default is item.empty and item.kind not in _MANY:
            raise UnfitError(f"takes {item.name!r} now, which was not recorded and has no default")
        else:
            is_whole = False  # what follows can't go by its place
    return args, kwargs, is_whole


def _value(name: str, payload: dict[str, Any], hint: Any, rebuilder: Rebuilder) -> Any:
    try:
        return rebuilder.rebuild(payload[name], hint)
    except RebuildError as error:
        raise error.inside(name) from error


def _hint(parameter: Parameter, hints: dict[str, Any]) -> Any:
    hint = hints.get(parameter.name, Any)
    if parameter.kind is Parameter.VAR_POSITIONAL:
        return GenericAlias(list, (hint,))
    return GenericAlias(dict, (str, hint)) if parameter.kind is Parameter.VAR_KEYWORD else hint


def _fits(parameter: Parameter, value: Any) -> bool:
    if parameter.kind is Parameter.VAR_POSITIONAL:
        return type(value) is list
    if parameter.kind is Parameter.VAR_KEYWORD:
        return type(value) is dict and all(isinstance(key, str) for key in value)
    return True


def _place(parameter: Parameter, value: Any, args: list[Any], kwargs: dict[str, Any], by_place: bool) -> None:
    if parameter.kind is Parameter.VAR_POSITIONAL:
        args.extend(value)
    elif parameter.kind is Parameter.VAR_KEYWORD:
        kwargs.update(value)
    elif parameter.kind in _BY_PLACE and by_place:
        args.append(value)
    else:
        kwargs[parameter.name] = value
