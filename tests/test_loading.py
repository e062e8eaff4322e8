"""The modules that a program loads: nothing of the black box unless it is asked for, and few in all."""

from __future__ import annotations

import gc
import json
import re
import weakref
from pathlib import Path

import pytest

import flowtrace
from flowtrace import traced_node
from flowtrace.recording.state import STATE
from tests.programs import run_program

PACKAGE = Path(flowtrace.__file__).parent
MOST_MODULES = 68

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


@pytest.mark.costly
@pytest.mark.parametrize("settings", [{}, {"FLOWTRACE_OUT": "t.json"}, SETTINGS], ids=["off", "on", "always"])
def test_without_a_black_box_nothing_of_it_is_loaded_by_calls_failures_flows_forks_and_the_end(settings, tmp_path):
    run_program(tmp_path, REPORT, CALLS, **settings)
    assert [of_the_black_box(loaded(tmp_path, who)) for who in ("parent", "child")] == [[], []]


@pytest.mark.costly
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


@pytest.mark.costly
def test_all_that_a_call_needs_is_loaded_by_the_first_one(tmp_path):
    program = """
        import sys
        flowtrace.dump  # as the program's imports load it
        half(1)
        first = {name for name in sys.modules if name.startswith("flowtrace")}
        all_kinds()
        after = {name for name in sys.modules if name.startswith("flowtrace")}
        print(sorted(after - first))
        """
    setup = CALLS.partition("all_kinds()\n    if")[0]
    done = run_program(tmp_path, "import os", setup, program, FLOWTRACE_OUT="t.json")
    assert done.stdout == "[]\n"


@pytest.mark.costly
def test_an_import_of_the_programs_own_sees_nothing_of_the_first_call_and_cannot_fail_it(tmp_path):
    program = """
        import builtins, flowtrace

        real, seen = builtins.__import__, []

        def only_names(name):  # a call from within a function would fail
            seen.append(name)
            return real(name)

        @flowtrace.traced_node
        def twice(number):
            return number * 2

        builtins.__import__ = only_names
        twice(2)
        print(builtins.__import__ is only_names, seen)
        """
    done = run_program(tmp_path, program, FLOWTRACE_MODE="always", FLOWTRACE_OUT="t.json")
    assert done.stdout == "True []\n"
    assert [step.operation for step in flowtrace.load_trace(tmp_path / "t.json").steps] == ["twice"]


# --- modules that are recognised


def test_an_error_that_a_step_has_seen_is_known_again_at_the_end_of_its_flow(tmp_path):
    @traced_node
    def fails(depth):
        if depth:
            return fails(depth - 1)
        raise LookupError("once")

    flowtrace.configure(mode="on", out_path=str(tmp_path / "{flow_id}.json"))
    with pytest.raises(LookupError), flowtrace.flow("seen"):
        fails(5)
    with pytest.raises(LookupError), flowtrace.flow("unseen"):
        raise LookupError("once")
    with pytest.raises(LookupError), flowtrace.flow("another"):
        try:
            fails(0)
        except LookupError:
            raise LookupError("a new one") from None
    found = {path.stem: [step.operation for step in flowtrace.load_trace(path).steps] for path in tmp_path.iterdir()}
    assert [name.rpartition(".")[2] for name in found["seen"]] == ["fails"] * 6
    assert found["unseen"] == ["unknown"]
    assert [name.rpartition(".")[2] for name in found["another"]] == ["fails", "unknown"]


def test_marks_of_errors_are_few_and_hold_no_error():
    class Odd(Exception):
        pass

    @traced_node
    def fails():
        raise Odd

    flowtrace.configure(mode="on", out_path="trace.json")
    seen = []
    for _ in range(300):
        try:
            fails()
        except Odd as error:
            seen.append(weakref.ref(error))
    gc.collect()
    assert [reference() for reference in seen] == [None] * 300
    assert len(STATE.passed._noted) <= 100
