"""What is recorded of generators and coroutines: a step covers the body, and nothing that happens while it waits."""

from __future__ import annotations

import asyncio
import functools
import gc
import types
from contextlib import asynccontextmanager, contextmanager

import pytest
import wrapt

from flowtrace import traced_node
from flowtrace.testing import recording


@traced_node(operation="inner")
def inner():
    return None


class Pause:
    def __await__(self):
        return (yield "pause")


def tree(recorded):
    """Return (operation, parent's operation, error code) of each step, in the order in which they began."""
    steps = {step.step_id: step for trace in recorded.traces for step in trace.steps}
    ordered = sorted(steps.values(), key=lambda step: step.step_id)
    return [
        (
            step.operation,
            steps[step.parent_step_id].operation if step.parent_step_id else None,
            step.error and step.error.code,
        )
        for step in ordered
    ]


def traced(function):
    return traced_node(operation=function.__name__)(function)


def test_the_consumers_calls_are_no_children_of_a_suspended_generator():
    @traced
    def numbers():
        inner()
        yield 1
        inner()
        yield 2

    @traced
    def consumer():
        for _ in numbers():
            inner()

    with recording() as recorded:
        consumer()
    assert tree(recorded) == [
        ("consumer", None, None),
        ("numbers", "consumer", None),
        ("inner", "numbers", None),
        ("inner", "consumer", None),
        ("inner", "numbers", None),
        ("inner", "consumer", None),
    ]


def test_a_generators_step_begins_with_its_body():
    @traced
    def numbers():
        yield 1

    with recording() as recorded:
        generator = numbers()
        inner()
        list(generator)
    assert [operation for operation, *_ in tree(recorded)] == ["inner", "numbers"]


@pytest.mark.parametrize("shape", ["generator", "async generator", "coroutine"])
def test_what_never_starts_leaves_no_step(shape):
    def generator():
        yield 1

    async def async_generator():
        yield 1

    async def coroutine():
        return 1

    function = {"generator": generator, "async generator": async_generator, "coroutine": coroutine}[shape]
    with recording() as recorded:
        made = traced(function)()
        if shape == "coroutine":
            made.close()
        del made
        gc.collect()
    assert tree(recorded) == []


def test_a_closed_generator_ended_well_and_a_failing_one_did_not():
    @traced
    def closed():
        yield 1

    @traced
    def failing():
        yield 1
        raise ValueError("no")

    with recording() as recorded:
        for _ in closed():
            break
        gc.collect()
        with pytest.raises(ValueError):
            list(failing())
    assert tree(recorded) == [("closed", None, None), ("failing", None, "node_error")]


def test_nested_delegation_keeps_the_parents():
    @traced
    def leaf():
        yield 1
        inner()

    @traced
    def branch():
        yield from leaf()
        inner()

    with recording() as recorded:
        for _ in branch():
            inner()
    assert tree(recorded) == [
        ("branch", None, None),
        ("leaf", "branch", None),
        ("inner", None, None),
        ("inner", "leaf", None),
        ("inner", "branch", None),
    ]


def test_the_drivers_calls_are_no_children_of_a_suspended_coroutine():
    @traced
    async def body():
        inner()
        await Pause()
        inner()

    @traced
    def driver():
        one, two = body(), body()
        one.send(None)
        inner()
        two.send(None)
        inner()
        for coroutine in (one, two):
            with pytest.raises(StopIteration):
                coroutine.send(None)
        inner()

    with recording() as recorded:
        driver()
    assert tree(recorded) == [
        ("driver", None, None),
        ("body", "driver", None),
        ("inner", "body", None),
        ("inner", "driver", None),
        ("body", "driver", None),
        ("inner", "body", None),
        ("inner", "driver", None),
        ("inner", "body", None),
        ("inner", "body", None),
        ("inner", "driver", None),
    ]


def test_the_drivers_calls_are_no_children_of_an_async_generator_that_waits():
    @traced
    async def body():
        await Pause()
        inner()
        yield 1

    with recording() as recorded:
        generator = body()
        asked = anext(generator)
        asked.send(None)
        inner()
        with pytest.raises(StopIteration):
            asked.send(None)
        inner()
        with pytest.raises(StopIteration):
            generator.aclose().send(None)
    assert tree(recorded) == [
        ("body", None, None),
        ("inner", None, None),
        ("inner", "body", None),
        ("inner", None, None),
    ]


def test_tasks_that_share_a_context_keep_their_parents():
    @traced
    async def body():
        await asyncio.sleep(0)
        inner()
        await asyncio.sleep(0)

    async def main():
        import contextvars

        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.create_task(body(), context=context) for _ in range(3)))

    with recording() as recorded:
        asyncio.run(main())
    assert sorted(tree(recorded)) == [("body", None, None)] * 3 + [("inner", "body", None)] * 3


def test_what_an_iterable_coroutine_awaits_is_no_item():
    @types.coroutine
    def body():
        answer = yield "awaited"
        return answer

    with recording(capture_outputs=True) as recorded:
        coroutine = traced(body)()
        assert coroutine.send(None) == "awaited"
        with pytest.raises(StopIteration):
            coroutine.send("answer")
    (trace,) = recorded.traces
    assert trace.steps[0].output_json == "answer"


@pytest.mark.parametrize("shape", ["coroutine", "generator", "async generator"])
def test_a_call_whose_arguments_do_not_fit_is_a_failed_step(shape):
    def generator():
        yield 1

    async def async_generator():
        yield 1

    async def coroutine():
        return 1

    function = {"generator": generator, "async generator": async_generator, "coroutine": coroutine}[shape]
    with recording() as recorded, pytest.raises(TypeError):
        traced(function)("too many")
    assert tree(recorded) == [(function.__name__, None, "node_error")]


def test_another_decorator_may_turn_a_generator_into_something_else():
    @wrapt.decorator
    def as_list(wrapped, instance, args, kwargs):
        return list(wrapped(*args, **kwargs))

    def numbers():
        yield 1
        yield 2

    with recording(capture_outputs=True) as recorded:
        assert traced(as_list(numbers))() == [1, 2]
    (trace,) = recorded.traces
    assert trace.steps[0].output_json == [1, 2]


@pytest.mark.parametrize("manager", [contextmanager, asynccontextmanager], ids=lambda made: made.__name__)
def test_a_block_under_a_traced_context_manager_is_none_of_its_children(manager):
    @contextmanager
    @traced
    def plain():
        inner()
        yield
        inner()

    @asynccontextmanager
    @traced
    async def asynchronous():
        inner()
        yield
        inner()

    async def main():
        async with asynchronous():
            inner()

    with recording() as recorded:
        if manager is contextmanager:
            with plain():
                inner()
        else:
            asyncio.run(main())
    name = "plain" if manager is contextmanager else "asynchronous"
    assert tree(recorded) == [(name, None, None), ("inner", name, None), ("inner", None, None), ("inner", name, None)]


class Host:
    @traced_node
    def method(self, value):
        return value

    @traced_node
    @classmethod
    def of_class(cls, value):
        return value

    @traced_node
    @staticmethod
    def static(value):
        return value

    @traced_node
    def odd_name(this, value):
        return value


@traced_node
class Decorated:
    def method(this, value):
        return value


def payloads(call):
    with recording(capture_inputs=True) as recorded:
        call()
    return [step.invocation_json["payload"] for trace in recorded.traces for step in trace.steps]


@pytest.mark.parametrize(
    "call",
    [
        lambda: Host().method(1),
        lambda: Host().method(value=1),
        lambda: Host.method(Host(), 1),
        lambda: type("Child", (Host,), {})().method(1),
        lambda: Host.of_class(1),
        lambda: Host().of_class(1),
        lambda: Host.static(1),
        lambda: Host().static(1),
        lambda: Host().odd_name(1),
        lambda: Host.odd_name(Host(), 1),
        lambda: Decorated().method(1),
        lambda: traced_node(Host.__dict__["method"].__wrapped__.__get__(Host()))(1),
    ],
)
def test_the_receiver_is_no_part_of_the_payload(call):
    assert payloads(call) == [{"value": 1}]


def test_a_function_borrowed_by_a_class_keeps_its_payload_elsewhere():
    @traced_node
    def function(first, second=2):
        return None

    class Borrower:
        method = function

    assert payloads(lambda: function(1)) == [{"first": 1, "second": 2}]
    assert len(payloads(Borrower().method)) == 1


def test_a_partials_payload_has_the_arguments_that_it_holds():
    def function(first, second, third=3):
        return None

    assert payloads(lambda: traced_node(functools.partial(function, 1))(2)) == [{"first": 1, "second": 2, "third": 3}]
