"""Columns about decorators of wrapt, over and under the decorator under test."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

import wrapt

from .build import MODULE, Pair, Program, build
from .comparing import both, outcome, raised_by
from .subject import undecorated

Seen = list[tuple[Any, ...]]


def _noting(seen: Seen) -> Callable[..., Any]:
    """Return what wrapt calls a wrapper: it notes what it is given, and passes it on."""

    def wrapper(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        who = instance if instance is None or isinstance(instance, type) else type(instance)
        kind = "nothing" if instance is None else "a class" if instance is who else "an object"
        seen.append((kind, who and who.__name__, wrapped.__name__, len(args), sorted(kwargs)))
        return wrapped(*args, **kwargs)

    return wrapper


DECORATORS: dict[str, Callable[[Seen], Callable[[Any], Any]]] = {
    "wrapt.decorator": lambda seen: wrapt.decorator(_noting(seen)),
    "wrapt.synchronized": lambda seen: wrapt.synchronized,
}


def wrapt_over(pair: Pair) -> None:
    """A decorator of wrapt that comes over it sees and gives what it does without the decorator."""
    _compare(pair, over=True)


def wrapt_under(pair: Pair) -> None:
    """A decorator of wrapt that comes under it sees and gives what it does without the decorator."""
    _compare(pair, over=False)


def _compare(pair: Pair, over: bool) -> None:
    for name, make in DECORATORS.items():
        if name == "wrapt.synchronized" and _takes_its_lock_twice(pair):
            continue  # a call would wait for itself for ever, even where nothing but wrapt decorates it
        both(pair, lambda program, make=make: _decorated(program, make, over), name)
    both(pair, lambda program: _patched(program, over), "wrapt.wrap_function_wrapper")


def _takes_its_lock_twice(pair: Pair) -> bool:
    """Return True if a coroutine is under the lock twice, which is not re-entrant for coroutines."""
    shape, stack = pair.shape, pair.binding.stack
    return shape.head == "async def" and ("{itself}" in shape.body or stack.count("@decorate") > 1)


def _decorated(program: Program, make: Callable[[Seen], Callable[[Any], Any]], over: bool) -> Any:
    seen: Seen = []
    wrap, decorate = make(seen), program.decorate

    def composed(target: Any) -> Any:
        return wrap(decorate(target)) if over else decorate(wrap(target))

    return _used(build(program.shape, program.binding, composed)), seen


def _patched(program: Program, over: bool) -> Any:
    """Let wrapt replace the function where it is stored; the decorator is there already, or comes after."""
    seen: Seen = []
    made = build(program.shape, program.binding, program.decorate if over else undecorated)
    owner, name = made.owner(), made.binding.target
    place = sys.modules[MODULE] if owner is None else owner
    if name not in vars(place):
        return "it can't be reached by a name"
    wrapt.wrap_function_wrapper(place, name, _noting(seen))
    if not over:
        setattr(place, name, program.decorate(vars(place)[name]))
    return _used(made), seen


def _used(program: Program) -> Any:
    """Return what calls of the function give, and which attributes hang on its class and object afterwards."""
    value, error = object(), ValueError("raised")
    return (
        outcome(lambda: program.call(value) is value),
        outcome(lambda: raised_by(program, error) is error),
        outcome(lambda: program.call("value", 1, 2, key=lambda *seen: seen, more=3)),
        outcome(lambda: program.shape.run(program.reach()())),
        outcome(lambda: inspect.signature(program.reach())),
        [sorted(getattr(program.names.get(name), "__dict__", ())) for name in ("Host", "Base", "host")],
    )
