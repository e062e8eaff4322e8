"""The part of the tests that `make test` runs: every value is in it, it moves, and nothing is left out unsaid."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import pytest

from tests.selection import SHARE, pick

ROOT = Path(__file__).parent.parent
SHAPES, BINDINGS, MODES = [[f"{what}{number}" for number in range(count)] for what, count in zip("sbm", (31, 27, 5))]
CASES = {
    f"{shape}-{binding}-{mode}": {("shape", shape), ("binding", binding), ("mode", mode)}
    for shape, binding, mode in itertools.product(SHAPES, BINDINGS, MODES)
    if (shape, binding) != ("s0", "b0") and (shape != "s1" or (binding, mode) == ("b7", "m3"))
}


@pytest.mark.parametrize("share", [1, 2, SHARE, 1000, 10**6])
@pytest.mark.parametrize("turn", [0, 1, SHARE, 2**256 - 1])
def test_every_value_of_every_parameter_is_there(turn, share):
    picked = pick(CASES, turn, share)
    assert picked <= set(CASES)
    assert set().union(*(CASES[name] for name in picked)) == set().union(*CASES.values())


@pytest.mark.parametrize("share", [1, 2, SHARE])
def test_every_case_is_reached_within_so_many_turns(share):
    assert set().union(*(pick(CASES, turn, share) for turn in range(share))) == set(CASES)


def test_no_more_cases_run_than_the_share_and_what_the_values_need():
    assert len(CASES) / SHARE <= len(pick(CASES, 0)) <= len(CASES) / SHARE + len(SHAPES) + len(BINDINGS)
    assert len(pick(CASES, 0, 10**6)) <= len(SHAPES) + len(BINDINGS)
    assert pick(CASES, 0, 1) == set(CASES)
    assert pick({}, 0) == set()


def test_another_turn_runs_other_cases_and_the_same_turn_the_same():
    parts = [pick(CASES, turn) for turn in range(SHARE)]
    assert parts == [pick(dict(reversed(CASES.items())), turn) for turn in range(SHARE)]
    for one, other in itertools.combinations(parts, 2):
        assert len(one & other) < len(one) / 4


# --- the plugin

TESTS = """
    import pytest

    @pytest.mark.slow
    def test_slow(): pass

    @pytest.mark.costly
    @pytest.mark.parametrize("number", range(40))
    def test_costly(number): pass

    def test_always(): pass

    @pytest.mark.cells
    @pytest.mark.parametrize("one", [f"one{number}" for number in range(20)])
    @pytest.mark.parametrize("other", [object() for number in range(10)], ids=range(10))
    def test_cell(one, other): pass
"""


@pytest.fixture
def run(monkeypatch):
    """Return a function that runs pytest on TESTS, and returns its lines and the names of the tests that ran."""
    Path("conftest.py").write_text('pytest_plugins = ["tests.selection"]')
    Path("test_sample.py").write_text(textwrap.dedent(TESTS))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))

    def run_pytest(*arguments):
        command = [sys.executable, "-m", "pytest", "-v", "-p", "xdist.plugin", "-c", "/dev/null", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        lines = done.stdout.splitlines()
        return lines, {word for line in lines if "PASSED" in line for word in line.split() if "::" in word}

    return run_pytest


TWO_WORKERS = pytest.param(["-n2"], marks=pytest.mark.slow, id="two workers")


@pytest.mark.costly
@pytest.mark.parametrize("workers", [pytest.param([], id="one process"), TWO_WORKERS])
def test_a_part_runs_and_what_is_left_out_is_said(run, workers):
    lines, names = run("--cells=abc", *workers)
    cells = {name for name in names if "test_cell" in name}
    costly = {name for name in names if "test_costly" in name}
    assert {name.partition("::")[2] for name in names - cells - costly} == {"test_always"}
    assert len(costly) == 40 / SHARE
    assert 25 <= len(cells) <= 35
    assert len({name.partition("[")[2].partition("-")[0] for name in cells}) == 10
    assert len({name.rpartition("-")[2] for name in cells}) == 20
    assert (
        f"left out: 1 slow test, {200 - len(cells)} combinatorial cases, 35 costly cases (make test-all runs them)"
        in lines
    )
    (header,) = [line for line in lines if line.startswith("selection: ")]
    assert "abc" in header
    assert "--all" in header


@pytest.mark.costly
def test_a_case_of_each_test_runs(run):
    lines, names = run("--cells=abc", "--each")
    counts = Counter(name.partition("::")[2].partition("[")[0] for name in names)
    assert counts.keys() == {"test_slow", "test_costly", "test_always", "test_cell"}
    assert 5 <= counts["test_costly"] <= 6
    assert 25 <= counts["test_cell"] <= 35
    assert not [line for line in lines if "slow test" in line and line.startswith("left out")]


@pytest.mark.slow
def test_the_cases_are_those_of_the_commit(run):
    parts = [run(*arguments)[1] for arguments in (["--cells=1"], ["--cells=1"], ["--cells=2"])]
    assert parts[0] == parts[1] != parts[2]


@pytest.mark.costly
@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (["--all"], 242),
        pytest.param(["--all", "-n2"], 242, marks=pytest.mark.slow),
        (["test_sample.py::test_slow"], 1),
        pytest.param(["test_sample.py::test_cell[3-one7]", "-n2"], 1, marks=pytest.mark.slow),
        pytest.param(["test_sample.py::test_cell"], 200, marks=pytest.mark.slow),
        (["-k", "one7 or slow"], 11),
        (["-m", "slow"], 1),
        pytest.param(["-m", "cells"], 200, marks=pytest.mark.slow),
    ],
)
def test_what_is_asked_for_runs(run, arguments, count):
    lines, names = run(*arguments)
    assert len(names) == count
    assert [line for line in lines if line.startswith("left out")] == []


# --- the ids


@pytest.mark.slow  # each run with pytest-xdist checks the same for what it runs
def test_two_processes_agree_on_the_ids_of_all_tests():
    """As the workers of pytest-xdist must; so no id may hold an address, a process id, a set's order or the time."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "--all", "-p", "no:cacheprovider", "tests"]
    seeds = [os.environ | {"PYTHONHASHSEED": seed} for seed in "12"]
    processes = [subprocess.Popen(command, cwd=ROOT, env=seed, stdout=subprocess.PIPE, text=True) for seed in seeds]
    one, other = [[line for line in process.communicate()[0].splitlines() if "::" in line] for process in processes]
    assert len(one) > 1000
    assert one == other
