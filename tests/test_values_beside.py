"""Values over the limit: in payload files beside the trace, or cut, with the reason and the true size."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from blake3 import blake3

import flowtrace
from flowtrace import diff, flow, load_trace, replay, traced_node, validate
from flowtrace.values.encoded import hash_bytes
from tests.cli.commands import flowtrace as command
from tests.replay.workshop import edit, new_module, outcomes, record

SETTINGS = {"mode": "always", "capture_inputs": True, "capture_outputs": True, "max_value_bytes": 100}
LARGE = 'abcdefgh"\\ä\n' * 30


@traced_node(component="c", operation="same")
def same(value):
    return value


@traced_node(component="c", operation="fail")
def fail(value):
    raise ValueError("boom")


def one_step(path, value, node=same, **changes):
    """Call a node, and return its step as it stands in the trace."""
    with flowtrace.override(out_path=path, **{**SETTINGS, **changes}):
        if node is fail:
            with pytest.raises(ValueError, match="boom"):
                node(value)
        else:
            node(value)
    return json.loads(path.read_bytes())["steps"][-1]


def cut(reason, size):
    return {"$py": "cut", "reason": reason, "size": size}


def size_of(value):
    return len(flowtrace.canonical_bytes(value))


def test_a_large_result_goes_to_a_file_named_after_its_content(tmp_path):
    step = one_step(tmp_path / "trace.json", LARGE)
    data = flowtrace.canonical_bytes(LARGE)
    digest = blake3(data).hexdigest()
    assert step["output_path"] == f"trace.payloads/{digest}.json"
    assert (tmp_path / step["output_path"]).read_bytes() == data
    assert step["output_hash"] == {"algorithm": "blake3", "value": digest}
    assert step["invocation_path"] == f"trace.payloads/{step['input_hash']['value']}.json"
    assert not {"output_json", "invocation_json"} & step.keys()
    assert sorted(path.name for path in (tmp_path / "trace.payloads").iterdir()) == sorted(
        Path(step[name]).name for name in ("invocation_path", "output_path")
    )
    assert validate(tmp_path / "trace.json") == []


def test_the_limit_itself_is_no_large_value(tmp_path):
    step = one_step(tmp_path / "trace.json", "x" * 98)
    assert step["output_json"] == "x" * 98
    assert "output_path" not in step
    assert "output_path" in one_step(tmp_path / "trace.json", "x" * 99)


def test_equal_contents_are_one_file_that_is_written_once(tmp_path):
    path = tmp_path / "trace.json"
    step = one_step(path, LARGE)
    file = tmp_path / step["output_path"]
    os.utime(file, ns=(1, 1))
    before = file.stat()
    with flowtrace.override(out_path=path, **SETTINGS), flow("f"):
        for _ in range(3):
            same(LARGE)
    assert {step.output_path for step in load_trace(path).steps} == {step["output_path"]}
    assert len(list((tmp_path / "trace.payloads").iterdir())) == 2
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, 1)


def test_a_file_is_named_after_its_content_whatever_the_key_of_the_hashes(tmp_path):
    value = {"password": "hunter2", "rows": [LARGE]}
    step = one_step(tmp_path / "trace.json", value, hash_key="k")
    data = (tmp_path / step["output_path"]).read_bytes()
    assert Path(step["output_path"]).name == f"{blake3(data).hexdigest()}.json"
    assert step["output_hash"]["algorithm"] == "blake3-keyed"
    assert step["output_hash"]["value"] not in step["output_path"]
    assert b"hunter2" not in data
    assert step["redacted"] == ["/invocation_json/payload/value/password", "/output_json/password"]
    assert validate(tmp_path / "trace.json") == []


def test_a_generator_of_large_items_goes_to_a_file_too(tmp_path):
    @traced_node(component="c", operation="g")
    def items():
        yield LARGE
        yield 2
        return 3

    with flowtrace.override(out_path=tmp_path / "trace.json", **SETTINGS):
        assert list(items()) == [LARGE, 2]
    (step,) = load_trace(tmp_path / "trace.json").steps
    content = json.loads((tmp_path / step.output_path).read_bytes())
    assert content == {"$py": "generator", "items": [LARGE, 2], "returned": 3}
    assert validate(tmp_path / "trace.json") == []


# --- what is cut


@pytest.mark.parametrize("node", [same, fail])
def test_what_exceeds_the_buffer_is_cut_with_that_reason_and_its_true_size(tmp_path, node):
    value = "x" * 5000
    step = one_step(tmp_path / "trace.json", value, node, buffer_bytes=1000)
    reason = "larger than FLOWTRACE_BUFFER_BYTES"
    assert step["invocation_json"]["payload"] == cut(reason, size_of({"value": value}))
    assert step["input_hash"]["value"] == flowtrace.hash_value({"value": value}).value
    if node is same:
        assert step["output_json"] == cut(reason, 5002)
        assert step["output_hash"]["value"] == flowtrace.hash_value(value).value
    assert not (tmp_path / "trace.payloads").exists()
    assert validate(tmp_path / "trace.json") == []


def test_a_step_whose_values_together_exceed_the_buffer_keeps_its_input(tmp_path):
    value = "x" * 700
    step = one_step(tmp_path / "trace.json", value, buffer_bytes=1000)
    assert (tmp_path / step["invocation_path"]).read_bytes() == flowtrace.canonical_bytes({"value": value})
    assert step["output_json"] == cut("no room in FLOWTRACE_BUFFER_BYTES", 702)
    assert step["output_hash"]["value"] == flowtrace.hash_value(value).value


@pytest.mark.parametrize("room", [0, 1, 50])
def test_without_room_the_failing_step_is_still_told(tmp_path, room):
    step = one_step(tmp_path / "trace.json", "x" * 200, fail, buffer_bytes=room, max_value_bytes=10_000)
    assert step["error"]["message"] == "boom"
    assert step["invocation_json"]["payload"] == cut(
        "larger than FLOWTRACE_BUFFER_BYTES", size_of({"value": "x" * 200})
    )
    assert step["input_hash"]["value"] == flowtrace.hash_value({"value": "x" * 200}).value


def test_a_value_that_finds_no_file_is_cut_with_that_reason(tmp_path, stderr):
    (tmp_path / "trace.payloads").write_text("somebody's file")
    step = one_step(tmp_path / "trace.json", LARGE)
    reason = "larger than FLOWTRACE_MAX_VALUE_BYTES, and no payload file could be written"
    assert step["invocation_json"]["payload"] == cut(reason, size_of({"value": LARGE}))
    assert step["output_json"] == cut(reason, size_of(LARGE))
    assert (tmp_path / "trace.payloads").read_text() == "somebody's file"
    assert stderr.readouterr().err.count("failed to write trace") == 1
    assert validate(tmp_path / "trace.json") == []


def test_a_value_nested_too_deeply_is_cut_with_that_reason(tmp_path):
    value = "x"
    for _ in range(230):
        value = [value]
    step = one_step(tmp_path / "trace.json", value, max_value_bytes=10_000)
    assert step["output_json"] == cut("nested more than 200 levels", size_of(value))


# --- readers


@pytest.fixture
def nodes(tmp_path):
    return new_module(
        tmp_path,
        """
        from flowtrace import traced_node

        @traced_node(component="a", operation="double")
        def double(text: str) -> str:
            return text * 2

        @traced_node(component="a", operation="outer")
        def outer(text: str) -> str:
            return double(text)[::-1]
        """,
    )


@pytest.fixture
def recorded(tmp_path, nodes):
    """A trace of two steps, in a folder of its own, all of whose values are in payload files."""
    (tmp_path / "traces").mkdir()
    return Path(record(tmp_path / "traces/t.json", lambda: nodes.outer("ab" * 200), max_value_bytes=100))


def steps(path):
    return json.loads(path.read_bytes())["steps"]


def everything_holds(path):
    assert validate(path) == []
    assert [outcome for _, outcome, _ in outcomes(replay(path))] == ["same_output"] * 2
    assert outcomes(replay(path, steps=[1], stubs=["a.double"])) == [("outer", "same_output", "")]
    shown = command("show", "--full", path)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.count("'" + "ab" * 400 + "'") == 1
    assert command("validate", path).returncode == 0
    assert command("diff", path, path).returncode == 0


def test_every_reader_follows_the_paths(recorded):
    assert ["invocation_path" in step and "output_path" in step for step in steps(recorded)] == [True, True]
    everything_holds(recorded)


def test_a_trace_that_is_moved_with_its_payload_folder_still_works(recorded, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    shutil.move(recorded, tmp_path / "elsewhere/renamed.json")
    shutil.move(recorded.parent / "t.payloads", tmp_path / "elsewhere/t.payloads")
    everything_holds(tmp_path / "elsewhere/renamed.json")


def test_diff_shows_where_large_results_differ(nodes, tmp_path):
    paths = [
        record(tmp_path / f"{name}.json", lambda text=text: nodes.double(text), max_value_bytes=100)
        for name, text in (("a", "x" * 200), ("b", "x" * 200))
    ]
    document = json.loads(paths[1].read_bytes())["steps"][0]
    other = b'"other ' + b"x" * 200 + b'"'
    name = f"b.payloads/{hash_bytes(other).value}.json"
    (tmp_path / name).write_bytes(other)
    changed = {"output_path": name, "output_hash": document["output_hash"] | {"value": hash_bytes(other).value}}
    edit(paths[1], lambda trace: trace["steps"][0].update(changed))
    (aspect,) = diff(*paths).divergences[0].aspects
    assert [(change.pointer, change.a, change.b) for change in aspect.changes] == [
        ("", "x" * 400, "other " + "x" * 200)
    ]


@pytest.fixture
def missing(recorded):
    shutil.rmtree(recorded.parent / "t.payloads")
    return recorded


def test_a_missing_payload_file_is_a_finding_a_skip_and_a_note(missing, tmp_path):
    path = steps(missing)[0]["output_path"]
    reason = f"the payload file '{path}' can't be read: No such file or directory"
    found = {(finding.code, finding.pointer) for finding in validate(missing)}
    assert found == {
        ("payload-file", f"/steps/{at}/{name}") for at in (0, 1) for name in ("invocation_path", "output_path")
    }
    assert reason in [finding.message for finding in validate(missing)]
    assert {outcome for _, outcome, _ in outcomes(replay(missing))} == {"skipped"}
    shown = command("show", missing)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "No such file or directory" in shown.stdout
    for arguments, code in ((("validate",), 1), (("replay",), 1), (("diff", missing), 0)):
        done = command(*arguments, missing)
        assert (done.returncode, "Traceback" in done.stdout + done.stderr) == (code, False), done


def test_a_stub_without_its_payload_file_has_no_answer(recorded):
    (recorded.parent / steps(recorded)[0]["output_path"]).unlink()
    ((operation, outcome, reason),) = outcomes(replay(recorded, steps=[1], stubs=["a.double"]))
    assert (operation, outcome) == ("outer", "skipped")
    assert reason.startswith("the stub of a.double has no answer: the payload file ")
    assert reason.endswith("can't be read: No such file or directory")


SECRET = b'"a secret of another folder, long enough to be told from anything else"'
NAME = f"{hash_bytes(SECRET).value}.json"
HOSTILE = [
    *(f"../{NAME}", f"t.payloads/../../{NAME}", f"./{NAME}", f"a//{NAME}", f"a\\{NAME}", f"c:{NAME}", f"{NAME}\n"),
    *(f"{{folder}}/{NAME}", "/etc/passwd", "", ".", "..", "t.payloads/", f"a\0/{NAME}", "file:///etc/passwd"),
    *(f"linked/{NAME}", f"t.payloads/{NAME}", "x" * 5000, "\x1b[2J", "\u202e", "%2e%2e/secret", "~/.netrc", "pipe"),
]


@pytest.mark.parametrize("field", ["invocation_path", "output_path"])
def test_no_reader_is_led_out_of_the_folder(recorded, tmp_path, field):
    (tmp_path / NAME).write_bytes(SECRET)
    (recorded.parent / "linked").symlink_to(tmp_path)
    (recorded.parent / "t.payloads" / NAME).symlink_to(tmp_path / NAME)
    os.mkfifo(recorded.parent / "pipe")
    shutil.copy(recorded, recorded.parent / "good.json")
    for path in HOSTILE:
        evil = path.replace("{folder}", str(tmp_path))
        edit(recorded, lambda document, evil=evil: document["steps"][0].update({field: evil}))
        (finding,) = (found for found in validate(recorded) if found.pointer == f"/steps/0/{field}")
        assert (finding.code, "secret of another" in finding.message) == ("payload-file", False), path
        compared = diff(recorded, recorded.parent / "good.json")
        assert "secret of another" not in json.dumps(compared.to_json()), path
        if field == "invocation_path":
            assert outcomes(replay(recorded, steps=[0]))[0][1] == "skipped", path
        else:
            assert outcomes(replay(recorded, steps=[1], stubs=["a.double"]))[0][1] == "skipped", path


def test_show_is_not_led_out_of_the_folder_either(recorded, tmp_path):
    (tmp_path / NAME).write_bytes(SECRET)
    (recorded.parent / "linked").symlink_to(tmp_path)
    step = steps(recorded)[0]
    many = [step | {"output_path": path.replace("{folder}", str(tmp_path))} for path in HOSTILE]
    edit(recorded, lambda document: document.update(steps=many))
    shown = command("show", "--full", recorded)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "secret of another" not in shown.stdout
    assert "\x1b" not in shown.stdout
    assert shown.stdout.count("the payload file ") == len(HOSTILE)


def test_a_file_that_is_not_what_its_name_says_is_not_shown(recorded):
    (recorded.parent / steps(recorded)[0]["output_path"]).write_bytes(SECRET)
    shown = command("show", "--full", recorded)
    assert shown.returncode == 0
    assert "secret of another" not in shown.stdout
    assert "is not named after the hash of its content" in shown.stdout
    assert [(found.code, found.pointer) for found in validate(recorded)] == [
        ("payload-mismatch", "/steps/0/output_path"),
        ("hash-mismatch", "/steps/0/output_hash"),
    ]


def test_a_result_that_stands_in_two_places_or_without_a_hash_is_told(recorded):
    edit(recorded, lambda document: document["steps"][0].update(output_json=1))
    assert next((found.code, found.pointer) for found in validate(recorded)) == (
        "captured-twice",
        "/steps/0/output_path",
    )
    edit(recorded, lambda document: [document["steps"][0].pop(name) for name in ("output_json", "output_hash")])
    assert [(found.code, found.pointer) for found in validate(recorded)] == [
        ("output-without-hash", "/steps/0/output_path")
    ]


def test_a_replay_without_the_key_compares_with_what_is_in_the_file(nodes, tmp_path):
    path = record(tmp_path / "t.json", lambda: nodes.double("ab" * 200), max_value_bytes=100, hash_key="k")
    assert [outcome for _, outcome, _ in outcomes(replay(path))] == ["same_output"]
    (tmp_path / json.loads(path.read_bytes())["steps"][0]["output_path"]).unlink()
    ((_, outcome, reason),) = outcomes(replay(path))
    assert (outcome, reason) == ("ended_well", "its output can't be compared without the key of the hashes")


def test_a_replay_of_a_closed_generator_takes_as_many_large_items(tmp_path):
    nodes = new_module(
        tmp_path,
        """
        from flowtrace import traced_node

        @traced_node(component="a", operation="endless")
        def endless(text: str):
            while True:
                yield text
        """,
    )

    def take_two():
        items = nodes.endless("ab" * 200)
        found = [next(items), next(items)]
        items.close()
        return found

    path = record(tmp_path / "t.json", take_two, max_value_bytes=100)
    (step,) = json.loads(path.read_bytes())["steps"]
    assert json.loads((tmp_path / step["output_path"]).read_bytes())["items"] == ["ab" * 200] * 2
    assert outcomes(replay(path)) == [("endless", "same_output", "")]
