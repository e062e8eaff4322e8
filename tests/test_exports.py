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
