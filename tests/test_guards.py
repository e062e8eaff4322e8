"""What our own work on a value raises stays with us, whatever its class; what a signal handler raises does not."""

from __future__ import annotations

import asyncio
import functools
import signal
import sys

import numpy as np
import polars as pl
import pytest
import structlog
from structlog.testing import capture_logs

import flowtrace
from flowtrace import configure, register_codec, traced_node
from flowtrace.host.signals import is_from_handler
from flowtrace.host.system import CLOCK
from flowtrace.recording.state import CURRENT, running
from flowtrace.values import codecs
from flowtrace.values.encode import encode


class Panic(BaseException):
    """As a panic in Rust arrives."""


ERRORS = [Panic, SystemExit, KeyboardInterrupt, GeneratorExit, RuntimeError]


class Coded:
    """A value with a codec that fails."""


class Array(np.ndarray):
    """An array whose methods fail."""

    failing: type[BaseException]

    def __getattribute__(self, name):
        raise object.__getattribute__(self, "failing")(name)


class Signed:
    """A callable object whose signature can't be asked for."""

    def __init__(self, error):
        self.error = error

    def __call__(self, *args):
        return args[0]

    @property
    def __signature__(self):
        raise self.error

    @property
    def __code__(self):
        raise self.error


class Told(Exception):
    def __init__(self, error):
        self.error = error

    def __str__(self):
        raise self.error


@traced_node
def give(value, password=None):
    return value


@traced_node
def make():
    return Coded()


@traced_node
def fail(error):
    raise error


@pytest.fixture(params=ERRORS)
def error(request):
    yield request.param
    assert (CURRENT.get(), running()) == (None, [])


@pytest.fixture(params=["on", "always"])
def tracing(request, tmp_path):
    with capture_logs() as logs:
        configure(mode=request.param, out_path=tmp_path / "t.json", capture_inputs=True, capture_outputs=True)
        yield logs


def test_a_codec_that_fails(error, tracing):
    def encoder(value):
        raise error

    register_codec(Coded, encoder, Coded)
    try:
        value = Coded()
        assert give(value) is value
        assert give([value], password=value) == [value]
        assert encode(value).opaque == ("",)
    finally:
        del codecs.REGISTERED[id(Coded)]
    assert tracing == []


def test_a_redactor_that_fails(error, tmp_path):
    def redactor(name, value):
        raise error

    with capture_logs() as logs:
        configure(mode="always", out_path=tmp_path / "t.json", capture_inputs=True, redactor=redactor)
        assert give({"a": 1}) == {"a": 1}
    assert {(log["doing"], log["error"]) for log in logs} == {("ask the redactor", error.__name__)}
    step = flowtrace.load_trace(tmp_path / "t.json").steps[0]
    assert step.redacted == [
        "/invocation_json/payload/password",
        "/invocation_json/payload/value",
        "/output_json",
    ]


def test_an_array_that_fails(error, tracing):
    value = np.zeros(3).view(Array)
    object.__setattr__(value, "failing", error)
    assert give(value) is value
    assert give([value], password=value)[0] is value


def test_a_signature_that_fails(error, tracing):
    node = traced_node(Signed(error))
    assert node(object) is object
    assert node(1) == 1


def test_an_error_whose_text_fails(error, tracing):
    raised = Told(error)
    with pytest.raises(Told) as caught:
        fail(raised)
    assert caught.value is raised


def test_a_log_processor_that_fails(error, tmp_path):
    def processor(logger, method, event):
        raise error

    structlog.configure(processors=[processor])
    (tmp_path / "file").touch()
    configure(mode="on", out_path=tmp_path / "file" / "t.json")  # it can't be written: a warning
    with pytest.raises(ValueError, match="the program's own"):
        fail(ValueError("the program's own"))


def test_an_issue_whose_text_fails(error, tracing):
    class Text:
        def __str__(self):
            raise error

    @traced_node
    def node():
        flowtrace.current_step().add_validation_issue("code", "/", Text())
        return 1

    assert node() == 1
    assert [log["doing"] for log in tracing] == ["add a validation issue"]


PANICS = {
    "date": pl.Series("t", [2**31 - 1], dtype=pl.Int32).cast(pl.Date),
    "datetime": pl.Series("t", [2**62], dtype=pl.Int64).cast(pl.Datetime("ms")),
    "list": pl.Series("t", [[2**31 - 1]], dtype=pl.List(pl.Int32)).cast(pl.List(pl.Date)),
}


@pytest.mark.parametrize("name", PANICS)
def test_a_polars_value_for_which_python_has_none(name, tracing):
    series = PANICS[name]
    assert give(series) is series
    assert give([1], password=series) == [1]
    assert len(give(series.to_frame())) == 1


# --- what a signal handler raises


def press(*_):
    signal.raise_signal(signal.SIGINT)
    for _ in range(1000):  # the interpreter looks for signals once in a loop at the latest
        pass


@pytest.fixture
def pressing():
    register_codec(Coded, press, Coded)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
    del codecs.REGISTERED[id(Coded)]


def test_ctrl_c_while_a_value_is_encoded_arrives(pressing, tracing):
    for call in (lambda: give(Coded()), lambda: give([Coded()]), lambda: make()):
        with pytest.raises(KeyboardInterrupt):
            call()
        assert (CURRENT.get(), running()) == (None, [])


def test_ctrl_c_while_the_redactor_runs_arrives(pressing, tmp_path):
    configure(mode="always", out_path=tmp_path / "t.json", capture_inputs=True, redactor=press)
    with pytest.raises(KeyboardInterrupt):
        give({"a": Coded()})


def test_an_exit_that_a_handler_raises_arrives(tracing):
    def leave(number, frame):
        sys.exit(3)

    before = signal.signal(signal.SIGUSR1, leave)
    register_codec(Coded, lambda _: signal.raise_signal(signal.SIGUSR1), Coded)
    try:
        with pytest.raises(SystemExit):
            give(Coded())
    finally:
        signal.signal(signal.SIGUSR1, before)
        del codecs.REGISTERED[id(Coded)]


@traced_node
def numbers():
    yield from range(3)


@traced_node
async def waiting():
    await asyncio.sleep(0)


@traced_node
async def async_numbers():
    yield 1


@traced_node
def numbers_that_stop():
    try:
        yield 1
    except GeneratorExit:
        return


@traced_node
async def waiting_that_stops():
    try:
        await asyncio.sleep(0)
    except GeneratorExit:
        return


def begun(function):
    """Return a body that has begun and is not over."""
    body = function()
    if function is async_numbers:
        with pytest.raises(StopIteration):
            body.asend(None).send(None)
    else:
        body.send(None)
    return body


class Alarm(TimeoutError):
    """What the handler of an alarm raises."""


@pytest.mark.parametrize("ends", ["dropped", "closed"])
@pytest.mark.parametrize("function", [numbers, waiting, async_numbers, numbers_that_stop, waiting_that_stops])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, Alarm])
def test_ctrl_c_while_the_end_of_a_body_is_recorded_arrives(kind, function, ends, tracing, monkeypatch):
    calls, swallowed, now = [], [], CLOCK.now

    def handler(number, frame):
        calls.append(number)
        raise kind

    def pressed():
        press()
        return now()

    monkeypatch.setattr(sys, "unraisablehook", swallowed.append)
    before = signal.signal(signal.SIGINT, handler)
    body = begun(function)
    CLOCK.now = pressed
    try:
        with pytest.raises(kind) as caught:
            if ends == "closed" and function is not async_numbers:
                body.close()
            del body  # Python swallows what is raised while it drops a body
            press_nothing()
        assert (len(calls), signal.getsignal(signal.SIGINT)) == (1, handler)
        assert is_from_handler(caught.value)
    finally:
        CLOCK.now = now
        signal.signal(signal.SIGINT, before)
    assert (swallowed, CURRENT.get(), running()) == ([], None, [])


def test_ctrl_c_while_a_flow_begins_leaves_none(tracing, monkeypatch):
    make_current = CURRENT.set

    def pressed(step):
        make_current(step)
        press()

    monkeypatch.setattr("flowtrace.recording.hot_path.make_current", pressed)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), flowtrace.flow("f"):
            pytest.fail("the flow has begun")
    finally:
        signal.signal(signal.SIGINT, before)
    assert (CURRENT.get(), running()) == (None, [])


def press_nothing():
    """Do something at which the interpreter looks for signals."""


def thrown(*arguments):
    (_ for _ in ()).throw(KeyboardInterrupt)


def thrown_later(*arguments):
    running = (number for number in range(3))
    next(running)
    running.throw(KeyboardInterrupt)


def raised(*arguments):
    raise KeyboardInterrupt


def raised_again(*arguments):
    try:
        raised()
    finally:
        functools.partial(raised)


# From Python 3.13 on, an error that is thrown into a running generator leaves what Ctrl-C leaves: it counts as Ctrl-C.
NOT_CTRL_C = [thrown, raised, raised_again, *([thrown_later] if sys.version_info < (3, 13) else [])]


@pytest.mark.parametrize("by", NOT_CTRL_C)
def test_an_interrupt_that_code_raises_is_not_ctrl_c(by):
    with pytest.raises(KeyboardInterrupt) as caught:
        by()
    assert not is_from_handler(caught.value)
