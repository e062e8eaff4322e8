"""Settings in code: their final form, the errors that name them, and the warnings about the environment's."""

from __future__ import annotations

import json
import pathlib
import signal
import subprocess
import sys

import pytest
import structlog

from flowtrace import ConfigError, FlowtraceError, TraceConfig, TraceContext, TraceMode, ValidationMode, override
from flowtrace.settings.config import is_disabled

NUMBER = "it takes a whole number from 0 to 2147483647"
COUNT = "it takes a whole number from 1 to 2147483647"
NAMES = "it takes names, separated by commas"
PATH = (
    "it takes a path of a file, or of a folder for trace.json in it; ~ is the home, and "
    "{pid} {run_id} {flow_id} {timestamp} are filled in"
)
BOOLEAN = "it takes 1/true/yes/on or 0/false/no/off"


def test_the_defaults_are_those_of_the_docs():
    assert TraceConfig() == TraceConfig(
        mode=TraceMode.ON,
        out_path="trace.json",
        buffer_size=20,
        capture_inputs=False,
        capture_outputs=False,
        buffer_bytes=16 * 1024 * 1024,
        max_value_bytes=64 * 1024,
        redact=(),
        hash_key=None,
        validation=ValidationMode.OFF,
        max_files=100,
        blackbox=None,
        dump_signal=None,
        redactor=None,
    )
    assert TraceContext("shop", "pay") == TraceContext("shop", "pay", "unknown", None)


@pytest.mark.parametrize(
    ("changes", "final"),
    [
        ({"mode": "always"}, {"mode": TraceMode.ALWAYS}),
        ({"mode": True}, {"mode": TraceMode.ON}),
        ({"mode": False}, {"mode": TraceMode.OFF}),
        ({"out_path": pathlib.PurePosixPath("a/b.json")}, {"out_path": "a/b.json"}),
        ({"redact": ["a", "b"]}, {"redact": ("a", "b")}),
        ({"redact": {"a"}}, {"redact": ("a",)}),
        ({"validation": "error"}, {"validation": ValidationMode.ERROR}),
        ({"buffer_size": 0}, {"buffer_size": 0}),
        ({"dump_signal": signal.SIGUSR2}, {"dump_signal": "USR2"}),
    ],
)
def test_a_setting_takes_its_final_form(changes, final):
    assert TraceConfig(**changes) == TraceConfig(**final)
    assert TraceConfig().changed(changes) == TraceConfig(**final)
    name, value = next(iter(final.items()))
    assert type(getattr(TraceConfig(**changes), name)) is type(value)


REFUSED = [
    ("mode", "enabled", "mode='enabled' is not usable: it takes off, on or always (or a boolean: on/off)"),
    ("mode", 1, "mode=1 is not usable: it takes off, on or always (or a boolean: on/off)"),
    ("mode", None, "mode=None is not usable: it takes off, on or always (or a boolean: on/off)"),
    ("mode", [], "mode=[] is not usable: it takes off, on or always (or a boolean: on/off)"),
    ("out_path", "", f"out_path='' is not usable: {PATH}"),
    ("out_path", b"trace.json", f"out_path=b'trace.json' is not usable: {PATH}"),
    ("out_path", None, f"out_path=None is not usable: {PATH}"),
    ("out_path", "true", f"out_path='true' is not usable: {PATH}"),
    ("out_path", "~nobody-of-this-name/x", f"out_path='~nobody-of-this-name/x' is not usable: {PATH}"),
    ("out_path", "a\0b", f"out_path='a\\x00b' is not usable: {PATH}"),
    ("buffer_size", -1, f"buffer_size=-1 is not usable: {NUMBER}"),
    ("buffer_size", True, f"buffer_size=True is not usable: {NUMBER}"),
    ("buffer_size", 1.0, f"buffer_size=1.0 is not usable: {NUMBER}"),
    ("buffer_size", "5", f"buffer_size='5' is not usable: {NUMBER}"),
    ("buffer_bytes", 2**31, f"buffer_bytes=2147483648 is not usable: {NUMBER}"),
    ("max_value_bytes", None, f"max_value_bytes=None is not usable: {NUMBER}"),
    ("capture_inputs", 1, f"capture_inputs=1 is not usable: {BOOLEAN}"),
    ("capture_outputs", "yes", f"capture_outputs='yes' is not usable: {BOOLEAN}"),
    ("redact", "password", f"redact='password' is not usable: {NAMES}"),
    ("redact", 5, f"redact=5 is not usable: {NAMES}"),
    ("redact", [""], f"redact=[''] is not usable: {NAMES}"),
    ("redact", [1], f"redact=[1] is not usable: {NAMES}"),
    ("hash_key", "", "hash_key=this value is not usable: it takes text, or None"),
    ("hash_key", b"s3cret", "hash_key=this value is not usable: it takes text, or None"),
    *(("max_files", value, f"max_files={value!r} is not usable: {COUNT}") for value in (0, -1, True, None, "5", 2**31)),
    ("validation", "strict", "validation='strict' is not usable: it takes off, warn or error"),
    ("validation", True, "validation=True is not usable: it takes off, warn or error"),
]


@pytest.mark.parametrize(("name", "value", "message"), REFUSED)
def test_a_setting_of_no_use_is_refused_by_name(name, value, message):
    with pytest.raises(ConfigError) as caught:
        TraceConfig(**{name: value})
    assert str(caught.value) == message
    assert isinstance(caught.value, FlowtraceError)
    assert isinstance(caught.value, ValueError)
    assert caught.value.__suppress_context__
    with pytest.raises(ConfigError, match=name):
        TraceConfig().changed({name: value})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (("", "f"), "pack_ref='' is not usable: it takes text"),
        (("p", None), "flow_id=None is not usable: it takes text"),
        (("p", "f", 2), "flow_version=2 is not usable: it takes text"),
        (("p", "f", "2", ""), "resolved_digest='' is not usable: it takes text, or None"),
    ],
)
def test_a_context_of_no_use_is_refused_by_name(fields, message):
    with pytest.raises(ConfigError) as caught:
        TraceContext(*fields)
    assert str(caught.value) == message


def test_an_unknown_setting_is_told_with_the_known_ones():
    with pytest.raises(ConfigError) as caught:
        TraceConfig().changed({"buffer": 1})
    assert str(caught.value) == (
        "there is no setting 'buffer': the settings are mode, out_path, buffer_size, capture_inputs, capture_outputs, "
        "buffer_bytes, max_value_bytes, max_value_work, max_overhead, redact, hash_key, validation, max_files, "
        "blackbox, dump_signal, durable, slow, logs, redactor"
    )


def test_a_value_whose_repr_fails_is_still_refused_as_config_error():
    class Odd:
        def __repr__(self):
            raise RuntimeError

    with pytest.raises(ConfigError, match=r"buffer_size=<.*Odd object> is not usable"):
        TraceConfig(buffer_size=Odd())


def test_settings_are_immutable_and_hashable_and_hide_the_key():
    config = TraceConfig(hash_key="s3cret", redact=["a"])
    with pytest.raises(AttributeError):
        config.mode = "off"
    assert hash(config) == hash(TraceConfig(hash_key="s3cret", redact=["a"]))
    assert "s3cret" not in repr(config)


def test_the_environment_fills_every_setting():
    environ = {
        "FLOWTRACE_MODE": "always",
        "FLOWTRACE_OUT": "x.json",
        "FLOWTRACE_BUFFER_SIZE": "1",
        "FLOWTRACE_BUFFER_BYTES": "2",
        "FLOWTRACE_MAX_VALUE_BYTES": "3",
        "FLOWTRACE_CAPTURE_INPUTS": "yes",
        "FLOWTRACE_CAPTURE_OUTPUTS": "on",
        "FLOWTRACE_REDACT": "a,b",
        "FLOWTRACE_HASH_KEY": "k",
        "FLOWTRACE_VALIDATION": "error",
        "FLOWTRACE_MAX_FILES": "4",
        "FLOWTRACE_PACK_REF": "p",
        "FLOWTRACE_RESOLVED_DIGEST": "d",
        "FLOWTRACE_FLOW_ID": "f",
        "FLOWTRACE_FLOW_VERSION": "v",
    }
    every = (TraceMode.ALWAYS, "x.json", 1, True, True, 2, 3, ("a", "b"), "k", ValidationMode.ERROR, 4)
    assert TraceConfig.from_env(environ) == TraceConfig(*every)
    assert TraceContext.from_env(environ) == TraceContext("p", "f", "v", "d")
    off = TraceConfig.from_env({**environ, "FLOWTRACE_DISABLED": "1"})
    assert off == TraceConfig(TraceMode.OFF, *every[1:])


def test_the_real_environment_is_the_default(monkeypatch):
    monkeypatch.setenv("FLOWTRACE_BUFFER_SIZE", "9")
    monkeypatch.setenv("FLOWTRACE_FLOW_ID", "f")
    assert TraceConfig.from_env().buffer_size == 9
    assert TraceContext.from_env().flow_id == "f"
    assert TraceConfig.from_env({}) == TraceConfig(mode="off")


@pytest.mark.parametrize(("text", "disabled"), [("1", True), ("0", False), ("", False), ("wrong", False), ("on", True)])
def test_the_kill_switch(text, disabled, monkeypatch):
    assert is_disabled({"FLOWTRACE_DISABLED": text}) is disabled
    monkeypatch.setenv("FLOWTRACE_DISABLED", text)
    assert is_disabled() is disabled


def test_each_bad_value_is_warned_of_once_with_what_is_accepted():
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            TraceConfig.from_env({"FLOWTRACE_MODE": "enabled", "FLOWTRACE_BUFFER_SIZE": "many"})
        TraceConfig.from_env({"FLOWTRACE_MODE": "enabled too"})
    event = "environment variable is not usable and counts as unset"
    mode = "off, on or always (or a boolean: on/off)"
    number = "a whole number from 0 to 2147483647"
    rows = [("FLOWTRACE_MODE", "enabled", mode), ("FLOWTRACE_BUFFER_SIZE", "many", number)]
    rows.append(("FLOWTRACE_MODE", "enabled too", mode))
    assert logs == [
        {
            "event": event,
            "log_level": "warning",
            "variable": name,
            "value": value,
            "reason": f"{name} takes {accepts}",
            "count": 1,
        }
        for name, value, accepts in rows
    ]


def test_an_unknown_placeholder_is_warned_of_once_by_the_variable_or_the_setting():
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            TraceConfig.from_env({"FLOWTRACE_OUT": "{host}.json"})
            with override(out_path="{app}.json"):
                pass
    takes = f"{{}} which is no placeholder and is kept as text; {PATH}"
    assert logs == [
        {
            "event": "environment variable has an unknown placeholder",
            "log_level": "warning",
            "variable": "FLOWTRACE_OUT",
            "value": "{host}.json",
            "reason": takes.replace("{}", "FLOWTRACE_OUT holds {host},", 1),
            "count": 1,
        },
        {
            "event": "path has an unknown placeholder",
            "log_level": "warning",
            "value": "{app}.json",
            "reason": takes.replace("{}", "out_path holds {app},", 1),
            "count": 1,
        },
    ]


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (["prog.py"], "prog.py"),
        (["-m", "prog"], "prog"),
        (["-m", "package"], "package"),
        (["-m", "package.inner"], "package.inner"),
        (["-c", "import prog"], "python"),
        (["folder/deep.py"], "deep.py"),
    ],
)
def test_the_pack_is_called_after_the_program(start, name, tmp_path):
    source = "import json, flowtrace\nprint(json.dumps(flowtrace.TraceContext.from_env({}).pack_ref))\n"
    (tmp_path / "package").mkdir()
    (tmp_path / "folder").mkdir()
    for file in ("prog.py", "package/__main__.py", "package/inner.py", "folder/deep.py"):
        (tmp_path / file).write_text(source)
    (tmp_path / "package/__init__.py").touch()
    printed = subprocess.run([sys.executable, *start], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert json.loads(printed) == name
