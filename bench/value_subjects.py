"""Calls with large values: how long they take, and what they hold."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import memory
from subjects import ORDER, Slot, ignore, loop, total

KEYS = 200_000
ARRAY_BYTES = 256 * memory.MEGA
VALUE_BYTES = 10 * memory.MEGA
MIB = 1024 * memory.KIB


def traced(function: Any, **settings: Any) -> Any:
    """Return a decorated function, with the recorder switched on and used once."""
    import flowtrace

    # the governor would leave the values out that are to be measured
    flowtrace.configure(mode="on", out_path=Path.cwd() / "trace.json", max_overhead=0, **settings)
    node = flowtrace.traced_node(function)
    node({**ORDER, "text": "short"})
    return node


def dictionary() -> dict[str, int]:
    """Return a dictionary of many keys, in no order."""
    numbers = list(range(KEYS))
    random.Random(1).shuffle(numbers)
    return {f"key{number:06}": number for number in numbers}


def array() -> Any:
    """Return a contiguous array of two dimensions, every page of it in memory."""
    import numpy

    return numpy.arange(ARRAY_BYTES // 8, dtype="float64").reshape(1000, -1)


def dictionary_calls() -> dict[str, Slot]:
    """Measure a call with a large dictionary, and the encoding of the same one."""
    import orjson

    names = {"value": dictionary(), "node": traced(ignore), "dumps": orjson.dumps, "sort": orjson.OPT_SORT_KEYS}
    return {"orjson": loop("dumps(value, None, sort)", names, 1), "flowtrace": loop("node(value)", names, 1)}


def array_calls() -> dict[str, Slot]:
    """Measure a call with a large array, and the hash of the same buffer."""
    from blake3 import blake3

    value = array()
    names = {"value": value, "node": traced(ignore), "blake3": blake3}
    names |= {"buffer": memoryview(value).cast("B"), "threads": blake3.AUTO}
    return {
        "blake3": loop("blake3(buffer, max_threads=threads).digest()", names, 1),
        "flowtrace": loop("node(value)", names, 1),
    }


def _once(report: Any) -> dict[str, Slot]:
    return {"once": Slot(lambda _: report())}


def dictionary_peak(buffer_bytes: int, capture: bool) -> dict[str, Slot]:
    """Report what a call with a large dictionary holds at its peak."""
    value = dictionary()
    node = traced(ignore, buffer_bytes=buffer_bytes, capture_inputs=capture)
    return _once(lambda: {"peak": memory.peak_above_start(lambda: node(value))})


def orjson_peak() -> dict[str, Slot]:
    """Report what the encoding of the large dictionary alone holds at its peak: more than it returns."""
    import orjson

    value = dictionary()
    orjson.dumps({}, None, orjson.OPT_SORT_KEYS)
    return _once(lambda: {"peak": memory.peak_above_start(lambda: orjson.dumps(value, None, orjson.OPT_SORT_KEYS))})


def array_peak() -> dict[str, Slot]:
    """Report what a call with a large array holds at its peak, beside the array."""
    value = array()
    node = traced(ignore)
    return _once(lambda: {"peak": memory.peak_above_start(lambda: node(value))})


def values_peak(capture: bool) -> dict[str, Slot]:
    """Report what a hundred calls with large values hold at their peak, the caller's own value included."""
    node = traced(lambda order: len(order["text"]), capture_inputs=capture, capture_outputs=capture)

    def calls() -> None:
        for number in range(100):
            node({"text": f"{number % 10}" * VALUE_BYTES})

    return _once(lambda: {"peak": memory.peak_above_start(calls)})


def kept_steps(steps: int, buffer_bytes: int) -> dict[str, Slot]:
    """Report by how much a process has grown when it keeps many small steps."""
    node = traced(total, buffer_size=steps, buffer_bytes=buffer_bytes)

    def calls() -> None:
        for number in range(steps):
            node({"id": number, "price": number + 0.5, "count": 3})

    return _once(lambda: {"growth": memory.growth_over(calls)})


def growth(calls: int) -> dict[str, Slot]:
    """Report by how much a process has grown after many small calls."""
    run = loop("node(order)", {"node": traced(total), "order": ORDER})
    run.run(2_000)
    return _once(lambda: {"growth": memory.growth_over(lambda: run.run(calls // run.calls))})
