"""flowtrace changes nothing: each row of the matrix, in each mode, through every column."""

from __future__ import annotations

import pytest

from .flowtrace_subject import FLOWTRACE, INHERENT, excused
from .matrix import rows, run_row
from .subject import MODES, Subject, undecorated


@pytest.mark.cells
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
@pytest.mark.parametrize(
    ("shape", "binding"), [pytest.param(*row, id=f"{row[1].name}-{row[0].name}") for row in rows()]
)
def test_the_decorated_program_does_as_the_undecorated_one(shape, binding, mode):
    cells = list(run_row(FLOWTRACE, shape, binding, mode))
    assert {cell.column: cell.problem for cell in cells if cell.problem and not excused(cell.column)} == {}


def test_only_what_is_inherent_to_the_pure_twin_shows_there():
    """The list of it excuses nothing that the twin could do."""
    (row, *_) = [row for row in rows() if (row[0].name, row[1].name) == ("sync", "module function")]
    failing = {cell.column for cell in run_row(FLOWTRACE, *row, MODES[1]) if cell.problem}
    assert failing == {column for column in INHERENT if ":" not in column and excused(column)}


@pytest.mark.costly
def test_the_matrix_finds_no_fault_in_no_decorator_at_all():
    nothing = Subject("nothing", undecorated)
    cells = [cell for shape, binding in list(rows())[::7] for cell in run_row(nothing, shape, binding, MODES[1])]
    assert len(cells) > 1000
    assert [cell for cell in cells if cell.problem] == []


def test_the_matrix_finds_the_faults_of_a_plain_closure():
    closure = Subject("closure", lambda function: lambda *args, **kwargs: function(*args, **kwargs))
    (shape, binding), *_ = [row for row in rows() if (row[0].name, row[1].name) == ("generator", "module function")]
    problems = {cell.column for cell in run_row(closure, shape, binding, MODES[1]) if cell.problem}
    assert {"signature", "names", "annotations", "kinds", "defaults", "wrapped", "code"} <= problems
