"""Modules of users' nodes, their traces, and replays of these."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import sys
import textwrap
from contextlib import suppress
from itertools import count
from pathlib import Path

import flowtrace

_numbers = count(1)


def new_module(folder, source):
    """Write a module of a name that is used only once, and import it from a folder."""
    name = f"nodes_{next(_numbers)}"
    (Path(folder) / f"{name}.py").write_text(textwrap.dedent(source), encoding="utf-8")
    importlib.invalidate_caches()
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(folder))


def drive(returned):
    """Run what a node returned to its end, as its caller would."""
    if inspect.iscoroutine(returned):
        return asyncio.run(returned)
    if inspect.isgenerator(returned):
        return list(returned)
    if inspect.isasyncgen(returned):

        async def collect():
            return [item async for item in returned]

        return asyncio.run(collect())
    return returned


def record(path, *calls, **changes):
    """Make calls, functions without parameters, whatever they raise; write the trace of their steps."""
    settings = {"mode": "on", "buffer_size": 1000, "capture_inputs": True, "capture_outputs": True, **changes}
    with flowtrace.override(out_path="unused.json", **settings):
        for call in calls:
            with suppress(Exception):
                drive(call())
        flowtrace.dump(path)
    with suppress(FileNotFoundError):
        Path("unused.json").unlink()
    return path


def edit(path, change):
    """Change the JSON document of a trace."""
    document = json.loads(Path(path).read_bytes())
    change(document)
    Path(path).write_text(json.dumps(document), encoding="utf-8")


def outcomes(report):
    """Return what became of each step, in short."""
    return [(item.step.operation, str(item.outcome), item.reason) for item in report.steps]
