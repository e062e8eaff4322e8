"""Paths that lead nowhere, or to something else than a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowtrace import load_trace
from tests.faults.scenario import OUT, PARTS, survive
from tests.programs import run_program

pytestmark = pytest.mark.disk

GONE = "os.rename(out, 'kept.json')"
BACK = "os.rename('kept.json', out)"
FAULTS = {
    "a folder with one in the place of the trace": (
        f"{GONE}; (out / 'trace.json').mkdir(parents=True)",
        f"(out / 'trace.json').rmdir(); out.rmdir(); {BACK}",
        "is a folder, not a file",
    ),
    "a pipe": (f"{GONE}; os.mkfifo(out)", f"assert out.is_fifo(); out.unlink(); {BACK}", "is not a regular file"),
    "a socket": (
        f"import socket; {GONE}; os.chdir('out'); plug = socket.socket(socket.AF_UNIX); plug.bind('trace.json'); "
        "os.chdir('..')",
        f"plug.close(); assert out.is_socket(); out.unlink(); {BACK}",
        "is not a regular file",
    ),
    "a link to a device": (
        f"{GONE}; out.symlink_to('/dev/null')",
        f"assert Path('/dev/null').is_char_device(); out.unlink(); {BACK}",
        "is not a regular file",
    ),
    "a file in place of its folder": (
        "os.rename('out', 'kept'); Path('out').touch()",
        "Path('out').unlink(); os.rename('kept', 'out')",
        "Not a directory",
    ),
    "a link that leads to itself as its folder": (
        "os.rename('out', 'kept'); Path('out').symlink_to('out')",
        "Path('out').unlink(); os.rename('kept', 'out')",
        "Too many levels of symbolic links",
    ),
    "a dangling link as its folder": (
        "os.rename('out', 'kept'); Path('out').symlink_to('nowhere')",
        "assert not os.path.exists('nowhere'); Path('out').unlink(); os.rename('kept', 'out')",
        "No such file or directory",
    ),
}


@pytest.mark.costly
@pytest.mark.parametrize("name", FAULTS)
def test_something_else_than_a_file(name, tmp_path):
    begin, end, reason = FAULTS[name]
    survive(tmp_path, begin, end, reason=reason)


@pytest.mark.costly
@pytest.mark.parametrize("part", ["a name", "a path"])
def test_a_path_that_is_too_long(part, tmp_path):
    long = "t" * 256 if part == "a name" else "/".join(["d" * 200] * 30)
    program = f"""
        import flowtrace
        chance("before")
        with flowtrace.override(out_path="out/{long}"):
            chance("during")
        assert told() == "before"
        chance("after")
        assert (told(), files()) == ("after", ["trace.json"])
    """
    done = run_program(tmp_path, PARTS, program, FLOWTRACE_OUT=OUT)
    assert [line.count("File name too long") for line in done.stderr.splitlines()] == [1, 1]


@pytest.mark.costly
def test_a_missing_folder_is_made_and_one_that_vanishes_is_made_again(tmp_path):
    program = """
        import shutil
        chance("before")
        shutil.rmtree(out.parent)
        chance("after")
        assert (told(), files()) == ("after", ["trace.json"])
    """
    done = run_program(tmp_path, PARTS, program, FLOWTRACE_OUT="out/deep/er/trace.json")
    assert done.stderr == ""
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "out/deep/er").parents][:2] == [0o700, 0o700]


def test_a_working_folder_that_vanishes(tmp_path):
    (tmp_path / "cwd").mkdir()
    program = """
        os.chdir("cwd")
        chance("before")
        os.rename(out.parent, "../kept")
        os.rmdir("../cwd")
        chance("after")
        assert (told(), files()) == ("after", ["trace.json"])
    """
    chdir = "import os; os.environ['FLOWTRACE_OUT'] = os.path.abspath('cwd/out/trace.json')"
    run_program(tmp_path, chdir, PARTS, program)
    assert load_trace(tmp_path / "kept/trace.json").steps[-1].error.message == "before"


def test_a_program_that_starts_in_a_folder_that_is_gone(tmp_path):
    program = """
        import os
        os.mkdir("gone"); os.chdir("gone"); os.rmdir("../gone")
        from flowtrace import traced_node

        @traced_node
        def fail(error):
            raise error

        error = ValueError("mine")
        try:
            fail(error)
        except ValueError as raised:
            assert raised is error
    """
    done = run_program(tmp_path, program, FLOWTRACE_OUT="trace.json")
    assert done.stderr.count("failed to write trace") == 1
    assert "No such file or directory" in done.stderr
    assert [path.name for path in Path(tmp_path).iterdir()] == ["program.py"]
