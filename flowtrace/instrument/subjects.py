"""The functions that the wrappers call, for a node or for a flow; the recorder is loaded when one first needs it.

Nothing of the recorder is imported before something asks for tracing: a program that only imports decorated functions
pays for none of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from flowtrace.host.objects import NO_RECEIVERS
from flowtrace.host.safe_loading import REFUSAL, is_main, load_once
from flowtrace.host.switch import environment_may_enable, is_unread, may_be_on, turn_off

if TYPE_CHECKING:
    from flowtrace.recording.current import Scope
    from flowtrace.recording.node import Node

T = TypeVar("T")
_FUNCTIONS: Final = ("begin", "emit", "end", "end_stream", "fail", "prepare", "resume", "start", "suspend")


class Subject:
    """A node, whose calls are recorded as steps, or a flow, whose calls are recorded as runs.

    None of its functions may raise an Exception.

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
        no_receivers: identities of classes whose objects are no receivers all the same, as in ``Unbound.double(3)``.
    """

    __slots__ = (*_FUNCTIONS, "_make", "no_receivers", "takes_receiver", "target")

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
    no_receivers: frozenset[int]
    _make: Callable[[], Subject | None]

    def __init__(self, target: Any = None, **functions: Callable[..., Any]) -> None:
        self.target = target
        self.takes_receiver = False
        self.no_receivers = NO_RECEIVERS
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
        for name in ("target", *_FUNCTIONS):
            setattr(self, name, getattr(made, name))
        return True


def _load_and_begin(subject: Subject, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool) -> Any:
    return subject.begin(subject, args, kwargs, bound) if subject.load() else None


def _load_and_prepare(subject: Subject, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool) -> Any:
    return subject.prepare(subject, args, kwargs, bound) if subject.load() else None


# --- loading the recorder


def if_on(make: Callable[..., T | None], *arguments: object) -> T | None:
    """Make something where tracing is on; the first call of this in a process reads the environment. Never raises.

    Args:
        make: makes what is needed of the recorder.
        *arguments: its arguments.

    Returns:
        What was made; None where tracing is off or something of ours failed.
    """
    try:
        if not may_be_on():
            return None
        if not load_once(_load):
            turn_off()
            return None
        if not is_main():
            turn_off()
            from flowtrace.host.log import warn

            warn(f"{REFUSAL}: tracing is off here")
            return None
        from flowtrace.recording.process import global_recorder

        return None if global_recorder().is_off else make(*arguments)
    except Exception as error:
        from flowtrace.host.log import internal_fault

        internal_fault("load the recorder", error)
        return None


def start_if_asked() -> None:
    """Load the recorder now if the environment asks for tracing: a failure before the first call must be seen too."""
    if is_unread() and environment_may_enable():
        if_on(lambda: None)


def is_ready() -> bool:
    """Return True if tracing may be on, with all that a flow needs loaded."""
    start_if_asked()
    return may_be_on() and load_once(_load)


def _load() -> None:
    """Load all that a call needs, at once; nothing in a subinterpreter."""
    if is_main():
        from flowtrace.instrument import wrappers
        from flowtrace.recording import hot_path as hot_path
        from flowtrace.recording.state import STATE

        STATE.wrapper_globals = wrappers.__dict__


def node_subject(node: Node) -> Subject:
    """Return a node as the wrappers see it: its calls become steps."""
    from flowtrace.recording import hot_path

    return Subject(node, **{name: getattr(hot_path, name) for name in _FUNCTIONS})


def flow_subject(make_scope: Callable[[], Scope | None]) -> Subject:
    """Return a flow as the wrappers see it: each body runs in a scope of its own.

    Args:
        make_scope: makes a scope; None where tracing is off.
    """
    from flowtrace.recording.hot_path import resume, suspend
    from flowtrace.recording.process import close_flow

    def begin_scope(_subject: Subject, _args: tuple[Any, ...], _kwargs: dict[str, Any], _bound: bool) -> Scope | None:
        scope = make_scope()
        if scope is not None:
            resume(scope)
        return scope

    return Subject(
        begin=begin_scope,
        prepare=lambda subject, args, kwargs, bound: make_scope(),
        start=resume,
        suspend=suspend,
        resume=resume,
        emit=lambda scope, item: suspend(scope),
        end=lambda scope, output: close_flow(scope, None),
        end_stream=lambda scope, *returned: close_flow(scope, None),
        fail=close_flow,
    )
