"""Measure what flowtrace costs, print the table, and write the results and the page.

    python bench/benchmark.py                     everything; writes the results and the page
    python bench/benchmark.py --quick             the central rows, in less than a minute; writes nothing
    python bench/benchmark.py --only on,scale     some sessions (with --quick in their quick form); writes nothing
    python bench/benchmark.py --only box --renew  puts them into the results of the last run and the page, which say so;
                                                  on another Python than that of the last run, into a column of its own
    python bench/benchmark.py --page              the page again, from the results of the last run
    python bench/benchmark.py --check             end with an error where the page is not that of the results
    python bench/benchmark.py --folder PATH       work in this folder: the disk under it is the one that is measured

It measures the flowtrace that its interpreter finds; `make bench` makes an environment that holds the wheel and the
peers.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "bench.json"
# The modules below are beside this file and in tests/: neither is a package that is installed.
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

import benchmark_page  # noqa: E402
import machine  # noqa: E402
import other_pythons  # noqa: E402
import rows_box  # noqa: E402
import rows_calls  # noqa: E402
import rows_failures  # noqa: E402
import rows_import  # noqa: E402
import rows_peers  # noqa: E402
import rows_readers  # noqa: E402
import rows_scale  # noqa: E402
import rows_values  # noqa: E402
from rows import Session  # noqa: E402
from samples import Spread, Taken  # noqa: E402
from turns import Plan  # noqa: E402

MODULES = (rows_calls, rows_box, rows_import, rows_values, rows_failures, rows_scale, rows_readers, rows_peers)
SESSIONS: tuple[Session, ...] = tuple(session for module in MODULES for session in module.SESSIONS)


def summary(taken: Taken) -> dict[str, Any]:
    """Return what the results say of a row."""
    parts = {name: Spread.of(samples).rounded() for name, samples in taken.parts.items()}
    return {"value": Spread.of(taken.samples).rounded(), "parts": parts, "note": taken.note}


def measure(sessions: list[Session], plan: Plan) -> dict[str, Any]:
    """Measure sessions; print each row as it comes."""
    found: dict[str, Any] = {}
    for session in sessions:
        started = time.monotonic()
        taken = session.take(plan)
        for row in session.rows:
            found[row.key] = result = summary(taken[row.key])
            print(benchmark_page.line(row, result), flush=True)
        print(f"({session.name}: {time.monotonic() - started:.0f} s)", flush=True)
    return found


def measure_all(plan: Plan) -> dict[str, Any]:
    """Measure everything, and say where."""
    facts = machine.facts(plan.folder)
    distributions = [peer.distribution for peer in rows_peers.PEERS]
    started = time.monotonic()
    rows = measure(list(SESSIONS), plan)
    seconds = round(time.monotonic() - started)
    return {"machine": facts, "versions": machine.versions(distributions), "seconds": seconds, "rows": rows}


def renew(sessions: list[Session], plan: Plan) -> None:
    """Measure sessions, put their rows into the results of the last whole run, and say when that was."""
    facts = machine.facts(plan.folder)
    rows = measure(sessions, plan)
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    if f" {machine.python()}." in results["machine"]["Python"]:
        results["rows"] |= rows
        day_and_load = {name: facts[name] for name in ("day", "load before the run")}
        results["renewed"] = results.get("renewed", {}) | {session.name: day_and_load for session in sessions}
    else:
        there = results.setdefault("pythons", {}).setdefault(machine.python(), {"rows": {}})
        there["rows"] |= rows
        there |= {"Python": facts["Python"], "day": facts["day"], "load": facts["load before the run"]}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    write_page(check=False)


def write_page(*, check: bool) -> None:
    """Write the page from the results, or only compare the two."""
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    rows = [row for session in SESSIONS for row in session.rows]
    others = other_pythons.section(rows, results.get("pythons", {}))
    text = benchmark_page.text(SESSIONS, results, others)
    page = benchmark_page.PAGE
    if not check:
        page.write_text(text, encoding="utf-8")
    elif page.read_text(encoding="utf-8") != text:
        raise SystemExit(f"{page} is not the page of {RESULTS}: write it with `python bench/benchmark.py --page`")


def arguments() -> argparse.Namespace:
    """Return the arguments, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="", metavar="NAMES")
    parser.add_argument("--renew", action="store_true")
    parser.add_argument("--page", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--folder", type=Path, default=HERE / "tmp")
    given = parser.parse_args()
    given.names = {name for name in given.only.split(",") if name}
    names = {session.name for session in SESSIONS}
    if unknown := given.names - names:
        parser.error(f"--only: {', '.join(unknown)} is none of: {', '.join(names)}")
    if given.renew and (given.quick or not given.names):
        parser.error("--renew wants --only, and no --quick")
    return given


def main() -> None:
    """Do what the arguments say."""
    given = arguments()
    if given.page or given.check:
        write_page(check=given.check)
        return
    given.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        plan = Plan(given.quick, Path(folder).resolve())
        if given.names or given.quick:
            chosen = [each for each in SESSIONS if (each.name in given.names if given.names else each.quick)]
            (renew if given.renew else measure)(chosen, plan)
            return
        results = measure_all(plan)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    write_page(check=False)
    print(f"wrote {RESULTS} and {benchmark_page.PAGE}")


if __name__ == "__main__":
    main()
