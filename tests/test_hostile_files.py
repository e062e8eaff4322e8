"""Files that somebody else made: what a name, a header, a link or a device in their place can't do."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import flowtrace
from flowtrace.blackbox import recover, ring_file
from flowtrace.errors import TraceFileError
from flowtrace.host import switch
from flowtrace.recording.recorder import TraceRecorder
from flowtrace.settings.config import TraceConfig, TraceContext
from flowtrace.trace import files
from flowtrace.trace.model import UNSET
from flowtrace.trace.repeated_keys import repeated_keys

PROGRAM = """
import flowtrace

@flowtrace.traced_node(component="root")
def act(what):
    raise ValueError(what)

try:
    act("x")
except ValueError:
    print("ran")
"""
DIES = f"""
import os
import flowtrace

@flowtrace.traced_node
def act(what):
    os.kill(os.getpid(), {int(signal.SIGKILL)})

act(1)
"""
ENVELOPE = '{"trace_version": 1, "pack": {"pack_ref": "p"}, "flow": {"id": "f", "version": "1"}, "steps": []'


def run(folder, program, *options, python=sys.executable, **variables):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FLOWTRACE_") and name != "CI"}
    return subprocess.run(
        [python, *options, "-c", program],
        cwd=folder,
        env=clean | variables,
        capture_output=True,
        text=True,
        timeout=60,
    )


# --- the header of a ring file


@pytest.fixture(scope="module")
def ring(tmp_path_factory):
    """What a process left that was killed in a call."""
    folder = tmp_path_factory.mktemp("dead")
    run(folder, DIES, FLOWTRACE_BLACKBOX="app.ring")
    return folder / "app.ring"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("pid", value) for value in ("/../../../outside/x", "y" * 5000, -1, 2**64 - 1, 1.5, None, ["a"], True)),
        *(("flow_id", value) for value in ("../../outside", "/", "..", "", "\0", "z" * 5000, 7, None)),
        *(("run_id", value) for value in ("../../outside", "/", "", "\0" * 32, 7, None)),
        *(("started", value) for value in (-(2**63), 2**64 - 1, "../x", None)),
        *(("epoch", value) for value in (-(2**63), 2**64 - 1, "../x", None)),
        *(("steps_before", value) for value in (-(2**63), 2**64 - 1, "x")),
        *(("buffer_size", value) for value in (-(2**63), 2**64 - 1, "x")),
        *(("max_value_bytes", value) for value in (-(2**63), 2**64 - 1, "x")),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_header_decides_neither_where_the_trace_goes_nor_whether_there_is_one(tmp_path, ring, name, value):
    content = ring_file.read(str(ring))
    header = json.loads(json.dumps(content.header | {name: value}))
    out = tmp_path / "a" / "project" / "sub" / "t{pid}-{flow_id}-{run_id}-{timestamp}.json"
    recorder = TraceRecorder(TraceConfig(out_path=out), TraceContext("p", "f"))
    written = recover.write(recorder, recover.trace_of(content._replace(header=header)), header)
    (made,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert made == Path(written)
    assert made.parent == out.parent
    assert ".recovered." in made.name
    assert [step.operation for step in flowtrace.load_trace(made).in_flight] == ["act"]


def test_a_ring_file_with_such_a_header_does_not_stay(tmp_path, ring):
    data = bytearray(ring.read_bytes())
    body = ring_file.framed(json.dumps(ring_file.read(str(ring)).header | {"pid": "/../../outside"}).encode())
    data[16 : 16 + len(body)] = body
    project = tmp_path / "project"
    project.mkdir()
    (project / "app.ring").write_bytes(data)
    variables = {"FLOWTRACE_BLACKBOX": "app.ring", "FLOWTRACE_OUT": "sub/t{pid}.json"}
    assert run(project, "import flowtrace; flowtrace.traced_node(abs)(1)", **variables).returncode == 0
    assert [path.parent for path in tmp_path.rglob("*") if path.is_file()] == [project / "sub"]


# --- links in what a template leaves open


@pytest.mark.parametrize("template", ["shared/{flow_id}/in/t.json", "shared/x{flow_id}/t.json"])
def test_a_link_in_the_open_part_of_the_path_is_not_followed(tmp_path, template):
    (tmp_path / "victim" / "in").mkdir(parents=True)
    (tmp_path / "shared").mkdir()
    for name in ("process", "xprocess"):
        (tmp_path / "shared" / name).symlink_to("../victim")
    ran = run(tmp_path, PROGRAM, FLOWTRACE_OUT=template, FLOWTRACE_BLACKBOX=template.replace("json", "ring"))
    assert ran.stdout == "ran\n"
    assert ran.stderr.count("is a link, and is not followed") == 2
    assert [path for path in (tmp_path / "victim").rglob("*") if path.is_file()] == []


def test_a_link_that_the_template_names_is_the_users(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "shared").symlink_to("real")
    assert run(tmp_path, PROGRAM, FLOWTRACE_OUT="shared/{flow_id}/t.json").stderr == ""
    assert (tmp_path / "real" / "process" / "t.json").is_file()


# --- what is read


def test_a_device_and_a_pipe_are_not_read(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero"), Path("/dev/tty0")):
        if path.exists():
            for read in (flowtrace.load_trace, flowtrace.validate, flowtrace.replay):
                with pytest.raises(TraceFileError, match="is not a regular file"):
                    read(path)
    with pytest.raises(IsADirectoryError):
        flowtrace.load_trace(tmp_path)


def test_what_no_recorder_writes_is_too_large(tmp_path, monkeypatch):
    path = tmp_path / "t.json"
    path.write_text(ENVELOPE + "}")
    monkeypatch.setattr(files, "MAX_TRACE_BYTES", len(ENVELOPE))
    with pytest.raises(TraceFileError, match="is larger than"):
        flowtrace.load_trace(path)
    monkeypatch.setattr(files, "MAX_TRACE_BYTES", len(ENVELOPE) + 1)
    assert flowtrace.load_trace(path).steps == []


@pytest.mark.parametrize(
    ("text", "pointers"),
    [
        (ENVELOPE + ', "steps": []}', ["/steps"]),
        (ENVELOPE + ', "st\\u0065ps": []}', ["/steps"]),
        ('{"b": [0, {"c/~": 1, "c/~": 2}, [{"d": {"e": 1, "e": 1}}]]}', ["/b/1/c~1~0", "/b/2/0/d/e"]),
        ('{"a": {"b": 1, "b": 2}, "a": {"b": 1}}', ["/a", "/a/b"]),
        ('{"a": {"b": 1}, "c": {"b": 1}, "d": [{"b": 1}, {"b": 1}]}', []),
        ('{"a" : 1, "a": 2}', ["/a"]),
        ('{"a"\n: 1, "a": 2, "b":"x"}', ["/a"]),
        (r'{"a": "\"\u003a", "a": 1}', ["/a"]),
        (r'{"a": "\u0022:", "a": 1}', ["/a"]),
        ('{"steps": [{"a": 1}, {"b": {"c": 1, "c": 2}}, 3]}', ["/steps/1/b/c"]),
        ('{"a": "b : c", "d": [{"e\\\\": ":", "f": "\\\\\":"}]}', []),
        ('{"a": ' + "9" * 5000 + ', "a": NaN}', ["/a"]),
        ("[" * 100_000, []),
        ("no JSON", []),
    ],
)  # fmt: skip
def test_keys_that_are_there_again_are_found(text, pointers):
    assert repeated_keys(text.encode()) == pointers


def test_a_repeated_key_is_an_error_in_a_trace(tmp_path):
    path = tmp_path / "t.json"
    path.write_text(ENVELOPE + ', "flow": {"id": "g", "version": "1"}}')
    (finding,) = flowtrace.validate(path)
    assert (finding.severity, finding.code, finding.pointer) == ("error", "repeated-key", "/flow")


# --- the environment of somebody else


@pytest.mark.parametrize("option", ["-E", "-I"])
@pytest.mark.parametrize(
    "variables",
    [
        {"FLOWTRACE_MODE": "always"},
        {"FLOWTRACE_BLACKBOX": "kept.ring", "FLOWTRACE_DUMP_SIGNAL": "USR1"},
        {"FLOWTRACE_AUTO": "*", "FLOWTRACE_OUT": "t.json"},
    ],
)
def test_python_that_ignores_the_environment_traces_nothing(tmp_path, option, variables):
    ran = run(tmp_path, PROGRAM, option, **variables)
    assert (ran.stdout, ran.stderr, list(tmp_path.iterdir())) == ("ran\n", "", [])


def test_code_still_decides_where_python_ignores_the_environment(tmp_path):
    program = PROGRAM.replace("import flowtrace", "import flowtrace; flowtrace.configure(out_path='mine.json')", 1)
    run(tmp_path, program, "-E", FLOWTRACE_OUT="theirs.json", FLOWTRACE_CAPTURE_INPUTS="1", GIT_SHA="abc")
    (path,) = tmp_path.iterdir()
    trace = flowtrace.load_trace(path)
    assert (path.name, trace.git_sha, trace.steps[0].invocation_json) == ("mine.json", None, UNSET)


def test_doctor_says_that_no_variable_counts(tmp_path):
    program = "from flowtrace.cli import main; import sys; sys.exit(main(['doctor']))"
    assert "no variable counts" in run(tmp_path, program, "-E", FLOWTRACE_OUT="t.json").stdout


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs the right to make such a program")
def test_a_program_with_more_rights_than_its_caller_does_not_take_the_callers_variables(tmp_path):
    python = tmp_path / "python"
    shutil.copy(Path(sys.executable).resolve(), python)
    os.chown(python, -1, 65534)
    python.chmod(0o2755)
    where = f"import sys; sys.path[:0] = {sys.path!r}\n"
    environment_of = {"FLOWTRACE_OUT": "t.json", "PYTHONHOME": sys.base_prefix}
    ran = run(
        tmp_path, where + "import os; print(os.getgid() != os.getegid())\n" + PROGRAM, python=python, **environment_of
    )
    if not ran.stdout.startswith("True"):
        pytest.skip("this file system has no such programs")
    assert (ran.stdout, ran.stderr) == ("True\nran\n", "")
    assert not (tmp_path / "t.json").exists()


def test_without_a_word_from_the_kernel_users_and_groups_are_compared(monkeypatch):
    def none(*_args):
        raise OSError

    monkeypatch.setattr(switch, "open_file", none)
    assert switch._has_more_rights.__wrapped__() is False
    monkeypatch.setattr(switch.os, "geteuid", lambda: os.getuid() + 1)
    assert switch._has_more_rights.__wrapped__() is True
