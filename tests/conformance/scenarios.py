"""Programs that run twice, undecorated and decorated, and must do the same: each returns what it saw.

A scenario takes the decorator and returns a transcript. `check` compares the two; nothing here knows pytest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from . import async_generators, callers, classes, coroutines, generators, lifetimes, mocks, registries, special_methods
from .subject import MODES, Mode, Subject, undecorated

Scenario = Callable[[Callable[[Any], Any]], Any]

SCENARIOS: dict[str, Scenario] = {
    f"{module.__name__.rpartition('.')[2].replace('_', ' ')}: {scenario.__name__.replace('_', ' ')}": scenario
    for module in (
        generators,
        async_generators,
        coroutines,
        lifetimes,
        special_methods,
        classes,
        callers,
        registries,
        mocks,
    )
    for scenario in module.SCENARIOS
}


class Result(NamedTuple):
    """One result. ``problem`` is empty where the decorated program did as the undecorated one."""

    scenario: str
    mode: str
    problem: str


def check(subject: Subject, scenario: Scenario, mode: Mode) -> None:
    """Run a scenario twice, and raise AssertionError where the transcripts differ."""
    expected = scenario(undecorated)

    def decorate(target: Any) -> Any:
        subject.set_mode(mode.at_import)
        decorated = subject.decorate(target)
        subject.set_mode(mode.at_call)
        return decorated

    found = scenario(decorate)
    assert found == expected, f"{found!r:.500} instead of {expected!r:.500}"


def run(subject: Subject, modes: tuple[Mode, ...] = MODES, chosen: dict[str, Scenario] = SCENARIOS) -> Iterator[Result]:
    """Run every scenario, or those that are chosen, in every mode."""
    for name, scenario in chosen.items():
        for mode in modes:
            problem = ""
            try:
                check(subject, scenario, mode)
            except Exception as error:
                problem = f"{type(error).__name__}: {error}"[:600]
            yield Result(name, mode.name, problem)
