"""The environment table: every variable, what it accepts, what it refuses, and what is then said."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowtrace.settings.kinds import TraceMode, ValidationMode
from flowtrace.settings.variables import CONFIG_VARIABLES, CONTEXT_VARIABLES, VARIABLES, Parsed, Problem, git_sha, parse

OFF = {"mode": TraceMode.OFF, "validation": ValidationMode.OFF}
BOOLEAN = "1/true/yes/on or 0/false/no/off"
NUMBER = "a whole number from 0 to 2147483647"
COUNT = "a whole number from 1 to 2147483647"
MODE = "off, on or always (or a boolean: on/off)"
FILLED_IN = "~ is the home, and {pid} {run_id} {flow_id} {timestamp} are filled in"
PATH = f"a path of a file, or of a folder for trace.json in it; {FILLED_IN}"
SIGNAL = "USR1, USR2, RTMIN or RTMAX (also as SIGUSR1, or its number), where the system has it"
USR1 = str(int(signal.SIGUSR1))
TRUE = ("1", "true", "True", "TRUE", "yes", "YES", "on", " on ", "\ttrue\n")
FALSE = ("0", "false", "False", "no", "NO", "off", "OFF", " off ")

ACCEPTED = [
    *(("FLOWTRACE_MODE", text, "mode", TraceMode.ON) for text in TRUE),
    *(("FLOWTRACE_MODE", text, "mode", TraceMode.OFF) for text in FALSE),
    *(("FLOWTRACE_MODE", text, "mode", TraceMode.ALWAYS) for text in ("always", "ALWAYS", " Always ")),
    ("FLOWTRACE_OUT", "a/b c.json", "out_path", "a/b c.json"),
    (
        "FLOWTRACE_OUT",
        "{pid}-{run_id}-{flow_id}-{timestamp}.json",
        "out_path",
        "{pid}-{run_id}-{flow_id}-{timestamp}.json",
    ),
    ("FLOWTRACE_OUT", "{ }{a-b}.json", "out_path", "{ }{a-b}.json"),
    *(
        (name, text, setting, number)
        for name, setting in (
            ("FLOWTRACE_BUFFER_SIZE", "buffer_size"),
            ("FLOWTRACE_BUFFER_BYTES", "buffer_bytes"),
            ("FLOWTRACE_MAX_VALUE_BYTES", "max_value_bytes"),
        )
        for text, number in (("0", 0), ("7", 7), (" 08 ", 8), ("2147483647", 2147483647))
    ),
    *(("FLOWTRACE_MAX_FILES", text, "max_files", number) for text, number in (("1", 1), (" 0250 ", 250))),
    *(
        (name, text, setting, expected)
        for name, setting in (
            ("FLOWTRACE_CAPTURE_INPUTS", "capture_inputs"),
            ("FLOWTRACE_CAPTURE_OUTPUTS", "capture_outputs"),
        )
        for texts, expected in ((TRUE, True), (FALSE, False))
        for text in texts
    ),
    ("FLOWTRACE_REDACT", "iban, birth date ,,x", "redact", ("iban", "birth date", "x")),
    ("FLOWTRACE_REDACT", ",", "redact", ()),
    ("FLOWTRACE_HASH_KEY", "s3cret", "hash_key", "s3cret"),
    ("FLOWTRACE_VALIDATION", "off", "validation", ValidationMode.OFF),
    ("FLOWTRACE_VALIDATION", "WARN", "validation", ValidationMode.WARN),
    ("FLOWTRACE_VALIDATION", " error ", "validation", ValidationMode.ERROR),
    ("FLOWTRACE_BLACKBOX", "/var/lib/{pid}.ring", "blackbox", "/var/lib/{pid}.ring"),
    *(("FLOWTRACE_DUMP_SIGNAL", text, "dump_signal", "USR1") for text in ("USR1", "SIGUSR1", " sigusr1 ", USR1)),
    ("FLOWTRACE_DUMP_SIGNAL", "SIGUSR2", "dump_signal", "USR2"),
    ("FLOWTRACE_DUMP_SIGNAL", "rtmin", "dump_signal", "RTMIN"),
    ("FLOWTRACE_PACK_REF", "shop", "pack_ref", "shop"),
    ("FLOWTRACE_RESOLVED_DIGEST", "sha256:1", "resolved_digest", "sha256:1"),
    ("FLOWTRACE_FLOW_ID", "checkout", "flow_id", "checkout"),
    ("FLOWTRACE_FLOW_VERSION", "2", "flow_version", "2"),
]
OPTIONAL_PATH = f"a path of a file, or of a folder for blackbox.ring in it, or None; {FILLED_IN}"
REFUSED = [
    *(("FLOWTRACE_MODE", text, MODE) for text in ("enabled", "2", "on,off", "alwayss", "тrue")),
    *(("FLOWTRACE_DISABLED", text, BOOLEAN) for text in ("disabled", "2", "-1", "y", "t")),
    *(("FLOWTRACE_CAPTURE_INPUTS", text, BOOLEAN) for text in ("all", "01", "yess")),
    *(("FLOWTRACE_CAPTURE_OUTPUTS", text, BOOLEAN) for text in ("all", "none")),
    *(
        (name, text, NUMBER)
        for name in ("FLOWTRACE_BUFFER_SIZE", "FLOWTRACE_BUFFER_BYTES", "FLOWTRACE_MAX_VALUE_BYTES")
        for text in ("-1", "1.5", "1e3", "64 KiB", "1_000", "+5", "0x10", "٣", "²", "2147483648", "9" * 5000, "many")
    ),
    *(("FLOWTRACE_MAX_FILES", text, COUNT) for text in ("0", "00", "-1", "1.5", "all", "2147483648")),
    *(
        (name, text, accepts)
        for name, accepts in (("FLOWTRACE_OUT", PATH), ("FLOWTRACE_BLACKBOX", OPTIONAL_PATH))
        for text in ("a\0b", "~nobody-of-this-name/x", *TRUE, *FALSE, "True", "OFF")
    ),
    *(
        ("FLOWTRACE_DUMP_SIGNAL", text, SIGNAL)
        for text in (
            "KILL",
            "SIGSTOP",
            "9",
            "TERM",
            "INT",
            "SEGV",
            "NONE",
            "USR3",
            "-10",
            "SIG",
            "SIGSIGUSR1",
            "USR1,USR2",
        )
    ),
    ("FLOWTRACE_VALIDATION", "strict", "off, warn or error"),
    ("FLOWTRACE_VALIDATION", "true", "off, warn or error"),
]


@pytest.mark.parametrize(("name", "text", "setting", "value"), ACCEPTED)
def test_a_variable_takes_what_it_accepts(name, text, setting, value):
    parsed = parse({name: text})
    config, context = dict(OFF), {}
    (config if name in {variable.name for variable in CONFIG_VARIABLES} else context)[setting] = value
    if name in ("FLOWTRACE_OUT", "FLOWTRACE_BLACKBOX"):
        config["mode"] = TraceMode.ON
    assert parsed == Parsed(config, context, False, {setting: name}, [])


@pytest.mark.parametrize(("name", "text", "accepts"), REFUSED)
def test_a_variable_that_is_of_no_use_counts_as_unset_and_says_why(name, text, accepts):
    assert parse({name: text}) == Parsed(OFF, {}, False, {}, [Problem(name, text.strip(), accepts)])


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("{}.json", ("{}",)),
        ("{host}/{run_id}.json", ("{host}",)),
        ("a{PID}{x}.json", ("{PID}", "{x}")),
    ],
)
def test_an_unknown_placeholder_is_text_and_a_problem(text, kept):
    parsed = parse({"FLOWTRACE_OUT": text})
    assert (parsed.config["out_path"], parsed.config["mode"]) == (text, TraceMode.ON)
    (problem,) = parsed.problems
    assert problem == Problem("FLOWTRACE_OUT", text, PATH, kept)
    names = ", ".join(kept)
    assert (
        problem.reason == f"FLOWTRACE_OUT holds {names}, which is no placeholder and is kept as text; it takes {PATH}"
    )


def test_the_home_takes_the_place_of_a_tilde(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.setenv("USERPROFILE", "/home/ann")
    for name, setting in (("FLOWTRACE_OUT", "out_path"), ("FLOWTRACE_BLACKBOX", "blackbox")):
        for text, path in (("~/logs/t.json", "/home/ann/logs/t.json"), ("~", "/home/ann"), ("a/~", "a/~")):
            assert parse({name: text}).config[setting] == path


@pytest.mark.parametrize("variable", VARIABLES, ids=lambda variable: variable.name)
@pytest.mark.parametrize("blank", ["", " ", "\t\n "])
def test_a_blank_variable_is_unset(variable, blank):
    assert parse({variable.name: blank}) == parse({}) == Parsed(dict(OFF), {}, False, {}, [])


@pytest.mark.parametrize("text", TRUE)
def test_the_kill_switch_is_set_by_true_words(text):
    assert parse({"FLOWTRACE_DISABLED": text}) == Parsed(OFF, {}, True, {"disabled": "FLOWTRACE_DISABLED"}, [])


@pytest.mark.parametrize("text", FALSE)
def test_the_kill_switch_is_not_set_by_false_words(text):
    assert parse({"FLOWTRACE_DISABLED": text}).disabled is False


@pytest.mark.parametrize(
    ("environ", "mode"),
    [
        ({"FLOWTRACE_OUT": "x"}, TraceMode.ON),
        ({"FLOWTRACE_OUT": "x", "FLOWTRACE_MODE": "off"}, TraceMode.OFF),
        ({"FLOWTRACE_OUT": "x", "FLOWTRACE_MODE": "wrong"}, TraceMode.ON),
        ({"FLOWTRACE_BLACKBOX": "x"}, TraceMode.ON),
        ({"FLOWTRACE_BLACKBOX": "x", "FLOWTRACE_MODE": "off"}, TraceMode.OFF),
        ({"FLOWTRACE_BLACKBOX": "off"}, TraceMode.OFF),
        ({"FLOWTRACE_OUT": "1"}, TraceMode.OFF),
        ({"FLOWTRACE_OUT": " "}, TraceMode.OFF),
        ({"FLOWTRACE_MODE": "on"}, TraceMode.ON),
    ],
)
def test_the_mode_is_on_where_a_file_is_named(environ, mode):
    assert parse(environ).config["mode"] is mode


@pytest.mark.parametrize(
    ("environ", "validation"),
    [
        *(({"CI": text}, ValidationMode.WARN) for text in TRUE),
        *(({"CI": text}, ValidationMode.OFF) for text in (*FALSE, "", "woodpecker")),
        ({"CI": "true", "FLOWTRACE_VALIDATION": "off"}, ValidationMode.OFF),
        ({"CI": "true", "FLOWTRACE_VALIDATION": "error"}, ValidationMode.ERROR),
        ({"CI": "true", "FLOWTRACE_VALIDATION": "wrong"}, ValidationMode.WARN),
    ],
)
def test_in_ci_validation_issues_are_warned_of(environ, validation):
    assert parse(environ).config["validation"] is validation
    assert [problem.variable for problem in parse(environ).problems] in ([], ["FLOWTRACE_VALIDATION"])


def test_a_key_is_taken_as_it_is_and_never_a_problem():
    for text in ("off", "1", "é", "{pid}"):
        assert parse({"FLOWTRACE_HASH_KEY": text}) == Parsed(
            {**OFF, "hash_key": text}, {}, False, {"hash_key": "FLOWTRACE_HASH_KEY"}, []
        )


def test_parsing_is_pure():
    environ = {variable.name: "1" for variable in VARIABLES}
    before, real = dict(environ), dict(os.environ)
    assert parse(environ) == parse(environ)
    assert environ == before
    assert dict(os.environ) == real


@given(st.dictionaries(st.sampled_from([*(variable.name for variable in VARIABLES), "CI"]), st.text(max_size=8)))
def test_no_environment_makes_it_fail(environ):
    parsed = parse(environ)
    refused = {problem.variable for problem in parsed.problems}
    assert refused <= set(environ)
    assert not refused & set(parsed.sources.values())


def test_each_variable_is_listed_once():
    assert len({variable.name for variable in VARIABLES}) == len(VARIABLES) == 26
    assert {variable.name for variable in (*CONFIG_VARIABLES, *CONTEXT_VARIABLES)} < {v.name for v in VARIABLES}


@pytest.mark.parametrize(
    ("environ", "sha"),
    [
        ({}, None),
        ({"GIT_SHA": "abc"}, "abc"),
        ({"GIT_SHA": " abc\n"}, "abc"),
        ({"GITHUB_SHA": "def"}, "def"),
        ({"GIT_SHA": "abc", "GITHUB_SHA": "def"}, "abc"),
        ({"GIT_SHA": "", "GITHUB_SHA": "def"}, None),
        ({"GIT_SHA": "  ", "GITHUB_SHA": "def"}, None),
        ({"GITHUB_SHA": " "}, None),
    ],
)
def test_the_commit_is_git_sha_or_else_github_sha(environ, sha):
    assert git_sha(environ) == sha
