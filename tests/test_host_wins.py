"""Whatever breaks inside flowtrace, the program goes on as if it were not there."""

from __future__ import annotations

import asyncio
import functools
import importlib
import pkgutil
import subprocess
import sys
import tempfile
import types
from itertools import repeat

import pytest
import structlog
from structlog.testing import capture_logs

import flowtrace
from flowtrace import traced_node
from flowtrace.host import log
from flowtrace.host.system import CLOCK
from flowtrace.recording import process
from flowtrace.recording.state import running

RESULT = object()


class Fault(Exception):
    """What the injected faults raise."""


class Stop(BaseException):
    """Something that only looks like the end of the program."""


@traced_node
def returns(value):
    return value


@traced_node
def raises(error):
    raise error


@traced_node
async def async_returns(value):
    await asyncio.sleep(0)
    return value


@traced_node
async def async_raises(error):
    await asyncio.sleep(0)
    raise error


@traced_node
def yields(value):
    received = yield value
    assert received is value
    return value


@traced_node
def yields_and_raises(error):
    yield 1
    raise error


@traced_node
async def async_yields(value):
    received = yield value
    assert received is value
    yield value


@traced_node
async def async_yields_and_raises(error):
    yield 1
    raise error


@traced_node
def nested(value):
    return returns(value)


def run(coroutine):
    """Run a coroutine to its end without an event loop: what it raises arrives here as it is."""
    try:
        while True:
            coroutine.send(None)
    except StopIteration as stop:
        return stop.value


def consume(generator, value):
    assert next(generator) is value
    try:
        generator.send(value)
    except StopIteration as stop:
        return stop.value
    return None


async def consume_async(generator, value):
    assert await anext(generator) is value
    result = await generator.asend(value)
    with pytest.raises(StopAsyncIteration):
        await anext(generator)
    return result


async def drain(generator):
    async for _ in generator:
        pass


GOOD = {
    "plain": lambda value: returns(value),
    "nested": lambda value: nested(value),
    "async": lambda value: run(async_returns(value)),
    "generator": lambda value: consume(yields(value), value),
    "async generator": lambda value: run(consume_async(async_yields(value), value)),
}
BAD = {
    "plain": lambda error: raises(error),
    "nested": lambda error: nested_failure(error),
    "async": lambda error: run(async_raises(error)),
    "generator": lambda error: list(yields_and_raises(error)),
    "async generator": lambda error: run(drain(async_yields_and_raises(error))),
}


@traced_node
def nested_failure(error):
    raises(error)


# What stands between the recorder and the program: these catch the faults of all that they call, or hand on what the
# program sends and raises. They have tests of their own.
GUARDS = {
    "blackbox.hot_path": {"begin", "end", "_begin_otherwise"},
    "host.signals": {"is_from_handler", "let_through"},
    "calls.core": {"leaves_out_first"},  # looks at a flag and at the id of a type, before the guard
    "calls.pure": {"_advance", "_first_step", "_pass_on", "_stop", "_Unstarted"},
    "recording.hot_path": {
        "begin",
        "prepare",
        "start",
        "suspend",
        "resume",
        "emit",
        "end",
        "end_stream",
        "fail",
        "_leave",
        "record_failure",
        "record_stream_end",
    },
    "recording.process": {"report"},
}
FIRST_CALL = """
import sys
import flowtrace

@flowtrace.traced_node
def fail(value):
    raise ValueError

flowtrace.configure(mode="on", out_path="trace.json", blackbox="app.ring", capture_inputs=True)
try:
    fail(1)
except ValueError:
    print(*sorted(name for name in sys.modules if name.startswith("flowtrace.")))
"""


def modules_of_a_call():
    """Return the modules that a first call, its trace and its ring file load, as a fresh process tells."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", FIRST_CALL]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=60)
    return [importlib.import_module(name) for name in done.stdout.split()]


def own_functions():
    """Yield name, owner and attribute of each function and method that a call may lead to."""
    for module in modules_of_a_call():
        room = module.__name__.removeprefix("flowtrace.")
        for name, member in vars(module).items():
            if getattr(member, "__module__", None) != module.__name__ or name in GUARDS.get(room, ()):
                continue
            if getattr(member, "_is_protocol", False):
                continue
            if isinstance(member, type) and not issubclass(member, tuple | str):
                for method in [key for key, value in vars(member).items() if type(value) is types.FunctionType]:
                    yield f"{room}.{name}.{method}", member, method
            elif isinstance(member, types.FunctionType):
                yield f"{room}.{name}", module, name
    for name in ("now", "run_id", "numbers"):
        yield f"CLOCK.{name}", CLOCK, name


# All modules are loaded first: one that a call loads later would keep a broken function for good.
for found in pkgutil.walk_packages(flowtrace.__path__, "flowtrace."):
    importlib.import_module(found.name)
FAULTS = {name: (owner, attribute) for name, owner, attribute in own_functions()}
MODES = ("on", "always", "box")


def inject(monkeypatch, fault, error):
    """Break one function, under every name that a module of flowtrace has it under."""

    def broken(*args, **kwargs):
        raise error

    owner, attribute = FAULTS[fault]
    whole = vars(owner)[attribute] if owner is not CLOCK else None
    places = [module for name, module in sys.modules.items() if name.startswith("flowtrace.")]
    for place in places if isinstance(owner, types.ModuleType) else ():
        for name in [name for name, member in vars(place).items() if member is whole]:
            monkeypatch.setattr(place, name, broken)
    monkeypatch.setattr(owner, attribute, map(broken, repeat(0)) if attribute == "numbers" else broken)


def outcome(call, argument):
    """Return whether a call gave back, or raised, the very object it was given."""
    try:
        return call(argument) is argument
    except BaseException as raised:
        return "raised" if raised is argument else raised


def assert_nothing_is_left():
    current = process.CURRENT.get()
    process.CURRENT.set(None)
    assert (current, running()) == (None, [])


@pytest.fixture
def tracing(tmp_path):
    """Return a function that switches tracing on with everything captured, all modules loaded by a first call."""

    def switch_on(mode):
        settings = {"mode": "on", "blackbox": tmp_path / "app.ring"} if mode == "box" else {"mode": mode}
        flowtrace.configure(out_path=tmp_path / "trace.json", capture_inputs=True, capture_outputs=True, **settings)
        for shape, call in GOOD.items():
            call(RESULT)
            with pytest.raises(ZeroDivisionError):
                BAD[shape](ZeroDivisionError())
        log.forget()

    return switch_on


@pytest.mark.costly
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_fault_inside_changes_no_result_and_no_exception_is_told_once_and_loses_to_ctrl_c(
    fault, mode, monkeypatch, tracing
):
    tracing(mode)
    with monkeypatch.context() as patch, capture_logs() as logs:
        inject(patch, fault, Fault("injected"))
        assert outcome(BAD["nested"], KeyboardInterrupt()) == "raised"
        process.CURRENT.set(None)
        for _ in range(2):
            for shape, call in GOOD.items():
                assert outcome(call, RESULT) is True, shape
                error = ValueError(shape)
                assert outcome(BAD[shape], error) == "raised", shape
        causes = [(entry["event"], entry.get("doing"), entry.get("error"), entry.get("reason")) for entry in logs]
        assert len(set(causes)) == len(causes)
        assert all(entry["log_level"] == "warning" and entry["count"] == 1 for entry in logs)
        assert {entry.get("error", entry.get("reason")) for entry in logs} <= {"Fault", "AttributeError"}
    assert_nothing_is_left()  # what tells may have been what was broken


@pytest.mark.parametrize("mode", MODES)
def test_after_a_fault_is_gone_calls_are_recorded_again(mode, monkeypatch, tracing, tmp_path):
    tracing(mode)
    with monkeypatch.context() as patch, capture_logs():
        inject(patch, "values.encode.take_call", Fault())
        raises_nothing = outcome(returns, RESULT)
    assert raises_nothing is True
    with pytest.raises(ValueError):
        raises(ValueError("later"))
    trace = flowtrace.load_trace(tmp_path / "trace.json")
    assert trace.failed_step.error.message == "later"


@pytest.mark.parametrize("fault", ["values.encode.take_call", "recording.failure.describe"])
def test_a_fault_whose_warning_fails_too_is_silent(fault, monkeypatch, tracing):
    tracing("always")
    inject(monkeypatch, fault, Fault())
    monkeypatch.setattr(log, "_log", functools.partial(next, iter([])))
    for shape, call in GOOD.items():
        assert outcome(call, RESULT) is True
        assert outcome(BAD[shape], ValueError()) == "raised"
    assert_nothing_is_left()


def test_a_host_whose_logging_raises_is_not_disturbed(monkeypatch, tracing):
    def refuses(logger, method, entry):
        raise Fault("no logging here")

    tracing("on")
    structlog.configure(processors=[refuses])
    inject(monkeypatch, "values.encode.take_call", Fault())
    assert outcome(returns, RESULT) is True


@pytest.mark.cells
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", list(BAD))
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, Stop, asyncio.CancelledError, MemoryError])
def test_what_ends_a_program_passes_through_untouched(kind, shape, mode, tracing, tmp_path):
    tracing(mode)
    (tmp_path / "trace.json").unlink()
    error = kind("enough")
    assert outcome(BAD[shape], error) == "raised"
    assert error.args == ("enough",)
    assert_nothing_is_left()


@pytest.mark.parametrize("mode", MODES)
def test_a_call_tells_the_same_error_chain_with_a_fault_inside(mode, monkeypatch, tracing):
    @traced_node
    def chained():
        try:
            raise KeyError("first")
        except KeyError as first:
            error = ValueError("second")
            error.add_note("noted")
            raise error from first

    tracing(mode)
    inject(monkeypatch, "recording.failure.describe", Fault())
    with capture_logs(), pytest.raises(ValueError, match="second") as caught:
        chained()
    error = caught.value
    assert (type(error.__cause__), error.__context__ is error.__cause__) == (KeyError, True)
    assert error.__notes__ == ["noted"]
    last = error.__traceback__
    while last.tb_next is not None:
        last = last.tb_next
    assert last.tb_frame.f_code.co_name == "chained"


def test_loading_the_recorder_may_fail_at_the_first_call(monkeypatch, tmp_path):
    monkeypatch.setenv("FLOWTRACE_OUT", str(tmp_path / "trace.json"))
    inject(monkeypatch, "recording.recorder.TraceRecorder.__init__", Fault())
    with capture_logs() as logs:
        fresh = traced_node(lambda value: value)
        assert [fresh(RESULT) for _ in range(3)] == [RESULT] * 3
        assert flowtrace.current_step().record_state_delta(1) is None
    assert [(entry["doing"], entry["error"]) for entry in logs] == [("load the recorder", "Fault")]


@pytest.mark.parametrize("fault", ["recording.process.global_recorder", "recording.recorder.TraceRecorder.new_run"])
@pytest.mark.parametrize("use", ["with", "async with", "decorator"])
def test_a_flow_that_cannot_start_lets_its_body_run(use, fault, monkeypatch, tracing):
    tracing("always")

    async def entered():
        async with flowtrace.flow("f"):
            return returns(RESULT)

    def inside():
        with flowtrace.flow("f"):
            return returns(RESULT)

    uses = {"with": inside, "async with": lambda: run(entered()), "decorator": flowtrace.flow("f")(inside)}
    inject(monkeypatch, fault, Fault())
    with capture_logs() as logs:
        assert uses[use]() is RESULT
    assert "start a flow" in {entry["doing"] for entry in logs}
    assert_nothing_is_left()


@pytest.mark.parametrize("fault", ["recording.process.close_run", "recording.to_records.trace_text", "CLOCK.now"])
def test_a_flow_that_cannot_end_ends_for_its_body(fault, monkeypatch, tracing):
    tracing("always")
    error = ValueError("mine")
    with capture_logs(), pytest.raises(ValueError) as caught:
        with flowtrace.flow("f"):
            inject(monkeypatch, fault, Fault())
            raise error
    assert caught.value is error
    assert_nothing_is_left()


def deep(levels, function):
    return function() if levels == 0 else deep(levels - 1, function)


@pytest.mark.costly
@pytest.mark.parametrize("mode", MODES)
def test_near_the_recursion_limit_a_call_gives_its_own_result_or_a_recursion_error(mode, tracing):
    tracing(mode)
    seen = set()
    error = KeyError("mine")
    for levels in range(600, 1000):
        for call, argument in ((returns, RESULT), (raises, error)):
            found = outcome(lambda given, at=levels, to=call: deep(at, functools.partial(to, given)), argument)
            seen.add(found if isinstance(found, bool | str) else type(found))
        assert_nothing_is_left()
        error.__traceback__ = None
    assert seen == {True, "raised", RecursionError}


@pytest.mark.costly
@pytest.mark.parametrize("mode", MODES)
def test_bottomless_recursion_ends_in_the_recursion_error_that_python_raises(mode, tracing):
    @traced_node
    def bottomless():
        return bottomless()

    @traced_node
    def caught():
        try:
            return caught()
        except RecursionError:
            return RESULT

    tracing(mode)
    with capture_logs():
        with pytest.raises(RecursionError):
            bottomless()
        assert caught() is RESULT
    assert_nothing_is_left()
