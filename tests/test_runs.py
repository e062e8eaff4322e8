"""Runs and flows through the decorator: what is written, when, and what it says."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import weakref

import pytest

import flowtrace
from flowtrace import flow, load_trace, traced_node
from flowtrace.host.system import CLOCK
from flowtrace.recording.state import CURRENT, running
from flowtrace.testing import fixed_clock, recording


@traced_node(component="math", operation="half")
def half(number):
    return number / 2


@traced_node(component="math", operation="fail")
def fail(message):
    raise ValueError(message)


@traced_node(component="math", operation="careful")
def careful(message):
    try:
        fail(message)
    except ValueError:
        return half(1)


@traced_node(component="math", operation="outer")
def outer(message):
    half(4)
    fail(message)


def names(steps):
    return [step.operation for step in steps]


def test_a_success_leaves_nothing_in_mode_on(tmp_path):
    with flowtrace.override(out_path=tmp_path / "trace.json", mode="on"):
        assert half(4) == 2.0
        with flow("f"):
            half(2)
    assert list(tmp_path.iterdir()) == []


def test_a_success_leaves_a_trace_in_mode_always(tmp_path):
    with flowtrace.override(out_path=tmp_path / "trace.json", mode="always"):
        assert half(4) == 2.0
    trace = load_trace(tmp_path / "trace.json")
    assert (trace.run.outcome, names(trace.steps), trace.flow.id) == ("ok", ["half"], "process")
    assert trace.run.ended_at is not None


def test_the_first_failure_is_written_at_once_with_its_ancestors_in_flight(tmp_path):
    path = tmp_path / "trace.json"
    seen = []

    @traced_node(component="c", operation="watcher")
    def watcher():
        try:
            fail("boom")
        finally:
            seen.append(load_trace(path))

    with flowtrace.override(out_path=path, mode="on"), pytest.raises(ValueError, match="boom"):
        watcher()
    at_once, finally_there = seen[0], load_trace(path)
    assert names(at_once.steps) == ["fail"]
    assert names(at_once.in_flight) == ["watcher"]
    assert (at_once.run.outcome, at_once.run.ended_at) == ("failed", None)
    assert names(finally_there.steps) == ["fail", "watcher"]
    assert finally_there.in_flight == []
    assert finally_there.run.outcome == "failed"
    assert finally_there.run.id == at_once.run.id


def test_parents_and_children(tmp_path):
    with flowtrace.override(out_path=tmp_path / "trace.json", mode="on"), pytest.raises(ValueError, match="boom"):
        outer("boom")
    child, failed, parent = load_trace(tmp_path / "trace.json").steps
    assert (child.operation, failed.operation, parent.operation) == ("half", "fail", "outer")
    assert child.parent_step_id == failed.parent_step_id == parent.step_id
    assert parent.parent_step_id is None
    assert [step.error.message for step in (failed, parent)] == ["boom", "boom"]


def test_a_handled_failure_is_a_recovered_run(tmp_path):
    with flowtrace.override(out_path=tmp_path / "trace.json", mode="on"):
        assert careful("boom") == 0.5
    trace = load_trace(tmp_path / "trace.json")
    assert trace.run.outcome == "recovered"
    assert names(trace.steps) == ["fail", "half", "careful"]


def test_expected_errors_are_recorded_and_leave_no_trace(tmp_path):
    @traced_node(expected_errors=(KeyError, ZeroDivisionError))
    def divide(number):
        return 1 / number

    with flowtrace.override(out_path=tmp_path / "trace.json", mode="on"):
        with pytest.raises(ZeroDivisionError):
            divide(0)
        with flow("f"), pytest.raises(ZeroDivisionError):
            divide(0)
        assert list(tmp_path.iterdir()) == []
        with pytest.raises(TypeError):
            divide("1")
    step = load_trace(tmp_path / "trace.json").steps[-1]
    assert step.error.details["type"] == "TypeError"


def test_expected_errors_stand_in_the_step(tmp_path):
    @traced_node(expected_errors=ZeroDivisionError)
    def divide(number):
        return 1 / number

    with recording() as recorded, pytest.raises(ZeroDivisionError), flow("f"):
        divide(0)
    (trace,) = recorded.traces
    assert trace.run.outcome == "ok"
    assert trace.steps[0].error.message == "division by zero"


def test_a_flow_has_its_own_context_and_buffer(tmp_path):
    with recording() as recorded:
        half(1)
        with flow("checkout", version="2", pack_ref="shop", resolved_digest="sha256:00"):
            half(2)
            half(4)
            with flow("inner"):
                half(8)
    process, checkout, inner = recorded.traces
    assert (process.flow.id, len(process.steps)) == ("process", 1)
    assert (checkout.flow.id, checkout.flow.version, len(checkout.steps)) == ("checkout", "2", 2)
    assert (checkout.pack.pack_ref, checkout.pack.resolved_digest) == ("shop", "sha256:00")
    assert (inner.flow.id, inner.flow.version, len(inner.steps)) == ("inner", "unknown", 1)
    assert inner.steps[0].parent_step_id is None


def test_an_error_outside_any_node_is_a_flow_error(tmp_path):
    with flowtrace.override(out_path=tmp_path / "trace.json", mode="on"):
        with pytest.raises(KeyError), flow("checkout"):
            half(1)
            raise KeyError("sku")
    steps = load_trace(tmp_path / "trace.json").steps
    assert [(step.operation, step.error and step.error.code) for step in steps] == [
        ("half", None),
        ("unknown", "flow_error"),
    ]
    failed = steps[-1]
    assert (failed.node_id, failed.component_id, failed.duration_ms) == ("unknown", "unknown", 0)
    assert failed.input_hash.value == flowtrace.hash_value(None)


def test_an_error_of_a_node_is_told_once(tmp_path):
    with flowtrace.override(out_path=tmp_path / "trace.json", mode="on"):
        with pytest.raises(ValueError, match="boom"), flow("checkout"):
            half(1)
            outer("boom")
    trace = load_trace(tmp_path / "trace.json")
    assert names(trace.steps) == ["half", "half", "fail", "outer"]
    assert trace.run.outcome == "failed"


def test_an_error_that_replaces_a_nodes_error_is_a_flow_error(tmp_path):
    with flowtrace.override(out_path=tmp_path / "trace.json", mode="on"):
        with pytest.raises(RuntimeError, match="wrapped"), flow("checkout"):
            try:
                fail("boom")
            except ValueError as error:
                raise RuntimeError("wrapped") from error
    steps = load_trace(tmp_path / "trace.json").steps
    assert names(steps) == ["fail", "unknown"]
    (cause,) = steps[-1].error.details["causes"]
    frames = cause.pop("frames")
    assert cause == {"relation": "cause", "type": "ValueError", "message": "boom"}
    assert frames[-1] == {"file": fail.__code__.co_filename, "line": frames[-1]["line"], "function": "fail"}


def test_flow_as_a_decorator_of_every_shape():
    @flow("plain")
    def plain():
        return half(1)

    @flow("coroutine")
    async def coroutine():
        return half(2)

    @flow("generator")
    def generator():
        yield half(4)
        yield half(8)

    @flow("async-generator")
    async def async_generator():
        yield half(16)

    class Owner:
        @flow("method")
        def method(self):
            return half(32)

    async def everything():
        return [await coroutine(), [item async for item in async_generator()]]

    with recording() as recorded:
        assert plain() == 0.5
        assert asyncio.run(everything()) == [1.0, [8.0]]
        stream = generator()
        assert next(stream) == 2.0
        half(64)  # the consumer's own call belongs to no flow
        assert list(stream) == [4.0]
        assert Owner().method() == 16.0
    found = {trace.flow.id: len(trace.steps) for trace in recorded.traces}
    assert found == {"plain": 1, "coroutine": 1, "async-generator": 1, "generator": 2, "process": 1, "method": 1}


def test_one_flow_object_may_be_entered_again_and_at_once():
    again = flow("again")
    with recording() as recorded:
        with again:
            half(1)
            with again:
                half(2)
        with again:
            half(3)
    assert sorted(len(trace.steps) for trace in recorded.traces) == [1, 1, 1]


@pytest.mark.parametrize(
    "arguments",
    [{"flow_id": 1}, {"flow_id": ""}, {"flow_id": "f", "version": None}, {"flow_id": "f", "pack_ref": 3}],
    ids=repr,
)
def test_flow_refuses_what_is_no_text(arguments):
    with pytest.raises(TypeError, match=r"flow: .* must be text"):
        flow(**arguments)


def test_flow_refuses_to_decorate_what_is_no_function():
    with pytest.raises(TypeError, match="flow decorates a function"):
        flow("f")(3)
    with pytest.raises(TypeError, match="flow decorates a function"):
        flow("f")(int)


def test_current_step_takes_issues_and_state(tmp_path):
    @traced_node(capture_inputs=True)
    def check(order):
        step = flowtrace.current_step()
        assert step
        assert weakref.ref(step)() is step
        step.add_validation_issue("negative", "/order/qty", "must not be negative")
        step.record_state_delta({"stock": -1})

    with recording() as recorded:
        check({"qty": -1})
    step = recorded.traces[0].steps[0]
    assert step.validation_issues == [
        flowtrace.ValidationIssue("negative", "/order/qty", "must not be negative"),
    ]
    assert step.state_delta_hash.value == flowtrace.hash_value({"stock": -1})


def test_current_step_outside_any_node_does_nothing():
    step = flowtrace.current_step()
    assert not step
    assert step.add_validation_issue("a", "b", "c") is None
    assert step.record_state_delta(object()) is None
    with recording() as recorded, flow("f"):
        assert not flowtrace.current_step()
    assert recorded.traces[0].steps == []


def test_dump_writes_the_live_buffer_and_stack(tmp_path):
    @traced_node(operation="dumping")
    def dumping():
        half(2)
        return flowtrace.dump(tmp_path / "now.json")

    with flowtrace.override(out_path=tmp_path / "trace.json", mode="on"):
        assert dumping() == tmp_path / "now.json"
        trace = load_trace(tmp_path / "now.json")
        assert (trace.run.outcome, names(trace.steps), names(trace.in_flight)) == ("snapshot", ["half"], ["dumping"])
        assert flowtrace.dump() == tmp_path / "trace.json"
    # outside any run the last steps of the whole process are dumped
    assert names(load_trace(tmp_path / "trace.json").steps) == ["half", "dumping"]


def test_dump_does_nothing_while_off(tmp_path):
    assert flowtrace.dump() is None
    assert list(tmp_path.iterdir()) == []


def test_get_recorder_is_that_of_the_run():
    with recording():
        process = flowtrace.get_recorder()
        with flow("f"):
            assert flowtrace.get_recorder().context.flow_id == "f"
        assert flowtrace.get_recorder() is process


@pytest.mark.parametrize(
    ("error", "code", "outcome"),
    [
        (KeyboardInterrupt(), "node_interrupted", "interrupted"),
        (SystemExit(3), "node_interrupted", "interrupted"),
        (asyncio.CancelledError(), "node_cancelled", None),
        (SystemExit(0), "node_interrupted", None),
    ],
    ids=repr,
)
def test_interruptions_pass_untouched_and_are_recorded(error, code, outcome, tmp_path):
    @traced_node
    def stop():
        raise error

    with flowtrace.override(out_path=tmp_path / "trace.json", mode="on"):
        with pytest.raises(type(error)) as caught:
            stop()
    assert caught.value is error
    if outcome is None:
        assert list(tmp_path.iterdir()) == []
        return
    trace = load_trace(tmp_path / "trace.json")
    assert (trace.run.outcome, trace.steps[0].error.code) == (outcome, code)


def test_a_cancelled_task_is_told_in_its_step():
    @traced_node(operation="slow")
    async def slow():
        await asyncio.sleep(60)

    async def main():
        task = asyncio.create_task(slow())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with recording() as recorded:
        asyncio.run(main())
    (trace,) = recorded.traces
    assert (trace.run.outcome, trace.steps[0].error.code) == ("interrupted", "node_cancelled")


def test_the_buffer_rolls_and_says_by_how_many(tmp_path):
    with flowtrace.override(out_path=tmp_path / "trace.json", mode="always", buffer_size=3):
        with flow("f"):
            for number in range(10):
                half(number)
    trace = load_trace(tmp_path / "trace.json")
    assert trace.dropped_steps == 7
    assert [step.input_hash.value for step in trace.steps] == [
        flowtrace.hash_value({"number": number}) for number in (7, 8, 9)
    ]


def test_a_buffer_of_none_keeps_none(tmp_path):
    with flowtrace.override(out_path=tmp_path / "trace.json", mode="on", buffer_size=0):
        with pytest.raises(ValueError, match="boom"):
            outer("boom")
    document = json.loads((tmp_path / "trace.json").read_text())
    assert (document["steps"], document["dropped_steps"]) == ([], 3)


def test_the_secret_of_a_call_is_nowhere_in_its_trace(tmp_path):
    @traced_node(redact=("pin",))
    def pay(card, password, pin, options):
        return {"token": "hidden-4", "paid": True}

    with recording(capture_inputs=True, capture_outputs=True) as recorded:
        pay("4000", "hidden-1", "hidden-2", {"api_key": "hidden-3", "tokenizer": "shown"})
        text = "".join(path.read_text() for path in recorded.folder.iterdir())
    assert "hidden" not in text
    step = recorded.traces[0].steps[0]
    payload = {
        "card": "4000",
        "password": "__REDACTED__",
        "pin": "__REDACTED__",
        "options": {"api_key": "__REDACTED__", "tokenizer": "shown"},
    }
    assert step.invocation_json["payload"] == payload
    assert step.input_hash.value == flowtrace.hash_value(payload)
    assert step.redacted == [
        "/invocation_json/payload/options/api_key",
        "/invocation_json/payload/password",
        "/invocation_json/payload/pin",
        "/output_json/token",
    ]


def test_a_run_leaves_no_garbage_for_the_collector():
    with flowtrace.override(mode="on"), flow("warm"):
        careful("up")
    gc.collect()
    gc.disable()
    try:
        with flowtrace.override(mode="on"):
            for _ in range(10):
                parent_of_one(1)
                with flow("f"):
                    half(1)
        assert gc.collect() < 10  # one object for each run would be a leak where the collector is off
    finally:
        gc.enable()


@traced_node
def parent_of_one(number):
    return half(number)


def test_a_task_that_outlives_its_run_is_added_to_its_trace():
    async def late():
        await asyncio.sleep(0)
        half(3)

    @traced_node(operation="starter")
    async def starter():
        return asyncio.create_task(late_node())

    late_node = traced_node(operation="late")(late)

    async def main():
        await (await starter())

    with recording() as recorded:
        asyncio.run(main())
    (trace,) = recorded.traces
    assert (names(trace.steps), trace.in_flight) == (["starter", "half", "late"], [])


def test_a_flow_that_fails_says_when_it_ended(tmp_path):
    path = tmp_path / "trace.json"
    with flowtrace.override(out_path=path, mode="on"), pytest.raises(ValueError, match="boom"), flow("f"):
        fail("boom")
    run = load_trace(path).run
    assert (run.outcome, run.ended_at is not None) == ("failed", True)


@pytest.mark.parametrize("spoil", ["removed", "overwritten"])
def test_a_flow_that_ends_last_has_the_file_whatever_became_of_its_first_trace(spoil, tmp_path):
    path = tmp_path / "trace.json"

    def spoiled():
        if spoil == "removed":
            path.unlink()
        else:
            with contextlib.suppress(ValueError), flow("inner"):
                fail("other")

    with flowtrace.override(out_path=path, mode="on"), pytest.raises(ValueError, match="boom"), flow("outer"):
        try:
            fail("boom")
        finally:
            spoiled()
    trace = load_trace(path)
    assert (trace.flow.id, names(trace.steps)) == ("outer", ["fail"])


def test_a_keyboard_interrupt_at_the_start_of_a_call_leaves_no_step_behind():
    def interrupted():
        raise KeyboardInterrupt

    with flowtrace.override(mode="on"):
        half(1)
        with fixed_clock(), pytest.raises(KeyboardInterrupt):
            CLOCK.now = interrupted
            half(2)
        assert (CURRENT.get(), running()) == (None, [])
