"""The trace file: reading, writing back, what is refused and where, and the schema."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import flowtrace
from flowtrace import Trace, TraceFileError, ValidationIssue, json_schema, load_trace, testing
from flowtrace.trace.model import to_document
from flowtrace.trace.reading import parse_trace
from flowtrace.values.json import pretty

HASH = {"algorithm": "blake3", "value": "0" * 64}
SMALL = {
    "trace_version": 1,
    "pack": {"pack_ref": "p"},
    "flow": {"id": "f", "version": "1"},
    "steps": [],
}
STEP = {
    "node_id": "n",
    "component_id": "c",
    "operation": "o",
    "input_hash": HASH,
    "invocation_json": {"component_id": "c", "operation": "o", "payload": {"extra": None, "trace_version": 2}},
    "invocation_path": "t.payloads/0.json",
    "output_hash": HASH,
    "state_delta_hash": HASH,
    "duration_ms": 1,
    "validation_issues": [{"code": "c", "path": "/a", "message": "m"}],
    "error": {"code": "node_error", "message": "m", "details": {"frames": [], "type": "ValueError"}},
    "step_id": "0" * 16,
    "parent_step_id": "1" * 16,
    "started_at": "2026-11-24T00:00:00Z",
    "duration_ns": 1_000_001,
    "thread": "MainThread",
    "code": {"module": "m", "qualname": "q", "file": "f.py", "line": 1, "hash": HASH},
    "output_json": None,
    "opaque": ["/output_json"],
    "redacted": ["/invocation_json/payload/x"],
}
FULL = {
    "trace_version": 1,
    "runner_version": "0.1.0",
    "git_sha": "abc",
    "pack": {"pack_ref": "p", "resolved_digest": "d"},
    "flow": {"id": "f", "version": "1"},
    "steps": [STEP],
    "run": {
        "id": "0" * 32,
        "started_at": "2026-11-24T00:00:00Z",
        "ended_at": "2026-11-24T00:00:01Z",
        "outcome": "failed",
        "pid": 1,
        "host": "h",
        "python": "3.11.7",
    },
    "in_flight": [copy.deepcopy(STEP)],
    "dropped_steps": 3,
}
PLACES = ["", "/pack", "/flow", "/run", "/steps/0", "/steps/0/input_hash", "/steps/0/output_hash"]
PLACES += ["/steps/0/state_delta_hash", "/steps/0/validation_issues/0", "/steps/0/error", "/steps/0/code"]
PLACES += ["/steps/0/code/hash", "/in_flight/0", "/in_flight/0/error"]
JSON = st.recursive(st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=5), st.lists, max_leaves=5)


def at(document, pointer):
    for token in pointer.split("/")[1:]:
        document = document[int(token) if isinstance(document, list) else token]
    return document


def changed(pointer, value, document=FULL):
    document = copy.deepcopy(document)
    place, _, name = pointer.rpartition("/")
    owner = at(document, place)
    if value is ...:
        del owner[name]
    else:
        owner[int(name) if isinstance(owner, list) else name] = value
    return document


def encoded(document):
    return json.dumps(document).encode()


@pytest.mark.parametrize("document", [SMALL, FULL], ids=["small", "full"])
def test_a_trace_comes_back_in_the_order_of_the_format(document):
    trace = parse_trace(encoded(document))
    assert json.dumps(to_document(trace)) == json.dumps(document)
    shuffled = json.loads(json.dumps(document, sort_keys=True))
    assert json.dumps(to_document(parse_trace(encoded(shuffled)))) == json.dumps(document)


@pytest.mark.costly
@settings(suppress_health_check=[HealthCheck.too_slow])  # on a busy machine
@given(
    st.dictionaries(st.sampled_from(PLACES), st.dictionaries(st.text(max_size=6).map("x-{}".format), JSON), min_size=1)
)
def test_unknown_fields_are_kept_at_every_level(additions):
    document = copy.deepcopy(FULL)
    for place, fields in additions.items():
        at(document, place).update(fields)
    trace = parse_trace(encoded(document))
    assert to_document(trace) == document
    assert parse_trace(encoded(to_document(trace))) == trace
    assert trace.extra == additions.get("", {})


def test_an_unknown_field_may_have_any_name():
    names = ["extra", "", "$py", "(fields unknown to this version of flowtrace)", "x_json", "a/b~c"]
    for name in names:
        for place in ("", "/steps/0", "/pack"):
            document = changed(f"{place}/x", 1)
            owner = at(document, place)
            del owner["x"]
            owner[name] = {"steps": [{"a": 1}]}
            assert to_document(parse_trace(encoded(document))) == document


def test_payloads_are_not_rearranged():
    payload = {"extra": {"a": 1}, "(fields unknown to this version of flowtrace)": {"b": 2}, "x_json": [{"extra": 1}]}
    document = changed("/steps/0/invocation_json", payload)
    document["steps"][0]["output_json"] = payload
    document["steps"][0]["error"]["details"] = payload
    assert to_document(parse_trace(encoded(document))) == document


def test_null_and_absent_are_told_apart_where_it_matters():
    trace = parse_trace(encoded(changed("/steps/0/output_json", ...)))
    assert "output_json" not in to_document(trace)["steps"][0]
    assert to_document(parse_trace(encoded(FULL)))["steps"][0]["output_json"] is None
    assert (
        to_document(parse_trace(encoded(changed("/steps/0/error/details", None))))["steps"][0]["error"]["details"]
        is None
    )


REFUSED = [
    (changed("/trace_version", 2), "/trace_version", "is 2; this reader takes version 1"),
    (changed("/trace_version", "1"), "/trace_version", "is '1'; this reader takes version 1"),
    (changed("/trace_version", True), "/trace_version", "is True; this reader takes version 1"),
    (changed("/trace_version", 1.0), "/trace_version", "is 1.0; this reader takes version 1"),
    (changed("/trace_version", None), "/trace_version", "is None; this reader takes version 1"),
    (changed("/trace_version", ...), "/trace_version", "is absent; this reader takes version 1"),
    (changed("/pack", ...), "", "Object missing required field `pack`"),
    (changed("/flow/id", ...), "/flow", "Object missing required field `id`"),
    (changed("/flow", []), "/flow", "Expected `object`, got `array`"),
    (changed("/steps", {}), "/steps", "Expected `array`, got `object`"),
    (changed("/steps/0", None), "/steps/0", "Expected `object`, got `null`"),
    (changed("/steps/0/node_id", 5), "/steps/0/node_id", "Expected `str`, got `int`"),
    (changed("/steps/0/duration_ms", "1"), "/steps/0/duration_ms", "Expected `int`, got `str`"),
    (changed("/steps/0/duration_ms", 1.5), "/steps/0/duration_ms", "Expected `int`, got `float`"),
    (changed("/steps/0/input_hash", "00"), "/steps/0/input_hash", "Expected `object`, got `str`"),
    (changed("/steps/0/input_hash/value", 5), "/steps/0/input_hash/value", "Expected `str`, got `int`"),
    (changed("/steps/0/error/message", None), "/steps/0/error/message", "Expected `str`, got `null`"),
    (changed("/steps/0/error/details", ...), "/steps/0/error", "Object missing required field `details`"),
    (changed("/steps/0/validation_issues/0/path", 1), "/steps/0/validation_issues/0/path", "Expected `str`, got `int`"),
    (changed("/steps/0/opaque/0", 1), "/steps/0/opaque/0", "Expected `str`, got `int`"),
    (changed("/in_flight/0/code/line", "x"), "/in_flight/0/code/line", "Expected `int | null`, got `str`"),
    (changed("/run/pid", None), "/run/pid", "Expected `int`, got `null`"),
    ([FULL], "", "a trace is a JSON object; this is an array"),
    ("trace", "", "a trace is a JSON object; this is a single value"),
    (None, "", "a trace is a JSON object; this is a single value"),
]


@pytest.mark.parametrize(("document", "pointer", "reason"), REFUSED, ids=[f"{p} {r}"[:50] for _, p, r in REFUSED])
def test_an_error_names_file_place_and_reason(document, pointer, reason):
    Path("t.json").write_bytes(encoded(document))
    with pytest.raises(TraceFileError) as caught:
        load_trace("t.json")
    error = caught.value
    assert (error.path, error.pointer, error.reason) == ("t.json", pointer, reason)
    assert str(error) == f"t.json: at {pointer or '(whole document)'}: {reason}"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"{",
        encoded(FULL)[:-1],
        encoded(FULL) + b"x",
        b"\xff\xfe",
        b"trace",
        b"\x00",
        b"{'a': 1}",
        b'"\xed\xa0\x80"',
    ],
)
def test_what_is_no_json_is_refused(data):
    with pytest.raises(TraceFileError) as caught:
        parse_trace(data)
    assert (caught.value.path, caught.value.pointer) == ("<bytes>", "")
    assert caught.value.reason.startswith("not a JSON document: ")


@pytest.mark.parametrize("opener", [b"[", b'{"a":', b'{"trace_version":1,"steps":['])
def test_endless_nesting_is_refused(opener):
    with pytest.raises(TraceFileError) as caught:
        parse_trace(opener * 200_000)
    assert caught.value.reason == "nested too deeply to be a trace"


def test_a_file_that_cannot_be_read_is_an_os_error():
    with pytest.raises(FileNotFoundError):
        load_trace("absent.json")
    with pytest.raises(IsADirectoryError):
        load_trace(Path())


def test_an_issue_takes_positional_fields_and_is_immutable():
    issue = ValidationIssue("missing", "/a", "a is missing")
    assert to_document(issue) == {"code": "missing", "path": "/a", "message": "a is missing"}
    assert issue == ValidationIssue(code="missing", path="/a", message="a is missing")
    with pytest.raises(AttributeError):
        issue.code = "x"


def schema_file():
    return json.loads((Path(flowtrace.__file__).parent / "trace-v1.schema.json").read_bytes())


def test_the_schema_in_the_package_is_the_generated_one():
    path = Path(flowtrace.__file__).parent / "trace-v1.schema.json"
    assert path.read_bytes() == pretty(json_schema()) + b"\n"


def test_the_schema_is_a_schema_and_takes_what_the_reader_takes():
    jsonschema.Draft202012Validator.check_schema(schema_file())
    validator = jsonschema.Draft202012Validator(schema_file())
    for document in (
        SMALL,
        FULL,
        changed("/x", 1),
        changed("/steps/0/x", {"y": 1}),
        changed("/steps/0/error/details", None),
    ):
        validator.validate(document)
        assert isinstance(parse_trace(encoded(document)), Trace)


@pytest.mark.parametrize(
    "document", [document for document, _, _ in REFUSED if document != changed("/trace_version", 1.0)]
)
def test_the_schema_refuses_what_the_reader_refuses(document):
    assert not jsonschema.Draft202012Validator(schema_file()).is_valid(document)


def test_the_schema_knows_what_a_hash_looks_like():
    validator = jsonschema.Draft202012Validator(schema_file())
    for value in ("0" * 63, "G" * 64, "A" * 64, "0" * 65, ""):
        assert not validator.is_valid(changed("/steps/0/input_hash/value", value))


def test_every_kind_of_trace_that_is_written_fits_the_schema():
    @flowtrace.traced_node
    def node(password, items=(), error=None):
        flowtrace.current_step().add_validation_issue("c", "/a", "m")
        flowtrace.current_step().record_state_delta({1})
        if error is not None:
            raise error
        return [object(), *items]

    @flowtrace.traced_node
    def outer(error=None):
        flowtrace.dump("snapshot.json")
        return node("x", [1], error=error)

    settings = [
        {},
        {"capture_inputs": True, "capture_outputs": True},
        {"hash_key": "k"},
        {"max_value_bytes": 0, "capture_inputs": True},
    ]
    validator = jsonschema.Draft202012Validator(schema_file())
    for changes in settings:
        with testing.recording(**changes) as recorded:
            outer()
            for error in (ValueError("\ud800"), ExceptionGroup("g", [KeyError(1)]), KeyboardInterrupt()):
                with pytest.raises(type(error)):
                    outer(error)
            documents = [json.loads(path.read_bytes()) for path in recorded.folder.glob("*.json")]
        documents.append(json.loads(Path("snapshot.json").read_bytes()))
        assert len(documents) == 5
        for document in documents:
            validator.validate(document)
            assert to_document(parse_trace(encoded(document))) == document
