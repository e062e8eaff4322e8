"""A program whose every run fails, many times over: prints what it saw as JSON, and ends as programs do.

python bench/burst_program.py RUNS TRACE
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from time import perf_counter_ns as clock

import flowtrace

RUNS, TRACE = int(sys.argv[1]), Path(sys.argv[2])
MESSAGE = re.compile(rb'"message": "run (\d+)"')
written: list[int] = []


def watch(event: str, args: tuple[object, ...]) -> None:
    """Note which run's trace is about to take its place."""
    is_given_its_name = event == "os.rename" or (event == "os.link" and not TRACE.exists())
    if is_given_its_name and args[1] == str(TRACE):
        *_, newest = MESSAGE.findall(Path(str(args[0])).read_bytes())  # before it stand earlier runs' steps
        written.append(int(newest))


@flowtrace.traced_node
def fail(number):
    raise ValueError(f"run {number}")


def main() -> None:
    """Fail, and tell."""
    flowtrace.configure(mode="on", out_path=TRACE)
    sys.addaudithook(watch)
    marks = [clock()]
    first = False
    for number in range(RUNS):
        try:
            fail(number)
        except ValueError:
            pass
        if number == 0:
            first = TRACE.is_file()
        if (number + 1) % (RUNS // 10) == 0:
            marks.append(clock())
    print(json.dumps({"first": first, "marks": marks, "written": written}))


if __name__ == "__main__":
    main()
