"""An error that a signal handler raises while our code runs is the program's: one whose timeout is lost hangs.

Handlers are only looked at: nothing of what they are made of is run for that.
"""

from __future__ import annotations

import _signal
import ctypes
import os
import signal
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

import flowtrace
from flowtrace import configure, register_codec, traced_node
from flowtrace.calls.core import implementation
from flowtrace.host import log, signals, system
from flowtrace.host.signals import OWN_FOLDER, SnapshotSignal, is_from_handler, let_through
from flowtrace.recording.failure import frames
from flowtrace.recording.process import report_fault
from flowtrace.recording.state import CURRENT, running


class Late(Exception):
    pass


class Alarming:
    """A value whose content takes so long that the alarm rings."""


def ring(number, frame):
    raise Late(number)


class Bell:
    def ring(self, number, frame):
        raise Late(number)

    def __call__(self, number, frame):
        raise Late(number)


class Partial(partial):
    pass


class Static:
    @staticmethod
    def __call__(number, frame):
        raise Late(number)


class Delegating:
    __call__ = Bell()


class Traced(Bell):
    ring = traced_node(Bell.ring)


HANDLERS = {
    "function": ring,
    "method": Bell().ring,
    "partial": partial(ring),
    "partial of a subclass, twice": Partial(Partial(Bell().ring)),
    "object": Bell(),
    "object with a static method": Static(),
    "object whose call is an object": Delegating(),
    "traced function": traced_node(ring),
    "traced method": Traced().ring,
}


@pytest.fixture(params=HANDLERS)
def alarm(request):
    before = signal.signal(signal.SIGUSR1, HANDLERS[request.param])
    register_codec(Alarming, lambda _: signal.raise_signal(signal.SIGUSR1), Alarming)
    yield
    signal.signal(signal.SIGUSR1, before)


@traced_node
def give(value):
    return value


@traced_node
def make():
    return Alarming()


@traced_node
def make_some():
    yield Alarming()


@pytest.mark.parametrize("call", [lambda: give(Alarming()), make, lambda: list(make_some())])
def test_an_alarm_that_rings_while_a_value_is_taken_arrives(alarm, call):
    configure(mode="on")
    for _ in range(3):
        with pytest.raises(Late):
            call()
        assert CURRENT.get() is None
    assert give(1) == 1


def test_an_alarm_that_rings_while_a_guard_looks_at_handlers_arrives(alarm, monkeypatch):
    class Faulty:
        pass

    def fail(value):
        raise TypeError("no content today")

    def look(handler):
        if not looked:
            looked.append(handler)
            signal.raise_signal(signal.SIGUSR1)
        return code_of(handler)

    looked: list[object] = []
    code_of = signals._code_of
    register_codec(Faulty, fail, Faulty)
    configure(mode="on")
    monkeypatch.setattr(signals, "_code_of", look)
    with pytest.raises(Late):
        give(Faulty())
    assert CURRENT.get() is None
    assert give(1) == 1


def test_a_step_that_an_alarm_ends_is_no_longer_alive(alarm):
    configure(mode="on")
    with pytest.raises(Late):
        give(Alarming())
    with pytest.raises(Late):
        make()
    assert running() == []


@pytest.mark.parametrize("there", ["nothing", "trace", "other process's trace"])
@pytest.mark.parametrize("name", ["getcwd", "stat", "lstat", "open", "write", "fsync", "link", "close", "replace"])
def test_a_timeout_that_an_alarm_raises_in_a_system_call_of_a_write_arrives(name, there, tmp_path, monkeypatch):
    def ring(number, frame):
        raise TimeoutError("from the alarm")  # an OSError, as those that a write expects

    def interrupted(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == at:
            signal.raise_signal(signal.SIGALRM)
        return call(*args, **kwargs)

    monkeypatch.chdir(tmp_path)
    file = tmp_path / "out" / "trace.json"
    if there != "nothing":
        configure(mode="always", out_path=str(file))
        give(1)
        if there != "trace":
            file.write_bytes(file.read_bytes().replace(f'"pid": {os.getpid()}'.encode(), b'"pid": 1'))
    call, calls, at = getattr(system.os, name), 0, 0
    before = signal.signal(signal.SIGALRM, ring)
    try:
        for at in range(1, 30):
            calls = 0
            with monkeypatch.context() as patched:
                patched.setattr(system.os, name, interrupted)
                try:
                    configure(mode="always", out_path="out/trace.json", durable=True)
                    give(1)
                    arrived = False
                except TimeoutError:
                    arrived = True
            assert arrived is (calls >= at)
            if not arrived:
                break
    finally:
        signal.signal(signal.SIGALRM, before)
    assert at < 29
    assert CURRENT.get() is None
    give(1)
    assert flowtrace.load_trace(file).steps


@pytest.mark.parametrize("where", ["flowtrace.host.system.os.fstat", "flowtrace.host.log.warn"])
def test_a_timeout_that_an_alarm_raises_while_a_fault_is_reported_arrives(where, monkeypatch):
    def ring(number, frame):
        raise TimeoutError("from the alarm")

    monkeypatch.setattr(where, lambda *args, **kwargs: signal.raise_signal(signal.SIGALRM))
    monkeypatch.setattr(sys, "stderr", sys.__stderr__)  # the file behind it is looked at
    log.forget()
    before = signal.signal(signal.SIGALRM, ring)
    try:
        with pytest.raises(TimeoutError, match="from the alarm"):
            report_fault("do something", ValueError())
    finally:
        signal.signal(signal.SIGALRM, before)


class Sent(Exception):
    """What a timeout of threads sends."""


SENT = (Sent, TimeoutError, SystemExit, KeyboardInterrupt)


def send_after(calls, kind):
    """Send an error to this thread once so many functions and methods in C have been called from our code.

    Returns:
        A profiler that counts them; its attribute tells whether it was sent.
    """

    def profile(frame, event, argument):
        nonlocal calls
        if event in ("c_call", "call") and frame.f_code.co_filename.startswith(OWN_FOLDER):
            calls -= 1
            if calls == 0:
                profile.was_sent = True
                send = ctypes.pythonapi.PyThreadState_SetAsyncExc
                me, what = [ctypes.c_ulong(threading.get_ident())], [ctypes.py_object(kind)]
                _ = [*map(send, me, what)]  # no call of this function's: after one, the error would come up here

    profile.was_sent = False
    return profile


@pytest.mark.skipif(implementation() == "native", reason="profilers do not see the native core's calls of Python")
@pytest.mark.parametrize("kind", SENT)
def test_an_error_that_another_thread_sends_arrives(kind, tmp_path):
    @traced_node
    def fail(value):
        raise ValueError(value)

    configure(mode="on", out_path=tmp_path / "trace.json")
    for _ in range(2):
        with pytest.raises(ValueError, match="1"):
            fail(1)
    at, lost = 1, []
    while True:
        profile = send_after(at, kind)
        sys.setprofile(profile)
        try:
            fail(1)
        except kind:
            pass
        except ValueError:
            lost.append(at)
        finally:
            sys.setprofile(None)
        if not profile.was_sent:
            break
        at += 1
    assert at > 100
    assert lost == [at]


@pytest.mark.parametrize("kind", SENT)
def test_an_error_that_code_raises_was_not_sent(kind):
    def raises(*_):
        raise kind

    for call in (lambda: raises(), lambda: max([1, 2], key=raises), lambda: next(raises(at) for at in range(2))):
        with pytest.raises(kind) as raised:
            call()
        assert not is_from_handler(raised.value)


def test_an_error_of_a_codec_itself_stays_inside(alarm):
    class Faulty:
        pass

    def fail(value):
        raise Late("of the codec")

    register_codec(Faulty, fail, Faulty)
    configure(mode="on")
    value = Faulty()
    assert give(value) is value


def refuse(*_, **__):
    if ARMED:
        raise RuntimeError("code of the program was run")
    return NotImplemented


ARMED: list[bool] = []
REFUSING = dict.fromkeys(("__getattribute__", "__getattr__", "__hash__", "__eq__", "__int__", "__bool__"), refuse)
Meta = type("Meta", (type,), {name: method for name, method in REFUSING.items() if name != "__getattribute__"})
NEVER = {
    "object": type("Never", (), {"__call__": ring, "__getattr__": refuse}),
    "object of a class of its own kind": Meta("Never", (), {"__call__": ring, **REFUSING}),
    "call that is such an object": type("Never", (), {"__call__": type("Call", (), REFUSING | {"__call__": ring})()}),
    "call that is a property": type("Never", (), {"__call__": property(refuse)}),
    "partial": type("Never", (partial,), REFUSING | {"func": property(refuse)}),
    "proxy": type("Never", (), {"__call__": ring, "__wrapped__": property(refuse), "_self_wrapper": property(refuse)}),
}


@pytest.fixture(params=NEVER)
def never(request):
    """Have a handler of which each attribute, its hash and its number raise an error."""
    cls = NEVER[request.param]
    handler = cls(ring) if issubclass(cls, partial) else cls()
    before = _signal.signal(signal.SIGUSR1, handler)  # `signal.signal` asks a handler for its number
    ARMED.append(True)
    yield
    ARMED.clear()
    _signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("mode", ["on", "always"])
def test_no_code_of_a_handler_is_run_to_look_at_it(never, mode, tmp_path):
    class Faulty:
        pass

    class Silent(Exception):
        def __str__(self):
            raise LookupError("no text today")

    @traced_node
    def fail(value):
        raise Silent

    def encode(value):
        raise TypeError("no content today")

    register_codec(Faulty, encode, Faulty)
    configure(mode=mode, out_path=tmp_path / "trace.json")
    value = Faulty()
    assert give(value) is value
    with pytest.raises(Silent):
        fail(value)


def test_no_code_of_a_handler_is_run_to_put_ours_before_it(never):
    snapshots = SnapshotSignal(signal.SIGUSR1, list)
    assert snapshots.install() == ""
    assert snapshots.uninstall()


def files_of_failure_in(file):
    """Return the files of the frames that a trace shows of an error raised by code of a file."""
    namespace: dict = {}
    exec(compile("def fail():\n    raise ValueError", file, "exec"), namespace)
    with pytest.raises(ValueError) as raised:
        namespace["fail"]()
    return [frame["file"] for frame in frames(raised.tb)]


def test_our_frames_are_known_wherever_a_module_stands():
    package = Path(flowtrace.__file__).parent
    modules = [*package.rglob("*.py")]
    assert len(modules) > 50
    assert [module for module in modules if not str(module).startswith(OWN_FOLDER)] == []
    for module in modules:
        assert files_of_failure_in(str(module)) == [__file__]


@pytest.mark.parametrize("beside", ["flowtrace_of_mine", "flowtrace.py", "other"])
def test_a_frame_of_the_program_is_none_of_ours(beside):
    file = str(Path(flowtrace.__file__).parent.with_name(beside) / "steps.py")
    assert files_of_failure_in(file) == [__file__, file]


def test_an_error_of_our_own_is_nobodys_handler():
    error = ValueError()
    assert not is_from_handler(error)
    let_through(error)
    with pytest.raises(ValueError) as raised:
        raise error
    assert not is_from_handler(raised.value)
