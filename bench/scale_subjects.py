"""Calls in crowds: in threads, in tasks, deep in other calls, and late in a program's life."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import copy_context
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from subjects import DOING_NOTHING, ORDER, PLAIN, Slot, loop, total

THREADS, TASKS, DEPTH = 8, 10_000, 50


async def pausing(order):
    """Stand for a coroutine function that waits for something, while others run."""
    await asyncio.sleep(0)
    return {"id": order["id"], "total": order["price"] * order["count"]}


def in_threads(function: Any) -> Slot:
    """Return a slot whose calls are shared among threads."""
    loops = [loop("total(order)", {"total": function, "order": ORDER}) for _ in range(THREADS)]

    def run(times: int) -> int:
        gate = threading.Barrier(THREADS + 1)

        def work(slot: Slot) -> None:
            gate.wait()
            slot.run(times)

        threads = [threading.Thread(target=work, args=(slot,)) for slot in loops]
        for thread in threads:
            thread.start()
        gate.wait()
        start = perf_counter_ns()
        for thread in threads:
            thread.join()
        return perf_counter_ns() - start

    return Slot(run, THREADS * loops[0].calls)


def in_tasks(function: Any) -> Slot:
    """Return a slot whose calls are tasks that are all in flight at the same time."""
    runner = asyncio.Runner()

    async def crowd(times: int) -> int:
        elapsed = 0
        for _ in range(times):
            start = perf_counter_ns()
            await asyncio.gather(*[function(ORDER) for _ in range(TASKS)])
            elapsed += perf_counter_ns() - start
        return elapsed

    return Slot(lambda times: runner.run(crowd(times), context=copy_context()), TASKS)


def in_depth(decorate: Callable[[Any], Any]) -> Slot:
    """Return a slot whose calls are made inside of others that are decorated too."""
    bottom = loop("total(order)", {"total": decorate(total), "order": ORDER})
    elapsed = [0]

    @decorate
    def descend(depth: int, times: int) -> None:
        if depth:
            descend(depth - 1, times)
        else:
            elapsed[0] = bottom.run(times)

    def run(times: int) -> int:
        descend(DEPTH - 1, times)
        return elapsed[0]

    return Slot(run, bottom.calls)


def calls(calls_before: int = 0) -> dict[str, Slot]:
    """Measure single calls and crowds of them.

    Args:
        calls_before: how many recorded calls the process has behind it.
    """
    import flowtrace

    flowtrace.configure(mode="on", out_path=Path.cwd() / "trace.json")
    slots: dict[str, Slot] = {}
    for name, decorate in ((PLAIN, DOING_NOTHING[PLAIN]), ("flowtrace", flowtrace.traced_node)):
        slots |= {
            f"single {name}": loop("total(order)", {"total": decorate(total), "order": ORDER}),
            f"threads {name}": in_threads(decorate(total)),
            f"depth {name}": in_depth(decorate),
            f"awaited {name}": loop("await pausing(order)", {"pausing": decorate(pausing), "order": ORDER}),
            f"tasks {name}": in_tasks(decorate(pausing)),
        }
    single = slots["single flowtrace"]
    single.run(calls_before // single.calls)
    return slots
