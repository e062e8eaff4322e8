"""`traced_node`: makes callables and classes nodes, whose calls can be recorded.

Nothing but wrapt is loaded here until a call is traced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from inspect import isasyncgenfunction, iscoroutinefunction
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, Final, Literal, TypeAlias, TypeVar, overload

from flowtrace.calls.core import Subject
from flowtrace.instrument import subjects
from flowtrace.instrument.proxies import is_proxied_function, is_traced, text_attribute, traced
from flowtrace.instrument.subjects import checked_slow, node_subject, slow_again, start_if_asked
from flowtrace.instrument.traced_object import traced_object

Traceable: TypeAlias = "Callable[..., Any] | classmethod[Any, Any, Any] | staticmethod[Any, Any]"
Validation: TypeAlias = "Literal[True] | Mapping[str, Any] | Callable[[Any], Any]"
F = TypeVar("F", bound="Traceable")
_NOTHING: Final[Any] = object()
_ROUTINES: Final = (FunctionType, BuiltinFunctionType)


@overload
def traced_node(function: F, /) -> F: ...


@overload
def traced_node(
    *,
    component: str | None = None,
    operation: str | None = None,
    node_id: str | None = None,
    capture_inputs: bool | None = None,
    redact: Iterable[str] = (),
    expected_errors: type[BaseException] | tuple[type[BaseException], ...] = (),
    slow: float | str | None = None,
    validate: Validation | None = None,
    validate_output: Validation | None = None,
) -> Callable[[F], F]: ...


def traced_node(
    function: Any = _NOTHING,
    /,
    *,
    component: str | None = None,
    operation: str | None = None,
    node_id: str | None = None,
    capture_inputs: bool | None = None,
    redact: Iterable[str] = (),
    expected_errors: type[BaseException] | tuple[type[BaseException], ...] = (),
    slow: float | str | None = None,
    validate: Validation | None = None,
    validate_output: Validation | None = None,
) -> Any:
    """Make a function a node, whose calls are recorded while tracing is on.

    Use it bare (``@traced_node``) or called (``@traced_node(component="payments")``), on functions, coroutine
    functions, generators, async generators, methods, class methods, static methods, and on classes, where it
    wraps the public methods that the class itself defines.

    Args:
        function: the function or class to decorate.
        component: component_id of its steps; default: the name of its module.
        operation: operation of its steps; default: its qualified name.
        node_id: node_id of its steps; default: component and operation, joined with a dot.
        capture_inputs: keep payloads beside their hashes; None follows the configuration.
        redact: parameter, key and field names whose values are hidden, added to the built-in ones.
        expected_errors: exceptions that are part of its contract: recorded in the step, no failure.
        slow: seconds, or text such as ``"250ms"``; a trace is written, too, where a call takes longer. 0 for never;
            None follows the configuration.
        validate: what its arguments have to be: True for its annotations, a JSON Schema of the object of its
            parameters, or a function that takes this object. ``FLOWTRACE_VALIDATION`` says what follows where they
            are not.
        validate_output: the same for what it returns, or for each value that it yields.

    Returns:
        A function or class that the caller can use exactly as before; without ``function``, a decorator.

    Raises:
        TypeError: the decorated object can't be called, or an option is of the wrong type.
    """
    validation = (_checked_validation("validate", validate), _checked_validation("validate_output", validate_output))
    options = _Options(component, operation, node_id, capture_inputs, redact, expected_errors, slow, *validation)
    if function is _NOTHING:
        return options.apply
    return options.apply(function)


class _Options:
    """The options of a decorator, checked."""

    __slots__ = (
        *("capture_inputs", "component", "expected_errors", "node_id", "operation", "redact", "slow_after"),
        *("validate", "validate_output"),
    )

    def __init__(
        self,
        component: str | None,
        operation: str | None,
        node_id: str | None,
        capture_inputs: bool | None,
        redact: Iterable[str],
        expected_errors: type[BaseException] | tuple[type[BaseException], ...],
        slow: float | str | None,
        validate: Validation | None,
        validate_output: Validation | None,
    ) -> None:
        names = {"component": component, "operation": operation, "node_id": node_id}
        for name, text in names.items():
            if text is not None and not isinstance(text, str):
                raise TypeError(f"traced_node: {name} must be text or None, not {text!r:.80}")
        if capture_inputs is not None and not isinstance(capture_inputs, bool):
            raise TypeError(f"traced_node: capture_inputs must be True, False or None, not {capture_inputs!r:.80}")
        self.component = component
        self.operation = operation
        self.node_id = node_id
        self.capture_inputs = capture_inputs
        self.redact = _checked_names(redact)
        self.expected_errors = _checked_errors(expected_errors)
        self.slow_after = checked_slow("traced_node", slow)
        self.validate = validate
        self.validate_output = validate_output

    def _again(self) -> tuple[str, dict[str, Any]]:
        """Return the decorator's name and its arguments, to make it again in another process."""
        names = ("component", "operation", "node_id", "capture_inputs", "redact", "expected_errors")
        given = {name: value for name in names if (value := getattr(self, name)) not in (None, ())}
        for name in ("validate", "validate_output"):
            if (value := getattr(self, name)) is not None:
                given[name] = value
        return "traced_node", {**given, **slow_again(self.slow_after)}

    def apply(self, target: Any) -> Any:
        """Wrap a callable, or the public methods of a class."""
        if isinstance(target, type):
            return self._apply_to_class(target)
        if not callable(target) and not isinstance(target, classmethod | staticmethod):
            raise TypeError(f"traced_node takes a function, a method or a class, not {target!r:.80}")
        start_if_asked()
        return self._wrap(target)

    def _wrap(self, target: Any) -> Any:
        """Wrap a callable; the result is of the same kind."""
        kind = type(target)
        if kind in (classmethod, staticmethod) and callable(target.__func__):
            if not _binds(target.__func__):  # what stands for it may not either: up to 3.12, class methods let it
                return _with_attributes(kind(self._wrap_unbound(target.__func__)), target)
            subject = partial(self._subject, is_static=kind is staticmethod)
            return _with_attributes(kind(traced(target.__func__, subject, kind is classmethod)), target)
        if kind is MethodType and type(target.__func__) is FunctionType:
            return MethodType(traced(target.__func__, self._subject, True, True), target.__self__)
        if _binds(target):
            return traced(target, self._subject)
        return self._wrap_unbound(target)

    def _wrap_unbound(self, target: Any) -> Any:
        """Wrap a callable that does not bind to an instance; the result does not either."""
        if type(target) is partial:
            inner = traced(target.func, self._subject)
            return _with_attributes(partial(inner, *target.args, **target.keywords), target)
        return traced_object(target, self._subject)

    def _apply_to_class(self, cls: type) -> type:
        members = list(vars(cls).items())
        methods = [member for name, member in members if not name.startswith("_") and _is_method(member)]
        nodes = {id(member): self.apply(member) for member in methods}
        # a metaclass sees nothing set, as without us; behind another decorator there may be a proxy of a class
        assign = type.__setattr__ if issubclass(type(cls), type) else setattr
        for name, member in members:
            node = nodes.get(id(member))  # one object by each of its names
            if node is None:
                continue
            assign(cls, name, node)
            if is_traced(node):
                type(node).__set_name__(node, cls, name)
        return cls

    def _subject(self, target: Any, *, is_static: bool = False) -> Subject:
        function = target.__func__ if isinstance(target, classmethod | staticmethod) else target
        component = self.component or text_attribute(function, "__module__") or "unknown"
        operation = self.operation or text_attribute(function, "__qualname__") or type(function).__qualname__
        is_static = is_static or isinstance(target, staticmethod)
        node = subjects.node.Node(
            component,
            operation,
            self.node_id or f"{component}.{operation}",
            function=function,
            has_receiver=isinstance(function, FunctionType) and not is_static,
            capture_inputs=self.capture_inputs,
            redact=self.redact,
            expected_errors=self.expected_errors,
            slow_after=self.slow_after,
            checks=subjects.checks_of(function, self.validate, self.validate_output),
        )
        return node_subject(node)


def _binds(target: Any) -> bool:
    """Return True if a callable binds to the instance through which it is reached, or is a built-in one or a class.

    Partial functions will some day; up to now they have a `__get__` that only warns.
    """
    kind = type(target)
    if kind is partial:
        return False
    return kind in _ROUTINES or issubclass(kind, type) or any("__get__" in vars(base) for base in kind.__mro__)


def _with_attributes(new: Any, old: Any) -> Any:
    """Copy the attributes that users set on an object to the new one that stands in its place."""
    for name, value in vars(old).items():
        vars(new).setdefault(name, value)
    return new


def _is_method(member: Any) -> bool:
    """Return True if a class attribute is a method that is not traced yet; no code of the attribute is run."""
    if issubclass(type(member), classmethod | staticmethod):  # isinstance would ask a member that may be a lazy object
        member = member.__func__
    if is_traced(member):
        return False
    return type(member) is FunctionType or is_proxied_function(member)


def _checked_names(redact: Iterable[str]) -> tuple[str, ...]:
    names: tuple[Any, ...] = (None,)
    if isinstance(redact, Iterable) and not isinstance(redact, str):
        names = tuple(redact)
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"traced_node: redact must be a sequence of names, not {redact!r:.80}")
    return names


def _checked_validation(name: str, given: Any) -> Validation | None:
    fits = given is None or given is True or isinstance(given, Mapping) or callable(given)
    if not fits or iscoroutinefunction(given) or isasyncgenfunction(given):
        accepts = "True, a JSON Schema (a dictionary), a function that is not async, or None"
        raise TypeError(f"traced_node: {name} must be {accepts}, not {given!r:.80}")
    return given  # type: ignore[no-any-return]


def _checked_errors(errors: Any) -> tuple[type[BaseException], ...]:
    found = errors if isinstance(errors, tuple) else (errors,)
    if all(isinstance(error, type) and issubclass(error, BaseException) for error in found):
        return found
    raise TypeError(f"traced_node: expected_errors must be an exception class or a tuple of them, not {errors!r:.80}")
