"""The time and the memory of the commands that read a long trace, beside those of reading its JSON."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import NamedTuple

from memory import KIB, MEGA
from rows import Row, Session, at_most
from samples import Taken, quotients
from turns import Plan, clean_environment

STEPS = 100_000
FILES = ("a.json", "b.json")
READ_ONLY = (
    "import gc, sys, orjson; gc.disable(); [orjson.loads(open(name, 'rb').read()) for name in sys.argv[1:]]"  # as we do
)
COMMAND = "import sys; from flowtrace.cli import main; sys.exit(main())"
READERS = {
    "show": ("show", FILES[0]),
    "show-json": ("show", "--json", FILES[0]),
    "validate": ("validate", FILES[0]),
    "diff": ("diff", *FILES),
    "why": ("why", FILES[0], "--step", f"{STEPS - 9_999}", "/numbers/1"),
    "replay": ("replay", "--all", FILES[0]),
}


class Usage(NamedTuple):
    """The time of the processor and the memory of a process."""

    seconds: float
    peak: int

    @classmethod
    def of(cls, plan: Plan, code: str, *arguments: str) -> Usage:
        """Run a program to its end; it must end well."""
        command = [sys.executable, "-c", code, *arguments]
        process = subprocess.Popen(
            command, cwd=plan.folder, env=clean_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{arguments} ended with {process.returncode}")
        return cls(used.ru_utime + used.ru_stime, used.ru_maxrss * KIB)


def take(plan: Plan) -> dict[str, Taken]:
    """Measure each command some times over, each time beside reading the same files."""
    sizes = plan.once("reader_subjects:long_traces", steps=STEPS, names=list(FILES))
    taken: dict[str, Taken] = {}
    for name, arguments in READERS.items():
        files = [argument for argument in arguments if argument in FILES]
        rounds = [
            (Usage.of(plan, COMMAND, *arguments), Usage.of(plan, READ_ONLY, *files))
            for _ in range(1 if plan.quick else 3)
        ]
        ours, alone = ([pair[side].seconds for pair in rounds] for side in (0, 1))
        size = sum(sizes[file] for file in files)
        note = f"{size / MEGA:.0f} MB"
        parts = {"the command, s": ours, "orjson.loads, s": alone}
        taken[f"readers-{name}"] = Taken(quotients(ours, alone), parts, note)
        taken[f"readers-{name}-memory"] = Taken([pair[0].peak / size for pair in rounds], {}, note)
    return taken


def rows_of(name: str, arguments: tuple[str, ...]) -> tuple[Row, Row]:
    """Return the rows of a command."""
    files = "both files" if set(FILES) <= set(arguments) else "the file"
    measure = f"`flowtrace {' '.join(each for each in arguments if each not in FILES)}`, {STEPS:,} steps"
    time = f"time of the processor, from start to end / that of a process that reads {files} with `orjson.loads`"
    size = f"resident memory at its peak / size of {files}"
    return (
        Row(f"readers-{name}", measure, time, at_most(4)),
        Row(f"readers-{name}-memory", f"{measure}, memory", size, at_most(3)),
    )


SESSION = Session("readers", tuple(row for name in READERS.items() for row in rows_of(*name)), take)
SESSIONS = (SESSION,)
