"""Whole programs: uncaught exceptions, the end of the interpreter, child processes, warnings on standard error."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from flowtrace import load_trace
from tests.programs import run_program

NODES = """
    from flowtrace import traced_node

    @traced_node(operation="half")
    def half(number):
        return number / 2

    @traced_node(operation="fail")
    def fail():
        raise ValueError("boom")
"""

# forking with threads is warned of by newer Pythons; programs do it all the same
QUIET = "import warnings; warnings.simplefilter('ignore', DeprecationWarning)"


def traces(folder):
    return {path.name: load_trace(path) for path in sorted(folder.glob("*.json"))}


def operations(trace):
    return [step.operation for step in trace.steps]


@pytest.mark.costly
def test_one_variable_in_one_file_out(tmp_path):
    run_program(tmp_path, NODES, "half(1); fail()", code=1, FLOWTRACE_OUT="trace.json")
    found = traces(tmp_path)
    assert list(found) == ["trace.json"]
    assert found["trace.json"].pack.pack_ref == "program.py"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["program.py", "trace.json"]


def test_without_the_variable_nothing_is_written_loaded_or_printed(tmp_path):
    program = """
        import sys, threading
        half(1)
        assert not {"orjson", "msgspec", "structlog", "blake3"} & set(sys.modules)
        assert threading.active_count() == 1
        assert sys.excepthook is sys.__excepthook__
    """
    done = run_program(tmp_path, NODES, program)
    assert (done.stdout, done.stderr) == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == ["program.py"]


def test_the_first_call_reads_the_environment_and_off_stays_off(tmp_path):
    program = """
        import sys
        half(1)
        from flowtrace.host.switch import SWITCH
        assert SWITCH == []
        assert sys.excepthook is sys.__excepthook__
    """
    run_program(tmp_path, NODES, program, FLOWTRACE_MODE="off", FLOWTRACE_OUT="trace.json")
    assert traces(tmp_path) == {}


@pytest.mark.costly
def test_an_uncaught_exception_outside_any_node_is_a_flow_error(tmp_path):
    done = run_program(tmp_path, NODES, "half(1); half(2)\n{}['sku']", code=1, FLOWTRACE_OUT="t.json")
    assert done.stderr.endswith("KeyError: 'sku'\n")
    (trace,) = traces(tmp_path).values()
    assert operations(trace) == ["half", "half", "unknown"]
    assert (trace.run.outcome, trace.steps[-1].error.code) == ("failed", "flow_error")


@pytest.mark.costly
def test_an_uncaught_exception_before_the_first_call_is_seen_too(tmp_path):
    run_program(tmp_path, NODES, "{}['sku']", code=1, FLOWTRACE_OUT="t.json")
    (trace,) = traces(tmp_path).values()
    assert operations(trace) == ["unknown"]


@pytest.mark.costly
def test_an_uncaught_exception_of_a_node_or_flow_is_told_once(tmp_path):
    program = """
        from flowtrace import flow
        with flow("f"):
            {}['sku']
    """
    run_program(tmp_path, NODES, program, code=1, FLOWTRACE_OUT="{flow_id}.json")
    run_program(tmp_path, NODES, "fail()", code=1, FLOWTRACE_OUT="{flow_id}.json")
    found = traces(tmp_path)
    assert [(name, operations(trace)) for name, trace in found.items()] == [
        ("f.json", ["unknown"]),
        ("process.json", ["fail"]),
    ]


def test_the_hooks_that_were_there_still_run(tmp_path):
    program = """
        import sys, threading
        sys.excepthook = lambda kind, error, traceback: print("mine", error)
        threading.excepthook = lambda args: print("thread", args.exc_value)
    """
    crash = """
        thread = threading.Thread(target=lambda: {}["in a thread"])
        half(1)
        thread.start()
        thread.join()
        {}["in main"]
    """
    done = run_program(tmp_path, program, NODES, crash, code=1, FLOWTRACE_OUT="t.json")
    assert done.stdout == "thread 'in a thread'\nmine 'in main'\n"
    (trace,) = traces(tmp_path).values()
    assert [step.error.message for step in trace.steps[1:]] == ["'in a thread'", "'in main'"]


@pytest.mark.costly
def test_a_hook_that_wraps_ours_keeps_working_after_switching_off(tmp_path):
    program = """
        import sys, flowtrace
        half(1)
        ours = sys.excepthook
        sys.excepthook = lambda *error: (print("wrapped"), ours(*error))
        flowtrace.configure(mode="off")
        {}["sku"]
    """
    done = run_program(tmp_path, NODES, program, code=1, FLOWTRACE_OUT="t.json")
    assert done.stdout == "wrapped\n"
    assert done.stderr.endswith("KeyError: 'sku'\n")
    assert traces(tmp_path) == {}


@pytest.mark.costly
def test_mode_always_leaves_the_last_steps_of_the_process(tmp_path):
    run_program(tmp_path, NODES, "half(1); half(2); half(4)", FLOWTRACE_MODE="always")
    trace = traces(tmp_path)["trace.json"]
    assert (operations(trace), trace.run.outcome, trace.flow.id) == (["half"] * 3, "ok", "process")


@pytest.mark.costly
def test_mode_always_leaves_a_last_flow_as_it_is(tmp_path):
    program = """
        from flowtrace import flow
        half(1)
        with flow("f"):
            half(2)
    """
    run_program(tmp_path, NODES, program, FLOWTRACE_MODE="always")
    trace = traces(tmp_path)["trace.json"]
    assert (operations(trace), trace.flow.id) == (["half"], "f")


@pytest.mark.costly
def test_mode_always_says_so_where_nothing_was_called(tmp_path):
    run_program(tmp_path, NODES, FLOWTRACE_MODE="always")
    assert operations(traces(tmp_path)["trace.json"]) == []


@pytest.mark.costly
def test_a_process_that_recorded_nothing_leaves_an_older_trace_alone(tmp_path):
    run_program(tmp_path, NODES, "half(1); half(2)", FLOWTRACE_MODE="always")
    before = (tmp_path / "trace.json").read_bytes()
    off = "import flowtrace\nwith flowtrace.override(mode='off'):\n    half(3)"
    run_program(tmp_path, NODES, FLOWTRACE_MODE="always")
    run_program(tmp_path, NODES, off, FLOWTRACE_MODE="always")
    assert (tmp_path / "trace.json").read_bytes() == before


@pytest.mark.costly
def test_a_keyboard_interrupt_leaves_the_stack(tmp_path):
    program = """
        import os, signal, time

        signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job is started with it ignored

        @traced_node(operation="wait")
        def wait():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)

        wait()
    """
    run_program(tmp_path, NODES, program, code=-signal.SIGINT, FLOWTRACE_OUT="t.json")
    trace = traces(tmp_path)["t.json"]
    assert (trace.run.outcome, trace.steps[-1].error.code) == ("interrupted", "node_interrupted")


FORK = """
    import os, sys
    from flowtrace import flow

    with flow("f"):
        half(1)
        if (child := os.fork()) == 0:
            try:
                fail()
            finally:
                os._exit(7)
        print(child)
        os.waitpid(child, 0)
        fail()
"""


def test_a_forked_child_does_not_write_over_its_parent(tmp_path):
    done = run_program(tmp_path, NODES, FORK, code=1, FLOWTRACE_OUT="t.json")
    child = int(done.stdout)
    found = traces(tmp_path)
    assert sorted(found) == [f"t.{child}.json", "t.json"]
    assert found[f"t.{child}.json"].run.pid == child
    assert found["t.json"].run.pid != child
    assert [operations(trace) for trace in found.values()] == [["half", "fail"]] * 2


@pytest.mark.slow
def test_a_fork_while_other_threads_record_does_not_hang(tmp_path):
    program = """
        import os, signal, threading
        stop = threading.Event()

        def work():
            while not stop.is_set():
                half(1)

        threads = [threading.Thread(target=work) for _ in range(4)]
        [thread.start() for thread in threads]
        try:
            for _ in range(40):
                child = os.fork()
                if child == 0:
                    signal.alarm(60)
                    try:
                        fail()
                    except ValueError:
                        os._exit(0)
                assert os.waitpid(child, 0)[1] == 0
        finally:
            stop.set()
    """
    run_program(tmp_path, QUIET, NODES, program, FLOWTRACE_OUT="out/t.json")
    assert len(list((tmp_path / "out").iterdir())) == 40
    for trace in traces(tmp_path / "out").values():
        assert operations(trace) == ["fail"]
        assert trace.in_flight == []


LOADING = """
    import importlib.machinery, os, signal, sys, threading
    started, go_on = threading.Event(), threading.Event()

    class Slow:
        def find_spec(self, name, path=None, target=None):
            if name != "MODULE":
                return None
            spec = importlib.machinery.PathFinder.find_spec(name, path)
            load = spec.loader.exec_module

            def exec_module(module):
                started.set()
                go_on.wait(SECONDS)
                load(module)

            spec.loader.exec_module = exec_module
            return spec

    def in_a_child(call):
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            try:
                call()
            except ValueError:
                os._exit(0)
        go_on.set()
        return os.waitpid(child, 0)[1]

    def fork_while_it_loads(work, call):
        thread = threading.Thread(target=work)
        thread.start()
        assert started.wait(30)
        assert in_a_child(call) == 0
        thread.join()

    sys.meta_path.insert(0, Slow())
"""


def loading(module, seconds):
    """Return the part of a program in which a module takes its time to load, until something is forked."""
    return LOADING.replace("MODULE", module).replace("SECONDS", str(seconds))


BEGINNINGS = {
    "call": """
        def begin():
            half(1)

        end = fail
    """,
    "flow": """
        from flowtrace import flow

        def begin():
            with flow("f"):
                pass

        def end():
            with flow("g"):
                fail()
    """,
}


@pytest.mark.costly
@pytest.mark.parametrize(("beginning", "flow_id"), [("call", "process"), ("flow", "g")])
def test_a_fork_waits_for_a_thread_that_loads_the_recorder(beginning, flow_id, tmp_path):
    program = """
        os.environ["FLOWTRACE_OUT"] = "out/t.json"  # after the decoration, so that the first use loads it all
        fork_while_it_loads(begin, end)
    """
    run_program(tmp_path, QUIET, NODES, BEGINNINGS[beginning], loading("flowtrace.values.encode", 0.5), program)
    (trace,) = traces(tmp_path / "out").values()
    assert (trace.flow.id, operations(trace)) == (flow_id, ["fail"])


@pytest.mark.costly
def test_ctrl_c_while_a_fork_waits_arrives_after_it(tmp_path):
    program = """
        from _thread import interrupt_main
        from types import SimpleNamespace
        from flowtrace.host import safe_loading as forks

        signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs the tests may ignore it
        forks.time = SimpleNamespace(monotonic=forks.time.monotonic, sleep=lambda pause: interrupt_main())
        os.environ["FLOWTRACE_OUT"] = "out/t.json"
        loading = threading.Thread(target=half, args=(1,))
        loading.start()
        assert started.wait(30)
        try:
            child = None
            child = os.fork()
            if child == 0:
                os._exit(3)
            print("not interrupted")
        except KeyboardInterrupt:
            print("interrupted", child)
        print(os.waitstatus_to_exitcode(os.waitpid(-1, 0)[1]), signal.getsignal(signal.SIGINT).__name__)
        go_on.set()
        loading.join()
    """
    done = run_program(tmp_path, QUIET, NODES, loading("flowtrace.values.encode", 60), program)
    assert (done.stdout, done.stderr) == ("interrupted None\n3 default_int_handler\n", "")


PRESSES = {
    # Before the fork, hooks run in the reverse order of their registration; after it, in the order. The modules that
    # have hooks in Python are loaded: Ctrl-C would be lost in those, with or without us.
    "before": ("", "before=interrupt_main"),
    "parent": ("after_in_parent=interrupt_main", ""),
    "child": ("after_in_child=interrupt_main", ""),
}


@pytest.mark.costly
@pytest.mark.parametrize("where", PRESSES)
@pytest.mark.parametrize("handler", ["signal.default_int_handler", "alarm"])
def test_ctrl_c_at_our_hooks_of_a_fork_is_raised_after_it(where, handler, tmp_path):
    program = """
        import asyncio, concurrent.futures.thread, logging, os, random, signal, threading
        from _thread import interrupt_main

        class Alarm(Exception):
            pass

        def alarm(number, frame):
            raise Alarm("from the handler")

        calls, parent = [], os.getpid()
        signal.signal(signal.SIGINT, lambda *given: (calls.append(1), HANDLER(*given)))
        EARLIER
    """
    rest = """
        half(1)
        from flowtrace.host import safe_loading as forks
        with forks.no_fork():
            pass
        LATER
        seen = []
        try:
            os.fork()
            for _ in range(3):
                print(end="")
        except (KeyboardInterrupt, Alarm) as error:
            seen = [type(error).__name__, len(calls)]
        if os.getpid() != parent:
            print("child", *seen, flush=True)
            try:
                fail()  # what is locked in the parent is not here
            except ValueError:
                os._exit(0)
        assert os.waitpid(-1, 0)[1] == 0
        print("parent", *seen)
    """
    earlier, later = PRESSES[where]
    program = program.replace("HANDLER", handler).replace("EARLIER", earlier and f"os.register_at_fork({earlier})")
    rest = rest.replace("LATER", later and f"os.register_at_fork({later})")
    done = run_program(tmp_path, program, QUIET, NODES, rest, FLOWTRACE_OUT="out/t.json")
    seen = " Alarm 1" if handler == "alarm" else " KeyboardInterrupt 1"
    in_child, in_parent = (seen, "") if where == "child" else ("", seen)
    assert (done.stdout, done.stderr) == (f"child{in_child}\nparent{in_parent}\n", "")
    (trace,) = traces(tmp_path / "out").values()
    assert operations(trace) == ["fail"]


@pytest.mark.costly
def test_a_fork_does_not_wait_for_ever_and_its_child_is_not_traced(tmp_path):
    program = """
        from flowtrace.host import safe_loading as forks
        forks.MAX_WAIT = 0.1
        os.environ["FLOWTRACE_OUT"] = "out/t.json"
        fork_while_it_loads(lambda: half(1), fail)
    """
    done = run_program(tmp_path, QUIET, NODES, loading("flowtrace.values.encode", 60), program)
    assert (done.stdout, done.stderr) == ("", "")
    assert not (tmp_path / "out").exists()


def test_a_lock_that_the_host_takes_at_forks_hangs_no_thread_that_loads(tmp_path):
    program = """
        import os, threading
        lock, held = threading.Lock(), threading.Event()
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)

        def work():
            with lock:
                held.set()
                while not forking.wait(0.01):
                    pass
                half(1)  # the first call, while the fork waits for the lock

        forking = threading.Event()
        from flowtrace.host import safe_loading as forks
        with forks.no_fork():  # so that our hook comes after the host's
            pass
        os.register_at_fork(before=forking.set)
        os.environ["FLOWTRACE_OUT"] = "out/t.json"
        thread = threading.Thread(target=work)
        thread.start()
        assert held.wait(30)
        child = os.fork()
        if child == 0:
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        thread.join(30)
        assert not thread.is_alive()
        fail()
    """
    run_program(tmp_path, QUIET, NODES, program, code=1)
    (trace,) = traces(tmp_path / "out").values()
    assert operations(trace) == ["half", "fail"]


def test_at_the_very_end_the_package_can_still_be_imported(tmp_path):
    program = """
        import atexit, sys

        @atexit.register
        def late():
            import flowtrace
            print(flowtrace.traced_node(abs)(-1))
    """
    done = run_program(tmp_path, program, FLOWTRACE_OUT="t.json")
    assert done.stdout == "1\n"


@pytest.mark.costly
def test_calls_load_nothing_once_a_function_is_decorated(tmp_path):
    program = """
        import asyncio, sys
        from flowtrace import flow

        class Service:
            @traced_node
            async def wait(self):
                return 1

            @classmethod
            @traced_node
            def many(cls):
                yield 1

        async def stream():
            yield 1

        async def main():
            await Service().wait()
            return [item async for item in traced_node(stream)()]

        loaded = set(sys.modules)
        asyncio.run(main())
        list(Service.many())
        with flow("f"):
            half(1)
        try:
            fail()
        except ValueError:
            print(sorted(set(sys.modules) - loaded))
    """
    done = run_program(tmp_path, NODES, program, FLOWTRACE_OUT="t.json", FLOWTRACE_BLACKBOX="t.ring")
    assert done.stdout == "[]\n"
    assert (tmp_path / "t.json").exists()


@pytest.mark.costly
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_pool_workers_name_their_own_files(method, tmp_path):
    program = """
        import multiprocessing, sys, os
        from concurrent.futures import ProcessPoolExecutor

        @traced_node(operation="work")
        def work(number):
            if number == 2:
                raise ValueError(os.getpid())
            return number

        if __name__ == "__main__":
            work(1)
            context = multiprocessing.get_context(sys.argv[1])
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                try:
                    list(pool.map(work, [1, 2, 3]))
                except ValueError as error:
                    print(error)
            fail()
    """
    done = run_program(tmp_path, NODES, program, arguments=[method], code=1, FLOWTRACE_OUT="t.json")
    found = traces(tmp_path)
    assert sorted(found) == [f"t.{int(done.stdout)}.json", "t.json"]
    assert operations(found["t.json"]) == ["work", "fail"]


UNWRITABLE = """
    for _ in range(15):
        try:
            fail()
        except ValueError:
            pass
"""


@pytest.mark.costly
def test_failing_writes_are_one_warning_with_a_final_count(tmp_path):
    done = run_program(tmp_path, NODES, UNWRITABLE, FLOWTRACE_OUT="/dev/full")
    lines = done.stderr.splitlines()
    assert [line.count("failed to write trace") for line in lines] == [1, 1]
    for line, count in zip(lines, ("count=1 ", "count=15 "), strict=True):
        for text in (count, "path=/dev/full", "reason='is not a regular file'"):
            assert text in line
    assert done.stdout == ""
    assert Path("/dev/full").exists()


@pytest.mark.costly
def test_failing_writes_are_told_in_the_hosts_own_format(tmp_path):
    configured = """
        import structlog
        structlog.configure(processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer()])
    """
    done = run_program(tmp_path, configured, NODES, UNWRITABLE, FLOWTRACE_OUT="/dev/full")
    first, last = map(json.loads, done.stdout.splitlines())
    assert first == {
        "event": "failed to write trace",
        "level": "warning",
        "path": "/dev/full",
        "errno": 22,
        "reason": "is not a regular file",
        "count": 1,
    }
    assert last == first | {"count": 15}
    assert done.stderr == ""


@pytest.mark.costly
def test_failing_writes_reach_the_standard_librarys_logging(tmp_path):
    bridged = """
        import logging, structlog
        logging.basicConfig(format="%(levelname)s %(name)s %(message)s")
        structlog.configure(
            logger_factory=structlog.stdlib.LoggerFactory(),
            processors=[structlog.processors.KeyValueRenderer(key_order=["event"])],
        )
    """
    done = run_program(tmp_path, bridged, NODES, UNWRITABLE, FLOWTRACE_OUT="/dev/full")
    assert done.stderr.startswith("WARNING flowtrace event='failed to write trace'")


HELD = """
held, done = threading.Event(), threading.Event()

def hold():
    with LOCK:
        held.set()
        done.wait()

thread = threading.Thread(target=hold)
thread.start()
held.wait()
"""


@pytest.mark.costly
def test_a_forked_child_goes_on_with_a_generator_of_its_parent(tmp_path):
    program = """
import os
import flowtrace

@flowtrace.traced_node(operation="two")
def two():
    yield 1
    yield 2

flowtrace.configure(mode="always", out_path="{pid}.json")
numbers = two()
next(numbers)
child = os.fork()
if not child:
    print(list(numbers), flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(child)
"""
    done = run_program(tmp_path, program)
    items, child = done.stdout.splitlines()
    assert (items, done.stderr) == ("[2]", "")
    assert [step.operation for step in traces(tmp_path)[f"{child}.json"].steps] == ["two"]


@pytest.mark.costly
@pytest.mark.parametrize("lock", ["lock", "buffer_lock"])
def test_a_child_forked_while_tracing_is_off_can_switch_it_on_whatever_lock_a_late_call_held(lock, tmp_path):
    program = """
import os
import signal
import threading
import warnings
import flowtrace
from flowtrace.recording.state import STATE

warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads
flowtrace.configure(mode="on")
flowtrace.configure(mode="off")
LOCK = STATE.LOCK_NAME
"""
    goes_on = """
child = os.fork()
if not child:
    signal.alarm(60)
    flowtrace.configure(mode="always", out_path="{pid}.json")
    os._exit(flowtrace.dump() is None)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
done.set()
thread.join()
"""
    done = run_program(tmp_path, program.replace("LOCK_NAME", lock), HELD, goes_on)
    assert (done.stdout, done.stderr) == ("0\n", "")


@pytest.mark.costly
def test_a_forked_child_goes_on_with_a_coroutine_of_its_parent(tmp_path):
    program = """
import asyncio
import os
import flowtrace

@flowtrace.traced_node(operation="two")
async def two():
    await asyncio.sleep(0)
    return 2

flowtrace.configure(mode="always", out_path="{pid}.json")
begun = two()
begun.send(None)
child = os.fork()
try:
    begun.send(None)
except StopIteration as end:
    if not child:
        os._exit(end.value)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), child)
"""
    done = run_program(tmp_path, program)
    status, child = done.stdout.split()
    assert (status, done.stderr) == ("2", "")
    assert [step.operation for step in traces(tmp_path)[f"{child}.json"].steps] == ["two"]
