"""A burst of runs into one file: bounded writes, the last one kept, the rest counted."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import textwrap
from contextvars import copy_context
from threading import Event, Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flowtrace
from flowtrace import flow, load_trace, traced_node
from flowtrace.recording import throttle
from flowtrace.recording.recorder import TraceRecorder
from flowtrace.recording.throttle import BURST, Throttle
from flowtrace.testing import fixed_clock
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


def test_writes_that_take_long_take_no_more_than_a_tenth_of_the_time(path, monkeypatch):
    def slowly(*args, write=TraceRecorder.write, **kwargs):
        path_clock[0] += 20_000_000
        write(*args, **kwargs)

    fail_often(BURST)
    monkeypatch.setattr(TraceRecorder, "write", slowly)
    path_clock[0] += 50_000_000
    fail_often(1, start=100)
    path_clock[0] += 179_000_000
    fail_often(1, start=101)
    assert state(path) == ("100", None)
    path_clock[0] += 1_000_000
    fail_often(1, start=102)
    assert state(path) == ("102", 1)


def write_slowly(monkeypatch, nanoseconds):
    def slowly(*args, write=TraceRecorder.write, **kwargs):
        path_clock[0] += nanoseconds
        write(*args, **kwargs)

    monkeypatch.setattr(TraceRecorder, "write", slowly)


def test_failures_of_a_burst_are_written_at_once_however_long_each_takes(path, monkeypatch):
    write_slowly(monkeypatch, 100_000_000)
    for number in range(BURST):
        fail_often(1, start=number)
        assert state(path) == (str(number), None)


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


@pytest.mark.costly
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


# --- mode always, where each outermost call is a run


@traced_node(component="c", operation="succeed")
def succeed(number):
    return number


def ends(path):
    """Return what the file at a path is about: the last call, how the run ended, and how many it has overtaken."""
    trace = load_trace(path)
    return trace.steps[-1].output_json, trace.steps[-1].operation, trace.run.outcome, trace.run.overtaken_runs


@pytest.fixture
def always(path):
    """The same trace file, in mode always."""
    with flowtrace.override(mode="always", capture_outputs=True):
        yield path


def test_calls_that_end_well_wait_and_are_counted(always):
    for number in range(BURST + 5):
        succeed(number)
    assert ends(always) == (BURST - 1, "succeed", "ok", None)
    path_clock[0] += 49_000_000
    succeed(100)
    assert ends(always) == (BURST - 1, "succeed", "ok", None)
    path_clock[0] += 1_000_000
    succeed(101)
    assert ends(always) == (101, "succeed", "ok", 6)


def test_a_burst_of_calls_whose_writes_take_long_is_as_short_as_one_of_others_takes(always, monkeypatch):
    write_slowly(monkeypatch, 100_000_000)
    for number in range(BURST):
        succeed(number)
    # of 40 tokens each takes 20, and 2 are earned meanwhile: then 16 are owed, and 2 of them are earned
    assert ends(always) == (2, "succeed", "ok", None)
    path_clock[0] += 15 * 50_000_000 - 1
    succeed(100)
    assert ends(always) == (2, "succeed", "ok", None)
    path_clock[0] += 1
    succeed(101)
    assert ends(always) == (101, "succeed", "ok", 38)


def test_a_failure_after_calls_whose_writes_took_long_is_written_at_once(always, monkeypatch):
    write_slowly(monkeypatch, 900_000_000)
    succeed(1)
    succeed(2)
    fail_often(1)
    assert ends(always)[1:] == ("fail", "failed", 1)


def test_the_last_call_that_waits_is_written_when_tracing_is_configured_anew(always):
    for number in range(BURST + 5):
        succeed(number)
    with flowtrace.override(mode="off"):
        assert ends(always) == (BURST + 4, "succeed", "ok", 4)


def test_a_failure_overtakes_the_calls_that_wait(always):
    for number in range(BURST + 5):
        succeed(number)
    path_clock[0] += 50_000_000
    fail_often(1)
    assert ends(always)[1:] == ("fail", "failed", 5)


def test_what_outlives_a_call_that_waits_belongs_to_its_run(always):
    """A context that a call left behind: a task or a thread of it may run there later."""
    kept = []

    @traced_node(component="c", operation="leave")
    def leave():
        kept.append(copy_context())

    for number in range(BURST):
        succeed(number)
    leave()
    kept[0].run(succeed, 7)
    path_clock[0] += 50_000_000
    kept[0].run(succeed, 8)
    with flowtrace.override(mode="off"):
        steps = load_trace(always).steps
    assert [(step.operation, step.output_json) for step in steps] == [("leave", None), ("succeed", 7), ("succeed", 8)]
    assert {step.parent_step_id for step in steps[1:]} == {steps[0].step_id}


OPERATIONS = st.lists(
    st.sampled_from(["call", "call", "nest", "nest", "fail", "fail inside", "flow", "late", "wait", "leave"]),
    max_size=20,
)


@settings(max_examples=40, deadline=None)
@given(operations=OPERATIONS)
def test_calls_that_wait_as_steps_are_like_runs_that_wait(tmp_path_factory, operations):
    """The shortcut does what the long way does: there, a run is made of each call that ends."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(throttle, "BURST", 2)
        short = play(tmp_path_factory.mktemp("short"), operations)
        plainly = Throttle.write

        def write(self, *arguments, **options):
            plainly(self, *arguments, **options)
            self.postponed.until = 0

        patch.setattr(Throttle, "write", write)
        assert short == play(tmp_path_factory.mktemp("long"), operations)


def play(folder, operations):
    """Do something in mode always, and return what the file was about after each operation."""
    path, kept, found = folder / "trace.json", [], []

    @traced_node(component="c", operation="leave")
    def leave(number=None):
        if number is not None:
            succeed(number)
        kept.append(copy_context())

    @traced_node(component="c", operation="contain")
    def contain(number):
        fail_often(1, start=number)

    with fixed_clock() as clock, flowtrace.override(mode="always", out_path=path, capture_outputs=True):
        now = [1]
        clock.now = lambda: now[0]
        for number, operation in enumerate(["call", "leave", *operations]):
            if operation == "call":
                succeed(number)
            elif operation == "nest":
                leave(number)
            elif operation == "fail":
                fail_often(1, start=number)
            elif operation == "fail inside":
                contain(number)
            elif operation == "flow":
                with flow("f"):
                    succeed(number)
            elif operation == "late":
                kept[-1].run(succeed, number)
            elif operation == "leave":
                leave()
            else:
                now[0] += 25_000_000
            found.append(ends(path))
    return [*found, ends(path), len(load_trace(path).steps)]


# --- threads and processes

SPY = """
    import atexit, sys

    @atexit.register  # before flowtrace's own, so that it runs after that
    def tell():
        print(*(f"{name} {written.count(name)}" for name in sorted(set(written))), sep=", ")

    from flowtrace.host.system import CLOCK
    from flowtrace.host.system import os  # the one that writes: a change of the program's is not seen there

    CLOCK.now = lambda: 1  # no bucket is ever refilled
    written = []

    def noted(place):
        def placed(source, path, **options):
            place(source, path, **options)
            if not path.endswith(".tmp"):
                written.append(os.path.basename(path))

        return placed

    os.link, os.replace = noted(os.link), noted(os.replace)
"""
MANY = """
    from threading import Barrier, Thread
    from flowtrace import flow, traced_node

    @traced_node
    def fail(number):
        raise ValueError(number)

    def fail_often(start, end, name=None):
        for number in range(start, end):
            try:
                if name is None:
                    fail(number)
                else:
                    with flow(name):
                        fail(number)
            except ValueError as error:
                assert error.args == (number,)
"""


@pytest.mark.costly
def test_threads_share_one_burst_and_the_last_run_is_kept(tmp_path):
    program = """
        threads = [Thread(target=fail_often, args=(100 * at, 100 * at + 100)) for at in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        fail_often(9999, 10_000)
    """
    done = run_program(tmp_path, SPY, MANY, program, FLOWTRACE_OUT="trace.json")
    name, count = done.stdout.split()
    assert name == "trace.json"
    message, overtaken = state(tmp_path / "trace.json")
    assert message == "9999"
    assert int(count) <= BURST + 1
    assert overtaken == 801 - int(count)


def test_a_younger_run_is_not_written_over_by_an_older_one(path, monkeypatch):
    """Two threads: the one whose run was let through first comes to the disk last."""
    first_waits, second_is_done = Event(), Event()
    plainly = Throttle._write_now

    def slowly(self, where, bucket, number, what, **options):
        if number == 1:
            first_waits.set()
            assert second_is_done.wait(30)
        plainly(self, where, bucket, number, what, **options)
        if number == 2:
            second_is_done.set()

    monkeypatch.setattr(Throttle, "_write_now", slowly)
    older = Thread(target=fail_often, args=(1, 1))
    older.start()
    assert first_waits.wait(30)
    fail_often(1, start=2)
    older.join()
    assert state(path) == ("2", None)
    fail_often(1, start=3)
    assert state(path) == ("3", 1)


def test_a_held_back_run_that_could_not_be_written_waits_for_another_chance(path):
    fail_often(BURST + 1)
    path_clock[0] += 50_000_000
    path.unlink()
    (path / "trace.json").mkdir(parents=True)  # a folder of that name in a folder: no file can take its place

    @traced_node
    def succeed():
        return 1

    succeed()
    (path / "trace.json").rmdir()
    path.rmdir()
    path_clock[0] += 50_000_000
    succeed()
    assert state(path) == (str(BURST), None)


# in mode `on` the trace shows the process as it was at the failure, in mode `always` the run as it is now
@pytest.mark.parametrize(("mode", "running"), [("on", ["recover"]), ("always", [])])
def test_a_run_that_waits_names_its_failed_step_while_it_ends_well(path, monkeypatch, mode, running):
    @traced_node
    def recover(number):
        with contextlib.suppress(ValueError):
            fail(number)

    fail_often(BURST)
    write, outcomes = Throttle.write, []

    def write_after_another_thread(throttle, run, outcome, *, ended):
        if ended:  # a traced call of another thread finds the earlier trace of this run due
            throttle.write_all()
            trace = load_trace(path)
            in_flight = [step.node_id.rpartition(".")[2] for step in trace.in_flight]
            outcomes.append((trace.failed_step.error.message, in_flight, flowtrace.validate(path)))
        write(throttle, run, outcome, ended=ended)

    monkeypatch.setattr(Throttle, "write", write_after_another_thread)
    with flowtrace.override(mode=mode, out_path=path):
        recover(99)
    assert outcomes == [("99", running, [])]
    assert load_trace(path).run.outcome == "recovered"


@pytest.mark.costly
def test_processes_on_one_path_each_keep_the_rule(tmp_path):
    program = """
        fail_often(int(sys.argv[1]), int(sys.argv[1]) + 500)
    """
    outputs = run_together(tmp_path, SPY, MANY, program, out="trace.json", starts=[0, 1000, 2000, 3000], warnings=3)
    assert [re.sub(r"\.\d+", "", output) for output in outputs] == [f"trace.json {BURST + 1}\n"] * 4
    assert (tmp_path / "trace.json").exists()
    found = sorted(state(path) for path in tmp_path.glob("trace*.json"))
    assert found == [(message, 500 - BURST - 1) for message in ("1499", "2499", "3499", "499")]


@pytest.mark.costly
def test_processes_on_templated_paths_each_keep_the_rule(tmp_path):
    program = """
        threads = [Thread(target=fail_often, args=(int(sys.argv[1]), int(sys.argv[1]) + 200, name)) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    """
    outputs = run_together(tmp_path, SPY, MANY, program, out="{flow_id}-{pid}.json", starts=[0, 1000, 2000])
    assert [re.sub(r"-\d+", "", output) for output in outputs] == [f"a.json {BURST + 1}, b.json {BURST + 1}\n"] * 3
    found = sorted(state(path) for path in tmp_path.glob("*.json"))
    overtaken = 200 - BURST // 2 - 1  # each flow is written twice: at its first failure and at its end
    assert found == sorted([(str(start + 199), overtaken) for start in (0, 1000, 2000)] * 2)


@pytest.mark.costly
def test_a_forked_child_does_not_write_what_waits_in_its_parent(tmp_path):
    program = """
        fail_often(0, 60)
        child = os.fork()
        if not child:
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        print("in the parent:")
    """
    done = run_program(tmp_path, SPY, MANY, program, FLOWTRACE_OUT="trace.json")
    assert done.stdout == f"trace.json {BURST}\nin the parent:\ntrace.json {BURST + 1}\n"
    assert state(tmp_path / "trace.json") == ("59", 60 - BURST - 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["program.py", "trace.json"]


def run_together(folder, *parts, out, starts, warnings=0):
    """Run a program several times at once, and return what each printed; some may warn of a path that they share."""
    script = folder / "program.py"
    script.write_text("\n".join(map(textwrap.dedent, parts)), encoding="utf-8")
    environment = os.environ | {"FLOWTRACE_OUT": out}
    running = [
        subprocess.Popen(
            [sys.executable, "-W", "error", script, str(start)],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for start in starts
    ]
    outputs = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0] * len(starts)
    warned = [err for _, err in outputs if err]
    assert [err.count("another process writes to this path") for err in warned] == [1] * warnings
    assert [err.count("\n") for err in warned] == [1] * warnings
    return [out for out, _ in outputs]
