"""The cost of a failure: one of them, and a hundred thousand of them in a row."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

from failure_subjects import STEPS
from rows import Row, Session, at_least, at_most
from samples import Taken, quotients
from turns import HERE, Plan, clean_environment

RUNS = 100_000
ONE = 1e-6  # milliseconds: less than anything takes


def take_failure(plan: Plan) -> dict[str, Taken]:
    """Measure a failing run, and the writing of its trace alone."""
    slots = {name: ("worker", name) for name in ("disk", "flowtrace")}
    # One run against one write in each round: the time of a sync has a long tail, so that the mean of several writes
    # would stand for something else than a single run.
    workers = {"worker": ("failure_subjects:failing_runs", {})}
    turns = plan.race(workers, {"all": slots}, generations=3, rounds=40 if plan.quick else 150, milliseconds=ONE)["all"]
    parts = {f"{name}, ms": [each / 1e6 for each in samples] for name, samples in turns.items()}
    with plan.worker("failure_subjects:failing_runs") as worker:
        size = worker.ask(slot="size", times=1)["bytes"]
    return {"failure": Taken(quotients(turns["flowtrace"], turns["disk"]), parts, f"a trace of {size:,} bytes")}


def burst(plan: Plan, number: int) -> dict[str, Any]:
    """Run the program whose every run fails; return what it saw, and what its file says in the end."""
    trace = plan.folder / f"burst-{number}.json"
    command = [sys.executable, str(HERE / "burst_program.py"), str(RUNS), str(trace)]
    program = subprocess.run(
        command, check=True, capture_output=True, text=True, cwd=plan.folder, env=clean_environment()
    )
    return json.loads(program.stdout) | last_of(trace)


def last_of(trace: Path) -> dict[str, int]:
    """Return which run a file holds, and how many it says were never written."""
    found = json.loads(trace.read_bytes())
    message = found["steps"][-1]["error"]["message"]
    return {"last": int(message.removeprefix("run ")), "overtaken": found["run"].get("overtaken_runs", 0)}


def take_burst(plan: Plan) -> dict[str, Taken]:
    """Measure a loop of failing runs, some times over."""
    found = [burst(plan, number) for number in range(3)]
    tenths = [[later - earlier for earlier, later in pairwise(each["marks"])] for each in found]
    microseconds = {
        f"a failure in the {name} tenth, µs": [each[index] / (RUNS / 10) / 1e3 for each in tenths]
        for name, index in (("first", 0), ("second", 1), ("last", -1))
    }
    seconds = [(each["marks"][-1] - each["marks"][0]) / 1e9 for each in found]
    writes = [float(len(each["written"])) for each in found]
    on_disk = [len({*each["written"], each["last"]}) for each in found]
    return {
        "burst-first": Taken([float(each["first"]) for each in found]),
        "burst-rate": Taken(quotients(writes, seconds), {"writes": writes, "seconds": seconds}),
        "burst-last": Taken([float(RUNS - 1 - each["last"]) for each in found]),
        "burst-count": Taken(
            [float(abs(RUNS - line["overtaken"] - seen)) for line, seen in zip(found, on_disk, strict=True)],
            {"runs on disk": [float(each) for each in on_disk]},
        ),
        "burst-cost": Taken([each[-1] / each[1] for each in tenths], microseconds),
    }


FAILURE = Session(
    "failure",
    (
        Row(
            "failure",
            f"a failing run of {STEPS} steps",
            "the run, from its first line to where its exception arrives / write, fsync and rename of the bytes of its "
            "trace",
            at_most(2),
        ),
    ),
    take_failure,
)
BURST = Session(
    "burst",
    (
        Row(
            "burst-first",
            f"{RUNS:,} failing runs, the first",
            "traces on disk where the first exception arrives",
            at_least(1),
            unit="trace",
        ),
        Row(
            "burst-rate",
            f"{RUNS:,} failing runs, writes",
            "writes in the loop / seconds that it took",
            at_most(50),
            unit="a second",
        ),
        Row(
            "burst-last",
            f"{RUNS:,} failing runs, the last",
            "how many runs the file is behind when the process has ended",
            at_most(0),
            unit="runs",
        ),
        Row(
            "burst-count",
            f"{RUNS:,} failing runs, the count",
            "runs that were neither on disk nor in the file's count of those that were not",
            at_most(0),
            unit="runs",
        ),
        Row(
            "burst-cost",
            f"{RUNS:,} failing runs, cost",
            "a failure in the last tenth of the loop / one in the second tenth",
            at_most(1.3),
        ),
    ),
    take_burst,
)
SESSIONS = (FAILURE, BURST)
