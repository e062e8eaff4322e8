"""`flowtrace doctor`: what is in force, where it comes from, and what is wrong."""

from __future__ import annotations

import json
import os
import platform
import re
from importlib.metadata import version
from pathlib import Path

import pytest

import flowtrace as library
from flowtrace.cli.doctor import examine
from flowtrace.settings.variables import VARIABLES
from tests.cli.commands import flowtrace, flowtrace_process
from tests.faults.scenario import mounted

CORE = ("flowtrace", "blake3", "msgspec", "orjson", "structlog", "wrapt")


def settings(environ):
    return {row["setting"]: (row["value"], row["source"]) for row in examine(environ)["settings"]}


def test_every_variable_is_told_of_with_its_default():
    rows = examine({})["settings"]
    assert [row["variable"] for row in rows] == [*(variable.name for variable in VARIABLES), "GIT_SHA"]
    assert [row["source"] for row in rows] == [None] * len(rows)
    config = library.TraceConfig(mode="off")
    for row in rows:
        expected = {"disabled": False, "auto": (), "pure": False, "pytest": None}.get(row["setting"])
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
        "FLOWTRACE_OUT": "a.json",
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
            "message": "counts as unset: FLOWTRACE_BUFFER_SIZE takes a whole number from 0 to 2147483647",
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
    found = examine({"FLOWTRACE_OUT": "{run_id}.{flow_id}.json", "FLOWTRACE_FLOW_ID": "shop"})["output"]["path"]
    assert re.fullmatch(rf"{tmp_path}/[0-9a-f]{{32}}\.shop\.json", found)
    assert [path.name for path in tmp_path.iterdir()] == ["old.json"]
    assert (tmp_path / "old.json").read_text() == "kept"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("taken", "can't be written: is a folder, not a file"),
        ("t" * 256, "can't be written: File name too long"),
        ("file/trace.json", "can't be written: Not a directory"),
        ("/dev/null", "can't be written: is not a regular file"),
        ("/proc/nowhere/trace.json", "can't be written: No such file or directory"),
    ],
)
def test_an_output_that_can_not_be_written_is_a_problem_where_it_is_needed(tmp_path, path, reason):
    (tmp_path / "file").write_text("")
    (tmp_path / "taken/trace.json").mkdir(parents=True)
    found = examine({"FLOWTRACE_OUT": path})
    meant = tmp_path / path / ("trace.json" if path == "taken" else "")
    assert found["problems"] == [{"variable": "FLOWTRACE_OUT", "value": str(meant), "message": reason}]
    assert (found["output"]["writable"], found["output"]["reason"]) == (False, reason)
    off = examine({"FLOWTRACE_OUT": path, "FLOWTRACE_MODE": "off"})
    assert (off["output"]["writable"], off["problems"]) == (False, [])


def test_a_full_disk_is_a_problem(tmp_path):
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=64k", "tmpfs") as disk:
        (disk / "filler").write_bytes(b"x" * 65536)
        found = examine({"FLOWTRACE_OUT": f"{disk}/new/trace.json"})
        assert found["output"]["reason"] == "can't be written: No space left on device"
        assert [path.name for path in disk.iterdir()] == ["filler"]


def test_a_link_that_the_writer_would_not_follow_is_a_problem(tmp_path):
    (tmp_path / str(os.getpid())).symlink_to(tmp_path)
    found = examine({"FLOWTRACE_OUT": "{pid}/trace.json"})
    reason = f"can't be written: the folder {os.getpid()} is a link, and is not followed"
    assert [problem["message"] for problem in found["problems"]] == [reason]


def test_an_unknown_placeholder_is_a_problem_and_the_path_is_used(tmp_path):
    found = examine({"FLOWTRACE_OUT": "{host}.json"})
    assert (found["tracing"], found["output"]["path"]) == ("on", str(tmp_path / "{host}.json"))
    (problem,) = found["problems"]
    assert (problem["variable"], problem["value"]) == ("FLOWTRACE_OUT", "{host}.json")
    assert problem["message"].startswith("holds {host}, which is no placeholder and is kept as text; it takes a path")


@pytest.mark.parametrize(
    ("path", "meant", "reason"),
    [
        ("app.ring", "app.ring", None),
        ("there", "there/blackbox.ring", None),
        ("{flow_id}.ring", "process.ring", None),
        ("gone/app.ring", "gone/app.ring", "can't be made: No such file or directory (the folder {} is not there)"),
        ("mine", "mine", "can't be used: does not have the header of a ring file of this version"),
        ("r" * 256, "r" * 256, "can't be made: File name too long"),
    ],
)
def test_a_ring_file_is_tried_too(path, meant, reason, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "mine").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    found = examine({"FLOWTRACE_BLACKBOX": path})
    text = reason and reason.format(tmp_path / "gone")
    about = {"template": path, "path": str(tmp_path / meant), "writable": reason is None, "reason": text}
    assert found["blackbox"] == about
    problem = {"variable": "FLOWTRACE_BLACKBOX", "value": about["path"], "message": text}
    assert found["problems"] == ([] if reason is None else [problem])
    assert sorted(tmp_path.rglob("*")) == before


def test_settings_that_wait_for_tracing_to_be_on_are_problems():
    waiting = {"FLOWTRACE_CAPTURE_INPUTS": "1", "FLOWTRACE_HASH_KEY": "s3cret"}
    message = "has no effect: tracing is off, which FLOWTRACE_OUT=trace.json switches on"
    assert examine(waiting)["problems"] == [
        {"variable": "FLOWTRACE_CAPTURE_INPUTS", "value": "1", "message": message},
        {"variable": "FLOWTRACE_HASH_KEY", "value": "(set)", "message": message},
    ]
    for chosen in ({"FLOWTRACE_MODE": "off"}, {"FLOWTRACE_DISABLED": "1"}, {"FLOWTRACE_OUT": "t.json"}):
        assert examine(waiting | chosen)["problems"] == []


def test_the_versions_are_the_installed_ones():
    found = examine({})
    assert found["versions"] == {name: version(name) for name in CORE} | {"python": platform.python_version()}
    assert found["extras"]["cli"] == {name: version(name) for name in ("click", "jinja2", "rich")}


@pytest.mark.costly
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
    (tmp_path / "trace.json").mkdir()
    done = flowtrace("doctor", FLOWTRACE_OUT=str(tmp_path), FLOWTRACE_VALIDATION="\x1b[31m")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines()[-2:] == [
        "! FLOWTRACE_VALIDATION = \\x1b[31m counts as unset: FLOWTRACE_VALIDATION takes off, warn or error",
        f"! FLOWTRACE_OUT = {tmp_path}/trace.json can't be written: is a folder, not a file",
    ]


def test_the_same_as_json(tmp_path):
    done = flowtrace("doctor", "--json", FLOWTRACE_MODE="loud", FLOWTRACE_AUTO="a")
    expected = examine({"FLOWTRACE_MODE": "loud", "FLOWTRACE_AUTO": "a"})
    assert (done.returncode, done.stderr) == (1, "")
    assert json.loads(done.stdout) == json.loads(json.dumps(expected))
    assert list(Path().iterdir()) == []
