"""The texts of plain steps by the native core: byte for byte those that are made in the ordinary way."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import flowtrace
from flowtrace import current_step, traced_node
from flowtrace.calls.core import NATIVE
from flowtrace.host.system import CLOCK
from flowtrace.recording import step_lines, to_records
from flowtrace.testing import fixed_clock
from tests.test_core_box import CALLS, VALUES

pytestmark = pytest.mark.skipif(NATIVE is None, reason="compares the native core with the ordinary way")
CAPTURED = {"capture_inputs": True, "capture_outputs": True}
POLICIES = (
    {},
    CAPTURED,
    {"capture_inputs": True},
    CAPTURED | {"hash_key": "key"},
    CAPTURED | {"max_value_bytes": 40},
    CAPTURED | {"max_value_work": 5},
    CAPTURED | {"redact": ["id"]},
    CAPTURED | {"redactor": lambda name, value: len(name) > 4},
)
_NUMBERS = itertools.count()
ORDER = {"id": 7, "price": 12.5, "name": "desk", "tags": [], "sizes": {"a": [1, [2]], "b": {}}}


def text_of(program, *, is_ordinary=False, **policy):
    """Return the bytes of the trace of a flow, and the operations of the steps that were made in the ordinary way."""
    made = []
    record = to_records.record_of

    def noted(step, *more):
        if step.node.function is not None:  # not the step that stands for the flow's own error
            made.append(step.node.operation)
        return record(step, *more)

    with pytest.MonkeyPatch.context() as changes, fixed_clock():
        changes.setattr(to_records, "record_of", noted)
        if is_ordinary:
            changes.setattr(step_lines, "NATIVE", None)
        path = Path(f"{next(_NUMBERS)}/t.json")  # each has a throttle of its own, which may read the clock once more
        flowtrace.configure(mode="on", out_path=path, **policy)
        try:
            with contextlib.suppress(LookupError), flowtrace.flow("shop"):
                program()
                raise LookupError
            return path.read_bytes(), made
        finally:
            flowtrace.configure(mode="off")
            path.unlink(missing_ok=True)


def left_over(program, **policy):
    """Check that both ways make the same bytes. Return what the native core has left to the ordinary way."""
    expected, _ = text_of(program, is_ordinary=True, **policy)
    text, made = text_of(program, **policy)
    assert text.decode() == expected.decode()
    return made


@pytest.mark.parametrize("policy", POLICIES[:3])
def test_the_first_step_of_each_shape_is_made_in_the_ordinary_way(policy):
    @traced_node(operation="price")
    def price(order, scale=2):
        return {"id": order["id"], "total": order["price"] * scale}

    @traced_node(operation="refuse")
    def refuse(order):
        raise KeyError(order["id"])

    class Shop:
        @traced_node(operation="sell")
        def sell(self, amount, count=1):
            return [amount] * count

    def program():
        for _ in range(3):
            price(ORDER)
            price(scale=0.1, order=ORDER)
            Shop().sell(True)
            Shop().sell(count=2, amount=None)
            with contextlib.suppress(KeyError):
                refuse(ORDER)

    assert left_over(program, **policy) == ["price", "sell", "refuse"]
    assert left_over(program, **policy) == []


def test_a_step_that_is_not_like_the_others_is_made_in_the_ordinary_way():
    values = {
        "plain": 1,
        "key that was not asked for": {"planet": 1},
        "word": "desk",
        "sentence": "a large desk, and a chair",
        "long": "x" * 2000,
        "secret": {"password": "hunter2-hunter2"},
        "looks like one": "sk-" + "a1B2" * 8,
        "tag": {"$py": "set"},
        "not a number": float("nan"),
        "large number": 2**70,
        "lone surrogate": "\ud800",
        "bytes": b"desk",
        "set": {1},
        "many keys": dict.fromkeys(map(str, range(40))),
        "last": None,
    }

    @traced_node
    def same(value):
        return value

    def program(name):
        same(0)
        same(values[name])

    left_over(lambda: same(0), **CAPTURED)
    left = {name for name in values if left_over(lambda name=name: program(name), **CAPTURED)}
    assert left == values.keys() - {"plain", "key that was not asked for", "word", "sentence", "last"}


def test_a_step_with_notes_is_made_in_the_ordinary_way():
    @traced_node(operation="odd")
    def odd(value):
        current_step().add_validation_issue("odd", "/value", "is odd")
        return value

    @traced_node(operation="stored")
    def stored(value):
        current_step().record_state_delta({"value": value})
        return value

    def program():
        odd(1)
        stored(2)

    assert left_over(program, **CAPTURED) == ["odd", "stored"]
    assert left_over(program, **CAPTURED) == ["odd", "stored"]


@pytest.mark.parametrize("name", ["<gap 7>", "<gap alone 1>", 'a "<gap alone 4>'])
def test_a_name_that_looks_like_a_gap_is_no_gap(name):
    @traced_node(node_id=name, operation="odd")
    def odd(value):
        return value

    assert left_over(lambda: [odd(value) for value in range(3)], **CAPTURED) == ["odd"] * 3


def test_a_secret_name_of_a_function_or_a_parameter_is_known_each_time():
    @traced_node
    def get_token(number):
        return number

    @traced_node
    def check(password):
        return 1

    text, _ = text_of(lambda: [get_token(83_529) or check(83_529) for _ in range(3)], **CAPTURED)
    left_over(lambda: [(get_token(83_529), check(83_529)) for _ in range(3)], **CAPTURED)
    assert b"83529" not in text.replace(b'"number": 83529', b"")


@pytest.mark.parametrize(
    "wall", [0, 1, 86_399 * 10**9, 951_782_399_999_999_000, 951_868_800 * 10**9, 2**62 - 1, 253_402_300_790 * 10**9]
)
def test_times_of_all_ages(wall):
    @traced_node
    def same(value):
        return value

    def program():
        CLOCK.wall, CLOCK._wall_origin = (lambda: wall), wall
        for number in range(10):
            same(number)

    left_over(program)


def test_what_is_no_piece_is_refused():
    steps = []

    @traced_node
    def same(value):
        steps.append(current_step())
        return value

    flowtrace.configure(mode="on", out_path="t.json")
    same(0)  # the first call of a function is recorded in Python
    same(1)
    step = steps[1]
    for piece in ("text", -1, 9, 2**80, None):
        with pytest.raises((TypeError, OverflowError)):
            NATIVE.step_lines(step, (b"", piece), ("value",), (), set(), repr, 0, 100, False)
    with pytest.raises(TypeError):
        NATIVE.step_lines(None, (), (), (), set(), repr, 0, 100, False)
    assert NATIVE.step_lines(step, (b"a", 0, b"b"), ("value",), (), set(), repr, 0, 100, False) is None  # has a result
    pieces = (b"  a ", 1, b"|", 3, b"|", 2)
    assert (
        NATIVE.step_lines(step, pieces, ("value",), (), set(), repr, 0, 100, False)[:21] == b'  a {\n    "value": 1\n'
    )
    assert NATIVE.step_lines(step, pieces, ("value",), (), set(), repr, 0, 3, False) is None  # too long


@pytest.mark.costly
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(calls=st.lists(st.tuples(st.sampled_from(sorted(CALLS)), VALUES), max_size=8), policy=st.sampled_from(POLICIES))
def test_both_ways_make_the_same_bytes(calls, policy):
    def program():
        for name, value in calls * 2:
            with contextlib.suppress(LookupError):
                CALLS[name](value)

    left_over(program, **policy)
