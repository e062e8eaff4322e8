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


SCENARIOS = (
    *(arguments_and_results_of_a_call, a_receiver, a_failing_call, what_a_generator_holds),
    *(an_error_that_a_generator_caught, what_an_async_generator_holds, what_a_coroutine_holds, the_function_itself),
    a_call_that_is_never_run,
)
