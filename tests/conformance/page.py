"""The part of the conformance page that is about flowtrace alone.

`main` runs everything on the implementation in use and prints what it found as JSON; `run_both` starts a process for
each implementation.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

from . import matrix, recursion, scenarios
from .flowtrace_subject import FLOWTRACE, INHERENT
from .subject import MODES

IMPLEMENTATIONS = {"native": "", "pure": "1"}
"""Each implementation, with the value of FLOWTRACE_PURE that chooses it."""
Found = dict[str, Any]
NAMES = [mode.name for mode in MODES]


# --- run


def run_both() -> dict[str, Found]:
    """Run everything on both implementations, each in a process of its own."""
    # -P: the flowtrace of the working folder has no native core.
    # At the end of the path: tests/typing would hide the standard library.
    code = "import sys; sys.path.append(sys.argv[1]); from conformance import page; page.main()"
    command = [sys.executable, "-P", "-c", code, str(Path(__file__).parent.parent)]
    running = {
        name: subprocess.Popen(command, env=os.environ | {"FLOWTRACE_PURE": value}, stdout=subprocess.PIPE, text=True)
        for name, value in IMPLEMENTATIONS.items()
    }
    found = {}
    for name, process in running.items():
        said, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"the checks of the {name} implementation ended with status {process.returncode}")
        found[name] = json.loads(said.splitlines()[-1])
    return found


def run() -> Found:
    """Run everything on the implementation in use, and count by binding, call shape, scenario and check."""
    by: dict[str, Any] = {name: defaultdict(lambda: defaultdict(lambda: [0, 0])) for name in ("binding", "shape")}
    by |= {name: defaultdict(lambda: defaultdict(lambda: [0, 0])) for name in ("check", "scenario", "group")}

    def count(mode: str, problem: str, **places: str) -> None:
        for kind, place in places.items():
            by[kind][place][mode][bool(problem)] += 1

    for cell in matrix.run(FLOWTRACE):
        count(cell.mode, cell.problem, binding=cell.binding, shape=cell.shape, check=cell.column)
    for result in scenarios.run(FLOWTRACE):
        group = result.scenario.partition(":")[0]
        count(result.mode, result.problem, scenario=result.scenario, group=group)
    left = {kind: {} for kind in recursion.DEPTHS}
    for (kind, mode), part in recursion.figures(FLOWTRACE).items():
        left[kind][mode] = part
    return by | {"left": left, "python": platform.python_version(), "programs": len(list(matrix.rows()))}


def main() -> None:
    """Print what was found, as JSON."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.chdir(folder)
        try:
            print(json.dumps(run()))
        finally:
            FLOWTRACE.set_mode("off")
            os.chdir(before)


# --- tell


def _sum(modes: dict[str, list[int]]) -> tuple[int, int]:
    """Return how many passed and failed, over all modes."""
    return sum(counts[0] for counts in modes.values()), sum(counts[1] for counts in modes.values())


def _all(found: Found) -> tuple[int, int]:
    """Return how many checks passed and failed, the scenarios too."""
    counted = [_sum(modes) for kind in ("check", "scenario") for modes in found[kind].values()]
    return sum(passed for passed, _ in counted), sum(fails for _, fails in counted)


def failing(found: Found) -> dict[str, int]:
    """Return how often each check and scenario fails, for those that do."""
    parts = [*found["check"].items(), *found["scenario"].items()]
    counted = {name: _sum(modes)[1] for name, modes in parts}
    return {name: number for name, number in counted.items() if number}


def not_excused(both: dict[str, Found]) -> set[str]:
    """Return the checks and scenarios that fail where nothing explains it."""
    return {*failing(both["native"]), *(failing(both["pure"]).keys() - INHERENT.keys())}


def summary(both: dict[str, Found]) -> str:
    """Return what the page begins with."""
    (passed, fails), (pure_passed, pure_fails) = _all(both["native"]), _all(both["pure"])
    return f"""\
With the native core, a program can see one difference: the exact type. A traced function, and the coroutine,
generator or async generator that its call gives, is *presented*. To `isinstance`, `inspect` and `__class__` it is the
real one; `type(f) is types.FunctionType` and `type(body) is types.CoroutineType` are False. The checks ask as
programs do. So `types.FunctionType.__get__(f, x)` refuses it, as it refuses all that is of another type, and
`sys.monitoring` sees the end of its call (`C_RETURN`) as that of a callable in C.

- Native core: {passed + fails:,} checks in {len(MODES)} modes, of which {fails:,} fail.
- Pure twin, where the core was not built: {pure_passed + pure_fails:,} checks, {pure_fails:,} fail, all for
  [the reasons given below](#what-the-pure-twin-cannot-do).
- [Other decorators](#the-same-checks-for-other-decorators) were checked too, while they trace and switched off."""


def section(both: dict[str, Found]) -> str:
    """Return the section in Markdown."""
    native = both["native"]
    return "\n".join(
        [
            "## flowtrace, in every mode\n",
            f"{native['programs']} programs (a call shape in a binding) and {len(native['scenario'])} scenarios, each"
            f" undecorated\nand decorated (CPython {native['python']}). *Switched on* is decorated while off and called"
            " while on; *switched off* the\nother way round. What a function looks like is checked in the modes off and"
            " on only. The columns of the modes are of the\nnative core, the last is of the pure twin in all modes;"
            " `n of m` where n checks fail.\n",
            "### By check\n",
            _table("check", both, "check"),
            "### By binding\n",
            _table("binding", both, "binding"),
            "### By call shape\n",
            _table("call shape", both, "shape"),
            "### Scenarios\n",
            _table("scenarios", both, "group"),
            _inherent(both["pure"]),
            _depths(both),
        ]
    )


def _cell(passed: int, fails: int) -> str:
    if not passed + fails:
        return "–"
    return f"{fails:,} of {passed + fails:,}" if fails else f"✓ {passed:,}"


def _table(first: str, both: dict[str, Found], kind: str) -> str:
    lines = [f"| {first} | {' | '.join(NAMES)} | pure twin |", "|---" + "|--:" * (len(NAMES) + 1) + "|"]
    for place, modes in both["native"][kind].items():
        cells = [_cell(*modes.get(name, [0, 0])) for name in NAMES] + [_cell(*_sum(both["pure"][kind][place]))]
        lines.append(f"| {place.replace('_', ' ')} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _inherent(pure: Found) -> str:
    lines = ["### What the pure twin cannot do\n"]
    fails = failing(pure)
    for name, why in INHERENT.items():
        shown = name.replace("_", " ").replace(": ", " – ")
        lines.append(f"- *{shown}* ({fails.get(name, 0):,}): {why}.")
    lines.append("")
    lines.append("No argument is left in a frame of the twin's when an error is reported, and a class holds one object")
    lines.append("for a method, as with the native core.\n")
    return "\n".join(lines)


def _depths(both: dict[str, Found]) -> str:
    lines = [
        "### Recursion\n",
        "How much of the depth of an undecorated recursion is left within the same recursion limit, on the Python that",
        "this page was made with. The native core needs C stack for each call, which Python's own calls do not: with a",
        "limit far above the default, or in a small thread, RecursionError comes earlier than without decoration, and",
        "never a crash.\n",
        "| recursive | off | on | pure twin, off | pure twin, on |",
        "|---|--:|--:|--:|--:|",
    ]
    for kind in recursion.DEPTHS:
        parts = [both[name]["left"][kind][mode] for name in IMPLEMENTATIONS for mode in ("off", "on")]
        lines.append(f"| {kind} | {' | '.join(f'{part:.0%}' for part in parts)} |")
    return "\n".join(lines) + "\n"
