"""A trace is written step by step: its text, what is kept of it for the next write, its memory, and what is flushed."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowtrace import TraceConfig, TraceContext, TraceRecorder, current_step, flow, load_trace, traced_node
from flowtrace.recording import step_lines, to_records
from flowtrace.recording.control import override
from flowtrace.recording.plugin import NodeEvent
from flowtrace.trace import files, layout
from flowtrace.trace.model import (
    UNSET,
    Flow,
    Hash,
    Pack,
    Raw,
    Run,
    Step,
    StepError,
    Trace,
    ValidationIssue,
    new_document,
)
from flowtrace.values.json import is_deeper, loads, plain, pretty

pytestmark = pytest.mark.disk

HASH = Hash(algorithm="blake3", value="0" * 64)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text() | FINITE,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=6,
)
TEXTS = st.text(st.characters(exclude_categories=())) | st.just("\udcff")  # lone surrogates too
STEPS = st.builds(
    lambda name, value, output, message, issues: Step(
        node_id=name,
        component_id="c",
        operation="o",
        input_hash=HASH,
        duration_ms=1,
        invocation_json={"component_id": name, "payload": value},
        output_json=output,
        error=None if message is None else StepError(code="node_error", message=message, details={message: []}),
        validation_issues=[ValidationIssue(issue, "/a", "m") for issue in issues],
    ),
    TEXTS,
    JSON,
    st.just(UNSET) | JSON,
    st.none() | TEXTS,
    st.lists(TEXTS, max_size=2),
)


def as_text(step):
    """Return the step as the recorder hands it over: its values as canonical text."""
    found = {"invocation_json": {**step.invocation_json, "payload": Raw(plain(step.invocation_json["payload"]))}}
    if step.output_json is not UNSET:
        found["output_json"] = Raw(plain(step.output_json))
    return to_records.model.changed(step, **found)


def canonical(value):
    return loads(plain(value))


@pytest.mark.costly
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, max_size=3), st.lists(STEPS, max_size=2), st.booleans())
def test_the_pieces_of_a_trace_are_the_text_of_the_whole(steps, in_flight, has_run):
    for step in [*steps, *in_flight]:  # a mapping's keys are sorted in the canonical form
        step.invocation_json["payload"] = canonical(step.invocation_json["payload"])
        if step.output_json is not UNSET:
            step.output_json = canonical(step.output_json)
    run = Run(id="0" * 32, started_at="t", outcome="ok", pid=1, host="[\n    null\n  ]", python="3")
    envelope = Trace(
        trace_version=1,
        pack=Pack(pack_ref="p\udcff"),
        flow=Flow(id="f", version="1"),
        steps=[],
        run=run if has_run else None,
        dropped_steps=3,
    )
    pieces = layout.trace_text(
        envelope, *([layout.step_text(as_text(step)) for step in part] for part in (steps, in_flight))
    )
    whole = to_records.model.changed(envelope, steps=steps, in_flight=in_flight)
    assert b"".join(pieces) == pretty(new_document(whole))


@given(JSON, st.integers(0, 5))
def test_the_depth_of_a_text_is_that_of_its_value(value, levels):
    def depth(item):
        inner = item.values() if isinstance(item, dict) else item
        return 1 + max(map(depth, inner), default=0) if isinstance(item, list | dict) else 0

    assert is_deeper(plain(value), levels) is (depth(value) > levels)


@pytest.mark.parametrize("levels", [200, 254])
def test_the_depth_of_a_deep_and_wide_value_is_found(levels):
    value = 0
    for _ in range(levels):
        value = [value, ']][[\\"', 1]
    assert [is_deeper(plain(value), limit) for limit in (levels - 1, levels, levels + 1)] == [True, False, False]


# --- what is kept for the next write


@traced_node
def double(number):
    return 2 * number


@traced_node
def fail(number):
    raise ValueError(f"{number} {double(number)}")


def steps_made(monkeypatch):
    monkeypatch.setattr(step_lines, "NATIVE", None)  # which makes the texts of plain steps
    made = []
    record = to_records.record_of

    def noted(step, values, shared):
        made.append(step.node.operation)
        return record(step, values, shared)

    monkeypatch.setattr(to_records, "record_of", noted)
    return made


def failing_run(**settings):
    with override(mode="on", out_path="t.json", **settings):
        with pytest.raises(ValueError), flow("f"):
            for number in range(5):
                double(number)
            fail(1)
    return load_trace("t.json")


def test_the_text_of_a_finished_step_is_made_once_for_all_writes_of_a_run(monkeypatch):
    made = steps_made(monkeypatch)
    trace = failing_run()
    assert [step.operation for step in trace.steps] == ["double"] * 6 + ["fail"]
    assert made == ["double"] * 6 + ["fail"]


@pytest.mark.parametrize("kind", ["nothing", "a step", "the environment"])
def test_the_texts_of_a_run_are_used_again_where_nothing_has_changed(kind, monkeypatch):
    @traced_node(operation="refuse")
    def refuse(order):
        raise ValueError(f"{order} of opensesame99")

    with override(mode="on", out_path="t.json"):
        with pytest.raises(ValueError), flow("f"):
            try:
                refuse(1)
            finally:
                first = load_trace("t.json")
                if kind == "a step":
                    double(2)
                elif kind == "the environment":
                    monkeypatch.setenv("SHOP_PASSWORD", "opensesame99")
    last = load_trace("t.json")
    expected = "1 of __REDACTED__" if kind == "the environment" else "1 of opensesame99"
    assert [step.error.message for step in last.steps if step.error] == [expected]
    assert [step.operation for step in last.steps] == ["refuse", *(["double"] if kind == "a step" else [])]
    assert (first.run.ended_at, first.source == last.source) == (None, kind != "the environment")
    if kind == "nothing":
        assert last.steps == first.steps
        assert last.run.ended_at is not None


def test_what_is_added_to_a_step_after_a_write_is_in_the_next():
    kept = []

    @traced_node
    def work(number):
        kept.append(current_step())
        return number

    with override(mode="on", out_path="t.json"):
        with pytest.raises(ValueError), flow("f"):
            for number in range(3):
                work(number)
            try:
                fail(1)
            finally:
                before = load_trace("t.json").steps
                kept[0].add_validation_issue("late", "/number", "came late")
                kept[1].record_state_delta({"stock": 1})
    after = load_trace("t.json").steps
    issue = ValidationIssue("late", "/number", "came late")
    assert [step.validation_issues for step in (*before, *after)] == [[]] * 5 + [[issue]] + [[]] * 4
    assert [step.state_delta_hash is None for step in (*before, *after)] == [True] * 6 + [False] + [True] * 3
    assert after[2:] == before[2:]


def test_what_has_no_room_is_made_again_and_is_the_same(monkeypatch):
    made = steps_made(monkeypatch)
    monkeypatch.setattr(to_records, "_OF_A_RECORD", 1 << 30)
    trace = failing_run(capture_inputs=True)
    assert made == ["double"] * 6 + ["fail"] + ["double"] * 6 + ["fail"]
    assert [step.invocation_json["payload"] for step in trace.steps] == [{"number": n} for n in (0, 1, 2, 3, 4, 1, 1)]


def test_an_error_is_scrubbed_of_what_a_later_step_hides():
    @traced_node
    def login(password):
        return len(password)

    with override(mode="on", out_path="t.json"):
        with pytest.raises(KeyError), flow("f"):
            for number in (1, 2):
                with pytest.raises(ValueError):
                    fail("opensesame99")
            assert load_trace("t.json").steps[1].error.message == "opensesame99 opensesame99opensesame99"
            login("opensesame99")
            raise KeyError
    assert number == 2
    messages = {step.error.message for step in load_trace("t.json").steps if step.error and step.operation == "fail"}
    assert messages == {"__REDACTED__ __REDACTED____REDACTED__"}


@pytest.mark.costly
def test_writing_needs_memory_for_a_step_and_not_for_the_trace(monkeypatch):
    monkeypatch.setattr(to_records, "_OF_A_RECORD", 1 << 40)  # no room for texts
    config = TraceConfig(
        out_path="t.json", buffer_size=40, capture_inputs=True, buffer_bytes=1 << 26, max_value_bytes=1 << 20
    )
    recorder = TraceRecorder(config, TraceContext("p", "f"))
    size = 500_000
    for number in range(40):
        recorder.on_node_end(NodeEvent("c", "o", f"c.{number}", ["x" * 1000] * (size // 1000)), None)
    tracemalloc.start()
    try:
        assert recorder.snapshot() == str(Path("t.json").absolute())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(load_trace("t.json").steps) == 40
    assert peak < 5 * size, peak


# --- what is flushed


@pytest.fixture
def flushed(monkeypatch):
    found = []
    monkeypatch.setattr(files, "_flush_to_disk", lambda descriptor: found.append("file"))
    monkeypatch.setattr(files, "_flush_folder", found.append)
    return found


def test_a_run_waits_for_the_disk_once_at_its_end(flushed):
    failing_run()
    assert flushed == ["file"]


def test_every_write_waits_for_the_file_and_its_name_where_that_is_asked_for(flushed):
    failing_run(durable=True, capture_inputs=True, max_value_bytes=4)
    folder = str(Path.cwd())
    payloads, traces = flushed.count(f"{folder}/t.payloads"), flushed.count(folder)
    assert (payloads, traces, flushed.count("file")) == (5, 2, 7)


def test_a_command_that_writes_a_file_waits_for_its_content(flushed):
    files.write_atomically("t.json", b"{}")
    assert flushed == ["file"]
