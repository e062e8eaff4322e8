"""A burst of runs into one file: bounded writes, the last one kept, the rest counted."""

from __future__ import annotations

import pytest

import flowtrace
from flowtrace import flow, load_trace, traced_node
from flowtrace.testing import fixed_clock
from flowtrace.throttle import BURST
from tests.programs import run_program


@traced_node(component="c", operation="fail")
def fail(number):
    raise ValueError(number)


def fail_often(times, start=0):
    for number in range(start, start + times):
        with pytest.raises(ValueError, match=str(number)):
            fail(number)


def state(path):
    trace = load_trace(path)
    return trace.steps[-1].error.message, trace.run.overtaken_runs


@pytest.fixture
def path(tmp_path):
    """A trace file, with a clock that stands still unless a test moves it."""
    with fixed_clock() as clock:
        clock.now = lambda: path_clock[0]
        path_clock[0] = 1
        with flowtrace.override(mode="on", out_path=tmp_path / "trace.json"):
            yield tmp_path / "trace.json"


path_clock = [0]


def test_the_first_runs_are_written_at_once(path):
    for number in range(BURST):
        fail_often(1, start=number)
        assert state(path) == (str(number), None)


def test_the_rest_of_a_burst_waits_and_is_counted(path):
    fail_often(BURST + 5)
    assert state(path) == (str(BURST - 1), None)
    path_clock[0] += 49_000_000
    fail_often(1, start=100)
    assert state(path) == (str(BURST - 1), None)
    path_clock[0] += 1_000_000
    fail_often(1, start=101)
    assert state(path) == ("101", 6)


def test_any_traced_call_writes_what_waits_when_its_time_has_come(path):
    @traced_node
    def succeed():
        return 1

    fail_often(BURST + 2)
    path_clock[0] += 50_000_000
    assert succeed() == 1
    assert state(path) == (str(BURST + 1), 1)


def test_a_long_pause_earns_no_more_than_one_burst(path):
    fail_often(BURST)
    path_clock[0] += 3_600_000_000_000
    fail_often(BURST + 1, start=100)
    assert state(path) == (str(100 + BURST - 1), None)


def test_the_last_one_is_written_when_the_configuration_changes(path):
    fail_often(BURST + 3)
    flowtrace.configure(mode="off")
    assert state(path) == (str(BURST + 2), 2)


def test_each_path_has_its_own_burst(path):
    with flowtrace.override(out_path=path.parent / "{flow_id}.json"):
        for name in ("a", "b"):
            for number in range(BURST // 2):  # a flow is written twice: at its first failure and at its end
                with pytest.raises(ValueError, match=str(number)), flow(name):
                    fail(number)
        assert [state(path.parent / f"{name}.json") for name in ("a", "b")] == [(str(BURST // 2 - 1), None)] * 2


def test_runs_with_files_of_their_own_are_all_written(path):
    with flowtrace.override(out_path=path.parent / "{run_id}.json"):
        fail_often(BURST + 5)
    assert len(list(path.parent.iterdir())) == BURST + 5


def test_the_last_one_is_on_disk_when_the_process_ends(tmp_path):
    program = """
        from flowtrace import traced_node

        @traced_node
        def fail(number):
            raise ValueError(number)

        for number in range(3_000):
            try:
                fail(number)
            except ValueError:
                pass
    """
    run_program(tmp_path, program, FLOWTRACE_OUT="trace.json")
    message, overtaken = state(tmp_path / "trace.json")
    assert message == "2999"
    assert 1_000 < overtaken < 3_000 - BURST
