"""The short form of `make soak`, and that it can fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import flowtrace
from tests.durable import soak

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts descriptors and memory in /proc")


def run(folder, *arguments):
    command = [sys.executable, soak.__file__, "--seed", "8", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.slow
def test_a_service_with_all_its_troubles_for_some_seconds(tmp_path):
    done = run(tmp_path, "--seconds", "7")
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "0 descriptors, 0 threads, 0 steps in flight" in done.stdout


@pytest.mark.slow
def test_a_lost_descriptor_is_seen(tmp_path):
    done = run(tmp_path, "--seconds", "1", "--disk", "folder", "--leak")
    assert done.returncode == 1, (done.stdout, done.stderr)
    faults = [line.lstrip("FAULT 0123456789") for line in done.stderr.splitlines() if line.startswith("FAULT")]
    assert faults == ["more descriptors"], done.stderr


@pytest.fixture
def watched(tmp_path):
    """Return who looks at the files, with one trace of a good call, which has no fault."""
    seen = soak.Soak(soak.Disk(tmp_path, is_mounted=False), seconds=0, seed=0, leak=False)
    with flowtrace.override(mode="always", out_path=seen.disk.out / "0.json", buffer_size=50):
        soak.call(1)
    seen.look()
    assert (seen.faults, seen.files, seen.parents) == ([], 1, 7)
    return seen


def test_a_wrong_parent_is_seen(watched):
    path = watched.disk.store / "0.json"
    trace = flowtrace.load_trace(path)
    of_branch = next(step.parent_step_id for step in trace.steps if step.operation == "numbers")
    of_numbers = next(step.step_id for step in trace.steps if step.operation == "numbers")
    text = path.read_text()
    assert text.count(f'"parent_step_id": "{of_numbers}"') == 3
    path.write_text(text.replace(f'"parent_step_id": "{of_numbers}"', f'"parent_step_id": "{of_branch}"', 1))
    watched.look()
    assert watched.faults == ["leaf:1 was called by ['branch:1', 'numbers:1'], the file says branch:1"]


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("0.json", '{"trace_version": 1', "a torn file: "),
        (".0.json.1.000000000000.tmp", "{}", "a file of another name: .0.json.1.000000000000.tmp"),
    ],
)
def test_a_torn_file_or_one_too_many_is_seen(name, text, fault, watched):
    (watched.disk.store / name).write_text(text)
    watched.look()
    (found,) = watched.faults
    assert found.startswith(fault)
