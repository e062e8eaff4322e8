"""The wrapt proxies around traced callables: shown, bound, pickled and copied as the callable itself is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from copy import copy, deepcopy
from functools import lru_cache, partial
from inspect import signature
from operator import attrgetter, itemgetter
from types import FunctionType, MethodType, new_class
from typing import TYPE_CHECKING, Any, Final

import wrapt

from flowtrace.calls.core import NATIVE, Subject, kind_of
from flowtrace.host.objects import MISSING, RECEIVER_NAMES, class_attribute
from flowtrace.host.signals import let_through
from flowtrace.host.switch import SWITCH
from flowtrace.instrument.subjects import if_on

if NATIVE is None:
    from flowtrace.calls.pure import wrapper_for

MakeSubject = Callable[[Any], Subject]
"""Takes a callable, and makes the subject that its calls are recorded as."""
_BINDING: Final[Any] = class_attribute(wrapt.FunctionWrapper, "_self_binding")
"""Where wrapt, in C, says how a wrapper binds; MISSING in its Python twin, where each wrapper says so itself."""
_IMPLICIT: Final[dict[str, type]] = {
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


# Each wrapper's class has it: else the first look at the *class's* annotations would put an empty dictionary there,
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
        receiver = getattr(self.__wrapped__, "__self__", None)
        copied = deepcopy(receiver, memo)
        return self if copied is receiver else self._self_parent.__get__(copied, type(copied))


def _shown_binding(self: Any) -> str:
    """Return how a decorator made with wrapt binds when it is around one of ours: as it would around the callable."""
    binding: str = _BINDING.__get__(self)
    return "function" if type(self.__wrapped__) is FunctionType else binding


class _StandIn:
    """A wrapper that is shown, pickled and copied as the callable that it wraps."""

    __slots__ = ()

    if not TYPE_CHECKING:

        @property
        def __class__(self) -> type:
            """The class of the callable; only cloudpickle sees the real one, as `traced_class` in C says."""
            frame = sys._getframe().f_back
            is_asked = frame and frame.f_code.co_name == "reducer_override" and _BY_REFERENCE[0] in frame.f_globals
            return type(self) if is_asked else self.__wrapped__.__class__

    def __repr__(self: Any) -> str:
        return repr(self.__wrapped__)

    def __reduce_ex__(self: Any, protocol: object) -> Any:
        return _reduced(self)

    def __copy__(self: Any) -> Any:
        return self._around(copy(self.__wrapped__))

    def __deepcopy__(self: Any, memo: dict[int, Any]) -> Any:
        return self._around(deepcopy(self.__wrapped__, memo))

    def _around(self: Any, wrapped: Any) -> Any:
        """Return the same node around a copy of its callable; functions are never copied."""
        raise NotImplementedError


class TracedFunction(_StandIn, wrapt.FunctionWrapper):  # type: ignore[type-arg]
    """A callable whose calls are recorded while the switch is on, and which is that callable in everything else.

    Args:
        wrapped: the callable.
        make_subject: takes ``wrapped`` and makes the subject that its calls are recorded as.
        takes_receiver: whether its first argument is no part of the payload; None means that its names decide.
        is_bound: its first argument is always the receiver, even where that is a number or a text.
    """

    __slots__ = ()
    __annotations__ = _ANNOTATIONS
    __bound_function_wrapper__ = _BoundTracedFunction

    def __init__(
        self,
        wrapped: Any,
        make_subject: MakeSubject,
        takes_receiver: bool | None = None,
        is_bound: bool = False,
    ) -> None:
        subject = Subject.made_later(partial(if_on, make_subject, wrapped))
        function = getattr(wrapped, "__func__", wrapped) if isinstance(wrapped, classmethod | staticmethod) else wrapped
        wrapper = _wrapper_for(function, subject)
        if type(wrapped) is FunctionType:
            # To wrapt, a "builtin" has no __self__ to look for: a failed look costs more than all the rest of its call.
            binding = "function" if _BINDING is MISSING else "builtin"
            super(wrapt.FunctionWrapper, self).__init__(wrapped, None, wrapper, SWITCH, binding)  # type: ignore[call-arg]
        else:
            super().__init__(wrapped, wrapper, enabled=SWITCH)  # type: ignore[arg-type]  # only its truth is looked at
        self._self_subject = subject
        self._self_make_subject = make_subject
        subject.takes_receiver = _names_receiver(wrapped) if takes_receiver is None else takes_receiver
        subject.is_bound = is_bound

    if _BINDING is not MISSING:
        _self_binding = property(_shown_binding)  # pyright: ignore[reportAssignmentType]

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Bind as a function does: to a real method, which costs less than a bound wrapper too."""
        if type(self.__wrapped__) is FunctionType:  # what binds in its own way is bound by wrapt
            return self if instance is None else MethodType(self, instance)
        return super().__get__(instance, owner)

    def __set_name__(self, owner: type, name: str) -> None:
        """Note that this is a method; and treat ``__new__`` and its like as the class would treat a plain function."""
        super().__set_name__(owner, name)  # type: ignore[misc]  # wrapt has it, its stubs do not
        function = self.__wrapped__
        if type(function) is not FunctionType:
            return
        is_own = function.__qualname__.rpartition(".")[0] == owner.__qualname__
        if is_own:
            self._self_subject.takes_receiver = True
        if name in _IMPLICIT:
            setattr(owner, name, _IMPLICIT[name](self))

    def _around(self, wrapped: Any) -> TracedFunction:
        if wrapped is self.__wrapped__:
            return self
        subject = self._self_subject
        return TracedFunction(wrapped, self._self_make_subject, subject.takes_receiver, subject.is_bound)


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
        return own(cls, name) if isinstance(vars(_StandIn).get(name), FunctionType) else getattr(shown, name)


class _TracedObject(_StandIn):
    """An object with a ``__call__`` of its own, traced. It binds to no instance, as such an object does not either.

    Each has a class of its own, with the special methods that the object's class has and no others. A property that is
    read by `attrgetter` takes each from the object: so no frame of ours is under the object's methods.
    """

    __slots__ = ("__weakref__", "__wrapped__", "_self_call", "_self_delete", "_self_get", "_self_make", "_self_set")

    def _around(self: Any, wrapped: Any) -> Any:
        return self if wrapped is self.__wrapped__ else traced_object(wrapped, self._self_make)


_TAKEN: Final = {
    "__call__": property(attrgetter("_self_call")),
    "__getattr__": property(attrgetter("_self_get")),
    "__setattr__": property(attrgetter("_self_set")),
    "__delattr__": property(attrgetter("_self_delete")),
    "__class__": property(attrgetter("__wrapped__.__class__")),
    "__annotations__": _ANNOTATIONS,
}
_NOT_TAKEN: Final = (
    frozenset(vars(_StandIn))
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


def traced(wrapped: Any, make_subject: MakeSubject, takes_receiver: bool | None = None, is_bound: bool = False) -> Any:
    """Return what stands for a callable: a function of the native core where it binds as functions do.

    Args:
        wrapped: the callable.
        make_subject: takes ``wrapped`` and makes the subject that its calls are recorded as.
        takes_receiver: whether its first argument is no part of the payload; None means that its names decide.
        is_bound: its first argument is always the receiver, even where that is a number or a text.
    """
    if NATIVE is None or type(wrapped) not in _BIND_AS_FUNCTIONS:
        return TracedFunction(wrapped, make_subject, takes_receiver, is_bound)
    subject = Subject.made_later(partial(if_on, make_subject, wrapped))
    subject.takes_receiver = _names_receiver(wrapped) if takes_receiver is None else takes_receiver
    subject.is_bound = is_bound
    return NATIVE.traced_function(wrapped, subject, kind_of(wrapped))


def _wrapper_for(function: Any, subject: Subject) -> Any:
    """Return what wrapt's wrappers call."""
    if NATIVE is not None:
        return NATIVE.recorder(subject, kind_of(function))
    return wrapper_for(kind_of(function), subject)  # pyright: ignore[reportPossiblyUnboundVariable]


def is_traced(value: Any) -> bool:
    """Return True if a value stands for a callable whose calls are recorded; no code of the value is run."""
    return _is_native(value) or issubclass(type(value), TracedFunction)


def subject_of(value: Any) -> Subject:
    """Return the subject of a traced function.

    Raises:
        TypeError: it is none.
    """
    if type(value) is not TracedFunction and not _is_native(value):
        raise TypeError(f"{type(value).__name__} is not the type of a traced function")
    if NATIVE is None or type(value) is TracedFunction:
        return value._self_subject  # type: ignore[no-any-return]  # pyright: ignore[reportPrivateUsage]
    return NATIVE.subject_of(value)  # type: ignore[no-any-return]


def _is_native(value: Any) -> bool:
    return NATIVE is not None and type(value) is NATIVE.function


def is_proxied_function(member: Any) -> bool:
    """Return True if an attribute of a class is a function behind another decorator made with wrapt."""
    return issubclass(type(member), wrapt.ObjectProxy) and isinstance(member, FunctionType)


def text_attribute(function: Any, name: str) -> str | None:
    """Return an attribute that is text, or None."""
    try:
        value = getattr(function, name, None)
    except BaseException as error:  # a callable object with a __getattr__ of its own
        let_through(error)
        return None
    return value if isinstance(value, str) else None


def _look_up(module: str | None, name: str) -> Any:
    """Return the object that a module has under a qualified name, or None."""
    found: Any = sys.modules.get(module or "")
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _reduced(traced: Any) -> Any:
    """Return how a traced callable is pickled: by its name, as a function is.

    Where the name leads to the undecorated callable, that one is pickled, by a call that returns its argument. A
    function of ours in its place would tie pickles to the module that has it. Where a pickler takes functions apart and
    sends them by value, the decorator goes along, and is left out where flowtrace can't be imported.
    """
    is_by_value = False
    try:
        is_by_value = _goes_by_value(traced)
        if is_by_value:
            return _ARRIVE, (traced.__wrapped__, *_decorator_of(traced))
    except Exception as error:  # an unknown version of the pickler, or of the decorator
        let_through(error)
    if is_by_value:
        return itemgetter(0), ((traced.__wrapped__,),)
    name = text_attribute(traced.__wrapped__, "__qualname__")
    found = None if name is None else _look_up(text_attribute(traced.__wrapped__, "__module__"), name)
    if name is not None and (found is traced or (found is not traced.__wrapped__ and _is_native(traced))):
        return name
    return itemgetter(0), ((_Carried(traced) if _is_native(traced) else traced.__wrapped__,),)


_BY_REFERENCE: Final = ("_should_pickle_by_reference", "_locate_function")
"""What cloudpickle and dill, and the copies of them in other packages, ask whether they send a function by its name."""


def _goes_by_value(traced: Any) -> bool:
    """Return True if this is called for a pickler that will not send a function by its name."""
    frame = sys._getframe(1).f_back  # pyright: ignore[reportPrivateUsage]
    for _ in range(2):  # the caller of `_reduced`, or of a ``__reduce_ex__`` in Python
        if frame is None:
            break
        if frame.f_code.co_name in ("dump", "save"):
            for base in type(frame.f_locals.get("self")).__mro__:
                home = vars(sys.modules.get(base.__module__, sys))
                for ask in filter(None, map(home.get, _BY_REFERENCE)):
                    return isinstance(traced.__wrapped__, FunctionType) and not ask(traced)
        frame = frame.f_back
    return False


def _decorator_of(traced: Any) -> tuple[str, dict[str, Any], bool]:
    """Return the name of a traced function's decorator, its arguments, and whether the function is a static method."""
    make = subject_of(traced)._make.args[0]  # type: ignore[attr-defined]
    is_static = type(make) is partial and make.keywords["is_static"]
    decorator = getattr(make.func if type(make) is partial else make, "__self__")  # noqa: B009
    return (*decorator._again(), is_static)


# A pickler must not find it by a name of ours, so that it takes it apart as well.
_ARRIVAL: Final = """
def arrive(function, decorator, arguments, is_static):
    try:
        import flowtrace
        decorate = getattr(flowtrace, decorator)(**arguments)
    except (ImportError, AttributeError, TypeError):  # it is not installed here, or an older one is
        return function
    return decorate(staticmethod(function)).__func__ if is_static else decorate(function)
"""


def _made_arrival() -> Any:
    names: dict[str, Any] = {"__name__": "flowtrace_arrival"}
    exec(_ARRIVAL, names)  # noqa: S102  # our own text
    return names["arrive"]


_ARRIVE: Final = _made_arrival()


class _Carried:
    """A function of the native core on its way into a pickle, where it is replaced by the undecorated one, or a copy.

    `copy.deepcopy` asks an object for the same as a pickler does, and a function is its own copy.
    """

    __slots__ = ("traced",)

    def __init__(self, traced: Any) -> None:
        self.traced = traced

    def __reduce__(self) -> Any:
        return itemgetter(0), ((self.traced.__wrapped__,),)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self.traced


def _names_receiver(function: Any) -> bool:
    """Return True if the name of a function's first parameter is that of a receiver, where no class says more."""
    if type(function) is not FunctionType:
        return False
    scope = function.__qualname__.rpartition(".")[0]
    code = function.__code__
    return bool(scope) and scope[-1] != ">" and code.co_argcount > 0 and code.co_varnames[0] in RECEIVER_NAMES


_BIND_AS_FUNCTIONS: Final = frozenset({FunctionType, type(lru_cache(_look_up)), *([NATIVE.function] if NATIVE else [])})
_OWN_NAMES: Final = frozenset(("__wrapped__", "__call__", "__get__", "__reduce__", "__reduce_ex__")).union(
    ("__hash__", "__eq__", "__ne__", "__repr__", "__str__")
)
_OWN_BODY_NAMES: Final = _OWN_NAMES.union(
    ["send", "throw", "close", "asend", "athrow", "aclose"],
    ["__next__", "__iter__", "__await__", "__aiter__", "__anext__"],
)
if NATIVE is not None:
    NATIVE.connect(SWITCH, _OWN_NAMES.union(["__class__"]), _OWN_BODY_NAMES, _reduced)
