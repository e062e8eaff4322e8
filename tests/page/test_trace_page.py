"""The page of a trace, without a browser: what it says, what it holds, and that nothing in it can act."""

from __future__ import annotations

import re
from html import unescape

import pytest

from flowtrace.cli.page.render import built
from flowtrace.host.log import json_printable
from tests import traces
from tests.cli.commands import flowtrace
from tests.page.pages import data_of, hash_in_policy, page_of, policy_of, text_of

LINE = {"$py": "dataclass", "class": "__main__:Line", "fields": {"count": 2, "price": None, "sku": "A-1"}}
MESSAGE = "unsupported operand type(s) for *: 'NoneType' and 'int'"
DETAILS = {
    "type": "__main__.PriceError",
    "causes": [{"relation": "cause", "type": "TypeError", "message": MESSAGE}],
    "frames": [{"file": "shop.py", "line": 7, "function": "price"}],
}
IDS = {"lookup": "2", "price": "3", "order": "1"}


def step(name, *given, parent=None, details=None, **more):
    found = traces.step(f"shop.{name}", *given, captured=True, step_id=f"{IDS[name]:0>16}", **more)
    if parent:
        found["parent_step_id"] = f"{IDS[parent]:0>16}"
    if details:
        found["error"]["details"] = details
    return found


def failing():
    return traces.trace(
        step("lookup", {"sku": "A-1"}, {"price": None}, parent="order", at=100, lasts=50_000, thread="MainThread"),
        step(
            *("price", {"line": LINE}, None),
            **{"error": "A-1 can't be priced", "details": DETAILS, "parent": "order", "at": 200, "lasts": 9_000},
        ),
        step("order", {"number": 7}, None, error="A-1 can't be priced", at=50, lasts=300_000),
        flow="nightly",
        run=traces.run("failed") | {"failed_step_id": "0000000000000003"},
    )


def visible(page):
    """Return the text of the first screen, each run of blanks as one."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", text_of(page))))


def test_the_first_screen_says_what_failed_where_with_which_input_and_from_which_cause():
    text = visible(page_of(failing()))
    assert "failed flow nightly 1 p trace.json" in text
    assert "shop. price PriceError : A-1 can't be priced" in text
    assert f"caused by TypeError : {MESSAGE}" in text
    assert "$ flowtrace" not in text  # the prompt is the style's
    assert "flowtrace replay trace.json --step 1 --pdb" in text
    assert "at shop.py:7" in text
    assert "line Line count int 2 price None what the error is about sku str 'A-1'" in text
    assert "shop. order 7" in text
    assert "shop. price 2 A-1 ◀ failed here" in text


def test_the_data_are_columns_with_each_name_once():
    found = data_of(page_of(failing()))
    assert found["nodes"] == [[0, "shop.", "order"], [0, "shop.", "lookup"], [0, "shop.", "price"]]
    assert found["telling"] == [[["'number'"]], [["'sku'"]], [["'line'", "count"], ["'line'", "sku"]]]
    assert (found["rows"], found["components"], found["threads"]) == (3, ["shop"], ["", "MainThread"])
    assert found["columns"] == {
        "node": [0, 1, 2],
        "number": [2, 0, 1],
        "parent": [-1, 0, 0],
        "depth": [0, 1, 1],
        "state": [1, 0, 1],
        "flags": [128, 128, 192],
        "start": [50, 100, 200],
        "took": [300_000, 50_000, 9_000],
        "thread": [0, 1, 0],
        "lane": [0, 0, 1],
        "code": [-1, -1, -1],
    }
    assert (found["path"], found["failed"], found["dropped"]) == ([0, 2], 2, 0)
    assert found["ids"] == "1 2 3"
    assert found["errors"] == {"0": 0, "2": 1}
    assert found["error_texts"] == [
        ["node_error", "", "A-1 can't be priced"],
        ["node_error", "PriceError", "A-1 can't be priced"],
    ]


def test_the_values_come_in_the_order_of_their_weight_and_equal_ones_once():
    given = {"text": "the same text of some length"}
    same = [traces.step("a.b", given, given, captured=True) for _ in range(2)]
    assert data_of(page_of(traces.trace(*same)), "values-data") == [
        [1, ["m", "dict", ["'text'", "'the same text of some length'"], 0], {"same": [1, 0]}, {}],
        [0, {"same": [1, 0]}, {"same": [1, 0]}, {}],
    ]
    assert [item[0] for item in data_of(page_of(failing()), "values-data")] == [2, 1, 0]


def test_the_error_of_a_step_has_its_frames_and_causes():
    (item,) = [item for item in data_of(page_of(failing()), "values-data") if item[0] == 2]
    assert item[3] == {
        "message": "A-1 can't be priced",
        "chain": [f"caused by TypeError: {MESSAGE}"],
        "frames": [["at shop.py:7 in price", False]],
    }


def test_values_beyond_the_limit_are_left_out_and_counted():
    steps = [traces.step("a.b", {"text": traces.hash_of(at)["value"] * 40}, captured=True) for at in range(800)]
    page = page_of(traces.trace(*steps), most_bytes=150_000)
    kept = data_of(page, "values-data")
    left_out = int(re.search(r'data-left-out="(\d+)"', page)[1])
    assert len(kept) + left_out == 800
    assert len(page.encode()) <= 150_000
    assert left_out > 100
    assert len(kept) > 10
    assert f"the values of {left_out} steps are not in this page" in visible(page)


def test_a_value_too_large_for_the_page_is_no_origin_of_an_equal_one():
    large = {str(at): "".join(traces.hash_of([at, part])["value"] for part in range(60)) for at in range(90)}
    steps = [traces.step("a.b", {"n": at}, large, captured=True) for at in range(3)]
    page = page_of(traces.trace(*steps, traces.step("a.b", {"n": 3}, 1, captured=True)), most_bytes=130_000)
    assert [item[0] for item in data_of(page, "values-data")] == [3]
    assert "the values of 3 steps are not in this page" in visible(page)


def test_ten_thousand_steps_take_no_more_than_400_kb():
    steps = [
        traces.step(
            *(f"part{at % 7}.work{at % 31}", {"number": at, "name": f"item {at * 7919 % 10_007}"}, {"total": at * 1.5}),
            **{"captured": True, "at": at * 90, "lasts": 1000 + at % 997, "thread": f"worker_{at % 4}"},
        )
        for at in range(10_000)
    ]
    page = page_of(traces.trace(*steps))
    assert len(page.encode()) <= 400_000
    assert data_of(page)["rows"] == 10_000


# --- a page can't act


def test_the_policy_allows_the_one_script_and_the_one_style_and_nothing_else():
    page = page_of(failing())
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert (script, style) == (built("page.js"), built("page.css"))
    assert policy_of(page) == {
        "default-src": "'none'",
        "script-src": hash_in_policy(script),
        "style-src": hash_in_policy(style),
        "style-src-attr": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }


@pytest.mark.parametrize("name", ["page.js", "page.css"])
def test_what_was_built_ends_no_element_and_holds_no_invisible_character(name):
    text = built(name)
    assert re.findall(r"<!--|<script|</script|</style", text, re.IGNORECASE) == []
    assert json_printable(text.replace("\t", " ")) == text.replace("\t", " ")


EVIL = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "javascript:alert(1)",
    "\u202eoverride \x1b[31m \x07 \u200b\ufeff",
    '" onmouseover="alert(1)',
    "{{ 7 * 7 }} {% raw %}",
]


def hostile():
    """Return a trace in which every text is one that would like to act."""
    all_of_it = " ".join(EVIL)
    details = {"type": all_of_it, "causes": [{"relation": "cause", "type": all_of_it, "message": all_of_it}]}
    details |= {"notes": [all_of_it], "frames": [{"file": all_of_it, "line": 1, "function": all_of_it}]}
    issue = {"code": all_of_it, "path": all_of_it, "message": all_of_it}
    given = {text: {"$py": "dataclass", "class": f"m:{text}", "fields": {text: text}} for text in EVIL}
    record = traces.step(
        *(f"{all_of_it}.{all_of_it}", given, None),
        **{"error": all_of_it, "captured": True, "at": 1, "thread": all_of_it, "validation_issues": [issue]},
        **{"opaque": [all_of_it], "redacted": [all_of_it], "step_id": "0" * 15 + "1"},
    )
    record["error"]["details"] = details
    run = traces.run("failed") | {"failed_step_id": "0" * 15 + "1", "host": all_of_it, "python": all_of_it}
    return traces.trace(record, flow=all_of_it, run=run, git_sha=all_of_it, runner_version=all_of_it)


def test_a_hostile_trace_is_shown_and_does_nothing():
    page = page_of(hostile(), name=f"{EVIL[0]}.json")
    text = text_of(page)
    assert re.findall(r"<(?!/|!doctype)(\w+)", text).count("img") == 0
    assert len(re.findall("<script", page)) == 3
    assert re.findall(r"\son\w+=", re.sub(r">[^<]*<", "><", text)) == []
    assert {link[:1] for link in re.findall(r'href="([^"]*)"', page)} == {"#"}
    assert re.findall(r'\s(?:src|style|action)="', text) == []
    assert "49" not in re.findall(r"<h1>(.*?)</h1>", page, re.DOTALL)[0]


def test_no_character_of_a_trace_is_invisible_or_turns_the_text():
    page = page_of(hostile())
    assert json_printable(text_of(page)) == text_of(page)
    for block in ("steps-data", "values-data"):
        text = repr(data_of(page, block))
        assert text.replace("\\\\", "\\").isprintable()
    assert r"\u202eoverride \x1b[31m \x07 \u200b\ufeff" in page


# --- other traces


def test_a_trace_in_which_nothing_failed_has_no_first_screen():
    page = page_of(traces.trace(traces.step("a.b", at=1), run=traces.run("ok")))
    assert "nothing failed: 1 step" in visible(page)
    assert 'id="failure"' not in page
    assert data_of(page)["failed"] == -1


def test_a_handled_failure_is_shown_and_has_no_failing_path():
    record = traces.step("a.b", error="boom", at=1)
    page = page_of(traces.trace(record, run=traces.run("recovered")))
    assert "(handled)" in visible(page)
    found = data_of(page)
    assert (found["path"], found["failed"], found["columns"]["state"]) == ([], 0, [2])


def test_a_trace_without_steps_times_and_run_can_be_shown():
    page = page_of(traces.trace())
    assert data_of(page)["rows"] == 0
    page = page_of(traces.trace(traces.step("a.b", error="boom")))
    assert data_of(page)["columns"]["start"] == [None]


def test_a_step_that_can_not_be_replayed_says_why():
    pointer = "/invocation_json/payload/token"
    hidden = traces.step("a.b", {"token": "__REDACTED__"}, error="no", captured=True, redacted=[pointer])
    text = visible(page_of(traces.trace(hidden)))
    assert "can't be replayed: part of its input is redacted" in text
    assert "token redacted" in text
    text = visible(page_of(traces.trace(traces.step("a.b", error="no"))))
    assert "can't be replayed: its input was not captured" in text
    assert "Not captured: of its input, the trace has the hash" in text


def test_the_same_trace_gives_the_same_page():
    assert page_of(failing()) == page_of(failing())


# --- the command


def write(folder, trace):
    from flowtrace.trace.model import to_json

    (folder / "trace.json").write_bytes(to_json(trace))


def test_the_command_writes_a_page_beside_the_trace(tmp_path):
    write(tmp_path, failing())
    done = flowtrace("view", "trace.json", folder=tmp_path)
    size = (tmp_path / "trace.html").stat().st_size
    assert (done.returncode, done.stdout, done.stderr) == (0, "", f"flowtrace: {size // 1000} kB in trace.html\n")
    assert (tmp_path / "trace.html").read_text() == page_of(failing(), path=tmp_path / "trace.json")


def test_the_command_writes_to_another_file_or_to_standard_output(tmp_path):
    write(tmp_path, failing())
    assert flowtrace("view", "trace.json", "-o", "here/a.html", folder=tmp_path).returncode == 0
    done = flowtrace("view", "trace.json", "-o", "-", folder=tmp_path)
    assert done.stderr == ""
    assert done.stdout == (tmp_path / "here/a.html").read_text()


def test_bad_input_is_named(tmp_path):
    (tmp_path / "bad.json").write_text('{"trace_version": 2}')
    done = flowtrace("view", "bad.json", folder=tmp_path)
    assert done.returncode == 2
    assert "bad.json" in done.stderr
    assert not (tmp_path / "bad.html").exists()
