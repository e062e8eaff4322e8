"""Coroutines: awaited, cancelled, timed out, grouped, driven by hand, and never awaited."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import types
from collections.abc import Awaitable, Coroutine, Generator
from typing import Any

from .transcript import async_outcome, drive, noise, outcome

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("conformance_coroutine", default="unset")
_OF_ITERATORS = {"__iter__", "__next__", "__await__", "send", "throw", "close", "cr_frame", "cr_await"}


class Pause:
    """Gives something to whoever drives the coroutine, and takes its answer."""

    def __init__(self, given: Any) -> None:
        self.given = given

    def __await__(self):
        return (yield self.given)


def cancellation(decorate):
    log = []

    async def body():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError as error:
            log.append(f"cancelled {error}")
            raise
        finally:
            await asyncio.sleep(0)
            log.append("finally")

    async def main():
        task = asyncio.create_task(decorate(body)())
        await asyncio.sleep(0)
        task.cancel("enough")
        early = asyncio.create_task(decorate(body)())
        early.cancel("before it began")
        return await async_outcome(task), await async_outcome(early), task.cancelled(), early.cancelled()

    with noise() as heard:
        seen = asyncio.run(main())
    return seen, log, heard


def a_body_swallows_cancellation(decorate):
    async def body():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "went on"

    async def main():
        task = asyncio.create_task(decorate(body)())
        await asyncio.sleep(0)
        task.cancel()
        return await async_outcome(task), task.cancelled(), task.cancelling()

    return asyncio.run(main())


def timeouts(decorate):
    async def body():
        async with asyncio.timeout(0):
            await asyncio.sleep(60)

    async def slow():
        await asyncio.sleep(60)

    async def main():
        seen = [await async_outcome(decorate(body)()), await async_outcome(asyncio.wait_for(decorate(slow)(), 0))]
        try:
            async with asyncio.timeout(0.001):
                await decorate(slow)()
        except TimeoutError as error:
            seen.append((str(error), type(error.__cause__).__name__))
        return seen, asyncio.current_task().cancelling()

    return asyncio.run(main())


def task_groups_and_exception_groups(decorate):
    log = []

    async def fails(number):
        await asyncio.sleep(0)
        raise ValueError(number)

    async def waits():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            log.append("cancelled")
            raise

    async def body():
        async with asyncio.TaskGroup() as group:
            group.create_task(decorate(fails)(1))
            group.create_task(decorate(fails)(2))
            group.create_task(decorate(waits)())

    async def main():
        seen = []
        try:
            await decorate(body)()
        except* ValueError as group:
            seen += [str(error) for error in group.exceptions]
        return seen, await async_outcome(decorate(body)())

    return asyncio.run(main()), log


def gathering_and_shielding(decorate):
    async def body(value):
        await asyncio.sleep(0)
        if value < 0:
            raise ValueError(value)
        return value

    async def main():
        made = decorate(body)
        gathered = await asyncio.gather(made(1), made(-1), made(2), return_exceptions=True)
        task = asyncio.ensure_future(made(3))
        return [repr(item) for item in gathered], await asyncio.shield(task), task.get_coro().__qualname__

    return asyncio.run(main())


def context_variables_set_inside_stay(decorate):
    async def body(value):
        before = VARIABLE.get()
        VARIABLE.set(value)
        await asyncio.sleep(0)
        return before

    async def main():
        made = decorate(body)
        seen = [await made("one"), VARIABLE.get(), await made("two"), VARIABLE.get()]
        await asyncio.create_task(made("in a task"))
        token = VARIABLE.set("by the caller")
        seen += [VARIABLE.get(), await made("three")]
        VARIABLE.reset(token)
        return [*seen, VARIABLE.get()]

    return asyncio.run(main())


def never_awaited(decorate):
    log = []

    async def body():
        log.append("ran")

    with noise() as heard:
        decorate(body)()
        gc.collect()
    with noise() as closed:
        coroutine = decorate(body)()
        coroutine.close()
        del coroutine
    return log, heard, closed


def awaited_twice(decorate):
    async def body():
        return 1

    async def main():
        coroutine = decorate(body)()
        return await coroutine, await async_outcome(coroutine)

    return drive(main())


def driven_by_hand(decorate):
    async def body():
        seen = [await Pause("first")]
        try:
            await Pause("second")
        except KeyError as error:
            seen.append(str(error))
        return seen

    with noise() as heard:
        coroutine = decorate(body)()
        seen = [outcome(coroutine.send, "early"), coroutine.send(None), coroutine.send("answer")]
        seen += [outcome(coroutine.throw, KeyError("thrown")), outcome(coroutine.send, None)]
        early = decorate(body)()
        seen += [outcome(early.throw, ValueError("early")), outcome(early.send, None)]
        del early
    return seen, heard


def two_are_driven_in_turn(decorate):
    async def body(name):
        seen = []
        for number in range(3):
            seen.append(await Pause((name, number)))
        return seen

    one, two = decorate(body)("one"), decorate(body)("two")
    seen = [one.send(None), two.send(None)]
    for number in range(2):
        seen += [one.send(f"a{number}"), two.send(f"b{number}")]
    return [*seen, outcome(one.send, "last"), outcome(two.send, "last")]


def closing(decorate):
    log = []

    async def body():
        try:
            await Pause(1)
        finally:
            log.append("finally")

    async def answers():
        try:
            await Pause(1)
        except GeneratorExit:
            return "last words"

    async def ignores():
        try:
            await Pause(1)
        except GeneratorExit:
            await Pause(2)

    async def fails():
        try:
            await Pause(1)
        finally:
            raise ValueError("in finally")

    seen = []
    with noise() as heard:
        for target in (body, answers, ignores, fails):
            coroutine = decorate(target)()
            coroutine.send(None)
            seen += [outcome(coroutine.close), outcome(coroutine.close)]
            del coroutine
        thrown = decorate(answers)()
        thrown.send(None)
        seen.append(outcome(thrown.throw, GeneratorExit))
        dropped = decorate(body)()
        dropped.send(None)
        del dropped
    return seen, log, heard


def stop_iterations(decorate):
    async def body(error):
        await Pause(1)
        raise error

    seen = []
    for error in (StopIteration("value"), StopAsyncIteration("value"), GeneratorExit("text")):
        coroutine = decorate(body)(error)
        coroutine.send(None)
        seen.append(outcome(coroutine.send, None))
        thrown = decorate(body)(KeyError())
        thrown.send(None)
        seen.append(outcome(thrown.throw, error))
    return seen


def inspection(decorate):
    async def body():
        states.append((inspect.getcoroutinestate(holder[0]), holder[0].cr_running, outcome(holder[0].send, None)))
        await Pause(1)

    states: list[Any] = []
    holder = [decorate(body)()]
    coroutine = holder[0]
    states += [inspect.getcoroutinestate(coroutine), coroutine.__class__, coroutine.__name__, coroutine.__qualname__]
    states += [asyncio.iscoroutine(coroutine), inspect.isawaitable(coroutine), coroutine.cr_frame is None]
    coroutine.send(None)
    states += [inspect.getcoroutinestate(coroutine), coroutine.cr_running, coroutine.cr_await is None]
    states += [isinstance(coroutine.cr_frame, types.FrameType), coroutine.cr_suspended, outcome(iter, coroutine)[0]]
    iterator = coroutine.__await__()  # another object, which says nothing of its coroutine
    states += [iterator.__class__.__name__, iter(iterator) is iterator, sorted(set(dir(iterator)) & _OF_ITERATORS)]
    states += [isinstance(iterator, kind) for kind in (Awaitable, Coroutine, Generator)]
    states += [inspect.isawaitable(iterator), hasattr(iterator, "cr_frame"), repr(iterator).partition(" at ")[0]]
    coroutine.close()
    return [*states, inspect.getcoroutinestate(coroutine), coroutine.cr_frame]


def iterable_coroutines(decorate):
    @types.coroutine
    def body(value):
        answer = yield value
        return answer

    generator = decorate(body)("given")
    seen = [
        generator.__class__,
        inspect.isawaitable(generator),
        generator.send(None),
        outcome(generator.send, "answer"),
    ]

    async def main():
        return await decorate(body)(None)

    return seen, drive(main())


def the_task_is_the_same(decorate):
    async def body():
        await asyncio.sleep(0)
        return asyncio.current_task()

    async def main():
        return await decorate(body)() is asyncio.current_task()

    return asyncio.run(main())


def uncaught_in_a_task(decorate):
    async def body():
        raise ValueError("nobody looks")

    async def main():
        asyncio.get_running_loop().set_exception_handler(
            lambda loop, context: told.append((context["message"], repr(context["exception"])))
        )
        task = asyncio.create_task(decorate(body)())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        del task
        gc.collect()

    told: list[Any] = []
    asyncio.run(main())
    return told


SCENARIOS = (
    *(cancellation, a_body_swallows_cancellation, timeouts, task_groups_and_exception_groups),
    *(gathering_and_shielding, context_variables_set_inside_stay, never_awaited, awaited_twice, driven_by_hand),
    *(two_are_driven_in_turn, closing, stop_iterations, inspection, iterable_coroutines, the_task_is_the_same),
    uncaught_in_a_task,
)
