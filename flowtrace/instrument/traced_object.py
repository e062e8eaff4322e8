"""Traced objects that have a ``__call__`` of their own: each looks like the object that is called."""

from __future__ import annotations

from functools import partial
from inspect import signature
from operator import attrgetter
from types import FunctionType, new_class
from typing import Any, Final

from flowtrace.calls.core import NATIVE, Subject, kind_of
from flowtrace.instrument.proxies import ANNOTATIONS, MakeSubject, StandIn, TracedFunction
from flowtrace.instrument.subjects import if_on


class _ShownAs(type):
    """The class of a traced object. `help` looks at an object's class, and sees the one of the object.

    The interpreter itself never asks a class in this way.
    """

    def __getattribute__(cls, name: str) -> Any:
        own = type.__getattribute__
        shown = own(cls, "_shown")
        if name == "__mro__":
            return (cls, *shown.__mro__[1:])
        if name == "__signature__":
            return signature(shown)
        return own(cls, name) if isinstance(vars(StandIn).get(name), FunctionType) else getattr(shown, name)


class _TracedObject(StandIn):
    """An object with a ``__call__`` of its own, traced. It binds to no instance, as such an object does not either.

    Each has a class of its own, with the special methods that the object's class has and no others. A property that is
    read by `attrgetter` takes each from the object: so no frame of ours is under the object's methods.
    """

    __slots__ = ("__weakref__", "__wrapped__", "_self_call", "_self_delete", "_self_get", "_self_make", "_self_set")

    _self_target = property(attrgetter("__wrapped__"))

    def _around(self: Any, wrapped: Any) -> Any:
        return self if wrapped is self._self_target else traced_object(wrapped, self._self_make)


_TAKEN: Final = {
    "__call__": property(attrgetter("_self_call")),
    "__getattr__": property(attrgetter("_self_get")),
    "__setattr__": property(attrgetter("_self_set")),
    "__delattr__": property(attrgetter("_self_delete")),
    "__class__": property(attrgetter("__wrapped__.__class__")),
    "__annotations__": ANNOTATIONS,
}
_NOT_TAKEN: Final = (
    frozenset(vars(StandIn))
    .difference(["__repr__"])
    .union(_TAKEN)
    .union(["__new__", "__init_subclass__", "__subclasshook__", "__class_getitem__", "__getattribute__", "__weakref__"])
)


def traced_object(target: Any, make_subject: MakeSubject) -> Any:
    """Trace an object with a ``__call__``, by a class that looks like the object's own.

    Args:
        target: the object.
        make_subject: takes it and makes the subject that its calls are recorded as.
    """
    cls = type(target)
    special = {name: value for base in reversed(cls.__mro__) for name, value in vars(base).items() if _is_special(name)}
    taken = {
        name: None if value is None else property(attrgetter(f"__wrapped__.{name}"))
        for name, value in special.items()
        if name not in _NOT_TAKEN and (value is None or callable(value))
    }
    own = {"_shown": cls, "__slots__": (), "__doc__": cls.__doc__, "__module__": cls.__module__}
    made = new_class(
        cls.__name__, (_TracedObject,), {"metaclass": _ShownAs}, lambda body: body.update(taken | _TAKEN | own)
    )
    node: Any = object.__new__(made)
    parts = {"__wrapped__": target, "_self_call": _calls_of(target, make_subject), "_self_make": make_subject}
    parts |= {"_self_get": partial(getattr, target), "_self_set": partial(setattr, target)}
    parts["_self_delete"] = partial(delattr, target)
    for name, part in parts.items():
        object.__setattr__(node, name, part)
    return node


def _calls_of(target: Any, make_subject: MakeSubject) -> Any:
    """Return what a traced object does when it is called."""
    if NATIVE is None:
        return TracedFunction(target, make_subject, False)
    return NATIVE.traced_function(target, Subject.made_later(partial(if_on, make_subject, target)), kind_of(target))


def _is_special(name: str) -> bool:
    return name[:2] == name[-2:] == "__"
