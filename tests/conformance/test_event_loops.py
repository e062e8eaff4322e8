"""The same under asyncio, trio, and anyio on either: parents, cancellation, timeouts, async generators left early."""

from __future__ import annotations

import asyncio
import functools

import anyio
import pytest
import trio

from flowtrace import current_step
from flowtrace.testing import recording

from .test_steps import inner, traced, tree


async def _under_asyncio(functions):
    async with asyncio.TaskGroup() as group:
        for function in functions:
            group.create_task(function())


async def _under_trio(functions):
    async with trio.open_nursery() as nursery:
        for function in functions:
            nursery.start_soon(function)


async def _under_anyio(functions):
    async with anyio.create_task_group() as group:
        for function in functions:
            group.start_soon(function)


LIBRARIES = {
    "asyncio": (asyncio.run, lambda main: main(), _under_asyncio, asyncio.sleep),
    "trio": (trio.run, lambda main: main, _under_trio, trio.sleep),
    "anyio on asyncio": (anyio.run, lambda main: main, _under_anyio, anyio.sleep),
    "anyio on trio": (functools.partial(anyio.run, backend="trio"), lambda main: main, _under_anyio, anyio.sleep),
}


@pytest.fixture(params=LIBRARIES)
def library(request):
    return LIBRARIES[request.param]


def test_children_of_concurrent_tasks_have_their_own_parents(library):
    run, as_main, together, sleep = library

    @traced
    async def work():
        await sleep(0)
        inner()
        await sleep(0)

    @traced
    async def other():
        await sleep(0)
        inner()

    @traced
    async def main():
        await together([work, other])
        inner()

    with recording() as recorded:
        run(as_main(main))
    assert sorted(tree(recorded), key=str) == [
        ("inner", "main", None),
        ("inner", "other", None),
        ("inner", "work", None),
        ("main", None, None),
        ("other", "main", None),
        ("work", "main", None),
    ]


def test_a_cancelled_task_is_a_cancelled_step_and_no_failed_run(library):
    run, as_main, together, sleep = library

    @traced
    async def waits():
        await sleep(60)

    @traced
    async def fails():
        await sleep(0)
        raise ValueError("the sibling")

    async def main():
        await together([waits, fails])

    with recording() as recorded:
        with pytest.raises(ExceptionGroup) as caught:
            run(as_main(main))
    assert [str(error) for error in caught.value.exceptions] == ["the sibling"]
    assert sorted(tree(recorded)) == [("fails", None, "node_error"), ("waits", None, "node_cancelled")]


def test_an_async_generator_that_is_left_early_is_closed(library):
    run, as_main, _, sleep = library
    closed = []

    @traced
    async def numbers():
        try:
            for number in range(9):
                await sleep(0)
                yield number
        finally:
            closed.append(bool(current_step()))

    async def main():
        generator = numbers()
        async for number in generator:
            inner()
            if number == 1:
                break
        await generator.aclose()

    with recording() as recorded:
        run(as_main(main))
    assert closed == [True]
    assert tree(recorded) == [("numbers", None, None), ("inner", None, None), ("inner", None, None)]


def test_a_timeout_reaches_the_body_and_the_caller(library):
    run, as_main, together, sleep = library
    told = []

    @traced
    async def slow():
        try:
            await sleep(60)
        except BaseException as error:
            told.append(type(error).__name__)
            raise

    async def main():
        if together is _under_trio:
            with trio.move_on_after(0.001) as scope:
                await slow()
            return scope.cancelled_caught
        if together is _under_anyio:
            with anyio.move_on_after(0.001) as scope:
                await slow()
            return scope.cancelled_caught
        try:
            async with asyncio.timeout(0.001):
                await slow()
        except TimeoutError:
            return True

    with recording() as recorded:
        assert run(as_main(main)) is True
    assert told in (["CancelledError"], ["Cancelled"])
    assert tree(recorded) == [("slow", None, "node_cancelled")]
