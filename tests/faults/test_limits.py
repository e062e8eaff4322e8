"""Limits of the process: descriptors, file sizes, memory, depth of recursion."""

from __future__ import annotations

import pytest

from tests.faults.scenario import OUT, PARTS, survive
from tests.programs import run_program

pytestmark = pytest.mark.disk
# Calls `deeper`, which returns True, at each depth up to beyond the limit.
AT_EVERY_DEPTH = """
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(120)
    outcomes = set()
    for left in range(20, 125):
        try:
            outcomes.add(deeper(left))
        except RecursionError:
            outcomes.add(False)
    sys.setrecursionlimit(usual)
    assert outcomes == {True, False}
"""


@pytest.mark.costly
def test_no_descriptors_left(tmp_path):
    begin = """
        import resource
        old = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, old[1]))
        held = []
        try:
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        except OSError as error:
            assert error.strerror == "Too many open files"
    """
    end = """
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, old)
    """
    survive(tmp_path, begin, end, reason="Too many open files", prepare="import structlog.dev")


@pytest.mark.costly
def test_a_single_descriptor_is_enough_and_none_is_lost(tmp_path):
    program = """
        import resource
        chance("before")
        last = os.open("/dev/null", os.O_RDONLY)
        resource.setrlimit(resource.RLIMIT_NOFILE, (last + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        os.close(last)
        for number in range(15):  # two writes each: fewer than a burst may have, however quick the disk is
            chance(f"{number}")
        assert (told(), files()) == ("14", ["trace.json"])
        assert os.open("/dev/null", os.O_RDONLY) == last
    """
    assert run_program(tmp_path, PARTS, program, FLOWTRACE_OUT=OUT).stderr == ""


@pytest.mark.costly
def test_a_file_size_limit(tmp_path):
    begin = """
        import resource
        old = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, old[1]))
    """
    end = "resource.setrlimit(resource.RLIMIT_FSIZE, old)"
    survive(tmp_path, begin, end, reason="File too large")


SQUEEZE = """
    import resource
    before = resource.getrlimit(resource.RLIMIT_AS)

    def squeeze(spare):
        in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (in_use + spare, before[1]))
"""


@pytest.mark.costly
def test_memory_that_runs_out_in_the_program_is_told_like_any_failure(tmp_path):
    program = """
        @traced_node(operation="grow")
        def grow(size):
            return bytes(size)

        chance("before")
        squeeze(20_000_000)
        try:
            grow(1_000_000_000)
        except MemoryError as error:
            assert (error.args, error.__context__) == ((), None)
        else:
            raise AssertionError("the limit does not hold")
        resource.setrlimit(resource.RLIMIT_AS, before)
        step = load_trace(out).steps[-1]
        assert (step.operation, step.error.details["type"]) == ("grow", "MemoryError")
        chance("after")
        assert (told(), files()) == ("after", ["trace.json"])
    """
    assert run_program(tmp_path, PARTS, SQUEEZE, program, FLOWTRACE_OUT=OUT).stderr == ""


@pytest.mark.xfail(strict=True, reason="orjson (3.13.0) ends the process where the buffer for a long text can't be had")
def test_memory_that_runs_out_in_the_recorder(tmp_path):
    program = """
        chance("before")
        huge = "x" * 10_000_000
        squeeze(20_000_000)
        assert give(huge) is huge
        resource.setrlimit(resource.RLIMIT_AS, before)
        chance("after")
        assert (told(), files()) == ("after", ["trace.json"])
    """
    run_program(tmp_path, PARTS, SQUEEZE, program, FLOWTRACE_OUT=OUT)


@pytest.mark.costly
def test_a_low_recursion_limit(tmp_path):
    program = """
        chance("before")

        def deeper(left):
            if left:
                return deeper(left - 1)
            assert give(result) is result
            error = ValueError("deep")
            try:
                fail(error)
            except ValueError as raised:
                assert raised is error
            return True
    """
    after = """
        assert files() == ["trace.json"]
        chance("after")
        flowtrace.configure()  # what waits in a burst is written now
        assert (told(), files()) == ("after", ["trace.json"])
    """
    done = run_program(tmp_path, PARTS, "import flowtrace", program, AT_EVERY_DEPTH, after, FLOWTRACE_OUT=OUT)
    assert "Traceback" not in done.stderr


def test_no_generator_of_ours_waits_for_the_garbage_collector_where_the_stack_is_full(tmp_path):
    """Python would print that it can't close it, in whatever the program does then."""
    program = """
        import gc, types

        def waiting():
            "The generators that are suspended, but for those of the package's hooks, which were there before."
            return {id(o) for o in gc.get_objects() if type(o) is types.GeneratorType and o.gi_frame is not None}

        def deeper(left):
            if left:
                return deeper(left - 1)
            give(result, {"a": {1: {2, 3}}, "b": [{"c": object()}]})
            try:
                fail(ValueError("deep"))
            except ValueError:
                return True

        chance("before")
        deeper(1)
        gc.disable()
        before = waiting()
    """
    after = "assert waiting() <= before"
    run_program(tmp_path, PARTS, program, AT_EVERY_DEPTH, after, FLOWTRACE_OUT=OUT)
