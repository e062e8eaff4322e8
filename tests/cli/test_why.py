"""`flowtrace why`: what it prints, how it ends, and the sentence that `show` has of it."""

from __future__ import annotations

import json

import pytest

from flowtrace.trace.model import to_json
from tests.cli.commands import flowtrace
from tests.test_provenance import failed, made, recorded, settle
from tests.traces import step, trace

ANSWER = (
    "`/line/list_price` None, in the input of #5 pricing.price_line; an equal `line` came out of #3 catalog.enrich; "
    "inside it #2 catalog.lookup gave `list_price` None with the same `category` and `sku` and reported `empty_field`"
)
THERE = "the trace has the steps 0 to 6; a step id or a node id names one, too"
OF_LINE = "in the input of #5 pricing.price_line"


@pytest.fixture
def file(tmp_path):
    return written(tmp_path, recorded(settle))


def written(folder, loaded):
    path = folder / "trace.json"
    path.write_bytes(to_json(loaded))
    return path


def test_the_answer_and_its_links(file):
    done = flowtrace("why", file)
    assert (done.returncode, done.stderr) == (0, "")
    line = done.stdout.splitlines()[-1].rpartition(":")[2]
    assert done.stdout == (
        f"{ANSWER}\n"
        "\n"
        "  `/line/list_price` None, in the input of #5 pricing.price_line\n"
        "  its caller #6 pricing.price_order was called with an equal `line`  input /lines/1/list_price\n"
        "  an equal item of `lines` came out of #3 catalog.enrich  output /list_price\n"
        "  inside it #2 catalog.lookup gave `list_price` None with the same `category` and `sku`  output /list_price\n"
        "  reported `empty_field`: no list price in the catalog\n"
        f"  its own code made or read it (test_provenance.py:{line}\n"
    )


def test_as_json(file):
    done = flowtrace("why", "--json", file, "--step", "5", "/line/list_price")
    document = json.loads(done.stdout)
    assert (done.returncode, document["text"], document["found"]) == (0, ANSWER, True)
    assert [link["relation"] for link in document["links"]] == [
        "start",
        "container",
        "container",
        "same member",
        "reported issue",
        "made here",
    ]


def test_other_steps_that_gave_an_equal_value_are_listed(tmp_path):
    value = {"name": "LAMP-7", "price": None}
    path = written(tmp_path, trace(made("c.one", value), made("c.two", value), failed("c.use", {"x": value})))
    assert "    an equal one came out of /steps/0, too\n" in flowtrace("why", path, "/x").stdout


def test_where_nothing_more_is_known_it_ends_with_1(tmp_path):
    path = written(tmp_path, trace(step("c.make", 1, 2), failed("c.use", {"x": None})))
    done = flowtrace("why", path, "/x")
    assert (done.returncode, done.stdout.splitlines()[0]) == (
        1,
        "`/x` None, in the input of #1 c.use; such a common value can't be followed without something that holds it",
    )
    not_captured = written(tmp_path, trace(step("c.use", 1, error="no")))
    done = flowtrace("why", not_captured)
    assert done.returncode == 1
    assert "FLOWTRACE_CAPTURE_INPUTS=1" in done.stdout


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            ["--step", "9"],
            "there is no step '9': the trace has the steps 0 to 6; a step id or a node id names one, too",
        ),
        (
            ["/line/price"],
            "there is no /line/price in the input of #5 pricing.price_line; the nearest is /line/list_price",
        ),
        (["--step", "0"], "no pointer was given for #0 catalog.lookup, and it did not fail: it has /sku"),
        (["/\x1b[31m"], f"there is no /\\x1b[31m {OF_LINE}; it has /discount, /line"),
    ],
)
def test_what_is_not_there_is_an_error_that_says_what_is(file, asked, said):
    done = flowtrace("why", file, *asked)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"flowtrace: {said}\n")


def test_show_says_it_below_the_step_that_failed(file):
    shown = flowtrace("show", file).stdout
    assert f"why {ANSWER}\n" in shown
    assert shown.count("why ") == 1
    markdown = flowtrace("show", "--format", "markdown", file).stdout
    assert f"\nWhy: `{ANSWER.replace('`', '')}`\n" in markdown


def test_show_says_nothing_where_nothing_is_known(tmp_path):
    for steps in ([step("c.use", 1, error="no")], [failed("c.use", {"x": "a"})], [made("c.a", 1)]):
        path = written(tmp_path, trace(*steps))
        assert "why " not in flowtrace("show", path).stdout
        assert "Why:" not in flowtrace("show", "--format", "markdown", path).stdout


def test_what_a_trace_holds_reaches_the_terminal_escaped(tmp_path):
    nasty = "LAMP\x1b[31m\u202e-7"
    value = {nasty: nasty, "price": None}
    path = written(tmp_path, trace(made(f"c.{nasty}", value), failed("c.use", {"x": value})))
    done = flowtrace("why", path, "/x/price")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert "\u202e" not in done.stdout
