"""Columns about what Python asks of the type of an object, or of the object's identity."""

from __future__ import annotations

import contextlib
import copy
import inspect
import operator
import os
import typing
from collections import abc
from collections.abc import Callable
from typing import Any

from .build import Pair, Program
from .comparing import both, outcome


@typing.runtime_checkable
class HasLength(typing.Protocol):
    def __len__(self) -> int: ...


@typing.runtime_checkable
class Enters(typing.Protocol):
    def __enter__(self) -> Any: ...


PROTOCOLS = (
    *(abc.Sized, abc.Container, abc.Collection, abc.Iterable, abc.Iterator, abc.Reversible, abc.Hashable),
    *(abc.Callable, abc.Awaitable, abc.Coroutine, abc.Generator, abc.AsyncIterable, abc.AsyncIterator),
    *(abc.AsyncGenerator, typing.SupportsInt, typing.SupportsFloat, typing.SupportsComplex, typing.SupportsIndex),
    *(typing.SupportsAbs, typing.SupportsBytes, typing.SupportsRound, os.PathLike, HasLength, Enters),
    *(contextlib.AbstractContextManager, contextlib.AbstractAsyncContextManager),
)


def protocols(pair: Pair) -> None:
    """It is what it is without the decorator for every abstract class and protocol, and so is what a call returns."""

    def look(program: Program) -> Any:
        made = program.reach()(*program.arguments("value"))
        seen = {
            name: [protocol.__name__ for protocol in PROTOCOLS if isinstance(item, protocol)]
            for name, item in (("reached", program.reach()), ("stored", program.stored()), ("returned", made))
        }
        if inspect.iscoroutine(made):
            made.close()
        return seen

    both(pair, look, "abstract classes")


def _enter(function: Any) -> None:
    with function:
        pass


OPERATORS: tuple[Callable[[Any], Any], ...] = (
    *(len, iter, next, reversed, int, float, complex, bytes, abs, round, bool, os.fspath, operator.index),
    *(operator.neg, operator.pos, operator.invert, _enter, format),
    *(lambda function: 0 in function, lambda function: function[0]),
    *(lambda function: operator.setitem(function, 0, 1), lambda function: format(function, ">9")),
    *(lambda function: operator.mod("no place", function), lambda function: copy.copy(function) is function),
    lambda function: copy.deepcopy(function) is function,
)
OF_TWO = (
    *(operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod, operator.pow),
    *(operator.matmul, operator.and_, operator.or_, operator.xor, operator.lshift, operator.rshift, divmod),
    *(operator.lt, operator.le, operator.gt, operator.ge, operator.iadd, operator.concat),
)


def operators(pair: Pair) -> None:
    """`len(f)`, `f % x`, `with f` and every other operation give or raise what they do without the decorator."""

    def look(program: Program) -> Any:
        function = program.reach()
        seen = [outcome(apply, function) for apply in OPERATORS]
        seen += [outcome(apply, function, 1) for apply in OF_TWO]
        return [*seen, *(outcome(apply, 1, function) for apply in OF_TWO)]

    both(pair, look, "operations")


def identity(pair: Pair) -> None:
    """What a class or module holds is one object, from its definition on, by every name that it has."""

    def look(program: Program) -> Any:
        owner, name, defined = program.owner(), program.binding.target, program.defined
        if owner is None:
            return program.names.get(name) is defined
        vars_now = vars(owner)[name]
        setattr(owner, "alias", vars_now)  # as a class body does: `alias = target`
        through = [getattr(owner, name), getattr(owner, name), getattr(owner, "alias")]
        functions = [getattr(item, "__func__", item) for item in (*through, *program.receivers, *program.received())]
        delattr(owner, "alias")
        return (
            vars_now is defined,
            [one is two for one in through for two in through],
            [one is two for one in functions for two in functions],
            [one == two for one in program.receivers for two in program.received()],
        )

    both(pair, look, "identity")
