"""A row of the benchmark, and a session: rows that are measured together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from samples import AT_LEAST, AT_MOST, Goal, Taken
from turns import Plan

TIMES = "\N{MULTIPLICATION SIGN}"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        key: its name in the results and on the command line.
        measure: what is measured, as the table says it.
        value: what is divided by what, in words that leave nothing open.
        goal: what it must reach; None where it is only shown.
        unit: of the value; `TIMES` for a quotient.
        newer: its goal on CPython 3.14 and later, where that is another one.
    """

    key: str
    measure: str
    value: str
    goal: Goal | None
    unit: str = TIMES
    newer: Goal | None = None

    def goal_on(self, python: str) -> Goal | None:
        """Return what it must reach on a version of CPython, such as 3.14."""
        is_newer = tuple(map(int, python.split("."))) >= (3, 14)
        return self.newer if is_newer and self.newer else self.goal


@dataclass(frozen=True)
class Session:
    """Rows that are measured together.

    Attributes:
        name: its name on the command line.
        rows: its rows, in the order of the table.
        take: measures them; returns what it took by the key of the row.
        quick: it is part of `make bench-quick`.
    """

    name: str
    rows: tuple[Row, ...]
    take: Callable[[Plan], dict[str, Taken]]
    quick: bool = False


def at_most(value: float) -> Goal:
    """Return the goal not to be above a value."""
    return Goal(AT_MOST, value)


def at_least(value: float) -> Goal:
    """Return the goal not to be below a value."""
    return Goal(AT_LEAST, value)
