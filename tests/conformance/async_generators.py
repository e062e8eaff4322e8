"""The async generator protocol, by hand and in asyncio."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import sys
from contextlib import aclosing
from typing import Any

from .transcript import async_outcome, drive, noise, outcome

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("conformance_async_generator", default="unset")


async def _echo(log: list[Any]) -> Any:
    received = yield "started"
    while received != "stop":
        log.append(received)
        await asyncio.sleep(0)
        try:
            received = yield received
        except LookupError as error:
            log.append(f"caught {error}")
            received = "after the error"


def values_are_sent(decorate):
    async def main():
        log: list[Any] = []
        generator = decorate(_echo)(log)
        seen = [await async_outcome(anext(generator)), await async_outcome(generator.asend("one"))]
        seen += [await async_outcome(generator.asend("stop")), await async_outcome(anext(generator))]
        seen += [await async_outcome(generator.asend("late")), await async_outcome(generator.aclose())]
        return seen, log

    return drive(main()), asyncio.run(main())


def nothing_can_be_sent_before_the_start(decorate):
    async def main():
        generator = decorate(_echo)([])
        return await async_outcome(generator.asend("early")), await async_outcome(anext(generator))

    return drive(main())


def errors_are_thrown_in(decorate):
    async def main():
        log: list[Any] = []
        generator = decorate(_echo)(log)
        await anext(generator)
        await generator.asend("one")
        seen = [await async_outcome(generator.athrow(KeyError("thrown")))]
        seen += [await async_outcome(generator.asend("two")), await async_outcome(generator.athrow(LookupError))]
        seen += [await async_outcome(generator.athrow(ValueError("not caught"))), await async_outcome(anext(generator))]
        return seen, log

    return drive(main()), asyncio.run(main())


def a_thrown_error_comes_out_as_the_same_object(decorate):
    async def main():
        generator = decorate(_echo)([])
        await anext(generator)
        thrown = ValueError("thrown")
        try:
            await generator.athrow(thrown)
        except ValueError as error:
            return error is thrown, error.__context__, error.__cause__
        return "nothing came out"

    return drive(main())


def an_error_thrown_before_the_start_ends_it(decorate):
    async def main():
        generator = decorate(_echo)([])
        return await async_outcome(generator.athrow(ValueError("early"))), await async_outcome(anext(generator))

    return drive(main())


def stop_iterations(decorate):
    async def catches():
        try:
            yield 1
        except (StopIteration, StopAsyncIteration) as error:
            yield f"caught {error!r}"

    async def lets_through():
        yield 1

    async def raises(error):
        yield 1
        raise error

    async def main():
        seen = []
        for error in (StopIteration("value"), StopAsyncIteration("value")):
            for body in (catches, lets_through):
                generator = decorate(body)()
                await anext(generator)
                seen.append(await async_outcome(generator.athrow(error)))
                seen.append(await async_outcome(anext(generator)))
            generator = decorate(raises)(error)
            await anext(generator)
            seen.append(await async_outcome(anext(generator)))
        return seen

    return drive(main())


def closing(decorate):
    log = []

    async def body():
        try:
            yield 1
        except GeneratorExit as error:
            log.append(("exit", str(error)))
            raise
        finally:
            await asyncio.sleep(0)
            log.append("finally")

    async def main():
        started, fresh, ended = decorate(body)(), decorate(body)(), decorate(body)()
        await anext(started)
        [item async for item in ended]
        seen = [await async_outcome(item.aclose()) for item in (started, started, fresh, ended)]
        return seen, await async_outcome(anext(fresh))

    return drive(main()), asyncio.run(main()), log


def a_body_returns_when_it_is_closed(decorate):
    async def body():
        try:
            yield 1
        except GeneratorExit:
            return

    async def main():
        closed, thrown = decorate(body)(), decorate(body)()
        await anext(closed)
        await anext(thrown)
        seen = [await async_outcome(closed.aclose()), await async_outcome(thrown.athrow(GeneratorExit))]
        return seen, await async_outcome(anext(closed))

    return drive(main())


def a_body_ignores_being_closed(decorate):
    async def body():
        try:
            yield 1
        except GeneratorExit:
            yield 2
        yield 3

    async def main():
        generator = decorate(body)()
        await anext(generator)
        return await async_outcome(generator.aclose()), await async_outcome(anext(generator))

    with noise() as heard:
        seen = drive(main())
    return seen, heard


def a_body_fails_when_it_is_closed(decorate):
    async def body():
        try:
            yield 1
        finally:
            raise ValueError("in finally")

    async def main():
        generator = decorate(body)()
        await anext(generator)
        return await async_outcome(generator.aclose()), await async_outcome(anext(generator))

    return drive(main())


def closed_by_another_task(decorate):
    log = []

    async def body():
        try:
            while True:
                yield 1
        finally:
            await asyncio.sleep(0)
            log.append(asyncio.current_task().get_name())

    async def main():
        generator = decorate(body)()
        await anext(generator)
        await asyncio.create_task(generator.aclose(), name="closer")
        return await async_outcome(anext(generator))

    return asyncio.run(main()), log


def two_tasks_ask_at_once(decorate):
    async def body():
        yield 1
        await asyncio.sleep(0)
        yield 2

    async def main():
        generator = decorate(body)()
        await anext(generator)
        asked = await asyncio.gather(anext(generator), anext(generator), return_exceptions=True)
        return [repr(answer) for answer in asked], await async_outcome(anext(generator))

    return asyncio.run(main())


def dropped_in_a_running_loop(decorate):
    log = []

    async def body():
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            log.append("finally")

    async def main():
        generator = decorate(body)()
        await anext(generator)
        del generator
        log.append("after del")
        for _ in range(5):
            await asyncio.sleep(0)
        log.append("later")
        async for _ in decorate(body)():
            break
        for _ in range(5):
            await asyncio.sleep(0)

    with noise() as heard:
        asyncio.run(main())
    return log, heard


def left_open_when_the_loop_ends(decorate):
    log = []

    async def body(name):
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            log.append(name)

    async def main():
        kept.append(decorate(body)("kept"))
        await anext(kept[0])

    kept: list[Any] = []
    with noise() as heard:
        asyncio.run(main())
    return log, heard, drive(async_outcome(anext(kept[0])))


def dropped_without_a_loop(decorate):
    log = []

    async def body():
        try:
            yield 1
        finally:
            log.append("finally")

    async def awaits():
        try:
            yield 1
        finally:
            log.append("before the await")
            await asyncio.sleep(0)
            log.append("never")

    with noise() as heard:
        for target in (body, awaits):
            generator = decorate(target)()
            drive(anext(generator))
            del generator
    return log, heard


def never_started(decorate):
    log = []

    async def body():
        log.append("started")
        yield 1

    with noise() as heard:
        decorate(body)()
        generator = decorate(body)()
        asked = anext(generator)
        del asked, generator
    return log, heard


def hooks_see_one_generator(decorate):
    async def body():
        yield 1
        yield 2

    seen = []
    before = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(lambda generator: seen.append(generator.__name__), lambda generator: seen.append("final"))
    try:
        generator = decorate(body)()
        drive(anext(generator))
        drive(anext(generator))
        del generator
    finally:
        sys.set_asyncgen_hooks(*before)
    return seen


def cancelled_while_the_body_waits(decorate):
    log = []

    async def body():
        yield 1
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError as error:
            log.append(f"cancelled {error}")
            raise
        yield 2

    async def main():
        generator = decorate(body)()
        await anext(generator)
        task = asyncio.create_task(async_outcome(anext(generator)))
        await asyncio.sleep(0)
        task.cancel("enough")
        return await async_outcome(task), await async_outcome(anext(generator))

    return asyncio.run(main()), log


def context_variables_leak_as_they_do(decorate):
    async def body():
        VARIABLE.set("inside")
        yield VARIABLE.get()
        await asyncio.sleep(0)
        yield VARIABLE.get()

    async def main():
        generator = decorate(body)()
        seen = [await anext(generator), VARIABLE.get()]
        VARIABLE.set("consumer")
        return [*seen, await anext(generator), VARIABLE.get()]

    return contextvars.copy_context().run(lambda: drive(main())), asyncio.run(main())


def inspection(decorate):
    async def body():
        running.append((holder[0].ag_running, outcome(holder[0].asend, None)[0]))
        await asyncio.sleep(0)
        yield 1

    running: list[Any] = []
    with noise() as heard:
        holder = [decorate(body)()]
        generator = holder[0]
        seen = [generator.__class__, generator.__name__, generator.__qualname__, generator.ag_running]
        seen += [generator.ag_frame is None, inspect.isasyncgen(generator), aiter(generator) is generator]
        drive(anext(generator))
        seen += [generator.ag_running, generator.ag_frame is None, generator.ag_await]
        drive(async_outcome(anext(generator)))
        seen += [generator.ag_running, generator.ag_frame]
    return seen, running, sorted(heard)


def used_with_aclosing_and_comprehensions(decorate):
    closed = []

    async def body(count):
        try:
            for number in range(count):
                yield number
        finally:
            closed.append(count)

    async def main():
        made = decorate(body)
        async with aclosing(made(9)) as generator:
            async for number in generator:
                if number == 2:
                    break
        return [number async for number in made(3)], {number: 1 async for number in made(2)}

    return asyncio.run(main()), closed


def by_hand_one_step_at_a_time(decorate):
    class Pause:
        def __await__(self):
            answer = yield "pause"
            return answer

    async def body():
        answer = await Pause()
        received = yield answer
        try:
            await Pause()
        except KeyError as error:
            yield ("caught", str(error), received)

    generator = decorate(body)()
    first = generator.asend(None)
    seen = [first.send(None), outcome(first.send, "answer")]
    second = generator.asend("sent")
    seen += [second.send(None), outcome(second.throw, KeyError("thrown"))]
    third = generator.aclose()
    return [*seen, outcome(third.send, None), outcome(third.send, None)[0]]


SCENARIOS = (
    *(values_are_sent, nothing_can_be_sent_before_the_start, errors_are_thrown_in),
    *(a_thrown_error_comes_out_as_the_same_object, an_error_thrown_before_the_start_ends_it, stop_iterations),
    *(closing, a_body_returns_when_it_is_closed, a_body_ignores_being_closed, a_body_fails_when_it_is_closed),
    *(closed_by_another_task, two_tasks_ask_at_once, dropped_in_a_running_loop, left_open_when_the_loop_ends),
    *(dropped_without_a_loop, never_started, hooks_see_one_generator, cancelled_while_the_body_waits),
    *(context_variables_leak_as_they_do, inspection, used_with_aclosing_and_comprehensions),
    by_hand_one_step_at_a_time,
)
