"""The part of the conformance page that is about flowtrace alone, from a run: ``python -m tests.conformance.page``."""

from __future__ import annotations

import os
import platform
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from . import matrix, recursion, scenarios
from .flowtrace_subject import FLOWTRACE
from .subject import MODES


def section() -> str:
    """Run everything, and return the section in Markdown."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.chdir(folder)
        try:
            cells = list(matrix.run(FLOWTRACE))
            results = list(scenarios.run(FLOWTRACE))
            left = recursion.figures(FLOWTRACE)
        finally:
            FLOWTRACE.set_mode("off")
            os.chdir(before)
    return "\n".join(
        [
            "## flowtrace, in every mode\n",
            _summary(cells, results),
            "### By binding\n",
            "Number of checks, over all call shapes; `n of m` where n of them fail.\n",
            _table("binding", [(cell.binding, cell.mode, bool(cell.problem)) for cell in cells]),
            "### By call shape\n",
            _table("call shape", [(cell.shape, cell.mode, bool(cell.problem)) for cell in cells]),
            "### Protocols and special methods\n",
            _table("scenarios", [(item.scenario.partition(":")[0], item.mode, bool(item.problem)) for item in results]),
            _depths(left),
        ]
    )


def _summary(cells: list[matrix.Cell], results: list[scenarios.Result]) -> str:
    programs = len({(cell.shape, cell.binding) for cell in cells})
    failing = sum(bool(item.problem) for item in [*cells, *results])
    return (
        f"{programs} programs (a call shape in a binding) and {len(scenarios.SCENARIOS)} scenarios, each undecorated"
        f" and decorated, in {len(MODES)} modes: {len(cells) + len(results):,} checks, {failing:,}"
        f" of which fail (CPython"
        f" {platform.python_version()}). *Switched on* is decorated while off and called while on; *switched off* the"
        " other way round. What a function looks like is checked in the modes off and on only.\n"
    )


def _table(first: str, found: Iterable[tuple[str, str, bool]]) -> str:
    checks: Counter[tuple[str, str]] = Counter()
    failing: Counter[tuple[str, str]] = Counter()
    for row, mode, fails in found:
        checks[row, mode] += 1
        failing[row, mode] += fails
    names = [mode.name for mode in MODES]
    lines = [f"| {first} | {' | '.join(names)} |", "|---" + "|--:" * len(names) + "|"]
    for row in dict.fromkeys(row for row, _ in checks):
        shown = [
            f"{failing[row, name]} of {checks[row, name]}" if failing[row, name] else f"✓ {checks[row, name]}"
            for name in names
        ]
        lines.append(f"| {row} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def _depths(left: dict[tuple[str, str], float]) -> str:
    lines = [
        "### Recursion\n",
        "How much of the depth of an undecorated recursion is left within the same recursion limit, on the Python that",
        "this page was made with. All of it is, with the native core. It needs C stack for each call, which",
        "Python's own calls do not: with a limit far above the default, or in a small thread, RecursionError",
        "comes earlier than without decoration, and never a crash. The pure core leaves a third on 3.11 and",
        "a half on 3.12 and 3.13.\n",
        "| recursive | off | on |",
        "|---|--:|--:|",
    ]
    for kind in recursion.DEPTHS:
        lines.append(f"| {kind} | {left[kind, 'off']:.0%} | {left[kind, 'on']:.0%} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(section())
