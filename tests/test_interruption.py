"""What a signal's handler raises while our code runs is the host's: a program whose timeout is lost hangs."""

from __future__ import annotations

import signal
from functools import partial

import pytest

from flowtrace import configure, register_codec, traced_node
from flowtrace.host.signals import is_from_handler, let_through
from flowtrace.recording.step import CURRENT, running


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


HANDLERS = {"function": ring, "method": Bell().ring, "partial": partial(ring), "object": Bell()}


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


def test_a_step_that_an_alarm_ends_is_no_longer_alive(alarm):
    configure(mode="on")
    with pytest.raises(Late):
        give(Alarming())
    with pytest.raises(Late):
        make()
    assert running() == []


def test_an_error_of_a_codec_itself_stays_inside(alarm):
    class Faulty:
        pass

    def fail(value):
        raise Late("of the codec")

    register_codec(Faulty, fail, Faulty)
    configure(mode="on")
    value = Faulty()
    assert give(value) is value


def test_an_error_of_our_own_is_nobodys_handler():
    error = ValueError()
    assert not is_from_handler(error)
    let_through(error)
    with pytest.raises(ValueError) as raised:
        raise error
    assert not is_from_handler(raised.value)
