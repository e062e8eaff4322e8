"""The wrapt proxies around traced callables: shown, bound, pickled and copied as the callable itself is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from copy import copy, deepcopy
from functools import lru_cache, partial
from operator import attrgetter, itemgetter
from types import CodeType, FunctionType, MethodType
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
_TARGET: Final[Any] = class_attribute(wrapt.FunctionWrapper, "__wrapped__")
"""Where wrapt, in C, keeps what it calls; MISSING in its Python twin, where that is an attribute like any other."""
_IMPLICIT: Final[dict[str, type]] = {
    "__new__": staticmethod,
    "__init_subclass__": classmethod,
    "__class_getitem__": classmethod,
}


def _annotations(self: Any) -> Any:
    return self._self_target.__annotations__


def _set_annotations(self: Any, value: Any) -> None:
    self._self_target.__annotations__ = value


def _delete_annotations(self: Any) -> None:
    del self._self_target.__annotations__


# Each wrapper's class has it: else the first look at the *class's* annotations would put an empty dictionary there,
# and from then on every wrapper would show that one.
ANNOTATIONS: Any = property(_annotations, _set_annotations, _delete_annotations)


def _set_dict(self: Any, value: Any) -> None:
    self._self_target.__dict__ = value


def _wrapped(self: Any) -> Any:
    target = self._self_target
    return getattr(target, "__wrapped__", target)


def _set_wrapped(self: Any, value: Any) -> None:
    self._self_target.__wrapped__ = value


def _delete_wrapped(self: Any) -> None:
    del self._self_target.__wrapped__


def _take_target(self: Any, value: Any) -> None:
    self.__wrapped__ = value


# `functools.wraps` sets ``__wrapped__``, and a cache leads to the function under it: it is the function's own where
# that has one, and what is called is under a name of ours.
_WRAPPED: Any = property(_wrapped, _set_wrapped, _delete_wrapped)
_OWN_TARGET: Any = property(attrgetter("__wrapped__"), _take_target) if _TARGET is MISSING else _TARGET


class _BoundTracedFunction(wrapt.BoundFunctionWrapper):  # type: ignore[type-arg]  # not subscriptable when it runs
    """A traced function that was reached through an instance or a class."""

    __slots__ = ()
    __annotations__ = ANNOTATIONS
    _self_target = _OWN_TARGET
    if _TARGET is not MISSING:
        __wrapped__ = _WRAPPED

    if not TYPE_CHECKING:

        def __getattribute__(self, name: str) -> Any:
            """Ask what was bound, as a program does without us: wrapt asks what it was bound from first."""
            if name.startswith("_self_") or name in _OWN_NAMES:
                return super().__getattribute__(name)
            return getattr(self._self_target, name)

    def __repr__(self) -> str:
        return repr(self._self_target)

    def __reduce_ex__(self, protocol: object) -> Any:
        receiver = getattr(self._self_target, "__self__", None)
        owner = self._self_owner if receiver is None else receiver
        return getattr, (owner, self._self_target.__name__)

    def __copy__(self) -> _BoundTracedFunction:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        receiver = getattr(self._self_target, "__self__", None)
        copied = deepcopy(receiver, memo)
        return self if copied is receiver else self._self_parent.__get__(copied, type(copied))


def _shown_binding(self: Any) -> str:
    """Return how a decorator made with wrapt binds when it is around one of ours: as it would around the callable."""
    binding: str = _BINDING.__get__(self)
    return "function" if type(self._self_target) is FunctionType else binding


class StandIn:
    """A wrapper that is shown, pickled and copied as the callable that it wraps."""

    __slots__ = ()

    if not TYPE_CHECKING:

        @property
        def __class__(self) -> type:
            """The class of the callable; only cloudpickle sees the real one, as `traced_class` in C says."""
            frame = sys._getframe().f_back
            is_asked = frame and frame.f_code.co_name == "reducer_override" and _BY_REFERENCE[0] in frame.f_globals
            return type(self) if is_asked else self._self_target.__class__

    def __repr__(self: Any) -> str:
        return repr(self._self_target)

    def __reduce_ex__(self: Any, protocol: object) -> Any:
        return _reduced(self)

    def __copy__(self: Any) -> Any:
        return self._around(copy(self._self_target))

    def __deepcopy__(self: Any, memo: dict[int, Any]) -> Any:
        return self._around(deepcopy(self._self_target, memo))

    def _around(self: Any, wrapped: Any) -> Any:
        """Return the same node around a copy of its callable; functions are never copied."""
        raise NotImplementedError


class TracedFunction(StandIn, wrapt.FunctionWrapper):  # type: ignore[type-arg]
    """A callable whose calls are recorded while the switch is on, and which is that callable in everything else.

    Args:
        wrapped: the callable.
        make_subject: takes ``wrapped`` and makes the subject that its calls are recorded as.
        takes_receiver: whether its first argument is no part of the payload; None means that its names decide.
        is_bound: its first argument is always the receiver, even where that is a number or a text.
    """

    __slots__ = ()
    __annotations__ = ANNOTATIONS
    __bound_function_wrapper__ = _BoundTracedFunction
    __dict__ = property(attrgetter("_self_target.__dict__"), _set_dict)  # pyright: ignore[reportAssignmentType]  # wrapt's can't be set
    _self_target = _OWN_TARGET
    if _TARGET is not MISSING:
        __wrapped__ = _WRAPPED

    if not TYPE_CHECKING:

        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            """Make a wrapper; for ``type(f)(code, globals)``, a plain function, as of the type of one."""
            if kwargs or type(args[0] if args else None) is CodeType:
                return FunctionType(*args, **kwargs)
            return super().__new__(cls, *args)

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
        kind = type(self._self_target)
        if kind is FunctionType or (self._self_subject.takes_receiver and not hasattr(kind, "__get__")):
            return self if instance is None else MethodType(self, instance)
        return super().__get__(instance, owner)  # what binds in its own way is bound by wrapt

    def __set_name__(self, owner: type, name: str) -> None:
        """Note that this is a method; and treat ``__new__`` and its like as the class would treat a plain function."""
        function = self._self_target
        if type(function) is not FunctionType:  # of a function, Python never asks for it
            super().__set_name__(owner, name)  # type: ignore[misc]  # wrapt has it, its stubs do not
            return
        is_own = function.__qualname__.rpartition(".")[0] == owner.__qualname__
        if is_own:
            self._self_subject.takes_receiver = True
        if name in _IMPLICIT:
            type.__setattr__(owner, name, _IMPLICIT[name](self))  # a metaclass sees nothing set, as of a plain function

    def _around(self, wrapped: Any) -> TracedFunction:
        if wrapped is self._self_target:
            return self
        subject = self._self_subject
        return TracedFunction(wrapped, self._self_make_subject, subject.takes_receiver, subject.is_bound)


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


def target_of(traced: Any) -> Any:
    """Return the callable that a traced one stands for."""
    return _NATIVE_TARGET.__get__(traced) if _is_native(traced) else traced._self_target


def call_instead(traced: Any, function: Any) -> None:
    """Let a traced function call another one from now on."""
    if _is_native(traced):
        _NATIVE_TARGET.__set__(traced, function)
    else:
        traced._self_target = function


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
            return _ARRIVE, (target_of(traced), *_decorator_of(traced))
    except Exception as error:  # an unknown version of the pickler, or of the decorator
        let_through(error)
    if is_by_value:
        return itemgetter(0), ((target_of(traced),),)
    name = text_attribute(target_of(traced), "__qualname__")
    found = None if name is None else _look_up(text_attribute(target_of(traced), "__module__"), name)
    if name is not None and (found is traced or (found is not target_of(traced) and _is_native(traced))):
        return name
    return itemgetter(0), ((_Carried(traced) if _is_native(traced) else target_of(traced),),)


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
                    return isinstance(target_of(traced), FunctionType) and not ask(traced)
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
        return itemgetter(0), ((target_of(self.traced),),)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self.traced


def _names_receiver(function: Any) -> bool:
    """Return True if the name of a function's first parameter is that of a receiver, where no class says more."""
    if type(function) is not FunctionType:
        return False
    scope = function.__qualname__.rpartition(".")[0]
    code = function.__code__
    return bool(scope) and scope[-1] != ">" and code.co_argcount > 0 and code.co_varnames[0] in RECEIVER_NAMES


_NATIVE_TARGET: Final[Any] = NATIVE and vars(NATIVE.function)["_self_target"]
_BIND_AS_FUNCTIONS: Final = frozenset({FunctionType, type(lru_cache(_look_up)), *([NATIVE.function] if NATIVE else [])})
_OWN_NAMES: Final = frozenset(
    ("__wrapped__", "__call__", "__get__", "__reduce__", "__reduce_ex__", "__deepcopy__")
).union(("__hash__", "__eq__", "__ne__", "__repr__", "__str__"))
_OWN_BODY_NAMES: Final = _OWN_NAMES.union(
    ["send", "throw", "close", "asend", "athrow", "aclose"],
    ["__next__", "__iter__", "__await__", "__aiter__", "__anext__"],
)
if NATIVE is not None:
    NATIVE.connect(SWITCH, _OWN_NAMES.union(["__class__"]), _OWN_BODY_NAMES, _reduced)
