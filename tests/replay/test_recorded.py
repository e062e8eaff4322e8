"""`flowtrace.testing.recorded`: a node answers from a trace, and an unknown input fails, with the nearest one."""

from __future__ import annotations

import asyncio

import pytest

import flowtrace
from flowtrace import NotRecordedError, ReplayError, load_trace
from flowtrace.testing import recorded, watching
from tests.replay.test_stubs import BANK
from tests.replay.workshop import drive, edit, new_module, record


@pytest.fixture
def bank(tmp_path):
    return new_module(tmp_path, BANK)


@pytest.fixture
def trace(bank, tmp_path):
    calls = [lambda code=code: bank.rate(code) for code in ("EUR", "USD", "XXX", "YYY")]
    more = [lambda: bank.names(2), lambda: bank.fetch("a"), lambda: bank.stream(2)]
    account = bank.Account()
    record(tmp_path / "trace.json", *calls, *more, account.owner, account.kind)
    bank.ONLINE = False
    bank.CALLS.clear()
    return tmp_path / "trace.json"


@pytest.mark.parametrize("mode", ["off", "on"])
def test_a_node_is_answered_and_not_called(bank, trace, mode):
    with flowtrace.override(mode=mode), recorded(trace, "bank.rate"):
        assert bank.via("USD") == 2.0
        assert bank.rate("EUR") == bank.rate(currency="EUR") == ("EUR", 1.0)
    assert bank.CALLS == []
    with pytest.raises(RuntimeError):
        bank.rate("EUR")


def test_recorded_errors_are_raised_again(bank, trace):
    with recorded(trace, "bank.rate"):
        with pytest.raises(KeyError, match="XXX"):
            bank.rate("XXX")
        with pytest.raises(bank.NoConnection, match="no connection to bank:80"):
            bank.rate("YYY")


def test_every_kind_of_function_answers_as_its_kind(bank, trace):
    with recorded(trace, "bank"), recorded(trace, "account"):
        assert drive(bank.names(2)) == [(0, 0), (1, 1)]
        assert asyncio.run(bank.fetch("a")) == ("a",)
        assert drive(bank.stream(2)) == [0, 1]
        assert (bank.Account().owner(), bank.Account.kind(), bank.Account().kind()) == ("Ada", "savings", "savings")
    assert bank.CALLS == []


def test_it_decorates_functions_and_coroutine_functions(bank, trace):
    @recorded(trace, "bank.rate")
    def twice(code="EUR"):
        return bank.rate(code), bank.rate(code)

    @recorded(trace, "bank.fetch")
    async def fetched():
        await asyncio.sleep(0)
        return await bank.fetch("a")

    assert twice() == twice(code="EUR") == (("EUR", 1.0), ("EUR", 1.0))
    assert asyncio.run(fetched()) == ("a",)
    assert (twice.__name__, bank.CALLS) == ("twice", [])


def test_equal_inputs_get_their_outputs_in_turn(tmp_path):
    module = new_module(
        tmp_path,
        """
        import itertools
        from flowtrace import traced_node
        numbers = itertools.count(1)

        @traced_node(component="queue", operation="take")
        def take(name):
            return next(numbers)
        """,
    )
    record(tmp_path / "trace.json", *[lambda: module.take("a")] * 3)
    with recorded(tmp_path / "trace.json", "queue"):
        assert [module.take("a") for _ in range(5)] == [1, 2, 3, 1, 1]
    assert next(module.numbers) == 4


def test_an_unknown_input_fails_with_the_nearest_recorded_one(tmp_path):
    module = new_module(
        tmp_path,
        """
        from flowtrace import traced_node

        @traced_node(component="shop", operation="price")
        def price(item, count=1, options=()):
            return count
        """,
    )
    path = record(tmp_path / "trace.json", lambda: module.price("tea", 2), lambda: module.price("cake", 3, ("cut",)))
    with pytest.raises(NotRecordedError) as caught, recorded(path, "shop.price"):
        module.price("cake", 4, ("cut",))
    assert str(caught.value) == (
        f"shop.price was called with an input that is not in {path}: "
        "{'count': 4, 'item': 'cake', 'options': ['cut']}\n"
        "the nearest recorded input is that of step 1:\n"
        "  /count: recorded 3, called with 4"
    )
    with pytest.raises(NotRecordedError) as caught, recorded(path, "shop.price"):
        module.price("tea", 2, None)
    assert str(caught.value).splitlines()[1:] == [
        "the nearest recorded input is that of step 0:",
        "  /options: recorded [], called with None",
    ]


def test_without_captured_inputs_that_is_said_instead(bank, tmp_path):
    path = record(tmp_path / "trace.json", lambda: bank.rate("EUR"), capture_inputs=False)
    with pytest.raises(NotRecordedError, match="none of the inputs of its 1 recorded calls was captured"):
        with recorded(path, "bank.rate"):
            assert bank.rate("EUR") == ("EUR", 1.0)
            bank.rate("USD")


def test_an_unknown_input_that_was_handled_is_raised_at_the_end(bank, trace):
    with pytest.raises(NotRecordedError, match="called with an input that is not in"), recorded(trace, "bank.rate"):
        try:
            bank.rate("GBP")
        except Exception:
            pass
    with pytest.raises(ZeroDivisionError), recorded(trace, "bank.rate"):
        try:
            bank.rate("GBP")
        except Exception:
            1 / 0


def test_what_was_not_captured_is_no_answer(bank, tmp_path):
    path = record(tmp_path / "trace.json", lambda: bank.rate("EUR"), capture_outputs=False)
    with pytest.raises(NotRecordedError, match=r"step 0 of .*, bank\.rate, is no answer: ") as caught:
        with recorded(path, "bank.rate"):
            bank.rate("EUR")
    assert "captured" in str(caught.value)


def test_keyed_hashes_need_the_key(bank, tmp_path):
    path = record(tmp_path / "trace.json", lambda: bank.rate("EUR"), hash_key="key")
    with pytest.raises(NotRecordedError, match="are keyed: set FLOWTRACE_HASH_KEY"), recorded(path, "bank.rate"):
        bank.rate("EUR")
    with flowtrace.override(hash_key="key"), recorded(path, "bank.rate"):
        assert bank.rate("EUR") == ("EUR", 1.0)


def test_a_trace_in_memory_answers_as_well_and_the_calls_are_steps(bank, trace):
    loaded = load_trace(trace)
    with watching() as watch, recorded(loaded, "bank.rate"):
        bank.via("EUR")
    assert [(step.node_id, step.output_json) for step in watch.steps] == [
        ("bank.rate", ["EUR", 1.0]),
        ("middle.via", 1.0),
    ]


def test_a_node_that_is_not_in_the_trace_is_an_error_at_once(bank, trace):
    with pytest.raises(ReplayError, match=r"no step of .* is of 'bank\.rates'; it has account\.kind, "):
        recorded(trace, "bank.rates").__enter__()
    edit(trace, lambda document: [step["code"].update(module="gone") for step in document["steps"]])
    with pytest.raises(ReplayError, match=r"bank\.rate can't be answered for: "), recorded(trace, "bank.rate"):
        pass
