"""The four shapes of a call, each wrapped so that the caller can't tell: plain, coroutine, generator, async generator.

Every wrapper takes wrapt's four arguments. What it records is a *subject*: a node, whose calls become steps, or a
flow, whose calls become runs.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, Final

from flowtrace.host.objects import NO_RECEIVERS

_FUNCTIONS: Final = ("begin", "emit", "end", "end_stream", "fail", "prepare", "resume", "start", "suspend")


class Subject:
    """What calls are recorded as. None of its functions may raise an Exception.

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
        target: the node that `prepare` needs.
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

    def __init__(
        self,
        target: Any = None,
        **functions: Callable[..., Any],
    ) -> None:
        self.target = target
        self.takes_receiver = False
        self.no_receivers = NO_RECEIVERS
        for name, function in functions.items():
            setattr(self, name, function)

    @classmethod
    def made_later(cls, make: Callable[[], Subject | None]) -> Subject:
        """Return a subject that is loaded when the first call that is not "off" needs it.

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


Wrapper = Callable[[Callable[..., Any], Any, tuple[Any, ...], dict[str, Any]], Any]


def plain(subject: Subject) -> Wrapper:
    """Return the wrapper of a plain function."""

    def call(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        begin = subject.begin  # a method's call would look for it in the class first
        if instance is None and subject.takes_receiver and args and id(type(args[0])) not in subject.no_receivers:
            step = begin(subject, args[1:], kwargs, True)
        else:
            step = begin(subject, args, kwargs, instance is not None)
        if step is None:
            return wrapped(*args, **kwargs)
        try:
            result = wrapped(*args, **kwargs) if kwargs else wrapped(*args)
        except BaseException as error:
            subject.fail(step, error)
            raise
        end = subject.end
        end(step, result)
        return result

    return call


def _driven(kind: type, drive: Callable[..., Any], subject: Subject) -> Wrapper:
    """Return the wrapper of a function whose call only makes a body, of a kind, that is run later."""

    def call(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if instance is None and args and subject.takes_receiver and id(type(args[0])) not in subject.no_receivers:
            step = subject.prepare(subject, args[1:], kwargs, True)
        else:
            step = subject.prepare(subject, args, kwargs, instance is not None)
        if step is None:
            return wrapped(*args, **kwargs)
        unstarted = _Unstarted() if kind is types.CoroutineType else None
        try:
            body = wrapped(*args, **kwargs)
        except BaseException as error:
            _fail_unstarted(subject, step, error)
            raise
        if type(body) is not kind:
            return _end_unstarted(subject, step, body)
        if unstarted is not None:
            unstarted.body = body
        driver: Any = drive(subject, step, unstarted or body)
        driver.__name__, driver.__qualname__ = body.__name__, body.__qualname__  # type: ignore[attr-defined]
        return driver

    return call


def wrapper_for(function: Any, subject: Subject) -> Wrapper:
    """Return the wrapper that fits a callable's shape, by the flags of its code."""
    while isinstance(function, functools.partial | functools.partialmethod):
        function = function.func
    flags = _flags(function)
    for flag, wrap in _BY_FLAG:
        if flags & flag:
            return wrap(subject)
    return plain(subject)


def _flags(function: Any) -> int:
    try:
        flags = function.__code__.co_flags
    except Exception:  # no code, or an object that answers for attributes in its own way
        return 0
    return flags if type(flags) is int else 0


def _fail_unstarted(subject: Subject, step: Any, error: BaseException) -> None:
    """Record a call that gave no body to drive: its arguments did not fit."""
    subject.start(step)
    subject.fail(step, error)


def _end_unstarted(subject: Subject, step: Any, result: Any) -> Any:
    """Record a call that gave something else than the code says: another decorator is between us and the code."""
    subject.start(step)
    subject.end(step, result)
    return result


class _Unstarted:
    """Holds a coroutine that may never be awaited, so that only the outer one is warned of.

    It is made before the coroutine: the garbage collector ends the older of the two first.
    """

    __slots__ = ("body",)
    body: Any

    def __del__(self) -> None:
        try:
            self.body.close()
        except AttributeError:  # there was no coroutine
            pass


def _drive_generator(subject: Subject, step: Any, body: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Forward everything between a generator and its consumer, as PEP 380 says.

    What is given to the consumer leaves its list, so that it does not live on in here.
    """
    advance: Callable[..., Any] = body.send
    argument: Any = None
    subject.start(step)
    while True:
        try:
            given = [advance(argument)]
        except StopIteration as stop:
            subject.end_stream(step, stop.value)
            return stop.value
        except BaseException as error:
            _stop(subject, step, error)
            raise
        finally:
            argument = None
        subject.emit(step, given[0])
        try:
            argument = yield given.pop()
            advance = body.send
        except BaseException as error:  # GeneratorExit too: the body may have something to say to it
            advance, argument = body.throw, error
        subject.resume(step)


async def _drive_coroutine(subject: Subject, step: Any, unstarted: _Unstarted) -> Any:
    """Await a body; whenever it is suspended, so is its step: who drives it may do other things meanwhile."""
    body = unstarted.body
    advance: Callable[..., Any] = body.send
    argument: Any = None
    subject.start(step)
    while True:
        try:
            given = [advance(argument)]
        except StopIteration as stop:
            subject.end(step, stop.value)
            return stop.value
        except BaseException as error:
            _stop(subject, step, error)
            raise
        finally:
            argument = None
        subject.suspend(step)
        try:
            argument = await _pass_on(given)
            advance = body.send
        except BaseException as error:
            advance, argument = body.throw, error
        subject.resume(step)


@types.coroutine
def _drive_iterable_coroutine(subject: Subject, step: Any, body: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Do the same for a generator that is a coroutine: what it yields is for the event loop, and no item."""
    advance: Callable[..., Any] = body.send
    argument: Any = None
    subject.start(step)
    while True:
        try:
            given = [advance(argument)]
        except StopIteration as stop:
            subject.end(step, stop.value)
            return stop.value
        except BaseException as error:
            _stop(subject, step, error)
            raise
        finally:
            argument = None
        subject.suspend(step)
        try:
            argument = yield given.pop()
            advance = body.send
        except BaseException as error:
            advance, argument = body.throw, error
        subject.resume(step)


@types.coroutine
def _pass_on(given: list[Any]) -> Generator[Any, Any, Any]:
    """Give what a body awaits to the event loop, and return the loop's answer."""
    return (yield given.pop())


async def _advance(subject: Subject, step: Any, asked: Any) -> Any:
    """Await one item of an async generator, with its step suspended while it waits."""
    advance: Callable[..., Any] = asked.send
    argument: Any = None
    while True:
        try:
            given = [advance(argument)]
        except StopIteration as stop:
            return stop.value
        finally:
            argument = None
        subject.suspend(step)
        try:
            argument = await _pass_on(given)
            advance = asked.send
        except BaseException as error:
            advance, argument = asked.throw, error
        subject.resume(step)


def _stop(subject: Subject, step: Any, error: BaseException) -> None:
    if issubclass(type(error), GeneratorExit):  # isinstance would ask the error itself
        subject.end_stream(step)
    else:
        subject.fail(step, error)


async def _drive_async_generator(
    subject: Subject, step: Any, body: AsyncGenerator[Any, Any]
) -> AsyncGenerator[Any, Any]:
    """Forward everything between an async generator and its consumer."""
    advance: Callable[..., Any] = body.asend
    argument: Any = None
    subject.start(step)
    pending = _first_step(body)
    while True:
        try:
            given = [await _advance(subject, step, pending or advance(argument))]
        except StopAsyncIteration:
            subject.end_stream(step, None)
            return
        except BaseException as error:
            _stop(subject, step, error)
            raise
        finally:
            argument = pending = None
        subject.emit(step, given[0])
        try:
            argument = yield given.pop()
            advance = body.asend
        except BaseException as error:
            advance, argument = body.athrow, error
        subject.resume(step)


def _first_step(body: AsyncGenerator[Any, Any]) -> Any:
    """Begin a body out of sight of the event loop: the loop already looks after the driver, which closes it."""
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return body.asend(None)
    finally:
        sys.set_asyncgen_hooks(*hooks)


_BY_FLAG: Final = (
    (inspect.CO_ITERABLE_COROUTINE, functools.partial(_driven, types.GeneratorType, _drive_iterable_coroutine)),
    (inspect.CO_COROUTINE, functools.partial(_driven, types.CoroutineType, _drive_coroutine)),
    (inspect.CO_ASYNC_GENERATOR, functools.partial(_driven, types.AsyncGeneratorType, _drive_async_generator)),
    (inspect.CO_GENERATOR, functools.partial(_driven, types.GeneratorType, _drive_generator)),
)


def _unseen(code: types.CodeType) -> types.CodeType:
    constants = tuple(_unseen(item) if isinstance(item, types.CodeType) else item for item in code.co_consts)
    return code.replace(co_filename=f"{code.co_filename} (importlib._bootstrap)", co_consts=constants)


# A `stacklevel` says how many frames up the culprit is. `warnings` and `logging` do not count the frames of the import
# system, which they know by these two words in the file name; so ours, in between, change nothing for them either.
for _function in [item for item in globals().values() if type(item) is types.FunctionType]:
    if _function.__module__ == __name__:
        _function.__code__ = _unseen(_function.__code__)
