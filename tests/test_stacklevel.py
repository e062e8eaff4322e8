"""Who is to blame: `stacklevel` in warnings and logging counts the same frames as in the undecorated program."""

from __future__ import annotations

import asyncio
import logging
import warnings

import pytest

import flowtrace
from flowtrace import traced_node


def blame():
    warnings.warn("this way is old", DeprecationWarning, stacklevel=2)
    logging.getLogger("program").warning("look there", stacklevel=2)


def blame_while_iterating():
    blame_two()
    yield 1


async def blame_when_awaited():
    blame_two()


async def blame_while_iterating_async():
    blame_two()
    yield 1


def blame_two():
    warnings.warn("this way is old", DeprecationWarning, stacklevel=3)
    logging.getLogger("program").warning("look there", stacklevel=3)


class Program:
    def method(self):
        blame_two()

    @classmethod
    def of_the_class(cls):
        blame_two()

    traced_method = traced_node(method)
    traced_of_the_class = traced_node(of_the_class)


async def consume(stream):
    return [item async for item in stream()]


async def run(function):
    await function()


CALLS = {
    "function": (lambda function: function(), blame, traced_node(blame)),
    "method": (lambda method: method(), Program().method, Program().traced_method),
    "class method": (lambda method: method(), Program.of_the_class, Program.traced_of_the_class),
    "generator": (lambda function: list(function()), blame_while_iterating, traced_node(blame_while_iterating)),
    "coroutine": (lambda function: asyncio.run(run(function)), blame_when_awaited, traced_node(blame_when_awaited)),
    "async generator": (
        lambda function: asyncio.run(consume(function)),
        blame_while_iterating_async,
        traced_node(blame_while_iterating_async),
    ),
    "nested": (lambda function: function(), lambda: blame(), traced_node(lambda: traced_node(blame)())),
}


def blamed(call, function, caplog):
    caplog.clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(function)
    places = [(warning.filename, warning.lineno) for warning in caught]
    return places, [(record.pathname, record.lineno, record.funcName) for record in caplog.records]


@pytest.mark.parametrize("mode", ["off", "on", "always"])
@pytest.mark.parametrize("name", CALLS)
def test_a_stacklevel_blames_the_same_line(name, mode, caplog):
    call, bare, traced = CALLS[name]
    flowtrace.configure(mode=mode)
    expected = blamed(call, bare, caplog)
    assert len(expected[0]) == len(expected[1]) == 1
    assert expected[0][0][0] == __file__
    assert blamed(call, traced, caplog) == expected


def test_a_warning_filter_for_the_callers_module_still_matches():
    flowtrace.configure(mode="on")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", module=r".*test_stacklevel")
        with pytest.raises(DeprecationWarning, match="this way is old"):
            traced_node(blame)()
