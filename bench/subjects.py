"""The functions that are measured, plain and decorated, and the loops around them."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from time import perf_counter_ns
from typing import Any

UNROLLED = 10
ORDER = {"id": 7, "price": 12.5, "count": 3}
PLAIN, CLOSURE, WRAPT = "undecorated", "closure", "wrapt"
FUNCTION, METHOD, COROUTINE, GENERATOR = KINDS = ("function", "method", "coroutine", "generator")
ASYNC_GENERATOR, ITEMS, ONE_ITEM = OWN_KINDS = ("async generator", "generator of many items", "the same of one item")
MANY = 1000


def total(order):
    """Stand for any small function: a dictionary in, a dictionary out."""
    return {"id": order["id"], "total": order["price"] * order["count"]}


async def total_coroutine(order):
    """Stand for any small coroutine function."""
    return {"id": order["id"], "total": order["price"] * order["count"]}


def total_generator(order):
    """Stand for any small generator."""
    yield {"id": order["id"], "total": order["price"] * order["count"]}


async def total_async_generator(order):
    """Stand for any small async generator."""
    yield {"id": order["id"], "total": order["price"] * order["count"]}


def numbers_below(limit):
    """Yield small items, as many as are wanted."""
    yield from range(limit)


def ignore(value):
    """Take anything, and look at nothing."""
    return


@dataclass
class Slot:
    """Something to measure.

    Attributes:
        run: takes how many times to run; returns how long that took in ns, or what there is to tell.
        calls: how many calls each time has.
        problem: tells at the end why what was measured is not what it was to be.
    """

    run: Callable[[int], Any]
    calls: int = 1
    problem: Callable[[], str] = str


def loop(statement: str, names: dict[str, Any], unrolled: int = UNROLLED) -> Slot:
    """Return a loop around a statement, compiled for it alone: the interpreter adapts code to what it calls.

    Args:
        statement: one line; may begin with ``await`` or ``async``.
        names: what it uses.
        unrolled: how often it stands in the loop's body, so that the loop itself costs next to nothing.
    """
    is_async = statement.startswith(("await ", "async "))
    lines = [
        f"{'async ' * is_async}def calls(times):",
        "    start = clock()",
        "    for _ in repeat(None, times):",
        *[f"        {statement}"] * unrolled,
        "    return clock() - start",
    ]
    space = {"clock": perf_counter_ns, "repeat": repeat, **names}
    exec("\n".join(lines), space)  # as timeit does, for the same reason
    calls = space["calls"]
    if not is_async:
        return Slot(calls, unrolled)
    runner = asyncio.Runner()
    return Slot(lambda times: runner.run(calls(times), context=copy_context()), unrolled)


def calls_of(kind: str, decorate: Callable[[Any], Any]) -> Slot:
    """Return a loop of calls of one kind of function."""
    names: dict[str, Any] = {"order": ORDER}
    if kind == METHOD:

        class Orders:
            @decorate
            def total(self, order):
                return {"id": order["id"], "total": order["price"] * order["count"]}

        return loop("orders.total(order)", names | {"orders": Orders()})
    if kind == COROUTINE:
        return loop("await total(order)", names | {"total": decorate(total_coroutine)})
    if kind == GENERATOR:
        return loop("for _ in total(order): pass", names | {"total": decorate(total_generator)})
    if kind == ASYNC_GENERATOR:
        return loop("async for _ in total(order): pass", names | {"total": decorate(total_async_generator)})
    if kind in (ITEMS, ONE_ITEM):
        names = {"numbers_below": decorate(numbers_below), "limit": MANY if kind == ITEMS else 1}
        return loop("for _ in numbers_below(limit): pass", names, 1 if kind == ITEMS else UNROLLED)
    return loop("total(order)", names | {"total": decorate(total)})


def closure(function):
    """Decorate as a textbook does, and do nothing."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        return function(*args, **kwargs)

    return call


def wrapt_nothing(function):
    """Decorate with wrapt, and do nothing."""
    import wrapt

    @wrapt.decorator
    def call(wrapped, instance, args, kwargs):
        return wrapped(*args, **kwargs)

    return call(function)


DOING_NOTHING = {PLAIN: lambda function: function, CLOSURE: closure, WRAPT: wrapt_nothing}


def flowtrace_calls(mode: str = "", settings: dict[str, Any] | None = None, core: str = "native") -> dict[str, Slot]:
    """Measure flowtrace, with decorators beside it that do nothing.

    Args:
        mode: what to switch to; empty for a program that never does.
        settings: what else to configure.
        core: the implementation of the core, ``native`` or ``pure``.
    """
    if core == "pure":
        os.environ["FLOWTRACE_PURE"] = "1"
    import flowtrace
    from flowtrace.calls.core import implementation

    if implementation() != core:
        raise SystemExit(f"the {core} core was to be measured, and flowtrace has the {implementation()} one")
    if mode:
        flowtrace.configure(mode=mode, out_path=Path.cwd() / "trace.json", **settings or {})
    decorators = DOING_NOTHING | {"flowtrace": flowtrace.traced_node}
    slots = {
        f"{kind} {name}": calls_of(kind, decorate)
        for kind in (*KINDS, *OWN_KINDS)
        for name, decorate in decorators.items()
    }
    ignored = flowtrace.traced_node(ignore)
    big = {f"key{number:06}": number for number in range(200_000)}
    for size, value in (("int", 1), ("200,000 keys", big)):
        slots[f"{size} flowtrace"] = loop("ignored(value)", {"ignored": ignored, "value": value})
    steps = recorded_steps(flowtrace)
    if bool(steps) != (mode == "on"):
        raise SystemExit(f"flowtrace was to run in mode {mode or 'off'}, and recorded {steps} steps")
    return slots


def recorded_steps(flowtrace: Any) -> int:
    """Return how many steps the recorder has of two calls."""
    node = flowtrace.traced_node(ignore)
    with flowtrace.flow("check"):
        node(1)
        node(2)
        written = flowtrace.dump(Path.cwd() / "check.json")
    return len(flowtrace.load_trace(written).steps) if written else 0


def peer_calls(name: str, mode: str, kinds: list[str]) -> dict[str, Slot]:
    """Measure a peer, with the undecorated functions beside it.

    Args:
        name: of the peer.
        mode: one of `peers`.
        kinds: the kinds of functions that it is meant for.
    """
    import peers

    peer = next(peer for peer in (*peers.PEERS, peers.VIZTRACER) if peer.name == name)
    running = peer.start(mode)
    slots = {f"{kind} {PLAIN}": calls_of(kind, DOING_NOTHING[PLAIN]) for kind in kinds}
    came = [0]

    def settled(slot: Slot) -> Slot:
        def run(times: int) -> int:
            with running.around():
                elapsed = slot.run(times)
            # What the calls left to threads is done before it is another contender's turn.
            came[0] = max(came[0], running.recorded())
            return elapsed

        return Slot(run, slot.calls, problem)

    def problem() -> str:
        if bool(came[0]) == (mode != peers.OFF):
            return ""
        return f"{name} was to run in mode {mode}, and recorded {came[0]}"

    return slots | {f"{kind} {name}": settled(calls_of(kind, running.subject.decorate)) for kind in kinds}
