"""Programs, made twice: as they are written, and with the decorator under test."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable
from dataclasses import dataclass
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
    """

    shape: Shape
    binding: Binding
    names: dict[str, Any]

    def reach(self) -> Any:
        """Return the function, as a user reaches it."""
        return self.binding.reach(self.names)

    def stored(self) -> Any:
        """Return what is kept where the function is defined."""
        return (self.binding.stored or self.binding.reach)(self.names)

    def arguments(self, *values: Any) -> tuple[Any, ...]:
        """Return the positional arguments of a call: a method reached through its class needs its receiver."""
        if self.binding.name == "method, reached through the class":
            return (self.names.setdefault("host", self.names["Host"]()), *values)
        return values

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


def build(shape: Shape, binding: Binding, decorate: Callable[[Any], Any]) -> Program:
    """Run a program with a decorator."""
    source = lambda_program(shape) if binding is LAMBDA else program(shape, binding)
    linecache.cache[FILE] = (len(source), None, source.splitlines(keepends=True), FILE)
    module = ModuleType(MODULE)
    module.__dict__.update(NAMESPACE, decorate=decorate, Plan=Plan)
    sys.modules[MODULE] = module
    exec(compile(source, FILE, "exec"), module.__dict__)
    return Program(shape, binding, module.__dict__)


def build_pair(shape: Shape, binding: Binding, decorate: Callable[[Any], Any]) -> Pair:
    """Run a program twice."""
    return Pair(build(shape, binding, undecorated), build(shape, binding, decorate))
