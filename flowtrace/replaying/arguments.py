"""From a captured payload to the arguments of a call."""

from __future__ import annotations

from collections.abc import Iterable
from inspect import Parameter
from types import GenericAlias
from typing import Any, Final, NamedTuple

from flowtrace.errors import RebuildError
from flowtrace.values.rebuild import Rebuilder

_BY_PLACE: Final = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_MANY: Final = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


class UnfitError(Exception):
    """A function's parameters are others than those of the payload; the text goes on after its name."""


class Taken(NamedTuple):
    """What a function takes under one name.

    Attributes:
        name: its name.
        parameter: the parameter.
        hint: the annotation of what stands under that name in a payload.
    """

    name: str
    parameter: Parameter
    hint: Any


def taken_by(parameters: Iterable[Parameter], hints: dict[str, Any]) -> list[Taken]:
    """Return what a function takes.

    Args:
        parameters: of the function, without the receiver.
        hints: its annotations by name.
    """
    return [Taken(item.name, item, _hint(item, hints)) for item in parameters]


def arguments_of(
    parameters: list[Taken], payload: dict[str, Any], rebuilder: Rebuilder
) -> tuple[list[Any], dict[str, Any], bool]:
    """Return the arguments that a payload stands for.

    Args:
        parameters: what the function takes.
        payload: JSON-like objects by the names of the parameters, as `flowtrace.recording.node.bind` makes it.
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
    for name, item, hint in parameters:
        if name in payload:
            value = _value(name, payload, hint, rebuilder)
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
