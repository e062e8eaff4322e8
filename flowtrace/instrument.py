"""`traced_node`: wrapping callables and classes so that their calls can be recorded.

Nothing but wrapt is loaded here until a call is really traced.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterable
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, TypeAlias, TypeVar, overload

import wrapt

from flowtrace.shapes import Subject, wrapper_for
from flowtrace.switch import SWITCH, environment_speaks, is_unread, may_be_on

Traceable: TypeAlias = "Callable[..., Any] | classmethod[Any, Any, Any] | staticmethod[Any, Any]"
F = TypeVar("F", bound="Traceable")
_NOTHING: Any = object()
_ROUTINES = (FunctionType, BuiltinFunctionType)
_RECEIVERS = ("self", "cls", "mcs", "mcls", "metacls")
_IMPLICIT: dict[str, type] = {
    "__new__": staticmethod,
    "__init_subclass__": classmethod,
    "__class_getitem__": classmethod,
}


def _annotations(self: Any) -> Any:
    return self.__wrapped__.__annotations__


def _set_annotations(self: Any, value: Any) -> None:
    self.__wrapped__.__annotations__ = value


def _delete_annotations(self: Any) -> None:
    del self.__wrapped__.__annotations__


# Stands in each wrapper's class: else the first look at the *class's* annotations would put an empty dictionary there,
# and from then on every wrapper would show that one.
_ANNOTATIONS: Any = property(_annotations, _set_annotations, _delete_annotations)


class _BoundTracedFunction(wrapt.BoundFunctionWrapper):  # type: ignore[type-arg]  # not subscriptable when it runs
    """A traced function that was reached through an instance or a class."""

    __slots__ = ()
    __annotations__ = _ANNOTATIONS

    def __reduce_ex__(self, protocol: object) -> Any:
        receiver = getattr(self.__wrapped__, "__self__", None)
        owner = self._self_owner if receiver is None else receiver
        return getattr, (owner, self.__wrapped__.__name__)

    def __copy__(self) -> _BoundTracedFunction:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        from copy import deepcopy

        receiver = getattr(self.__wrapped__, "__self__", None)
        copied = deepcopy(receiver, memo)
        return self if copied is receiver else self._self_parent.__get__(copied, type(copied))


class _Stand:
    """What a wrapper does as the callable that it stands for: be shown, pickled and copied."""

    __slots__ = ()

    def __repr__(self: Any) -> str:
        return repr(self.__wrapped__)

    def __reduce_ex__(self: Any, protocol: object) -> Any:
        name = _text(self.__wrapped__, "__qualname__")
        if name is not None and _find(_text(self.__wrapped__, "__module__"), name) is self:
            return name
        return _itself, (self.__wrapped__,)

    def __copy__(self: Any) -> Any:
        from copy import copy

        return self._around(copy(self.__wrapped__))

    def __deepcopy__(self: Any, memo: dict[int, Any]) -> Any:
        from copy import deepcopy

        return self._around(deepcopy(self.__wrapped__, memo))

    def _around(self: Any, wrapped: Any) -> Any:
        """Return the same node around a copy of its callable; functions are never copied."""
        raise NotImplementedError


class TracedFunction(_Stand, wrapt.FunctionWrapper):  # type: ignore[type-arg]
    """A callable whose calls are recorded while the switch is on, and which is that callable in everything else."""

    __slots__ = ()
    __annotations__ = _ANNOTATIONS
    __bound_function_wrapper__ = _BoundTracedFunction

    def __init__(self, wrapped: Any, make_subject: Callable[[], Subject], takes_receiver: bool | None = None) -> None:
        subject = Subject.made_later(partial(_make_if_on, make_subject))
        function = getattr(wrapped, "__func__", wrapped) if _is_descriptor(wrapped) else wrapped
        super().__init__(wrapped, wrapper_for(function, subject), enabled=SWITCH)  # type: ignore[arg-type]  # only its truth is looked at
        self._self_subject = subject
        subject.takes_receiver = _names_receiver(wrapped) if takes_receiver is None else takes_receiver

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Bind as a function does: to a real method, which costs less than a bound wrapper too."""
        if self._self_binding != "function":
            return super().__get__(instance, owner)
        return self if instance is None else MethodType(self, instance)

    def __set_name__(self, owner: type, name: str) -> None:
        """Learn that this is a method; and do what the class would do to a plain function of these names."""
        super().__set_name__(owner, name)  # type: ignore[misc]  # wrapt has it, its stubs do not
        if type(self.__wrapped__) is not FunctionType:
            return
        if name in _IMPLICIT:
            setattr(owner, name, _IMPLICIT[name](self))
        if self.__wrapped__.__qualname__.rpartition(".")[0] == owner.__qualname__:
            self._self_subject.takes_receiver = True

    def _around(self, wrapped: Any) -> TracedFunction:
        if wrapped is self.__wrapped__:
            return self
        node = TracedFunction.__new__(TracedFunction)
        wrapt.FunctionWrapper.__init__(node, wrapped, self._self_wrapper, enabled=SWITCH)  # type: ignore[arg-type]
        node._self_subject = self._self_subject
        return node


class TracedObject(_Stand, wrapt.CallableObjectProxy):  # type: ignore[type-arg]
    """An object with a ``__call__`` of its own, traced. It binds to no instance, as such an object does not either."""

    __slots__ = ()
    __annotations__ = _ANNOTATIONS

    def __init__(self, wrapped: Any, make_subject: Callable[[], Subject]) -> None:
        super().__init__(wrapped)
        self._self_wrapper = wrapper_for(wrapped, Subject.made_later(partial(_make_if_on, make_subject)))

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the object."""
        if not SWITCH:
            return self.__wrapped__(*args, **kwargs)
        return self._self_wrapper(self.__wrapped__, None, args, kwargs)

    def _around(self, wrapped: Any) -> Any:
        if wrapped is self.__wrapped__:
            return self
        node = type(self).__new__(type(self))
        wrapt.CallableObjectProxy.__init__(node, wrapped)
        node._self_wrapper = self._self_wrapper
        return node


def _traced_object(target: Any, make_subject: Callable[[], Subject]) -> Any:
    """Trace an object through a class that is named and documented as the object's own: `help` shows it."""
    cls = type(target)
    shown = {
        "__module__": cls.__module__,
        "__doc__": cls.__doc__,
        "__qualname__": cls.__qualname__,
        "__slots__": (),
        "__annotations__": _ANNOTATIONS,
    }
    return types.new_class(cls.__name__, (TracedObject,), exec_body=lambda body: body.update(shown))(
        target, make_subject
    )


def _find(module: str | None, name: str) -> Any:
    """Return what a module has under a qualified name, or None."""
    found: Any = sys.modules.get(module or "")
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _itself(value: Any) -> Any:
    """Take a pickled callable back: one that no module has under its name travels without its decorator."""
    return value


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
) -> Any:
    """Make a function a node, whose calls are recorded while tracing is on.

    Use it bare (``@traced_node``) or called (``@traced_node(component="payments")``), on functions, coroutine
    functions, generators, async generators, methods, class methods, static methods, and on classes, where it
    wraps the public methods that the class itself defines.

    Args:
        function: what is decorated.
        component: component_id of its steps; default: the name of its module.
        operation: operation of its steps; default: its qualified name.
        node_id: node_id of its steps; default: component and operation, joined with a dot.
        capture_inputs: keep payloads beside their hashes; None follows the configuration.
        redact: parameter, key and field names whose values are hidden, added to the built-in ones.
        expected_errors: exceptions that are part of its contract: recorded in the step, no failure.

    Returns:
        The same function or class for every purpose of the caller; without ``function``, a decorator.

    Raises:
        TypeError: what is decorated can't be called, or an option is of the wrong type.
    """
    options = _Options(component, operation, node_id, capture_inputs, redact, expected_errors)
    if function is _NOTHING:
        return options.apply
    return options.apply(function)


class _Options:
    """What a decorator was given, checked."""

    __slots__ = ("capture_inputs", "component", "expected_errors", "node_id", "operation", "redact")

    def __init__(
        self,
        component: str | None,
        operation: str | None,
        node_id: str | None,
        capture_inputs: bool | None,
        redact: Iterable[str],
        expected_errors: type[BaseException] | tuple[type[BaseException], ...],
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

    def apply(self, target: Any) -> Any:
        """Wrap a callable, or the public methods of a class."""
        if isinstance(target, type):
            return self._apply_to_class(target)
        if not callable(target) and not isinstance(target, classmethod | staticmethod):
            raise TypeError(f"traced_node takes a function, a method or a class, not {target!r:.80}")
        start_if_asked()
        return self._wrap(target)

    def _wrap(self, target: Any) -> Any:
        """Wrap a callable so that what comes out is of the same kind."""
        kind = type(target)
        if kind in (classmethod, staticmethod) and callable(target.__func__):
            inner = TracedFunction(target.__func__, partial(self._subject, target), kind is classmethod)
            return _with_attributes(kind(inner), target)
        if kind is MethodType and type(target.__func__) is FunctionType:
            inner = TracedFunction(target.__func__, partial(self._subject, target.__func__), True)
            return MethodType(inner, target.__self__)
        if kind is partial:
            inner = TracedFunction(target.func, partial(self._subject, target.func))
            return _with_attributes(partial(inner, *target.args, **target.keywords), target)
        if kind in _ROUTINES or any("__get__" in vars(base) for base in kind.__mro__):
            return TracedFunction(target, partial(self._subject, target))
        return _traced_object(target, partial(self._subject, target))

    def _apply_to_class(self, cls: type) -> type:
        for name, member in list(vars(cls).items()):
            if not name.startswith("_") and _is_method(member):
                node = self.apply(member)
                setattr(cls, name, node)
                if isinstance(node, TracedFunction):
                    node.__set_name__(cls, name)
        return cls

    def _subject(self, target: Any) -> Subject:
        from flowtrace.calls import Node
        from flowtrace.lifecycle import node_subject

        function = target.__func__ if _is_descriptor(target) else target
        component = self.component or _text(function, "__module__") or "unknown"
        operation = self.operation or _text(function, "__qualname__") or type(function).__qualname__
        node = Node(
            component,
            operation,
            self.node_id or f"{component}.{operation}",
            function=function,
            has_receiver=isinstance(function, FunctionType) and not isinstance(target, staticmethod),
            capture_inputs=self.capture_inputs,
            redact=self.redact,
            expected_errors=self.expected_errors,
        )
        return node_subject(node)


def _is_descriptor(target: Any) -> bool:
    return isinstance(target, classmethod | staticmethod)


def _with_attributes(new: Any, old: Any) -> Any:
    """Give an object that stands for another one the attributes that users set on that one."""
    for name, value in vars(old).items():
        vars(new).setdefault(name, value)
    return new


def _names_receiver(function: Any) -> bool:
    """Tell by its name that a function's first parameter takes a receiver, where no class says so."""
    if type(function) is not FunctionType:
        return False
    scope = function.__qualname__.rpartition(".")[0]
    code = function.__code__
    return bool(scope) and scope[-1] != ">" and code.co_argcount > 0 and code.co_varnames[0] in _RECEIVERS


def _is_method(member: Any) -> bool:
    """Tell whether a class attribute is a method that no node wraps yet; other attributes are not touched."""
    kind = type(member)  # isinstance would ask the attribute itself, which may be a lazy object
    if issubclass(kind, classmethod | staticmethod):
        member, kind = member.__func__, type(member.__func__)
    if issubclass(kind, TracedFunction):
        return False
    return kind is FunctionType or (issubclass(kind, wrapt.ObjectProxy) and isinstance(member, FunctionType))


def _text(function: Any, name: str) -> str | None:
    try:
        value = getattr(function, name, None)
    except Exception:  # a callable object with a __getattr__ of its own
        return None
    return value if isinstance(value, str) else None


def _checked_names(redact: Iterable[str]) -> tuple[str, ...]:
    names: tuple[Any, ...] = (None,)
    if isinstance(redact, Iterable) and not isinstance(redact, str):
        names = tuple(redact)
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"traced_node: redact must be a sequence of names, not {redact!r:.80}")
    return names


def _checked_errors(errors: Any) -> tuple[type[BaseException], ...]:
    found = errors if isinstance(errors, tuple) else (errors,)
    if all(isinstance(error, type) and issubclass(error, BaseException) for error in found):
        return found
    raise TypeError(f"traced_node: expected_errors must be an exception class or a tuple of them, not {errors!r:.80}")


def start_if_asked() -> None:
    """Where the environment asks for tracing, begin now: a failure before the first call must be seen too."""
    if is_unread() and environment_speaks():
        _make_if_on(lambda: None)


def _make_if_on(make_subject: Callable[[], Subject | None]) -> Subject | None:
    """Read the environment where nobody has, and load the recorder if it is on; the host never sees this fail."""
    try:
        if not may_be_on():
            return None
        from flowtrace.runtime import ensure

        return None if ensure().is_off else make_subject()
    except Exception as error:
        from flowtrace.log import internal_fault

        internal_fault("load the recorder", error)
        return None
