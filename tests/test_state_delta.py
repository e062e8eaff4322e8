"""What a step changed in some state: hashed by the rule of inputs and outputs, and never shown."""

from __future__ import annotations

import pytest

from flowtrace import current_step, diff, traced_node, validate
from flowtrace.testing import recording
from flowtrace.values.redaction import MARKER
from tests.traces import hash_of


@traced_node
def change(delta):
    current_step().record_state_delta({"token": delta, "n": 1})


def record(folder, delta, **changes):
    path = folder / f"{delta}.json"
    with recording(out_path=path, **changes):
        change(delta)
    return path


def test_a_state_delta_is_hashed_redacted_and_says_so(tmp_path):
    with recording() as recorded:
        change("first")
        (step,) = recorded.traces[0].steps
    assert step.state_delta_hash.value == hash_of({"token": MARKER, "n": 1})["value"]
    assert step.redacted == ["/state_delta/token"]


def test_two_state_deltas_that_differ_in_a_secret_are_equal_with_a_doubt(tmp_path):
    one, two = record(tmp_path, "first", redact=("delta",)), record(tmp_path, "second", redact=("delta",))
    found = diff(one, two)
    assert found.divergences == []
    assert ["redacted parts" in doubt.reason for doubt in found.doubts] == [True]


@pytest.mark.parametrize("key", [None, "k"])
def test_only_a_key_tells_secrets_apart(tmp_path, key):
    steps = []
    for delta in ("first", "second"):
        with recording(hash_key=key) as recorded:
            change(delta)
            steps.append(recorded.traces[0].steps[0])
    one, two = (step.state_delta_hash for step in steps)
    assert (one == two) is (key is None)
    assert one.algorithm == ("blake3" if key is None else "blake3-keyed")


def test_a_trace_with_a_hidden_state_delta_is_valid(tmp_path):
    assert validate(record(tmp_path, "first")) == []
