"""One program that meets a fault, and what must hold whatever the fault is. A test states the fault only."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from flowtrace import load_trace
from tests.programs import run_program

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user or to mount")
NOBODY = 65534
OUT = "out/trace.json"

PARTS = """
    import os, signal, subprocess, sys
    from pathlib import Path
    from flowtrace import flow, load_trace, traced_node

    out = Path(os.environ["FLOWTRACE_OUT"]).absolute()
    result = object()
    big = {"text": "x" * 20_000}

    @traced_node(operation="give", capture_inputs=True)
    def give(value, payload=None):
        return value

    @traced_node(operation="fail")
    def fail(error):
        raise error

    def chance(text):
        "A run that ends well and one that fails: both must go as without flowtrace."
        assert give(result, big) is result
        error = ValueError(text)
        try:
            with flow("f"):
                assert give(result, big) is result
                fail(error)
        except ValueError as raised:
            assert raised is error
        else:
            raise AssertionError("the exception is gone")
        assert (error.args, error.__cause__, error.__context__) == ((text,), None, None)

    def told():
        return load_trace(out).steps[-1].error.message

    def files():
        return sorted(path.name for path in out.parent.iterdir() if path.is_file())
"""
BEFORE = """
    chance("before")
    assert told() == "before"
    beside = files()
"""
DURING = """
    for number in range(3):
        chance(f"during {number}")
"""
STAYED = """
    assert told() == "before", told()
    assert files() == beside, files()
"""
AFTER = """
    chance("after")
    assert told() == "after", told()
    assert files() == beside, files()
"""


def survive(folder, begin, end, *, reason, out=OUT, prepare="", keeps=True, **environment):
    """Run the program through a fault, and check all that a host may rely on.

    A good trace is written, the fault begins, three runs fail in it, the fault ends, one more run fails. Results and
    exceptions are checked in the program. One warning tells the reason, and one more, at exit, how often; the older
    trace stays whole, nothing else is left beside it, and the last run's trace is written.

    Args:
        folder: an empty folder.
        begin: code that brings the fault about.
        end: code that takes it away.
        reason: what the warning says.
        out: the trace file.
        prepare: code before all else.
        keeps: the older trace can still be there.
        **environment: more variables.
    """
    parts = [PARTS, prepare, BEFORE, begin, DURING, end, STAYED if keeps else "", AFTER]
    done = run_program(folder, *parts, FLOWTRACE_OUT=str(out), **environment)
    lines = done.stderr.splitlines()
    assert [line.count("failed to write trace") for line in lines] == [1, 1], done.stderr
    # each failing run has two chances: its first failure, and its end
    assert [count in line for count, line in zip(("count=1 ", "count=6 "), lines, strict=True)] == [True, True], lines
    assert all(reason in line for line in lines), done.stderr
    assert done.stdout == ""
    trace = load_trace(Path(folder, out))
    assert [step.operation for step in trace.steps] == ["give", "fail"]
    assert trace.run.outcome == "failed"


@contextmanager
def mounted(folder, *arguments):
    """Mount a file system of a test's own on a new folder; skip the test where that is not possible."""
    folder.mkdir()
    done = subprocess.run(["mount", *map(str, arguments), str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting is not possible here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def memory_group(limit):
    """Make a control group whose processes the kernel kills when they need more memory than that.

    Args:
        limit: in bytes, of memory and swap together.

    Yields:
        The file that a process writes its id into to join.
    """
    base = Path("/sys/fs/cgroup/memory")
    limits = {"memory.limit_in_bytes": limit, "memory.memsw.limit_in_bytes": limit}
    if not base.is_dir():  # version 2
        base, limits = Path("/sys/fs/cgroup"), {"memory.max": limit, "memory.swap.max": 0}
    group = base / f"flowtrace-{os.getpid()}"
    try:
        group.mkdir()
        for name, value in limits.items():
            if name == "memory.max" or (group / name).exists():
                (group / name).write_text(str(value))
    except OSError as error:
        with suppress(OSError):
            group.rmdir()
        pytest.skip(f"no control group for memory can be made here: {error}")
    try:
        yield group / "cgroup.procs"
    finally:
        for _ in range(100):  # the kernel takes a moment to see that a process is gone
            with suppress(OSError):
                group.rmdir()
                break
            time.sleep(0.05)
