"""What a trace is kept from: a later process, one at the same time, and a later run of the same process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from functools import cached_property

import pytest

from flowtrace import load_trace
from flowtrace.trace import shared_paths
from flowtrace.trace.shared_paths import SharedPaths, Writer, is_running, started_at, writer_of

from .programs import run_program

NODES = """
    import asyncio, sys
    from flowtrace import flow, traced_node

    @traced_node(operation="half")
    def half(number):
        return number / 2

    @traced_node(operation="fail")
    def fail(text):
        raise ValueError(text)

    def fail_quietly(text):
        try:
            fail(text)
        except ValueError:
            pass

    @traced_node(operation="numbers")
    def numbers():
        yield 1
        yield 2

    @traced_node(operation="child")
    async def child(number):
        await asyncio.sleep(0)
        return half(number)
"""
ALWAYS = {"FLOWTRACE_MODE": "always", "FLOWTRACE_OUT": "t.json"}


@pytest.fixture(params=["native", "pure"], autouse=True)
def core(request, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    return {"FLOWTRACE_PURE": "1"} if request.param == "pure" else {}


def run(tmp_path, core, program, code=0, **environment):
    return run_program(tmp_path, NODES, program, code=code, **core, **environment)


def told(path):
    """Return what a trace says: its outcome, its steps, its failing step, and those in flight."""
    trace = load_trace(path)
    failed = None if trace.failed_step is None else trace.failed_step.error.message
    names = [[step.operation for step in steps] for steps in (trace.steps, trace.in_flight)]
    return trace.run.outcome, names[0], failed, names[1]


# --- mode always: what ends late


@pytest.mark.costly
@pytest.mark.parametrize("start", ["@traced_node(operation='start')", "@flow('start')"])
def test_what_a_call_began_and_what_ends_after_it_stands_in_its_trace(start, tmp_path, core):
    program = f"""
        {start}
        async def start():
            half(0)
            held = numbers()
            next(held)
            return held, asyncio.create_task(child(5))

        async def main():
            held, task = await start()
            print(await task, list(held))

        asyncio.run(main())
    """
    run(tmp_path, core, program, **ALWAYS)
    own = ["start"] if "traced" in start else []
    assert told(tmp_path / "t.json") == ("ok", ["half", *own, "half", "child", "numbers"], None, [])


@pytest.mark.costly
@pytest.mark.parametrize("end", ["held.close()", "del held", "list(held)"])
def test_a_generator_that_ends_late_is_in_flight_no_more(end, tmp_path, core):
    program = f"""
        @traced_node(operation="start")
        def start():
            held = numbers()
            next(held)
            return held

        held = start()
        {end}
    """
    run(tmp_path, core, program, **ALWAYS)
    assert told(tmp_path / "t.json") == ("ok", ["start", "numbers"], None, [])


@pytest.mark.costly
def test_a_task_that_fails_late_and_one_that_is_cancelled_are_written(tmp_path, core):
    program = """
        @traced_node(operation="bad")
        async def bad():
            await asyncio.sleep(0)
            raise KeyError("late")

        @traced_node(operation="waits")
        async def waits():
            await asyncio.sleep(60)

        @traced_node(operation="start")
        async def start():
            return asyncio.create_task(bad()), asyncio.create_task(waits())

        async def main():
            bad, waits = await start()
            await asyncio.wait([bad])
            bad.exception()

        asyncio.run(main())
    """
    run(tmp_path, core, program, **ALWAYS)
    assert told(tmp_path / "t.json") == ("failed", ["start", "bad", "waits"], "'late'", [])


def test_each_run_with_a_file_of_its_own_gets_its_late_steps(tmp_path, core):
    program = """
        @traced_node(operation="start")
        def start():
            held = numbers()
            next(held)
            return held

        both = [start(), start()]
        half(1)
        for held in both:
            list(held)
    """
    run(tmp_path, core, program, **ALWAYS | {"FLOWTRACE_OUT": "{run_id}.json"})
    found = sorted(told(path)[1] for path in tmp_path.glob("*.json"))
    whole = ["start", "start", "half", "numbers", "numbers"]
    assert found == [["half"], ["start", "numbers"], ["start", "numbers"], whole]


def test_a_generator_around_calls_is_written_when_it_ends(tmp_path, core):
    program = """
        held = numbers()
        next(held)
        half(1)
        list(held)
    """
    run(tmp_path, core, program, **ALWAYS)
    assert told(tmp_path / "t.json") == ("ok", ["half", "numbers"], None, [])


# --- one process: the failure that ended it


ON = {"FLOWTRACE_OUT": "t.json"}
ENDS = {
    "a handled failure on the way out": "try:\n    fail('real')\nfinally:\n    fail_quietly('clean-up')",
    "many of them": "try:\n    fail('real')\nfinally:\n    [fail_quietly(str(n)) for n in range(6)]",
    "one at exit": "import atexit\natexit.register(fail_quietly, 'clean-up')\nhalf(1)\nfail('real')",
    "one that follows outside a node": "try:\n    {}['real']\nfinally:\n    fail_quietly('clean-up')",
    "a flow": "try:\n    with flow('f'):\n        fail('real')\nfinally:\n    fail_quietly('clean-up')",
    "a flow without a step": "try:\n    with flow('f'):\n        {}['real']\nfinally:\n    fail_quietly('clean-up')",
}


@pytest.mark.costly
@pytest.mark.parametrize("mode", ["on", "always"])
@pytest.mark.parametrize("program", ENDS.values(), ids=ENDS)
def test_the_failure_that_ended_the_program_keeps_the_file(program, mode, tmp_path, core):
    run(tmp_path, core, program, code=1, FLOWTRACE_MODE=mode, **ON)
    outcome, _, failed, _ = told(tmp_path / "t.json")
    assert (outcome, failed.strip("'")) == ("failed", "real")


@pytest.mark.costly
def test_an_interrupted_thread_does_not_take_the_file(tmp_path, core):
    program = """
        import threading

        @traced_node(operation="leave")
        def leave(gone):
            gone.wait()
            raise SystemExit(3)

        gone = threading.Event()
        threading.Thread(target=leave, args=(gone,)).start()
        try:
            fail("real")
        finally:
            gone.set()
    """
    run(tmp_path, core, program, code=1, **ON)
    assert told(tmp_path / "t.json")[::2] == ("failed", "real")


@pytest.mark.costly
@pytest.mark.parametrize(
    ("program", "outcome"),
    [
        ("half(1); fail_quietly('x'); half(2)", "recovered"),
        ("half(1); half(2)", "ok"),
        ("half(1); fail_quietly('x'); [half(n) for n in range(20)]", "ok"),
    ],
)
def test_the_outcome_of_a_process_follows_the_steps_in_its_trace(program, outcome, tmp_path, core):
    run(tmp_path, core, program, **ALWAYS)
    trace = load_trace(tmp_path / "t.json")
    assert (trace.run.outcome, trace.run.failed_step_id) == (outcome, None)


@pytest.mark.costly
def test_the_process_says_which_step_of_it_ended_it_in_mode_always(tmp_path, core):
    run(tmp_path, core, "half(1); fail_quietly('before'); fail('real')", code=1, **ALWAYS)
    assert told(tmp_path / "t.json") == ("failed", ["half", "fail", "fail"], "real", [])


# --- several processes, one after the other


@pytest.mark.costly
def test_a_later_process_keeps_one_predecessor(tmp_path, core):
    for text in ("first", "second", "third"):
        run(tmp_path, core, f"fail('{text}')\n", code=1, **ON)
    assert sorted(path.name for path in tmp_path.glob("*.json")) == ["t.json", "t.prev.json"]
    assert [told(tmp_path / name)[2] for name in ("t.json", "t.prev.json")] == ["third", "second"]


@pytest.mark.costly
def test_a_process_does_not_keep_its_own_earlier_trace(tmp_path, core):
    run(tmp_path, core, "fail_quietly('a'); fail_quietly('b')", **ON)
    assert [path.name for path in tmp_path.glob("*.json")] == ["t.json"]


@pytest.mark.costly
def test_what_is_no_trace_is_kept_too_and_an_empty_file_is_not(tmp_path, core):
    path = tmp_path / "t.json"
    path.write_text("notes\n")
    run(tmp_path, core, "fail_quietly('a')", **ON)
    assert (tmp_path / "t.prev.json").read_text() == "notes\n"
    path.write_text("")
    run(tmp_path, core, "fail_quietly('b')", **ON)
    assert ((tmp_path / "t.prev.json").read_text(), told(path)[0]) == ("notes\n", "failed")


@pytest.mark.costly
def test_payload_files_of_the_predecessor_stay(tmp_path, core):
    for text in ("first", "second"):
        program = f"fail('{text}' * 1000)\n"
        large = {"FLOWTRACE_MAX_VALUE_BYTES": "100", "FLOWTRACE_CAPTURE_INPUTS": "1"}
        run(tmp_path, core, program, code=1, **ON, **large)
    for name, text in (("t.json", "second"), ("t.prev.json", "first")):
        step = load_trace(tmp_path / name).failed_step
        assert text * 1000 in (tmp_path / step.invocation_path).read_text()


@pytest.mark.costly
def test_where_the_predecessor_has_no_room_the_pid_is_added(tmp_path, core):
    (tmp_path / "t.prev.json").mkdir()
    for text in ("first", "second"):
        run(tmp_path, core, f"fail('{text}')\n", code=1, **ON)
    files = [path for path in tmp_path.glob("*.json") if path.is_file()]
    assert sorted(told(path)[2] for path in files) == ["first", "second"]
    assert told(tmp_path / "t.json")[2] == "first"


# --- several processes at the same time


WAITING = """
    fail_quietly(sys.argv[1])
    print("failed", flush=True)
    sys.stdin.readline()
    fail_quietly(sys.argv[1] + " again")
"""


@pytest.mark.costly
def test_a_path_that_a_living_process_writes_is_left_to_it(tmp_path, core):
    script = tmp_path / "program.py"
    script.write_text(textwrap.dedent(NODES) + textwrap.dedent(WAITING))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = os.environ | core | ON
    running = []
    for text in ("one", "two", "three"):
        running.append(subprocess.Popen([sys.executable, script, text], cwd=tmp_path, env=environment, **pipes))
        assert running[-1].stdout.readline() == "failed\n"
    warnings = [process.communicate("\n")[1] for process in running]
    found = {path.name: told(path)[2] for path in tmp_path.glob("*.json")}
    first, *others = running
    own = {f"t.{process.pid}.json": f"{text} again" for process, text in zip(others, ("two", "three"), strict=True)}
    assert found == {"t.json": "one again", **own}
    assert [text.count("another process writes to this path") for text in warnings] == [0, 1, 1]
    assert load_trace(tmp_path / "t.json").run.pid == first.pid


FORKED = """
    import os, time
    gone = os.fork()
    if not gone:
        exec(NODES)
        fail_quietly("child")
        os._exit(0)
    os.waitpid(gone, 0)
    exec(NODES)
    fail("parent")
"""


@pytest.mark.costly
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_process_of_the_same_time_that_is_gone_keeps_its_trace(tmp_path, core):
    nodes = f"NODES = {textwrap.dedent(NODES)!r}"
    run_program(tmp_path, nodes, FORKED, code=1, **core, **ON)
    found = {path.name.count("."): told(path)[2] for path in tmp_path.glob("*.json")}
    assert found == {1: "child", 2: "parent"}


@pytest.mark.parametrize(
    ("pid", "host", "expected"),
    [
        (os.getppid(), "here", "pid"),
        (os.getppid(), "elsewhere", "prev"),
        (2**22 + 1, "here", "prev"),
        (-1, "here", "prev"),
    ],
)
def test_whose_a_path_is(pid, host, expected, tmp_path, monkeypatch):
    path = tmp_path / "t.json"
    path.write_text(f'{{\n  "run": {{\n    "pid": {pid},\n    "host": "{host}"\n  }}\n}}\n')
    now = path.stat().st_mtime_ns
    os.utime(path, ns=(now, now))
    started = cached_property(lambda self: now + 1)  # this process began later
    started.__set_name__(SharedPaths, "_started")
    monkeypatch.setattr(SharedPaths, "_started", started)
    written, _ = SharedPaths().write(str(path), str(path), "here", lambda target: None)
    names = sorted(each.name for each in tmp_path.iterdir())
    if expected == "pid":
        assert (written, names) == (str(tmp_path / f"t.{os.getpid()}.json"), ["t.json"])
    else:
        assert (written, names) == (str(path), ["t.prev.json"])


def test_the_writer_is_found_behind_steps_in_flight_and_not_in_a_value(tmp_path):
    path = tmp_path / "t.json"
    run = '\n  "run": {\n    "pid": 7,\n    "host": "h"\n  },'
    step = '{\n      "run": {\n      "pid": 8\n  }}'
    path.write_text(f'{{\n  "steps": [{step}],{run}\n  "in_flight": ["{"x" * 200_000}"]\n}}')
    assert writer_of(str(path)) == Writer(7, "h")
    path.write_text("{}")
    assert writer_of(str(path)) is None


RESPAWNED = """
    import os
    for text in ("first", "second", "third"):
        gone = os.fork()
        if not gone:
            exec(NODES)
            fail_quietly(text)
            os._exit(0)
        os.waitpid(gone, 0)
"""


@pytest.mark.costly
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells that a process was forked")
def test_workers_that_are_forked_one_after_the_other_lose_no_failure(tmp_path, core):
    nodes = f"NODES = {textwrap.dedent(NODES)!r}"
    run_program(tmp_path, nodes, RESPAWNED, **core, **ON)
    found = {path.name.count("."): told(path)[2] for path in tmp_path.glob("t.json")}
    assert found == {1: "first"}
    assert sorted(told(path)[2] for path in tmp_path.glob("t.*.json")) == ["second", "third"]
    run_program(tmp_path, nodes, RESPAWNED, **core, **ON)  # another program: one predecessor, and workers of its own
    assert sorted(told(path)[2] for path in tmp_path.glob("t.*.json")) == ["first", *["second"] * 2, *["third"] * 2]


DAEMON = """
    import os, sys, time
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        os.read(reader, 1)  # until the daemon has ended
        sys.exit()
    started_by = os.getpid()
    if os.fork():
        os._exit(0)
    while os.getppid() == started_by:
        time.sleep(0.01)
    exec(NODES)
    fail_quietly(sys.argv[1])
    os._exit(0)
"""


@pytest.mark.costly
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells that a process was forked")
def test_a_daemon_that_is_started_again_keeps_one_predecessor(tmp_path, core):
    nodes = f"NODES = {textwrap.dedent(NODES)!r}"
    for text in ("first", "second", "third"):
        run_program(tmp_path, nodes, DAEMON, arguments=(text,), **core, **ON)
    found = {path.name: told(path)[2] for path in tmp_path.glob("*.json")}
    assert found == {"t.json": "third", "t.prev.json": "second"}


def test_a_process_that_began_after_the_file_was_written_is_another_one():
    mine = started_at(os.getpid())
    assert is_running(os.getpid(), mine)
    assert is_running(os.getpid(), mine - 3_600_000_000_000) is (sys.platform != "linux")
    assert not is_running(2**40, mine)
    assert shared_paths.predecessor_of("a.b/trace.json") == "a.b/trace.prev.json"


# --- workers that leave by os._exit


WORKER = """
    import multiprocessing

    def work():
        half(1)
        held = numbers()
        next(held)
        half(2)

    if __name__ == "__main__":
        process = multiprocessing.get_context(sys.argv[1]).Process(target=work)
        process.start()
        process.join()
        assert process.exitcode == 0
"""


@pytest.mark.costly
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_worker_writes_its_end(method, tmp_path, core):
    run_program(tmp_path, NODES, WORKER, arguments=(method,), **core, **ALWAYS)
    (path,) = tmp_path.glob("t.*.json")
    assert told(path) in (("ok", ["half", "half"], None, ["numbers"]), ("ok", ["half", "half", "numbers"], None, []))


@pytest.mark.costly
def test_a_worker_writes_what_was_held_back(tmp_path, core):
    program = WORKER.replace("half(2)", "[fail_quietly(str(n)) for n in range(60)]")
    run_program(tmp_path, NODES, program, arguments=("fork",), **core, **ON)
    (path,) = tmp_path.glob("t.*.json")
    assert told(path)[2] == "59"


@pytest.mark.costly
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_worker_in_which_nothing_was_called_writes_nothing(method, tmp_path, core):
    run_program(tmp_path, NODES, WORKER.replace("half(1)", "return"), arguments=(method,), **core, **ALWAYS)
    assert [path.name for path in tmp_path.glob("*.json")] == ["t.json"]


CELERY = """
    from celery import Celery

    app = Celery("program", broker="memory://")

    @app.task
    def work():
        half(1)
        half(2)

    if __name__ == "__main__":
        half(0)
        from celery import signals
        from celery.concurrency.prefork import process_destructor
        import os
        gone = os.fork()
        if not gone:
            try:
                work()
            finally:
                process_destructor(os.getpid(), 0)  # what a worker calls last
                os._exit(0)
        os.waitpid(gone, 0)
"""


@pytest.mark.costly
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_worker_of_celery_writes_its_end(tmp_path, core):
    pytest.importorskip("celery")
    run_program(tmp_path, NODES, CELERY, **core, **ALWAYS)
    (path,) = tmp_path.glob("t.*.json")
    assert told(path) == ("ok", ["half", "half"], None, [])


def test_a_worker_of_loky_writes_its_end(tmp_path, core):
    pytest.importorskip("loky")
    (tmp_path / "nodes.py").write_text(textwrap.dedent(NODES))
    program = """
        import sys
        sys.path.insert(0, ".")
        import nodes
        from loky import ProcessPoolExecutor

        if __name__ == "__main__":
            with ProcessPoolExecutor(1) as pool:
                assert [*pool.map(nodes.half, [1, 2, 3])] == [0.5, 1, 1.5]
    """
    run_program(tmp_path, program, **core, **ALWAYS)
    (path,) = tmp_path.glob("t.*.json")
    assert told(path) == ("ok", ["half"] * 3, None, [])
