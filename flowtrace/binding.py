"""The parameters of a call by their names, from the arguments that it was given."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from types import FunctionType
from typing import Any, Final

from flowtrace.classes import NO_RECEIVERS, RECEIVER_NAMES, inherits
from flowtrace.forms import class_attribute
from flowtrace.nodes import Node

_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def bind(
    node: Node,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    bound: bool,
    defaults: Sequence[Any] = (),
) -> dict[str, Any]:
    """Return the object of a call's parameters, defaults included, receiver left out.

    Args:
        node: whose call it is.
        args: positional arguments.
        kwargs: keyword arguments.
        bound: ``args`` has no receiver in it.
        defaults: the function's ``__defaults__`` and ``__kwdefaults__`` as they were before the call, if kept.

    Returns:
        Value by parameter name; ``args`` and ``kwargs`` alone where they do not fit the signature.
    """
    payload = _bind_simply(node, args, kwargs, bound, defaults)
    if payload is not None:
        return payload
    try:
        signature = _signature(node)
        parameters = list(signature.parameters.values())
        positional = parameters and parameters[0].kind in _POSITIONAL
        if positional and bound and node.has_receiver:
            parameters = parameters[1:]
        elif positional and not bound and _has_receiver(node, parameters[0], args):
            receiver, *parameters = parameters
            args = args[1:]
            kwargs = {name: value for name, value in kwargs.items() if name != receiver.name}
        arguments = inspect.Signature(parameters).bind(*args, **kwargs).arguments
    except (TypeError, ValueError):
        return {"args": list(args), "kwargs": dict(kwargs)}
    before = _defaults_by_name(node, defaults)
    return {item.name: arguments.get(item.name, before.get(item.name, _default(item))) for item in parameters}


def _bind_simply(
    node: Node, args: Sequence[Any], kwargs: Mapping[str, Any], bound: bool, defaults: Sequence[Any]
) -> dict[str, Any] | None:
    """Do what `bind` does for a function with ordinary parameters alone, and no receiver among them.

    Returns:
        The parameters; None where it takes more than that to tell them.
    """
    names = node.simple_names
    if names is None or bound or defaults or len(args) > len(names) or _may_be_receiver(args):
        return None
    payload = {**dict(zip(names, args, strict=False)), **kwargs}
    if len(payload) == len(args) + len(kwargs) == len(names) and payload.keys() == set(names):
        return payload
    return None


def _signature(node: Node) -> inspect.Signature:
    if node.signature is None:
        assert node.function is not None  # an engine's payload has no parameters
        node.signature = inspect.signature(node.function)
    return node.signature


def _has_receiver(node: Node, first: inspect.Parameter, args: Sequence[Any]) -> bool:
    """Tell whether the first argument of a method that was reached as a plain function is its receiver.

    ``U.double(3)`` has none, whatever its first parameter is called: a value of a built-in type has no methods of ours.
    """
    if _is_receiver(node, args):
        return True
    return _names_receiver(node, first) and not (args and id(type(args[0])) in NO_RECEIVERS)


def _names_receiver(node: Node, first: inspect.Parameter) -> bool:
    """Tell whether the first parameter takes the receiver of a method that was reached as a plain function."""
    scope = getattr(node.function, "__qualname__", "").rpartition(".")[0]
    return first.name in RECEIVER_NAMES and bool(scope) and not scope.endswith("<locals>")


def _may_be_receiver(args: Sequence[Any]) -> bool:
    return bool(args) and inherits(type(args[0]), type)


def _is_receiver(node: Node, args: Sequence[Any]) -> bool:
    """Tell whether the first argument is a class in which the function is a class method, whatever its receiver's name.

    A class is never plain JSON, so that this is only asked with the real arguments at hand.
    """
    if not _may_be_receiver(args) or not isinstance(node.function, FunctionType):
        return False
    method = class_attribute(args[0], node.function.__name__)
    wrapped = getattr(method.__func__, "__wrapped__", None) if type(method) is classmethod else None
    return wrapped is node.function


def _default(parameter: inspect.Parameter) -> Any:
    if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
        return ()
    return {} if parameter.kind is inspect.Parameter.VAR_KEYWORD else parameter.default


def _defaults_by_name(node: Node, defaults: Sequence[Any]) -> dict[str, Any]:
    if not defaults or not isinstance(node.function, FunctionType):
        return {}
    positional, by_keyword = defaults
    code = node.function.__code__
    names = code.co_varnames[: code.co_argcount]
    values = positional or ()
    return dict(zip(names[len(names) - len(values) :], values, strict=True)) | (by_keyword or {})
