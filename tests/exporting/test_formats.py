"""`flowtrace export`: what each format holds is what `flowtrace show --json` says, as others' readers read it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet
import pytest

from flowtrace.exporting.formats import FORMATS
from tests import traces
from tests.cli.commands import flowtrace
from tests.exporting import readers
from tests.exporting.program import export, facts, write_trace

COLUMNS = "pointer, node_id, parent, state, error_type, duration_ns"
HEAVY = ("IPython", "duckdb", "google.protobuf", "mcp", "numpy", "pandas", "perfetto", "pyarrow")


def frames_of(steps):
    """Return how often each frame of speedscope stands in another, and the durations of its calls."""
    names = {
        pointer: step["record"]["node_id"] + (f" (failed: {kind})" if step["state"] == "failed" else "")
        for (pointer, _, _, _, kind, _), step in ((fact, steps[fact[0]]) for fact in facts(steps))
    }
    return names, Counter((names[pointer], step["record"]["duration_ns"]) for pointer, step in steps.items())


def calls_in(document):
    """Return the frames and durations of the calls in a speedscope file, and how often a frame is in another."""
    frames = [frame["name"] for frame in document["shared"]["frames"]]
    calls, pairs = Counter(), Counter()
    for profile in document["profiles"]:
        opened, last = [], profile["startValue"]
        for event in profile["events"]:
            assert event["at"] >= last
            last = event["at"]
            if event["type"] == "O":
                if opened:
                    pairs[frames[opened[-1][0]], frames[event["frame"]]] += 1
                opened.append((event["frame"], event["at"]))
            else:
                frame, start = opened.pop()
                assert frame == event["frame"]
                calls[frames[frame], last - start] += 1
        assert opened == []
        assert last == profile["endValue"]
    return calls, pairs


# --- rows


def test_rows_of_json_and_parquet_are_what_show_says():
    steps = write_trace()
    rows = [json.loads(line) for line in export("jsonl").splitlines()]
    Path("rows.parquet").write_bytes(export("parquet"))
    table = pyarrow.parquet.read_table("rows.parquet")
    of_parquet = table.to_pylist()
    names = COLUMNS.split(", ")
    assert sorted(tuple(row[name] for name in names) for row in rows) == facts(steps)
    assert sorted(table.column_names) == sorted(rows[0])
    for row, item in zip(rows, of_parquet, strict=True):
        at = item.pop("started_at")
        assert at.isoformat().replace("+00:00", "Z") == row.pop("started_at")
        assert item == row
        record = steps[row["pointer"]]["record"]
        assert json.loads(row["input"]) == record["invocation_json"]["payload"]
        assert (
            row["output"] is None if "output_json" not in record else json.loads(row["output"]) == record["output_json"]
        )
        assert row["input_hash"] == f"blake3:{record['input_hash']['value']}"


def test_duckdb_reads_both():
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    steps = write_trace()
    Path("rows.jsonl").write_bytes(export("jsonl"))
    Path("rows.parquet").write_bytes(export("parquet"))
    for source in ("read_json('rows.jsonl')", "'rows.parquet'"):
        assert sorted(duckdb.sql(f"select {COLUMNS} from {source}").fetchall(), key=lambda row: row[0]) == facts(steps)
        query = f"select count(*), sum(duration_ns) from {source} where error_type = 'ValueError'"
        failed = [fact[-1] for fact in facts(steps) if fact[4] == "ValueError"]
        assert duckdb.sql(query).fetchall() == [(len(failed), sum(failed))]


def test_a_step_with_nothing_but_the_core_of_the_format_is_a_row():
    Path("core.json").write_text(
        json.dumps(
            {
                "trace_version": 1,
                "pack": {"pack_ref": "p"},
                "flow": {"id": "f", "version": "1"},
                "steps": [traces.step("c.f", duration_ms=2**70, error="boom")],
            }
        )
    )
    (row,) = [json.loads(line) for line in export("jsonl", "core.json").splitlines()]
    assert {name: value for name, value in row.items() if value not in (None, [])} == {
        "trace": "core.json", "pack": "p", "flow": "f", "flow_version": "1", "outcome": "failed",
        "pointer": "/steps/0", "depth": 0, "state": "failed", "node_id": "c.f", "component_id": "c", "operation": "f",
        "error_code": "node_error", "error_message": "boom",
        "input_hash": f"blake3:{traces.hash_of(None)['value']}",
    }  # fmt: skip
    for form in FORMATS:
        assert export(form, "core.json")


# --- timelines


def test_chrome_events_are_paired_and_a_step_is_in_the_one_that_called_it():
    steps = write_trace()
    events = json.loads(export("chrome"))["traceEvents"]
    found, on_another_track = [], 0
    for track in sorted({event["tid"] for event in events}):
        opened = []
        for event in (event for event in events if event["tid"] == track and event["ph"] in "BE"):
            if event["ph"] == "B":
                args = event["args"]
                around = opened[-1][0]["pointer"] if opened else None
                on_another_track += around != args.get("parent")
                assert around in (args.get("parent"), None)
                opened.append((args, event["ts"]))
                assert (event["name"], event["cat"]) == (args["node_id"], args["state"])
            else:
                args, start = opened.pop()
                lasts = round((event["ts"] - start) * 1000)
                found.append(
                    (args["pointer"], args["node_id"], args.get("parent"), args["state"], args.get("error_type"), lasts)
                )
        assert opened == []
    assert sorted(found) == facts(steps)
    assert on_another_track == 3  # of three tasks, two, and a thread


def test_a_speedscope_file_has_each_call_with_its_duration():
    steps = write_trace()
    document = json.loads(export("speedscope"))
    calls, pairs = calls_in(document)
    assert calls == frames_of(steps)[1]
    assert pairs["shop.deep", "shop.deep"] == 30
    assert pairs["shop.total (failed: ValueError)", "shop.price (failed: ValueError)"] == 2
    assert pairs["shop.fetch", "shop.price"] == 3
    assert [profile["name"] for profile in document["profiles"]] == [
        "MainThread",
        "MainThread (2)",
        "MainThread (3)",
        "worker",
    ]


@pytest.mark.browser
def test_speedscope_reads_its_file():
    steps = write_trace()
    data = export("speedscope")
    with readers.speedscope() as read_and_write:
        found = read_and_write(data)
    assert calls_in(found)[0] == calls_in(json.loads(data))[0] == frames_of(steps)[1]
    assert calls_in(found)[1] == calls_in(json.loads(data))[1]


@pytest.mark.browser
def test_trace_processor_reads_slices_nesting_durations_and_errors():
    steps = write_trace()
    perfetto, chrome = export("perfetto"), export("chrome")
    with readers.trace_processor() as load:
        loaded = load(perfetto)
        assert sorted(loaded.query(SLICES.format(args="debug", parent=PARENT_OR_CALLER))) == facts(steps)
        assert loaded.query("select count(*) from stats where severity = 'error' and value > 0") == [(0,)]
        assert loaded.query("select pid, name from process where pid > 0") == [(os.getpid(), "program.py")]
        tracks = loaded.query("select distinct t.name from slice s join track t on s.track_id = t.id order by 1")
        assert tracks == [("MainThread",), ("MainThread (2)",), ("MainThread (3)",), ("worker",)]
        again = load(chrome)
        nested = {fact[0]: fact for fact in facts(steps)}
        for pointer, *rest in again.query(
            SLICES.format(args="args", parent="extract_arg(p.arg_set_id, 'args.pointer')")
        ):
            node, parent, state, kind, lasts = rest
            assert parent in (nested[pointer][2], None)
            assert (pointer, node, nested[pointer][2], state, kind, lasts) == nested.pop(pointer)
        assert nested == {}


SLICES = """
select extract_arg(s.arg_set_id, '{args}.pointer'), s.name, {parent}, s.category,
    extract_arg(s.arg_set_id, '{args}.error_type'), s.dur
from slice s left join slice p on s.parent_id = p.id
"""
PARENT_OR_CALLER = """
coalesce(extract_arg(p.arg_set_id, 'debug.pointer'), (
    select extract_arg(c.arg_set_id, 'debug.pointer') from flow join slice c on flow.slice_out = c.id
    where flow.slice_in = s.id))
"""


# --- the command


def test_markdown_is_what_show_prints():
    write_trace()
    done = flowtrace("show", "--format", "markdown", "trace.json")
    assert export("markdown").decode() == done.stdout
    assert flowtrace("export", "trace.json", "--format", "markdown").stdout == done.stdout


def test_standard_output_gets_the_same_bytes_as_a_file_that_its_owner_alone_can_read():
    write_trace()
    for form in ("chrome", "speedscope", "jsonl"):
        assert flowtrace("export", "trace.json", "--format", form).stdout.encode() == export(form)
        assert b"\xe2\x80\xae" not in export(form)  # a terminal would turn the text round
    assert stat.S_IMODE(Path("exported").stat().st_mode) == 0o600


def test_the_trace_is_never_written_over():
    write_trace()
    before = Path("trace.json").read_bytes()
    Path("link.json").symlink_to("trace.json")
    for out in ("trace.json", "link.json", "./trace.json"):
        done = flowtrace("export", "trace.json", "--format", "jsonl", "-o", out)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"flowtrace: {out}: is the trace itself, which would be lost: name another file\n"
        assert flowtrace("view", "trace.json", "-o", out).returncode == 2
    assert Path("trace.json").read_bytes() == before


def test_what_is_not_installed_is_named_with_the_extra_that_brings_it(monkeypatch):
    write_trace()
    for form, package in (("perfetto", "perfetto"), ("parquet", "pyarrow")):
        for name in [name for name in sys.modules if name.partition(".")[0] == package]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, package, None)
        done = flowtrace("export", "trace.json", "--format", form, "-o", "out")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.endswith(
            f"needs the package {package}, which the extra `export` brings: pip install 'flowtrace[export]'\n"
        )
        assert not Path("out").exists()


def test_a_place_that_cannot_be_written_is_named():
    write_trace()
    Path("file").write_text("")
    done = flowtrace("export", "trace.json", "--format", "jsonl", "-o", "file/out.jsonl")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "flowtrace: file/out.jsonl: Not a directory\n")


@pytest.mark.costly
def test_no_heavy_package_is_imported_before_it_is_needed():
    program = """
import sys
from importlib import import_module
import flowtrace.cli
from flowtrace.cli.app import COMMANDS
for name in COMMANDS:
    import_module(f"flowtrace.cli.{name}")
print(sorted({name for name in sys.argv[1:] if name in sys.modules}))
"""
    done = subprocess.run([sys.executable, "-c", program, *HEAVY], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")
