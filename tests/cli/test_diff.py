"""`flowtrace diff`, as a shell would call it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from flowtrace.trace.model import to_document
from flowtrace.trace.reading import load_trace
from tests.cli.commands import flowtrace, flowtrace_process
from tests.traces import hash_of, step, trace

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"
BUG = '    return round(LITRES_PER_100_KM / car["Miles_per_Gallon"], 2)\n'
FIX = '    return round(LITRES_PER_100_KM / (car["Miles_per_Gallon"] or 20), 2)\n'


def write(name, *steps, **fields):
    Path(name).write_text(json.dumps(to_document(trace(*steps, **fields))))


@pytest.fixture(scope="module")
def fuel(tmp_path_factory):
    """The failing example and a fixed copy of it, in a folder each, and a trace of both."""
    folder = tmp_path_factory.mktemp("fuel")
    for name, mode in (("failing", "on"), ("fixed", "always")):
        shutil.copytree(EXAMPLES / "data", folder / name / "data")
        text = (EXAMPLES / "fuel_economy.py").read_text(encoding="utf-8")
        assert BUG in text
        script = folder / name / "fuel_economy.py"
        script.write_text(text.replace(BUG, FIX) if name == "fixed" else text, encoding="utf-8")
        for size in ("20", "1000"):
            out = folder / f"{name}-{size}.json"
            done = flowtrace_process(
                "run", "--mode", mode, "--capture", "--out", out, script, FLOWTRACE_BUFFER_SIZE=size
            )
            assert done.returncode == (name == "failing"), done.stderr
    return folder


@pytest.mark.costly
def test_the_changed_function_is_the_first_divergence_from_the_fixed_program(fuel):
    done = flowtrace_process("diff", "failing-1000.json", "fixed-1000.json", folder=fuel)
    old, new = (fuel / name / "fuel_economy.py:30" for name in ("failing", "fixed"))
    assert (done.returncode, done.stderr) == (1, "")
    head, first, *rest = done.stdout.split("\n\n")
    assert head == "different  12 steps compared, 397 divergences\nA failing-1000.json   B fixed-1000.json"
    assert first.splitlines()[:3] == [
        "first divergence: fuel.litres_per_100_km, call 11: code changed",
        "  same input, changed code",
        "  step            A /steps/11   B /steps/11",
    ]
    assert f"A {old} blake3:" in first
    assert f"B {new} blake3:" in first
    assert first.splitlines()[5:] == [
        "  error           A TypeError: unsupported operand type(s) for /: 'float' and 'NoneType'",
        "                  B none",
    ]
    assert rest[0].splitlines() == [
        "all divergences, by kind",
        "  code changed              fuel.litres_per_100_km  A /steps/11   B /steps/11",
        "  step added                fuel.litres_per_100_km  x 395, first  B /steps/12",
        "  step added                fuel.summarise  B /steps/407",
    ]
    assert [part.splitlines()[0] for part in rest[1:]] == ["changed code", "about the runs"]


@pytest.mark.costly
def test_the_changed_function_is_named_even_where_the_buffers_have_no_step_in_common(fuel):
    done = flowtrace("diff", "failing-20.json", "fixed-20.json", folder=fuel)
    assert done.returncode == 1
    assert done.stdout.startswith("not comparable  0 steps compared\n")
    assert "record more steps (FLOWTRACE_BUFFER_SIZE)" in done.stdout
    assert "changed code\n  fuel.litres_per_100_km\n" in done.stdout


def test_json_has_the_whole_result(fuel):
    done = flowtrace("diff", "--json", "--timing", "failing-1000.json", "fixed-1000.json", folder=fuel)
    document = json.loads(done.stdout)
    assert done.returncode == 1
    assert (document["verdict"], document["total"], len(document["divergences"])) == ("different", 397, 100)
    first = document["first"]
    assert (first["kind"], first["cause"], first["node_id"]) == ("code changed", "code", "fuel.litres_per_100_km")
    assert [aspect["what"] for aspect in first["aspects"]] == ["code", "error"]
    both = [load_trace(fuel / f"{name}-1000.json").steps[:12] for name in ("failing", "fixed")]
    took = [(a.duration_ns, b.duration_ns) for a, b in zip(*both, strict=True)]
    assert len(took) == 12
    # two may have taken the same time, to the nanosecond
    assert sorted(timing["a"] for timing in document["timings"]) == sorted(
        f"/steps/{at}" for at, (a_ns, b_ns) in enumerate(took) if a_ns != b_ns
    )


def test_a_trace_is_the_same_as_itself_whichever_way_it_comes(fuel):
    path = fuel / "fixed-1000.json"
    for done in (
        flowtrace("diff", path, path),
        flowtrace("diff", "-", path, stdin=path.read_text(encoding="utf-8")),
    ):
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("same  408 steps compared\nA ")
    Path("one").mkdir()
    shutil.copy(path, "one")
    assert flowtrace("diff", "one", path).returncode == 0


def test_full_shows_every_divergence_with_its_values():
    write("a.json", *(step("c.node", {"x": at}, at, captured=True) for at in range(3)))
    write("b.json", *(step("c.node", {"x": at}, {"y": at}, captured=True) for at in range(3)))
    done = flowtrace("diff", "--full", "a.json", "b.json")
    assert done.stdout.splitlines()[3:15] == [
        "first divergence: c.node, call 1: output changed",
        "  same input; the traces don't show if the code is the same",
        "  step            A /steps/0   B /steps/0",
        "  output          1 value differs",
        "                  (complete value)  0 -> {'y': 0}",
        "",
        "the others, in the order of execution",
        "c.node, call 2: output changed",
        "  same input; the traces don't show if the code is the same",
        "  step            A /steps/1   B /steps/1",
        "  output          1 value differs",
        "                  (complete value)  1 -> {'y': 1}",
    ]


def test_what_can_not_be_compared_is_told():
    write("a.json", step("c.node", opaque=["/output_json/lock"]))
    done = flowtrace("diff", "a.json", "a.json")
    assert (done.returncode, done.stdout) == (
        0,
        "same as far as can be compared  1 step compared\nA a.json   B a.json\n\n"
        "not compared, or only in part\n"
        "  equal hashes over opaque parts: the values may differ there (1: /steps/0)\n",
    )
    write("b.json", step("c.node", input_hash=hash_of(None, "blake3-keyed")))
    done = flowtrace("diff", "a.json", "b.json")
    assert (done.returncode, done.stdout.splitlines()[0]) == (1, "not comparable  1 step compared")


def test_an_input_that_differs_first_is_said_to_come_from_untraced_code():
    write("a.json", step("c.in", 1, step_id="2", parent_step_id="1"), step("c.out", step_id="1"))
    write("b.json", step("c.in", 2, step_id="2", parent_step_id="1"), step("c.out", step_id="1"))
    done = flowtrace("diff", "a.json", "b.json")
    assert "  no step before it differs: the input was made inside c.out, by code that is not traced\n" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("a.json",), "Error: Missing argument 'B'."),
        (
            ("a.json", "missing.json"),
            "Error: Invalid value for 'B': there is no file 'missing.json'; there is 'a.json'",
        ),
        (("a.json", "bad.json"), "flowtrace: bad.json: at /trace_version: is absent; this reader takes version 1"),
        (("-", "-"), "Error: only one of A and B can be standard input"),
        (("--limit", "0", "a.json", "a.json"), "Error: Invalid value for '--limit': 0 is not in the range x>=1."),
    ],
)
def test_what_can_not_be_read_ends_with_2(arguments, complaint):
    write("a.json", step("c.node"))
    Path("bad.json").write_text("{}")
    done = flowtrace("diff", *arguments)
    assert (done.returncode, done.stdout, done.stderr.splitlines()[-1]) == (2, "", complaint)
