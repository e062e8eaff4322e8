"""Outside a flow, a failure's trace has the last steps of the process; those of other runs say whose they are."""

from __future__ import annotations

import contextlib
import os
import threading

import pytest

import flowtrace
from flowtrace import flow, load_trace, traced_node, validate
from flowtrace.recording import recorder
from flowtrace.recording.state import running
from flowtrace.testing import fixed_clock

from .programs import run_program


@traced_node(component="m", operation="half")
def half(number):
    return number / 2


@traced_node(component="m", operation="fail")
def fail(label):
    raise ValueError(label)


@traced_node(component="m", operation="outer")
def outer(number):
    return half(number) + half(number + 1)


@traced_node(component="m", operation="careful")
def careful(number):
    half(number)
    fail("inside")


def failing(path, program=lambda: fail("x"), **settings):
    with flowtrace.override(out_path=path, mode="on", **settings), contextlib.suppress(ValueError):
        program()
    trace = load_trace(path)
    assert validate(path) == []
    return trace


def told(trace):
    """Return the steps by operation, and a letter for each run; the envelope's has none."""
    runs = list(dict.fromkeys(step.run_id for step in trace.steps if step.run_id is not None))
    assert trace.run.id not in runs
    return [
        (step.operation, "" if step.run_id is None else "abcdefgh"[runs.index(step.run_id)]) for step in trace.steps
    ]


def test_the_steps_before_a_failure_stand_in_the_order_of_their_ends(tmp_path):
    def program():
        outer(1)
        with flow("f"):
            half(3)
            outer(4)
        half(5)
        careful(6)

    trace = failing(tmp_path / "t.json", program)
    assert told(trace) == [
        *[("half", "a"), ("half", "a"), ("outer", "a")],
        *[("half", "b"), ("half", "b"), ("half", "b"), ("outer", "b")],
        *[("half", "c"), ("half", ""), ("fail", ""), ("careful", "")],
    ]
    assert (trace.failed_step.operation, trace.dropped_steps) == ("fail", 0)


def test_no_more_are_kept_than_the_buffer_holds_and_the_others_are_counted(tmp_path):
    def program():
        for number in range(40):
            half(number)
        fail("x")

    trace = failing(tmp_path / "t.json", program, buffer_size=5)
    assert told(trace) == [*(("half", letter) for letter in "abcd"), ("fail", "")]
    assert trace.dropped_steps == 36


def test_a_flow_keeps_its_own_steps(tmp_path):
    def program():
        half(1)
        with flow("f"):
            half(2)
            fail("x")

    assert told(failing(tmp_path / "t.json", program)) == [("half", ""), ("fail", "")]


def test_a_run_has_the_same_id_in_every_file(tmp_path):
    def program():
        for _ in range(2):
            with contextlib.suppress(ValueError):
                careful(1)
        fail("x")

    with flowtrace.override(out_path=tmp_path / "{run_id}.json", mode="on"), contextlib.suppress(ValueError):
        program()
    first, second, third = sorted(map(load_trace, tmp_path.glob("*.json")), key=lambda trace: trace.run.started_at)
    assert [step.run_id for step in third.steps] == [*[first.run.id] * 3, *[second.run.id] * 3, None]
    assert [step.run_id for step in second.steps] == [*[first.run.id] * 3, None, None, None]
    assert told(first) == [("half", ""), ("fail", ""), ("careful", "")]


def test_steps_of_other_threads_belong_to_their_runs(tmp_path):
    at, go_on = threading.Event(), threading.Event()

    @traced_node(component="m", operation="long")
    def long(number):
        half(number)
        at.set()
        go_on.wait(60)

    def program():
        other = threading.Thread(target=long, args=(1,))
        other.start()
        at.wait(60)
        try:
            fail("x")
        finally:
            go_on.set()
            other.join()

    trace = failing(tmp_path / "t.json", program)
    assert told(trace) == [("half", "a"), ("fail", "")]
    assert trace.in_flight == []


def test_a_whole_step_of_another_run(tmp_path):
    with fixed_clock():
        trace = failing(tmp_path / "t.json", lambda: (half(4), fail("x")), capture_inputs=True, capture_outputs=True)
    step, code = trace.steps[0], trace.steps[0].code
    text = (tmp_path / "t.json").read_text()
    assert flowtrace.trace.model.to_document(step) == {
        "node_id": "m.half",
        "component_id": "m",
        "operation": "half",
        "input_hash": {"algorithm": "blake3", "value": flowtrace.hash_value({"number": 4})},
        "invocation_json": {"component_id": "m", "operation": "half", "payload": {"number": 4}},
        "output_hash": {"algorithm": "blake3", "value": flowtrace.hash_value(2.0)},
        "duration_ms": step.duration_ms,
        "step_id": "0000000000000001",
        "started_at": step.started_at,
        "duration_ns": step.duration_ns,
        "thread": "MainThread",
        "code": {
            "module": __name__,
            "qualname": "half",
            "file": __file__,
            "line": code.line,
            "hash": {"algorithm": "blake3", "value": code.hash.value},
        },
        "output_json": 2.0,
        "run_id": step.run_id,
    }
    assert len(step.run_id) == 32
    assert f',\n      "run_id": "{step.run_id}"\n    }},\n    {{' in text


def test_the_bytes_of_the_buffer_bound_the_steps_of_all_runs(tmp_path):
    @traced_node(component="m", operation="keep")
    def keep(text):
        return None

    def program():
        for number in range(20):
            keep(str(number) * 60_000)
        fail("x")

    trace = failing(tmp_path / "t.json", program, capture_inputs=True, buffer_bytes=400_000)
    assert 1 < len(trace.steps) < 12
    assert len(trace.steps) + trace.dropped_steps == 21


@pytest.mark.costly
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_its_own_last_steps(tmp_path):
    run_program(
        tmp_path,
        """
        import os
        from flowtrace import traced_node

        @traced_node(component="m", operation="half")
        def half(number):
            return number / 2

        @traced_node(component="m", operation="fails")
        def fails():
            half(2)
            if not (child := os.fork()):
                half(3)
                raise ValueError("child")
            os.waitpid(child, 0)

        half(1)
        fails()
        """,
        FLOWTRACE_OUT="{pid}.json",
    )
    (path,) = tmp_path.glob("*.json")
    assert told(load_trace(path)) == [("half", ""), ("half", ""), ("fails", "")]
    assert validate(path) == []


class Dumps:
    """A writer in another thread: it had listed the steps in flight, and writes while one of them is about to end."""

    def __init__(self, path, monkeypatch):
        self.path = path
        self.monkeypatch = monkeypatch

    def list(self):
        listed = running()
        self.monkeypatch.setattr(recorder, "running", lambda: listed)

    def write(self):
        assert flowtrace.dump(self.path) is not None
        return "as it was"


@pytest.fixture
def dumps(tmp_path, monkeypatch):
    with flowtrace.override(mode="on", out_path=tmp_path / "trace.json"):
        yield Dumps(tmp_path / "dump.json", monkeypatch)


def test_a_step_whose_error_is_still_to_come_is_in_flight_and_is_whole_later(dumps, tmp_path):
    class Late(Exception):
        def __str__(self):  # the clock has stopped, and the error is looked at
            return dumps.write()

    @traced_node(operation="fail")
    def fail():
        dumps.list()
        raise Late

    with pytest.raises(Late):
        fail()
    dumped, trace = load_trace(tmp_path / "dump.json"), load_trace(tmp_path / "trace.json")
    assert [(step.operation, step.error) for step in (*dumped.steps, *dumped.in_flight)] == [("fail", None)]
    assert [(step.operation, step.error.message) for step in trace.steps] == [("fail", "as it was")]
    assert validate(tmp_path / "trace.json") == validate(tmp_path / "dump.json") == []


def test_a_step_whose_result_is_still_to_come_is_in_flight_and_is_whole_later(dumps, tmp_path):
    class Late:
        pass

    def encode_late(value):  # the clock has stopped, and the result is looked at
        dumps.write()
        return []

    @traced_node(operation="succeed")
    def succeed():
        dumps.list()
        return Late()

    flowtrace.register_codec(Late, encode_late, lambda found: Late())
    succeed()
    with pytest.raises(ValueError):
        fail("later")
    dumped, trace = load_trace(tmp_path / "dump.json"), load_trace(tmp_path / "trace.json")
    assert [(step.operation, step.output_hash) for step in (*dumped.steps, *dumped.in_flight)] == [("succeed", None)]
    assert trace.steps[0].operation == "succeed"
    assert trace.steps[0].output_hash is not None
