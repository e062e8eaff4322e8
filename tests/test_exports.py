"""The public face: which names there are, where they come from, and what importing them costs."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from importlib.metadata import version

import pytest

import flowtrace
from flowtrace import testing

HEAVY = ["blake3", "msgspec", "orjson", "structlog"]
LOOK = """
import atexit, json, os, sys, threading
import wrapt  # what it loads and registers is not flowtrace's doing

def look():
    hooks = [sys.excepthook, sys.unraisablehook, sys.displayhook, threading.excepthook]
    hooks += [sys.gettrace(), sys.getprofile(), *sys.meta_path, *sys.path_hooks, threading.Thread.start, os.fork]
    return [*map(repr, hooks), repr(list(os.environ)), threading.active_count(), atexit._ncallbacks()]

before = look()
"""
REPORT = """
loaded = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps({"same": look() == before, "loaded": loaded}))
"""


def fresh(program, **variables):
    command = [sys.executable, "-c", LOOK + program + REPORT]
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", [name for name in flowtrace.__all__ if name != "__version__"])
def test_a_public_name_is_what_its_home_module_defines(name):
    found = getattr(flowtrace, name)
    home = importlib.import_module(found.__module__)
    assert home.__name__.startswith("flowtrace.")
    assert getattr(home, name) is found
    assert found.__name__ == name


def test_the_version_is_that_of_the_installed_package():
    assert flowtrace.__version__ == version("flowtrace")


def test_the_names_are_sorted_and_each_is_there_once():
    assert sorted(set(flowtrace.__all__)) == flowtrace.__all__


def test_a_star_import_gives_exactly_the_public_names():
    names = {}
    exec("from flowtrace import *", names)
    assert sorted(set(names) - {"__builtins__"}) == flowtrace.__all__


def test_dir_lists_every_public_name():
    assert set(flowtrace.__all__) <= set(dir(flowtrace))
    assert dir(flowtrace) == sorted(dir(flowtrace))


@pytest.mark.parametrize("name", ["nothing", "Tracer", "__wrapped__", "configured"])
def test_an_unknown_name_is_an_attribute_error_that_names_it(name):
    with pytest.raises(AttributeError) as caught:
        getattr(flowtrace, name)
    assert str(caught.value) == f"module 'flowtrace' has no attribute {name!r}"


def test_an_unknown_name_can_not_be_imported():
    with pytest.raises(ImportError, match="cannot import name 'nothing' from 'flowtrace'"):
        exec("from flowtrace import nothing", {})


def test_importing_flowtrace_alone_loads_nothing_heavy_and_changes_nothing(tmp_path):
    seen = fresh("import flowtrace")
    assert seen["same"]
    assert [name for name in HEAVY if name in seen["loaded"]] == []
    assert list(tmp_path.iterdir()) == []


def test_decorated_calls_that_nobody_traces_load_nothing_heavy_and_change_nothing(tmp_path):
    program = """
import flowtrace

@flowtrace.traced_node
def double(number):
    assert not flowtrace.current_step()
    return 2 * number

@flowtrace.flow("numbers")
def job():
    with flowtrace.flow("inner"):
        return double(1)

@flowtrace.traced_node
class Shop:
    def price(self): return 3

assert (double(2), job(), Shop().price()) == (4, 2, 3)
"""
    seen = fresh(program)
    assert seen["same"]
    assert [name for name in HEAVY if name in seen["loaded"]] == []
    assert list(tmp_path.iterdir()) == []


def test_importing_flowtrace_reads_nothing_from_an_environment_that_asks_for_tracing(tmp_path):
    seen = fresh("import flowtrace", FLOWTRACE_OUT="trace.json", FLOWTRACE_MODE="always")
    assert seen["same"]
    assert [name for name in HEAVY if name in seen["loaded"]] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.costly
def test_the_look_that_these_tests_take_sees_a_switched_on_recorder():
    seen = fresh("import flowtrace; flowtrace.configure(mode='on')")
    assert not seen["same"]
    assert {"blake3", "msgspec", "orjson"} <= set(seen["loaded"])


def test_the_libraries_of_users_are_never_loaded_by_us():
    program = """
import flowtrace
for name in flowtrace.__all__: getattr(flowtrace, name)
flowtrace.hash_value({1: {2, 3}, "a": object()})
"""
    theirs = {"numpy", "pandas", "polars", "pyarrow", "torch", "attr", "attrs", "pydantic"}
    assert theirs & set(fresh(program)["loaded"]) == set()


def test_dir_lists_public_names_alone(tmp_path):
    public = {name for name in flowtrace.__all__ if not name.startswith("_")}
    assert {name for name in dir(flowtrace) if not name.startswith("_")} == public
    classes = ["Recording", "Steps", "Watch"]
    assert dir(testing) == [*classes, "fixed_clock", "pristine", "rebuild", "recorded", "recording", "watching"]

    @flowtrace.traced_node
    def names():
        return shown(flowtrace.current_step())

    def shown(found):
        return [name for name in dir(found) if not name.startswith("__")]

    with flowtrace.override(mode="on", out_path=tmp_path / "t.json") as recorder:
        ids = ["component", "flow_id", "operation", "run_id", "step_id"]
        assert names() == sorted([*ids, "add_validation_issue", "record_state_delta"])
        reports = ["on_node_end", "on_node_error", "on_node_start", "on_validation"]
        assert shown(recorder) == sorted(
            ["config", "context", "flush_buffer", "flush_error", "flush_success", *reports, "run_id"]
        )
        with flowtrace.flow("x") as found:
            assert shown(found) == []


def test_the_repr_of_a_trace_is_one_short_line(tmp_path):
    @flowtrace.traced_node(component="shop", operation="pay")
    def pay(order):
        raise ValueError("order")

    with flowtrace.override(mode="on", out_path=tmp_path / "t.json"):
        with pytest.raises(ValueError), flowtrace.flow("check\nout", version="2"):
            pay("o" * 500)
        trace = flowtrace.load_trace(tmp_path / "t.json")
    assert repr(trace) == (r"<Trace: flow 'check\nout' '2', outcome 'failed', 1 steps, failed step 'shop.pay'>")
    trace.run, trace.steps = None, []
    assert repr(trace) == r"<Trace: flow 'check\nout' '2', 0 steps>"
