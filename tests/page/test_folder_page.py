"""The page of a folder of traces."""

from __future__ import annotations

import os
import re

from flowtrace.trace.model import to_json
from tests import traces
from tests.cli.commands import flowtrace
from tests.page.test_trace_page import EVIL, failing, visible


def fill(folder):
    for age, (name, data) in enumerate(
        [
            ("failed.json", to_json(failing())),
            ("good.json", to_json(traces.trace(traces.step("a.b", at=1), run=traces.run("ok")))),
            ("other.json", b'{"trace_version": 1, "steps": "none"}'),
            ("no-trace.json", b"{}"),
        ]
    ):
        (folder / name).write_bytes(data)
        os.utime(folder / name, (1_000_000 - age, 1_000_000 - age))


def test_it_lists_the_traces_newest_first_with_outcome_and_failing_node(tmp_path):
    fill(tmp_path)
    done = flowtrace("view", ".", folder=tmp_path)
    assert (done.returncode, "in traces.html" in done.stderr) == (0, True)
    page = (tmp_path / "traces.html").read_text()
    text = visible(page)
    assert "3 traces, the newest first; 1 failed" in text
    assert "failed shop.price #1 at shop.py:7 PriceError: A-1 can't be priced flow nightly 1 3" in text
    assert "2026-11-24 00:00:00 UTC ok flow f 1 1 flowtrace view good.json Copy" in text
    assert re.findall(r"unreadable .*? other.json", text) != []
    names = re.findall(r"(?:view |\s)(\w+\.json)", text)
    assert list(dict.fromkeys(names)) == ["failed.json", "good.json", "other.json"]


def test_an_empty_folder_is_an_error(tmp_path):
    done = flowtrace("view", ".", folder=tmp_path)
    assert (done.returncode, done.stderr) == (2, "flowtrace: there is no trace in the folder '.'\n")


def test_names_and_texts_of_the_traces_are_only_shown(tmp_path):
    record = traces.step("a.b", error=" ".join(EVIL))
    (tmp_path / "a<img src=x>.json").write_bytes(to_json(traces.trace(record, flow=EVIL[0])))
    flowtrace("view", ".", folder=tmp_path)
    page = (tmp_path / "traces.html").read_text()
    assert "<img" not in page
    assert "\u202e" not in page
    assert len(re.findall("<script", page)) == 1


def test_a_folder_stands_for_its_newest_trace_in_a_comparison(tmp_path):
    (tmp_path / "old").mkdir()
    fill(tmp_path / "old")
    fill(tmp_path)
    done = flowtrace("view", "old", "failed.json", "-o", "d.html", folder=tmp_path)
    assert done.returncode == 0
    assert "No difference was found: 3 steps compared." in visible((tmp_path / "d.html").read_text())


def test_no_trace_of_the_folder_is_written_over(tmp_path):
    fill(tmp_path)
    before = (tmp_path / "failed.json").read_bytes()
    for folder, out in ((".", "failed.json"), (".", "./failed.json"), (tmp_path, tmp_path / "failed.json")):
        done = flowtrace("view", folder, "-o", out, folder=tmp_path)
        message = f"flowtrace: {out}: is the trace itself, which would be lost: name another file\n"
        assert (done.returncode, done.stdout, done.stderr) == (2, "", message)
    assert (tmp_path / "failed.json").read_bytes() == before
    assert flowtrace("view", ".", "-o", "failed.html", folder=tmp_path).returncode == 0
