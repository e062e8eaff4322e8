"""A snapshot from outside: the signal is answered without a change in what the program does."""

from __future__ import annotations

import signal
import threading
import time

import pytest
from structlog.testing import capture_logs

import flowtrace
from flowtrace import TraceConfig, load_trace, traced_node, validate
from tests.programs import run_program, try_program

USR1 = signal.SIGUSR1
ENVIRONMENT = {"FLOWTRACE_OUT": "trace.json", "FLOWTRACE_DUMP_SIGNAL": "USR1"}
START = """
    import os, signal, sys, threading, time
    from pathlib import Path
    import flowtrace
    from flowtrace import load_trace, traced_node

    def snapshot(path, seconds=60):
        "Wait for a file that is written by another thread, or never."
        end = time.monotonic() + seconds
        while not Path(path).exists() and time.monotonic() < end:
            time.sleep(0.005)
        return load_trace(path)

    def me(number=signal.SIGUSR1):
        os.kill(os.getpid(), number)
"""
PARTS = (
    START
    + """
    @traced_node(operation="half")
    def half(number):
        return number / 2
"""
)


@pytest.fixture(autouse=True)
def as_before():
    before = signal.getsignal(USR1)
    yield
    signal.signal(USR1, before)


def written(path, seconds=60):
    end = time.monotonic() + seconds
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.005)
    return load_trace(path)


@pytest.mark.costly
def test_the_snapshot_has_the_last_steps_and_the_stack_in_flight(tmp_path):
    program = """
        @traced_node(operation="inner")
        def inner(kind):
            half(3)
            me()
            began = time.monotonic()
            time.sleep(0.3)  # goes on to its end: PEP 475
            assert time.monotonic() - began >= 0.3
            snapshot("trace.json")
            return kind

        @traced_node(operation="outer")
        def outer():
            return inner("in flight")

        assert outer() == "in flight"
        trace = snapshot("trace.json")
        assert trace.run.outcome == "snapshot"
        assert [step.operation for step in trace.steps] == ["half"]
        assert [step.operation for step in trace.in_flight] == ["outer", "inner"]
        assert sorted(os.listdir()) == ["program.py", "trace.json"]
    """
    assert run_program(tmp_path, PARTS, program, **ENVIRONMENT).stderr == ""
    assert validate(tmp_path / "trace.json") == []


@pytest.mark.costly
def test_the_first_decorated_function_installs_it(tmp_path):
    program = "me(); snapshot('trace.json')"
    assert run_program(tmp_path, PARTS, program, **ENVIRONMENT).stderr == ""
    bare = "import flowtrace, os, signal; os.kill(os.getpid(), signal.SIGUSR1)"
    assert try_program(tmp_path, bare, **ENVIRONMENT).returncode == -USR1  # an import does nothing


@pytest.mark.costly
@pytest.mark.parametrize("mode", [{}, {"FLOWTRACE_OUT": "trace.json", "FLOWTRACE_MODE": "off"}])
def test_where_tracing_is_off_the_signal_kills_nobody(mode, tmp_path):
    program = """
        from flowtrace.host import signals
        from flowtrace.recording.state import STATE
        signals._MAX_WAIT = 60  # seconds: a busy machine may be slow to start a thread
        me()
        STATE.dump_signal.wait()  # for the thread that answers
        half(2)
    """
    done = run_program(tmp_path, PARTS, program, FLOWTRACE_DUMP_SIGNAL="USR1", **mode)
    assert "a snapshot was asked for, and tracing is off" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["program.py"]


def test_the_kill_switch_leaves_the_signal_alone(tmp_path):
    done = try_program(tmp_path, PARTS, "half(2); me()", FLOWTRACE_DISABLED="1", **ENVIRONMENT)
    assert (done.returncode, done.stderr) == (-USR1, "")


@pytest.mark.costly
def test_a_signal_inside_our_own_work_and_inside_writes(tmp_path):
    program = """
        @traced_node(operation="fail")
        def fail(error):
            raise error

        half(2)
        for number in range(300):
            error = ValueError(number)
            signal.signal(signal.SIGALRM, lambda *_: me())
            signal.setitimer(signal.ITIMER_REAL, 0.00005 + number * 0.00001)
            try:
                fail(error)
            except ValueError as raised:
                assert raised is error
            else:
                raise AssertionError
            assert half(number) == number / 2
            load_trace("trace.json")
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert threading.active_count() == 1
        assert sorted(os.listdir()) == ["program.py", "trace.json"]
    """
    assert run_program(tmp_path, PARTS, program, **ENVIRONMENT).stderr == ""
    assert validate(tmp_path / "trace.json") == []


@pytest.mark.costly
def test_a_storm_of_signals_starts_no_storm_of_threads(tmp_path):
    program = """
        most = 0
        for number in range(2000):
            me()
            half(number)
            most = max(most, len(sys._current_frames()))
        assert most <= 3, most
        snapshot("trace.json")
    """
    assert run_program(tmp_path, PARTS, program, **ENVIRONMENT).stderr == ""


@pytest.mark.costly
def test_a_handler_that_was_there_runs_as_before(tmp_path):
    program = """
        seen = []

        def mine(number, frame):
            seen.append((number, frame.f_code.co_name))
            raise KeyError("from the handler")

        signal.signal(signal.SIGUSR1, mine)
        flowtrace.configure()

        def here():
            me()
            time.sleep(1)

        try:
            here()
        except KeyError as error:
            assert error.args == ("from the handler",)
        else:
            raise AssertionError("the host's exception is gone")
        (call,) = seen
        assert call in ((signal.SIGUSR1, "me"), (signal.SIGUSR1, "here"))
        snapshot("trace.json")
    """
    assert run_program(tmp_path, START, program, **ENVIRONMENT).stderr == ""


def test_a_handler_that_comes_later_wins(tmp_path):
    program = """
        seen = []
        signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
        half(2)
        me()
        time.sleep(0.2)
        assert seen == [1] and os.listdir() == ["program.py"]
    """
    assert run_program(tmp_path, PARTS, program, **ENVIRONMENT).stderr == ""


@pytest.mark.costly
def test_asyncio_programs(tmp_path):
    program = """
        import asyncio

        @traced_node(operation="waits")
        async def waits(asks):
            if asks:
                me()
            while not os.path.exists("trace.json"):
                await asyncio.sleep(0.01)
            return 1

        async def both():
            return await asyncio.gather(waits(False), waits(True))

        assert asyncio.run(both()) == [1, 1]
        trace = snapshot("trace.json")
        assert {step.operation for step in trace.in_flight} == {"waits"}
        Path("trace.json").unlink()

        async def own():
            got = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, got.set)
            me()
            await asyncio.wait_for(got.wait(), 60)

        asyncio.run(own())
        assert os.listdir() == ["program.py"]
    """
    assert run_program(tmp_path, PARTS, program, **ENVIRONMENT).stderr == ""


@pytest.mark.costly
def test_a_forked_child_answers_for_itself(tmp_path):
    program = """
        half(2)
        child = os.fork()
        if not child:
            half(4)
            me()
            assert [step.operation for step in snapshot(f"trace.{os.getpid()}.json").steps] == ["half"]
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert sorted(os.listdir()) == ["program.py", f"trace.{child}.json"]
    """
    assert run_program(tmp_path, PARTS, program, **ENVIRONMENT).stderr == ""


def test_a_snapshot_asked_for_at_the_very_end_is_written(tmp_path):
    program = """
        from flowtrace.host import signals
        signals._MAX_WAIT = 60  # as above
        half(2)
        me()
    """
    assert run_program(tmp_path, PARTS, program, **ENVIRONMENT).stderr == ""
    assert [step.operation for step in load_trace(tmp_path / "trace.json").steps] == ["half"]


def test_a_handler_in_c_is_left_alone(tmp_path):
    program = """
        import faulthandler
        faulthandler.register(signal.SIGUSR1)
        import flowtrace
        flowtrace.configure()
        me()
        assert os.listdir() == ["program.py"]
    """
    start = "import os, signal\ndef me():\n    os.kill(os.getpid(), signal.SIGUSR1)"
    done = run_program(tmp_path, start, program, **ENVIRONMENT)
    assert done.stderr.count("dump signal is not installed") == 1
    assert "Current thread" in done.stderr


def test_first_use_in_another_thread_warns_and_configure_in_the_main_one_installs(tmp_path):
    before = signal.getsignal(USR1)
    with capture_logs() as logs:
        thread = threading.Thread(target=flowtrace.configure, kwargs={"out_path": "t.json", "dump_signal": "USR1"})
        thread.start()
        thread.join()
    assert [(log["event"], log["signal"]) for log in logs] == [("dump signal is not installed", "USR1")]
    assert signal.getsignal(USR1) is before
    flowtrace.configure(out_path="t.json", dump_signal="USR1")
    assert signal.getsignal(USR1) is not before


def test_override_restores_the_handler(tmp_path):
    mine = lambda *_: None  # noqa: E731  # what matters is which object it is
    signal.signal(USR1, mine)
    flowtrace.configure(out_path=tmp_path / "t.json")
    with flowtrace.override(dump_signal=USR1) as recorder:
        assert recorder.config.dump_signal == "USR1"
        ours = signal.getsignal(USR1)
        assert ours is not mine
        with flowtrace.override(mode="off"):
            assert signal.getsignal(USR1) is ours
    assert signal.getsignal(USR1) is mine
    ours(USR1, None)  # a handler of the program's that still passes on to it
    time.sleep(0.1)
    assert list(tmp_path.iterdir()) == []


def test_an_unusable_signal_is_refused_where_it_is_given():
    accepts = "it takes USR1, USR2, RTMIN or RTMAX (also as SIGUSR1, or its number), where the system has it"
    for value in ("KILL", "SIGSTOP", 9, signal.SIGTERM, True, "", "NOSUCH", 0, 1.5):
        with pytest.raises(flowtrace.ConfigError) as refused:
            TraceConfig(dump_signal=value)
        assert str(refused.value) == f"dump_signal={value!r} is not usable: {accepts}"


@traced_node(operation="half")
def half(number):
    return number / 2


def test_configure_takes_the_signal_in_code(tmp_path):
    flowtrace.configure(out_path=tmp_path / "t.json", dump_signal="SIGUSR1")
    half(1)
    signal.raise_signal(USR1)
    assert [step.operation for step in written(tmp_path / "t.json").steps] == ["half"]
