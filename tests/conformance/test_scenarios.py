"""flowtrace changes nothing: programs that run undecorated and decorated do the same."""

from __future__ import annotations

import pytest

from .flowtrace_subject import FLOWTRACE
from .scenarios import SCENARIOS, check
from .subject import MODES, Subject, undecorated


@pytest.mark.cells
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=list(SCENARIOS))
def test_the_decorated_program_does_as_the_undecorated_one(scenario, mode):
    check(FLOWTRACE, scenario, mode)


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=list(SCENARIOS))
def test_the_undecorated_program_always_does_the_same(scenario):
    check(Subject("nothing", undecorated), scenario, MODES[0])
