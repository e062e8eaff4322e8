"""Where the log records of a step are shown: in the tree, in Markdown, on the page, in a notebook."""

from __future__ import annotations

import json

from flowtrace.trace.model import to_document
from flowtrace.trace.outline import log_lines
from tests import traces
from tests.cli.commands import flowtrace
from tests.page.pages import data_of, page_of, text_of

HOSTILE = "<b>bold</b>\x1b[31m\u202e`code`"


def entry(at, message, level="INFO", **more):
    return {"logged_at": f"2026-11-24T00:00:00.{at:06d}Z", "level": level, "message": message, **more}


def failing():
    many = [entry(100 + number, f"record {number}") for number in range(8)]
    outer = traces.step(
        "shop.order", None, None, at=50, lasts=300_000, error="no price", step_id=f"{1:016x}", logs=many
    )
    records = [
        entry(1700, "looked up A-1", logger="shop.prices"),
        entry(2000, HOSTILE, "ERROR", error="KeyError: 'A-1'"),
    ]
    inner = traces.step(
        *("shop.price", None, None),
        **{"at": 200, "error": "no price", "step_id": f"{2:016x}", "parent_step_id": f"{1:016x}"},
        **{"logs": records, "dropped_logs": 4},
    )
    return traces.trace(inner, outer, run=traces.run("failed") | {"failed_step_id": f"{2:016x}"})


def test_a_line_says_when_since_the_start_of_its_step():
    inner, outer = failing().steps
    assert log_lines(inner) == [
        ("", "(4 earlier records not kept)"),
        ("INFO", "+1.5 ms INFO shop.prices: looked up A-1"),
        ("ERROR", f"+1.8 ms ERROR {HOSTILE} (KeyError: 'A-1')"),
    ]
    outer.started_at = None
    assert log_lines(outer)[0] == ("INFO", "INFO record 0")


def test_show_has_all_of_the_failing_step_and_the_last_of_the_others(tmp_path):
    path = tmp_path / "t.json"
    path.write_text(json.dumps(to_document(failing())))
    lines = [line.strip(" │├└─") for line in flowtrace("show", path).stdout.splitlines()]
    assert [line for line in lines if line.startswith("log ")] == [
        "log (3 earlier records)",
        *(f"log +0.1 ms INFO record {number}" for number in range(3, 8)),
        "log (4 earlier records not kept)",
        "log +1.5 ms INFO shop.prices: looked up A-1",
        r"log +1.8 ms ERROR <b>bold</b>\x1b[31m\u202e`code` (KeyError: 'A-1')",
    ]
    full = flowtrace("show", path, "--full").stdout
    assert [f"record {number}" in full for number in range(8)] == [True] * 8


def test_markdown_has_those_of_the_failing_step_in_a_block(tmp_path):
    path = tmp_path / "t.json"
    path.write_text(json.dumps(to_document(failing())))
    text = flowtrace("show", path, "--format", "markdown").stdout
    _, _, block = text.partition("Last log records of step 0:\n\n")
    assert block.split("\n\n")[0].splitlines() == [
        "```text",
        "(4 earlier records not kept)",
        "+1.5 ms INFO shop.prices: looked up A-1",
        r"+1.8 ms ERROR <b>bold</b>\x1b[31m\u202e`code` (KeyError: 'A-1')",
        "```",
    ]


def test_the_page_has_them_on_its_first_screen_and_for_each_step():
    page = page_of(failing())
    text = text_of(page)
    assert "Last log lines" in text
    assert (
        r'<li class="bad">+1.8 ms ERROR &lt;b&gt;bold&lt;/b&gt;\x1b[31m\u202e`code` (KeyError: &#39;A-1&#39;)</li>'
        in text
    )
    values = {row[0]: row[3].get("logs") for row in data_of(page, "values-data")}
    assert values[1] == [
        ["(4 earlier records not kept)", False],
        ["+1.5 ms INFO shop.prices: looked up A-1", False],
        [r"+1.8 ms ERROR <b>bold</b>\x1b[31m\u202e`code` (KeyError: 'A-1')", True],
    ]
    assert len(values[0]) == 8


def test_a_notebook_shows_them_below_the_step():
    html = failing()._repr_html_()
    assert "<pre>(4 earlier records not kept)<br>+1.5 ms INFO shop.prices: looked up A-1<br>" in html
    assert "<b>bold" not in html


def test_a_step_without_any_shows_nothing_of_them(tmp_path):
    path = tmp_path / "t.json"
    path.write_text(json.dumps(to_document(traces.trace(traces.step("a.b", error="no")))))
    assert not any(line.strip().startswith("log ") for line in flowtrace("show", path).stdout.splitlines())
    assert "Last log" not in flowtrace("show", path, "--format", "markdown").stdout
