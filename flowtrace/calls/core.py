"""The core of a call: the implementation in C where it was built, its pure twin elsewhere; and the subject of a call.

The choice is made once, when this module is loaded: the types of traced functions depend on it. A subject is a node,
whose calls are steps, or a flow, whose calls are runs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from enum import IntEnum
from functools import partial, partialmethod
from typing import TYPE_CHECKING, Any, Final

from flowtrace.host import objects
from flowtrace.host.objects import NO_RECEIVERS
from flowtrace.host.signals import let_through
from flowtrace.host.switch import environment

_INTERFACE: Final = 19
"""Changes with what this half and the one in C ask of each other: a module left from another build is not used."""


def _load_native() -> Any:
    """Return the extension module; None where it is not wanted, was not built, or can't run in this interpreter."""
    if environment().get("FLOWTRACE_PURE", "").strip().lower() in ("1", "true", "yes", "on"):
        return None
    try:
        from flowtrace.calls import _native  # type: ignore[attr-defined]
    except ImportError:
        return None
    return _native if getattr(_native, "INTERFACE", None) == _INTERFACE else None


NATIVE: Final[Any] = _load_native()
"""The extension module; None where the pure twin runs."""


if NATIVE is not None:
    objects.TRACED_TYPES.append(NATIVE.function)
    objects.call_seen = NATIVE.call_seen
    objects.ids_of_types = NATIVE.ids_of_types


def implementation() -> str:
    """Return ``native`` or ``pure``."""
    return "pure" if NATIVE is None else "native"


class _PureStep:
    # A slot costs less than an attribute in a dictionary. None has a default: every assignment counts in every call.
    __slots__ = (
        *(
            "bound",
            "ended",
            "ended_run",
            "held",
            "input",
            "node",
            "number",
            "output",
            "owns_run",
            "parent",
            "previous",
            "rest",
        ),
        *("run", "slot", "started", "stream", "thread", "token", "__weakref__"),
    )


class _PureStream:
    __slots__ = ("hashed", "held", "is_stopped", "items", "returned")


class _PureSlot:
    __slots__ = ("at", "body", "end", "owner", "step")


class _PureEntry:
    __slots__ = ("bound_names", "defaults", "hides_result", "is_written", "names", "not_secret", "number", "owner")


if TYPE_CHECKING:
    StepBase = _PureStep
    StreamBase = _PureStream
    SlotBase = _PureSlot
    EntryBase = _PureEntry
else:
    StepBase = _PureStep if NATIVE is None else NATIVE.StepBase
    StreamBase = _PureStream if NATIVE is None else NATIVE.StreamBase
    SlotBase = _PureSlot if NATIVE is None else NATIVE.SlotBase
    EntryBase = _PureEntry if NATIVE is None else NATIVE.EntryBase


def _none() -> list[Any]:
    return []


def _nothing() -> None:
    pass


native_steps: Final[Callable[[], list[Any]]] = _none if NATIVE is None else NATIVE.listed_steps
"""Return the steps in flight that the native core has started, in the order of their starts."""
forget_native_steps: Final[Callable[[], None]] = _nothing if NATIVE is None else NATIVE.unlist_all
"""Forget them all."""


class Kind(IntEnum):
    """The body that a call gives, or none. The numbers are those of ``enum kind`` in ``native/native.h``."""

    PLAIN = 0
    COROUTINE = 1
    GENERATOR = 2
    ASYNC_GENERATOR = 3
    ITERABLE_COROUTINE = 4


_BY_FLAG: Final = (
    (inspect.CO_ITERABLE_COROUTINE, Kind.ITERABLE_COROUTINE),
    (inspect.CO_COROUTINE, Kind.COROUTINE),
    (inspect.CO_ASYNC_GENERATOR, Kind.ASYNC_GENERATOR),
    (inspect.CO_GENERATOR, Kind.GENERATOR),
)


def kind_of(function: Any) -> Kind:
    """Return the kind of a callable, by the flags of its code; what has no code counts as plain."""
    while isinstance(function, partial | partialmethod):
        function = function.func
    flags = _flags(function)
    return next((kind for flag, kind in _BY_FLAG if flags & flag), Kind.PLAIN)


def _flags(function: Any) -> int:
    try:
        flags = function.__code__.co_flags
    except BaseException as error:  # no code, or an object that answers for attributes in its own way
        let_through(error)
        return 0
    return flags if type(flags) is int else 0


FUNCTIONS: Final = ("begin", "emit", "end", "end_stream", "fail", "prepare", "resume", "start", "suspend")


class _PureBase:
    """The attributes that the native core keeps in a struct of its own."""

    __slots__ = (
        *(*FUNCTIONS, "has_live_defaults", "is_bound", "is_simple", "is_simple_unchecked", "slow_after"),
        *("takes_receiver", "target"),
    )

    begin: Callable[[Subject, tuple[Any, ...], dict[str, Any], bool], Any]
    prepare: Callable[[Subject, tuple[Any, ...], dict[str, Any], bool], Any]
    start: Callable[[Any], None]
    suspend: Callable[[Any], None]
    resume: Callable[[Any], None]
    emit: Callable[[Any, Any], None]
    end: Callable[[Any, Any], None]
    end_stream: Callable[..., None]
    fail: Callable[[Any, BaseException], None]
    target: Any
    takes_receiver: bool
    is_bound: bool
    is_simple: bool
    is_simple_unchecked: bool
    has_live_defaults: bool
    slow_after: int

    def watch(self, function: object) -> None:
        """Note what a function has now: code and defaults. Only the native core needs that."""


if TYPE_CHECKING:
    _Base = _PureBase
else:
    _Base = _PureBase if NATIVE is None else NATIVE.SubjectBase


class Subject(_Base):
    """A set of functions that record a call. None of them may raise an Exception.

    Those of a node with checks may refuse the call: `flowtrace.recording.checked` says how.

    Attributes:
        begin: takes the subject, args, kwargs and whether they leave out the receiver; starts a plain call and returns
            its step, or None where it can't be recorded.
        prepare: the same for a body that starts later.
        start: the body of the step starts.
        suspend: the body gives control to its consumer.
        resume: the body goes on.
        emit: the body yields a value, and with it control.
        end: the call returned a value.
        end_stream: the generator returned a value, or, without one, was closed.
        fail: the call ended with an exception.
        target: the node that `begin` and `prepare` need.
        takes_receiver: the function is a method, so that its first argument is no part of the payload.
        is_bound: that first argument is the receiver whatever its type is; else a value of a built-in type is none, as
            in ``Unbound.double(3)``.
        is_simple: the native core may record it on the fast path.
        is_simple_unchecked: it may do so while no values are checked.
        has_live_defaults: some default is an object that may change; the native core leaves it to Python to take it.
        slow_after: nanoseconds after which a call is slow; 0 follows the configuration.
    """

    __slots__ = ("_make",)

    _make: Callable[[], Subject | None]

    def __init__(self, target: Any = None, **functions: Callable[..., Any]) -> None:
        self.target = target
        self.takes_receiver = self.is_bound = False
        self.is_simple = self.is_simple_unchecked = self.has_live_defaults = False
        self.slow_after = 0
        for name, function in functions.items():
            setattr(self, name, function)

    @classmethod
    def made_later(cls, make: Callable[[], Subject | None]) -> Subject:
        """Return a subject that is made when the first call that is not "off" needs it.

        Args:
            make: makes the real subject; None means that this call is not recorded.
        """
        later = cls(begin=_load_and_begin, prepare=_load_and_prepare)
        later._make = make
        return later

    def load(self) -> bool:
        """Become the real subject, if this call is to be recorded."""
        made = self._make()
        if made is None:
            return False
        for name in ("target", "is_simple", "is_simple_unchecked", "has_live_defaults", "slow_after", *FUNCTIONS):
            setattr(self, name, getattr(made, name))
        self.watch(getattr(made.target, "live", None))
        return True


def leaves_out_first(subject: Subject, args: tuple[Any, ...]) -> bool:
    """Return True if the first of some arguments is the receiver, which is no part of the payload."""
    if not subject.takes_receiver or not args:
        return False
    return subject.is_bound or id(type(args[0])) not in NO_RECEIVERS


def _load_and_begin(subject: Subject, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool) -> Any:
    return subject.begin(subject, args, kwargs, bound) if subject.load() else None


def _load_and_prepare(subject: Subject, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool) -> Any:
    return subject.prepare(subject, args, kwargs, bound) if subject.load() else None
