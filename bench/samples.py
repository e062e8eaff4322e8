"""Statistics of the numbers that rounds give: quotients by round, medians, spread, and whether a goal is met."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

AT_MOST, AT_LEAST = "at most", "at least"


@dataclass(frozen=True)
class Spread:
    """The middle of some numbers, and the quartiles around it."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, samples: Sequence[float]) -> Spread:
        """Return the spread of one or more numbers."""
        if len(samples) < 2:
            return cls(samples[0], samples[0], samples[0], 1)
        low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
        return cls(median, low, high, len(samples))

    def rounded(self) -> dict[str, float]:
        """Return it for a file, with as many digits as mean something."""
        return {name: float(f"{value:.4g}") for name, value in vars(self).items()} | {"count": self.count}


@dataclass(frozen=True)
class Goal:
    """A bound that a median is held to.

    Attributes:
        bound: ``AT_MOST`` or ``AT_LEAST``.
        value: the bound itself, which is still good.
    """

    bound: str
    value: float

    def is_met(self, value: float) -> bool:
        """Return True if a value is on the right side."""
        return value <= self.value if self.bound == AT_MOST else value >= self.value


@dataclass(frozen=True)
class Taken:
    """The measurement of one row.

    Attributes:
        samples: the row's value, once for each round or process.
        parts: what it was made of, by name: a number for each round, in the unit that the name says.
        note: what else there is to say of this run.
    """

    samples: list[float]
    parts: dict[str, list[float]] = field(default_factory=dict)
    note: str = ""


def quotients(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Divide round by round."""
    return [one / other for one, other in zip(above, below, strict=True)]


def differences(total: Sequence[float], part: Sequence[float]) -> list[float]:
    """Subtract round by round."""
    return [one - other for one, other in zip(total, part, strict=True)]
