"""Our warnings during a call are never among the output that a program catches of a piece of itself."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import textwrap

import pytest

import flowtrace
from flowtrace import traced_node
from flowtrace.host import log, standard_error

ENVIRON = {"FLOWTRACE_MODE": "on", "FLOWTRACE_OUT": "/dev/null/x/trace.json"}  # where nothing can be written
WARNING = "failed to write trace"
NODE = """
import contextlib, io, os, sys
from flowtrace import traced_node

@traced_node
def fails():
    raise ValueError("the program's own")

def call():
    try:
        fails()
    except ValueError:
        print("caught", file=sys.stderr)
"""


def run(program, *arguments, expect=0, **environ):
    done = subprocess.run(
        [sys.executable, *arguments, *([] if arguments else ["-c", NODE + textwrap.dedent(program)])],
        env=os.environ | ENVIRON | environ,
        capture_output=True,
        text=True,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done


def lines_with_warning(text):
    return [line for line in text.splitlines() if WARNING in line]


def test_what_nobody_catches_has_the_warning_at_once():
    lines = run("call()\nprint('later', file=sys.stderr)").stderr.splitlines()
    assert [WARNING in line for line in lines] == [True, False, False]
    assert lines[1:] == ["caught", "later"]


@pytest.mark.parametrize(
    "catching",
    [
        "contextlib.redirect_stderr(io.StringIO())",
        "contextlib.redirect_stderr(io.TextIOWrapper(io.BytesIO(), write_through=True))",
    ],
)
def test_a_stream_in_its_place_has_none_of_it(catching):
    done = run(f"""
        caught = {catching}
        with caught as stream:
            call()
        stream.seek(0)
        assert stream.read() == "caught\\n"
    """)
    assert len(lines_with_warning(done.stderr)) == 1


def test_a_command_that_click_runs_has_none_of_it():
    done = run("""
        import click
        from click.testing import CliRunner

        result = CliRunner().invoke(click.command()(call))
        assert (result.output, result.stderr, result.exception) == ("caught\\n", "caught\\n", None)
    """)
    assert len(lines_with_warning(done.stderr)) == 1


def test_a_file_behind_the_descriptor_has_none_of_it(tmp_path):
    done = run(f"""
        before = os.dup(2)
        file = os.open({str(tmp_path / "caught")!r}, os.O_CREAT | os.O_RDWR)
        os.dup2(file, 2)
        call()
        os.dup2(before, 2)
        print("after", file=sys.stderr)
    """)
    assert (tmp_path / "caught").read_text() == "caught\n"
    lines = done.stderr.splitlines()
    assert [WARNING in line for line in lines] == [False, True]  # at the end of the process
    assert lines[0] == "after"


def test_what_had_to_wait_comes_with_the_next_warning(tmp_path):
    done = run(f"""
        from flowtrace.host import log
        before = os.dup(2)
        os.dup2(os.open({str(tmp_path / "caught")!r}, os.O_CREAT | os.O_RDWR), 2)
        log.warn("first")
        os.dup2(before, 2)
        log.warn("second")
        print("after", file=sys.stderr)
    """)
    assert [line.split("]")[-1].strip() for line in done.stderr.splitlines()] == ["first", "second", "after"]


def test_what_waits_for_ever_is_written_at_the_end(tmp_path):
    run(f"""
        os.dup2(os.open({str(tmp_path / "log")!r}, os.O_CREAT | os.O_RDWR), 2)
        call()
        print("after", file=sys.stderr)
    """)
    assert [WARNING in line for line in (tmp_path / "log").read_text().splitlines()] == [False, False, True]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_a_daemon_writes_into_its_log_at_once(tmp_path):
    run(f"""
        if os.fork():
            os.wait()
            os._exit(0)
        os.dup2(os.open({str(tmp_path / "log")!r}, os.O_CREAT | os.O_RDWR), 2)
        call()
        os._exit(0)
    """)
    assert [WARNING in line for line in (tmp_path / "log").read_text().splitlines()] == [True, False]


def test_a_stream_that_was_there_when_flowtrace_was_loaded_is_the_programs_own():
    program = """
import io, sys
sys.stderr = io.StringIO()
{node}
call()
written = sys.stderr.getvalue().splitlines()
assert [{warning!r} in line for line in written] == [True, False], written
"""
    assert run("", "-c", program.format(node=NODE, warning=WARNING)).stderr == ""


def test_captures_of_pytest_have_none_of_it(tmp_path):
    tests = """
import pytest

@pytest.mark.parametrize("capture", ["capsys", "capfd", "capsysbinary", "capfdbinary"])
def test_caught(request, capture, monkeypatch):
    capture = request.getfixturevalue(capture)
    from flowtrace.host import log
    log.forget()
    call()
    assert capture.readouterr().err in ("caught\\n", b"caught\\n")
"""
    (tmp_path / "test_it.py").write_text(NODE + tests)
    for plugin in ("no:flowtrace", "flowtrace.integrations.pytest"):
        done = run("", "-m", "pytest", "-q", "-p", plugin, "-p", "no:cacheprovider", str(tmp_path / "test_it.py"))
        assert "4 passed" in done.stdout


def test_where_the_program_has_no_standard_error_nothing_is_kept(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    log.warn("unheard")
    assert list(standard_error._STATE.waiting) == []


def test_only_so_many_lines_wait(monkeypatch):
    monkeypatch.setattr(standard_error, "_STATE", standard_error._State())
    monkeypatch.setattr(standard_error, "register", lambda function: None)
    monkeypatch.setattr(standard_error._STATE, "file", (0, 0))
    monkeypatch.setattr(standard_error._STATE, "own", None)
    for number in range(1000):
        standard_error.write(str(number))
    with contextlib.redirect_stderr(io.StringIO()) as stream:
        monkeypatch.setattr(sys, "__stderr__", stream)
        standard_error.write_waiting()
    assert stream.getvalue() == "".join(f"{number}\n" for number in range(900, 1000))


def test_the_recording_goes_on():
    @traced_node
    def adds(one):
        return one + 1

    with flowtrace.testing.recording() as recorded, contextlib.redirect_stderr(io.StringIO()) as stream:
        log.warn("in the midst")
        assert adds(1) == 2
    assert stream.getvalue() == ""
    assert len(recorded.traces) == 1
