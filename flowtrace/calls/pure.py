"""The pure twin of the native core: the wrappers of a call in Python, one for each kind of body.

It says what the native core does (`flowtrace/calls/native`), and runs where that was not built. Every wrapper takes
wrapt's four arguments, and calls the functions of a `Subject`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from functools import partial
from inspect import CO_ITERABLE_COROUTINE
from sys import get_asyncgen_hooks, set_asyncgen_hooks
from threading import get_ident
from types import AsyncGeneratorType, CodeType, CoroutineType, FunctionType, GeneratorType, coroutine
from typing import Any, Final

from flowtrace.calls.core import NATIVE, Kind, Subject, leaves_out_first
from flowtrace.host import objects
from flowtrace.host.signals import raise_later

Wrapper = Callable[[Callable[..., Any], Any, tuple[Any, ...], dict[str, Any]], Any]


_RECORDING: Final[set[int]] = set()
"""Process-global: threads that record a call. A traced audit hook is called for that, too: such a call is left out."""


def _alone(record: Callable[..., Any], *given: Any) -> Any:
    """Call a function of a subject, unless it is called for what another one does in this thread; then return None."""
    thread = get_ident()
    if thread in _RECORDING:
        return None
    try:
        _RECORDING.add(thread)
        return record(*given)
    finally:
        _RECORDING.discard(thread)


def _seen(function: Callable[..., Any], *given: Any) -> Any:
    """Call a function of the user's for a record: what that calls is recorded again."""
    thread = get_ident()
    if thread not in _RECORDING:
        return function(*given)
    try:
        _RECORDING.discard(thread)
        return function(*given)
    finally:
        _RECORDING.add(thread)


if NATIVE is None:
    objects.call_seen = _seen


def plain(subject: Subject) -> Wrapper:
    """Return the wrapper of a plain function."""

    def call(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if instance is None and leaves_out_first(subject, args):
            step = _alone(subject.begin, subject, args[1:], kwargs, True)
        else:
            step = _alone(subject.begin, subject, args, kwargs, instance is not None)
        try:
            result = wrapped(*args, **kwargs) if kwargs else wrapped(*args)
        except BaseException as error:
            if step is not None:
                _alone(subject.fail, step, error)
            del step, args, kwargs, instance  # a report of the error shows what this frame holds, under any name
            raise
        if step is not None:
            _alone(subject.end, step, result)
        return result

    return call


def _driven(kind: type, drive: Callable[..., Any], subject: Subject) -> Wrapper:
    """Return the wrapper of a function whose call only makes a body that runs later.

    Args:
        kind: the type of the body.
        drive: makes the generator or coroutine that the caller gets instead.
        subject: what calls are recorded as.
    """

    def call(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if instance is None and leaves_out_first(subject, args):
            step = _alone(subject.prepare, subject, args[1:], kwargs, True)
        else:
            step = _alone(subject.prepare, subject, args, kwargs, instance is not None)
        unstarted = _Unstarted() if step is not None and kind is CoroutineType else None
        try:
            body = wrapped(*args, **kwargs)
        except BaseException as error:
            if step is not None:
                subject.start(step)  # it made no body: its arguments did not fit
                subject.fail(step, error)
            del step, args, kwargs, instance
            raise
        if step is None:
            return body
        if type(body) is not kind:
            subject.start(step)  # it made something else: another decorator is between us and the code
            subject.end(step, body)
            return body
        if unstarted is not None:
            unstarted.body, unstarted.__del__ = body, body.close  # type: ignore[attr-defined]
        driver: Any = _driver_of(body, drive)(subject, step, unstarted or body)
        driver.__name__, driver.__qualname__ = body.__name__, body.__qualname__  # type: ignore[attr-defined]
        return driver

    return call


def _driver_of(body: Any, drive: Callable[..., Any]) -> Callable[..., Any]:
    """Return what drives a body: `types.coroutine` marks a generator's code, and may do so after the decoration."""
    is_marked = type(body) is GeneratorType and body.gi_code.co_flags & CO_ITERABLE_COROUTINE
    return _drive_iterable_coroutine if is_marked else drive


def wrapper_for(kind: Kind, subject: Subject) -> Wrapper:
    """Return the wrapper for functions whose calls give such a body."""
    return _BY_KIND[kind](subject)


class _Unstarted:
    """Holds a coroutine that may never be awaited, so that Python warns of the outer one only.

    It is made before the coroutine: the garbage collector ends the older of the two first.
    """

    # The finalizer is an attribute: the coroutine's own `close`. In one written in Python, Ctrl-C would be lost.
    __slots__ = ("__del__", "body")
    body: Any


def _drive_generator(subject: Subject, step: Any, body: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Forward everything between a generator and its consumer, as PEP 380 says.

    A yielded value is in a list until it is popped for the consumer: no reference to it stays here. Where a body is
    closed because its last reference goes, Python swallows what is raised: what a signal handler raises then is raised
    in the program later.
    """
    advance: Callable[..., Any] = body.send
    argument: Any = None
    leaving: GeneratorExit | None = None
    subject.start(step)
    while True:
        try:
            try:
                given = [advance(argument)]
            except StopIteration as stop:
                subject.end_stream(step, stop.value)
                return stop.value
            except BaseException as error:
                _stop(subject, step, error)
                raise
        except BaseException as error:
            if leaving is not None and error is not leaving and [*raise_later(error)]:
                raise leaving from None
            raise
        finally:
            argument = leaving = None
        try:
            subject.emit(step, given[0])
        except BaseException:  # the item was refused
            body.close()
            raise
        try:
            argument = yield given.pop()
            advance = body.send
        except GeneratorExit as error:
            advance, argument, leaving = body.throw, error, error
        except BaseException as error:
            advance, argument = body.throw, error
        try:
            subject.resume(step)
        except BaseException as error:  # of a signal handler: it is raised where the program goes on
            advance, argument = body.throw, error


async def _drive_coroutine(subject: Subject, step: Any, unstarted: _Unstarted) -> Any:
    """Await a body; whenever it is suspended, so is its step: the event loop may run other code meanwhile."""
    body = unstarted.body
    advance: Callable[..., Any] = body.send
    argument: Any = None
    leaving: GeneratorExit | None = None
    subject.start(step)
    while True:
        try:
            try:
                given = [advance(argument)]
            except StopIteration as stop:
                subject.end(step, stop.value)
                return stop.value
            except BaseException as error:
                _stop(subject, step, error)
                raise
        except BaseException as error:
            if leaving is not None and error is not leaving and [*raise_later(error)]:
                raise leaving from None
            raise
        finally:
            argument = leaving = None
        subject.suspend(step)
        try:
            argument = await _pass_on(given)
            advance = body.send
        except GeneratorExit as error:
            advance, argument, leaving = body.throw, error, error
        except BaseException as error:
            advance, argument = body.throw, error
        try:
            subject.resume(step)
        except BaseException as error:  # of a signal handler: it is raised where the program goes on
            advance, argument = body.throw, error


@coroutine
def _drive_iterable_coroutine(subject: Subject, step: Any, body: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Do the same for a generator that is a coroutine: it yields to the event loop, and none of that is an item."""
    advance: Callable[..., Any] = body.send
    argument: Any = None
    leaving: GeneratorExit | None = None
    subject.start(step)
    while True:
        try:
            try:
                given = [advance(argument)]
            except StopIteration as stop:
                subject.end(step, stop.value)
                return stop.value
            except BaseException as error:
                _stop(subject, step, error)
                raise
        except BaseException as error:
            if leaving is not None and error is not leaving and [*raise_later(error)]:
                raise leaving from None
            raise
        finally:
            argument = leaving = None
        subject.suspend(step)
        try:
            argument = yield given.pop()
            advance = body.send
        except GeneratorExit as error:
            advance, argument, leaving = body.throw, error, error
        except BaseException as error:
            advance, argument = body.throw, error
        try:
            subject.resume(step)
        except BaseException as error:  # of a signal handler: it is raised where the program goes on
            advance, argument = body.throw, error


@coroutine
def _pass_on(given: list[Any]) -> Generator[Any, Any, Any]:
    """Pass what a body awaits on to the event loop, and return the loop's answer."""
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
        except BaseException:
            # what was asked holds an error that was thrown, whose traceback will hold this frame
            del asked, advance
            raise
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
    leaving: GeneratorExit | None = None
    subject.start(step)
    pending = _first_step(body)
    while True:
        try:
            try:
                given = [await _advance(subject, step, pending or advance(argument))]
            except StopAsyncIteration:
                subject.end_stream(step, None)
                return
            except BaseException as error:
                _stop(subject, step, error)
                raise
        except BaseException as error:
            if leaving is not None and error is not leaving and [*raise_later(error)]:
                raise leaving from None
            raise
        finally:
            argument = pending = leaving = None
        try:
            subject.emit(step, given[0])
        except BaseException:
            await body.aclose()
            raise
        try:
            argument = yield given.pop()
            advance = body.asend
        except GeneratorExit as error:
            advance, argument, leaving = body.athrow, error, error
        except BaseException as error:
            advance, argument = body.athrow, error
        try:
            subject.resume(step)
        except BaseException as error:  # of a signal handler
            advance, argument = body.athrow, error


def _first_step(body: AsyncGenerator[Any, Any]) -> Any:
    """Begin a body that the event loop does not see: the loop looks after the driver, and that closes the body.

    Where the driver is never closed, the body is not either: one without a finalizer would close itself.
    """
    hooks = get_asyncgen_hooks()
    set_asyncgen_hooks(None, _LEAVE)
    try:
        return body.asend(None)
    finally:
        set_asyncgen_hooks(*hooks)


_LEAVE: Final[Any] = id
"""It does nothing. Ctrl-C would be lost in a function in Python: it runs where the garbage collector ends a body."""
_BY_KIND: Final[dict[Kind, Callable[[Subject], Wrapper]]] = {
    Kind.PLAIN: plain,
    Kind.COROUTINE: partial(_driven, CoroutineType, _drive_coroutine),
    Kind.GENERATOR: partial(_driven, GeneratorType, _drive_generator),
    Kind.ASYNC_GENERATOR: partial(_driven, AsyncGeneratorType, _drive_async_generator),
    Kind.ITERABLE_COROUTINE: partial(_driven, GeneratorType, _drive_iterable_coroutine),
}


def _skipped(code: CodeType) -> CodeType:
    constants = tuple(_skipped(item) if isinstance(item, CodeType) else item for item in code.co_consts)
    return code.replace(co_filename=f"{code.co_filename} (importlib._bootstrap)", co_consts=constants)


# A `stacklevel` counts frames up to the one that is to blame. `warnings` and `logging` skip the frames of the import
# system, which they recognise by these two words in the file name; so they skip ours as well.
for _function in [item for item in globals().values() if type(item) is FunctionType]:
    if _function.__module__ == __name__:
        _function.__code__ = _skipped(_function.__code__)
