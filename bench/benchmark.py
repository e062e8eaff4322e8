"""Measure what flowtrace costs, print the table, and write the results and the page.

    python bench/benchmark.py                     everything; writes the results and the page
    python bench/benchmark.py --quick             the central rows, in less than a minute; writes nothing
    python bench/benchmark.py --only on,scale     some sessions (with --quick in their quick form); writes nothing
    python bench/benchmark.py --page              the page again, from the results of the last run
    python bench/benchmark.py --folder PATH       work in this folder: the disk under it is the one that is measured

It measures the flowtrace that its interpreter finds; `make bench` makes an environment that holds the wheel and the
peers.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "bench.json"
# The modules below are beside this file and in tests/: neither is a package that is installed.
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

import rows_calls  # noqa: E402
import rows_import  # noqa: E402
from rows import Session  # noqa: E402
from samples import Spread, Taken  # noqa: E402
from turns import Plan  # noqa: E402

SESSIONS: tuple[Session, ...] = (*rows_calls.SESSIONS, *rows_import.SESSIONS)


def summary(taken: Taken) -> dict[str, Any]:
    """Return what the results say of a row."""
    parts = {name: vars(Spread.of(samples)) for name, samples in taken.parts.items()}
    return {"value": vars(Spread.of(taken.samples)), "parts": parts, "note": taken.note}


def measure(sessions: list[Session], plan: Plan) -> dict[str, Any]:
    """Measure sessions; print each row as it comes."""
    found: dict[str, Any] = {}
    for session in sessions:
        started = time.monotonic()
        taken = session.take(plan)
        for row in session.rows:
            found[row.key] = result = summary(taken[row.key])
            print(line(row, result), flush=True)
        print(f"({session.name}: {time.monotonic() - started:.0f} s)", flush=True)
    return found


def line(row: Any, result: dict[str, Any]) -> str:
    """Return a row of the printed table."""
    value, goal = result["value"], row.goal
    asked = "" if goal is None else f"{goal.bound} {goal.value:.3g}"
    verdict = "" if goal is None else "met" if goal.is_met(value["median"]) else "MISSED"
    spread = f"[{value['low']:.3g} to {value['high']:.3g}]"
    parts = ", ".join(f"{name} {part['median']:,.4g}" for name, part in result["parts"].items())
    head = f"{row.key:18} {value['median']:9.3g} {row.unit:7} {spread:20} {asked:14} {verdict:7}"
    return f"{head} {parts} {result['note']}".rstrip()


def main() -> None:
    """Do what the arguments say."""
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--page", action="store_true")
    parser.add_argument("--folder", type=Path, default=HERE / "tmp")
    arguments = parser.parse_args()
    names = [name for name in arguments.only.split(",") if name]
    if unknown := set(names) - {session.name for session in SESSIONS}:
        raise SystemExit(f"{unknown} is none of: {', '.join(session.name for session in SESSIONS)}")
    chosen = [
        session for session in SESSIONS if (session.name in names if names else session.quick or not arguments.quick)
    ]
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        measure(chosen, Plan(arguments.quick, Path(folder)))


if __name__ == "__main__":
    main()
