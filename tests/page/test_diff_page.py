"""The page of two traces, without a browser."""

from __future__ import annotations

import re

from flowtrace.cli.page.diff_page import diff_page
from flowtrace.comparing.evidence import Side
from flowtrace.trace.model import to_json
from tests import traces
from tests.cli.commands import flowtrace
from tests.page.pages import data_of, text_of
from tests.page.test_trace_page import visible


def step(name, number, parent=None, **more):
    ids = {"step_id": f"{number:016x}"} | ({"parent_step_id": f"{parent:016x}"} if parent else {})
    return {"captured": True, "name": name, "at": number, **ids, **more}


def made(*steps, **fields):
    found = []
    for item in steps:
        given, result = item.pop("given", {}), item.pop("result", 1)
        found.append(traces.step(item.pop("name"), given, result, **item))
    return traces.trace(*found, **fields)


def before():
    return made(
        step("shop.look_up", 2, 1, given={"name": "assam"}, result={"price": 8}, code="old"),
        step("shop.look_up", 3, 1, given={"name": "oolong"}, result={"price": None}, code="old"),
        step("shop.add", 4, 1, given={"prices": [8, None]}, result=None, error="can't add None", code="same"),
        step("shop.total", 1, given={"names": 2}, result=None, error="can't add None", lasts=9_000, code="same"),
        run=traces.run("failed"),
    )


def after():
    return made(
        step("shop.look_up", 2, 1, given={"name": "assam"}, result={"price": 8}, code="new"),
        step("shop.look_up", 3, 1, given={"name": "oolong"}, result={"price": 9}, code="new"),
        step("shop.add", 4, 1, given={"prices": [8, 9]}, result=17, code="same"),
        step("shop.note", 5, 1, given={"total": 17}, result=1, code="same"),
        step("shop.total", 1, given={"names": 2}, result=17, lasts=9_000, code="same"),
        run=traces.run("ok"),
    )


def page_of_two(a, b):
    return diff_page(Side(a, "a.json", None), Side(b, "b.json", None))


def test_it_begins_where_the_runs_part_with_both_values():
    text = visible(page_of_two(before(), after()))
    said = "The runs part at shop.look_up oolong : same input, changed code , so price is None in A and 9 in B ."
    assert said in text
    assert "flowtrace replay a.json --step 1" in text
    assert "4 steps compared, 4 divergences" in text
    assert "output /price None 9" in text
    assert "≠ shop.add : input changed , the difference began before this step · A #2 B #2" in text
    assert "Outcome failed: #2 shop.add ok" in text


def test_both_trees_are_one_with_the_same_rows_folded():
    found = data_of(page_of_two(before(), after()), "pairs-data")
    assert found == {
        "rows": 5,
        "node": [0, 1, 1, 2, 3],
        "nodes": [["shop.", "total"], ["shop.", "look_up"], ["shop.", "add"], ["shop.", "note"]],
        "depth": [0, 1, 1, 1, 1],
        "parent": [-1, 0, 0, 0, 0],
        "arguments": ["", "assam", "oolong", "", "17"],
        "kind": [3, -1, 0, 1, 2],
        "kinds": ["code changed", "input changed", "step added", "error vanished"],
        "first": 2,
        "a": [[3, 1, 9000], [0, 0, 1000], [1, 0, 1000], [2, 1, 1000], 0],
        "b": [[4, 0, 9000], [0, 0, 1000], [1, 0, 1000], [2, 0, 1000], [3, 0, 1000]],
        "changed": [0, [1, 0, "shop.look_up (1 step)"], 2, 3, 4],
    }


def test_equal_traces_have_no_divergence():
    page = page_of_two(before(), before())
    assert "No difference was found: 4 steps compared." in visible(page)
    found = data_of(page, "pairs-data")
    assert (found["first"], found["changed"]) == (-1, [[0, 0, "shop.total (4 steps)"]])


def test_texts_of_both_traces_are_only_shown():
    evil = "</script><img src=x onerror=alert(1)>\u202e"
    a = traces.trace(traces.step(evil, {evil: 1}, {evil: evil}, captured=True), flow=evil)
    b = traces.trace(traces.step(evil, {evil: 1}, {evil: 2}, captured=True), flow=evil)
    page = page_of_two(a, b)
    assert "\u202e" not in page
    assert "<img" not in text_of(page)
    assert len(re.findall("<script", page)) == 2


def test_the_command_takes_two_traces(tmp_path):
    (tmp_path / "a.json").write_bytes(to_json(before()))
    (tmp_path / "b.json").write_bytes(to_json(after()))
    done = flowtrace("view", "a.json", "b.json", folder=tmp_path)
    assert done.returncode == 0
    assert "in b.diff.html" in done.stderr
    assert "The runs part at" in visible((tmp_path / "b.diff.html").read_text())
    done = flowtrace("view", "a.json", "b.json", "a.json", folder=tmp_path)
    assert (done.returncode, "one TRACE is shown, or two are compared" in done.stderr) == (2, True)
