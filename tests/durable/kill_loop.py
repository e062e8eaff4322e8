"""Kills a program that writes traces continuously, at random moments, and looks at every file that it leaves.

    python tests/durable/kill_loop.py --rounds 1000 [--seed N]

The processes are forks of this one, which has flowtrace loaded: a Python for each kill would take most of the time.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import NamedTuple

import flowtrace
from flowtrace.trace import files as writer
from flowtrace.values.encoded import hash_bytes

LONGEST_LIFE = 0.03  # seconds after the process's first write
LEFTOVER = re.compile(r"\.trace(\.\d+)?\.json\.\d+\.[0-9a-f]{12}\.tmp")


class Way(NamedTuple):
    """A way to write: how many processes at once, and where to."""

    name: str
    processes: int
    out: str
    file: str
    replaces: bool


WAYS = (
    Way("one process, one path", 1, "trace.json", r"trace(\.prev|\.\d+)?\.json", True),
    Way("8 processes, one path", 8, "trace.json", r"trace(\.prev|\.\d+)?\.json", True),
    Way("8 processes, templated paths", 8, "{pid}-{run_id}.json", r"\d+-[0-9a-f]{32}\.json", False),
)


@flowtrace.traced_node(operation="give", capture_inputs=True)
def give(number, text):
    return number


@flowtrace.traced_node(operation="fail", capture_inputs=True)
def fail(number, text):
    give(number, text)
    raise ValueError(number)


def write_for_ever(folder, way, ready):
    """Fail again and again, with values that go to payload files, until somebody kills this process."""
    writer.HOME_PID = os.getpid()  # it stands for a process that was started by itself, and so takes the path as it is
    flowtrace.configure(mode="on", out_path=f"{folder}/{way.out}", max_value_bytes=1000)
    for number in count():
        text = f"{number % 50} " * 1000  # the same in all processes: they write the same payload files
        try:
            fail(number, text)
        except ValueError:
            pass
        if way.replaces:
            flowtrace.dump()  # the throttle would make pauses
        if number == 0:
            os.write(ready, b".")


def kill_some(folder, way, chance):
    """Start the processes, wait until each has written, and kill them, each at a moment of its own."""
    reading, ready = os.pipe()
    children = []
    for _ in range(way.processes):
        child = os.fork()
        if not child:
            try:
                write_for_ever(folder, way, ready)
            finally:
                os._exit(1)
        children.append(child)
    os.close(ready)
    for _ in children[: chance.choice((0, 1, way.processes))]:  # now and then before the first file is there
        assert os.read(reading, 1) == b".", "a process ended by itself"
    for child in children:
        time.sleep(chance.uniform(0, LONGEST_LIFE / way.processes))
        os.kill(child, signal.SIGKILL)
    for child in children:
        assert os.waitpid(child, 0)[1] == signal.SIGKILL, "a process ended by itself"
    os.close(reading)


def check(folder, way):
    """Look at every file; return how many there were, and how many had a temporary name."""
    files = leftovers = 0
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            assert path.name.endswith(".payloads"), f"a folder of another name: {path}"
            continue
        files += 1
        if path.parent != folder:
            found = hash_bytes(path.read_bytes())
            assert path.name == f"{found}.json", f"a torn payload: {path}"
            continue
        if not re.fullmatch(way.file, path.name):
            assert way.replaces, f"a file of another name: {path}"
            assert LEFTOVER.fullmatch(path.name), f"a file of another name: {path}"
            leftovers += 1
            flowtrace.load_trace(path)
            path.unlink()
            continue
        flowtrace.load_trace(path)
        assert flowtrace.validate(path) == [], f"not valid: {path}"
    return files, leftovers


def clear(folder):
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


def run(way, rounds, seed, folder):
    """Kill so many times, and check after each; return how many files were looked at and how many leftovers found."""
    chance = random.Random(f"{seed} {way.name}")
    files = leftovers = 0
    for number in range(rounds):
        kill_some(folder, way, chance)
        try:
            found, left = check(folder, way)
        except Exception as error:
            raise AssertionError(f"{way.name}, round {number}, seed {seed}: {error}") from error
        files += found
        leftovers += left
        if not way.replaces or number % 20 == 19:
            clear(folder)
    return files, leftovers


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    for way in WAYS:
        rounds = -(-options.rounds // way.processes)
        with tempfile.TemporaryDirectory() as folder:
            files, leftovers = run(way, rounds, options.seed, Path(folder))
        print(
            f"{way.name}: {rounds * way.processes} kills, {files} files found whole and valid, "
            f"{leftovers} of them under their temporary name",
            flush=True,
        )


if __name__ == "__main__":
    main()
