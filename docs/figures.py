"""The figures on the pages and in the README: those of the last benchmark and of the last conformance run, in words."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_RESULTS = ROOT / "bench" / "results"
_PROMISES = ROOT / "docs" / "pages" / "evidence" / "promises.md"
_PEERS = {
    "OpenTelemetry": "opentelemetry-sdk",
    "Logfire": "logfire",
    "Langfuse": "langfuse",
    "LangSmith": "langsmith",
    "MLflow": "mlflow-tracing",
    "ddtrace": "ddtrace",
    "Sentry": "sentry-sdk",
    "eliot": "eliot",
    "VizTracer": "viztracer",
}


def _bench() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((_RESULTS / "bench.json").read_text(encoding="utf-8"))
    return found


def _checks() -> tuple[int, int]:
    """Return how many conformance checks of the native core there were, and how many failed."""
    own = json.loads((_RESULTS / "conformance.json").read_text(encoding="utf-8"))["own"]["native"]
    cells = [cell for row in own["check"].values() for cell in row.values()]
    cells += [cell for row in own["scenario"].values() for cell in row.values()]
    passed, failed = (sum(cell[at] for cell in cells) for at in (0, 1))
    return passed + failed, failed


def _faults() -> int:
    """Return how many kinds of faults and kills the page of the promises has a test for."""
    text = _PROMISES.read_text(encoding="utf-8")
    tables = re.findall(r"^## (?:Faults|Kills)\n(.*?)(?=^## )", text, re.MULTILINE | re.DOTALL)
    return sum(len(re.findall(r"^\| (?!promise|fault|---)", table, re.MULTILINE)) for table in tables)


def added(row: dict[str, Any], name: str, base: str) -> float:
    """Return what something adds to an undecorated call, in nanoseconds."""
    parts = {key.removesuffix(", ns"): part["median"] for key, part in row["parts"].items()}
    return float(parts[name] - parts[base])


def promises(pages: str) -> str:
    """Return the three promises, each with the link to its proof and a figure.

    Args:
        pages: the path from where the text stands to the folder of the pages.
    """
    rows = _bench()["rows"]
    checks, failed = _checks()
    closure, ours = (added(rows["off-added"], name, "undecorated") for name in ("closure", "flowtrace"))
    writes = next(part["median"] for name, part in rows["burst-rate"]["parts"].items() if "writes" in name)
    return f"""\
- **You decorate functions: your program never changes.** Same results, same exception objects, same signatures, types,
  generators and pickling. [Proof]({pages}/evidence/conformance.md): {checks:,} checks of decorated beside undecorated
  programs, {failed} fail.
- **You only set environment variables: one variable in, one file out.** Whole at every moment, readable by its owner
  only, without the values whose names look secret. [Proof]({pages}/evidence/promises.md): {_faults()} faults, from a
  full disk to a killed process, each with its test; 100,000 failing runs in a row are {writes:.0f} writes.
- **You ship a library with decorated functions: off is free.** No file, no thread, no logging set-up.
  [Proof]({pages}/evidence/benchmark.md): {ours:.0f} ns added to a call, where a closure adds {closure:.0f}."""


def cost() -> str:
    """Return what recording costs, as a list."""
    found = _bench()
    rows, machine = found["rows"], found["machine"]
    call = rows["added-function"]
    off, on, idle = (
        added(rows["off-added"], "flowtrace", "undecorated"),
        added(call, "function flowtrace", "function undecorated"),
        added(call, "function wrapt", "function undecorated"),
    )
    method, coroutine = (added(call, f"{kind} flowtrace", f"{kind} undecorated") for kind in ("method", "coroutine"))
    failure = {name.partition(",")[0]: part["median"] for name, part in rows["failure"]["parts"].items()}
    return f"""\
- Off: {off:.0f} ns a call, less than a decorator that does nothing.
- On: {on:.0f} ns for a call with small arguments, {method:.0f} for a method, {coroutine:.0f} for a coroutine.
  A decorator made with wrapt that does nothing adds {idle:.0f} to the first.
- A failure: {failure["flowtrace"]:.1f} ms for a run of 20 steps.
  To write as many bytes and wait for the disk takes {failure["disk"]:.1f}.

Medians, with the core in C, on {machine["processor"]}, {machine["Python"].partition(" (")[0]}."""


def others() -> str:
    """Return a table of what other decorators add to a call, in times of what flowtrace adds."""
    found = _bench()
    rows, versions = found["rows"], found["versions"]
    lines = [
        "| decorator | version | recording, a function | recording, a coroutine | switched off |",
        "|---|---|--:|--:|--:|",
    ]
    for name, package in _PEERS.items():
        cells = [rows.get(f"peer {name} {kind}") for kind in ("function", "coroutine", "off")]
        numbers = [f"{cell['value']['median']:.3g}" if cell else "not measured" for cell in cells]
        lines.append(f"| {name} | {package} {versions[package]} | {' | '.join(numbers)} |")
    return "\n".join(lines)
