"""Run the conformance matrix against flowtrace and its peers, and write the page that compares them.

    python bench/conformance_peers.py            run everything, write the results and the page
    python bench/conformance_peers.py eliot      run one peer, print what it fails, write nothing
    python bench/conformance_peers.py --own      run flowtrace's own matrix, keep the others' last results
    python bench/conformance_peers.py --page     write the page from the results of the last run

`make conformance` makes the environment that this needs. Each peer runs in a process of its own with a time limit
for each check, each row and the complete run; a process that dies costs its peer one row, and another one goes on.
"""

from __future__ import annotations

import json
import os
import platform
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "conformance.json"
# The modules below are beside this file and in tests/: neither is a package that is installed.
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

import conformance_page  # noqa: E402
import peers  # noqa: E402
from conformance import matrix, page, scenarios  # noqa: E402
from conformance.flowtrace_subject import INHERENT  # noqa: E402

ROW_SECONDS = 60
RUN_SECONDS = 900
NOT_RUN = "not run: the time was up"
ROWS = [(shape.name, binding.name) for shape, binding in matrix.rows()]
NAMES = [column.__name__ for column in conformance_page.COLUMNS]


class BrokenError(Exception):
    """The process died or was stopped; the text says how."""


class Worker:
    """A process that runs rows, from a first one on.

    Attributes:
        noise: what the peer prints.
    """

    def __init__(self, peer: peers.Peer, mode: str, first: int, folder: str) -> None:
        self.noise = Path(folder) / "noise.txt"
        command = [sys.executable, str(HERE / "conformance_worker.py"), peer.name, mode, str(first)]
        with self.noise.open("w") as noise:
            environ = os.environ | peer.environ
            self._process = subprocess.Popen(
                command, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=noise, text=True
            )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def line(self, seconds: float) -> dict[str, Any]:
        """Return its next line."""
        try:
            line = self._lines.get(timeout=max(seconds, 0))
        except queue.Empty:
            raise BrokenError(f"not done after {seconds:.0f} s") from None
        if not line:
            raise BrokenError(f"the process ended with status {self._process.wait()}")
        return json.loads(line)

    def stop(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.wait()


def run_from(peer: peers.Peer, mode: str, first: int, until: float, rows: dict[int, Any]) -> dict[str, Any]:
    """Run a worker from a row on; return its last line, or where the next worker has to begin."""
    current = first - 1
    with tempfile.TemporaryDirectory() as folder:
        worker = Worker(peer, mode, first, folder)
        try:
            while True:
                line = worker.line(min(ROW_SECONDS, until - time.monotonic()))
                if "end" in line:
                    return line
                if "begin" in line:
                    current = line["begin"]
                else:
                    rows[line["row"]] = line
        except BrokenError as broken:
            if current < first:
                raise SystemExit(f"{peer.name} did not start: {broken}\n{worker.noise.read_text()[-2000:]}") from None
            rows[current] = {"failed": dict.fromkeys(NAMES, str(broken)), "problem": str(broken)}
            return {"next": current + 1}
        finally:
            worker.stop()


def run_peer(peer: peers.Peer, mode: str) -> dict[str, Any]:
    """Run one peer in one mode."""
    rows: dict[int, Any] = {}
    until = time.monotonic() + RUN_SECONDS
    ended: dict[str, Any] = {"next": 0}
    restarted = False
    while "next" in ended and time.monotonic() < until:
        restarted = bool(ended["next"])
        ended = run_from(peer, mode, ended["next"], until, rows)
    if ended.get("network"):
        raise SystemExit(f"{peer.name} wanted the network: {ended['network'][:5]}")
    # The count is that of the last process, which says nothing where an earlier one died.
    complete = "recorded" in ended and not restarted
    if complete and peer.distribution and bool(ended["recorded"]) != (mode == peers.TRACING):
        raise SystemExit(f"{peer.name} was to run in mode {mode}, and recorded {ended['recorded']}")
    return summary(rows) | {"version": ended.get("version", "")}


def summary(rows: dict[int, Any]) -> dict[str, Any]:
    """Count checks by column and by shape as [passed, failed], and keep one example of each kind of failure."""
    columns: dict[str, list[int]] = {name: [0, 0] for name in NAMES}
    shapes: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    unfit: Counter[str] = Counter()
    problems: dict[str, Counter[str]] = defaultdict(Counter)
    first_seen: dict[tuple[str, str], int] = {}
    for number, (shape, _) in enumerate(ROWS):
        row = rows.get(number, {"failed": dict.fromkeys(NAMES, NOT_RUN)})
        if reason := row.get("not applicable"):
            unfit[reason] += 1
            continue
        for name in NAMES:
            problem = row["failed"].get(name, "")
            columns[name][bool(problem)] += 1
            shapes[shape][bool(problem)] += 1
            if problem:
                problem = conformance_page.shorten(problem)
                problems[name][problem] += 1
                first_seen.setdefault((name, problem), number)
    examples = {}
    for name in NAMES:
        if problems[name]:
            problem = problems[name].most_common(1)[0][0]
            shape, binding = ROWS[first_seen[name, problem]]
            examples[name] = {"shape": shape, "binding": binding, "problem": problem}
    return {
        "columns": columns,
        "shapes": dict(shapes),
        "not applicable": dict(unfit),
        "examples": examples,
        "scenarios": scenario_results(rows),
    }


def scenario_results(rows: dict[int, Any]) -> dict[str, str]:
    """Return the problem of each scenario, empty where there is none; those that are not applicable are left out."""
    found = {}
    for number, name in enumerate(scenarios.SCENARIOS, start=len(ROWS)):
        row = rows.get(number, {"problem": NOT_RUN})
        if "not applicable" not in row:
            found[name] = conformance_page.shorten(row["problem"]) if row["problem"] else ""
    return found


def faults(found: dict[str, Any]) -> dict[str, Any]:
    """Return examples of all that fails."""
    return found["examples"] | {name: problem for name, problem in found["scenarios"].items() if problem}


def run_all() -> dict[str, Any]:
    """Run every peer in every mode that it has."""
    results: dict[str, Any] = {}
    control = faults(run_peer(peers.CONTROL, peers.TRACING))
    if control:
        raise SystemExit(f"the checks find fault with no decorator at all: {json.dumps(control, indent=2)}")
    for peer in peers.CHECKED:
        for mode in peer.modes:
            started = time.monotonic()
            found = run_peer(peer, mode)
            results.setdefault(peer.name, {})[mode] = found
            passed, failed = conformance_page.totals(found)
            seconds = time.monotonic() - started
            print(f"{peer.name:15} {mode:8} {passed:6} passed {failed:6} failed  {seconds:5.0f} s", flush=True)
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "rows": len(ROWS),
        "peers": results,
    }


def show(name: str) -> None:
    """Run one peer, and print what it fails."""
    peer = next((peer for peer in (*peers.CHECKED, peers.CONTROL) if peer.name.lower() == name.lower()), None)
    if peer is None:
        raise SystemExit(f"{name!r} is none of: {', '.join(peer.name for peer in peers.CHECKED)}")
    for mode in peer.modes:
        found = run_peer(peer, mode)
        for column, (passed, failed) in found["columns"].items():
            print(f"{mode:8} {column:24} {passed:5} passed {failed:5} failed", found["examples"].get(column, ""))
        for name, problem in found["scenarios"].items():
            print(f"{mode:8} {name}: {problem or 'passed'}")


def main() -> None:
    """Do what the arguments say."""
    arguments = sys.argv[1:]
    if arguments not in ([], ["--own"], ["--page"]):
        show(" ".join(arguments))
        return
    results = json.loads(RESULTS.read_text()) if arguments else run_all()
    if arguments != ["--page"]:
        results["own"] = page.run_both()
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    conformance_page.write(results)
    failing = {name for found in results["peers"]["flowtrace"].values() for name in faults(found)}
    pure = {name for found in results["peers"].get(peers.PURE.name, {}).values() for name in faults(found)}
    failing |= (pure - INHERENT.keys()) | page.not_excused(results["own"])
    if failing:
        raise SystemExit(f"flowtrace has failing cells: {', '.join(sorted(failing))}; see {conformance_page.PAGE}")


if __name__ == "__main__":
    main()
