"""The trace of the process before: `flowtrace show --prev`, and `flowtrace diff` without arguments."""

from __future__ import annotations

import json
from pathlib import Path

from flowtrace.trace.model import to_document
from tests.cli.commands import flowtrace
from tests.traces import step, trace


def write(name, *steps, **fields):
    Path(name).write_text(json.dumps(to_document(trace(*steps, **fields))))


def test_the_predecessor_is_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("trace.prev.json", step("shop.before"))
    write("other.json", step("shop.other"))
    write("other.prev.json", step("shop.older"))
    assert "shop.before" in flowtrace("show", "--prev").stdout  # also where no later trace is there
    write("trace.json", step("shop.now"))
    assert "shop.before" in flowtrace("show", "--prev").stdout
    assert "shop.before" in flowtrace("show", "--prev", "trace.json").stdout
    assert "shop.older" in flowtrace("show", "--prev", FLOWTRACE_OUT="other.json").stdout


def test_what_has_no_predecessor(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("trace.json", step("shop.now"))
    done = flowtrace("show", "--prev")
    assert (done.returncode, "there is no file 'trace.prev.json'; there is 'trace.json'" in done.stderr) == (2, True)
    done = flowtrace("show", "--prev", "-", stdin="{}")
    assert (done.returncode, "standard input has no predecessor" in done.stderr) == (2, True)
    done = flowtrace("show")
    assert (done.returncode, "Missing argument 'TRACE'" in done.stderr) == (2, True)


def test_a_diff_without_arguments_compares_with_the_predecessor(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("trace.prev.json", step("shop.before"))
    write("trace.json", step("shop.now"))
    document = json.loads(flowtrace("diff", "--json").stdout)
    assert (document["a"], document["b"]) == ("trace.prev.json", "trace.json")
    assert flowtrace("diff", "--json").returncode == 1
    done = flowtrace("diff", "trace.json")
    assert (done.returncode, "Missing argument 'B'" in done.stderr) == (2, True)
    Path("trace.prev.json").unlink()
    done = flowtrace("diff")
    assert (done.returncode, "there is no file 'trace.prev.json'" in done.stderr) == (2, True)
