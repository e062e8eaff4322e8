"""What a call may not cost, as structure: allocations, modules, references and bytes, never as time."""

from __future__ import annotations

import gc
import sys
import tracemalloc
import weakref

import pytest

import flowtrace
from flowtrace import traced_node
from flowtrace.calls.core import NATIVE
from flowtrace.recording.state import STATE, running
from flowtrace.recording.step import Buffer, Step
from flowtrace.settings.config import TraceConfig
from flowtrace.testing import recording
from flowtrace.values.encode import encode, take_call, take_value
from tests.programs import run_program

MIB = 1024 * 1024


@traced_node
def same(value):
    return value


@traced_node
def twice(value):
    yield value
    yield value


@traced_node
async def later(value):
    return value


class Service:
    @traced_node
    def handle(self, value):
        return value


def grown_by(work):
    """Return the bytes that are allocated and still held after some work, once it has been done before."""
    work()
    gc.collect()
    tracemalloc.start()
    try:
        work()
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        work()
        now, peak = tracemalloc.get_traced_memory()
        return now - before, peak - before
    finally:
        tracemalloc.stop()


def test_off_allocates_nothing(tmp_path):
    flowtrace.configure(mode="off")
    service = Service()

    def work():
        for _ in range(1000):
            same(None)
            service.handle(None)

    def undecorated():
        for _ in range(1000):
            same.__wrapped__(None)
            service.handle(None)

    held, peak = grown_by(work)
    plainly_held, plain_peak = grown_by(undecorated)
    # 2,000 calls: not even a byte for each is kept, and no more than a frame and arguments at a time
    assert held <= plainly_held + 512
    assert peak <= plain_peak + 512


def test_off_loads_nothing_but_wrapt(tmp_path):
    program = """
import sys
import wrapt  # whose asyncio has dataclasses since 3.14
before = set(sys.modules)
import flowtrace

@flowtrace.traced_node
def half(number):
    return number / 2

class Service:
    @flowtrace.traced_node
    def handle(self):
        return 1

assert half(1) == 0.5 and Service().handle() == 1
heavy = {"structlog", "msgspec", "blake3", "orjson", "pickle", "dataclasses"} & (set(sys.modules) - before)
print(sorted(heavy), sorted(name for name in sys.modules if name.startswith("flowtrace")))
"""
    done = run_program(tmp_path, program)
    files = ("log", "objects", "safe_loading", "signals", "standard_error", "switch", "system")
    host = ["host", *(f"host.{name}" for name in files)]
    own = ("_native", "core") if NATIVE is not None else ("core", "pure")
    calls = ["calls", *(f"calls.{name}" for name in own)]
    instrument = [
        "instrument",
        *(f"instrument.{name}" for name in ("flow", "proxies", "subjects", "traced_node", "traced_object")),
    ]
    assert done.stdout == f"[] {['flowtrace', *(f'flowtrace.{name}' for name in (*calls, *host, *instrument))]}\n"


@pytest.mark.parametrize("mode", ["off", "on"])
def test_what_a_class_holds_stays_one_object(mode):
    def handle(self):
        return 1

    flowtrace.configure(mode=mode)
    handle.__qualname__ = "Owner.handle"
    node = traced_node(handle)
    owner = type("Owner", (), {"__module__": __name__, "handle": node, "alias": node})
    for switched in ("on", "off", "always"):
        flowtrace.configure(mode=switched, out_path="trace.json")
        assert owner.handle is owner.alias is owner.handle is vars(owner)["handle"] is node
        assert owner().handle() == 1


class Thing:
    """Something that has no canonical form, and so can be held by nothing but a reference."""


@pytest.mark.parametrize("mode", ["on", "always"])
def test_on_keeps_no_reference_to_what_a_call_was_given(mode, tmp_path):
    flowtrace.configure(mode=mode, out_path=tmp_path / "trace.json", capture_inputs=True, capture_outputs=True)

    def call_all():
        things = [Thing() for _ in range(6)]
        refs = [weakref.ref(thing) for thing in things]
        same(things.pop())
        same([{"deep": things.pop()}])
        for _ in twice(things.pop()):
            pass
        with pytest.raises(StopIteration):
            later(things.pop()).send(None)
        Service().handle(value=things.pop())
        with pytest.raises(ZeroDivisionError):
            broken(things.pop())
        return refs

    gc.disable()
    try:
        refs = call_all()
        sys.exc_info()
        assert [ref() for ref in refs] == [None] * 6
    finally:
        gc.enable()
    assert not running()


@traced_node
def broken(value):
    raise ZeroDivisionError


@pytest.mark.costly
def test_on_never_holds_more_than_the_byte_budget(tmp_path):
    flowtrace.configure(
        mode="on", out_path=tmp_path / "trace.json", capture_inputs=True, buffer_bytes=2 * MIB, buffer_size=50
    )
    texts = [str(number) * MIB for number in range(1, 10)]

    def work():
        for text in texts:
            same(text)
            same({"text": text, "rows": [text[:1000]] * 10})

    held, _ = grown_by(work)
    assert held < MIB // 4  # it was full before
    buffer = STATE.recorder.buffer
    steps, dropped = buffer.contents()
    assert sum(step.size() for step in steps) <= 2 * MIB
    assert len(steps) + dropped == 3 * 2 * len(texts)


def test_on_a_million_small_calls_hold_no_more_than_a_thousand(tmp_path):
    flowtrace.configure(mode="on", out_path=tmp_path / "trace.json")

    def work():
        for number in range(20_000):
            same({"number": number})

    held, peak = grown_by(work)
    assert held < 4096
    assert peak < 64 * 1024


@pytest.mark.costly
def test_a_generator_without_end_is_held_in_bounds(tmp_path):
    with recording(max_value_bytes=1000, capture_outputs=True, buffer_bytes=100_000) as recorded:

        @traced_node
        def endless():
            while True:
                yield "x" * 100

        items = endless()

        def work():
            for _ in range(5000):
                next(items)

        _, peak = grown_by(work)
        items.close()
    assert peak < 20_000
    (trace,) = recorded.traces
    assert trace.steps[-1].output_json["$py"] == "cut"


def test_on_a_buffer_stays_full_when_traces_of_its_steps_were_written(tmp_path):
    flowtrace.configure(mode="on", out_path=tmp_path / "trace.json", buffer_bytes=100_000, max_value_bytes=4000)
    for _ in range(60):
        same("x" * 2000)
        flowtrace.dump()  # each value takes its final form, of which nothing is kept
    assert len(STATE.recorder.buffer.newest()) == 20


def test_on_a_buffer_counts_while_another_thread_adds_to_it():
    class Slow(Step):
        def size(self):
            buffer.add(light())  # as a thread would that comes in between
            return super().size()

    def light(kind=Step):
        step = kind()
        step.input, step.output = b"{}", None
        return step

    buffer = Buffer(TraceConfig(buffer_size=10, buffer_bytes=1 << 20, max_value_bytes=1000))
    buffer.add(light(Slow))
    large = light()
    large.input = encode("x" * 5000)
    buffer.add(large)
    for _ in range(20):
        large = light()
        large.input = encode("x" * 500_000)
        buffer.add(large)
    assert sum(step.size() for step in buffer.newest()) <= 1 << 20
    assert len(buffer.newest()) == 2


@pytest.mark.parametrize("value", [7, "text", [1, 2], {"x": 1}, (1, 2)])
def test_a_snapshot_of_a_small_value_holds_little_memory(value):
    tracemalloc.start()
    try:
        kept = [(take_value(value, 1000), take_call((value,), {}, 1000)) for _ in range(100)]
        assert tracemalloc.get_traced_memory()[0] < len(kept) * 1000
    finally:
        tracemalloc.stop()
