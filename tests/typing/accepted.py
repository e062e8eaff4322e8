"""Uses that type checkers accept, each with proof that the decorator keeps the type it was given."""

from __future__ import annotations

import abc
import asyncio
import dataclasses
import enum
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Concatenate, Generic, NamedTuple, ParamSpec, Protocol, TypeVar, assert_type, overload

import flowtrace
from flowtrace import (
    CurrentStep,
    Digest,
    Trace,
    TraceConfig,
    TraceContext,
    TraceMode,
    TraceRecorder,
    current_step,
    flow,
    hash_value,
    load_trace,
    register_codec,
    traced_node,
)
from flowtrace.trace.model import StepError

T = TypeVar("T")
P = ParamSpec("P")


# --- functions


@traced_node
def bare(number: int, /, *, scale: float = 1.0) -> str:
    return f"{number * scale}"


@traced_node()
def called(number: int) -> int:
    return number


@traced_node(
    component="c",
    operation="o",
    node_id="n",
    capture_inputs=True,
    redact=["iban"],
    expected_errors=(KeyError, ValueError),
)
def with_options(number: int, *rest: str, **options: bytes) -> list[str]:
    return [*rest]


@traced_node(capture_inputs=None, expected_errors=KeyError, redact={"a": 1}, slow="250ms")
async def coroutine(number: int) -> str:
    return str(number)


@traced_node
def generator(number: int) -> Generator[int, str, bytes]:
    received = yield number
    return received.encode()


@traced_node
def iterator(number: int) -> Iterator[int]:
    yield number


@traced_node
async def async_generator(number: int) -> AsyncGenerator[int, str]:
    received = yield number
    assert_type(received, str)


@traced_node
async def async_iterator(number: int) -> AsyncIterator[int]:
    yield number


@traced_node
@contextmanager
def manager(number: int) -> Generator[str]:
    yield str(number)


@contextmanager
@traced_node
def manager_inside(number: int) -> Generator[str]:
    yield str(number)


named_lambda: Callable[[int], int] = traced_node(lambda number: number + 1)
of_partial = traced_node(partial(bare, 1))
of_builtin = traced_node(len)


async def use_functions() -> None:
    assert_type(bare(1, scale=2.0), str)
    assert_type(called(1), int)
    assert_type(with_options(1, "a", key=b""), list[str])
    assert_type(await coroutine(1), str)
    later: Coroutine[Any, Any, str] = coroutine(1)
    assert_type(await later, str)
    assert_type(generator(1), Generator[int, str, bytes])
    assert_type(generator(1).send("x"), int)
    assert_type(list(iterator(1)), list[int])
    assert_type(async_generator(1), AsyncGenerator[int, str])
    assert_type([item async for item in async_iterator(1)], list[int])
    with manager(1) as entered:
        assert_type(entered, str)
    with manager_inside(1) as entered_inside:
        assert_type(entered_inside, str)
    assert_type(named_lambda(1), int)
    assert_type(of_partial(), str)
    assert_type(of_builtin([1]), int)
    assert_type(bare.__name__, str)


# --- generics, overloads, callers with ParamSpec


@traced_node
def first(items: list[T]) -> T:
    return items[0]


@overload
def either(value: int) -> str: ...


@overload
def either(value: str) -> int: ...


@traced_node
def either(value: int | str) -> int | str:
    return str(value) if isinstance(value, int) else len(value)


def repeat(times: int) -> Callable[[Callable[P, T]], Callable[P, list[T]]]:
    def decorate(function: Callable[P, T]) -> Callable[P, list[T]]:
        def call(*args: P.args, **kwargs: P.kwargs) -> list[T]:
            return [function(*args, **kwargs) for _ in range(times)]

        return call

    return decorate


def with_number(function: Callable[Concatenate[int, P], T]) -> Callable[P, T]:
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        return function(1, *args, **kwargs)

    return call


@repeat(2)
@traced_node
def repeated(number: int) -> str:
    return str(number)


@traced_node
@repeat(2)
def repeated_inside(number: int) -> str:
    return str(number)


@with_number
@traced_node
def numbered(number: int, text: str) -> str:
    return text * number


def apply(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return function(*args, **kwargs)


def decorate_any(function: Callable[P, T]) -> Callable[P, T]:
    return traced_node(component="c")(function)


async def run_later(function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
    return await traced_node(function)(*args, **kwargs)


async def use_generics() -> None:
    assert_type(first([1]), int)
    assert_type(first(["a"]), str)
    assert_type(either(1), str)
    assert_type(either("a"), int)
    assert_type(repeated(1), list[str])
    assert_type(repeated_inside(1), list[str])
    assert_type(numbered("a"), str)
    assert_type(apply(bare, 1, scale=2.0), str)
    assert_type(decorate_any(called)(1), int)
    assert_type(await run_later(coroutine, 1), str)
    assert_type(asyncio.run(coroutine(1)), str)


# --- methods and classes


class Service:
    @traced_node
    def __init__(self, start: int = 0) -> None:
        self.start = start

    @traced_node
    def method(self, by: int) -> str:
        return str(self.start + by)

    @traced_node(operation="later")
    async def later(self, by: int) -> int:
        return by

    @traced_node
    def each(self) -> Iterator[int]:
        yield self.start

    @traced_node
    @classmethod
    def made_outside(cls, start: int) -> Service:
        return cls(start)

    @classmethod
    @traced_node
    def made_inside(cls, start: int) -> Service:
        return cls(start)

    @traced_node
    @staticmethod
    def static_outside(value: int) -> str:
        return str(value)

    @staticmethod
    @traced_node
    def static_inside(value: int) -> str:
        return str(value)

    @property
    @traced_node
    def half(self) -> float:
        return self.start / 2

    @traced_node
    def __call__(self, by: int) -> float:
        return by / 2

    @traced_node
    def __enter__(self) -> Service:
        return self

    @traced_node
    def __exit__(self, *details: object) -> None: ...


class Child(Service):
    @traced_node
    def method(self, by: int) -> str:
        return super().method(by)


@traced_node
class Whole(Generic[T]):
    def __init__(self, value: T) -> None:
        self.value = value

    def get(self) -> T:
        return self.value

    @classmethod
    def build(cls, value: T) -> Whole[T]:
        return cls(value)


@traced_node(component="c")
@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: int = 0

    def moved(self, by: int) -> Point:
        return Point(self.x + by, self.y)


@traced_node
class Colour(enum.Enum):
    RED = 1

    def doubled(self) -> int:
        return 2


@traced_node
class Pair(NamedTuple):
    left: int
    right: str


class Runs(Protocol):
    def run(self, value: int) -> str: ...


class Runner:
    @traced_node
    def run(self, value: int) -> str:
        return str(value)


class Base(abc.ABC):
    @traced_node
    @abc.abstractmethod
    def run(self, value: int) -> str: ...


class Derived(Base):
    @traced_node(component="c")
    def run(self, value: int) -> str:
        return str(value)


def use_runs(runs: Runs) -> str:
    return runs.run(1)


async def use_classes() -> None:
    service = Service(1)
    assert_type(service.method(1), str)
    assert_type(Service.method(service, 1), str)
    assert_type(await service.later(1), int)
    assert_type(list(service.each()), list[int])
    assert_type(Service.made_outside(1), Service)
    assert_type(service.made_inside(1), Service)
    assert_type(Service.static_outside(1), str)
    assert_type(service.static_inside(1), str)
    assert_type(service.half, float)
    assert_type(service(1), float)
    with service as entered:
        assert_type(entered, Service)
    assert_type(Child().method(1), str)
    assert_type(Whole(1), Whole[int])
    assert_type(Whole("a").get(), str)
    assert_type(Point(1).moved(2), Point)
    assert_type(Point(1, y=2).x, int)
    assert_type(Colour.RED.doubled(), int)
    assert_type(Pair(1, "a").right, str)
    assert_type(use_runs(Runner()), str)
    assert_type(use_runs(Derived()), str)


# --- flow and the rest


@flow("checkout", version="2", pack_ref="shop", resolved_digest=None)
def in_flow(number: int) -> str:
    return str(number)


@flow("checkout")
async def in_flow_later(number: int) -> str:
    return str(number)


@flow("checkout")
async def in_flow_async_generator(number: int) -> AsyncIterator[int]:
    yield number


class Flows:
    @flow("method")
    def method(self, number: int) -> str:
        return str(number)

    @flow("class")
    @classmethod
    def made(cls) -> Flows:
        return cls()


async def use_flow() -> None:
    assert_type(in_flow(1), str)
    assert_type(await in_flow_later(1), str)
    assert_type([item async for item in in_flow_async_generator(1)], list[int])
    assert_type(Flows().method(1), str)
    assert_type(Flows.made(), Flows)
    with flow("a", version="1") as entered:
        assert_type(entered, flow)
    async with flow("b") as entered_later:
        assert_type(entered_later, flow)


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents


def cents_of(money: Money) -> int:
    return money.cents


def use_the_rest() -> None:
    step = current_step()
    assert_type(step, CurrentStep)
    step.add_validation_issue("code", "/path", "message")
    step.record_state_delta({"any": object()})
    assert_type(flowtrace.configure(), TraceRecorder)
    assert_type(flowtrace.configure(mode="always", out_path="x.json", redact=("iban",)), TraceRecorder)
    assert_type(flowtrace.configure(TraceConfig(mode=TraceMode.ON), buffer_size=3), TraceRecorder)
    with flowtrace.override(mode=TraceMode.OFF, context=TraceContext("pack", "flow")) as recorder:
        assert_type(recorder, TraceRecorder)
    trace = load_trace("trace.json")
    assert_type(trace, Trace)
    assert_type(trace.steps[0].error, StepError | None)
    assert_type(trace.flow.id, str)
    register_codec(Money, cents_of, Money)
    register_codec(Money, lambda money: money.cents, lambda content: Money(content))
    assert_type(hash_value(object()), Digest)
    assert_type(hash_value(1).algorithm, str)
    assert_type(flowtrace.__version__, str)
