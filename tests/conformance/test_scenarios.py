"""flowtrace changes nothing: programs that run undecorated and decorated do the same."""

from __future__ import annotations

import pytest

from .flowtrace_subject import FLOWTRACE, INHERENT, excused
from .scenarios import SCENARIOS, check, run
from .subject import MODES, Subject, undecorated

UNDECORATED = pytest.param(Subject("nothing", undecorated), MODES[0], id="undecorated")  # always does the same


@pytest.mark.cells
@pytest.mark.parametrize(
    ("subject", "mode"), [UNDECORATED, *(pytest.param(FLOWTRACE, mode, id=mode.name) for mode in MODES)]
)
@pytest.mark.parametrize("name", SCENARIOS)
def test_the_decorated_program_does_as_the_undecorated_one(name, subject, mode):
    if subject is FLOWTRACE and excused(name):
        pytest.skip(INHERENT[name])
    check(subject, SCENARIOS[name], mode)


@pytest.mark.parametrize("name", [name for name in INHERENT if ":" in name])
def test_what_is_inherent_to_the_pure_twin_shows_there(name):
    """The list of it excuses nothing that the twin could do."""
    failing = [result for result in run(FLOWTRACE, (MODES[1],), {name: SCENARIOS[name]}) if result.problem]
    assert bool(failing) == excused(name)
