"""`flowtrace ci`: the files and lines that GitHub Actions and GitLab read, with readers that follow their rules."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowtrace.cli import ci
from tests.cli.commands import flowtrace
from tests.programs import run_program

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = """
from flowtrace import traced_node

@traced_node(component="shop")
def price(item):
    return {"tea": 3.5}[item]

@traced_node(component="shop")
def total(items):
    return sum(price(item) for item in items)

total(["tea", "::error::cake\\n::add-mask::x"])
"""
ISSUES = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["description", "check_name", "fingerprint", "severity", "location"],
        "properties": {
            "description": {"type": "string", "minLength": 1},
            "check_name": {"type": "string"},
            "fingerprint": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
            "severity": {"enum": ["info", "minor", "major", "critical", "blocker"]},
            "location": {
                "type": "object",
                "required": ["path", "lines"],
                "properties": {
                    "path": {"type": "string", "pattern": "^[^/]"},
                    "lines": {"type": "object", "required": ["begin"], "properties": {"begin": {"type": "integer"}}},
                },
            },
        },
    },
}
"""What https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format asks for."""


def kept(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def commands(text):
    """Return the workflow commands in a log, as the runner finds them: (name, properties, message) of each.

    It takes a line that begins with ``::`` after blanks, and ``##[`` anywhere in another one; see
    https://github.com/actions/runner/blob/main/src/Runner.Common/ActionCommand.cs
    """
    found = []
    for line in re.split(r"\r\n|\n|\r", text):
        stripped = line.lstrip()
        if not stripped.startswith("::"):
            assert "##[" not in line
            continue
        head, end, message = stripped[2:].partition("::")
        assert end
        name, _, listed = head.partition(" ")
        pairs = (part.partition("=") for part in listed.split(",") if part)
        properties = {key: unescaped(value, ":3A", ",2C") for key, _, value in pairs}
        found.append((name, properties, unescaped(message)))
    return found


def unescaped(text, *more):
    for character, code in [("\r", "0D"), ("\n", "0A"), *((item[0], item[1:]) for item in more), ("%", "25")]:
        text = text.replace(f"%{code}", character)
    return text


@pytest.fixture
def failed(tmp_path, monkeypatch):
    """A folder with a program that has failed, and its trace."""
    monkeypatch.chdir(tmp_path)
    run_program(tmp_path, PROGRAM, FLOWTRACE_OUT="trace.json", FLOWTRACE_CAPTURE_INPUTS="1", code=1)
    return tmp_path


def github(folder, *arguments, **variables):
    """Run the command as a step of GitHub Actions; its log, and what is in the files for the summary and outputs."""
    files = {name: folder / name.lower() for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT")}
    for file in files.values():
        file.touch()
    given = {"GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": str(folder), **{k: str(v) for k, v in files.items()}}
    done = flowtrace("ci", *arguments, folder=folder, **given, **variables)
    assert done.returncode == 0
    summary, output = (file.read_text(encoding="utf-8") for file in files.values())
    return SimpleNamespace(log=done.stdout, errors=done.stderr, summary=summary, output=output)


def test_github_gets_a_summary_an_annotation_and_an_output(failed):
    (failed / "github_step_summary").write_text("before\n")
    step = github(failed)
    message = "shop.price #1 at program.py:6: KeyError: '::error::cake\\n::add-mask::x'"
    properties = {"file": "program.py", "line": "6", "title": "flowtrace: shop.price"}
    assert commands(step.log) == [("error", properties, message)]
    assert step.log.splitlines()[-1] == "flowtrace: 1 failure, reported in flowtrace-report"
    assert (step.output, step.errors) == ("failed=1\n", "")
    assert step.summary.startswith("before\n### ✗ `shop.price #1 at ")
    assert step.summary == "before\n" + Path(failed, "flowtrace-report/summary.md").read_text(encoding="utf-8")
    page = Path(failed, "flowtrace-report/trace.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert kept("flowtrace-report") == ["summary.md", "trace.html"]


def test_gitlab_gets_a_report_of_code_quality(failed):
    done = flowtrace("ci", "trace.json", "-o", "kept", folder=failed, GITLAB_CI="true", CI_PROJECT_DIR=str(failed))
    assert (done.returncode, done.stdout) == (0, "flowtrace: 1 failure, reported in kept\n")
    assert kept("kept") == ["gl-code-quality-report.json", "summary.md", "trace.html"]
    report = json.loads(Path("kept/gl-code-quality-report.json").read_text(encoding="utf-8"))
    jsonschema.validate(report, ISSUES)
    assert [(item["location"], item["check_name"]) for item in report] == [
        ({"path": "program.py", "lines": {"begin": 6}}, "flowtrace")
    ]


def test_elsewhere_the_files_are_written(failed):
    done = flowtrace("ci", folder=failed)
    assert (done.returncode, done.stdout) == (0, "flowtrace: 1 failure, reported in flowtrace-report\n")
    assert kept("flowtrace-report") == ["summary.md", "trace.html"]


def test_a_line_outside_the_repository_is_not_annotated(failed):
    inner = failed / "repository"
    inner.mkdir()
    done = flowtrace("ci", folder=failed, GITHUB_ACTIONS="true", GITHUB_WORKSPACE=str(inner))
    ((name, properties, _),) = commands(done.stdout)
    assert (name, properties) == ("error", {"title": "flowtrace: shop.price"})


def test_nothing_failed(tmp_path):
    run_program(tmp_path, PROGRAM.replace('"::error', '"tea"]) #'), FLOWTRACE_OUT="t.json", FLOWTRACE_MODE="always")
    step = github(tmp_path, "t.json")
    assert (commands(step.log), step.output) == ([], "failed=0\n")
    assert step.summary == "flowtrace: nothing failed.\n"


def test_a_job_that_wrote_no_trace_is_no_error(tmp_path):
    (tmp_path / "broken.json").write_text('{"trace_version": 2')
    for arguments in ([], ["none.json"], ["broken.json"], [".", "##[add-mask]x"]):
        step = github(tmp_path, *arguments)
        assert (commands(step.log + "\n" + step.errors), step.output[-9:]) == ([], "failed=0\n")


def test_the_newest_ten_of_a_folder_are_reported(failed):
    folder = failed / ".flowtrace"
    folder.mkdir()
    trace = (failed / "trace.json").read_bytes()
    for number in range(12):
        (folder / f"test_{number:02}.json").write_bytes(trace)
        os.utime(folder / f"test_{number:02}.json", (number, number))
    step = github(failed)
    assert len(commands(step.log)) == 10
    assert step.output == "failed=12\n"
    assert step.summary.count("### ✗") == 10
    assert step.summary.endswith("2 more failures: see the pages that this job keeps.\n")
    pages = [f"test_{number:02}.html" for number in range(2, 12)]
    assert kept("flowtrace-report") == ["summary.md", *pages]


def test_a_full_summary_takes_no_more_than_github_does(failed):
    (failed / "github_step_summary").write_text("x" * 999_500)
    step = github(failed)
    assert len(step.summary) < 1_000_000
    assert step.summary.endswith("x1 more failure: see the pages that this job keeps.\n")


def test_pages_of_the_same_name_do_not_meet(failed):
    other = failed / "other"
    other.mkdir()
    (other / "trace.json").write_bytes((failed / "trace.json").read_bytes())
    github(failed, "trace.json", "other/trace.json")
    assert kept("flowtrace-report") == ["summary.md", "trace-2.html", "trace.html"]


SECRET = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" + "k1L2m3N4o5P6q7R8"


def test_a_trace_that_was_not_scrubbed_is(failed):
    text = Path("trace.json").read_text(encoding="utf-8")
    Path("trace.json").write_text(text.replace('"message": "', f'"message": "{SECRET} '), encoding="utf-8")
    step = github(failed)
    assert SECRET not in step.log


@given(st.text(), st.text(), st.tuples(st.text(min_size=1), st.integers(1)) | st.none())
def test_no_text_makes_a_command_of_its_own(message, node, line):
    step = SimpleNamespace(step=SimpleNamespace(node_id=node))
    failure = SimpleNamespace(failed=step, line=line, message=ci._scrubbed(message))
    ((name, properties, said),) = commands(ci._annotation(failure))
    assert (name, said) == ("error", ci._scrubbed(message))
    assert properties.get("file") == (None if line is None else line[0])
    assert list(properties) == [*(["file", "line"] if line else []), "title"]


@pytest.mark.skipif(sys.platform == "win32", reason="the action's script is bash")
def test_the_action_runs_the_command(failed):
    text = (ROOT / "action.yml").read_text(encoding="utf-8")
    (script,) = re.findall(r"^      run: (.*)$", text, re.MULTILINE)
    assert "${{" not in script
    files = {name: str(failed / name) for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT")}
    given = {"TRACES": "trace.json", "REPORT": str(failed / "a report"), "GITHUB_WORKSPACE": str(failed), **files}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, **given, "PATH": path}
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script],
        env=environment,
        cwd=failed,
        capture_output=True,
        text=True,
        check=True,
    )
    assert [command[1]["line"] for command in commands(done.stdout)] == ["6"]
    assert (failed / "GITHUB_OUTPUT").read_text() == "failed=1\n"
    assert kept("a report") == ["summary.md", "trace.html"]


def test_the_workflow_runs_the_action_on_a_sample_that_fails():
    text = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    job = text.partition("\n  report:\n")[2].partition("\n\n  ")[0]
    assert "uses: ./\n" in job
    assert "! FLOWTRACE_OUT=trace.json" in job
    assert 'run: test "$FAILED" = 1' in job
