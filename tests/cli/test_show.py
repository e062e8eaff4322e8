"""`flowtrace show`: the tree, the failing step, and rendering that nothing in a trace can break."""

from __future__ import annotations

import copy
import io
import json
import re
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

import flowtrace as library
from flowtrace import testing
from flowtrace.cli import main
from flowtrace.trace.outline import failed_entry, outline
from flowtrace.trace.reading import parse_trace
from tests.cli.commands import call, flowtrace, flowtrace_process

FUEL = Path(__file__).resolve().parents[2] / "examples/fuel_economy.py"
VECTORS = Path(__file__).resolve().parents[1] / "vectors/recorder.json"
DIGEST = "0123456789abcdef" * 4
HASH = {"algorithm": "blake3", "value": DIGEST}


def step(name, **fields):
    core = {"node_id": name, "component_id": "c", "operation": name, "input_hash": HASH, "duration_ms": 3}
    return core | fields


def trace(*steps, **fields):
    core = {"trace_version": 1, "pack": {"pack_ref": "p"}, "flow": {"id": "f", "version": "1"}, "steps": list(steps)}
    return core | fields


def failed(name, code="node_error", message="boom", details=None, **fields):
    return step(name, error={"code": code, "message": message, "details": details}, **fields)


def shown(document, *options):
    """What the command prints for a document, or for the bytes of a file, in this process."""
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    Path("shown.json").write_bytes(data)
    out = io.TextIOWrapper(io.BytesIO(), "utf-8")
    err = io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(["show", *options, "shown.json"])
        out.flush()
    return code, out.buffer.getvalue().decode(), err.getvalue()


def lines(document, *options):
    code, out, err = shown(document, *options)
    assert (code, err) == (0, "")
    return out.splitlines()


def tree(document):
    """The lines of the steps: without the head, and without what stands below each step."""
    return [line for line in lines(document) if re.match(r" *\d* [✓✗▶] ", line)]


# --- whole pictures


@pytest.mark.costly
def test_fuel_economy_through_the_real_command_line():
    assert flowtrace_process("run", "--out", "out/t.json", "--capture", FUEL).returncode == 1
    by_name = flowtrace_process("show", "out/t.json")
    assert (by_name.returncode, by_name.stderr) == (0, "")
    found = by_name.stdout.splitlines()
    error = "TypeError: unsupported operand type(s) for /: 'float' and 'NoneType'"
    line = next(
        n for n, text in enumerate(FUEL.read_text().splitlines(), 1) if "CONSTANT /" in text or " / car" in text
    )
    assert found[:2] == [
        f"✗ fuel.litres_per_100_km #11 at {FUEL}:{line}: {error}",
        "failed, flow fuel-economy 1",
    ]
    assert found[2].startswith("trace out/t.json, pack fuel_economy.py, python ")
    assert found[4] == ""
    assert re.fullmatch(r" 0 ✓ fuel\.load +[\d.]+ [µm]s  in [0-9a-f]{8}  out [0-9a-f]{8}", found[5])
    assert found[6] == "       input {'name': 'auto-mpg.json'}"
    at = next(at for at, line in enumerate(found) if line.endswith("◀ failed here"))
    assert re.fullmatch(r"11 ✗ fuel\.litres_per_100_km +[\d.]+ [µm]s  in [0-9a-f]{8}  ◀ failed here", found[at])
    assert found[at + 1] == f"       {error}"
    assert re.fullmatch(rf"         at {re.escape(str(FUEL))}:\d+ in litres_per_100_km", found[at + 2])
    assert found[at + 3].startswith(
        "       why `/car/Miles_per_Gallon` None, in the input of #11 fuel.litres_per_100_km; "
        "an equal `car` came out of #0 fuel.load; its own code made or read it (fuel_economy.py:"
    )
    assert found[at + 4].startswith("       input {'car': {'Acceleration': 17.5,")
    assert found[at + 4].endswith(" characters)")
    assert len(found) == at + 5
    assert found[7].startswith("       output in t.payloads/")
    assert re.fullmatch(r"       output \[\{'Acceleration': 12,.*… \([0-9]+ characters\)", found[8])
    by_folder = flowtrace("show", "out").stdout.splitlines()
    assert (by_folder[:2], by_folder[3:]) == (found[:2], found[3:])
    piped = flowtrace("show", "-", stdin=Path("out/t.json").read_text()).stdout.splitlines()
    without_files = [line for line in found[9:] if "       why " not in line]
    assert piped[3:] == [*found[3:8], "         the folder of the trace is not known", *without_files]


def record(program):
    with testing.fixed_clock(), override_always():
        program()
    return json.loads(Path("real.json").read_bytes())


def override_always():
    context = library.TraceContext("shop", "process")
    return library.override(
        mode="always", out_path="real.json", capture_inputs=True, capture_outputs=True, buffer_size=4, context=context
    )


def nested_failure():
    @library.traced_node(component="shop", operation="price")
    def price(item, token):
        library.current_step().add_validation_issue("odd", "/item", "looks odd")
        if item is None:
            try:
                {}["x"]
            except KeyError as error:
                error.add_note("a note")
                raise ValueError("no price\nfor it") from error
        return 3

    @library.traced_node(component="shop", operation="total")
    def total(items, lock):
        return sum(price(item, "tok") for item in items)

    with library.flow("checkout", version="2"):
        for items in (["a"], ["b", "c", None]):
            try:
                total(items, object())
            except ValueError:
                pass


def test_a_nested_failure_with_everything_that_a_trace_can_hold():
    document = record(nested_failure)
    document["run"] |= {"host": "h", "pid": 7, "python": "3.13.0", "overtaken_runs": 3}
    document["git_sha"] = "abc"
    for item in document["steps"]:
        item["thread"] = "MainThread"
    frame = document["steps"][-2]["error"]["details"]["frames"][-1]
    assert [re.sub(r" +[\d.]+ ms  ", "  T  ", line) for line in lines(document, "-v")] == [
        f"✗ shop.price #2 at {frame['file']}:{frame['line']}: ValueError: no price (handled)",
        "recovered, flow checkout 2",
        "trace shown.json, pack shop, commit abc, python 3.13.0, pid 7 on h",
        f"run {1:032x}, {document['run']['started_at']} to {document['run']['ended_at']}",
        "3 earlier runs of the same burst were not written to this file",
        "",
        "  2 earlier steps not kept (FLOWTRACE_BUFFER_SIZE)",
        "3 ✗ shop.total  T  in " + document["steps"][3]["input_hash"]["value"][:8],
        "      ValueError: no price",
        "      input {'items': ['b', 'c', None], 'lock': <opaque: object>}",
        "      opaque /invocation_json/payload/lock",
        *(
            line
            for number, item, guide in ((0, "b", "├─"), (1, "c", "├─"))
            for line in (
                f"{number} ✓ {guide} shop.price  T  in "
                f"{document['steps'][number]['input_hash']['value'][:8]}  out "
                f"{document['steps'][number]['output_hash']['value'][:8]}",
                f"    │    input {{'item': {item!r}, 'token': '__REDACTED__'}}",
                "    │    output 3",
                "    │    ! odd at /item: looks odd",
                "    │    redacted /invocation_json/payload/token",
            )
        ),
        f"2 ✗ └─ shop.price  T  in {document['steps'][2]['input_hash']['value'][:8]}  ◀ failed here",
        "         ValueError: no price",
        "         for it",
        "           caused by KeyError: 'x'",
        f"           at {frame['file']}:{frame['line']} in {frame['function']}",
        "         input {'item': None, 'token': '__REDACTED__'}",
        "         ! odd at /item: looks odd",
        "         redacted /invocation_json/payload/token",
    ]


@pytest.mark.parametrize("vector", json.loads(VECTORS.read_text()), ids=lambda vector: vector["name"])
def test_traces_of_the_core_format_show_every_step_in_the_order_of_the_file(vector):
    document = vector["expected"]
    if document is None:
        return
    rows = tree(document)
    assert len(rows) == len(document["steps"])
    for at, (row, item) in enumerate(zip(rows, document["steps"], strict=True)):
        assert row.split()[0] == str(at)
        outside = item["node_id"] == "unknown" and item["error"]["code"] == "flow_error"
        assert ("outside any node" if outside else item["node_id"]) in row
        assert f"in {item['input_hash']['value'][:8]}" in row
        assert ("✗" in row) == ("error" in item)


def test_a_core_trace_says_how_it_ended_as_far_as_it_knows():
    assert lines(trace(step("a")))[:3] == [
        "✓ nothing failed: 1 step",
        "no failure, flow f 1",
        "trace shown.json, pack p",
    ]
    assert lines(trace(failed("a", code="flow_error")))[:3] == [
        "✗ a #0: boom",
        "failed, flow f 1",
        "trace shown.json, pack p",
    ]
    outside = {"flow": {"id": "process", "version": "unknown"}}
    assert lines(trace(failed("unknown", code="flow_error"), **outside))[:2] == [
        "✗ outside any node #0: boom",
        "failed, outside any flow",
    ]
    assert lines(trace())[-1] == "no steps"
    assert tree(trace(step("a", output_hash=HASH))) == ["0 ✓ a       3 ms  in 01234567  out 01234567"]


# --- the tree


def test_a_slow_run_says_first_what_took_its_time():
    run = {
        "id": "0" * 32,
        "started_at": "2026-01-01T00:00:00Z",
        "outcome": "slow",
        "pid": 1,
        "host": "h",
        "python": "3",
    }
    steps = [
        step("other", duration_ns=9_000_000_000, run_id="1" * 32),
        step("query", duration_ns=70_000_000, step_id="2", parent_step_id="1"),
        step("short", duration_ns=5_000_000, step_id="3", parent_step_id="1"),
        step("handle", duration_ns=80_000_000, step_id="1"),
    ]
    assert lines(trace(*steps, run=run))[0].endswith(" slow: query took 70.00 ms; 4 steps")
    steps[1]["duration_ns"] = 30_000_000
    assert " slow: handle took 80.00 ms; 4 steps" in lines(trace(*steps, run=run))[0]
    assert " slow: 0 steps" in lines(trace(run=run))[0]
    loop = step("loop", duration_ns=1, step_id="1", parent_step_id="1")
    assert " slow: loop took " in lines(trace(loop, run=run))[0]


def test_a_flow_that_is_slow_between_its_steps_says_so_first():
    run = {"id": "0" * 32, "outcome": "slow", "pid": 1, "host": "h", "python": "3"}
    run |= {"started_at": "2026-01-01T00:00:00Z", "ended_at": "2026-01-01T00:00:00.1Z"}
    quick, long = step("quick", duration_ns=49_000_000), step("long", duration_ns=50_000_000)
    flow = {"id": "shop", "version": "2"}
    assert lines(trace(quick, run=run, flow=flow))[0].endswith(" slow: flow shop 2 took 100.00 ms; 1 step")
    assert lines(trace(long, run=run, flow=flow))[0].endswith(" slow: long took 50.00 ms; 1 step")
    assert lines(trace(run=run, flow=flow))[0].endswith(" slow: flow shop 2 took 100.00 ms; 0 steps")


def test_steps_stand_below_the_one_that_called_them_in_the_order_in_which_they_began():
    document = trace(
        step("late", step_id="3", parent_step_id="1", started_at="2026-01-01T00:00:03Z"),
        step("early", step_id="2", parent_step_id="1", started_at="2026-01-01T00:00:02Z"),
        step("orphan", step_id="9", parent_step_id="8", started_at="2026-01-01T00:00:00Z"),
        in_flight=[
            step("outer", step_id="1", started_at="2026-01-01T00:00:01Z"),
            step("inner", step_id="4", parent_step_id="1", started_at="2026-01-01T00:00:04Z", thread="T-1"),
        ],
    )
    assert [re.sub(r"  +3 ms( so far)?  in 01234567", r" |\1|", line) for line in tree(document)] == [
        "2 ✓ orphan ||  (its caller is not in the trace)",
        "  ▶ outer | so far|",
        "1 ✓ ├─ early ||",
        "0 ✓ ├─ late ||",
        "  ▶ └─ inner | so far|  T-1",
    ]


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.booleans()), max_size=8))
def test_every_step_stands_in_the_tree_once_whatever_the_ids_say(links):
    steps = [
        (failed if bad else step)(f"n{at}", step_id=str(own), parent_step_id=str(parent))
        for at, (own, parent, bad) in enumerate(links)
    ]
    read = parse_trace(json.dumps(trace(*steps)).encode())
    entries = outline(read)
    assert sorted(entry.number for entry in entries) == list(range(len(steps)))
    for at, entry in enumerate(entries):
        assert entry.parent is None or entry.parent in entries[:at]
        assert entry.depth == (entry.parent.depth + 1 if entry.parent else 0)
    found = failed_entry(read, entries)
    assert (found is None) == (not any(bad for _, _, bad in links))
    assert found is None or found.state == "failed"


def test_the_failure_began_in_the_innermost_step_that_failed_with_the_last_one():
    document = trace(
        failed("earlier", step_id="1"),
        failed("handled", step_id="3", parent_step_id="2"),
        failed("cause", step_id="5", parent_step_id="4"),
        failed("middle", step_id="4", parent_step_id="2"),
        failed("outer", step_id="2"),
        step("after", step_id="6"),
    )
    assert parse_trace(json.dumps(document).encode()).failed_step.node_id == "cause"


def test_a_tree_without_end_stops_growing_to_the_right():
    steps = [step(f"n{at}", step_id=str(at), parent_step_id=str(at - 1)) for at in range(3000)]
    rows = tree(trace(*steps))
    assert len(rows) == 3000
    assert max(map(len, rows)) < 150
    assert rows[-1].endswith("(level 2999)")


# --- options


def test_full_shows_whole_values_hashes_and_errors():
    value = "v" * 500
    error = {"type": "E", "notes": ["n1\nn2"], "frames": [{"left_out": 3}]}
    document = trace(
        failed("a", details=error, step_id="1", parent_step_id="2"),
        failed("b", details=error, step_id="2", invocation_json={"payload": value}),
    )
    short, full = lines(document), lines(document, "--full")
    assert sum("note: n1" in line for line in short) == 1
    assert sum("note: n1" in line for line in full) == sum("note: n2" in line for line in full) == 2
    assert sum("(3 frames left out)" in line for line in full) == 2
    assert not any(value in line for line in short)
    assert any(line.endswith("… (502 characters)") for line in short)
    assert any(line.endswith(f"input '{value}'") for line in full)
    assert sum(DIGEST in line for line in full) == 2


def test_many_issues_and_pointers_are_counted():
    issues = [{"code": f"c{at}", "path": "", "message": "m"} for at in range(7)]
    document = trace(step("a", validation_issues=issues, opaque=[f"/p{at}" for at in range(8)]))
    found = [line.strip() for line in lines(document, "-v")[-7:]]
    assert found == [
        *(f"! c{at} at (complete payload): m" for at in range(5)),
        "and 2 more issues",
        "opaque /p0, /p1, /p2, /p3, /p4 and 3 more",
    ]
    assert sum("! c" in line for line in lines(document, "--full")) == 7
    assert lines(document)[-1].strip() == "and 2 more issues"


def test_other_parts_of_a_step():
    group = {"type": "ExceptionGroup", "exceptions": [{"type": "A", "message": "a"}, {"type": "B", "message": ""}]}
    causes = {"causes": [{"relation": "context", "type": "C", "message": "c"}]}
    document = trace(
        failed("a", code="node_interrupted", details=group | causes, invocation_path="t.payloads/x.json"),
        step("b", state_delta_hash={"algorithm": "blake3-keyed", "value": DIGEST}, duration_ns=1_500_000_000),
    )
    found = [line.strip() for line in lines(document)]
    assert found[4:] == [
        "0 ✗ a       3 ms  in 01234567  ◀ failed here",
        "ExceptionGroup: boom (node_interrupted)",
        "with A: a",
        "with B",
        "while handling C: c",
        "input in t.payloads/x.json",
        "the payload file 't.payloads/x.json' can't be read: No such file or directory",
        "1 ✓ b     1.50 s  in 01234567  delta blake3-keyed:01234567",
    ]


def test_json_has_the_tree_and_every_record():
    document = record(nested_failure)
    code, out, err = shown(document, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert {name: found[name] for name in ("trace", "outcome", "failed_step")} == {
        "trace": "shown.json",
        "outcome": "recovered",
        "failed_step": "/steps/2",
    }
    assert found["envelope"] == {name: value for name, value in document.items() if name != "steps"}
    assert [(row["pointer"], row["depth"], row["parent"], row["state"]) for row in found["steps"]] == [
        ("/steps/3", 0, None, "failed"),
        ("/steps/0", 1, "/steps/3", "ok"),
        ("/steps/1", 1, "/steps/3", "ok"),
        ("/steps/2", 1, "/steps/3", "failed"),
    ]
    assert [row["record"] for row in found["steps"]] == [document["steps"][at] for at in (3, 0, 1, 2)]


def test_without_utf_8_the_tree_is_drawn_in_ascii():
    steps = (step("a", step_id="1"), failed("é", step_id="2", parent_step_id="1"))
    done = flowtrace_process("show", "-", stdin=json.dumps(trace(*steps)), PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.stdout.splitlines()[-3:] == [
        "0 . a          3 ms  in 01234567",
        "1 X `- \\xe9       3 ms  in 01234567  <- failed here",
        "         boom",
    ]


def test_colours_are_there_where_they_are_wanted():
    text = json.dumps(trace(failed("a")))
    plain = flowtrace("show", "-", stdin=text, NO_COLOR=None, FORCE_COLOR=None)
    assert "\x1b" not in plain.stdout
    coloured = flowtrace("show", "-", stdin=text, NO_COLOR=None, FORCE_COLOR="1", TERM="xterm")
    assert "\x1b[1;31m✗ \x1b[0m" in coloured.stdout
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured.stdout) == plain.stdout


@pytest.mark.costly
def test_ten_thousand_steps_are_shown_in_under_two_seconds_of_processor_time():
    steps = [
        step(
            f"n{at}", step_id=str(at), parent_step_id=str(at // 10 * 10), invocation_json={"payload": {"x": [at] * 20}}
        )
        for at in range(9_999)
    ]
    data = json.dumps(trace(*steps, failed("last", step_id="last"))).encode()
    shown(trace())  # what is imported once
    began = time.process_time()
    found = lines(data)
    assert time.process_time() - began < 2
    assert len(found) > 20_000


# --- hostile input


def deep(levels):
    return b"[" * levels + b"]" * levels


def holding(field, raw):
    text = json.dumps(trace(step("a", **{field: "@"})))
    return text.encode().replace(b'"@"', raw)


NOT_TRACES = {
    "empty": b"",
    "text": b"hello",
    "binary": bytes(range(256)),
    "not UTF-8": b'{"trace_version": "\xff"}',
    "truncated": json.dumps(trace(step("a"))).encode()[:-9],
    "an array": b"[]",
    "a number": b"1",
    "another version": json.dumps(trace() | {"trace_version": 2}).encode(),
    "no steps": b'{"trace_version": 1, "pack": {"pack_ref": "p"}, "flow": {"id": "f", "version": "1"}}',
    "steps of another type": json.dumps(trace() | {"steps": {"a": 1}}).encode(),
    "a step of another type": json.dumps(trace(3)).encode(),
    "a name of another type": json.dumps(trace(step(3))).encode(),
    "a number beyond measure": b'{"trace_version": 1' + b"0" * 10_000 + b"}",
    "nested without end": deep(100_000),
    "a value nested without end": holding("output_json", deep(100_000)),
    "keys that act on a terminal": json.dumps({"trace_version": 1, "\x1b]0;x\x07": 1}).encode(),
    "a flat record": b'{"trace_version": 1, "component_id": "a", "input_hash": "blake3:00"}',
}


@pytest.mark.parametrize("options", [(), ("--json",)])
@pytest.mark.parametrize("kind", NOT_TRACES)
def test_what_is_no_trace_gets_one_clear_line(kind, options):
    code, out, err = shown(NOT_TRACES[kind], *options)
    assert (code, out) == (2, "")
    assert re.fullmatch(r"flowtrace: shown\.json: at (\(whole document\)|/\S+): [^\n]+\n", err)
    assert err[:-1].isprintable()


def test_a_file_that_can_not_be_read_gets_one_clear_line(tmp_path):
    (tmp_path / "loop.json").symlink_to("loop.json")
    for name, complaint in (
        ("absent.json", "there is no file 'absent.json'"),
        ("loop.json", "(there is no file|Too many levels)"),
        ("/dev/zero", "flowtrace: /dev/zero: is not a file"),
    ):
        done = flowtrace("show", name)
        assert (done.returncode, done.stdout) == (2, "")
        assert re.search(complaint, done.stderr.splitlines()[-1])


@pytest.mark.parametrize("levels", [200, 260, 500, 900, 980])
@pytest.mark.parametrize("field", ["output_json", "invocation_json", "unknown"])
def test_deep_values_are_shown_or_told_of(levels, field):
    data = holding(field, deep(levels))
    for options in ((), ("--full",), ("--json",)):
        code, out, err = shown(data, *options)
        assert code in (0, 2)
        assert (err == "") if code == 0 else re.fullmatch(r"flowtrace: [^\n]*nested too deeply[^\n]*\n", err)
        if code == 0 and options == ("--json",):
            json.loads(out)


HOSTILE = ["\x1b[2J", "\x1b]0;t\x07", "\u202e", "a\nb", "\r", "\x00", "\x9b1m", "[bold]x[/bold]", "é漢🎉", "x" * 5000]
texts = st.sampled_from(HOSTILE) | st.text(max_size=5)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
errors = st.fixed_dictionaries(
    {
        "code": texts,
        "message": texts,
        "details": values
        | st.fixed_dictionaries(
            {},
            optional={
                name: values
                | st.lists(
                    st.dictionaries(
                        st.sampled_from(["type", "message", "relation", "file", "line", "function", "left_out"]), values
                    ),
                    max_size=3,
                )
                for name in ("type", "causes", "notes", "exceptions", "frames")
            },
        ),
    }
)
steps_of_any_kind = st.builds(
    lambda name, more: step(name, **more),
    texts,
    st.fixed_dictionaries(
        {},
        optional={
            "error": errors,
            "invocation_json": values,
            "output_json": values,
            "invocation_path": texts,
            "output_path": texts,
            "step_id": st.sampled_from("123"),
            "parent_step_id": st.sampled_from("1234"),
            "started_at": texts,
            "thread": texts,
            "duration_ns": st.integers(-(2**62), 2**62) | st.sampled_from([10**400, -(10**400)]),
            "input_hash": st.fixed_dictionaries({"algorithm": texts, "value": texts}),
            "opaque": st.lists(texts, max_size=7),
            "redacted": st.lists(texts, max_size=7),
            "validation_issues": st.lists(
                st.fixed_dictionaries({"code": texts, "path": texts, "message": texts}), max_size=7
            ),
            "code": st.fixed_dictionaries({"module": texts, "qualname": texts}),
        },
    ),
)
runs = st.fixed_dictionaries(
    {
        "id": texts,
        "started_at": texts,
        "outcome": texts,
        "pid": st.integers(-5, 5) | st.just(10**400),
        "host": texts,
        "python": texts,
    },
    optional={"ended_at": texts, "overtaken_runs": st.integers(-5, 5)},
)


@pytest.mark.costly
@settings(max_examples=60)
@given(
    st.lists(steps_of_any_kind, max_size=4),
    st.fixed_dictionaries(
        {},
        optional={
            "run": runs,
            "in_flight": st.lists(steps_of_any_kind, max_size=2),
            "dropped_steps": st.integers(-5, 5),
            "git_sha": texts,
            "flow": st.fixed_dictionaries({"id": texts, "version": texts}),
            "pack": st.fixed_dictionaries({"pack_ref": texts}, optional={"resolved_digest": texts}),
            "other": values,
        },
    ),
)
def test_any_readable_trace_is_shown_harmlessly(steps, fields):
    document = trace(*steps, **fields)
    for options in ((), ("--full",), ("--json",)):
        code, out, err = shown(document, *options)
        assert (code, err) == (0, "")
        if "--json" in options:
            assert len(json.loads(out)["steps"]) == len(steps) + len(fields.get("in_flight", ()))
        else:
            assert out.replace("\n", "").isprintable()
            assert out.count("✓") + out.count("✗") + out.count("▶") >= len(steps)


@settings(max_examples=60)
@given(st.data())
def test_any_damage_to_a_trace_gets_a_clear_line_or_is_shown(data):
    document = copy.deepcopy(trace(step("a", step_id="1", output_json={"a": [1]}), failed("b", details={"type": "E"})))
    place, key = document, None
    for _ in range(data.draw(st.integers(1, 4))):
        keys = list(place) if isinstance(place, dict) else list(range(len(place))) if isinstance(place, list) else []
        if not keys:
            break
        owner, key = place, data.draw(st.sampled_from(keys))
        place = owner[key]
    owner[key] = data.draw(values)
    raw = json.dumps(document).encode()
    raw = raw[: data.draw(st.just(len(raw)) | st.integers(0, len(raw)))]
    code, out, err = shown(raw)
    assert out.replace("\n", "").isprintable()
    assert (code, err) == (0, "") or (
        code == 2 and err.startswith("flowtrace: shown.json: at ") and err[:-1].isprintable()
    )


def test_the_module_shows_the_same():
    text = json.dumps(trace(failed("a")))

    assert (
        call(sys.executable, "-m", "flowtrace", "show", "-", stdin=text).stdout
        == flowtrace("show", "-", stdin=text).stdout
    )


def test_steps_of_other_runs_are_set_apart_and_can_be_left_out():
    other = {"run_id": "f" * 32}
    document = trace(step("before", **other), step("inner", **other), failed("bad", step_id="1"))
    own = ["2 ✗ bad 3 ms in 01234567 ◀ failed here", "boom"]
    assert [" ".join(line.split()) for line in lines(document)[4:]] == [
        "2 steps of other runs of this process:",
        "0 ✓ before 3 ms in 01234567",
        "1 ✓ inner 3 ms in 01234567",
        "this run:",
        *own,
    ]
    assert [" ".join(line.split()) for line in lines(document, "--run")[4:]] == own


# --- what is shown first, and what only on request


LIBRARY = "/venv/lib/python3.11/site-packages"


def error_in_libraries():
    files = [
        "/app/main.py",
        f"{LIBRARY}/pandas/core/frame.py",
        "/app/rules.py",
        f"{LIBRARY}/six.py",
        "/usr/lib/python3.11/json/x.py",
    ]
    frames = [{"file": file, "line": at, "function": f"f{at}"} for at, file in enumerate(files, 1)]
    return trace(failed("a", details={"type": "E", "frames": frames}))


def test_own_frames_come_first_and_those_of_libraries_are_counted():
    short, verbose = lines(error_in_libraries()), lines(error_in_libraries(), "-v")
    assert short[0] == verbose[0] == "✗ a #0 at /app/rules.py:3: E: boom"
    assert [line.strip() for line in short[-3:]] == [
        "at /app/main.py:1 in f1",
        "at /app/rules.py:3 in f3",
        "(3 frames in pandas, six, Python: -v shows them)",
    ]
    assert [line.strip().split()[1].rpartition("/")[2] for line in verbose[-5:]] == [
        "main.py:1",
        "frame.py:2",
        "rules.py:3",
        "six.py:4",
        "x.py:5",
    ]


def test_frames_beside_a_traced_function_are_own_wherever_it_is_installed():
    document = error_in_libraries()
    document["steps"][0]["code"] = {
        "module": "pandas.core.frame",
        "qualname": "f",
        "file": f"{LIBRARY}/pandas/core/x.py",
    }
    assert [line.strip() for line in lines(document)[-4:]] == [
        "at /app/main.py:1 in f1",
        f"at {LIBRARY}/pandas/core/frame.py:2 in f2",
        "at /app/rules.py:3 in f3",
        "(2 frames in six, Python: -v shows them)",
    ]


def test_an_error_in_libraries_alone_shows_where_it_was_raised():
    document = error_in_libraries()
    frames = document["steps"][0]["error"]["details"]["frames"]
    document["steps"][0]["error"]["details"]["frames"] = [frames[1], frames[3]]
    assert lines(document)[0] == "✗ a #0: E: boom"
    assert [line.strip() for line in lines(document)[-2:]] == [
        f"at {LIBRARY}/six.py:4 in f4",
        "(2 frames in pandas, six: -v shows them)",
    ]


def two_levels():
    code = {"module": "m", "qualname": "inner", "file": "/app/m.py", "line": 7}
    return trace(
        failed("inner", step_id="2", parent_step_id="1", thread="T", started_at="2026-01-01T00:00:02Z")
        | {"code": code, "redacted": ["/invocation_json/payload/k"], "output_json": "v" * 300},
        failed("outer", step_id="1", thread="T", started_at="2026-01-01T00:00:01Z"),
        step("other", step_id="3", thread="T", started_at="2026-01-01T00:00:03Z"),
    )


HEAD = ["✗ inner #0: boom", "failed, flow f 1", "trace shown.json, pack p", ""]
INNER = [
    f"0 ✗ inner       3 ms  in {DIGEST}  ◀ failed here",
    "      called by outer #1",
    "      defined at /app/m.py:7 as m.inner",
    "      step 2, thread T, started 2026-01-01T00:00:02Z",
    "      boom",
    f"      output '{'v' * 300}'",
    "      redacted /invocation_json/payload/k",
]
OTHER = [f"2 ✓ other       3 ms  in {DIGEST}", "      step 3, thread T, started 2026-01-01T00:00:03Z"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--failed",), INNER),
        (("--step", "0"), INNER),
        (("--step", "inner"), INNER),
        (("--step", "3", "--failed", "--step", "other"), [*INNER, "", *OTHER]),
    ],
)
def test_chosen_steps_are_shown_in_full(options, expected):
    assert lines(two_levels(), *options) == [*HEAD, *expected]


def test_a_step_that_is_not_there_is_told_with_those_that_are():
    code, out, err = shown(two_levels(), "--step", "40")
    complaint = "there is no step '40': the trace has the steps 0 to 2; a step id or a node id names one, too"
    assert (code, out, err.splitlines()[-1]) == (2, "", f"Error: Invalid value for '--step': {complaint}")
    assert shown(trace(step("a")), "--failed") == (0, "", "flowtrace: shown.json: no step failed\n")


def test_chosen_steps_as_json_are_those_alone():
    _, out, _ = shown(two_levels(), "--failed", "--json")
    assert [row["pointer"] for row in json.loads(out)["steps"]] == ["/steps/0"]
    assert shown(two_levels(), "--format", "json") == shown(two_levels(), "--json")


def test_a_step_that_its_process_died_in_has_no_duration_that_nobody_knows():
    died = failed("b", code="process_died", message="died", duration_ms=0, duration_ns=0)
    longer = failed("a", code="process_died", message="died", duration_ms=1200, duration_ns=1_200_000_000)
    found = lines(trace(in_flight=[longer, died]))
    assert [line for line in found if "in 01234567" in line] == [
        "  ✗ a  1.20 s or more  in 01234567",
        "  ✗ b  in flight  in 01234567  ◀ failed here",
    ]


def test_markdown_is_a_page_on_which_nothing_of_the_trace_is_markup():
    hostile = "a|b`c <b>*x*</b>"
    document = trace(
        step("load", invocation_json={"payload": {"x": hostile}}, output_json=[1]),
        failed("pay", message=f"{hostile}\n```\nend", details={"type": "E"}, invocation_json={"payload": 1}),
        git_sha="abc",
    )
    assert lines(document, "--format", "markdown") == [
        "### ✗ ``pay #1: E: a|b`c <b>*x*</b>``",
        "",
        "`failed`, `flow f 1`, trace `shown.json`, pack `p`, commit `abc`.",
        "",
        "| step | | node | time | input | output |",
        "| ---: | --- | --- | ---: | --- | --- |",
        "| 0 | ✓ | `load` | 3 ms | ``{'x': 'a\\|b`c <b>*x*</b>'}`` | `[1]` |",
        "| 1 | ✗ | `pay` ◀ failed here | 3 ms | `1` |  |",
        "",
        "````text",
        "E: a|b`c <b>*x*</b>",
        "```",
        "end",
        "````",
        "",
        "Input of step 1:",
        "",
        "```python",
        "1",
        "```",
    ]


def wide_document():
    frames = [{"file": f"/a/very/long/folder/of/the/program/{name}.py", "line": 7, "function": "f"} for name in "ab"]
    deep_steps = [
        step(f"package.module.step_{at}", step_id=str(at), parent_step_id=str(at - 1), thread=f"Pool-{at % 2}")
        | {
            "output_hash": HASH,
            "invocation_json": {"payload": ["漢字" * 40, "word " * 40]},
            "opaque": ["/payload/a/b"] * 6,
        }
        for at in range(1, 30)
    ]
    bad = failed(
        "package.module.last", message="too " * 60, details={"type": "pkg.E", "frames": frames, "notes": ["n " * 90]}
    )
    issue = {"code": "odd", "path": "/item", "message": "looks " * 40}
    return trace(
        *deep_steps, bad | {"step_id": "99", "parent_step_id": "29", "validation_issues": [issue]}, dropped_steps=3
    )


@pytest.mark.parametrize("width", [40, 41, 60, 79, 80, 100, 132, 200])
@pytest.mark.parametrize("options", [(), ("-v",)])
def test_no_line_is_wider_than_the_terminal_and_none_loses_its_step(width, options, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    found = lines(wide_document(), *options)
    assert max(map(cell_len, found)) <= width
    assert sum(bool(re.match(r" *\d+ [✓✗] ", line)) for line in found) == 30
    assert sum("input" in line for line in found) == 29
    assert " ".join("".join(found).split()).count("failed here") == 1
    assert sum(line.count("too") for line in found) == 2 * 60
