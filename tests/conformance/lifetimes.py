"""How long arguments, results, errors and the functions themselves live."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

from .transcript import drive


class Value:
    """Something that can be watched."""


def _alive(*references: Any) -> list[bool]:
    gc.collect()
    return [reference() is not None for reference in references]


def arguments_and_results_of_a_call(decorate):
    def body(value, *args, key=None, **kwargs):
        return Value()

    made = decorate(body)
    passed = [Value() for _ in range(4)]
    references = [weakref.ref(value) for value in passed]
    result = made(passed[0], passed[1], key=passed[2], more=passed[3])
    references.append(weakref.ref(result))
    del passed, result
    return [reference() is not None for reference in references]


def a_receiver(decorate):
    class Host:
        @decorate
        def method(self):
            return None

        @classmethod
        @decorate
        def of_class(cls):
            return None

    host = Host()
    reference = weakref.ref(host)
    host.method()
    bound = host.method
    del host
    seen = [reference() is not None]
    del bound
    seen.append(reference() is not None)
    cls = weakref.ref(Host)
    Host.of_class()
    del Host
    return seen, _alive(reference, cls)


def a_failing_call(decorate):
    class Odd(ValueError):
        pass

    def body(value):
        raise Odd("no")

    value = Value()
    reference = weakref.ref(value)
    error = None
    try:
        decorate(body)(value)
    except ValueError as raised:
        error = weakref.ref(raised)
    del value
    return _alive(reference, error)


def what_a_generator_holds(decorate):
    def body(value):
        del value
        received = yield Value()
        del received
        yield 1

    value, sent = Value(), Value()
    references = [weakref.ref(value), weakref.ref(sent)]
    generator = decorate(body)(value)
    del value
    item = next(generator)
    references.append(weakref.ref(item))
    del item
    seen = [[reference() is not None for reference in references]]
    generator.send(sent)
    del sent
    seen.append([reference() is not None for reference in references])
    made = weakref.ref(generator)
    del generator
    return seen, made() is None


def an_error_that_a_generator_caught(decorate):
    def body():
        try:
            yield 1
        except KeyError:
            pass
        yield 2

    class Odd(KeyError):
        pass

    generator = decorate(body)()
    next(generator)
    error = Odd()
    reference = weakref.ref(error)
    generator.throw(error)
    del error
    return _alive(reference)


def what_an_async_generator_holds(decorate):
    async def body(value):
        del value
        received = yield Value()
        del received
        await asyncio.sleep(0)
        yield 1

    value, sent = Value(), Value()
    references = [weakref.ref(value), weakref.ref(sent)]
    generator = decorate(body)(value)
    del value
    item = drive(anext(generator))
    references.append(weakref.ref(item))
    del item
    seen = [[reference() is not None for reference in references]]
    drive(generator.asend(sent))
    del sent
    seen.append([reference() is not None for reference in references])
    drive(generator.aclose())
    return seen


def what_a_coroutine_holds(decorate):
    async def body(value):
        del value
        await asyncio.sleep(0)
        result = Value()
        references.append(weakref.ref(result))
        return result

    value = Value()
    references = [weakref.ref(value)]
    coroutine = decorate(body)(value)
    del value
    coroutine.send(None)
    seen = [reference() is not None for reference in references]
    try:
        coroutine.send(None)
    except StopIteration:
        pass
    return seen, [reference() is not None for reference in references]


def the_function_itself(decorate):
    def make():
        @decorate
        def inner(value):
            return value

        return inner

    function = make()
    function(1)
    references = [weakref.ref(function)]
    del function

    class Host:
        @decorate
        def method(self):
            return None

    Host().method()
    references.append(weakref.ref(Host))
    del Host
    return _alive(*references)


def a_call_that_is_never_run(decorate):
    def generator(value):
        yield value

    async def async_generator(value):
        yield value

    async def coroutine(value):
        return value

    seen = []
    for body in (generator, async_generator, coroutine):
        value = Value()
        reference = weakref.ref(value)
        made = decorate(body)(value)
        del value
        seen.append(reference() is not None)
        if hasattr(made, "cr_code"):
            made.close()
        del made
        seen.append(reference() is not None)
    return seen


def _left_early(start, leave):
    """Return whether the argument of a body that is left in its middle is alive then, without a garbage collection."""
    value = Value()
    reference = weakref.ref(value)
    body = start(value)
    del value
    try:
        leave(body)
    except (KeyError, StopIteration, StopAsyncIteration):
        pass
    del body
    return reference() is not None


async def _broken_off(body):
    async for _ in body:
        break
    del body
    for _ in range(3):
        await asyncio.sleep(0)


def what_is_left_early(decorate):
    def generator(value):
        yield 1
        yield value

    async def coroutine(value):
        await asyncio.sleep(0)
        return value

    async def async_generator(value):
        await asyncio.sleep(0)
        yield 1
        yield value

    ways = [
        (generator, lambda body: (next(body), body.close())),
        (generator, lambda body: (next(body), body.throw(KeyError("early")))),
        (coroutine, lambda body: (body.send(None), body.close())),
        (coroutine, lambda body: (body.send(None), body.throw(KeyError("early")))),
        (async_generator, lambda body: (drive(anext(body)), drive(body.aclose()))),
        (async_generator, lambda body: (drive(anext(body)), drive(body.athrow(KeyError("early"))))),
        (async_generator, lambda body: (drive(body.asend(None)), drive(body.asend(None)), drive(body.asend(None)))),
        (async_generator, lambda body: asyncio.run(_broken_off(body))),
    ]
    enabled = gc.isenabled()
    gc.disable()
    try:
        return [_left_early(decorate(function), leave) for function, leave in ways]
    finally:
        if enabled:
            gc.enable()


SCENARIOS = (
    *(arguments_and_results_of_a_call, a_receiver, a_failing_call, what_a_generator_holds),
    *(an_error_that_a_generator_caught, what_an_async_generator_holds, what_a_coroutine_holds, the_function_itself),
    *(a_call_that_is_never_run, what_is_left_early),
)
