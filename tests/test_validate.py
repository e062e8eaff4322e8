"""Checking trace files: honest traces have no findings, and each rule names the place that breaks it."""

from __future__ import annotations

import asyncio
import copy
import json
import os
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

import flowtrace
from flowtrace import Finding, Severity, current_step, flow, propagate, traced_node, validate
from flowtrace.testing import recording
from flowtrace.trace.findings import MAX_FINDINGS
from flowtrace.trace.flat_records import from_flat
from flowtrace.trace.model import to_document
from flowtrace.trace.schema import json_schema
from flowtrace.trace.validate import check
from tests.test_model import REFUSED, changed
from tests.traces import hash_of, run, step, trace

VECTORS = Path(__file__).parent / "vectors" / "recorder.json"
LOG = {"logged_at": "2026-11-24T00:00:00Z", "level": "INFO", "message": "m"}
FLAT = {
    "trace_version": 1,
    "component_id": "ai.card",
    "operation": "render",
    "input_hash": "blake3:" + "0" * 64,
    "output_hash": None,
    "duration_ms": 3,
    "error": {"code": "test.failure", "message": "no such card", "details": {"retryable": False}},
}


def found(*steps, **fields):
    """Return the findings of a trace as code and pointer."""
    return [(item.code, item.pointer) for item in validate(trace(*steps, **fields))]


# --- honest traces


@traced_node(component="c")
def inner(value, password="x"):
    current_step().add_validation_issue("odd", "/value", "is odd")
    if value == "fail":
        raise ValueError(value)
    return {"value": value, "again": {1, 2}, "token": "t", "when": 1.5}


@traced_node(component="c")
def many(values):
    yield from values


@traced_node(component="c")
async def later(value):
    await asyncio.sleep(0.001)
    return inner(value)


@traced_node(component="c")
def outer():
    flowtrace.dump("snapshot.json")
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(propagate(inner), range(10)))
    list(many([1, object(), 2**70]))

    async def together():
        await asyncio.gather(*map(later, range(5)))

    asyncio.run(together())
    try:
        inner("fail")
    except ValueError:
        pass
    inner("fail")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"capture_inputs": True, "capture_outputs": True},
        {"capture_inputs": True, "capture_outputs": True, "max_value_bytes": 20},
        {"capture_inputs": True, "capture_outputs": True, "hash_key": "k"},
        {"buffer_size": 3},
    ],
)
def test_what_is_recorded_is_valid(settings):
    with recording(**settings) as recorded:
        for _ in range(3):
            with pytest.raises(ValueError, match="fail"), flow("f"):
                outer()
        paths = [*recorded.folder.glob("*.json"), Path("snapshot.json")]
        assert len(paths) == 4
        assert [finding for path in paths for finding in validate(path)] == []


def test_the_traces_of_the_other_runner_are_valid():
    scripts = json.loads(VECTORS.read_text(encoding="utf-8"))
    expected = [script["expected"] for script in scripts if script["expected"]]
    assert len(expected) > 10
    for document in expected:
        assert check(BytesIO(json.dumps(document).encode()), "vector", None).findings == []


# --- fields


@pytest.mark.parametrize(("document", "pointer", "reason"), REFUSED, ids=[f"{p} {r}"[:50] for _, p, r in REFUSED])
def test_a_wrong_field_is_an_error_at_its_place(document, pointer, reason):
    Path("t.json").write_text(json.dumps(document))
    code = "not-a-trace" if pointer == "/trace_version" or not isinstance(document, dict) else "field"
    assert validate("t.json")[0] == Finding(Severity.ERROR, code, pointer, reason)


def test_wrong_fields_of_several_steps_are_all_found():
    bad = step("c.a") | {"duration_ms": "1"}
    document = to_document(trace()) | {"steps": [bad, step("c.a"), bad, 5], "in_flight": [bad], "pack": 3}
    findings = check(BytesIO(json.dumps(document).encode()), "t", None).findings
    assert [item.pointer for item in findings] == [
        *("/pack", "/steps/0/duration_ms", "/steps/2/duration_ms", "/steps/3", "/in_flight/0/duration_ms"),
    ]


POINTERS = [pointer for _, pointer, _ in REFUSED if pointer and not pointer[-1].isdigit()] + [
    "/steps/0/duration_ns",
    "/dropped_steps",
    "/steps/0/x",
]
VALUES = st.sampled_from([None, 1, -1, 1.5, "", "x", [], {}, True, [1], {"a": 1}, ...])


@given(st.sampled_from(POINTERS), VALUES)
def test_what_the_json_schema_refuses_is_refused(pointer, value):
    try:
        document = changed(pointer, value)
    except KeyError:  # there was nothing to take away
        return
    findings = check(BytesIO(json.dumps(document).encode()), "t", None).findings
    by_schema = jsonschema.Draft202012Validator(json_schema()).is_valid(document)
    by_fields = not any(item.code in ("field", "not-a-trace", "hash-form") for item in findings)
    assert by_fields == by_schema


# --- the rules


@pytest.mark.parametrize(
    ("fields", "code", "place"),
    [
        ({"input_hash": {"algorithm": "blake3", "value": "ABC"}}, "hash-form", "/input_hash/value"),
        ({"output_hash": {"algorithm": "md5", "value": "0" * 64}}, "unknown-algorithm", "/output_hash/algorithm"),
        ({"duration_ms": -1}, "negative", "/duration_ms"),
        ({"duration_ms": 2, "duration_ns": 1_999_999}, "duration-mismatch", "/duration_ms"),
        ({"dropped_logs": -1}, "negative", "/dropped_logs"),
        ({"logs": [LOG, LOG | {"logged_at": "now"}]}, "time-form", "/logs/1/logged_at"),
        ({"started_at": "yesterday"}, "time-form", "/started_at"),
        ({"started_at": "2026-11-24T00:00:00"}, "time-form", "/started_at"),
        ({"step_id": "1"}, "id-form", "/step_id"),
        ({"error": {"code": "oops", "message": "m", "details": None}, "result": None}, None, None),
        ({"output_json": 1, "result": 2}, "hash-mismatch", "/output_hash"),
        ({"output_json": 1, "result": None}, "output-without-hash", "/output_json"),
        ({"invocation_json": 5}, "invocation-form", "/invocation_json"),
        ({"invocation_json": {"payload": 1}, "given": 1}, "invocation-mismatch", "/invocation_json/component_id"),
        ({"opaque": ["/elsewhere"]}, "pointer-form", "/opaque/0"),
        ({"invocation_path": "../x.json"}, "not-checked", "/invocation_path"),
    ],
)
def test_each_rule_names_the_place_that_breaks_it(fields, code, place):
    if code is None:
        failed = step("c.a", result=None)
        failed["error"] = fields["error"]
        assert found(failed) == [("unknown-error-code", "/steps/0/error/code")]
        return
    assert (code, f"/steps/0{place}") in found(step("c.a", **fields))


def test_a_captured_input_must_have_its_hash():
    good = step("c.a", {"x": 1.5, "y": ["é"]}, captured=True)
    assert found(good) == []
    bad = copy.deepcopy(good)
    bad["invocation_json"]["payload"]["x"] = 1.25
    assert found(bad) == [("hash-mismatch", "/steps/0/input_hash")]


def test_hashes_of_values_that_are_not_whole_are_not_computed_again():
    bad = step("c.a", 1, captured=True, redacted=["/invocation_json/payload/x"])
    bad["invocation_json"]["payload"] = {"x": "__REDACTED__"}
    assert found(bad) == []
    bad = step("c.a", 1, captured=True)
    bad["invocation_json"]["payload"] = {"$py": "cut", "reason": "large"}
    assert found(bad) == []
    assert found(step("c.a", 1, captured=True, input_hash=hash_of(2, "blake3-keyed"))) == []


def test_a_value_that_is_listed_as_hidden_and_is_not_is_told():
    leak = step("c.a", {"a": {"token": "s3cret"}}, captured=True, redacted=["/invocation_json/payload/a/token"])
    assert found(leak) == [("not-hidden", "/steps/0/redacted/0")]
    container = step("c.a", {"a": [1]}, captured=True, redacted=["/invocation_json/payload/a"])
    assert found(container) == []


def test_a_step_that_failed_has_no_output():
    bad = step("c.a") | {"error": {"code": "node_error", "message": "m", "details": None}}
    assert found(bad) == [("failed-with-output", "/steps/0/output_hash")]


def test_a_step_in_flight_has_no_end():
    assert found(in_flight=[step("c.a")]) == [("in-flight-ended", "/in_flight/0/output_hash")]
    assert found(in_flight=[step("c.a", error="no")]) == [("in-flight-ended", "/in_flight/0/error")]
    died = step("c.a") | {"output_hash": None, "error": {"code": "process_died", "message": "m", "details": None}}
    assert found(in_flight=[died]) == []


def identified(number, parent=None, **fields):
    more = {} if parent is None else {"parent_step_id": f"{parent:016x}"}
    return step("c.a", step_id=f"{number:016x}", **more, **fields)


def test_parents_exist_or_have_rolled_out():
    assert found(identified(2, 1), identified(1)) == []
    assert found(identified(2, 1), dropped=0) == [("parent-unknown", "/steps/0/parent_step_id")]
    assert found(identified(2, 1)) == [("parent-unknown", "/steps/0/parent_step_id")]
    assert found(identified(2, 1), dropped=3) == []
    assert found(identified(2, 1), in_flight=[identified(1) | {"output_hash": None}]) == []


def test_ids_are_unique_and_parents_lead_upwards():
    assert found(identified(1), identified(1)) == [("id-repeated", "/steps/1/step_id")]
    assert found(identified(1, 1)) == [("parent-cycle", "/steps/0/parent_step_id")]
    ring = [identified(number, 1 + number % 3) for number in (1, 2, 3)]
    tail = [identified(number, number - 1) for number in (4, 5)]
    assert found(*ring, *tail) == [("parent-cycle", "/steps/0/parent_step_id")]


def test_a_step_begins_after_its_caller():
    assert found(identified(2, 1, at=9), identified(1, at=10, lasts=5000)) == [
        ("began-before-parent", "/steps/0/started_at")
    ]
    assert found(identified(2, 1, at=10), identified(1, at=10, lasts=5000)) == []


def test_steps_of_a_thread_stand_in_the_order_in_which_they_finished():
    late, early = step("c.a", at=50, thread="T"), step("c.a", at=10, thread="T")
    assert found(late, early) == [("order", "/steps/1")]
    assert found(late, early | {"thread": "U"}) == []
    assert found(early, late) == []


def test_steps_lie_within_their_run():
    second = 1_000_000
    inside = step("c.a", at=1, lasts=1000)
    assert found(inside, run=run("ok")) == []
    assert found(step("c.a", at=1, lasts=second * 2000, duration_ms=2000), run=run("ok")) == [
        ("outside-run", "/steps/0/duration_ns")
    ]
    before = step("c.a", started_at="2026-11-23T23:59:59Z", duration_ns=0)
    assert found(before, run=run("ok")) == [("outside-run", "/steps/0/started_at")]


def test_the_failed_step_is_one_that_failed():
    failed, well = step("a", error="m", step_id="0" * 15 + "1"), step("a", step_id="0" * 15 + "2")
    at = "/run/failed_step_id"
    for outcome, number, codes in [
        ("failed", failed.get("step_id"), []),
        ("failed", "x", ["id-form", "failed-step-unknown"]),
        ("failed", "0" * 15 + "3", ["failed-step-unknown"]),
        ("failed", well.get("step_id"), ["failed-step-ended-well"]),
        ("recovered", failed.get("step_id"), ["failed-step-of-success"]),
    ]:
        assert found(failed, well, run=run(outcome) | {"failed_step_id": number}) == [(code, at) for code in codes]


def test_a_run_has_an_outcome_an_id_and_times_in_order():
    odd = run("fine") | {"id": "1", "ended_at": "2026-11-23T00:00:00Z"}
    assert found(run=odd) == [
        ("id-form", "/run/id"),
        ("unknown-outcome", "/run/outcome"),
        ("time-order", "/run/ended_at"),
    ]
    assert found(run=run("ok") | {"started_at": "x", "ended_at": "y"}) == [
        ("time-form", "/run/started_at"),
        ("time-form", "/run/ended_at"),
    ]
    assert found(dropped=-1) == [("negative", "/dropped_steps")]


# --- payload files


@pytest.fixture
def with_payload(tmp_path):
    """A trace file with one payload file, and the path of both."""
    with recording(capture_inputs=True, max_value_bytes=10, out_path=str(tmp_path / "t.json")):
        inner("x" * 50)
    (payload,) = (tmp_path / "t.payloads").iterdir()
    return tmp_path / "t.json", payload


def test_a_payload_file_has_the_content_that_its_name_and_the_hash_say(with_payload):
    path, payload = with_payload
    assert validate(path) == []
    payload.write_bytes(payload.read_bytes().replace(b"xx", b"xy"))
    assert [(item.code, item.pointer) for item in validate(path)] == [
        ("payload-mismatch", "/steps/0/invocation_path"),
    ]


def test_a_payload_file_of_another_runner_may_hold_the_whole_invocation(tmp_path):
    invocation = {"component_id": "c", "operation": "a", "payload": {"x": 1}}
    (tmp_path / "in.json").write_text(json.dumps(invocation, indent=1))
    document = to_document(trace(step("c.a", {"x": 1}, invocation_path="in.json")))
    (tmp_path / "t.json").write_text(json.dumps(document))
    assert validate(tmp_path / "t.json") == []
    (tmp_path / "in.json").write_text("{}")
    assert [item.code for item in validate(tmp_path / "t.json")] == ["hash-mismatch"]


def test_a_payload_file_that_must_not_be_read_is_an_error_and_is_not_read(with_payload, tmp_path):
    path, payload = with_payload
    payload.unlink()
    os.mkfifo(payload)
    (finding,) = validate(path)
    assert (finding.code, finding.pointer) == ("payload-file", "/steps/0/invocation_path")
    assert finding.message.endswith("is not a file")
    document = json.loads(path.read_bytes())
    document["steps"][0]["invocation_path"] = "../../etc/passwd"
    path.write_text(json.dumps(document))
    (finding,) = validate(path)
    assert finding.message.endswith("is not a path that stays below the trace's folder")


# --- flat records


def test_a_flat_record_becomes_a_trace_of_one_step():
    document = to_document(from_flat(FLAT | {"seed": 5}, "flat.json"))
    assert document == {
        "trace_version": 1,
        "pack": {"pack_ref": "ai.card"},
        "flow": {"id": "ai.card", "version": "unknown"},
        "steps": [
            {
                "node_id": "ai.card.render",
                "component_id": "ai.card",
                "operation": "render",
                "input_hash": {"algorithm": "blake3", "value": "0" * 64},
                "duration_ms": 3,
                "error": {
                    "code": "node_error",
                    "message": "no such card",
                    "details": {"type": "test.failure", "details": {"retryable": False}},
                },
                "seed": 5,
            }
        ],
    }
    assert check(BytesIO(json.dumps(document).encode()), "converted", None).findings == []


def test_a_flat_record_is_noted_and_a_missing_hash_is_told():
    Path("flat.json").write_text(json.dumps(FLAT))
    assert validate("flat.json") == [Finding(Severity.NOTE, "flat-record", "", "is a flat one-step record")]
    checked = check(BytesIO(json.dumps(FLAT | {"input_hash": None, "error": None}).encode()), "flat.json", None)
    assert [item.code for item in checked.findings] == ["flat-record", "no-input-hash"]
    assert checked.flat.steps[0].input_hash.value == flowtrace.hash_value(None)


@pytest.mark.parametrize(
    ("change", "pointer", "reason"),
    [
        ({"operation": None}, "/operation", "is absent; a flat record takes text"),
        ({"component_id": 5}, "/component_id", "is 5; a flat record takes text"),
        ({"duration_ms": -1}, "/duration_ms", "is -1; a flat record takes a whole number of milliseconds"),
        ({"duration_ms": True}, "/duration_ms", "is True; a flat record takes a whole number of milliseconds"),
        (
            {"input_hash": "sha256:00"},
            "/input_hash",
            "is 'sha256:00'; a flat record takes null or \"blake3:\" and 64 lowercase hex digits",
        ),
        ({"error": "no"}, "/error", "is 'no'; a flat record takes an object with code and message"),
        ({"error": {"code": 1, "message": "m"}}, "/error/code", "is 1; a flat record takes text"),
    ],
)
def test_a_flat_record_with_a_wrong_field_is_refused_at_its_place(change, pointer, reason):
    checked = check(BytesIO(json.dumps(FLAT | change).encode()), "flat.json", None)
    assert checked == ([Finding(Severity.ERROR, "field", pointer, reason)], None, None)
    assert not checked.is_valid


# --- bounds


def test_many_warnings_do_not_hide_an_error():
    odd = [step("c.a", step_id=f"x{at}") for at in range(MAX_FINDINGS + 5)]
    findings = validate(trace(*odd, step("c.a", duration_ms=-1)))
    assert len(findings) == MAX_FINDINGS + 2
    assert [item.code for item in findings[-2:]] == ["negative", "more"]
    assert findings[-1] == Finding(Severity.NOTE, "more", "", "5 more findings are left out")


def test_a_trace_in_memory_is_checked_without_its_payload_files():
    assert [item.severity for item in validate(trace(step("c.a", invocation_path="a.json")))] == [Severity.WARNING]


def test_a_file_that_is_not_there_is_an_os_error():
    with pytest.raises(FileNotFoundError):
        validate("missing.json")
