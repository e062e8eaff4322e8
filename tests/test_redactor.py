"""The hook that hides more: what it is asked, and what a faulty one does."""

from __future__ import annotations

import pickle
import signal

import numpy
import pandas
import pytest

from flowtrace import ConfigError, TraceConfig, configure, current_step, get_recorder, override, traced_node
from flowtrace.testing import recording
from flowtrace.values.redaction import MARKER
from tests.traces import hash_of


@traced_node
def echo(value, other=None):
    return value


def record(redactor, *arguments, node=echo, **changes):
    with recording(capture_inputs=True, capture_outputs=True, redactor=redactor, **changes) as recorded:
        node(*arguments)
        (trace,) = recorded.traces
    return trace.steps[0]


def never(name, value):
    return False


def test_the_hook_is_asked_for_every_named_value_and_for_results():
    asked = []

    def redactor(name, value):
        asked.append((name, value))
        return name == "konto" or value == 7

    step = record(redactor, {"konto": "DE1", "list": [{"n": 7}], "password": "x"})
    shown = {"konto": MARKER, "list": [{"n": MARKER}], "password": MARKER}
    assert step.invocation_json["payload"] == {"value": shown, "other": None}
    assert step.output_json == shown
    assert step.redacted == [
        *(f"/invocation_json/payload/value/{end}" for end in ("konto", "list/0/n", "password")),
        *(f"/output_json/{end}" for end in ("konto", "list/0/n", "password")),
    ]
    assert step.output_hash.value == hash_of(shown)["value"]
    assert {name for name, _ in asked} == {"value", "other", "konto", "list", "n", "return"}
    assert ("list", [{"n": 7}]) in asked


def test_a_whole_result_a_yield_and_a_state_delta_can_be_hidden():
    @traced_node
    def node():
        current_step().record_state_delta("card:1")
        yield "card:1"
        yield "open"
        return "card:2"

    def redactor(name, value):
        asked.add(name)
        return type(value) is str and value.startswith("card:")

    asked = set()
    step = record(redactor, node=lambda: list(node()))
    assert step.output_json == {"$py": "generator", "items": [MARKER, "open"], "returned": MARKER}
    assert step.redacted == ["/state_delta", "/output_json/items/0", "/output_json/returned"]
    assert step.state_delta_hash.value == hash_of(MARKER)["value"]
    assert asked == {"yield", "return", "state_delta"}
    assert record(redactor, "card:1").output_json == MARKER


@pytest.mark.parametrize("answer", [None, 0, 1, "", numpy.bool_(False), NotImplemented])
def test_an_answer_that_is_no_boolean_hides(answer, stderr):
    step = record(lambda name, value: answer, 1)
    assert step.invocation_json["payload"] == {"value": MARKER, "other": MARKER}
    assert step.output_json == MARKER
    err = stderr.readouterr().err
    assert (err.count("could not do its work"), err.count("TypeError")) == (1, 1)
    assert "ask the redactor" in err


def test_a_hook_that_raises_hides_and_is_told_once(stderr):
    def redactor(name, value):
        raise LookupError("planted text that must not be logged")

    assert record(redactor, "x").output_json == MARKER
    err = stderr.readouterr().err
    assert "LookupError" in err
    assert "planted text" not in err


def test_a_hook_that_never_returns_from_itself_hides():
    def redactor(name, value):
        return redactor(name, value)

    assert record(redactor, "x").output_json == MARKER


def test_an_interrupt_inside_the_hook_reaches_the_program():
    def redactor(name, value):
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        record(redactor, object())
    assert record(never, 1).output_json == 1  # it is not in use any more


def test_a_hook_that_calls_a_traced_function_is_asked_nothing_inside_it(stderr):
    class Opened:
        def __init__(self):
            self.part = 1

    def redactor(name, value):
        echo(Opened())  # takes its final form at once, and would ask the hook
        return False

    with recording(capture_outputs=True, redactor=redactor) as recorded:
        echo(1)
        steps = [step for trace in recorded.traces for step in trace.steps]
    assert 1 in [step.output_json for step in steps]
    inner = [step.output_json for step in steps if step.output_json != 1]
    assert inner
    assert all(output == MARKER for output in inner)
    assert "RecursionError" in stderr.readouterr().err


def test_a_hook_that_hides_nothing_changes_no_hash():
    frame = pandas.DataFrame({"a": [1.0, 2.0], "b": ["x", None]})
    structured = numpy.array([(1, "x")], [("n", "i4"), ("in", [("s", "U2")], 2)])
    for value in ({"a": [1, 2.5, None]}, "text", frame, frame.iloc[0], frame["b"], structured, structured[0], {1: 2}):
        assert record(never, value).output_hash == record(None, value).output_hash


def test_the_hook_sees_columns_and_fields():
    asked = {}

    def redactor(name, value):
        asked[name] = value
        return name == "b"

    frame = pandas.DataFrame({"a": [1], "b": ["x"]})
    step = record(redactor, frame)
    assert type(asked["b"]) is pandas.Series
    assert [column[1] for column in step.output_json["columns"]][1] == MARKER
    structured = numpy.array([(1, "x")], [("n", "i4"), ("b", "U2")])
    assert (
        record(redactor, structured).output_hash
        == record(redactor, numpy.array([(1, "y")], structured.dtype)).output_hash
    )


def test_a_value_that_the_hook_hid_is_scrubbed_from_messages():
    @traced_node
    def fails(konto):
        raise ValueError(f"no {konto}")

    with recording(redactor=lambda name, value: name == "konto") as recorded:
        with pytest.raises(ValueError, match=r"^no DE1234$"):
            fails("DE1234")
        (trace,) = recorded.traces
    assert trace.steps[0].error.message == f"no {MARKER}"


def test_the_hook_is_not_called_while_the_program_waits():
    asked = []
    with override(mode="on", out_path="x.json", redactor=lambda name, value: bool(asked.append(name))):
        echo({"a": 1})
        assert asked == []


def test_the_hook_is_part_of_the_configuration_and_restored_with_it():
    configure(mode="off")
    with override(redactor=never) as recorder:
        assert recorder.config.redactor is never
        with override(buffer_size=1) as inner:
            assert inner.config.redactor is never
    assert get_recorder().config.redactor is None
    assert TraceConfig(redactor=never) == TraceConfig(redactor=never)
    assert "redactor" not in repr(TraceConfig(redactor=never))
    assert pickle.loads(pickle.dumps(TraceConfig(redactor=never))).redactor is never
    with pytest.raises(
        ConfigError, match=r"^redactor=3 is not usable: it takes a function of a name and a value, or None$"
    ):
        configure(redactor=3)


def test_a_keyed_hash_is_over_what_the_hook_hides():
    one, two = (record(lambda name, value: name == "konto", {"konto": n}, hash_key="k") for n in (1, 2))
    assert one.output_json == two.output_json == {"konto": MARKER}
    assert one.output_hash.algorithm == "blake3-keyed"
    assert one.output_hash != two.output_hash
