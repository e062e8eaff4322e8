"""A traced function: what its decorator said, the policy for its values, and the parameters of its calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import lru_cache
from inspect import CO_VARARGS, CO_VARKEYWORDS, Parameter, Signature
from inspect import signature as signature_of
from types import BuiltinFunctionType, CellType, CodeType, FunctionType
from typing import TYPE_CHECKING, Any, Final, Protocol
from weakref import ReferenceType, ref

from flowtrace.host.objects import NO_RECEIVERS, RECEIVER_NAMES, class_attribute, inherits, target_of
from flowtrace.host.signals import let_through
from flowtrace.recording.governor import Governor
from flowtrace.settings.config import TraceConfig, TraceContext
from flowtrace.trace.model import Code, ValidationIssue
from flowtrace.values.encode import left_out
from flowtrace.values.encoded import Pieces, derive_key
from flowtrace.values.redaction import SecretNames, secret_names
from flowtrace.values.scrub import without_lookalikes

if TYPE_CHECKING:
    from flowtrace.recording.plugin import NodeEntry, StepProcessor

_FIXED: Final = (type(None), bool, int, float, complex, str, bytes, type, FunctionType, BuiltinFunctionType)
_VARIABLE: Final = CO_VARARGS | CO_VARKEYWORDS


class _NoEntry:
    """The entry of a node that no step processor has made notes about."""

    owner: object = None


_NO_ENTRY: Final = _NoEntry()


class Checks(Protocol):
    """Says what is wrong with the values of a node's calls.

    Attributes:
        has_input: arguments are checked.
    """

    has_input: bool

    def input(self, payload: dict[str, Any]) -> list[ValidationIssue]:  # pyright: ignore[reportReturnType]
        """Return what is wrong with the parameters of a call, given by name."""

    @property
    def output(self) -> Callable[[Any, str], list[ValidationIssue]] | None:
        """The check of a result, or of one value of a generator, and the pointer to it; None: nothing is checked."""


class Node:
    """A function that is traced, with the options of its decorator.

    Attributes:
        component: component_id of its steps.
        operation: operation of its steps.
        node_id: node_id of its steps.
        live: the function itself; None for a node that an engine reports, and for a closure that is gone: buffers keep
            nodes, and must not keep what the program would have let go.
        has_receiver: a bound call leaves out the signature's first parameter.
        capture_inputs: keep payloads; None follows the configuration.
        redact: more names whose values are hidden.
        expected_errors: errors that are part of its contract.
        checks: what its values have to be, or None.
        simple_names: its parameters, where all are ordinary ones and none takes a receiver; else None.
        code: where the function is defined, once that was asked for.
        parts: its code, defaults and keyword-only defaults when it was looked at; None for what is no plain function.
        live_defaults: some default is an object that may change, so that each call takes a snapshot of them.
        slow_after: nanoseconds after which one of its steps is slow; 0 follows the configuration.
        entry: the step processor's notes about it.
        shapes: the texts of its steps as far as they are alike; see `flowtrace.recording.step_lines`.
    """

    __slots__ = (
        *("_before", "_live", "capture_inputs", "checks", "code", "component", "entry", "expected_errors"),
        *("has_receiver", "live_defaults", "node_id", "operation", "parts", "redact", "shapes", "signature"),
        *("simple_names", "slow_after"),
    )

    def __init__(
        self,
        component: str,
        operation: str,
        node_id: str,
        *,
        function: Callable[..., Any] | None = None,
        has_receiver: bool = False,
        capture_inputs: bool | None = None,
        redact: tuple[str, ...] = (),
        expected_errors: tuple[type[BaseException], ...] = (),
        slow_after: int = 0,
        checks: Checks | None = None,
    ) -> None:
        self.component = component
        self.operation = operation
        self.node_id = node_id
        is_closure = type(function) is FunctionType and function.__closure__
        self._live: Any = ref(function) if is_closure else function
        self.has_receiver = has_receiver
        self.capture_inputs = capture_inputs
        self.redact = redact
        self.expected_errors = expected_errors
        self.slow_after = slow_after
        self.checks = checks
        self.parts = _parts(function)
        self.live_defaults = not all(map(_is_fixed, _defaults(function)))
        self.simple_names = _simple_names(function)
        self.signature: Signature | None = None
        self.code: Code | None = None
        self.entry: NodeEntry = _NO_ENTRY
        self.shapes: dict[Any, Any] = {}
        self._before = _as_it_was(function, *self.parts) if is_closure and self.parts else None

    @property
    def live(self) -> Callable[..., Any] | None:  # noqa: D102  # said above
        return self._live() if type(self._live) is ReferenceType else self._live

    @property
    def function(self) -> Callable[..., Any] | None:
        """The function as the node's calls found it, for its signature and its source."""
        live = self.live
        if self.parts is None or (live is not None and not self.is_changed()):
            return live
        if self._before is None:
            self._before = _as_it_was(live, *self.parts)
        return self._before

    def is_changed(self) -> bool:
        """Return True if the function has other code or other defaults since, as a reloader gives it in a notebook."""
        parts, function = self.parts, self.live
        if parts is None or function is None:
            return False
        return (
            function.__code__ is not parts[0]
            or function.__defaults__ is not parts[1]
            or function.__kwdefaults__ is not parts[2]
        )

    def successor(self) -> Node:
        """Return a node for the calls after such a change; the steps so far keep the parameters of their calls."""
        options = {name: getattr(self, name) for name in _OPTIONS}
        return Node(self.component, self.operation, self.node_id, function=self.live, **options)


class Policy:
    """The part of a configuration that is about values.

    Attributes:
        max_value_bytes: a larger value is encoded at once.
        max_value_work: units of work that a value may take; the rest of it is cut.
        governor: leaves out values while they cost too much, or None.
        left_out: stands for a value that was left out.
        buffer_bytes: no more bytes than these are kept of one captured value.
        pieces: the content of large arrays in captured values.
        capture_inputs: keep payloads.
        capture_outputs: keep results.
        key: 32 bytes for keyed hashing, or None.
        redactor: finds more values to hide, or None.
        processor: sees the steps under this policy, or None.
    """

    __slots__ = (
        *("_redact", "_secret", "buffer_bytes", "capture_inputs", "capture_outputs", "key"),
        *("max_value_bytes", "governor", "left_out", "max_value_work", "pieces", "processor", "redactor"),
    )

    def __init__(self, config: TraceConfig) -> None:
        self.max_value_bytes = min(config.max_value_bytes, config.buffer_bytes // 2)  # a step has two of them
        self.max_value_work = config.max_value_work
        self.governor = Governor(config.max_overhead) if config.max_overhead else None
        self.buffer_bytes = config.buffer_bytes
        self.pieces = Pieces(config.buffer_bytes)
        self.capture_inputs = config.capture_inputs
        self.capture_outputs = config.capture_outputs
        self.key = None if config.hash_key is None else derive_key(config.hash_key)
        self.left_out = left_out(self.key)
        self.redactor = config.redactor
        self._redact = config.redact
        self._secret = secret_names(config.redact)
        self.processor: StepProcessor | None = None

    def secret(self, *nodes: Node) -> SecretNames:
        """Return the test for names whose values are hidden in the steps of some nodes."""
        # only the program takes names off
        names = [name.lstrip("-") for node in nodes for name in node.redact]
        return secret_names((*self._redact, *names)) if names else self._secret

    def shown(self, context: TraceContext) -> TraceContext:
        """Return what a trace says about the program, without what looks like a secret in it."""
        return _shown(context, self._secret)

    def captures_input(self, node: Node) -> bool:
        """Return True if a node's payloads are kept."""
        return self.capture_inputs if node.capture_inputs is None else node.capture_inputs


@lru_cache(maxsize=64)
def _shown(context: TraceContext, secret: SecretNames) -> TraceContext:
    texts = {item.name: getattr(context, item.name) for item in fields(context)}
    return replace(context, **{name: text and without_lookalikes(text, secret) for name, text in texts.items()})


_OPTIONS: Final = ("capture_inputs", "checks", "expected_errors", "has_receiver", "redact", "slow_after")


def _parts(function: Any) -> tuple[CodeType, Any, Any] | None:
    if type(function) is not FunctionType:
        return None
    return function.__code__, function.__defaults__, function.__kwdefaults__


def _as_it_was(function: Any, code: CodeType, defaults: Any, keyword_defaults: Any) -> FunctionType:
    """Return a function that is looked at, and never called: it keeps nothing of what its code closes over."""
    cells = tuple(CellType() for _ in code.co_freevars)
    was = FunctionType(code, function.__globals__, function.__name__, defaults, cells)
    was.__kwdefaults__ = keyword_defaults
    was.__module__, was.__qualname__ = function.__module__, function.__qualname__
    was.__dict__.update(function.__dict__)
    return was


def _defaults(function: Any) -> list[Any]:
    if not isinstance(function, FunctionType):
        return []
    return [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]


def _simple_names(function: Any) -> tuple[str, ...] | None:
    names = ordinary_names(function)
    scope = "" if names is None else function.__qualname__.rpartition(".")[0]
    return None if scope and not scope.endswith("<locals>") else names  # a method


def ordinary_names(function: Any) -> tuple[str, ...] | None:
    """Return a function's parameters, where each may be given by position or by name; else None."""
    if type(function) is not FunctionType or hasattr(function, "__signature__") or hasattr(function, "__wrapped__"):
        return None
    code = function.__code__
    others = code.co_posonlyargcount or code.co_kwonlyargcount or code.co_flags & _VARIABLE
    return None if others else code.co_varnames[: code.co_argcount]


def _is_fixed(value: object) -> bool:
    if type(value) is tuple:
        return all(map(_is_fixed, value))
    return any(type(value) is fixed for fixed in _FIXED)  # "in" would ask a metaclass for its __eq__


_POSITIONAL: Final = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


def bind(
    node: Node, args: Sequence[Any], kwargs: Mapping[str, Any], bound: bool, defaults: Sequence[Any] = ()
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
        parameters, args, kwargs = _without_receiver(node, args, kwargs, bound)
        arguments = Signature(parameters).bind(*args, **kwargs).arguments
    except BaseException as error:  # the arguments do not fit; or an object with a signature of its own failed
        let_through(error)
        return {"args": list(args), "kwargs": dict(kwargs)}
    before = _defaults_by_name(node, defaults)
    return {item.name: arguments.get(item.name, before.get(item.name, _default(item))) for item in parameters}


def parameters_of(node: Node) -> frozenset[str] | None:
    """Return the names of a function's parameters; None where they can't be found out."""
    try:
        return frozenset(_signature(node).parameters)
    except BaseException as error:  # an object with a signature of its own failed
        let_through(error)
        return None


def misfit(node: Node, args: Sequence[Any], kwargs: Mapping[str, Any], bound: bool) -> tuple[list[str], str]:
    """Return why arguments do not fit a function's signature: the parameters that have none, and what else is wrong.

    The arguments are those of `bind`. Of a callable whose signature can't be read nothing is known.
    """
    try:
        parameters, args, kwargs = _without_receiver(node, args, kwargs, bound)
    except Exception as error:
        let_through(error)
        return [], ""
    try:
        given = Signature(parameters).bind_partial(*args, **kwargs).arguments
    except TypeError as error:
        return [], str(error)
    return [item.name for item in parameters if item.name not in given and _is_required(item)], ""


def _is_required(parameter: Parameter) -> bool:
    return parameter.default is Parameter.empty and parameter.kind not in (
        Parameter.VAR_POSITIONAL,
        Parameter.VAR_KEYWORD,
    )


def _without_receiver(
    node: Node, args: Sequence[Any], kwargs: Mapping[str, Any], bound: bool
) -> tuple[list[Parameter], Sequence[Any], Mapping[str, Any]]:
    """Return the parameters of a function and the arguments of a call, without the receiver among them."""
    parameters = list(_signature(node).parameters.values())
    positional = parameters and parameters[0].kind in _POSITIONAL
    if positional and bound and node.has_receiver:
        parameters = parameters[1:]
    elif positional and not bound and _has_receiver(node, parameters[0], args):
        receiver, *parameters = parameters
        args = args[1:]
        kwargs = {name: value for name, value in kwargs.items() if name != receiver.name}
    return parameters, args, kwargs


def _bind_simply(
    node: Node, args: Sequence[Any], kwargs: Mapping[str, Any], bound: bool, defaults: Sequence[Any]
) -> dict[str, Any] | None:
    """Do what `bind` does for a function with ordinary parameters alone, and no receiver among them.

    Returns:
        The parameters; None where that is not enough to find them.
    """
    names = node.simple_names
    if names is None or bound or defaults or len(args) > len(names) or _may_be_receiver(args):
        return None
    payload = {**dict(zip(names, args, strict=False)), **kwargs}
    if len(payload) == len(args) + len(kwargs) == len(names) and payload.keys() == set(names):
        return payload
    return None


def _signature(node: Node) -> Signature:
    if node.signature is None:
        assert node.function is not None  # an engine's payload has no parameters
        node.signature = signature_of(node.function)
    return node.signature


def _has_receiver(node: Node, first: Parameter, args: Sequence[Any]) -> bool:
    """Return True if the first argument of a method that was reached as a plain function is its receiver.

    ``U.double(3)`` has none, whatever its first parameter is called: a value of a built-in type has no methods of ours.
    """
    if _is_receiver(node, args):
        return True
    return _names_receiver(node, first) and not (args and id(type(args[0])) in NO_RECEIVERS)


def _names_receiver(node: Node, first: Parameter) -> bool:
    """Return True if the first parameter takes the receiver of a method that was reached as a plain function."""
    scope = getattr(node.function, "__qualname__", "").rpartition(".")[0]
    return first.name in RECEIVER_NAMES and bool(scope) and not scope.endswith("<locals>")


def _may_be_receiver(args: Sequence[Any]) -> bool:
    return bool(args) and inherits(type(args[0]), type)


def _is_receiver(node: Node, args: Sequence[Any]) -> bool:
    """Return True if the first argument is a class in which the function is a class method.

    The name of the first parameter does not matter. A class is never plain JSON: this needs the real arguments.
    """
    if not _may_be_receiver(args) or not isinstance(node.function, FunctionType):
        return False
    method = class_attribute(args[0], node.function.__name__)
    return type(method) is classmethod and target_of(method.__func__) is node.function


def _default(parameter: Parameter) -> Any:
    if parameter.kind is Parameter.VAR_POSITIONAL:
        return ()
    return {} if parameter.kind is Parameter.VAR_KEYWORD else parameter.default


def _defaults_by_name(node: Node, defaults: Sequence[Any]) -> dict[str, Any]:
    if not defaults or not isinstance(node.function, FunctionType):
        return {}
    positional, by_keyword = defaults
    code = node.function.__code__
    names = code.co_varnames[: code.co_argcount]
    values = positional or ()
    return dict(zip(names[len(names) - len(values) :], values, strict=True)) | (by_keyword or {})
