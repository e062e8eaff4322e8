"""The modules that a program loads: nothing of the black box unless it is asked for, and few in all."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import flowtrace
from flowtrace import traced_node
from flowtrace.instrument import wrappers
from flowtrace.recording.process import step_passed
from flowtrace.recording.state import STATE
from tests.programs import run_program

PACKAGE = Path(flowtrace.__file__).parent
MOST_MODULES = 60

# What is registered first runs last at exit, after flowtrace's own end.
REPORT = """
    import atexit, json, os, sys

    def report():
        loaded = sorted(name for name in sys.modules if name.partition(".")[0] == "flowtrace")
        with open(f"{os.environ['WHO']}.json", "w") as file:
            json.dump(loaded, file)

    os.environ["WHO"] = "parent"
    atexit.register(report)
    """
CALLS = """
    import flowtrace

    @flowtrace.traced_node
    def half(number):
        return number / 2

    @flowtrace.traced_node
    def each(number):
        yield half(number)

    def fail():
        try:
            half("text")
        except TypeError:
            pass

    def all_kinds():
        half(1)
        fail()
        list(each(1))
        with flowtrace.flow("f"):
            half(2)
            fail()
        flowtrace.dump("dumped.json")

    all_kinds()
    if (pid := os.fork()) == 0:
        os.environ["WHO"] = "child"
        all_kinds()
        sys.exit()
    assert os.waitpid(pid, 0)[1] == 0
    """
SETTINGS = {"FLOWTRACE_OUT": "t.json", "FLOWTRACE_MODE": "always", "FLOWTRACE_CAPTURE_INPUTS": "1"}


def loaded(folder, who):
    return json.loads(Path(folder, f"{who}.json").read_text())


def of_the_black_box(names):
    return [name for name in names if name.startswith("flowtrace.blackbox")]


@pytest.mark.parametrize("settings", [{}, {"FLOWTRACE_OUT": "t.json"}, SETTINGS], ids=["off", "on", "always"])
def test_without_a_black_box_nothing_of_it_is_loaded_by_calls_failures_flows_forks_and_the_end(settings, tmp_path):
    run_program(tmp_path, REPORT, CALLS, **settings)
    assert [of_the_black_box(loaded(tmp_path, who)) for who in ("parent", "child")] == [[], []]


def test_with_a_black_box_it_is_loaded_and_works(tmp_path):
    done = run_program(tmp_path, REPORT, CALLS, **SETTINGS, FLOWTRACE_BLACKBOX="app.ring")
    assert done.stderr == ""
    for who in ("parent", "child"):
        assert {"flowtrace.blackbox.keeper", "flowtrace.blackbox.box"} <= set(of_the_black_box(loaded(tmp_path, who)))
    assert not list(tmp_path.glob("*.ring"))  # both processes ended in order


def test_a_black_box_that_is_configured_later_is_loaded_then(tmp_path):
    program = """
        import sys
        import flowtrace

        @flowtrace.traced_node
        def half(number):
            return number / 2

        flowtrace.configure(mode="on", out_path="t.json")
        half(1)
        before = "flowtrace.blackbox.keeper" in sys.modules
        flowtrace.configure(mode="on", out_path="t.json", blackbox="app.ring")
        half(1)
        print(before, "flowtrace.blackbox.keeper" in sys.modules, len(flowtrace.recover("app.ring").steps))
        """
    done = run_program(tmp_path, program)
    assert (done.stdout, done.stderr) == ("False True 1\n", "")


def test_one_line_of_recording_names_the_black_box():
    lines = [
        line.strip()
        for package in ("recording", "instrument", "trace", "settings", "values", "host")
        for path in sorted((PACKAGE / package).glob("*.py"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"flowtrace[./]blackbox", line)
    ]
    assert lines == ['_BLACK_BOX: Final = "flowtrace.blackbox.keeper"']


def test_a_first_call_and_a_failure_load_few_modules_of_ours(tmp_path):
    run_program(tmp_path, REPORT, CALLS.partition("all_kinds()\n    if")[0], "half(1)\nfail()", FLOWTRACE_OUT="t.json")
    assert (tmp_path / "t.json").exists()
    assert len(loaded(tmp_path, "parent")) <= MOST_MODULES


def test_all_that_a_call_needs_is_loaded_by_the_first_one(tmp_path):
    program = """
        import sys
        half(1)
        first = {name for name in sys.modules if name.startswith("flowtrace")}
        all_kinds()
        after = {name for name in sys.modules if name.startswith("flowtrace")}
        print(sorted(after - first))
        """
    setup = CALLS.partition("all_kinds()\n    if")[0]
    done = run_program(tmp_path, "import os", setup, program, FLOWTRACE_OUT="t.json")
    assert done.stdout == "['flowtrace.recording.control']\n"  # for `flowtrace.dump`


# --- modules that are recognised


@pytest.mark.parametrize("name", ["flowtrace.instrument.wrappers", "moved.to.another.package"])
def test_the_frames_of_wrappers_are_recognised_by_their_module_not_by_its_name(name, monkeypatch, tmp_path):
    flowtrace.configure(mode="on", out_path=tmp_path / "t.json")

    @traced_node
    def inner():
        raise ValueError("mine")

    @traced_node
    def outer():
        step = flowtrace.current_step()  # a variable of this name in the program's own frames means nothing
        assert step
        inner()

    with pytest.raises(ValueError) as first:
        inner()  # loads the recorder
    monkeypatch.setattr(wrappers, "__name__", name)
    with pytest.raises(ValueError) as caught:
        outer()
    assert step_passed(first.value, None).node.function.__name__ == "inner"
    assert step_passed(caught.value, None).node.function.__name__ == "outer"
    monkeypatch.setattr(STATE, "wrapper_globals", {})
    assert step_passed(caught.value, None) is None


def test_a_programs_frame_with_a_step_in_it_is_no_wrapper(tmp_path):
    flowtrace.configure(mode="on", out_path=tmp_path / "t.json")
    found = []

    @traced_node
    def note():
        found.append(flowtrace.current_step())

    def failing():
        step = found[0]
        raise ValueError(step)

    note()
    with pytest.raises(ValueError) as caught:
        failing()
    assert step_passed(caught.value, None) is None
