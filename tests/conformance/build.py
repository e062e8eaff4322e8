"""Programs, made twice: as they are written, and with the decorator under test."""

from __future__ import annotations

import functools
import linecache
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from .bindings import Binding, lambda_program, program
from .shapes import NAMESPACE, Shape
from .subject import undecorated

MODULE = "conformance_program"
FILE = "conformance_program.py"

LAMBDA = Binding("lambda", "", lambda names: names["target"])


class Plan:
    """Named by an annotation, so that resolving it needs the function's own globals."""


@dataclass(frozen=True)
class Program:
    """One program that was run.

    Attributes:
        shape: its function's shape.
        binding: its function's binding.
        names: its global names.
        decorate: the decorator that it was run with.
        defined: what its class, or its module, held under the function's name when it had been run.
        receivers: the method, as objects of the class had it then: what was registered somewhere.
    """

    shape: Shape
    binding: Binding
    names: dict[str, Any]
    decorate: Callable[[Any], Any]
    defined: Any = None
    receivers: tuple[Any, ...] = ()

    def reach(self) -> Any:
        """Return the function, as a user reaches it."""
        return self.binding.reach(self.names)

    def stored(self) -> Any:
        """Return what is kept where the function is defined."""
        return (self.binding.stored or self.binding.reach)(self.names)

    def owner(self) -> Any:
        """Return the class whose body defines the function; None where that is no class."""
        classes = (self.names.get(name) for name in ("Host", "Base", "Form", "Meta"))
        return next((found for found in classes if found and self.binding.target in vars(found)), None)

    def received(self) -> tuple[Any, ...]:
        """Return the method as an object of the class has it: nothing where it is none, or made anew each time."""
        host = self.names.get("host")
        if host is None or isinstance(self.defined, property | functools.cached_property):
            return ()
        return (getattr(host, self.binding.target),)

    def arguments(self, *values: Any) -> tuple[Any, ...]:
        """Return the positional arguments of a call: a method reached through its class needs its receiver."""
        if self.binding.name == "method, reached through the class":
            return (self.names.setdefault("host", self.names["Host"]()), *values)
        return values

    def reached(self) -> Program:
        """Return the same program with its function reached already: a property may decorate it only then."""
        function = self.reach()
        return replace(self, binding=replace(self.binding, reach=lambda _: function))

    def call(self, /, *values: Any, **keywords: Any) -> Any:
        """Call the function, and run what it returns to its end."""
        return self.shape.run(self.reach()(*self.arguments(*values), **keywords))


@dataclass(frozen=True)
class Pair:
    """The same program, undecorated and decorated."""

    plain: Program
    traced: Program

    @property
    def shape(self) -> Shape:
        """The shape of both."""
        return self.plain.shape

    @property
    def binding(self) -> Binding:
        """The binding of both."""
        return self.plain.binding


def makes_sense(shape: Shape, binding: Binding) -> bool:
    """Tell whether there is such a program."""
    return binding is not LAMBDA or bool(shape.expression)


def run_source(source: str, decorate: Callable[[Any], Any]) -> dict[str, Any]:
    """Run a program's source with a decorator; return its global names."""
    linecache.cache[FILE] = (len(source), None, source.splitlines(keepends=True), FILE)
    module = ModuleType(MODULE)
    module.__dict__.update(NAMESPACE, decorate=decorate, Plan=Plan)
    sys.modules[MODULE] = module
    exec(compile(source, FILE, "exec"), module.__dict__)
    return module.__dict__


def build(shape: Shape, binding: Binding, decorate: Callable[[Any], Any]) -> Program:
    """Run a program with a decorator."""
    source = lambda_program(shape) if binding is LAMBDA else program(shape, binding)
    made = Program(shape, binding, run_source(source, decorate), decorate)
    owner = made.owner()
    made = replace(made, defined=made.names.get(binding.target) if owner is None else vars(owner)[binding.target])
    return replace(made, receivers=made.received())


def build_pair(shape: Shape, binding: Binding, decorate: Callable[[Any], Any]) -> Pair:
    """Run a program twice."""
    return Pair(build(shape, binding, undecorated), build(shape, binding, decorate))
