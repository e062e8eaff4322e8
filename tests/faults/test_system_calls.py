"""System calls that fail below Python: errors of the device, interruptions, writes that take only a part."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.faults.scenario import OUT, PARTS, survive
from tests.programs import run_program

COMPILER = shutil.which("gcc") or shutil.which("cc")
pytestmark = [
    pytest.mark.disk,
    pytest.mark.skipif(COMPILER is None, reason="needs a C compiler, for a library that makes calls fail"),
]
STEER = """
    import ctypes, errno
    break_call = ctypes.CDLL(None).break_call
"""
EVERY = -1


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    library = tmp_path_factory.mktemp("shim") / "shim.so"
    source = Path(__file__).with_name("shim.c")
    done = subprocess.run(
        [COMPILER, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"the compiler can't make the library: {done.stderr.strip()[-300:]}")
    return {"LD_PRELOAD": str(library)}


def broken(call, error, skip=0, times=EVERY):
    return f"break_call(b{call!r}, {error}, {skip}, {times})"


MENDED = "assert break_call(b'', 0, 0, 0) > 0, 'the fault was never met'"


@pytest.mark.costly
@pytest.mark.parametrize(
    ("call", "error", "skip"),
    [
        ("open", errno.EIO, 0),
        ("open", errno.EDQUOT, 0),
        ("write", errno.EIO, 0),
        ("write", errno.ENOSPC, 0),
        ("write", errno.EDQUOT, 0),
        ("close", errno.EIO, 0),
        ("rename", errno.EIO, 0),
        ("rename", errno.EACCES, 0),
        ("rename", errno.EBUSY, 0),
    ],
)
def test_a_call_that_fails(call, error, skip, shim, tmp_path):
    survive(tmp_path, broken(call, error, skip), MENDED, reason=os.strerror(error), prepare=STEER, **shim)


@pytest.mark.costly
def test_a_flush_that_fails_where_every_write_waits_for_the_disk(shim, tmp_path):
    fault = broken("fsync", errno.EIO)
    survive(tmp_path, fault, MENDED, reason="Input/output error", prepare=STEER, FLOWTRACE_DURABLE="1", **shim)


@pytest.mark.costly
def test_a_flush_that_fails_at_the_end_of_a_run_leaves_the_trace_of_its_failure(shim, tmp_path):
    program = f"""
        chance("before")
        {broken("fsync", errno.EIO)}
        chance("during")
        {MENDED}
        assert (told(), files()) == ("during", ["trace.json"])
        assert load_trace(out).run.ended_at is None
        chance("after")
        assert load_trace(out).run.ended_at is not None
    """
    done = run_program(tmp_path, PARTS, STEER, program, FLOWTRACE_OUT=OUT, **shim)
    assert done.stderr.count("failed to write trace") == 1
    assert "Input/output error" in done.stderr


@pytest.mark.costly
def test_a_write_that_takes_nothing_is_an_error_and_no_endless_loop(shim, tmp_path):
    survive(tmp_path, broken("write", -1), MENDED, reason="Input/output error", prepare=STEER, **shim)


@pytest.mark.costly
@pytest.mark.parametrize(
    ("call", "error", "times"),
    [
        ("write", 0, EVERY),
        ("write", errno.EINTR, 5),
        ("open", errno.EINTR, 5),
        ("fsync", errno.EINTR, 5),
        ("close", errno.EINTR, 1),
        ("fsync", errno.EINVAL, EVERY),
        ("fsync", errno.ENOTSUP, EVERY),
        ("fsync", errno.EROFS, EVERY),
        ("linkat", errno.EPERM, EVERY),
        ("linkat", errno.ENOENT, EVERY),
        ("open unnamed", errno.EOPNOTSUPP, EVERY),
        ("open unnamed", errno.EISDIR, EVERY),
    ],
    ids=[
        *("short writes", "write interrupted", "open interrupted", "fsync interrupted", "close interrupted"),
        *("no fsync: invalid", "no fsync: not supported", "no fsync: read-only"),
        *("no link to an open file", "no /proc", "no unnamed files", "unnamed files unknown"),
    ],
)
def test_what_is_no_failure_is_none(call, error, times, shim, tmp_path):
    program = f"""
        chance("before")
        {broken(call, error, 0, times)}
        chance("during")
        {MENDED}
        assert (told(), files()) == ("during", ["trace.json"])
        assert out.stat().st_size > 2000
    """
    done = run_program(tmp_path, PARTS, STEER, program, FLOWTRACE_OUT=OUT, **shim)
    assert done.stderr == ""
