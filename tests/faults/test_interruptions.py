"""What comes between: signals, forks, the end of the interpreter, another interpreter."""

from __future__ import annotations

import sys

import pytest

from flowtrace import load_trace
from tests.faults.scenario import OUT, PARTS
from tests.programs import run_program, try_program


@pytest.mark.costly
@pytest.mark.parametrize("base", ["BaseException", "Exception"])
def test_a_signal_whose_handler_fails_during_a_write(base, tmp_path):
    program = f"""
        class Alarm({base}):
            pass

        rang = []

        def ring(number, frame):
            rang.append(number)
            raise Alarm("rang")

        chance("before")
        beside = files()
        signal.signal(signal.SIGALRM, ring)
        came = 0
        for number in range(300):
            error = ValueError("during")
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0001 + number * 0.00001)
                try:
                    fail(error)
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            except Alarm as alarm:
                came += 1
            except ValueError as raised:
                assert raised is error
            assert files() == beside
            # it may ring inside the traced function too, and is what that call fails with
            assert told() in ("before", "during", "rang"), told()
        assert rang
        assert came == len(rang), (came, len(rang))
        chance("after")
        flowtrace.configure()  # what the throttle held back is written
        assert (told(), files()) == ("after", beside)
    """
    done = run_program(tmp_path, PARTS, "import flowtrace", program, FLOWTRACE_OUT=OUT)
    assert done.stderr == ""


@pytest.mark.costly
def test_a_handler_that_is_traced_itself_during_a_write(tmp_path):
    program = """
        rang = []

        @traced_node(operation="handler")
        def ring(number, frame):
            rang.append(give(result))
            try:
                fail(KeyError("in the handler"))
            except KeyError:
                pass

        chance("before")
        signal.signal(signal.SIGALRM, ring)
        for number in range(100):
            signal.setitimer(signal.ITIMER_REAL, 0.0001 + number * 0.00003)
            chance("during")
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert len(rang) > 3 and set(rang) == {result}
        chance("after")
        flowtrace.configure()  # what the throttle held back is written
        assert (told(), files()) == ("after", ["trace.json"])
    """
    done = run_program(tmp_path, PARTS, "import flowtrace", program, FLOWTRACE_OUT=OUT)
    assert done.stderr == ""


@pytest.mark.costly
def test_a_fork_during_a_write_leaves_both_with_whole_files(tmp_path):
    quiet = "import warnings; warnings.simplefilter('ignore', DeprecationWarning)"
    program = """
        import threading
        chance("a fork while modules are being loaded is another fault")
        out.unlink()
        stop = threading.Event()

        def work():
            while not stop.is_set():
                chance("thread")

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        children = []
        for _ in range(25):
            child = os.fork()
            if child == 0:
                chance("child")
                os._exit(0)
            children.append(child)
        assert {os.waitpid(child, 0)[1] for child in children} == {0}
        stop.set()
        for thread in threads:
            thread.join()
        flowtrace.configure()
        assert told() == "thread"
        assert files() == sorted(["trace.json", *(f"trace.{child}.json" for child in children)])
        for child in children:
            assert load_trace(out.with_name(f"trace.{child}.json")).steps[-1].error.message == "child"
    """
    done = run_program(tmp_path, quiet, PARTS, "import flowtrace", program, FLOWTRACE_OUT=OUT)
    assert done.stderr == ""


@pytest.mark.costly
def test_a_failure_while_the_interpreter_shuts_down(tmp_path):
    program = """
        import atexit

        class Late:
            def __del__(self):
                assert give(result) is result
                try:
                    fail(ValueError("finalizer"))
                except ValueError:
                    pass

        late = Late()
        atexit.register(chance, "at exit")
        chance("before")
    """
    done = run_program(tmp_path, PARTS, program, FLOWTRACE_OUT=OUT)
    assert done.stderr == ""
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["trace.json"]
    assert load_trace(tmp_path / OUT).steps[-1].error.message in ("before", "at exit")


@pytest.mark.costly
def test_a_thread_that_still_runs_at_the_end(tmp_path):
    program = """
        import threading
        started = threading.Event()

        def work():
            while True:
                chance("thread")
                started.set()

        threading.Thread(target=work, daemon=True).start()
        started.wait()
    """
    done = run_program(tmp_path, PARTS, program, FLOWTRACE_OUT=OUT)
    assert done.stderr == ""
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["trace.json"]
    assert load_trace(tmp_path / OUT).steps[-1].error.message == "thread"


SUBINTERPRETER = """
    try:
        import _interpreters as interpreters
    except ImportError:
        import _xxsubinterpreters as interpreters
    import sys

    def inside(kind, code):
        "Run code in an interpreter of its own; errors become text, since they differ between Pythons."
        try:
            number = interpreters.create(kind) if sys.version_info >= (3, 13) else interpreters.create(
                isolated=kind == "isolated")
        except TypeError:
            raise SystemExit("no such interpreter")
        try:
            failed = interpreters.run_string(number, code)
        except Exception as error:
            failed = error
        assert failed is None, failed
        interpreters.destroy(number)  # since 3.14 one that is left is warned of at the end
"""


@pytest.mark.costly
@pytest.mark.parametrize("kind", ["isolated", "legacy"])
def test_a_subinterpreter_is_refused_clearly(kind, tmp_path):
    code = f"""
import sys, warnings
sys.path[:] = {sys.path!r}
from flowtrace import traced_node

@traced_node
def half(number):
    return number / 2

@traced_node
def fail(error):
    raise error

error = ValueError("mine")
assert half(3) == 1.5
for _ in range(3):
    try:
        fail(error)
    except ValueError as raised:
        assert raised is error
import flowtrace
try:
    flowtrace.configure(out_path="t.json")
except ImportError as refused:
    assert str(refused) == "flowtrace records in the main interpreter only, not in a subinterpreter", refused
else:
    raise AssertionError("not refused")
import os
assert not os.path.exists("out")
"""
    bare = f"import sys; sys.path[:] = {sys.path!r}; import asyncio"
    if (code_of := try_program(tmp_path, SUBINTERPRETER, f"inside({kind!r}, {bare!r})").returncode) < 0:
        pytest.skip(f"this Python ends with signal {-code_of} where a subinterpreter loads asyncio, as wrapt does")
    program = f"inside({kind!r}, {code!r})\nprint('alive')"
    done = run_program(tmp_path, SUBINTERPRETER, program, FLOWTRACE_OUT=OUT)
    assert done.stdout == "alive\n"
    (line,) = done.stderr.splitlines()
    assert line.endswith("flowtrace records in the main interpreter only, not in a subinterpreter: tracing is off here")


def test_a_free_threaded_python_is_refused_clearly(tmp_path):
    """The text is what such a Python says of itself; no such Python is needed. `platform` of this one can't read it."""
    program = """
        import sys, structlog
        sys.version = sys.version.replace(" (", " free-threading build (", 1)
        from flowtrace import traced_node
        import flowtrace

        @traced_node
        def half(number):
            return number / 2

        assert [half(3), half(5)] == [1.5, 2.5]
        try:
            flowtrace.configure(mode="on")
        except ImportError as refused:
            print(refused)
        assert half(3) == 1.5
    """
    refused = "flowtrace records in a Python with the GIL only, not in a free-threaded one"
    done = run_program(tmp_path, program, FLOWTRACE_OUT=OUT)
    assert done.stdout == f"{refused}\n"
    (line,) = done.stderr.splitlines()
    assert line.endswith(f"{refused}: tracing is off here")
    assert not (tmp_path / OUT).exists()
