"""The parts of the benchmark that measure nothing: what is made of the numbers, whose turn it is, and the page."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

BENCH = Path(__file__).resolve().parent.parent / "bench"
PAGE = BENCH.parent / "docs" / "pages" / "evidence" / "benchmark.md"


@pytest.fixture
def bench(monkeypatch):
    """The benchmark's modules, which are scripts beside each other and no package."""
    # conformance.subject, which peers.py needs, is one of the tests.
    for folder in (BENCH.parent / "tests", BENCH):
        monkeypatch.syspath_prepend(folder)
    names = ("benchmark_page", "causes", "other_pythons", "rows", "samples", "turns")
    return SimpleNamespace(**{name: importlib.import_module(name) for name in names})


def result(median, low, high, **parts):
    spread = {"median": median, "low": low, "high": high, "count": 3}
    return {"value": spread, "parts": {name: {**spread, "median": part} for name, part in parts.items()}, "note": ""}


# --- numbers


def test_a_spread_is_the_median_between_the_quartiles(bench):
    spread = bench.samples.Spread.of([5.0, 1.0, 3.0, 2.0, 4.0])
    assert vars(spread) == {"median": 3.0, "low": 2.0, "high": 4.0, "count": 5}


def test_one_number_is_its_own_spread(bench):
    assert vars(bench.samples.Spread.of([7.0])) == {"median": 7.0, "low": 7.0, "high": 7.0, "count": 1}


def test_a_file_gets_four_digits(bench):
    spread = bench.samples.Spread(1.23456, 0.000123456, 123456.0, 200)
    assert spread.rounded() == {"median": 1.235, "low": 0.0001235, "high": 123500.0, "count": 200}


def test_quotients_and_differences_stay_within_their_round(bench):
    assert bench.samples.quotients([6.0, 9.0], [2.0, 3.0]) == [3.0, 3.0]
    assert bench.samples.differences([6.0, 9.0], [2.0, 3.0]) == [4.0, 6.0]


def test_rounds_of_unequal_number_are_refused(bench):
    with pytest.raises(ValueError, match="shorter"):
        bench.samples.quotients([1.0, 2.0], [1.0])


def test_a_goal_is_met_at_the_bound_itself(bench):
    at_most, at_least = bench.rows.at_most(1.5), bench.rows.at_least(1.5)
    assert [at_most.is_met(value) for value in (1.4, 1.5, 1.6)] == [True, True, False]
    assert [at_least.is_met(value) for value in (1.4, 1.5, 1.6)] == [False, True, True]


# --- turns


class Fake:
    """A contender that notes when it runs; its time for a call is its number and that of the turn."""

    def __init__(self, number, turns):
        self.number, self.turns = number, turns

    def times_for(self, nanoseconds):
        return int(nanoseconds) // self.number

    def go(self, times):
        self.turns.append((self.number, times))
        return self.number + len(self.turns) / 100


def test_each_contender_has_one_turn_in_each_round(bench):
    turns = []
    contenders = {str(number): Fake(number, turns) for number in (1, 2, 4)}
    found = bench.turns.take_turns(contenders, 20, 0.001)
    rounds = [turns[start : start + 3] for start in range(0, 60, 3)]
    assert all(sorted(each) == [(1, 1000), (2, 500), (4, 250)] for each in rounds)
    assert len({tuple(each) for each in rounds}) == 6  # every order there is
    assert {name: len(samples) for name, samples in found.items()} == {"1": 20, "2": 20, "4": 20}
    place = next(place for place, (number, _) in enumerate(turns) if number == 4)
    assert found["4"][0] == 4 + (place + 1) / 100


def test_workers_see_nothing_that_steers_flowtrace_or_a_peer(bench, monkeypatch):
    for name in ("FLOWTRACE_OUT", "OTEL_SDK_DISABLED", "DD_TRACE_ENABLED", "PYTHONPATH", "GIT_SHA"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("TMPDIR", "/somewhere")
    environment = bench.turns.clean_environment()
    assert environment["TMPDIR"] == "/somewhere"
    assert [name for name in environment if name.startswith(("FLOWTRACE", "OTEL", "DD_", "PYTHON", "GIT_SHA"))] == []


# --- the page


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (3.0, "3"), (1.23456, "1.23"), (0.0333333, "0.0333"), (123.456, "123"), (1234567.8, "1,234,568")],
)
def test_numbers_have_three_digits_that_count(bench, value, text):
    assert bench.benchmark_page.number(value) == text


def test_a_small_quotient_is_shown_as_a_part_of_one(bench):
    page, times = bench.benchmark_page, bench.rows.TIMES
    assert [page.shown(value, times) for value in (1 / 30, 1 / 8, 0.25, 2.0)] == ["1/30", "1/8", "0.25", "2"]
    assert page.shown(0.125, "MB") == "0.125 MB"
    assert page.asked(bench.rows.at_most(1 / 30), times) == "at most 1/30"
    assert page.asked(bench.rows.at_least(0.5), times) == "at least 0.5"


ROWS = (
    ("met", "calls", "a / b", 2.0),
    ("missed", "files", "c / d", 1.0),
    ("told", "methods", "e / f", None),
)
RESULTS = {
    "met": result(1.5, 1.25, 1.75, **{"a, ns": 3.0, "b, ns": 2.0, "c, ms": 5.0}),
    "missed": result(4.0, 4.0, 4.0),
    "told": result(0.05, 0.04, 0.0625, **{"a, ns": 3.0, "b, ns": 2.0, "c, ms": 5.0}),
}


@pytest.fixture
def rows(bench):
    bound = [None if goal is None else bench.rows.at_most(goal) for *_, goal in ROWS]
    return [bench.rows.Row(*texts, goal) for (*texts, _), goal in zip(ROWS, bound, strict=True)]


def test_the_table_says_what_was_reached(bench, rows):
    assert bench.benchmark_page.goals(rows, RESULTS) == (
        "| measure | what the number is | goal | measured | quartiles |  |\n"
        "|---|---|---|---|---|---|\n"
        "| calls | a / b | at most 2 | **1.5** | 1.25 to 1.75 | met |\n"
        "| files | c / d | at most 1 | **4** | 4 | **missed** |\n"
        "| methods | e / f |  | **1/20** | 1/25 to 1/16 |  |\n"
    )


def test_only_what_is_missed_is_explained(bench, rows, monkeypatch):
    monkeypatch.setitem(bench.causes.CAUSES, "missed", "the disk is slow")
    monkeypatch.setitem(bench.causes.CAUSES, "met", "never shown")
    text = bench.benchmark_page.missed(rows, RESULTS)
    assert text == "### Missed, and why\n\n- **files** (missed): the disk is slow.\n"
    assert bench.benchmark_page.missed(rows[:1], RESULTS) == ""


def test_a_miss_without_a_cause_says_so(bench, rows):
    assert "- **files** (missed): not yet explained.\n" in bench.benchmark_page.missed(rows, RESULTS)


def test_rows_of_the_same_numbers_share_a_line(bench, rows):
    assert bench.benchmark_page.made_of(rows, RESULTS) == (
        "| measure | medians |\n|---|---|\n| calls; methods | a 3, b 2 ns; c 5 ms |\n"
    )


def test_the_printed_line_has_the_verdict(bench, rows):
    line = bench.benchmark_page.line(rows[1], RESULTS["missed"])
    assert line.split() == ["missed", "4", "[4]", "at", "most", "1", "MISSED"]


def test_the_page_is_that_of_the_results():
    checked = subprocess.run(
        [sys.executable, BENCH / "benchmark.py", "--check"], capture_output=True, text=True, timeout=60
    )
    assert checked.returncode == 0, checked.stderr


def test_every_miss_has_its_cause():
    assert "not yet explained" not in PAGE.read_text(encoding="utf-8")


def test_causes_are_those_of_rows(bench):
    names = ("calls", "box", "import", "values", "failures", "scale", "readers", "peers")
    sessions = [session for name in names for session in importlib.import_module(f"rows_{name}").SESSIONS]
    assert bench.causes.CAUSES.keys() <= {row.key for session in sessions for row in session.rows}


def test_a_row_that_was_never_measured_says_so(bench, rows):
    table = bench.benchmark_page.goals(rows[:1], {})
    assert table.splitlines()[2:] == ["| calls | a / b | at most 2 | not measured yet |  |  |"]


def test_other_versions_of_python_have_columns_and_goals_of_their_own(bench, monkeypatch):
    monkeypatch.setitem(bench.causes.CAUSES, "calls", "wrapt is quick")
    row = bench.rows.Row("calls", "a call", "a / b", bench.rows.at_most(0.7), newer=bench.rows.at_most(1.0))
    told = bench.rows.Row("told", "methods", "e / f", None)
    measured = {"3.14": 0.9, "3.12": 0.8}
    pythons = {
        version: {
            "rows": {"calls": result(value, value, value)},
            "Python": f"CPython {version}.1",
            "day": "d",
            "load": "0",
        }
        for version, value in measured.items()
    }
    text = bench.other_pythons.section([row, told], pythons)
    assert text.partition("some goals are others: ")[2] == (
        "a call at most 1.\n\n"
        "| measure | goal | 3.12 | 3.14 |\n|---|---|---|---|\n"
        "| a call (calls) | at most 0.7 | 0.8 **missed** | 0.9 |\n\n"
        "### Missed there, and why\n\n- **a call** (calls) on 3.12: wrapt is quick.\n\n"
        "|  | measured |\n|---|---|\n| CPython 3.12.1 | d, load 0 |\n| CPython 3.14.1 | d, load 0 |\n"
    )
    assert bench.other_pythons.section([row, told], {}) == ""
