"""Decorated functions in other processes: pools, joblib, cloudpickle by value, forks; and whose file is whose."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

import flowtrace
from tests.programs import run_program

MODES = ("off", "on", "always")


@pytest.mark.costly
@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow), "forkserver"])
def test_a_process_pool_runs_whatever_is_decorated(method, tmp_path):
    # a program of its own: fork warns in a process with threads, and spawn imports the main module again
    run_program(tmp_path, POOL, arguments=(method,), FLOWTRACE_OUT=str(tmp_path / "off.json"), FLOWTRACE_MODE="off")
    assert written(tmp_path) == []
    run_program(tmp_path, POOL, arguments=(method,), FLOWTRACE_OUT=str(tmp_path / "on.json"))
    parent, *children = by_process(tmp_path, "on")
    assert (parent, len(children) >= 1) == ("on.json", True)
    run_program(
        tmp_path, POOL, arguments=(method,), FLOWTRACE_OUT=str(tmp_path / "always.json"), FLOWTRACE_MODE="always"
    )
    parent, *children = by_process(tmp_path, "always")
    assert (parent, len(children) >= 1) == ("always.json", True)
    trace = flowtrace.load_trace(tmp_path / "always.json")
    assert [step.error.message for step in trace.steps if step.error] == ["of the parent"]
    for child in children:
        of_child = flowtrace.load_trace(tmp_path / child)
        assert child == f"always.{of_child.run.pid}.json"
        assert of_child.run.pid != trace.run.pid


@pytest.mark.costly
def test_what_a_fork_server_loads_writes_into_no_file_of_its_parent(tmp_path):
    tmp_path.joinpath("loaded_first.py").write_text(LOADED_FIRST)
    run_program(tmp_path, PRELOAD, FLOWTRACE_OUT=str(tmp_path / "t.json"), FLOWTRACE_MODE="always")
    parent, server, worker = by_process(tmp_path, "t")
    assert parent == "t.json"
    assert [step.operation for step in flowtrace.load_trace(tmp_path / parent).steps] == ["parents"]
    assert {
        tuple(step.operation for step in flowtrace.load_trace(tmp_path / name).steps) for name in (server, worker)
    } == {("loaded",), ("workers",)}


LOADED_FIRST = """
from flowtrace import traced_node

@traced_node(operation="loaded")
def loaded():
    pass

@traced_node(operation="workers")
def workers():
    pass

loaded()
"""
PRELOAD = """
    import multiprocessing
    from flowtrace import traced_node

    @traced_node(operation="parents")
    def parents():
        pass

    def work():
        import loaded_first
        loaded_first.workers()

    if __name__ == "__main__":
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["loaded_first"])
        process = context.Process(target=work)
        process.start()
        process.join()
        assert process.exitcode == 0
        from multiprocessing.forkserver import _forkserver
        _forkserver._stop()  # so that it has ended, and written, before we do
        parents()
"""


def written(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix == ".json")


def by_process(folder, stem):
    """Return the names of a program's traces: the parent's first."""
    names = [name for name in written(folder) if name.startswith(f"{stem}.")]
    return sorted(names, key=len)


POOL = """
    import multiprocessing, sys
    from concurrent.futures import ProcessPoolExecutor
    from flowtrace import flow, traced_node

    @traced_node
    def double(value):
        return value * 2

    @flow("doubling")
    def double_in_flow(value):
        return value * 2

    @traced_node
    def broken(value):
        raise ValueError(value)

    class Traced:
        @traced_node
        def method(self, value):
            return value * 2

        @traced_node
        @classmethod
        def made(cls, value):
            return value * 2

        @classmethod
        @traced_node
        def made_inside(cls, value):
            return value * 2

        @traced_node
        @staticmethod
        def static(value):
            return value * 2

    def target(queue, function):
        queue.put(function(21))

    if __name__ == "__main__":
        context = multiprocessing.get_context(sys.argv[1])
        functions = [double, double_in_flow, Traced().method, Traced.made, Traced.made_inside, Traced.static]
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            for function in functions:
                assert list(pool.map(function, [1, 2])) == [2, 4]
                assert pool.submit(function, value=3).result() == 6
            failed = pool.submit(broken, "of a child").exception()
            assert type(failed) is ValueError and failed.args == ("of a child",)
        with context.Pool(1) as pool:
            assert pool.map(double, range(3)) == [0, 2, 4]
            assert pool.apply(Traced().method, (4,)) == 8
        queue = context.Queue()
        process = context.Process(target=target, args=(queue, double))
        process.start()
        assert queue.get() == 42
        process.join()
        assert process.exitcode == 0
        process = context.Process(target=double, args=(1,))
        process.start()
        process.join()
        assert process.exitcode == 0
        try:
            broken("of the parent")
        except ValueError:
            pass
"""


@pytest.mark.costly
@pytest.mark.parametrize("mode", MODES)
def test_cloudpickle_sends_the_main_module_by_value(mode, tmp_path):
    environment = {"FLOWTRACE_MODE": mode, "FLOWTRACE_OUT": str(tmp_path / "trace.json")}
    run_program(tmp_path, CLOUD, **environment)


CLOUD = """
    import pickle, subprocess, sys
    import cloudpickle
    from flowtrace import flow, traced_node

    LIMIT = 10

    @traced_node
    def double(value):
        return min(value * 2, LIMIT)

    @traced_node
    def calls_double(value):
        return double(value) + 1

    @flow("doubling")
    def in_flow(value):
        return double(value) + 1

    @traced_node
    class Whole:
        def __init__(self, by):
            self.by = by

        def method(self, value):
            return double(value) + self.by

        @classmethod
        def made(cls, value):
            return cls(1).method(value)

        @staticmethod
        def static(value):
            return double(value) + 1

    class Traced(Whole):
        @traced_node
        @classmethod
        def outside(cls, value):
            return cls(1).method(value)

        @traced_node
        def method(self, value):
            return super().method(value)

    sent = [calls_double, in_flow, Whole(1).method, Whole.made, Whole.static, Traced.outside, Traced(1).method]
    receive = (
        "import pickle, sys\\n"
        "functions = pickle.load(sys.stdin.buffer)\\n"
        "assert [function(2) for function in functions] == [5] * len(functions)\\n"
        "assert functions[0](100) == 11\\n"
        "assert ('flowtrace' in sys.modules) is not ('lacks' in sys.argv)\\n"
        "if 'lacks' not in sys.argv:\\n"
        "    from flowtrace.instrument.proxies import is_traced\\n"
        "    assert is_traced(functions[0])\\n"
    )
    lacks = "import sys\\nclass Lacks:\\n    def find_spec(self, name, *_):\\n"
    lacks += "        if name == 'flowtrace': raise ImportError(name)\\n"
    lacks += "sys.meta_path.insert(0, Lacks())\\n"
    for argument, before in (("has", ""), ("lacks", lacks)):
        subprocess.run([sys.executable, "-c", before + receive, argument], input=cloudpickle.dumps(sent), check=True)
"""


BY_VALUE = """
    import importlib, subprocess, sys

    pickler = importlib.import_module(sys.argv[1])
    from flowtrace import flow, traced_node

    @traced_node(component="c", operation="op", redact=["pin"], expected_errors=KeyError, slow="2s")
    def double(value):
        return value * 2

    @flow("doubling", version="3", slow=0)
    def in_flow(value):
        return value * 2

    class Whole:
        @traced_node
        @staticmethod
        def static(value):
            return value * 2

    receive = (
        "import sys, flowtrace, importlib\\n"
        "double, in_flow, Whole = importlib.import_module(sys.argv[1]).loads(sys.stdin.buffer.read())\\n"
        "assert double(1) == in_flow(1) == Whole.static(1) == 2\\n"
        "from flowtrace.instrument.proxies import subject_of\\n"
        "node = subject_of(double).target\\n"
        "assert (node.node_id, node.redact, node.slow_after) == ('c.op', ('pin',), 2 * 10**9)\\n"
        "assert node.expected_errors == (KeyError,)\\n"
        "assert subject_of(Whole.static).target.has_receiver is False\\n"
        "in_flow(2)\\n"
        "trace = flowtrace.load_trace('trace.json')\\n"
        "assert (trace.flow.id, trace.flow.version) == ('doubling', '3')\\n"
    )
    sent = pickler.dumps([double, in_flow, Whole])
    subprocess.run([sys.executable, "-c", receive, sys.argv[1]], input=sent, check=True)
"""


@pytest.mark.costly
@pytest.mark.parametrize("pickler", ["cloudpickle", "dill"])
def test_what_goes_by_value_takes_the_arguments_of_its_decorator_along(pickler, tmp_path):
    if find_spec(pickler) is None:  # importing dill would change what `pickle` does here
        pytest.skip(f"{pickler} is not installed")
    run_program(tmp_path, BY_VALUE, arguments=[pickler], FLOWTRACE_MODE="always", FLOWTRACE_OUT="trace.json")


@pytest.mark.costly
@pytest.mark.parametrize("mode", ["on", *(pytest.param(mode, marks=pytest.mark.slow) for mode in ("off", "always"))])
def test_joblib_runs_decorated_functions_in_its_processes(mode, tmp_path):
    environment = {"FLOWTRACE_MODE": mode, "FLOWTRACE_OUT": str(tmp_path / "trace.json")}
    run_program(tmp_path, JOBLIB, **environment)
    assert ("trace.json" in written(tmp_path)) is (mode != "off")
    if mode != "off":
        trace = flowtrace.load_trace(tmp_path / "trace.json")
        assert [step.error.message for step in trace.steps if step.error] == ["of the parent"]


JOBLIB = """
    from joblib import Parallel, delayed
    from joblib.externals.loky import get_reusable_executor
    from flowtrace import traced_node

    @traced_node
    def double(value):
        return value * 2

    @traced_node
    def broken(value):
        raise ValueError(value)

    class Traced:
        @traced_node
        def method(self, value):
            return value * 2

        @traced_node
        @classmethod
        def made(cls, value):
            return value * 2

    if __name__ == "__main__":
        run = Parallel(n_jobs=2, backend="loky")
        for function in (double, Traced().method, Traced.made):
            assert run(delayed(function)(value) for value in range(4)) == [0, 2, 4, 6]
        try:
            run([delayed(broken)("of a child")])
        except ValueError as error:
            assert error.args == ("of a child",)
        else:
            raise AssertionError
        get_reusable_executor().shutdown(wait=True)
        try:
            broken("of the parent")
        except ValueError:
            pass
"""


@pytest.mark.costly
@pytest.mark.parametrize("mode", MODES)
def test_a_forked_child_never_writes_over_the_file_of_its_parent(mode, tmp_path):
    environment = {"FLOWTRACE_MODE": mode, "FLOWTRACE_OUT": str(tmp_path / "trace.json")}
    program = """
        import os
        from flowtrace import flow, traced_node

        @traced_node
        def broken(value):
            raise ValueError(value)

        def attempt(value):
            try:
                broken(value)
            except ValueError as error:
                assert error.args == (value,)

        attempt("parent")
        child = os.fork()
        if child == 0:
            attempt("child")
            if os.fork() == 0:
                attempt("grandchild")
            else:
                os.wait()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    """
    run_program(tmp_path, program, **environment)
    messages = {}
    for name in written(tmp_path):
        trace = flowtrace.load_trace(tmp_path / name)
        messages[name == "trace.json", name.count(".")] = [step.error.message for step in trace.steps]
        assert name in ("trace.json", f"trace.{trace.run.pid}.json")
    if mode == "off":
        assert messages == {}
    else:
        assert len(written(tmp_path)) == 3
        assert messages[True, 1] == ["parent"]
