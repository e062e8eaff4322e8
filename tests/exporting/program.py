"""A program with tasks, a thread, recursion and errors: its trace, and what `show --json` says of that."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path

import flowtrace as library
from flowtrace import traced_node
from tests.cli.commands import flowtrace


@traced_node(component="shop")
def price(item):
    if item == "cake":
        raise ValueError("no price\n<b>for</b> cake \u202e")
    return {"amount": 2.5, "of": item}


@traced_node(component="shop")
async def fetch(number):
    await asyncio.sleep(0.002 * number)
    return price("tea")


@traced_node(component="shop")
async def gather():
    return await asyncio.gather(*(fetch(number) for number in range(1, 4)))


@traced_node(component="shop")
def deep(number):
    return 0 if number == 0 else 1 + deep(number - 1)


@traced_node(component="shop")
def total():
    asyncio.run(gather())
    deep(30)
    worker = threading.Thread(target=library.propagate(price), args=("tea",), name="worker")
    worker.start()
    worker.join()
    try:
        price("cake")
    except ValueError:
        pass
    price("cake")


def write_trace(path="trace.json"):
    """Run the program, and return the trace's steps as `flowtrace show --json` prints them."""
    context = library.TraceContext("program.py", "process")
    settings = {"context": context, "mode": "on", "buffer_size": 100, "capture_inputs": True, "capture_outputs": True}
    with library.override(out_path=path, **settings):
        try:
            total()
        except ValueError:
            pass
    return shown(path)


def shown(path):
    """Return the steps of a trace as `flowtrace show --json` prints them, by pointer."""
    done = flowtrace("show", "--json", path)
    assert (done.returncode, done.stderr) == (0, "")
    return {step["pointer"]: step for step in json.loads(done.stdout)["steps"]}


def export(form, path="trace.json", out="exported"):
    """Export a trace, and return the file's content."""
    done = flowtrace("export", path, "--format", form, "-o", out)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return Path(out).read_bytes()


def facts(steps):
    """Return what every export has to say of the steps: pointer, node, caller, state, error and duration."""
    return sorted(
        (
            pointer,
            step["record"]["node_id"],
            step["parent"],
            step["state"],
            ((step["record"].get("error") or {}).get("details") or {}).get("type"),
            step["record"]["duration_ns"],
        )
        for pointer, step in steps.items()
    )
