"""The call shapes: the same small function, written in each way that Python has, and how to run it to its end.

Every shape returns ``value``, fails with ``value.error`` from a `LookupError` where `value` is a `Failing`, and
where ``key`` is given it returns ``key(other, args, kwargs)``, so that all of its arguments can be looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from textwrap import indent
from typing import Any


class Failing:
    """A value that makes the function fail."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Answer:
    """An awaitable of its own, with a context manager and an iterator in it."""

    def __init__(self, settle: Callable[[], Any]) -> None:
        self.settle = settle

    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        return self.settle()

    def __enter__(self):
        return self.settle()

    def __exit__(self, *error):
        return None

    def __iter__(self):
        yield "first"
        yield self.settle()


@dataclass(frozen=True)
class Shape:
    """One way to write the function.

    Attributes:
        name: what the results call it.
        body: its source, indented, after its signature.
        run: takes what a call returned, and runs it to its end: returns its value or raises its error.
        head: "def" or "async def".
        above: decorators of the standard library, between the decorator under test and the function.
        below: whether the decorator under test comes under those instead.
        expression: the same as an expression, for a lambda; empty where there is none.
    """

    name: str
    body: str
    run: Callable[[Any], Any]
    head: str = "def"
    above: str = ""
    below: bool = False
    expression: str = ""


_FAIL = """\
if isinstance(value, Failing):
    try:
        raise LookupError("inner")
    except LookupError as inner:
        raise value.error from inner
"""
SETTLE = _FAIL + "return value if key is None else key(other, args, kwargs)\n"
_YIELD = _FAIL + "yield value if key is None else key(other, args, kwargs)\n"
_INNER = "def settle():\n" + indent(SETTLE, "    ")


def _body(*parts: str) -> str:
    return indent('"""Return what it is given."""\n' + "".join(parts), "    ")


def run_plain(result: Any) -> Any:
    """Return the result: there is nothing to run."""
    return result


def run_awaitable(awaitable: Any) -> Any:
    """Await it, as the simplest of event loops: it is for `scenarios` to use real ones."""

    async def main():
        return await awaitable

    waiting = main()
    while True:
        try:
            waiting.send(None)
        except StopIteration as stop:
            return stop.value


def run_generator(generator: Any) -> Any:
    """Take what it yields, send it something, and return what it returns."""
    assert next(generator) == "first", "the first item is another"
    assert generator.send("sent") == "sent", "what was sent did not arrive"
    try:
        next(generator)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("the generator goes on after its end")


def run_async_generator(generator: Any) -> Any:
    """Take what it yields, send it something, and return the last item."""

    async def main():
        assert await anext(generator) == "first", "the first item is another"
        assert await generator.asend("sent") == "sent", "what was sent did not arrive"
        last = await anext(generator)
        assert [item async for item in generator] == [], "the generator goes on after its end"
        return last

    return run_awaitable(main())


def run_iterator(iterator: Any) -> Any:
    """Return the last item."""
    first, last = iterator
    assert first == "first", "the first item is another"
    return last


def run_context_manager(manager: Any) -> Any:
    """Enter and leave it, and return what it gives."""
    with manager as value:
        return value


def run_async_context_manager(manager: Any) -> Any:
    """Enter and leave it, and return what it gives."""

    async def main():
        async with manager as value:
            return value

    return run_awaitable(main())


_GENERATOR = _body('received = yield "first"\n', "yield received\n", SETTLE)
_ASYNC_GENERATOR = _body('received = yield "first"\n', "await sleep(0)\n", "yield received\n", _YIELD)
SHAPES = (
    Shape("sync", _body(SETTLE), run_plain, expression="settle(value, other, args, key, kwargs)"),
    Shape("async", _body("await sleep(0)\n", SETTLE), run_awaitable, "async def"),
    Shape(
        "generator",
        _GENERATOR,
        run_generator,
        expression='[(yield (yield "first")), settle(value, other, args, key, kwargs)][1]',
    ),
    Shape("async generator", _ASYNC_GENERATOR, run_async_generator, "async def"),
    Shape(
        "returns an awaitable",
        _body(_INNER, "return Answer(settle)\n"),
        run_awaitable,
        expression="Answer(lambda: settle(value, other, args, key, kwargs))",
    ),
    Shape(
        "returns a coroutine",
        _body("async def inner():\n", indent(SETTLE, "    "), "return inner()\n"),
        run_awaitable,
    ),
    Shape(
        "returns an iterator",
        _body(_INNER, "return iter(Answer(settle))\n"),
        run_iterator,
        expression="iter(Answer(lambda: settle(value, other, args, key, kwargs)))",
    ),
    Shape(
        "returns a generator",
        _body('def inner():\n    yield (yield "first")\n', indent(SETTLE, "    "), "return inner()\n"),
        run_generator,
    ),
    Shape("returns a context manager", _body(_INNER, "return Answer(settle)\n"), run_context_manager),
    Shape("contextmanager, decorator outside", _body(_YIELD), run_context_manager, above="@contextmanager"),
    Shape("contextmanager, decorator inside", _body(_YIELD), run_context_manager, above="@contextmanager", below=True),
    Shape(
        "asynccontextmanager, decorator outside",
        _body("await sleep(0)\n", _YIELD),
        run_async_context_manager,
        "async def",
        above="@asynccontextmanager",
    ),
    Shape(
        "asynccontextmanager, decorator inside",
        _body("await sleep(0)\n", _YIELD),
        run_async_context_manager,
        "async def",
        above="@asynccontextmanager",
        below=True,
    ),
    Shape(
        "types.coroutine",
        _body("yield from sleep(0).__await__()\n", SETTLE),
        run_awaitable,
        above="@types.coroutine",
        below=False,
    ),
    Shape(
        "recursive",
        _body(
            "if kwargs.get('depth', 3) and key is None:\n"
            "    return {itself}(value, depth=kwargs.get('depth', 3) - 1)\n",
            SETTLE,
        ),
        run_plain,
    ),
    Shape(
        "recursive async",
        _body(
            "if kwargs.get('depth', 3) and key is None:\n"
            "    return await {itself}(value, depth=kwargs.get('depth', 3) - 1)\n",
            SETTLE,
        ),
        run_awaitable,
        "async def",
    ),
    Shape(
        "recursive generator",
        _body(
            "if kwargs.get('depth', 3) and key is None:\n"
            "    return (yield from {itself}(value, depth=kwargs.get('depth', 3) - 1))\n",
            'yield (yield "first")\n',
            SETTLE,
        ),
        run_generator,
    ),
    Shape(
        "re-entrant",
        _body("if key is None and not kwargs.get('inner'):\n    assert {itself}(kwargs, inner=1) is kwargs\n", SETTLE),
        run_plain,
    ),
    Shape(
        "re-entrant generator",
        _body(
            'received = yield "first"\n',
            "if key is None and not kwargs.get('inner'):\n"
            "    assert run_generator({itself}(kwargs, inner=1)) is kwargs\n",
            "yield received\n",
            SETTLE,
        ),
        run_generator,
    ),
)

NAMESPACE = {
    "Answer": Answer,
    "Failing": Failing,
    "asynccontextmanager": asynccontextmanager,
    "contextmanager": contextmanager,
    "run_generator": run_generator,
    "sleep": asyncio.sleep,
}
