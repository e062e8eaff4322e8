"""`flowtrace doctor`: what is in force, where it comes from, and what is wrong."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path

import pytest

import flowtrace as library
from flowtrace.cli.doctor import examine
from flowtrace.settings.variables import VARIABLES
from tests.cli.commands import flowtrace, flowtrace_process

CORE = ("flowtrace", "blake3", "msgspec", "orjson", "structlog", "wrapt")


def settings(environ):
    return {row["setting"]: (row["value"], row["source"]) for row in examine(environ)["settings"]}


def test_every_variable_is_told_of_with_its_default():
    rows = examine({})["settings"]
    assert [row["variable"] for row in rows] == [*(variable.name for variable in VARIABLES), "GIT_SHA"]
    assert [row["source"] for row in rows] == [None] * len(rows)
    config = library.TraceConfig(mode="off")
    for row in rows:
        expected = {"disabled": False, "auto": (), "pure": False}.get(row["setting"])
        assert row["value"] == getattr(config, row["setting"], expected), row


def test_a_setting_names_the_variable_that_it_comes_from():
    environ = {
        "FLOWTRACE_OUT": "a.json",
        "FLOWTRACE_BUFFER_SIZE": "7",
        "FLOWTRACE_FLOW_ID": "checkout",
        "FLOWTRACE_AUTO": "a.*,b",
        "FLOWTRACE_HASH_KEY": "s3cret",
        "CI": "true",
        "GITHUB_SHA": "abc",
    }
    found = settings(environ)
    changed = {name: pair for name, pair in found.items() if pair[1] is not None}
    assert changed == {
        "mode": ("on", "FLOWTRACE_OUT"),
        "out_path": ("a.json", "FLOWTRACE_OUT"),
        "buffer_size": (7, "FLOWTRACE_BUFFER_SIZE"),
        "flow_id": ("checkout", "FLOWTRACE_FLOW_ID"),
        "auto": (("a.*", "b"), "FLOWTRACE_AUTO"),
        "hash_key": ("(set)", "FLOWTRACE_HASH_KEY"),
        "validation": ("warn", "CI"),
        "git_sha": ("abc", "GITHUB_SHA"),
    }
    assert "s3cret" not in json.dumps(examine(environ))


@pytest.mark.parametrize(
    ("environ", "tracing", "why"),
    [
        ({}, "off", "neither FLOWTRACE_OUT nor FLOWTRACE_MODE is set"),
        ({"FLOWTRACE_OUT": "a.json"}, "on", "FLOWTRACE_OUT is set"),
        ({"FLOWTRACE_OUT": "a.json", "FLOWTRACE_MODE": "always"}, "always", "FLOWTRACE_MODE is set"),
        (
            {"FLOWTRACE_MODE": "always", "FLOWTRACE_DISABLED": "yes"},
            "off",
            "FLOWTRACE_DISABLED is set, and wins over everything",
        ),
    ],
)
def test_the_mode_in_force_and_why(environ, tracing, why):
    found = examine(environ)
    assert (found["tracing"], found["why"], found["problems"]) == (tracing, why, [])


def test_bad_values_and_unknown_names_are_problems():
    environ = {
        "FLOWTRACE_BUFFER_SIZE": "-3",
        "FLOWTRACE_HASH_KEY": "key",
        "FLOWTRACE_OUTPUT": "a.json",
        "FLOWTRACE_COLOUR": "red",
        "_FLOWTRACE_COMPLETE": "x",
    }
    assert examine(environ)["problems"] == [
        {
            "variable": "FLOWTRACE_BUFFER_SIZE",
            "value": "-3",
            "message": "counts as unset: it takes a whole number from 0 to 2147483647",
        },
        {"variable": "FLOWTRACE_COLOUR", "value": None, "message": "is not a variable of flowtrace"},
        {
            "variable": "FLOWTRACE_OUTPUT",
            "value": None,
            "message": "is not a variable of flowtrace: did you mean FLOWTRACE_OUT?",
        },
    ]


def test_trying_the_output_leaves_nothing_behind_and_changes_nothing(tmp_path):
    (tmp_path / "old.json").write_text("kept")
    for template in ("old.json", "a/b/{flow_id}-{pid}.json", "c.json"):
        output = examine({"FLOWTRACE_OUT": template})["output"]
        assert (output["template"], output["writable"], output["reason"]) == (template, True, None)
    assert output["path"] == str(tmp_path / "c.json")
    assert examine({"FLOWTRACE_OUT": "{run_id}.{flow_id}.json"})["output"]["path"] == str(
        tmp_path / f"{'0' * 32}.process.json"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["old.json"]
    assert (tmp_path / "old.json").read_text() == "kept"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        (".", "can't be written: is a folder, not a file"),
        ("file/trace.json", "can't be written: Not a directory"),
        ("/dev/null", "can't be written: is not a regular file"),
        ("/proc/nowhere/trace.json", "can't be written: No such file or directory"),
    ],
)
def test_an_output_that_can_not_be_written_is_a_problem_where_it_is_needed(tmp_path, path, reason):
    (tmp_path / "file").write_text("")
    found = examine({"FLOWTRACE_OUT": path})
    assert found["problems"] == [
        {"variable": "FLOWTRACE_OUT", "value": os.path.abspath(path), "message": reason}  # noqa: PTH100
    ]
    assert (found["output"]["writable"], found["output"]["reason"]) == (False, reason)
    off = examine({"FLOWTRACE_OUT": path, "FLOWTRACE_MODE": "off"})
    assert (off["output"]["writable"], off["problems"]) == (False, [])


def test_the_versions_are_the_installed_ones():
    found = examine({})
    assert found["versions"] == {name: version(name) for name in CORE} | {"python": platform.python_version()}
    assert found["extras"]["cli"] == {"click": version("click"), "rich": version("rich")}


def test_the_command_says_that_nothing_is_wrong(tmp_path):
    done = flowtrace_process("doctor", FLOWTRACE_OUT="trace.json", FLOWTRACE_BUFFER_SIZE="7")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[:2] == ["tracing is on: FLOWTRACE_OUT is set", f"trace file {tmp_path / 'trace.json'} can be written"]
    assert "  buffer_size      7                   from FLOWTRACE_BUFFER_SIZE" in lines
    assert "  capture_inputs   off                 default (FLOWTRACE_CAPTURE_INPUTS)" in lines
    assert lines[-1] == "no problems"
    assert list(tmp_path.iterdir()) == []


def test_the_command_ends_with_1_where_something_is_wrong(tmp_path):
    done = flowtrace("doctor", FLOWTRACE_OUT=str(tmp_path), FLOWTRACE_VALIDATION="\x1b[31m")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines()[-2:] == [
        "! FLOWTRACE_VALIDATION = \\x1b[31m counts as unset: it takes off, warn or error",
        f"! FLOWTRACE_OUT = {tmp_path} can't be written: is a folder, not a file",
    ]


def test_the_same_as_json(tmp_path):
    done = flowtrace("doctor", "--json", FLOWTRACE_MODE="loud", FLOWTRACE_AUTO="a")
    expected = examine({"FLOWTRACE_MODE": "loud", "FLOWTRACE_AUTO": "a"})
    assert (done.returncode, done.stderr) == (1, "")
    assert json.loads(done.stdout) == json.loads(json.dumps(expected))
    assert list(Path().iterdir()) == []
