"""Runs that fail, and the same bytes written with nothing around them."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path
from time import perf_counter_ns

from subjects import ORDER, Slot, ignore

STEPS = 20


def write(path: Path, data: bytes) -> None:
    """Write a file as safely as one must, and do nothing else: write, fsync, rename."""
    temporary = path.with_suffix(".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(descriptor, data)
    os.fsync(descriptor)
    os.close(descriptor)
    temporary.replace(path)


def failing_runs() -> dict[str, Slot]:
    """Measure a flow whose last step fails, from its first line to where its exception arrives."""
    import flowtrace

    node = flowtrace.traced_node(ignore)

    @flowtrace.traced_node
    def fail(order):
        raise ValueError(order["id"])

    numbers = count()

    def new_path() -> Path:
        return Path.cwd() / f"{next(numbers)}.json"

    def run(times: int) -> int:
        elapsed = 0
        for _ in range(times):
            # A file of its own for each run: the second of one file would be that of a burst.
            flowtrace.configure(mode="on", out_path=new_path())
            start = perf_counter_ns()
            try:
                with flowtrace.flow("bench"):
                    for _ in range(STEPS - 1):
                        node(ORDER)
                    fail(ORDER)
            except ValueError:
                elapsed += perf_counter_ns() - start
        return elapsed

    run(2)
    written = Path.cwd() / "1.json"
    steps = flowtrace.load_trace(written).steps
    if len(steps) != STEPS or steps[-1].error is None:
        raise SystemExit(f"{written} is not the trace of a failing run of {STEPS} steps")
    data = written.read_bytes()

    def write_only(times: int) -> int:
        paths = [new_path() for _ in range(times)]
        start = perf_counter_ns()
        for path in paths:
            write(path, data)
        return perf_counter_ns() - start

    return {"flowtrace": Slot(run), "disk": Slot(write_only), "size": Slot(lambda _: {"bytes": len(data)})}
