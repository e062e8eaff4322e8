"""The black box under the native core: its bytes are those of the Python writer, whatever is called."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import pickle
import signal
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import flowtrace
from flowtrace import recover, traced_node
from flowtrace.blackbox import ring_file
from flowtrace.calls.core import NATIVE
from flowtrace.host.system import CLOCK
from flowtrace.recording.state import STATE, running
from tests.programs import run_program

_RELAXED = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
needs_native = pytest.mark.skipif(NATIVE is None, reason="compares the native core with its twin")


def again(value):
    """Return an equal value: where a call has one container twice, the twin hashes at once, and the core need not."""
    return pickle.loads(pickle.dumps(value))


@traced_node
def one(value):
    return value


@traced_node
def named(value, other=3, *, third=None):
    return [value, other, third]


@traced_node(capture_inputs=False)
def two(first, second="second"):
    return {"first": first, "second": second}


@traced_node
def many(value, x=None, second="two", *, flag=False):
    return value


@traced_node
def ordinary(value, b=2.5, a="é"):
    return value


@traced_node
def nested(value):
    return one(one(value))


@traced_node
def secretive(password, value):
    return value


@traced_node
def fails(value):
    raise LookupError(f"password={value!r:.50}")


@traced_node
def items(value):
    yield value
    return value


@traced_node
async def awaited(value):
    return one(value)


@traced_node
def judged(value):
    flowtrace.current_step().add_validation_issue("odd", "/value", "is odd")
    return value


class Shop:
    @traced_node
    def sell(self, value):
        return value

    @traced_node
    def pair(self, value, other=None):
        return (value, other)

    @classmethod
    @traced_node
    def named(cls, value):
        return value


def suppressed(function, *args, **kwargs):
    with contextlib.suppress(TypeError):
        function(*args, **kwargs)


def run_body(value):
    return asyncio.run(awaited(value))


CALLS = {
    "one": one,
    "by name": lambda value: one(value=value),
    "named": named,
    "all named": lambda value: named(value, third=again(value)),
    "two": lambda value: two(value, again(value)),
    "nested": nested,
    "many": lambda value: many(value, flag=True),
    "defaults": ordinary,
    "named defaults": lambda value: ordinary(a=1, value=value),
    "does not fit": lambda value: suppressed(ordinary, value, value=1),
    "one too many": lambda value: suppressed(ordinary, value, 1, 2, 3),
    "unknown name": lambda value: suppressed(ordinary, value, c=1),
    "secretive": lambda value: secretive("hunter2", value),
    "fails": fails,
    "items": lambda value: list(items(value)),
    "closed": lambda value: next(items(value)),
    "awaited": run_body,
    "judged": judged,
    "method": lambda value: Shop().sell(value),
    "pair": lambda value: Shop().pair(value, 1),
    "of the class": Shop.named,
}
KEYS = st.sampled_from(["id", "name", "password", "$py", "", "é", "a long key " * 12]) | st.text(max_size=5)
ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals(-(10**13), 10**13, places=4).map(float)
    | st.sampled_from([0.0, -0.0, 1e15, 1e14, -1e14, 0.001, 1e-4, 1e-5, 0.1 + 0.2, 5e-324])
    | st.text(max_size=20)
    | st.sampled_from(
        ["\ud800", "password", "$py", 2**63 - 1, 2**63, -(2**63), 2**64, "x" * 3900, "é" * 2100, "\U0001f40d"]
    )
    | st.binary(max_size=5)
    | st.sampled_from([{1, 2}, 1j, Shop, range(3)])
)
VALUES = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.integers(), inner, max_size=2)
    ),
    max_leaves=12,
)
POLICIES = (
    {},
    {"capture_inputs": True, "capture_outputs": True},
    {"capture_inputs": True, "capture_outputs": True, "hash_key": "key"},
    {"capture_outputs": True, "max_value_bytes": 40},
    {"capture_inputs": True, "redactor": lambda name, value: len(name) > 4},
)


def ring_of(calls, is_native, **policy):
    """Return the bytes of a ring file's slots after some calls, with a clock that counts its readings."""
    now, numbers = CLOCK.now, CLOCK.numbers
    with tempfile.TemporaryDirectory() as folder:
        flowtrace.configure(mode="on", out_path=f"{folder}/t.json", blackbox=f"{folder}/app.ring", **policy)
        CLOCK.now, CLOCK.numbers = itertools.count(1000, 7).__next__, itertools.count(1)
        if not is_native:
            NATIVE.close_fast_path()
        try:
            for name, value in calls:
                with contextlib.suppress(LookupError):
                    CALLS[name](value)
            data = Path(folder, "app.ring").read_bytes()[ring_file.FIRST :]
        finally:
            CLOCK.now, CLOCK.numbers = now, numbers
            flowtrace.configure(mode="off")
    return data


def records_of(slots):
    """Return the steps in the bytes of slots, for a message that can be read."""
    head = ring_file.MAGIC.ljust(16, b"\0") + ring_file.framed(b"{}")
    return ring_file.parse(head.ljust(ring_file.FIRST, b"\0") + slots).steps


@pytest.mark.costly
@needs_native
@_RELAXED
@given(calls=st.lists(st.tuples(st.sampled_from(sorted(CALLS)), VALUES), max_size=12), policy=st.sampled_from(POLICIES))
def test_the_native_core_writes_the_bytes_of_its_twin(calls, policy):
    native, pure = ring_of(calls, True, **policy), ring_of(calls, False, **policy)
    assert records_of(native) == records_of(pure)
    assert native == pure


@needs_native
@pytest.mark.parametrize("kept", POLICIES[:2])
def test_small_calls_are_kept_by_reference_and_written_all_the_same(kept, tmp_path):
    flowtrace.configure(mode="on", out_path=tmp_path / "t.json", blackbox=tmp_path / "app.ring", **kept)
    values = [3, "text", None, 2.5, [1, [2]], {"id": {"total": 1}}, (1, True)]
    for value in values + values:
        assert one(value) is value
    steps = STATE.recorder.buffer.newest()[-len(values) :]  # names of keys are asked for once
    assert [(step.input, step.output) for step in steps] == [((value, None), (value,)) for value in values]
    written = recover(tmp_path / "app.ring").steps[-len(values) :]
    assert [step.input_hash.value for step in written] == [flowtrace.hash_value({"value": value}) for value in values]
    assert [step.output_hash.value for step in written] == [flowtrace.hash_value(value) for value in values]


@pytest.mark.parametrize("lengths", [range(140), range(940, 1040), range(2020, 2070)])
def test_a_text_of_any_length_has_the_hash_of_the_library(lengths, tmp_path):
    flowtrace.configure(mode="on", out_path=tmp_path / "t.json", blackbox=tmp_path / "app.ring", buffer_size=200)
    for length in lengths:
        one("x" * length)
    written = [(step.input_hash.value, step.output_hash.value) for step in recover(tmp_path / "app.ring").steps]
    values = ["x" * length for length in lengths]
    assert written == [(flowtrace.hash_value({"value": value}), flowtrace.hash_value(value)) for value in values]


@pytest.mark.costly
@needs_native
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(floats=st.lists(st.floats() | st.decimals(-(10**15), 10**15, places=5).map(float), min_size=15, max_size=15))
def test_floats_have_the_text_of_orjson(floats):
    calls = [("one", value) for value in floats]
    assert ring_of(calls, True, **POLICIES[1]) == ring_of(calls, False, **POLICIES[1])


PROGRAM = """
    import asyncio
    from flowtrace import traced_node
    from flowtrace.host.system import CLOCK
    from itertools import count

    class Shop:
        @traced_node
        def sell(self, price, *, count=1):
            return {"total": price * count}

    @traced_node
    def order(goods):
        return [Shop().sell(price) for price in goods]

    @traced_node
    async def ship(what):
        return what

    @traced_node
    def stops():
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)

    CLOCK.now = count(1000, 7).__next__
"""
RUN = """
    for value in ([1, 2.5], [], ["a"], [{"password": 1}]):
        try:
            order(value)
        except TypeError:
            pass
        asyncio.run(ship(value))
    stops()
"""


@pytest.mark.costly
@pytest.mark.parametrize("kept", [{}, {"FLOWTRACE_CAPTURE_INPUTS": "1", "FLOWTRACE_CAPTURE_OUTPUTS": "1"}])
def test_a_killed_process_leaves_the_same_steps_under_both(kept, tmp_path):
    box = {"FLOWTRACE_MODE": "on", "FLOWTRACE_OUT": "t.json", "FLOWTRACE_BLACKBOX": "app.ring"}
    found = []
    for pure in ("", "1"):
        run_program(tmp_path, PROGRAM, RUN, code=-signal.SIGKILL, FLOWTRACE_PURE=pure, **box, **kept)
        content = ring_file.read(str(tmp_path / "app.ring"))
        (tmp_path / "app.ring").unlink()
        assert content.torn == 0
        found.append(
            [(start._replace(fields=(*start.fields[:3], start.fields[4])), end) for start, end in content.steps]
        )
    assert found[0] == found[1]
    assert len(found[0]) == 13


def frames():
    frame, names = sys._getframe(1), []
    while frame is not None and frame.f_code.co_filename == __file__:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    return names


@traced_node
def looks_up():
    return frames()


@needs_native
def test_no_frame_of_ours_shows_with_a_box(tmp_path):
    flowtrace.configure(mode="on", out_path=tmp_path / "t.json", blackbox=tmp_path / "app.ring")
    assert looks_up() == ["looks_up", "test_no_frame_of_ours_shows_with_a_box"]
    assert len(recover(tmp_path / "app.ring").steps) == 1


def depth_of(function):
    """Return how deep a function can call itself."""
    deepest = 0

    def note(depth):
        nonlocal deepest
        deepest = max(deepest, depth)

    with contextlib.suppress(RecursionError):
        function(1, note)
    return deepest


@pytest.mark.costly
@needs_native
def test_a_recursion_goes_as_deep_with_a_box_as_without_us(tmp_path):
    def bare(depth, note):
        note(depth)
        return bare(depth + 1, note)

    flowtrace.configure(mode="on", out_path=tmp_path / "t.json", blackbox=tmp_path / "app.ring")

    @traced_node
    def traced(depth, note):
        note(depth)
        return traced(depth + 1, note)

    @traced_node
    def light(depth):
        return light(depth - 1) if depth else 0

    without = depth_of(bare)
    assert light(without - 10) == 0
    assert depth_of(traced) >= without - 60  # the arguments are not small: Python writes them, and needs room for that
    assert running() == []


@needs_native
def test_a_box_that_closes_while_calls_run_breaks_none(tmp_path):
    @traced_node
    def closes(value):
        flowtrace.configure(mode="on", out_path=tmp_path / "t.json")
        return value

    flowtrace.configure(mode="on", out_path=tmp_path / "t.json", blackbox=tmp_path / "app.ring")
    assert one(1) == 1
    assert closes({"a": [1]}) == {"a": [1]}
    assert not (tmp_path / "app.ring").exists()
    assert one(2) == 2
    assert running() == []


@needs_native
def test_a_forked_child_does_not_write_into_its_parents_ring(tmp_path):
    flowtrace.configure(mode="on", out_path=tmp_path / "t.json", blackbox=tmp_path / "{pid}.ring")
    path = tmp_path / f"{os.getpid()}.ring"

    @traced_node
    def forks(value):
        child = os.fork()
        if child:
            os.waitpid(child, 0)
        return child

    before = os.getpid()
    assert one("before") == "before"
    child = forks(1)
    if os.getpid() != before:
        one("in the child")
        os._exit(0)
    trace = recover(path)
    assert [step.operation.rpartition(".")[2] for step in trace.steps] == ["one", "forks"]
    theirs = recover(tmp_path / f"{child}.ring")
    assert [step.operation.rpartition(".")[2] for step in theirs.steps] == ["forks", "one"]
