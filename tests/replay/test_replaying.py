"""A recorded step is called again: what is found, what is compared, and what is left as it was."""

from __future__ import annotations

import asyncio
import os
import sys
from functools import partial
from pathlib import Path

import pytest

import flowtrace
from flowtrace import ReplayError, ReplayOutcome, TraceFileError, configure, dump, override, replay, traced_node
from flowtrace.host.switch import MUTED, SWITCH
from flowtrace.recording.state import CURRENT, running
from tests.replay.workshop import edit, new_module, outcomes, record

SHOP = """
    import asyncio
    from dataclasses import dataclass
    from flowtrace import traced_node, flow

    RATE = 2.0

    @dataclass
    class Order:
        item: str
        count: int
        size: tuple[int, int] = (1, 1)

    class OutOfStock(Exception):
        pass

    @traced_node(component="shop", operation="price")
    def price(order: Order, *more: Order, rate: float = 1.0, **options: tuple[int, ...]) -> float:
        if order.item == "gold":
            raise OutOfStock(f"no {order.item}")
        assert isinstance(order.size, tuple)
        assert all(isinstance(value, tuple) for value in options.values())
        return order.count * rate * RATE + len(more)

    @traced_node(component="shop", operation="total")
    def total(orders: list[Order]) -> float:
        return sum(price(order) for order in orders)

    @traced_node(component="shop", operation="fetch")
    async def fetch(name: str) -> str:
        await asyncio.sleep(0)
        if not name:
            raise ValueError("no name")
        return name.upper()

    @traced_node(component="shop", operation="numbers")
    def numbers(count: int):
        yield from range(count)
        return "done"

    @traced_node(component="shop", operation="endless")
    def endless():
        number = 0
        while True:
            yield number
            number += 1

    @traced_node(component="shop", operation="stream")
    async def stream(count: int):
        for number in range(count):
            await asyncio.sleep(0)
            yield number

    class Cart:
        def __init__(self, name="cart"):
            self.name = name

        @traced_node(component="cart", operation="add")
        def add(self, item: str) -> str:
            return f"{self.name}: {item}"

        @classmethod
        @traced_node(component="cart", operation="named")
        def named(cls, name: str) -> str:
            return cls.__name__ + name

        @traced_node(component="cart", operation="outer_named")
        @classmethod
        def outer_named(cls, name: str) -> str:
            return cls.__name__ + name

        @staticmethod
        @traced_node(component="cart", operation="check")
        def check(name: str) -> bool:
            return bool(name)

        @property
        @traced_node(component="cart", operation="label")
        def label(self) -> str:
            return self.name

    def make_cart():
        return Cart()

    @flow("night")
    @traced_node(component="shop", operation="nightly")
    def nightly(day: int) -> int:
        return day

    @traced_node(component="shop", operation="login")
    def login(user: str, password: str) -> bool:
        return True

    @traced_node(component="shop", operation="token")
    def token(user: str) -> dict:
        return {"token": user * 2, "user": user}

    @traced_node(component="shop", operation="handle")
    def handle(thing) -> int:
        return 1

    @traced_node(component="shop", operation="leave")
    def leave() -> None:
        raise SystemExit(3)
"""


@pytest.fixture
def shop(tmp_path):
    return new_module(tmp_path, SHOP)


def test_outputs_and_errors_are_the_same(shop):
    order, gold = shop.Order("tea", 2), shop.Order("gold", 1)
    trace = record(
        "t.json",
        lambda: shop.price(order, order, rate=3.0, extra=(1, 2)),
        lambda: shop.total([order, gold]),
        lambda: shop.price(),
    )
    report = replay(trace, until_failure=False)
    assert outcomes(report) == [
        ("price", "same_output", ""),
        ("price", "same_output", ""),
        ("price", "same_error", ""),
        ("total", "same_error", ""),
        ("price", "same_error", ""),
    ]
    assert [item.exact_input for item in report.steps] == [True] * 5
    assert [item.code_changed for item in report.steps] == [False] * 5
    assert report.exit_code == 0
    assert report.is_as_recorded
    assert report.counts() == {ReplayOutcome.SAME_OUTPUT: 2, ReplayOutcome.SAME_ERROR: 3}


def test_by_default_the_first_failing_step_is_the_last(shop):
    orders = [shop.Order("tea", 1), shop.Order("gold", 1)]
    trace = record("t.json", lambda: shop.total(orders), lambda: shop.total(orders[:1]))
    assert [item.number for item in replay(trace).steps] == [0, 1]
    assert [item.number for item in replay(trace, until_failure=False).steps] == [0, 1, 2, 3, 4]


def test_steps_are_chosen_by_number_step_id_or_node_id(shop):
    trace = record("t.json", lambda: shop.total([shop.Order("tea", 1)]), lambda: shop.price(shop.Order("gold", 1)))
    loaded = flowtrace.load_trace(trace)

    def chosen(steps):
        return [item.number for item in replay(trace, steps=steps).steps]

    assert chosen(1) == [1]
    assert chosen(loaded.steps[1].step_id) == [1]
    assert chosen(["shop.price", 1]) == [0, 1, 2]
    with pytest.raises(ReplayError) as caught:
        chosen("shop.nothing")
    assert str(caught.value) == (
        "there is no step 'shop.nothing': the trace has the steps 0 to 2; a step id or node id also chooses one"
    )


def test_a_change_of_the_program_shows(shop):
    trace = record("t.json", lambda: shop.price(shop.Order("tea", 2)))
    shop.RATE = 3.0
    report = replay(trace, until_failure=False)
    assert outcomes(report)[0] == ("price", "different_output", "its output differs")
    assert report.steps[0].output_json == 6.0
    assert report.steps[0].step.output_json == 4.0
    assert report.exit_code == 1


CHANGES = """
    from flowtrace import traced_node
    HOW = "recorded"

    @traced_node(component="a", operation="returns")
    def returns(x: int):
        if HOW == "recorded":
            return x
        raise KeyError(x)

    @traced_node(component="a", operation="raises")
    def raises(x: int):
        if HOW == "recorded":
            raise KeyError(x)
        return x

    @traced_node(component="a", operation="raises_other")
    def raises_other(x: int):
        raise KeyError(x) if HOW == "recorded" else ValueError(x)

    @traced_node(component="a", operation="address")
    def address(x: int):
        raise ValueError(object())
"""


def test_errors_that_vanish_appear_or_change_are_told_apart(tmp_path):
    nodes = new_module(tmp_path, CHANGES)
    calls = [lambda: nodes.returns(1), lambda: nodes.raises(1), lambda: nodes.raises_other(1), lambda: nodes.address(1)]
    trace = record("t.json", *calls)
    assert [item.outcome for item in replay(trace, until_failure=False).steps] == [
        ReplayOutcome.SAME_OUTPUT,
        *[ReplayOutcome.SAME_ERROR] * 3,
    ]
    nodes.HOW = "now"
    report = replay(trace, until_failure=False)
    assert outcomes(report) == [
        ("returns", "error_appeared", "KeyError: 1"),
        ("raises", "error_vanished", "it ended well; the recorded error is KeyError: 1"),
        ("raises_other", "different_error", "ValueError: 1, not KeyError: 1"),
        ("address", "same_error", ""),
    ]
    assert report.steps[0].error.details["frames"][-1]["function"] == "returns"
    assert report.exit_code == 1
    assert [str(item.outcome) for item in replay(trace, steps=0, compare_hashes=False).steps] == ["error_appeared"]


def test_without_comparing_hashes_only_errors_count(shop):
    trace = record("t.json", lambda: shop.price(shop.Order("tea", 2)))
    edit(trace, lambda document: document["steps"][0]["output_hash"].update(value="0" * 64))
    assert outcomes(replay(trace, compare_hashes=False)) == [("price", "ended_well", "")]
    assert replay(trace, compare_hashes=False).exit_code == 0
    assert replay(trace).exit_code == 1


def test_every_shape_of_function_is_run_to_its_end(shop):
    def three_of_endless():
        generator = shop.endless()
        for _ in range(3):
            next(generator)
        generator.close()

    trace = record(
        "t.json",
        lambda: shop.fetch("tea"),
        lambda: shop.fetch(""),
        lambda: shop.numbers(3),
        three_of_endless,
        lambda: shop.stream(2),
        lambda: shop.Cart.named("x"),
        lambda: shop.Cart.outer_named("x"),
        lambda: shop.Cart().check("x"),
        lambda: shop.nightly(3),
    )
    report = replay(trace, until_failure=False)
    assert outcomes(report) == [
        ("fetch", "same_output", ""),
        ("fetch", "same_error", ""),
        ("numbers", "same_output", ""),
        ("endless", "same_output", ""),
        ("stream", "same_output", ""),
        ("named", "same_output", ""),
        ("outer_named", "same_output", ""),
        ("check", "same_output", ""),
        ("nightly", "same_output", ""),
    ]


def test_it_works_inside_a_running_event_loop_and_inside_a_node(shop):
    trace = record("t.json", lambda: shop.fetch("tea"), lambda: shop.stream(2))

    @traced_node
    def outer():
        return replay(trace).exit_code

    async def main():
        return outer()

    with override(mode="on", out_path="other.json"):
        assert asyncio.run(main()) == 0
    assert not Path("other.json").exists()


def test_a_method_needs_a_receiver(shop):
    trace = record("t.json", lambda: shop.Cart().add("tea"), lambda: shop.Cart().label)
    missing = "it is an instance method: name a function that makes its object, --receiver MODULE:FACTORY"
    report = replay(trace)
    assert outcomes(report) == [("add", "skipped", missing), ("label", "skipped", missing)]
    assert report.exit_code == 1
    for receiver in (shop.Cart, f"{shop.__name__}:make_cart", f"{shop.__name__}:Cart"):
        assert [str(item.outcome) for item in replay(trace, receiver=receiver).steps] == ["same_output"] * 2
    other = replay(trace, receiver=lambda: shop.Cart("other"))
    assert [item.outcome for item in other.steps] == [ReplayOutcome.DIFFERENT_OUTPUT] * 2
    wrong = replay(trace, receiver=dict)
    assert outcomes(wrong)[0] == ("add", "skipped", f"the receiver is of type dict, not {shop.__name__}.Cart")
    namesake = replay(trace, receiver=type("Cart", (), {"__module__": "other"}))
    reason = f"the receiver is of type other.Cart, not {shop.__name__}.Cart"
    assert outcomes(namesake)[0] == ("add", "skipped", reason)


@pytest.mark.parametrize(
    ("receiver", "complaint"),
    [
        ("os:getcwd", "the receiver 'os:getcwd' can't be made: the module os is not under the working folder"),
        ("{}:nothing", "can't be made: the module {} has no nothing"),
        ("{}.Cart", "the receiver '{}.Cart' can't be made: its form is MODULE:FACTORY, as in shop:make_cart"),
        ("{}:RATE", "the receiver '{}:RATE' can't be made: it is not callable"),
        (lambda: 1 / 0, "the receiver can't be made: ZeroDivisionError: division by zero"),
    ],
)
def test_a_receiver_that_can_not_be_made_is_an_error(shop, receiver, complaint):
    trace = record("t.json", lambda: shop.Cart().add("tea"))
    given = receiver.format(shop.__name__) if isinstance(receiver, str) else receiver
    with pytest.raises(ReplayError) as caught:
        replay(trace, receiver=given)
    assert complaint.format(shop.__name__) in str(caught.value)


# --- why steps are skipped


def test_what_was_not_captured_whole_is_skipped(shop):
    trace = record(
        "t.json",
        lambda: shop.login("ada", "secret"),
        lambda: shop.handle(object()),
        lambda: shop.handle(lambda: 1),
    )
    assert outcomes(replay(trace)) == [
        ("login", "skipped", "its input is redacted at /password"),
        ("handle", "skipped", "its input is opaque at /thing: register_codec records such objects"),
        ("handle", "skipped", "its input is opaque at /thing: register_codec records such objects"),
    ]
    assert replay(trace).exit_code == 1
    hidden = record("u.json", lambda: shop.handle(1), capture_inputs=False)
    assert outcomes(replay(hidden)) == [
        ("handle", "skipped", "its input was not captured: FLOWTRACE_CAPTURE_INPUTS=1 keeps it next time")
    ]


def test_a_value_that_was_cut_is_skipped(shop):
    trace = record("t.json", lambda: shop.handle(1))
    cut = {"$py": "cut", "reason": "larger than FLOWTRACE_MAX_VALUE_BYTES", "size": 9}
    edit(trace, lambda document: document["steps"][0]["invocation_json"].update(payload=cut))
    reason = "its input was cut: larger than FLOWTRACE_MAX_VALUE_BYTES"
    assert outcomes(replay(trace)) == [("handle", "skipped", reason)]


def test_a_large_input_comes_from_its_payload_file(shop):
    trace = record("traces/t.json", lambda: shop.handle("x" * 1000), max_value_bytes=100)
    assert flowtrace.load_trace(trace).steps[0].invocation_path is not None
    assert outcomes(replay(trace)) == [("handle", "same_output", "")]
    assert outcomes(replay(flowtrace.load_trace(trace), payloads="traces")) == [("handle", "same_output", "")]
    (item,) = replay(flowtrace.load_trace(trace)).steps
    assert item.reason.endswith("and the folder of the trace is not known")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("flow_error", "the flow failed outside any node"),
        ("node_cancelled", "it was cancelled from outside"),
        ("node_interrupted", "it was interrupted from outside"),
        (
            "process_died",
            "its process died, and this one would, too; to call it all the same, choose the step by its number",
        ),
    ],
)
def test_what_ended_from_outside_is_not_repeated(shop, code, reason):
    trace = record("t.json", lambda: shop.handle(1))
    error = {"code": code, "message": "", "details": None}
    edit(trace, lambda document: document["steps"][0].update(error=error))
    assert outcomes(replay(trace)) == [("handle", "skipped", reason)]
    explicit = replay(trace, steps=0).steps[0].outcome
    assert explicit == ("error_vanished" if code == "process_died" else "skipped")


def test_an_exit_of_the_function_itself_is_repeated(shop):
    with override(mode="on", capture_inputs=True, out_path="t.json"):
        with pytest.raises(SystemExit):
            shop.leave()
    assert outcomes(replay("t.json")) == [("leave", "same_error", "")]


def test_a_failure_that_could_not_be_replayed_is_no_success(shop):
    trace = record("t.json", lambda: shop.handle(1), lambda: shop.price(shop.Order("gold", 1)))
    edit(trace, lambda document: document["steps"][1].pop("invocation_json"))
    report = replay(trace)
    assert [str(item.outcome) for item in report.steps] == ["same_output", "skipped"]
    assert report.exit_code == 1


# --- changed signatures and classes


def test_a_new_parameter_keeps_its_default_and_a_gone_one_is_told(tmp_path):
    nodes = new_module(
        tmp_path,
        """
        from flowtrace import traced_node

        @traced_node(component="a", operation="f")
        def f(x: int, y: int = 5, *, z: int = 6):
            return [x, y, z]
        """,
    )
    trace = record("t.json", lambda: nodes.f(1))

    def payload(*gone, **new):
        def change(document):
            found = document["steps"][0]["invocation_json"]["payload"]
            for name in gone:
                del found[name]
            found.update(new)

        return change

    edit(trace, payload("y"))
    (item,) = replay(trace).steps
    assert (item.outcome, item.exact_input) == (ReplayOutcome.SAME_OUTPUT, True)
    edit(trace, payload("x"))
    (item,) = replay(trace).steps
    assert item.reason == "f now takes 'x', which was not recorded and has no default"
    edit(trace, payload(x=1, old=2))
    (item,) = replay(trace).steps
    assert item.reason == "f no longer takes 'old'"


def test_an_input_that_is_not_rebuilt_exactly_is_told(shop):
    trace = record("t.json", lambda: shop.handle(1))
    edit(trace, lambda document: document["steps"][0]["invocation_json"]["payload"].update(thing=2))
    (item,) = replay(trace).steps
    assert item.exact_input is False
    assert item.notes == ["the input could not be rebuilt exactly: its hash differs from the recorded one"]
    assert item.outcome is ReplayOutcome.SAME_OUTPUT


def test_changed_code_is_told(shop):
    trace = record("t.json", lambda: shop.handle(1))
    edit(trace, lambda document: document["steps"][0]["code"]["hash"].update(value="0" * 64))
    assert replay(trace).steps[0].code_changed is True


def test_nan_infinities_and_none_are_replayed_as_they_were(tmp_path):
    nodes = new_module(
        tmp_path,
        """
        from flowtrace import traced_node

        @traced_node(component="a", operation="twice")
        def twice(x: float) -> float:
            return x * 2
        """,
    )
    numbers = map(float, ("nan", "inf", "-inf"))
    trace = record("t.json", *(partial(nodes.twice, number) for number in numbers), lambda: nodes.twice(None))
    found = replay(trace, until_failure=False)
    assert [item.exact_input for item in found.steps] == [True] * 4
    assert outcomes(found) == [("twice", "same_output", "")] * 3 + [("twice", "same_error", "")]


# --- hashes: redaction and keys


def test_redacted_outputs_hash_as_they_did(shop):
    trace = record("t.json", lambda: shop.token("ada"), redact=("user",))
    edit(trace, lambda document: document["steps"][0].update(redacted=["/output_json/token", "/output_json/user"]))
    edit(trace, lambda document: document["steps"][0]["invocation_json"].update(payload={"user": "ada"}))
    assert outcomes(replay(trace)) == [("token", "same_output", "")]


def test_keyed_hashes_are_compared_with_the_key_and_told_of_without(shop):
    trace = record("t.json", lambda: shop.handle(1), hash_key="k", capture_outputs=False)
    (item,) = replay(trace).steps
    assert (item.outcome, item.exact_input) == (ReplayOutcome.ENDED_WELL, None)
    assert item.reason == "its output can't be compared without the key of the hashes"
    assert item.notes == ["hashes are keyed: set FLOWTRACE_HASH_KEY to compare them"]
    configure(mode="off", hash_key="k")
    (item,) = replay(trace).steps
    assert (item.outcome, item.exact_input) == (ReplayOutcome.SAME_OUTPUT, True)
    configure(mode="off", hash_key="other")
    assert replay(trace).steps[0].outcome is ReplayOutcome.DIFFERENT_OUTPUT


def test_without_the_key_captured_outputs_are_compared_themselves(shop):
    trace = record("t.json", lambda: shop.handle(1), hash_key="k")
    assert replay(trace).steps[0].outcome is ReplayOutcome.SAME_OUTPUT
    edit(trace, lambda document: document["steps"][0].update(output_json=2))
    assert replay(trace).steps[0].outcome is ReplayOutcome.DIFFERENT_OUTPUT


# --- everything else stays as it was


def test_nothing_is_written_and_the_recorder_is_the_one_that_it_was(tmp_path, monkeypatch):
    source = """
        import os
        import flowtrace
        from flowtrace import traced_node, TraceRecorder, TraceConfig, TraceContext, NodeEvent
        LOUD = "LOUD" in os.environ
        if LOUD:
            flowtrace.configure(mode="always", out_path="loaded.json")

        @traced_node(component="a", operation="noisy")
        def noisy(x: int):
            if not LOUD:
                raise ValueError(x)
            flowtrace.dump("dumped.json")
            with flowtrace.flow("inner"):
                pass
            recorder = TraceRecorder(TraceConfig(out_path="engine.json"), TraceContext("p", "f"))
            recorder.on_node_error(NodeEvent("n", "c", "o", {}), ValueError("no"))
            raise ValueError(x)

        @traced_node(component="a", operation="reconfigures")
        def reconfigures(x: int):
            if LOUD:
                flowtrace.configure(mode="always", out_path="body.json")
            return x
    """
    nodes = new_module(tmp_path, source)
    trace = record("t.json", lambda: nodes.noisy(1), lambda: nodes.reconfigures(1))
    monkeypatch.setenv("LOUD", "1")
    recorder = configure(mode="always", out_path="mine.json")
    del sys.modules[nodes.__name__]
    before = (list(sys.path), sys.modules["__main__"], running(), CURRENT.get(), dict(os.environ))
    report = replay(trace, until_failure=False)
    assert outcomes(report) == [
        ("noisy", "same_error", ""),
        ("reconfigures", "skipped", "it replaced the recorder during the replay"),
    ]
    assert flowtrace.get_recorder() is recorder
    assert (list(sys.path), sys.modules["__main__"], running(), CURRENT.get(), dict(os.environ)) == before
    assert (SWITCH, MUTED) == (["on"], [])
    assert sorted(path.name for path in tmp_path.glob("*.json")) == ["t.json"]
    assert dump() == tmp_path / "mine.json"


def test_the_state_before_first_use_comes_back(shop):
    trace = record("t.json", lambda: shop.handle(1))
    with flowtrace.testing.pristine():
        replay(trace)
        assert SWITCH == ["unread"]


def test_the_kill_switch_stops_what_is_written_not_the_replay(shop, monkeypatch):
    trace = record("t.json", lambda: shop.handle(1))
    monkeypatch.setenv("FLOWTRACE_DISABLED", "1")
    assert replay(trace).exit_code == 0


def test_ctrl_c_ends_the_replay_and_restores_everything(tmp_path):
    nodes = new_module(
        tmp_path,
        """
        from flowtrace import traced_node
        STOP = False

        @traced_node(component="a", operation="f")
        def f(x: int):
            if STOP:
                raise KeyboardInterrupt
        """,
    )
    trace = record("t.json", lambda: nodes.f(1))
    nodes.STOP = True
    with pytest.raises(KeyboardInterrupt):
        replay(trace)
    assert MUTED == []


def test_on_error_is_told_of_each_exception(shop):
    trace = record("t.json", lambda: shop.price(shop.Order("gold", 1)))
    seen = []
    replay(trace, on_error=lambda result, error: seen.append((result.number, result.outcome, type(error), str(error))))
    assert seen == [(0, ReplayOutcome.SAME_ERROR, shop.OutOfStock, "no gold")]


def test_what_is_no_trace_is_refused(tmp_path):
    (tmp_path / "t.json").write_text("[]")
    with pytest.raises(TraceFileError):
        replay("t.json")
    with pytest.raises(FileNotFoundError):
        replay("nowhere.json")
    with pytest.raises(ReplayError, match=r"the working folder '.*nowhere' is not a folder"):
        (tmp_path / "t.json").write_text(
            '{"trace_version":1,"pack":{"pack_ref":"p"},"flow":{"id":"f","version":"1"},"steps":[]}'
        )
        replay("t.json", working_folder="nowhere")
    assert replay("t.json").exit_code == 1


def test_the_report_is_a_json_document(shop):
    trace = record("t.json", lambda: shop.handle(1))
    report = replay(trace)
    (step,) = report.document()["steps"]
    assert step.pop("duration_ns") > 0
    output = {"output_hash": {"algorithm": "blake3", "value": flowtrace.hash_value(1).value}, "output_json": 1}
    assert report.document()["counts"] == {"same_output": 1}
    assert step == {
        "number": 0,
        "step_id": report.steps[0].step.step_id,
        "node_id": "shop.handle",
        "outcome": "same_output",
        "reason": None,
        "recorded": output,
        "replayed": output,
        "exact_input": True,
        "code_changed": False,
        "notes": [],
    }


ELSEWHERE = Path(__file__).with_name("elsewhere")


@pytest.mark.parametrize("trace", sorted(ELSEWHERE.glob("*.json")), ids=lambda path: path.stem)
def test_traces_of_other_pythons_are_replayed(trace):
    report = replay(trace, working_folder=ELSEWHERE, until_failure=False)
    assert [(item.step.operation, str(item.outcome), item.exact_input, item.code_changed) for item in report.steps] == [
        ("described", "same_output", True, False),
        ("numbers", "same_output", True, False),
        ("gathered", "same_output", True, False),
        ("failing", "same_error", True, False),
    ]
    assert len(list(ELSEWHERE.glob("*.json"))) == 3
