"""Outcomes of two runs, test by test: what differs, and what of it is explained."""

from __future__ import annotations

import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workshop import Result

HEADINGS = (
    "suite",
    "mode",
    "passed",
    "failed",
    "other",
    "new failures",
    "decorated",
    "steps",
    "faults",
    "seconds",
    "times",
)
MOST_TIMES = 3.0  # what a run may take of the undecorated one's time
BAD = frozenset({"failed", "error"})


@dataclass(frozen=True)
class Outcome:
    """How a test ended, and the report of its failure."""

    name: str
    text: str = ""


@dataclass(frozen=True)
class Difference:
    """A test that ended otherwise than in the plain run."""

    test: str
    before: str
    after: Outcome

    def __str__(self) -> str:
        text = "".join(f"\n    {line}" for line in self.after.text.splitlines()[-40:])
        return f"{self.before} -> {self.after.name}: {self.test}{text}"


@dataclass(frozen=True)
class Explained:
    """A difference that can't be avoided: an entry of explained.toml."""

    suite: str
    test: str
    modes: tuple[str, ...]
    why: str

    def counts(self, mode: str) -> bool:
        """Tell whether it is about a mode."""
        return mode in self.modes


def load_explained(path: Path) -> list[Explained]:
    """Read explained.toml.

    Raises:
        ValueError: an entry lacks a key, or says nothing.
    """
    found = []
    for entry in tomllib.loads(path.read_text()).get("explained", []):
        missing = {"suite", "test", "modes", "why"} - {key for key, value in entry.items() if value}
        if missing or len(entry) != 4:
            raise ValueError(f"{path.name}: {entry} must have suite, test, modes and why, and nothing else")
        found.append(Explained(entry["suite"], entry["test"], tuple(entry["modes"]), entry["why"]))
    return found


def differences(before: dict[str, Outcome], after: dict[str, Outcome]) -> list[Difference]:
    """Return every test that ended otherwise, did not run, or ran in one of the two runs only."""
    gone = Outcome("did not run")
    pairs = {test: (before.get(test, gone), after.get(test, gone)) for test in [*before, *after]}
    return [Difference(test, old.name, new) for test, (old, new) in pairs.items() if old.name != new.name]


def split(found: list[Difference], explained: list[Explained]) -> tuple[list[Difference], list[str]]:
    """Return the differences that nothing explains, and the explained tests that do not differ any more."""
    known = {item.test for item in explained}
    different = {item.test for item in found}
    return [item for item in found if item.test not in known], sorted(known - different)


def counts(outcomes: dict[str, Outcome]) -> str:
    """Return how many tests ended in which way, as text."""
    return ", ".join(f"{number} {name}" for name, number in sorted(Counter(o.name for o in outcomes.values()).items()))


def times(plain: Result, result: Result) -> float:
    """Return how many times the undecorated run's processor time a run took."""
    return result.seconds / plain.seconds


def row(suite: str, mode: str, result: Result, new: int, plain: Result) -> tuple[str, ...]:
    """Return a line of the table."""
    names = Counter(outcome.name for outcome in result.outcomes.values())
    failed = sum(names[name] for name in BAD)
    other = names.total() - names["passed"] - failed
    numbers = (names["passed"], failed, other, new, result.decorated, result.steps, len(result.faults))
    return (suite, mode, *map(str, numbers), f"{result.seconds:.1f}", f"{times(plain, result):.1f}")


def table(rows: list[tuple[str, ...]]) -> str:
    """Return rows as text in columns: words to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for cells in rows:
        words = [cell.ljust(width) for cell, width in zip(cells[:2], widths[:2], strict=True)]
        numbers = [cell.rjust(width) for cell, width in zip(cells[2:], widths[2:], strict=True)]
        lines.append("  ".join([*words, *numbers]))
    return "\n".join(lines)
