"""The recorder as an engine uses it: the event scripts, and what they leave open."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import flowtrace
from flowtrace import (
    ExecutionObserver,
    FanOutObserver,
    NodeEvent,
    TraceConfig,
    TraceContext,
    TraceMode,
    TraceRecorder,
    ValidationIssue,
    load_trace,
)
from flowtrace.testing import fixed_clock

SCRIPTS = json.loads(Path(__file__).parent.joinpath("vectors", "recorder.json").read_text(encoding="utf-8"))
CORE_ENVELOPE = ("trace_version", "runner_version", "git_sha", "pack", "flow", "steps")
CORE_STEP = (
    *("node_id", "component_id", "operation", "input_hash", "invocation_json", "invocation_path"),
    *("output_hash", "state_delta_hash", "duration_ms", "validation_issues", "error"),
)
CONTEXT = TraceContext(pack_ref="shop", flow_id="checkout")


def play(script, path, *, same_objects):
    settings = script["config"]
    config = TraceConfig(
        mode=settings["mode"],
        buffer_size=settings["buffer"],
        capture_inputs=settings["capture"],
        out_path=path,
    )
    recorder = TraceRecorder(config, TraceContext(**script["context"]))
    events = {}
    for line in script["events"]:
        kind = line["ev"]
        if kind in ("flush_success", "flush_buffer"):
            getattr(recorder, kind)()
        elif kind == "flush_error":
            recorder.flush_error(RuntimeError(line["message"]))
        else:
            event = NodeEvent(line["node_id"], line["component"], line["operation"], line["payload"])
            if same_objects:
                event = events.setdefault(line["node_id"], event)
            tell(recorder, kind, event, line)


def tell(recorder, kind, event, line):
    if kind == "start":
        recorder.on_node_start(event)
    elif kind == "end":
        recorder.on_node_end(event, line["output"])
    elif kind == "error":
        recorder.on_node_error(event, RuntimeError(line["message"]))
    else:
        assert kind == "validation"
        recorder.on_validation(event, [ValidationIssue(**issue) for issue in line["issues"]])


def core_of(path):
    text = path.read_text(encoding="utf-8")
    document = json.loads(text)
    core = {name: document[name] for name in CORE_ENVELOPE if name in document}
    assert core["runner_version"] == flowtrace.__version__
    core["runner_version"] = "*"
    core["steps"] = [{name: step[name] for name in CORE_STEP if name in step} for step in core["steps"]]
    for step in core["steps"]:
        step["duration_ms"] = 0
    return core, document, text


@pytest.mark.parametrize("same_objects", [True, False], ids=["same-event", "equal-events"])
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script["name"])
def test_each_script_gives_its_trace(script, same_objects, tmp_path, monkeypatch):
    for name, value in script["env"].items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "trace.json"
    play(script, path, same_objects=same_objects)
    if script["expected"] is None:
        assert list(tmp_path.iterdir()) == []
        return
    core, document, text = core_of(path)
    # compared as text, so that the order of the fields counts too
    assert json.dumps(core, indent=2) == json.dumps(script["expected"], indent=2)
    assert without_numbers(text) == without_numbers(json.dumps(document, indent=2, ensure_ascii=False))


def without_numbers(text):
    """Python writes some floats otherwise than serde_json does."""
    return re.sub(r"-?\d[\d.e+-]*", "0", text)


def test_a_whole_trace_with_fixed_clock_and_ids(tmp_path, monkeypatch):
    monkeypatch.setattr("flowtrace.host.system.os.getpid", lambda: 4242)
    monkeypatch.setattr("flowtrace.trace.files.HOME_PID", 4242)
    monkeypatch.setattr("flowtrace.recording.to_records.host_name", lambda: "build-7")
    monkeypatch.setattr("flowtrace.recording.to_records.python_version", lambda: "3.11.7")
    path = tmp_path / "trace.json"
    with fixed_clock():
        recorder = TraceRecorder(TraceConfig(out_path=path, capture_inputs=True, capture_outputs=True), CONTEXT)
        first = NodeEvent("n1", "cart", "total", {"b": 1, "a": [None, 2.5]})
        second = NodeEvent("n2", "payments", None, {"card": "4000"})
        recorder.on_node_start(first)
        recorder.on_node_end(first, 12.5)
        recorder.on_node_start(second)
        recorder.on_validation(second, [ValidationIssue("too_short", "/card", "4 digits")])
        recorder.on_node_error(second, "declined")
    step = {"step_id": "0000000000000001", "started_at": "2023-11-14T22:13:20.002000Z", "duration_ns": 1_000_000}
    assert json.loads(path.read_text()) == {
        "trace_version": 1,
        "runner_version": flowtrace.__version__,
        "pack": {"pack_ref": "shop"},
        "flow": {"id": "checkout", "version": "unknown"},
        "steps": [
            {
                "node_id": "n1",
                "component_id": "cart",
                "operation": "total",
                "input_hash": {"algorithm": "blake3", "value": flowtrace.hash_value({"a": [None, 2.5], "b": 1})},
                "invocation_json": {
                    "component_id": "cart",
                    "operation": "total",
                    "payload": {"a": [None, 2.5], "b": 1},
                },
                "output_hash": {"algorithm": "blake3", "value": flowtrace.hash_value(12.5)},
                "duration_ms": 1,
                **step,
                "thread": "MainThread",
                "output_json": 12.5,
            },
            {
                "node_id": "n2",
                "component_id": "payments",
                "operation": "unknown",
                "input_hash": {"algorithm": "blake3", "value": flowtrace.hash_value({"card": "4000"})},
                "invocation_json": {"component_id": "payments", "operation": "unknown", "payload": {"card": "4000"}},
                "duration_ms": 1,
                "validation_issues": [{"code": "too_short", "path": "/card", "message": "4 digits"}],
                "error": {"code": "node_error", "message": "declined", "details": None},
                "step_id": "0000000000000002",
                "started_at": "2023-11-14T22:13:20.004000Z",
                "duration_ns": 1_000_000,
                "thread": "MainThread",
            },
        ],
        "run": {
            "id": "0" * 31 + "1",
            "started_at": "2023-11-14T22:13:20.001000Z",
            "outcome": "failed",
            "pid": 4242,
            "host": "build-7",
            "python": "3.11.7",
            "failed_step_id": "0000000000000002",
        },
        "dropped_steps": 0,
    }


def test_nested_and_concurrent_nodes_are_told_apart_by_their_event(tmp_path):
    path = tmp_path / "trace.json"
    recorder = TraceRecorder(TraceConfig(mode="always", out_path=path, capture_outputs=True), CONTEXT)
    outer, left, right = (NodeEvent("n", "c", "op", {"same": True}) for _ in range(3))
    recorder.on_node_start(outer)
    recorder.on_node_start(left)
    recorder.on_node_start(right)
    recorder.on_validation(left, [ValidationIssue("x", "", "left only")])
    for event, output in ((left, "left"), (outer, "outer"), (right, "right")):
        recorder.on_node_end(event, output)
    recorder.flush_success()
    steps = load_trace(path).steps
    assert [(step.output_json, len(step.validation_issues)) for step in steps] == [
        ("left", 1),
        ("outer", 0),
        ("right", 0),
    ]


def test_a_failed_write_does_not_count_and_is_tried_again(tmp_path):
    blocked = tmp_path / "blocked"
    blocked.write_text("in the way of a folder")
    path = blocked / "trace.json"
    recorder = TraceRecorder(TraceConfig(mode="always", out_path=path), CONTEXT)
    recorder.on_node_error(NodeEvent("n", "c", "op", None), RuntimeError("first"))
    assert not recorder.written
    blocked.unlink()
    recorder.flush_error(RuntimeError("second"))
    assert recorder.written
    assert [step.error.message for step in load_trace(path).steps] == ["first", "second"]


def test_a_run_is_written_once(tmp_path):
    path = tmp_path / "trace.json"
    recorder = TraceRecorder(TraceConfig(mode="always", out_path=path), CONTEXT)
    recorder.on_node_error(NodeEvent("n", "c", "op", None), RuntimeError("boom"))
    before = path.read_bytes()
    recorder.on_node_end(NodeEvent("m", "c", "op", None), 1)
    recorder.flush_error("again")
    recorder.flush_success()
    recorder.flush_buffer()
    assert path.read_bytes() == before


def test_steps_in_flight_stand_in_the_trace(tmp_path):
    path = tmp_path / "trace.json"
    recorder = TraceRecorder(TraceConfig(out_path=path), CONTEXT)
    outer, inner = NodeEvent("outer", "c", "op", None), NodeEvent("inner", "c", "op", None)
    recorder.on_node_start(outer)
    recorder.on_node_start(inner)
    recorder.on_node_error(inner, RuntimeError("boom"))
    trace = load_trace(path)
    assert [step.node_id for step in trace.steps] == ["inner"]
    assert [(step.node_id, step.output_hash) for step in trace.in_flight] == [("outer", None)]


def test_the_byte_bound_lets_the_oldest_steps_go(tmp_path):
    path = tmp_path / "trace.json"
    config = TraceConfig(mode=TraceMode.ALWAYS, out_path=path, buffer_bytes=1000)
    recorder = TraceRecorder(config, CONTEXT)
    for number in range(10):
        recorder.on_node_end(NodeEvent(f"n{number}", "c", "op", "x" * 300), None)
    recorder.flush_success()
    trace = load_trace(path)
    assert [step.node_id for step in trace.steps] == ["n7", "n8", "n9"]
    assert trace.dropped_steps == 7


def test_a_captured_payload_over_the_limit_goes_to_a_payload_file(tmp_path):
    path = tmp_path / "trace.json"
    config = TraceConfig(mode="always", out_path=path, max_value_bytes=100, capture_inputs=True, capture_outputs=True)
    recorder = TraceRecorder(config, CONTEXT)
    recorder.on_node_end(NodeEvent("n", "c", "op", ["x" * 200]), ["y" * 200])
    recorder.flush_success()
    step = load_trace(path).steps[0]
    assert step.invocation_path == f"trace.payloads/{step.input_hash.value}.json"
    assert json.loads((tmp_path / step.invocation_path).read_text()) == ["x" * 200]
    assert "invocation_json" not in json.loads(path.read_text())["steps"][0]
    assert step.output_path == f"trace.payloads/{step.output_hash.value}.json"
    assert json.loads((tmp_path / step.output_path).read_text()) == ["y" * 200]
    assert "output_json" not in json.loads(path.read_text())["steps"][0]


def test_errors_of_engines_are_told_with_what_they_bring(tmp_path):
    path = tmp_path / "trace.json"
    recorder = TraceRecorder(TraceConfig(out_path=path), CONTEXT)
    try:
        raise KeyError("sku")
    except KeyError as caught:
        recorder.on_node_error(NodeEvent("n", "c", "op", None), caught)
    error = load_trace(path).steps[0].error
    assert (error.code, error.message) == ("node_error", "'sku'")
    assert error.details["type"] == "KeyError"
    assert error.details["frames"][-1]["function"] == "test_errors_of_engines_are_told_with_what_they_bring"


@pytest.mark.parametrize(("mode", "written"), [("off", False), ("warn", False), ("error", True)])
def test_validation_mode_error_makes_an_issue_a_failure(mode, written, tmp_path):
    path = tmp_path / "trace.json"
    recorder = TraceRecorder(TraceConfig(out_path=path, validation=mode), CONTEXT)
    event = NodeEvent("n", "c", "op", None)
    recorder.on_node_start(event)
    recorder.on_validation(event, [ValidationIssue("code", "/a", "text")])
    recorder.on_node_end(event, 1)
    assert path.exists() is written


def test_the_kill_switch_wins_over_code(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWTRACE_DISABLED", "yes")
    recorder = TraceRecorder(TraceConfig(mode="always", out_path=tmp_path / "trace.json"), CONTEXT)
    recorder.on_node_error(NodeEvent("n", "c", "op", None), RuntimeError("boom"))
    recorder.flush_buffer()
    assert list(tmp_path.iterdir()) == []


def test_fan_out_tells_everyone_even_after_one_fails(tmp_path):
    class Broken:
        def __getattr__(self, name):
            raise RuntimeError(name)

    first, second = (
        TraceRecorder(TraceConfig(mode="always", out_path=tmp_path / name), CONTEXT) for name in ("a.json", "b.json")
    )
    observer = FanOutObserver(first, Broken(), second)
    assert isinstance(observer, ExecutionObserver)
    assert isinstance(first, ExecutionObserver)
    event = NodeEvent("n", "c", "op", {"x": 1})
    observer.on_node_start(event)
    observer.on_validation(event, [ValidationIssue("code", "", "text")])
    observer.on_node_end(event, 1)
    observer.on_node_error(NodeEvent("m", "c", "op", None), "boom")
    left, right = load_trace(tmp_path / "a.json"), load_trace(tmp_path / "b.json")
    assert [step.node_id for step in left.steps] == [step.node_id for step in right.steps] == ["n", "m"]
    assert left.steps[0].validation_issues == [ValidationIssue("code", "", "text")]
