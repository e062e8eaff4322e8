"""A column and a scenario about programs that replace functions of the standard library, as tests do."""

from __future__ import annotations

import builtins
import contextlib
import datetime
import os
import random
import re
import threading
import time
import types
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from .build import Pair, Program
from .comparing import both, raised_by
from .transcript import drive, outcome

_FUNCTIONS = (types.BuiltinFunctionType, types.FunctionType, types.MethodType)
_NAMES: dict[types.ModuleType, tuple[str, ...]] = {
    module: tuple(name for name, value in vars(module).items() if isinstance(value, _FUNCTIONS))
    for module in (os, os.path, time, random, re)
} | {builtins: ("__import__", "open", "print", "eval", "exec"), datetime: ("datetime", "date")}


@contextlib.contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count the calls of this thread to every function of os, time, random and re, of imports and of datetime."""
    calls: Counter[str] = Counter()
    me = threading.get_ident()

    def counting(name: str, function: Callable[..., Any]) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if ident() == me:
                calls[name] += 1
            return function(*args, **kwargs)

        return call

    ident = threading.get_ident
    before = [(module, name, getattr(module, name)) for module, names in _NAMES.items() for name in names]
    replacements = [counting(f"{module.__name__}.{name}", function) for module, name, function in before]
    put = types.ModuleType.__setattr__
    try:
        for (module, name, _), replacement in zip(before, replacements, strict=True):
            put(module, name, replacement)
        yield calls
    finally:
        for module, name, function in before:
            put(module, name, function)


def mocks(pair: Pair) -> None:
    """A program that replaces functions of os, time, random or re, or imports, sees its own calls and no others."""

    def look(program: Program) -> Any:
        error, program = ValueError("raised"), program.reached()
        with counted() as calls:
            program.call("value")
            assert raised_by(program, error) is error
        return calls

    both(pair, look, "calls of functions that were replaced")


def functions_that_a_test_replaces(decorate):
    @decorate
    def token():
        return os.urandom(4)

    @decorate
    def save(name):
        os.replace(f"{name}.new", name)  # noqa: PTH105

    @decorate
    def load(name):
        return __import__(name)

    @decorate
    async def now():
        return time.time(), datetime.datetime.now()

    @decorate
    def fails():
        raise ValueError(random.random())

    frozen = mock.Mock(wraps=datetime.datetime, **{"now.return_value": "now"})
    seen: list[Any] = []
    with (
        mock.patch("os.urandom", side_effect=[b"aaaa", b"bbbb"]) as urandom,
        mock.patch("os.replace", side_effect=PermissionError("refused")) as replace,
        mock.patch("time.time", return_value=1.5),
        mock.patch("random.random", return_value=0.5),
        mock.patch("datetime.datetime", frozen),
    ):
        seen += [token(), token(), outcome(save, "name"), outcome(fails), drive(now())]
        seen += [urandom.call_args_list, replace.call_args_list, frozen.method_calls]
    with mock.patch("builtins.__import__", return_value="module") as imports:
        found = load("anything"), len(imports.call_args_list)
    return seen, found


SCENARIOS = (functions_that_a_test_replaces,)
