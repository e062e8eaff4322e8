"""`flowtrace.testing.watching`: the steps of a block in memory, asked for by node, written only on request."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

import flowtrace
from flowtrace import ConfigError, FlowtraceError, TraceConfig, TraceContext, flow, load_trace, traced_node
from flowtrace.testing import recording, watching
from flowtrace.trace.model import UNSET


@traced_node(component="bank", operation="rate")
def rate(currency):
    return {"EUR": 1.0}[currency]


@traced_node(component="shop", operation="price", node_id="the price")
def price(currency, count=1):
    return count * rate(currency)


def fails(function, *arguments):
    with pytest.raises(Exception) as caught:
        function(*arguments)
    return caught.value


def test_nothing_is_written_until_it_is_asked_for(tmp_path):
    with watching(), flow("checkout"):
        price("EUR")
        fails(price, "USD")
    assert list(tmp_path.iterdir()) == []


def test_the_steps_have_their_values_in_the_order_of_their_ends():
    with watching() as watch:
        price("EUR", 2)
        fails(price, "USD")
        assert [step.node_id for step in watch.steps] == ["bank.rate", "the price"] * 2
    assert [step.output_json for step in watch.calls("bank")] == [1.0, UNSET]
    assert [step.invocation_json["payload"] for step in watch.calls("the price")] == [
        {"count": 2, "currency": "EUR"},
        {"count": 1, "currency": "USD"},
    ]
    assert [step.node_id for step in watch.failed] == ["bank.rate", "the price"]
    assert watch.calls("shop.price") == watch.calls("shop")
    assert watch.calls("shop.rate") == []


def test_only_says_what_was_called_instead():
    with watching() as watch:
        for _ in range(2):
            rate("EUR")
        price("EUR")
    assert watch.only("shop.price").output_json == 1.0
    assert str(fails(watch.only, "bank.rate")) == (
        "bank.rate was called 3 times, not once; what was called: bank.rate x 3, the price"
    )
    with watching() as watch:
        pass
    assert str(fails(watch.only, "shop")) == "shop was called 0 times, not once; what was called: nothing"


def test_a_recording_answers_the_same():
    with recording(capture_outputs=True) as recorded:
        price("EUR")
        fails(rate, "USD")
    for _ in range(2):  # after the block, too
        assert recorded.only("shop").output_json == 1.0
        assert [step.node_id for step in recorded.steps] == ["bank.rate", "the price", "bank.rate"]
        assert [step.error.message for step in recorded.failed] == ["'USD'"]


def test_a_trace_is_written_with_the_step_in_which_the_error_began(tmp_path):
    path = tmp_path / "new" / "trace.json"
    with watching(context=TraceContext("pytest", "a test")) as watch:
        price("EUR")
        error = fails(price, "USD")
        trace = watch.write(path, error)
    assert trace == load_trace(path)
    assert flowtrace.validate(path) == []
    assert (trace.flow.id, trace.run.outcome, trace.steps.index(trace.failed_step)) == ("a test", "failed", 2)
    assert [step.run_id for step in trace.steps] == [None] * 4


def test_an_error_from_outside_any_step_stands_at_the_end_of_its_trace_alone(tmp_path):
    with watching() as watch:
        rate("EUR")
        first = watch.write(tmp_path / "trace.json", AssertionError("no"))
        second = watch.write(tmp_path / "trace.json", "just a text")
        third = watch.write(tmp_path / "trace.json")
    assert [[step.node_id for step in trace.steps] for trace in (first, second, third)] == [
        ["bank.rate", "unknown"],
        ["bank.rate", "unknown"],
        ["bank.rate"],
    ]
    assert second.failed_step.error.message == "just a text"
    assert (third.run.outcome, third.failed_step) == ("ok", None)
    assert [path.name for path in tmp_path.iterdir()] == ["trace.json"]


def test_an_error_of_an_earlier_block_is_from_outside(tmp_path):
    with watching():
        error = fails(rate, "USD")
    with watching() as watch:
        rate("EUR")
        trace = watch.write(tmp_path / "trace.json", error)
    assert [step.node_id for step in trace.steps] == ["bank.rate", "unknown"]


def test_what_can_not_be_written_is_raised(tmp_path):
    (tmp_path / "file").write_text("")
    with watching() as watch, pytest.raises(NotADirectoryError):
        watch.write(tmp_path / "file" / "trace.json")


def test_threads_belong_to_the_block():
    with watching() as watch, ThreadPoolExecutor() as pool:
        list(pool.map(price, ["EUR"] * 5))
    assert len(watch.calls("shop")) == 5


def test_more_steps_than_there_is_room_for_are_no_answer():
    with watching(buffer_size=3) as watch:
        for _ in range(4):
            rate("EUR")
    assert str(fails(watch.calls, "bank")) == (
        "only 3 of 4 steps were kept: buffer_size or buffer_bytes has no room for more"
    )
    assert isinstance(fails(lambda: watch.steps), FlowtraceError)


def test_a_configuration_of_its_own_and_settings():
    with watching(TraceConfig(mode="on")) as watch:
        rate("EUR")
    assert watch.only("bank").invocation_json is UNSET
    with watching(mode="off") as watch:
        rate("EUR")
    assert watch.steps == []
    with pytest.raises(ConfigError), watching(mode="loud"):
        pass


def test_secrets_are_hidden_as_in_any_trace():
    @traced_node
    def log_in(name, password):
        return name

    with watching() as watch:
        log_in("me", "hunter2")
    assert watch.steps[0].invocation_json["payload"] == {"name": "me", "password": "__REDACTED__"}


def test_the_recorder_from_before_is_back(tmp_path):
    with flowtrace.override(mode="on", out_path=tmp_path / "own.json") as before:
        with watching():
            fails(rate, "USD")
        assert flowtrace.get_recorder() is before
        assert not (tmp_path / "own.json").exists()
        fails(rate, "USD")
    assert (tmp_path / "own.json").exists()
