"""Long traces are read step by step; what comes out is what the document as a whole says, and so are the errors."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowtrace import TraceFileError
from flowtrace.trace import step_texts
from flowtrace.trace.model import EXTRA_FIELD, to_document
from flowtrace.trace.outline import outline
from flowtrace.trace.reading import from_document, parse_document, parse_trace
from flowtrace.trace.skimming import skim
from flowtrace.trace.step_texts import StepTexts
from flowtrace.trace.validate import check
from flowtrace.values.json import pretty

HASH = {"algorithm": "blake3", "value": "0" * 64}
TEXTS = st.sampled_from(
    ['"', "\\", "\n    },\n    {", '\n  "steps": [\n    {', "\n    }\n  ]", "ä\x00\x7f", "$py", "a:b"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def step(number: int, value: object = None, **more: object) -> dict[str, object]:
    return {
        "node_id": f"n{number % 3}",
        "component_id": "c",
        "operation": "o",
        "input_hash": HASH,
        "invocation_json": {"component_id": "c", "operation": "o", "payload": {"value": value}},
        "duration_ms": 0,
        "step_id": f"{number:016x}",
        **more,
    }


def document(*steps: object, **more: object) -> dict[str, object]:
    flow = {"id": "f", "version": "1"}
    return {"trace_version": 1, "pack": {"pack_ref": "p"}, "flow": flow, "steps": list(steps), **more}


def as_a_whole(data: bytes) -> object:
    try:
        return to_document(from_document(parse_document(data, "t"), "t"))
    except TraceFileError as error:
        return str(error)


def step_by_step(data: bytes) -> object:
    try:
        return to_document(parse_trace(data, "t"))
    except TraceFileError as error:
        return str(error)


@given(st.lists(VALUES, max_size=5), st.sampled_from([pretty, lambda tree: json.dumps(tree, indent=4).encode()]))
def test_every_layout_gives_the_same_trace(values, layout):
    steps = [step(at, value, output_json=value, output_hash=HASH) for at, value in enumerate(values)]
    data = layout(document(*steps, in_flight=[step(99)]))
    assert step_by_step(data) == as_a_whole(data) == json.loads(data)
    skimmed = skim(io.BytesIO(data), "t")
    assert to_document(skimmed.complete()) == as_a_whole(data)
    shown = [to_document(skimmed.step(entry)) for entry in outline(skimmed.trace)]
    assert shown == [to_document(entry.step) for entry in outline(parse_trace(data))]


@pytest.mark.parametrize("piece", [1, 7, 64, 1 << 20])
def test_pieces_of_any_size_give_the_texts_of_the_steps(monkeypatch, piece):
    steps = [step(at, "x" * at * 20) for at in range(30)]
    data = pretty(document(*steps, dropped_steps=2))
    monkeypatch.setattr(step_texts, "_PIECE", max(piece, data.index(b"n0")))  # the first one holds the head
    texts = StepTexts(io.BytesIO(data))
    assert list(map(json.loads, texts)) == steps
    assert json.loads(texts.envelope) == document(None, dropped_steps=2)


def test_a_file_that_is_cut_anywhere_gets_the_error_of_the_whole():
    data = pretty(document(step(1, "a"), step(2, "b"), in_flight=[step(3)]))
    for end in range(len(data)):
        assert step_by_step(data[:end]) == as_a_whole(data[:end])


@pytest.mark.parametrize(
    "change",
    [
        (b'"c",', b'"\xff",'),
        (b'"operation": "o"', b'"operation": 1'),
        (b'"duration_ms": 0', b'"duration_ms": 0, "duration_ms": 1'),
        (b'"steps": [', b'"steps": [], "steps": ['),
        (b'"steps": [', b'"steps": [\n    {\n    },\n    {\n    }\n  ],\n  "steps": ['),
        (b'"trace_version": 1', b'"trace_version": 2'),
        (b'"trace_version": 1', b'"other": {\n  "steps": [\n    {\n    }\n  ]}, "trace_version": 1'),
        (b'"step_id"', b'"unknown": 1, "step_id"'),
        (b'"step_id"', b'"' + EXTRA_FIELD.encode() + b'": {"a": 1}, "step_id"'),
        (b'"pack":', b'"unknown": [1], "pack":'),
        (b'"value": null', b'"value": ' + b"[" * 5000 + b"]" * 5000),
        (b"\n    },", b"\n    } ,"),
        (b"\n    },\n    {", b"\n    },\n    {\n    },\n    {"),
    ],
)
def test_a_changed_file_gives_what_the_whole_gives(change):
    data = pretty(document(step(1), step(2), step(3))).replace(*change, 1)
    assert step_by_step(data) == as_a_whole(data)


@pytest.mark.parametrize(
    ("change", "pointers"),
    [
        ((b'"duration_ms": 0', b'"duration_ms": 0, "duration_ms": 0'), ["/steps/0/duration_ms"]),
        ((b'"value": "a"', b'"value" \t: "b", "value": "a"'), ["/steps/1/invocation_json/payload/value"]),
        ((b'"value": "a"', b'"valu\\u0065": "b", "value": "a"'), ["/steps/1/invocation_json/payload/value"]),
        ((b'"value": "a"', b'"b": "\\u003a", "b": "x", "value": "a"'), ["/steps/1/invocation_json/payload/b"]),
        ((b'"step_id"', b'"own": 1, "own": 2, "step_id"'), ["/steps/0/own"]),
        ((b'"pack":', b'"flow": 1, "pack":'), ["/flow"]),
        ((b'"step_id"', b'"error": null, "opaque": [], "step_id"'), []),
        ((b'"step_id"', b'"own:": {"a:b": ":"}, "step_id"'), []),
    ],
)
def test_a_repeated_key_is_found_in_a_step_and_around_the_steps(change, pointers):
    data = pretty(document(step(0), step(1, "a"), step(2))).replace(*change, 1)
    found = check(io.BytesIO(data), "t", None).findings
    assert [finding.pointer for finding in found if finding.code == "repeated-key"] == pointers
