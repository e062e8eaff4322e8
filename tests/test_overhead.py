"""The governor of what values cost, with clocks of its own; and the values that it leaves out."""

from __future__ import annotations

import json
import weakref

import pytest

import flowtrace
from flowtrace import validate
from flowtrace.calls.core import NATIVE
from flowtrace.host import log
from flowtrace.recording import governor
from flowtrace.recording.call_values import canonical_output
from flowtrace.recording.governor import GRACE, Governor
from flowtrace.recording.node import Node, Policy
from flowtrace.recording.process import global_recorder
from flowtrace.recording.state import STATE
from flowtrace.settings.config import TraceConfig
from flowtrace.values.encoded import hash_bytes
from tests.programs import run_program

SECOND = 1_000_000_000
MARK = {"$py": "cut", "count": 0, "reason": "overhead"}


class Clocks:
    """The clocks of a governor; a value takes `cost` of all."""

    def __init__(self, share=0.1):
        self.wall = self.work = self.others = 0
        self.governor = Governor(share, lambda: self.wall, lambda: self.work, lambda: self.work + self.others)

    def value(self, node, cost, pause=0, waits=0, others=0):
        """Encode a value after a pause; return True if it was recorded.

        Meanwhile other processes, or other threads of this one, have the processor.
        """
        self.wall += pause
        begun = self.governor.begin(node)
        if begun is None:
            return False
        self.wall += cost + waits + others
        self.work += cost
        self.others += others
        self.governor.end(node, begun)
        return True


def node(name):
    return Node("c", name, f"c.{name}")


@pytest.fixture(autouse=True)
def _real_grace(pristine, monkeypatch):
    monkeypatch.setattr(governor, "GRACE", GRACE)


@pytest.fixture
def warnings(monkeypatch):
    found = []
    log.forget()
    monkeypatch.setattr(log, "warn", lambda event, **fields: found.append((event, fields)))
    return found


def test_nothing_is_left_out_of_the_first_values(warnings):
    clocks, one = Clocks(), node("one")
    assert all(clocks.value(one, GRACE // 10) for _ in range(10))
    assert warnings == []


@pytest.mark.parametrize("cost", [SECOND // 1000, SECOND // 100, SECOND // 3, SECOND])
def test_the_costliest_nodes_are_left_out_until_it_falls(cost, warnings):
    clocks, cheap, costly = Clocks(), node("cheap"), node("costly")
    while clocks.value(costly, cost):
        assert clocks.value(cheap, 1000)
    assert all(clocks.value(cheap, 1000) for _ in range(10))
    assert not clocks.value(costly, SECOND // 100)
    assert not clocks.value(costly, SECOND // 100, pause=SECOND // 10)
    assert clocks.value(costly, SECOND // 100, pause=20 * SECOND)
    assert warnings == [
        (
            "recording the values of a node takes too much of the time: for now they are left out",
            {"node": "c.costly", "limit": 0.1, "count": 1},
        )
    ]


def test_without_credit_other_nodes_take_little_before_they_are_left_out(warnings):
    clocks, costly, others = Clocks(), node("costly"), [node(str(number)) for number in range(5)]
    while clocks.value(costly, SECOND // 10, pause=SECOND // 10):
        pass
    before = clocks.work
    for number in range(1000):
        clocks.value(others[number % 5], SECOND // 1000)
    assert 0 < clocks.work - before <= 0.03 * clocks.wall


@pytest.mark.parametrize("share", [0.05, 0.1, 0.5])
def test_values_take_no_more_than_their_share(share, warnings):
    clocks, nodes = Clocks(share), [node(str(number)) for number in range(5)]
    for number in range(20_000):
        clocks.value(nodes[number % 5], 2_000_000, pause=1_000_000)
    assert GRACE < clocks.work <= GRACE + share * clocks.wall + 10_000_000


def test_values_that_take_less_than_their_share_are_all_recorded(warnings):
    clocks, one = Clocks(), node("one")
    assert all(clocks.value(one, 1_000_000, pause=10_000_000) for _ in range(5000))
    assert warnings == []


def test_what_other_threads_do_meanwhile_is_no_cost(warnings):
    clocks, one = Clocks(), node("one")
    assert all(clocks.value(one, 1_000_000, pause=10_000_000, others=100_000_000) for _ in range(5000))
    assert warnings == []


def test_that_the_program_waits_for_the_processor_is_a_cost(warnings):
    clocks, one = Clocks(), node("one")
    recorded = sum(clocks.value(one, 1_000_000, pause=10_000_000, waits=10_000_000) for _ in range(5000))
    assert 0.09 * clocks.wall < recorded * 11_000_000 < GRACE + 0.1 * clocks.wall + 50_000_000


def test_functions_that_are_made_again_and_again_are_let_go(warnings):
    clocks = Clocks()
    nodes = [node(str(number)) for number in range(3000)]
    kept = [weakref.ref(made.function) for made in nodes if setattr(made, "_live", lambda: None) is None]
    for made in nodes:
        assert clocks.value(made, 1000)
    del nodes, made
    assert sum(function() is not None for function in kept) <= 1000


def test_the_setting():
    assert TraceConfig().max_overhead == 0.1
    assert TraceConfig.from_env({"FLOWTRACE_MAX_OVERHEAD": "off"}).max_overhead == 0
    assert TraceConfig.from_env({"FLOWTRACE_MAX_OVERHEAD": "0.25"}).max_overhead == 0.25
    assert Policy(TraceConfig(max_overhead=0)).governor is None
    with pytest.raises(flowtrace.ConfigError, match="it takes a number from 0 to 1; 0 or off for no limit"):
        TraceConfig(max_overhead=2)


@flowtrace.traced_node(component="c")
def same(value):
    return value


@flowtrace.traced_node(component="c")
def each(values):
    yield from values


@flowtrace.traced_node(component="c")
def fail(value):
    raise ValueError("boom")


class LeavesOut:
    """A governor that leaves out all values from the given one on."""

    def __init__(self, first):
        self.first = first
        self.left_out = set()

    def begin(self, _node):
        self.first -= 1
        return (0,) if self.first >= 0 else None

    def leaves_out(self, node):
        return self.begin(node) is None

    def end(self, _node, _begun):
        pass


def steps(path, call, first=0, **changes):
    with flowtrace.override(mode="always", out_path=path, capture_inputs=True, capture_outputs=True, **changes):
        global_recorder().policy.governor = LeavesOut(first)
        call()
    assert validate(path) == []
    return json.loads(path.read_bytes())["steps"]


def test_the_step_of_a_value_that_was_left_out(tmp_path):
    (step,) = steps(tmp_path / "t.json", lambda: same(range(1)))
    digest = {"algorithm": "blake3", "value": hash_bytes(b'{"$py":"cut","count":0,"reason":"overhead"}')}
    assert step["invocation_json"]["payload"] == step["output_json"] == MARK
    assert step["input_hash"] == step["output_hash"] == digest
    assert step["opaque"] == ["/invocation_json/payload", "/output_json"]
    assert step["cut"] == [
        {"path": path, "reason": "overhead", "count": 0} for path in ("/invocation_json/payload", "/output_json")
    ]
    (step,) = steps(tmp_path / "u.json", lambda: same(1))  # the fast path never asks
    assert step["output_json"] == 1


def test_the_error_of_a_step_is_recorded_all_the_same(tmp_path):
    def call():
        with pytest.raises(ValueError, match="boom"):
            fail(range(1))

    (step,) = steps(tmp_path / "t.json", call)
    assert (step["error"]["message"], step["cut"][0]["reason"]) == ("boom", "overhead")


def test_a_generator_goes_on_without_its_items(tmp_path):
    ranges = [range(number) for number in range(9)]
    (step,) = steps(tmp_path / "t.json", lambda: list(each(ranges)), first=4)
    items = [{"$py": "range", "start": 0, "step": 1, "stop": number} for number in range(3)]
    assert step["output_json"]["items"][:-1] == items
    assert step["output_json"]["items"][-1] == MARK | {"count": 3}
    assert step["output_json"]["returned"] is None
    assert step["cut"] == [{"path": "/output_json/items/3", "reason": "overhead", "count": 3}]


def test_the_items_of_a_generator_are_one_value(tmp_path):
    (step,) = steps(tmp_path / "t.json", lambda: list(each(range(5000))), first=99, max_value_work=1000)
    assert step["output_json"]["items"] == [*range(1000), MARK | {"count": 1000, "reason": "work"}]
    assert step["cut"] == [{"path": "/output_json/items/1000", "reason": "work", "count": 1000}]


class Asked(LeavesOut):
    """A governor that leaves out the values of one node, and counts how often it is asked."""

    def __init__(self, node):
        super().__init__(0)
        self.left_out = {node}
        self.times = 0

    def begin(self, _node):
        self.times += 1

    def leaves_out(self, node):
        return self.begin(node) is None


@pytest.mark.skipif(NATIVE is None, reason="the pure twin asks for each value")
@pytest.mark.parametrize("call", [lambda: same(range(1)), lambda: list(each([1, range(1), range(2)]))])
def test_the_native_core_leaves_values_out_itself(tmp_path, call):
    with flowtrace.override(mode="on", out_path=tmp_path / "t.json", capture_outputs=True):
        call()
        (step,) = global_recorder().buffer.newest()
        governor = global_recorder().policy.governor = Asked(step.node)
        STATE.open_fast_path(global_recorder())
        for _ in range(100):
            call()
        steps = [*global_recorder().buffer.newest()]
        values = [canonical_output(step.node, step.output, global_recorder().policy) for step in steps]
    assert len(steps) == 20
    assert {value.cut[0].reason for value in values} == {"overhead"}
    assert governor.times < 100


@pytest.mark.costly
def test_a_busy_program_with_costly_values_is_warned_once(tmp_path):
    program = """
    from dataclasses import dataclass
    import time, flowtrace

    @dataclass
    class Row:
        id: int

    @flowtrace.traced_node(component="c")
    def size(rows):
        return len(rows)

    rows = [Row(number) for number in range(9000)]
    end = time.process_time() + 4
    while time.process_time() < end:
        size(rows)
    """
    done = run_program(tmp_path, program, FLOWTRACE_MODE="on")
    assert done.stderr.count("takes too much of the time") == 1
    assert "c.size" in done.stderr
