"""flowtrace changes nothing: programs that run undecorated and decorated do the same."""

from __future__ import annotations

import pytest

from .flowtrace_subject import FLOWTRACE
from .scenarios import SCENARIOS, check
from .subject import MODES, Subject, undecorated

UNDECORATED = pytest.param(Subject("nothing", undecorated), MODES[0], id="undecorated")  # always does the same


@pytest.mark.cells
@pytest.mark.parametrize(
    ("subject", "mode"), [UNDECORATED, *(pytest.param(FLOWTRACE, mode, id=mode.name) for mode in MODES)]
)
@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=list(SCENARIOS))
def test_the_decorated_program_does_as_the_undecorated_one(scenario, subject, mode):
    check(subject, scenario, mode)
