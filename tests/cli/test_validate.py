"""`flowtrace validate`, as a shell would call it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flowtrace import load_trace
from flowtrace.trace.model import to_document
from tests.cli.commands import flowtrace, flowtrace_process
from tests.test_validate import FLAT
from tests.traces import step, trace


def write(name, *steps, **fields):
    Path(name).write_text(json.dumps(to_document(trace(*steps, **fields))))


def test_a_valid_trace_is_told_in_one_line():
    write("a.json", step("c.a"), step("c.b"))
    write("b.json", step("c.a"))
    done = flowtrace_process("validate", "a.json", "b.json")
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        "a.json: valid  2 steps\nb.json: valid  1 step\n",
        "",
    )


def test_each_finding_has_its_place_and_errors_end_with_1():
    write("good.json", step("c.a"))
    write("bad.json", step("c.a", {"x": 1}, captured=True, input_hash={"algorithm": "md5", "value": "x"}, step_id="1"))
    done = flowtrace("validate", "good.json", "bad.json")
    assert (done.returncode, done.stdout.splitlines()) == (
        1,
        [
            "good.json: valid  1 step",
            "bad.json: 1 error, 2 warnings  1 step",
            "  error   hash-form          /steps/0/input_hash/value  is not 64 lowercase hex digits",
            "  warning unknown-algorithm  /steps/0/input_hash/algorithm  is neither blake3 nor blake3-keyed",
            "  warning id-form            /steps/0/step_id  is not 16 lowercase hex digits",
        ],
    )


def test_warnings_end_with_1_only_where_they_are_asked_to():
    write("a.json", step("c.a", step_id="1"))
    assert flowtrace("validate", "a.json").returncode == 0
    assert flowtrace("validate", "--strict", "a.json").returncode == 1
    done = flowtrace("validate", "--strict", "--json", "a.json")
    finding = {
        "severity": "warning",
        "code": "id-form",
        "pointer": "/steps/0/step_id",
        "message": "is not 16 lowercase hex digits",
    }
    assert json.loads(done.stdout) == {"files": [{"trace": "a.json", "valid": False, "findings": [finding]}]}


def test_what_is_no_trace_is_an_error_with_its_place():
    Path("a.json").write_text('{"trace_version": 2}')
    Path("b.json").write_text("{")
    done = flowtrace("validate", "a.json", "b.json")
    assert done.returncode == 1
    assert done.stdout.splitlines()[:2] == [
        "a.json: 1 error",
        "  error   not-a-trace  /trace_version  is 2; this reader takes version 1",
    ]
    assert done.stdout.splitlines()[3].startswith("  error   not-a-trace  (whole document)  not a JSON document: ")


def test_a_flat_record_is_converted_into_a_trace_that_the_other_commands_read():
    Path("flat.json").write_text(json.dumps(FLAT))
    done = flowtrace("validate", "--convert", "out/trace.json", "flat.json")
    assert (done.returncode, done.stdout) == (
        0,
        "flat.json: 1 note  1 step\n  note    flat-record  (whole document)  is a flat one-step record\n",
    )
    assert load_trace("out/trace.json").steps[0].error.message == "no such card"
    assert flowtrace("validate", "out/trace.json").stdout == "out/trace.json: valid  1 step\n"
    assert "ai.card.render" in flowtrace("show", "out/trace.json").stdout
    from_pipe = flowtrace("validate", "--convert", "piped.json", "-", stdin=json.dumps(FLAT))
    assert from_pipe.returncode == 0
    assert Path("piped.json").read_bytes() == Path("out/trace.json").read_bytes()


def test_a_flat_record_that_is_wrong_is_not_converted():
    Path("flat.json").write_text(json.dumps(FLAT | {"duration_ms": "3"}))
    done = flowtrace("validate", "--convert", "out.json", "flat.json")
    assert (done.returncode, done.stdout.splitlines()[1]) == (
        1,
        "  error   field  /duration_ms  is '3'; a flat record takes a whole number of milliseconds",
    )
    assert not Path("out.json").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "Error: Missing argument 'TRACE...'."),
        (
            ("missing.json",),
            "Error: Invalid value for 'TRACE...': there is no file 'missing.json'; there are 'flat.json', 'a.json'",
        ),
        (("-", "-"), "Error: only one TRACE can be standard input"),
        (("--convert", "o.json", "a.json", "a.json"), "Error: --convert takes one TRACE"),
        (
            ("--convert", "o.json", "a.json"),
            "flowtrace: a.json: is a trace already; --convert takes a flat one-step record",
        ),
        (("--convert", "/dev/null/x", "flat.json"), "flowtrace: /dev/null/x: Not a directory"),
    ],
)
def test_what_can_not_be_done_ends_with_2(arguments, complaint):
    write("a.json", step("c.a"))
    Path("flat.json").write_text(json.dumps(FLAT))
    done = flowtrace("validate", *arguments)
    assert (done.returncode, done.stdout, done.stderr.splitlines()[-1]) == (2, "", complaint)
