"""configure, override and the switch: from code, at run time, and back again."""

from __future__ import annotations

import os
import sys
import threading

import pytest
from structlog.testing import capture_logs

import flowtrace
from flowtrace import ConfigError, TraceConfig, TraceContext, TraceMode, load_trace, traced_node
from flowtrace.host import switch


@traced_node
def boom():
    raise ValueError("boom")


def call():
    with pytest.raises(ValueError, match="boom"):
        boom()


def test_off_unless_asked(tmp_path):
    call()
    assert list(tmp_path.iterdir()) == []
    assert flowtrace.get_recorder().config.mode is TraceMode.OFF
    assert switch.SWITCH == []


def test_the_environment_is_read_on_first_use(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWTRACE_OUT", "out/trace.json")
    call()
    assert load_trace(tmp_path / "out" / "trace.json").steps[0].error.message == "boom"


def test_a_relative_path_starts_where_the_program_started(tmp_path, monkeypatch):
    flowtrace.configure(out_path="trace.json")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    call()
    assert (tmp_path / "trace.json").is_file()
    assert list(elsewhere.iterdir()) == []


def test_configure_switches_functions_that_exist_already_on_and_off(tmp_path):
    call()
    flowtrace.configure(out_path=tmp_path / "trace.json")
    call()
    (tmp_path / "trace.json").unlink()
    flowtrace.configure(mode="off")
    call()
    assert list(tmp_path.iterdir()) == []


def test_configure_without_arguments_reads_the_environment_again(tmp_path, monkeypatch):
    flowtrace.configure(mode="always", buffer_size=3)
    monkeypatch.setenv("FLOWTRACE_MODE", "on")
    monkeypatch.setenv("FLOWTRACE_BUFFER_SIZE", "7")
    recorder = flowtrace.configure()
    assert recorder is flowtrace.get_recorder()
    assert recorder.config == TraceConfig(mode="on", buffer_size=7)


def test_code_wins_over_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWTRACE_MODE", "always")
    monkeypatch.setenv("FLOWTRACE_BUFFER_SIZE", "7")
    assert flowtrace.configure(mode="on").config == TraceConfig(mode="on", buffer_size=7)
    monkeypatch.setenv("FLOWTRACE_MODE", "off")
    assert flowtrace.configure(out_path="t.json").config.mode is TraceMode.OFF
    assert flowtrace.configure(TraceConfig(buffer_size=1)).config == TraceConfig(buffer_size=1)


def test_the_context_of_the_process(monkeypatch):
    monkeypatch.setenv("FLOWTRACE_FLOW_ID", "nightly")
    monkeypatch.setenv("FLOWTRACE_PACK_REF", "shop")
    assert flowtrace.configure(mode="on").context == TraceContext("shop", "nightly")
    mine = TraceContext("a", "b", "c", "d")
    assert flowtrace.configure(mode="on", context=mine).context is mine


def test_override_restores_what_was_there(tmp_path):
    before = flowtrace.configure(mode="on", out_path="first.json")
    with flowtrace.override(out_path="second.json") as inside:
        assert flowtrace.get_recorder() is inside
        assert inside.config == TraceConfig(mode="on", out_path="second.json")
        with flowtrace.override(mode="off"):
            assert switch.SWITCH == []
        assert switch.SWITCH == ["on"]
    assert flowtrace.get_recorder() is before


def test_override_restores_the_state_before_first_use():
    assert switch.is_unread()
    with flowtrace.override(mode="on"):
        assert not switch.is_unread()
    assert switch.is_unread()


def test_override_restores_after_an_error():
    with pytest.raises(RuntimeError), flowtrace.override(mode="on"):
        raise RuntimeError
    assert switch.is_unread()


def test_the_kill_switch_wins(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWTRACE_DISABLED", "1")
    monkeypatch.setenv("FLOWTRACE_OUT", "trace.json")
    call()
    assert flowtrace.configure(mode="always").is_off
    call()
    with flowtrace.override(mode="always") as recorder:
        assert recorder.is_off
        call()
        assert flowtrace.dump() is None
    assert list(tmp_path.iterdir()) == []


def test_a_bad_variable_is_warned_of_once_and_the_program_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWTRACE_OUT", "trace.json")
    monkeypatch.setenv("FLOWTRACE_MODE", "sometimes")
    monkeypatch.setenv("FLOWTRACE_BUFFER_SIZE", "-3")
    with capture_logs() as logs:
        call()
        call()
    assert logs == [
        {
            "event": "environment variable is not usable and counts as unset",
            "log_level": "warning",
            "variable": variable,
            "value": value,
            "reason": f"{variable} takes {accepts}",
            "count": 1,
        }
        for variable, value, accepts in (
            ("FLOWTRACE_MODE", "sometimes", "off, on or always (or a boolean: on/off)"),
            ("FLOWTRACE_BUFFER_SIZE", "-3", "a whole number from 0 to 2147483647"),
        )
    ]
    assert (tmp_path / "trace.json").is_file()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "sometimes"}, r"mode='sometimes' is not usable: it takes off, on or always"),
        ({"buffer_size": -1}, r"buffer_size=-1 is not usable: it takes a whole number"),
        ({"buffer_size": "20"}, r"buffer_size='20' is not usable"),
        ({"out_path": "off"}, r"out_path='off' is not usable: it takes a path of a file, or of a folder"),
        ({"buffer": 3}, r"there is no setting 'buffer': the settings are mode, out_path"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_bad_setting_in_code_is_an_error_at_its_line(changes, message):
    for function in (flowtrace.configure, lambda **settings: flowtrace.override(**settings).__enter__()):
        with pytest.raises(ConfigError, match=message):
            function(**changes)


@pytest.mark.parametrize("path", [".", "out", "out/", "new/", "new/.", "made later", "~", "~/new/"])
@pytest.mark.parametrize("by_code", [False, True])
def test_a_folder_means_the_trace_in_it(path, by_code, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "out").mkdir()
    (tmp_path / "home").mkdir()
    if by_code:
        flowtrace.configure(out_path=path)
    else:
        monkeypatch.setenv("FLOWTRACE_OUT", path)
        flowtrace.get_recorder()
    if path == "made later":
        (tmp_path / path).mkdir()
    with capture_logs() as logs:
        call()
    assert logs == []
    folder = os.path.normpath(tmp_path / path.replace("~", "home"))
    assert [str(file) for file in tmp_path.rglob("*.json")] == [f"{folder}/trace.json"]


def test_a_folder_in_the_place_of_the_trace_in_a_folder_is_one_warning(tmp_path, monkeypatch):
    (tmp_path / "trace.json").mkdir()
    monkeypatch.setenv("FLOWTRACE_OUT", str(tmp_path))
    with capture_logs() as logs:
        call()
        call()
    assert [(entry["event"], entry["path"], entry["reason"]) for entry in logs] == [
        ("failed to write trace", str(tmp_path / "trace.json"), "is a folder, not a file")
    ]


@pytest.mark.parametrize("path", [".", "inner/", "~"])
def test_dump_takes_a_folder_too(path, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    flowtrace.configure(mode="on", out_path="t.json")
    written = flowtrace.dump(path)
    assert written == tmp_path / ("inner" if path == "inner/" else "") / "trace.json"
    assert written.is_file()


def test_hooks_come_and_go_with_the_switch():
    hooks = sys.excepthook, threading.excepthook
    with flowtrace.override(mode="on"):
        assert sys.excepthook is not hooks[0]
        assert threading.excepthook is not hooks[1]
    assert (sys.excepthook, threading.excepthook) == hooks
