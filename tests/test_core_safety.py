"""The native core under bad conditions: no memory, interrupts at any moment, threads, and many rounds.

`make native-checks` runs this and the tests of calls on a build with sanitizers.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
import os
import signal
import sys
import threading
from itertools import pairwise

import pytest

import flowtrace
from flowtrace import traced_node
from flowtrace.calls.core import NATIVE
from flowtrace.recording.state import running
from flowtrace.testing import recording
from tests.programs import run_program

pytestmark = pytest.mark.skipif(NATIVE is None, reason="the native core is not in use")


@traced_node
def plain(value, *more, scale=1):
    return [value, *more, scale]


@traced_node
def fails(value):
    raise LookupError(value)


@traced_node
def numbers(count):
    for number in range(count):
        plain(number)
        yield {"number": number}
    return "end"


@traced_node
async def later(value):
    await asyncio.sleep(0)
    return plain(value)


@traced_node
async def each(count):
    for number in range(count):
        await asyncio.sleep(0)
        yield number


class Service:
    @traced_node
    def handle(self, value):
        return plain(value, 1, scale=2)


def run(coroutine):
    """Run a coroutine without an event loop: asyncio keeps some memory of its own."""
    with contextlib.suppress(StopIteration):
        while True:
            coroutine.send(None)


async def asynchronous():
    await later(1)
    await later({"a": [1, 2]})
    async for _ in each(3):
        pass
    left = each(3)
    await anext(left)
    await left.aclose()


def a_round():
    plain(1)
    plain("a", object(), scale=[1, (2, {"b": b"c"})])
    Service().handle({"x": {1, 2}})
    list(numbers(3))
    next(numbers(3))
    with contextlib.suppress(LookupError):
        fails("x")
    run(asynchronous())


def held_after(rounds):
    """Return how many blocks of memory are in use after so many rounds and, on a debug build, how many references."""
    for _ in range(rounds):
        a_round()
    gc.collect()
    return sys.getallocatedblocks(), getattr(sys, "gettotalrefcount", int)()


@pytest.mark.costly
@pytest.mark.parametrize("changes", [{"mode": "on"}, {"mode": "always"}, {"mode": "on", "blackbox": "app.ring"}])
def test_many_rounds_keep_no_memory(changes):
    flowtrace.configure(out_path="trace.json", buffer_size=10, **changes)
    held_after(150)  # caches fill up, and the buffer
    held = [held_after(rounds) for rounds in (20, 300, 300)]
    flowtrace.configure(mode="off", blackbox=None)
    grown = [(after[0] - before[0], after[1] - before[1]) for before, after in pairwise(held)]
    assert min(blocks for blocks, _ in grown) < 200, grown  # what is kept in each round grows each time: 300 at least
    assert min(references for _, references in grown) < 200, grown
    assert running() == []


def test_threads_share_the_core():
    def work():
        for _ in range(300):
            Service().handle(1)
            list(numbers(2))

    with recording(mode="on"):
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert running() == []


STORM = """
import gc, signal, sys
import flowtrace
from flowtrace.recording.state import CURRENT
from flowtrace.recording.state import running

class Alarm(Exception):
    pass

class Service:
    @flowtrace.traced_node
    def handle(self, value):
        return value

@flowtrace.traced_node
def numbers(count):
    yield from range(count)

def ring(number, frame):
    while frame is not None:  # outside the storm nobody would take it up
        if frame.f_code is storm.__code__:
            raise Alarm
        frame = frame.f_back

def storm():
    arrived = 0
    for _ in range(3000):
        try:
            Service().handle({"value": [1, 2]})
            list(numbers(3))
        except Alarm:
            arrived += 1
    return arrived

flowtrace.configure(mode="on", out_path="trace.json")
storm()
arrived = 0
signal.signal(signal.SIGALRM, ring)
# A debug Python takes longer for a guard, and that of 3.11 ends where a handler raises inside of os.stat.
every = 0.005 if hasattr(sys, "gettotalrefcount") else 0.0005
signal.setitimer(signal.ITIMER_REAL, every, every)
try:
    arrived = storm()
except Alarm:
    arrived += 1
signal.setitimer(signal.ITIMER_REAL, 0)
gc.collect()
print(arrived > 0, running(), CURRENT.get())
"""


@pytest.mark.costly
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here")
@pytest.mark.parametrize("box", [{}, {"FLOWTRACE_BLACKBOX": "app.ring"}])
def test_a_storm_of_alarms_leaves_nothing_current_and_nothing_in_flight(box, tmp_path):
    assert run_program(tmp_path, STORM, **box).stdout == "True [] None\n"


NO_MEMORY = """
import _testcapi
import flowtrace

@flowtrace.traced_node
def plain(value):
    return value

@flowtrace.traced_node
def numbers(count):
    yield count

flowtrace.configure(mode="on", out_path="trace.json", blackbox=BOX)
VALUE = {"a": [1, 2, ("b", None)], "c": "d"}
plain(VALUE), list(numbers(VALUE))
missing = 0
for start in range(1, 120):
    for call in (lambda: plain(VALUE), lambda: list(numbers(VALUE)))[: 1 if BOX else 2]:  # orjson would crash there
        _testcapi.set_nomemory(start, start + 1)
        try:
            call()
        except MemoryError:
            missing += 1
        finally:
            _testcapi.remove_mem_hooks()
assert plain(VALUE) is VALUE
print("ended", missing)
"""


@pytest.mark.costly
@pytest.mark.skipif(importlib.util.find_spec("_testcapi") is None, reason="this Python has no _testcapi")
@pytest.mark.parametrize("box", [None, "app.ring"])
def test_an_allocation_that_fails_at_any_moment_ends_no_process(box, tmp_path):
    assert run_program(tmp_path, f"BOX = {box!r}\n{NO_MEMORY}").stdout.startswith("ended")


def test_a_second_copy_of_the_core_is_refused():
    spec = importlib.util.spec_from_file_location(NATIVE.__name__, NATIVE.__file__)
    with pytest.raises(ImportError, match="loaded once"):
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)


@pytest.mark.parametrize(
    "call",
    [
        lambda: NATIVE.traced_function(plain, None, 0),
        lambda: NATIVE.traced_function(plain, flowtrace, 99),
        lambda: NATIVE.recorder(None, 0),
        lambda: NATIVE.Ring(-1, 1),
        lambda: NATIVE.Ring(1, 1).add(None),
        lambda: NATIVE.Postponed().add(None),
        lambda: NATIVE.open_fast_path(None, [], False, 1),
        lambda: NATIVE.ids_of_types(1),
        lambda: NATIVE.ids_of_types(1 / (1 - number) for number in range(2)),
    ],
)
def test_what_the_core_can_not_use_is_an_error(call):
    with pytest.raises((TypeError, ValueError, ZeroDivisionError)):
        call()


class Texts(list):
    def __iter__(self):
        return map(str, super().__iter__())


@pytest.mark.parametrize(
    "values",
    [
        [],
        [1, 2, "a", 3, None, True, 1.5, [], plain],
        (1, "a", 1),
        {"a": 1, "b": "x"}.values(),
        {"a": 1},
        Texts([1]),
    ],
    ids=lambda values: f"{type(values).__name__}-{len(values)}",
)
def test_the_core_finds_the_types_that_its_twin_finds(values):
    assert NATIVE.ids_of_types(values) == set(map(id, map(type, values)))


FORKS = """
import os, sys
import flowtrace
from flowtrace.recording.state import CURRENT
from flowtrace.recording.state import running

class Slow:
    "No snapshot by reference: Python code of ours takes it."
    def __init__(self):
        self.items = [1, {"a": 2}]

@flowtrace.traced_node
def plain(value):
    return value

@flowtrace.traced_node
def fails(value):
    raise LookupError("expected")

@flowtrace.traced_node
def numbers(value):
    yield plain(value)
    yield value

def calls():
    value = Slow()
    assert plain(value) is value
    assert list(numbers(value)) == [value, value]
    try:
        fails(value)
    except LookupError as error:
        assert error.args == ("expected",)

def traced_from(instruction):
    "Fork at this instruction of the calls. Return how many there were, and whether the child did all of them."
    seen, child = 0, None

    def look(frame, event, argument):
        nonlocal seen, child
        frame.f_trace_opcodes = True
        if event == "opcode":
            seen += 1
            if seen == instruction:
                sys.settrace(None)
                child = os.fork()
                frame.f_trace = None
        return look

    sys.settrace(look)
    try:
        calls()
    finally:
        sys.settrace(None)
        if child == 0:
            failed = sys.exception() is not None or running() != [] or CURRENT.get() is not None
            os._exit(failed)
    return seen, child is None or os.waitpid(child, 0)[1] == 0

flowtrace.configure(mode="on", out_path="trace.json", capture_inputs=True)
calls()
traced_from(0)  # Python 3.12 tells of instructions from the second time on
total, _ = traced_from(0)
step = max(1, total // 150)
wrong = [at for at in range(1, total, step) if not traced_from(at)[1]]
assert running() == [] and CURRENT.get() is None
print(total > 50, wrong)
"""


@pytest.mark.costly
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_at_any_instruction_leaves_both_processes_whole(tmp_path):
    assert run_program(tmp_path, FORKS).stdout == "True []\n"


SMALL_STACKS = """
import asyncio, contextlib, sys, threading, warnings
import flowtrace
from flowtrace.recording.state import CURRENT
from flowtrace.recording.state import running

warnings.simplefilter("ignore")  # coroutines that the limit left unstarted

@flowtrace.traced_node
def plain(depth):
    return plain(depth + 1)

@flowtrace.traced_node
def stream(depth):
    yield from stream(depth + 1)

@flowtrace.traced_node
async def later(depth):
    return await later(depth + 1)

class Service:
    @flowtrace.traced_node
    def handle(self, *values, depth=0):
        return self.handle([object()], depth=depth + 1)

ENDED = []

def work():
    calls = [lambda: plain(0), Service().handle]
    if mode != "off":  # an undecorated generator that goes so deep ends Python 3.11 and 3.13
        calls += [lambda: list(stream(0)), lambda: later(0).send(None)]
    for call in calls:
        try:
            call()
        except RecursionError:
            ENDED.append(CURRENT.get())

sys.setrecursionlimit(20_000)
for mode in ("off", "on", "always"):
    flowtrace.configure(mode=mode, out_path="trace.json", buffer_size=10)
    for size in (128, 256):
        threading.stack_size(size * 1024)
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
print(len(ENDED), set(ENDED), running())
"""


@pytest.mark.costly
def test_a_small_stack_ends_with_a_recursion_error(tmp_path):
    assert run_program(tmp_path, SMALL_STACKS).stdout == "20 {None} []\n"


def test_each_generator_that_is_dropped_ends_its_step_however_many_there_were():
    with recording(mode="on", buffer_size=500):
        for _ in range(100):
            next(numbers(3))
        assert running() == []
        steps = flowtrace.get_recorder().buffer.newest()
    ended = [step for step in steps if step.node.function is numbers.__wrapped__]
    assert len(ended) == 100
    assert all(step.ended for step in ended)


def test_values_are_read_as_they_were_taken_and_each_time_anew():
    nan = float("nan")
    inner, outer = [1, {"b": (2, [3])}], (nan, b"x", ("a", None))
    with recording(mode="on"):
        plain("the first call of a node is recorded in Python")
        plain({"k": inner, "t": outer}, outer, scale=inner)
        inner[1]["b"][1].append(4)
        inner.append(5)
        step = flowtrace.get_recorder().buffer.newest()[-1]
        first, again = step.input, step.input
    taken = [1, {"b": (2, [3])}]
    assert first == again == ({"k": taken, "t": outer}, outer, taken, ("scale",))
    assert first[0] is not again[0]
    assert first[1] is outer
    assert first[0]["t"] is outer
    assert step.output == ([{"k": taken, "t": outer}, outer, taken],)


def test_bytes_of_values_that_are_not_plain_are_counted_once():
    with recording(mode="on", capture_inputs=True, capture_outputs=True):
        plain("the first call of a node is recorded in Python")
        plain(bytearray(b"123"))
        step = flowtrace.get_recorder().buffer.newest()[-1]
        assert step.held == 480 + step.size() > 480
