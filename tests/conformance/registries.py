"""What programs keep functions in, and find them by: signals, exit stacks, aliases, tables by identity or by type."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from unittest import mock

from .transcript import outcome


class _Signal:
    """Knows receivers by the identities of their object and function, as the signals of Django and Celery do."""

    def __init__(self):
        self.receivers = {}

    def connect(self, method):
        self.receivers[id(method.__self__), id(method.__func__)] = weakref.WeakMethod(method)

    def disconnect(self, method):
        return self.receivers.pop((id(method.__self__), id(method.__func__)), None) is not None

    def send(self, value):
        for reference in list(self.receivers.values()):
            reference()(value)


def signals(decorate):
    class Service:
        @decorate
        def handle(self, value):
            got.append(value)

        again = handle

    got = []
    service, signal = Service(), _Signal()
    signal.connect(service.handle)
    signal.connect(service.handle)
    signal.connect(service.again)
    signal.send(1)
    known = len(signal.receivers)
    return known, signal.disconnect(service.handle), signal.send(2), got


def aliases(decorate):
    class Base:
        @decorate
        def one(self):
            return "one"

        two = one
        __call__ = one

        @classmethod
        @decorate
        def of_class(cls):
            return cls.__name__

    class Child(Base):
        three = Base.one

    child = Child()
    return (
        [Base.one is Base.one, Base.one is Base.two, Child.three is Base.one, Child.one is Base.two],
        [vars(Base)["one"] is vars(Base)["two"], vars(Base)["__call__"] is Base.one, child.one == child.two],
        [child.one.__func__ is Base.one, child.of_class == Child.of_class, child(), child.three()],
        {Base.one: "found"}.get(Child.three),
        {child.one: "found"}.get(child.two),
    )


def exit_stacks(decorate):
    @decorate
    def on_exit(kind, error, traceback):
        log.append(kind and kind.__name__)
        return kind is KeyError

    @decorate
    async def on_async_exit(kind, error, traceback):
        log.append(kind and kind.__name__)
        return True

    class Closer:
        @decorate
        def leave(self, *error):
            log.append("left")

    def pushed():
        with contextlib.ExitStack() as stack:
            stack.push(on_exit)
            stack.push(Closer().leave)
            stack.callback(on_exit, None, None, None)
            raise KeyError("swallowed")

    async def pushed_async():
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_exit(on_async_exit)
            stack.push(on_exit)
            raise ValueError("swallowed")

    log = []
    return (
        outcome(pushed),
        outcome(asyncio.run, pushed_async()),
        outcome(contextlib.ExitStack().enter_context, on_exit),
        log,
    )


def mocks_made_from_it(decorate):
    @decorate
    def function(value, *, key=None):
        return value

    class Service:
        @decorate
        def method(self, value):
            return value

    double, auto = mock.MagicMock(spec=function), mock.create_autospec(function, return_value=3)
    service = mock.create_autospec(Service)
    return (
        outcome(len, double),
        outcome(iter, mock.Mock(spec=function)),
        [outcome(auto, 1), outcome(auto, 1, 2), outcome(auto, 1, key=2)],
        [outcome(Service.method), outcome(service().method, 1, 2)],
    )


SCENARIOS = (signals, aliases, exit_stacks, mocks_made_from_it)
