"""Functions that find their caller by counting frames, and reports that show where something was called."""

from __future__ import annotations

import asyncio
import collections
import functools
import inspect
import io
import logging
import pdb
import sys
import traceback
import warnings

from .transcript import drive


def finding_the_caller(decorate):
    @decorate
    def by_frame():
        return sys._getframe(1).f_code.co_name

    @decorate
    def by_stack():
        return inspect.stack(0)[1].function

    @decorate
    def by_back():
        return inspect.currentframe().f_back.f_code.co_qualname

    @decorate
    def by_locals():
        return sys._getframe(1).f_locals["wanted"]

    @decorate
    def make_tuple():
        return collections.namedtuple("Made", "a").__module__

    class Service:
        @decorate
        def who(self):
            return sys._getframe(1).f_code.co_name

        @classmethod
        @decorate
        def who_of_class(cls):
            return sys._getframe(1).f_code.co_name

    @decorate
    async def who_awaits():
        return sys._getframe(1).f_code.co_name

    @decorate
    def who_iterates():
        yield sys._getframe(1).f_code.co_name

    async def awaiting():
        return await who_awaits()

    def the_caller():
        wanted = ["found"]
        seen = [by_frame(), by_stack(), by_back(), by_locals() is wanted, make_tuple()]
        return [*seen, Service().who(), Service.who_of_class(), drive(awaiting()), list(who_iterates())]

    return the_caller()


def levels_of_warnings_and_logs(decorate):
    @decorate
    def warn():
        warnings.warn("told", stacklevel=2)

    @decorate
    def log():
        logger.warning("told", stacklevel=2)

    def the_caller():
        warn()
        log()

    stream = io.StringIO()
    logger = logging.Logger("conformance")  # one of its own, which no configuration reaches
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(funcName)s"))
    logger.addHandler(handler)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        the_caller()
    return [(warning.filename, warning.lineno) for warning in caught], stream.getvalue()


def printed_stacks(decorate):
    @decorate
    def now():
        return [(frame.name, frame.line) for frame in traceback.extract_stack()[-2:]]

    @decorate
    async def fails():
        raise ValueError("raised")

    @decorate
    async def waits():
        await asyncio.sleep(10)

    async def main():
        task = asyncio.ensure_future(waits())
        await asyncio.sleep(0)
        shown = io.StringIO()
        task.print_stack(file=shown)
        names = [frame.f_code.co_qualname for frame in task.get_stack()]
        task.cancel()
        try:
            await fails()
        except ValueError as error:
            report = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        return shown.getvalue().splitlines()[1:], names, report, repr(task.get_coro()).split(" at ")[0]

    def the_caller():
        return now()

    return the_caller(), asyncio.run(main())


def stepping_into_a_call(decorate):
    @decorate
    def inner(number):
        return number + 1

    @decorate
    def outer(number):
        return inner(number) * 2

    class Silent(pdb.Pdb):
        def user_line(self, frame):
            stops.append((frame.f_code.co_name, frame.f_lineno))
            self.set_step()

        def user_return(self, frame, value):
            stops.append((frame.f_code.co_name, value))
            self.set_step()

        def user_call(self, frame, arguments):
            pass

    stops: list[object] = []
    before = sys.gettrace()
    debugger = Silent(stdin=io.StringIO(), stdout=io.StringIO(), nosigint=True, readrc=False)
    try:
        debugger.runcall(functools.partial(outer, 3))
    finally:
        sys.settrace(before)
    return stops


SCENARIOS = (finding_the_caller, levels_of_warnings_and_logs, printed_stacks, stepping_into_a_call)
