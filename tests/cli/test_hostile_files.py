"""Trace files from anywhere: a clear error or harmless output, in bounded time, and never a traceback."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path

import pytest

from flowtrace.trace.model import to_document
from tests.cli.commands import flowtrace
from tests.traces import hash_of, step, trace

EVIL = "\x1b[31mred\x1b]0;title\x07\x9b2J\u202e\u2066\r\n\0\x7f"
GOOD = to_document(trace(step("c.a", 1, code="x"), step("c.b", {"y": [1]}, 2, captured=True)))


def bent(**fields):
    """Return a good document with other fields in its second step."""
    document = json.loads(json.dumps(GOOD))
    document["steps"][1] |= fields
    return json.dumps(document)


def deep(opener, closer, levels):
    return bent(output_json=[]).replace('"output_json": []', f'"output_json": {opener * levels}1{closer * levels}')


def evil_everywhere():
    """Return a trace in which every text is one that a terminal would act on."""
    code = {"module": EVIL, "qualname": EVIL, "file": EVIL, "line": 1, "hash": hash_of(1)}
    details = {"type": EVIL, "causes": [{"type": EVIL, "message": EVIL}], "notes": [EVIL], "frames": [{"file": EVIL}]}
    odd = {
        **{name: EVIL for name in ("node_id", "component_id", "operation", "thread", "step_id", "started_at")},
        "parent_step_id": "x" + EVIL,
        "input_hash": {"algorithm": EVIL, "value": EVIL},
        "invocation_json": {"component_id": EVIL, "operation": EVIL, "payload": {EVIL: EVIL, "a": 5}},
        "invocation_path": EVIL,
        "validation_issues": [{"code": EVIL, "path": EVIL, "message": EVIL}],
        "error": {"code": EVIL, "message": EVIL, "details": details},
        "code": code,
        "opaque": [EVIL],
        "redacted": ["/invocation_json/payload/a" + EVIL],
        "duration_ms": 1,
    }
    run = {name: EVIL for name in ("id", "started_at", "ended_at", "outcome", "host", "python")} | {"pid": 1}
    return json.dumps(
        {
            "trace_version": 1,
            "runner_version": EVIL,
            "git_sha": EVIL,
            "pack": {"pack_ref": EVIL},
            "flow": {"id": EVIL, "version": EVIL},
            "steps": [odd, odd],
            "in_flight": [odd],
            "run": run,
        }
    )


HOSTILE = {
    "empty": "",
    "truncated": json.dumps(GOOD)[:-20],
    "no object": "[1, 2]",
    "huge number": bent(duration_ms=10**40),
    "huge number in a payload": bent(output_json={"n": 10**400}),
    "huge duration": bent(duration_ns=2**63, started_at="9999-12-31T23:59:59Z"),
    "wrong types": bent(opaque=5, node_id=None),
    "wrong types in a payload": bent(invocation_json=[[]], output_json=None),
    "deep array": deep("[", "]", 600),
    "deep object": deep('{"a":', "}", 600),
    "deeper": deep("[", "]", 5000),
    "endless": "[" * 200_000,
    "parents in a ring": bent(step_id="1", parent_step_id="1"),
    "long text": bent(node_id="n" * 1_000_000, output_json="v" * 1_000_000),
    "lone surrogate": json.dumps(GOOD).replace("c.b", "\\ud800"),
    "odd keys": bent(output_json={"": {"a/b~": 1}, "$py": "cut"}),
    "evil": evil_everywhere(),
    "traversal": bent(invocation_path="../../../../etc/passwd"),
    "absolute": bent(invocation_path="/etc/passwd"),
    "pipe": bent(invocation_path="pipe"),
    "link": bent(invocation_path="link.json"),
}
COMMANDS = {
    "diff a good one": ("diff", "--full", "--timing", "good.json", "bad.json"),
    "diff with it": ("diff", "--full", "bad.json", "good.json"),
    "diff as JSON": ("diff", "--json", "--timing", "good.json", "bad.json"),
    "validate": ("validate", "bad.json"),
    "validate as JSON": ("validate", "--json", "bad.json"),
    "convert": ("validate", "--convert", "out.json", "bad.json"),
}


def folder_with(text, tmp_path):
    """Return a folder with a good trace, a bad one of this text, a pipe, and a link to a secret outside."""
    Path("secret.json").write_text('{"y": "secret"}')
    work = tmp_path / "work"
    work.mkdir()
    (work / "good.json").write_text(json.dumps(GOOD))
    (work / "bad.json").write_text(text)
    os.mkfifo(work / "pipe")
    (work / "link.json").symlink_to(tmp_path / "secret.json")
    return work


@pytest.mark.costly
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_refused_or_rendered_harmless(text, command, tmp_path):
    work = folder_with(text, tmp_path)
    done = flowtrace(*command, folder=work)
    output = done.stdout + done.stderr
    assert done.returncode in (0, 1, 2)
    assert "Traceback" not in output
    assert "secret" not in output
    assert "root:" not in output
    assert {character for character in output if unicodedata.category(character) in ("Cc", "Cf")} <= {"\n"}
    assert len(output) < 100_000 or "--json" in command
    if "--json" in command and done.returncode != 2:
        json.loads(done.stdout)
    if done.returncode == 2:
        assert (done.stdout, len(done.stderr.splitlines()) <= 4) == ("", True)


@pytest.mark.costly
@pytest.mark.timeout(60)
def test_ten_thousand_odd_steps_come_to_an_end():
    knots = [step("c.a", 1, step_id=str(at % 100), parent_step_id=str(at % 101), at=at % 7) for at in range(10_000)]
    chain = [step("c.a", at, step_id=str(at), parent_step_id=str(at + 1)) for at in range(10_000)]
    for name, steps in (("knots", knots), ("chain", chain)):
        Path(f"{name}.json").write_text(json.dumps(to_document(trace(*steps))))
    assert flowtrace("diff", "knots.json", "chain.json").returncode == 1
    assert flowtrace("validate", "knots.json", "chain.json").returncode == 1
