"""The frame of the command line: what is listed, how commands end, and what their input may be."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import unicodedata
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

import flowtrace as library
from flowtrace.cli import app, common, main
from flowtrace.errors import TraceFileError
from tests.cli.commands import SCRIPT, call, flowtrace, flowtrace_process

PRESENT = app.app.list_commands(click.Context(app.app))


def test_the_list_of_commands_has_those_that_are_there_and_imports_none():
    program = (
        "import sys; from flowtrace.cli import main; code = main(['--help'])\n"
        "loaded = [name for name in sys.modules if name.startswith('flowtrace.cli.')]\n"
        "print(code, sorted(loaded), [name for name in ('rich', 'msgspec', 'orjson') if name in sys.modules])"
    )
    done = call(sys.executable, "-c", program)
    assert (done.returncode, done.stderr) == (0, "")
    shown = done.stdout.partition("Record a failure:\n")[2].splitlines()
    assert re.findall(r"^  (\w+) {2,}\w", "\n".join(shown), re.MULTILINE) == PRESENT
    assert shown[-1] == "0 ['flowtrace.cli.app', 'flowtrace.cli.common'] []"


def test_each_task_of_the_list_has_an_example_that_a_command_has_too():
    for (task, example), commands in app.TASKS.items():
        (name,) = re.findall(r"^flowtrace (\w+) ", example)
        assert name in commands, task
        assert f"{task}:\n" in flowtrace("--help").stdout
        assert f"  $ {example}\n" in flowtrace("--help").stdout


def test_every_command_has_examples_and_the_line_that_the_list_says():
    for name in PRESENT:
        command = app.app.get_command(click.Context(app.app), name)
        assert isinstance(command, common.Command)
        assert command.name == name
        assert command.examples
        assert all(f"flowtrace {name}" in line for line in command.examples)
        assert flowtrace(name, "--help").stdout.partition("Examples:\n")[2].split("\n")[0] == "  " + command.examples[0]


@pytest.mark.costly
def test_the_module_is_the_same_command_line():
    by_name, by_module = flowtrace_process("--help"), call(sys.executable, "-m", "flowtrace", "--help")
    assert (by_name.returncode, by_name.stdout, by_name.stderr) == (0, by_module.stdout, by_module.stderr)


def test_the_version_is_that_of_the_package():
    done = flowtrace_process("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"flowtrace {library.__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("sing",), "Error: No such command 'sing'"),
        (("--loud",), "Error: No such option:? '?--loud"),
        (("schema", "extra"), r"Error: Got unexpected extra argument \(extra\)"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_is_wrong(arguments, complaint):
    done = flowtrace(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.match(complaint, done.stderr.splitlines()[-1])


def test_no_command_at_all_shows_the_help_and_ends_with_2():
    done = flowtrace()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: flowtrace [OPTIONS] COMMAND [ARGS]...")


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_the_extra_one_line_says_what_to_install(missing, tmp_path):
    hide = (
        "import importlib.util, sys\n"
        "find = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda name, *rest: None if name == {missing!r} else find(name, *rest)\n"
        "from flowtrace.cli import main\n"
        "sys.exit(main(['schema']))\n"
    )
    done = call(sys.executable, "-c", hide)
    hint = "flowtrace: the command line needs the extra `cli`: pip install 'flowtrace[cli]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", hint)


def test_importing_flowtrace_loads_nothing_of_the_command_line():
    program = (
        "import flowtrace, sys; print([name for name in ('click', 'rich', 'flowtrace.cli') if name in sys.modules])"
    )
    assert call(sys.executable, "-c", program).stdout == "[]\n"


# --- schema


def test_schema_prints_the_schema_of_the_library():
    done = flowtrace_process("schema")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == library.json_schema()
    assert done.stdout.startswith('{\n  "$schema": ')
    assert done.stdout.endswith("}\n")


# --- how commands end


@click.command()
@click.argument("how")
def ending(how):
    if how == "unreadable":
        Path("/nowhere/\x1b[31mtrace.json").read_bytes()
    if how == "not a trace":
        raise TraceFileError("a\nb.json", "/steps/0", "wrong \x1b]0;title\x07")
    if how == "interrupted":
        os.kill(os.getpid(), signal.SIGINT)
    if how == "pipe":
        raise BrokenPipeError
    return int(how) if how.isdigit() else None


@pytest.fixture
def with_ending(monkeypatch):
    found = app._Commands.get_command
    monkeypatch.setattr(
        app._Commands, "get_command", lambda self, ctx, name: ending if name == "end" else found(self, ctx, name)
    )


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [
        ("none", 0, ""),
        ("0", 0, ""),
        ("1", 1, ""),
        ("2", 2, ""),
        ("unreadable", 2, "flowtrace: /nowhere/\\x1b[31mtrace.json: No such file or directory\n"),
        ("not a trace", 2, "flowtrace: a\\nb.json: at /steps/0: wrong \\x1b]0;title\\x07\n"),
    ],
)
def test_a_command_ends_with_its_code_or_with_one_line_about_its_input(with_ending, capfd, how, code, said):
    assert main(["end", how]) == code
    assert capfd.readouterr() == ("", said)


def test_ctrl_c_ends_with_130_and_no_traceback(with_ending, capfd):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job is started with it ignored
    try:
        assert main(["end", "interrupted"]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capfd.readouterr().err == "\n"


@pytest.mark.costly
def test_a_reader_that_closes_the_pipe_is_no_error():
    command = f"{SCRIPT} schema | head -c 5; echo ${{PIPESTATUS[@]}}"
    for _ in range(3):
        done = call("bash", "-c", command)
        assert done.stderr == ""
        assert done.stdout in ('{\n  "141 0\n', '{\n  "0 0\n')  # a pipe takes so much before anybody reads


def test_a_closed_pipe_is_told_apart_from_success():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([SCRIPT, "schema"], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


# --- completion, through the protocol that the shells use


def complete(line, at):
    variables = {"_FLOWTRACE_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(at)}
    done = flowtrace(**variables)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_commands_and_options_are_completed():
    assert complete("flowtrace ", 1) == [f"plain,{name}" for name in PRESENT]
    assert complete("flowtrace sc", 1) == ["plain,schema"]
    assert complete("flowtrace schema --", 2) == ["plain,--help"]


def test_files_are_completed_where_a_trace_or_a_program_goes():
    assert complete("flowtrace show art", 2) == ["file,art"]
    assert complete("flowtrace show --full art", 3) == ["file,art"]
    assert complete("flowtrace run --capture scr", 3) == ["file,scr"]
    assert complete("flowtrace run --mode ", 3) == ["plain,off", "plain,on", "plain,always"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_that_a_shell_evaluates_names_our_command(shell):
    done = flowtrace(_FLOWTRACE_COMPLETE=f"{shell}_source")
    assert done.returncode == 0
    assert f"_FLOWTRACE_COMPLETE={shell}_complete" in done.stdout


@pytest.mark.costly
def test_bash_itself_completes_with_that_script(tmp_path):
    program = (
        f'PATH="{SCRIPT.parent}:$PATH"; eval "$(_FLOWTRACE_COMPLETE=bash_source flowtrace)"\n'
        "COMP_WORDS=(flowtrace sche); COMP_CWORD=1; _flowtrace_completion flowtrace; echo ${COMPREPLY[@]}"
    )
    assert call("bash", "-c", program).stdout == "schema\n"


# --- the TRACE argument


def trace_of(value):
    return common.TRACE.convert(value, None, None)


def write(path, text, age):
    path.write_text(text, encoding="utf-8")
    os.utime(path, ns=(10**18 - age, 10**18 - age))
    return path


def test_a_folder_stands_for_the_newest_trace_in_it(tmp_path):
    write(tmp_path / "old.json", '{"trace_version": 1, "of": "old"}', 3)
    newest = write(tmp_path / "new.json", ' {"a": 1, "trace_version": 1}', 2)
    write(tmp_path / "settings.json", '{"version": 1}', 1)
    write(tmp_path / "list.json", '["trace_version"]', 0)
    (tmp_path / "inner.json").mkdir()
    (tmp_path / "inner.json" / "newer.json").write_text('{"trace_version": 1}')
    assert trace_of(str(tmp_path)) == common.TraceSource(str(newest), newest)


def test_a_broken_newest_trace_is_not_passed_over_for_an_older_one(tmp_path):
    write(tmp_path / "old.json", '{"trace_version": 1}', 1)
    broken = write(tmp_path / "new.json", '{"trace_version": 1, "steps": [', 0)
    source = trace_of(str(tmp_path))
    assert source.path == broken
    with pytest.raises(TraceFileError, match=r"new\.json: at \(whole document\): not a JSON document"):
        source.load()


def test_a_folder_without_a_trace_and_a_missing_file_are_wrong_usage(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(click.BadParameter) as caught:
        trace_of(str(tmp_path))
    assert caught.value.message == f"there is no trace in the folder '{tmp_path}'"
    with pytest.raises(click.BadParameter) as caught:
        trace_of("no\x1bwhere.json")
    assert caught.value.message == "there is no file 'no\\x1bwhere.json'"


def test_a_device_and_a_file_beyond_measure_are_refused(tmp_path, monkeypatch):
    with pytest.raises(common.UnreadableError, match=r"^/dev/zero: is not a file$"):
        trace_of("/dev/zero").load()
    monkeypatch.setattr(common, "MAX_TRACE_BYTES", 1 << 20)
    (tmp_path / "a.json").write_bytes(b" " * ((1 << 20) + 1))
    with pytest.raises(common.UnreadableError, match=r"a\.json: is larger than 1 MiB$"):
        trace_of("a.json").load()


# --- output


@given(st.text())
def test_harmless_text_has_nothing_that_a_terminal_acts_on(text):
    shown = common.printable(text)
    assert shown.isprintable()
    assert not {unicodedata.category(character) for character in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert common.printable(shown) == shown
    assert (shown == text) == text.isprintable()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain äöü 漢字 🎉 [bold]", "plain äöü 漢字 🎉 [bold]"),
        ("\x1b[2J\x07\x9b", "\\x1b[2J\\x07\\x9b"),
        ("a\u202eb\u2066c\ufeff", "a\\u202eb\\u2066c\\ufeff"),
        ("one\r\ntwo\n", "one\\r\\ntwo\\n"),
        ("\ud800", "\\ud800"),
    ],
)
def test_control_characters_become_escapes(text, shown):
    assert common.printable(text) == shown


def test_lines_stay_lines():
    assert common.printable_lines("one\r\ntwo\x1b\n") == ["one", "two\\x1b", ""]


PRINT = (
    "from rich.text import Text\n"
    "from flowtrace.cli.common import make_console\n"
    "console = make_console()\n"
    "console.print(Text('red [b]', 'red'))\n"
    "console.print(Text('x' * 150))\n"
)
RED = "\x1b[31mred [b]\x1b[0m"


@pytest.mark.parametrize(
    ("variables", "lines"),
    [
        ({}, ["red [b]", "x" * 150]),
        ({"FORCE_COLOR": "1"}, [RED, "x" * 150]),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, ["red [b]", "x" * 150]),
        ({"COLUMNS": "100"}, ["red [b]", "x" * 100, "x" * 50]),
    ],
)
def test_colour_and_width_without_a_terminal(variables, lines):
    settings = {"FORCE_COLOR": None, "NO_COLOR": None, "COLUMNS": None, "TERM": "xterm", "COLORTERM": None}
    done = call(sys.executable, "-c", PRINT, **{**settings, **variables})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == lines


@pytest.mark.parametrize("no_color", [None, "1"])
def test_colour_and_width_are_the_terminals(no_color):
    child, terminal = pty.fork()
    if child == 0:
        variables = {name: os.environ[name] for name in os.environ if name not in ("COLUMNS", "FORCE_COLOR")}
        variables |= {"TERM": "xterm", **({"NO_COLOR": no_color} if no_color else {})}
        program = "import fcntl, struct, termios; " + (
            "fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack('HHHH', 20, 60, 0, 0))\n" + PRINT
        )
        os.execve(sys.executable, [sys.executable, "-c", program], variables)
    shown = b""
    while True:
        try:
            data = os.read(terminal, 4096)
        except OSError:
            break
        if not data:
            break
        shown += data
    os.waitpid(child, 0)
    os.close(terminal)
    lines = re.split("\r?\n", shown.decode())
    assert lines == ["red [b]" if no_color else RED, "x" * 60, "x" * 60, "x" * 30, ""]


def test_an_output_that_can_not_hold_a_character_gets_its_escape():
    program = PRINT.replace("red [b]", "\\u2718")
    done = call(sys.executable, "-c", program, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "\\u2718"
