"""A child node that is a stub gives its recorded answer, and is not called."""

from __future__ import annotations

import pytest

from flowtrace import ReplayError, replay
from tests.replay.workshop import edit, new_module, outcomes, record

BANK = """
    import asyncio
    from collections.abc import Iterator
    from flowtrace import traced_node

    ONLINE = True
    CALLS = []

    class NoConnection(OSError):
        def __init__(self, host, port):
            super().__init__(f"no connection to {host}:{port}")
            self.host = host

    def reach(what):
        CALLS.append(what)
        if not ONLINE:
            raise RuntimeError("this test has no network")

    @traced_node(component="bank", operation="rate")
    def rate(currency: str) -> tuple[str, float]:
        reach("rate")
        if currency == "XXX":
            raise KeyError(currency)
        if currency == "YYY":
            raise NoConnection("bank", 80)
        return currency, {"EUR": 1.0, "USD": 2.0}[currency]

    @traced_node(component="bank", operation="list")
    def names(count: int) -> Iterator[tuple[int, int]]:
        reach("list")
        for number in range(count):
            yield number, number
        return "end"

    @traced_node(component="bank", operation="fetch")
    async def fetch(name: str) -> tuple[str]:
        reach("fetch")
        return (name,)

    @traced_node(component="bank", operation="stream")
    async def stream(count: int):
        reach("stream")
        for number in range(count):
            yield number

    class Account:
        @traced_node(component="account", operation="owner")
        def owner(self) -> str:
            reach("owner")
            return "Ada"

        @classmethod
        @traced_node(component="account", operation="kind")
        def kind(cls) -> str:
            reach("kind")
            return "savings"

    @traced_node(component="middle", operation="via")
    def via(currency: str) -> float:
        return rate(currency)[1]

    @traced_node(component="shop", operation="pay")
    def pay(currencies: list[str]) -> list:
        found = []
        for currency in currencies:
            try:
                name, factor = rate(currency)
                assert isinstance(name, str)
                found.append(factor)
            except KeyError as error:
                found.append(str(error))
            except NoConnection as error:
                found.append([type(error).__name__, str(error)])
        return found

    @traced_node(component="shop", operation="all_kinds")
    async def all_kinds() -> list:
        streamed = [number async for number in stream(2)]
        items = names(2)
        pairs = []
        while True:
            try:
                pairs.append(next(items))
            except StopIteration as stop:
                pairs.append(stop.value)
                break
        assert isinstance(pairs[0], tuple)
        return [streamed, pairs, await fetch("x"), Account().owner(), Account.kind(), via("USD")]

    @traced_node(component="shop", operation="swallow")
    def swallow(currency: str) -> int:
        try:
            rate(currency)
        except Exception:
            pass
        return 1
"""


@pytest.fixture
def bank(tmp_path):
    return new_module(tmp_path, BANK)


def offline(bank):
    bank.ONLINE = False
    bank.CALLS.clear()


def test_a_stub_answers_outputs_and_errors_in_the_order_of_the_trace(bank):
    trace = record("t.json", lambda: bank.pay(["USD", "XXX", "EUR", "YYY", "USD"]))
    offline(bank)
    (item,) = replay(trace, steps="shop.pay", stubs=["bank.rate"]).steps
    assert (str(item.outcome), item.reason, item.notes) == ("same_output", "", [])
    assert item.step.output_json == [2.0, "'XXX'", 1.0, ["NoConnection", "no connection to bank:80"], 2.0]
    assert bank.CALLS == []
    (item,) = replay(trace, steps="shop.pay").steps
    assert str(item.outcome) == "error_appeared"


def test_every_kind_of_child_can_be_a_stub_at_any_depth(bank):
    trace = record("t.json", lambda: bank.all_kinds())
    offline(bank)
    (item,) = replay(trace, steps="shop.all_kinds", stubs=["bank", "account"]).steps
    assert (str(item.outcome), item.reason) == ("same_output", "")
    assert bank.CALLS == []
    bank.ONLINE = True
    assert replay(trace, steps="shop.all_kinds").exit_code == 0
    assert sorted(bank.CALLS) == ["fetch", "kind", "list", "owner", "rate", "stream"]


def test_a_call_with_another_input_gets_the_next_answer_and_a_note(bank):
    trace = record("t.json", lambda: bank.pay(["USD", "EUR"]))
    payload = {"currencies": ["EUR", "GBP", "GBP"]}
    edit(trace, lambda document: document["steps"][-1]["invocation_json"].update(payload=payload))
    (item,) = replay(trace, steps="shop.pay", stubs=["bank"]).steps
    assert item.reason == "the stub of bank.rate was called more often than was recorded"
    edit(trace, lambda document: payload["currencies"].pop())
    edit(trace, lambda document: document["steps"][-1]["invocation_json"].update(payload=payload))
    (item,) = replay(trace, steps="shop.pay", stubs=["bank"]).steps
    assert item.output_json == [1.0, 2.0]
    assert "the stub of bank.rate was called with another input than was recorded" in item.notes


def test_a_stub_is_never_called_also_where_the_recorded_step_did_not_call_it(bank):
    trace = record("t.json", lambda: bank.pay([]), lambda: bank.rate("USD"))
    edit(trace, lambda document: document["steps"][0]["invocation_json"].update(payload={"currencies": ["USD"]}))
    bank.CALLS.clear()
    (item,) = replay(trace, steps="shop.pay", stubs=["bank.rate"]).steps
    assert item.reason == "the stub of bank.rate was called more often than was recorded"
    assert bank.CALLS == []


def test_a_step_of_a_stubbed_node_is_itself_called(bank):
    trace = record("t.json", lambda: bank.rate("USD"), lambda: bank.names(2))
    bank.CALLS.clear()
    assert replay(trace, stubs=["bank"]).exit_code == 0
    assert bank.CALLS == ["rate", "list"]


def test_a_node_that_calls_itself_is_answered_from_the_second_call_on(tmp_path):
    nodes = new_module(
        tmp_path,
        """
        from flowtrace import traced_node
        CALLS = []

        @traced_node(component="a", operation="factorial")
        def factorial(n: int) -> int:
            CALLS.append(n)
            return n * factorial(n - 1) if n else 1
        """,
    )
    trace = record("t.json", lambda: nodes.factorial(3))
    nodes.CALLS.clear()
    assert replay(trace, steps=3, stubs=["a"]).exit_code == 0
    assert nodes.CALLS == [3]


def test_steps_that_are_below_themselves_end_nothing_in_a_loop(bank):
    trace = record("t.json", lambda: bank.pay(["USD"]), lambda: bank.swallow("USD"))

    def tangle(document):
        for step in document["steps"]:
            step.update(step_id="1", parent_step_id="1")

    edit(trace, tangle)
    assert [str(item.outcome) for item in replay(trace, stubs=["bank"]).steps] == ["same_output"] * 4


def test_a_stub_without_an_answer_is_told_also_where_the_program_swallows_errors(bank):
    trace = record("t.json", lambda: bank.swallow("USD"), capture_outputs=False)
    (item,) = replay(trace, steps="shop.swallow", stubs=["bank"]).steps
    assert str(item.outcome) == "skipped"
    assert item.reason == "the stub of bank.rate has no answer: the recorded output was not captured"
    trace = record("t.json", lambda: bank.swallow("USD"))
    edit(trace, lambda document: document["steps"][0].update(opaque=["/output_json/0"]))
    (item,) = replay(trace, steps="shop.swallow", stubs=["bank"]).steps
    assert item.reason == "the stub of bank.rate has no answer: the recorded output is incomplete at /0"


def test_the_nodes_are_themselves_again_afterwards(bank):
    trace = record("t.json", lambda: bank.pay(["USD"]))
    before = bank.rate.__wrapped__
    replay(trace, steps="shop.pay", stubs=["bank"])
    assert bank.rate.__wrapped__ is before
    assert bank.rate("EUR") == ("EUR", 1.0)


def test_a_stub_that_the_trace_does_not_know_is_an_error(bank):
    trace = record("t.json", lambda: bank.pay(["USD"]))
    with pytest.raises(ReplayError, match=r"the stub 'bank\.charge' matches no step of the trace"):
        replay(trace, stubs=["bank.charge"])


def test_a_stub_that_can_not_be_found_is_a_reason(bank):
    trace = record("t.json", lambda: bank.pay(["USD"]))
    edit(trace, lambda document: document["steps"][0]["code"].update(module="os", qualname="system"))
    (item,) = replay(trace, steps="shop.pay", stubs=["bank"]).steps
    assert item.reason.startswith("bank.rate can't be stubbed: the module os is not under")


@pytest.mark.parametrize(
    "kind", ["os.system", "nowhere.Error", "subprocess.Popen", "a.b.c", "exec", "ExceptionGroup", "", "x\x00y", "<x>"]
)
def test_an_error_of_an_unknown_kind_is_raised_as_one_that_reads_the_same(bank, kind):
    trace = record("t.json", lambda: bank.pay(["XXX"]))

    def change(document):
        document["steps"][0]["error"].update(message="boo", details={"type": kind})

    edit(trace, change)
    (item,) = replay(trace, steps="shop.pay", stubs=["bank"]).steps
    assert (str(item.outcome), item.error.message if item.error else item.reason) in [
        ("error_appeared", "boo"),
        ("skipped", item.reason),
    ]
    assert outcomes(replay(trace, steps=1))[0][1] == "same_output"
