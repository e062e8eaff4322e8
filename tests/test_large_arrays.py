"""Arrays and columns over 64 KiB: their content goes to payload files beside the trace, and comes back exactly."""

from __future__ import annotations

import datetime as dt
import json
import os
from functools import partial
from pathlib import Path

import numpy
import pandas
import polars
import pyarrow
import pytest

from flowtrace import ReplayError, load_trace, override, replay, validate
from flowtrace.trace.payload_files import PayloadValues
from flowtrace.values import forms_arrays
from flowtrace.values.arrays_in_short import in_short
from flowtrace.values.encode import encode
from flowtrace.values.encoded import Pieces, npy_content, npy_file
from tests.cli.commands import flowtrace
from tests.replay.workshop import edit, new_module, record

SOURCE = """
    from flowtrace import traced_node

    @traced_node
    def first(value):
        return value[:3]

    @traced_node
    def same(value):
        return value
"""
N = 20_000
WORDS = [f"wörd {n}" for n in range(N)]
VALUES = {
    "float64": numpy.arange(N, dtype="f8"),
    "big-endian": numpy.arange(N, dtype=">i8"),
    "Fortran order": numpy.asfortranarray(numpy.arange(2 * N).reshape(2, N)),
    "strided": numpy.arange(4 * N)[::2],
    "bytes": numpy.arange(5 * N).astype("u1"),
    "bool": numpy.zeros(5 * N, bool),
    "moments": numpy.arange(N).astype("M8[s]"),
    "complex": numpy.ones(N, complex),
    "texts": numpy.array(WORDS),
    "texts of bytes": numpy.array([b"four"] * N),
    "objects": numpy.array(["a longer text", 1] * N, dtype=object),
    "pandas.frame": pandas.DataFrame(
        {
            "number": range(N),
            "share": numpy.linspace(0, 1, N),
            "word": WORDS,
            "at": pandas.date_range("2026", periods=N, tz="UTC"),
            "kind": pandas.Categorical(["u", "v"] * (N // 2)),
        },
        index=pandas.Index(range(5, 5 + 3 * N, 3)),
    ),
    "pandas.series": pandas.Series(numpy.linspace(0, 1, N), name="share"),
    "polars.frame": polars.DataFrame(
        {"number": range(N), "word": WORDS, "some": [1, None] * (N // 2), "at": [dt.datetime(2026, 1, 1)] * N}
    ),
    "arrow.table": pyarrow.table(
        {
            "number": range(N),
            "share": pyarrow.array([0.5] * N, pyarrow.float32()),
            "word": WORDS,
            "at": pyarrow.array(range(N), pyarrow.timestamp("ns")),
        }
    ),
}


@pytest.fixture
def nodes(tmp_path):
    return new_module(tmp_path, SOURCE)


def steps(path):
    return json.loads(Path(path).read_bytes())["steps"]


@pytest.mark.costly
@pytest.mark.parametrize("kind", VALUES)
def test_a_large_value_comes_back_exactly(tmp_path, nodes, kind):
    value = VALUES[kind]
    path = record(tmp_path / "t.json", lambda: nodes.first(value))
    (step,) = steps(path)
    assert step["arrays"]
    assert {"opaque", "redacted", "cut"}.isdisjoint(step)
    (item,) = replay(path, until_failure=False, working_folder=tmp_path).steps
    assert (str(item.outcome), item.exact_input, item.reason, item.notes) == ("same_output", True, "", [])
    assert validate(path) == []


def test_the_file_of_an_array_is_one_of_numpys(tmp_path, nodes):
    value = numpy.arange(2 * N, dtype="i4").reshape(N, 2)
    path = record(tmp_path / "t.json", lambda: nodes.same(value))
    (step,) = steps(path)
    ((digest, name),) = step["arrays"].items()
    assert step["output_json"] == {"$py": "array", "blake3": digest, "dtype": "<i4", "shape": [N, 2]}
    found = numpy.load(tmp_path / name, allow_pickle=False)
    assert (found.dtype, found.shape) == (value.dtype, value.shape)
    numpy.testing.assert_array_equal(found, value)
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_the_files_of_arrays_go_with_their_trace(tmp_path, nodes):
    settings = {"mode": "always", "out_path": tmp_path / "{run_id}.json", "max_files": 1, "capture_inputs": True}
    with override(**settings):
        for number in range(3):
            nodes.first(numpy.full(N, number))
    (path,) = tmp_path.glob("*.json")
    ((_, name),) = steps(path)[0]["arrays"].items()
    assert list(tmp_path.glob("*.payloads/*")) == [tmp_path / name]


@pytest.mark.parametrize("shape", [[3], [], [2, 0], [1, 2, 3]])
def test_a_file_of_any_shape_can_be_read_by_numpy(tmp_path, shape):
    value = numpy.ones(shape, "<f4")
    data = npy_file("<f4", shape, value.tobytes())
    (tmp_path / "a.npy").write_bytes(data)
    assert numpy.load(tmp_path / "a.npy", allow_pickle=False).shape == tuple(shape)
    assert npy_content(data) == value.tobytes()
    assert (len(data) - value.nbytes) % 64 == 0


def test_equal_arrays_are_one_file(tmp_path, nodes):
    value = numpy.arange(N)
    path = record(tmp_path / "t.json", *[lambda: nodes.same(value.copy())] * 3)
    assert len({name for step in steps(path) for name in step["arrays"].values()}) == 1
    assert len(list((tmp_path / "t.payloads").iterdir())) == 1


@pytest.mark.costly
def test_without_capture_no_file_is_written_and_the_hash_is_the_same(tmp_path, nodes):
    value = VALUES["pandas.frame"]
    with_files = record(tmp_path / "a.json", lambda: nodes.same(value))
    without = record(tmp_path / "b.json", lambda: nodes.same(value), capture_inputs=False, capture_outputs=False)
    assert not (tmp_path / "b.payloads").exists()
    assert "arrays" not in steps(without)[0] or not steps(without)[0]["arrays"]
    assert steps(with_files)[0]["input_hash"] == steps(without)[0]["input_hash"]


def test_the_oldest_contents_go_where_there_is_no_room_for_all(tmp_path, nodes):
    calls = [lambda n=n: nodes.first(numpy.full(N, n)) for n in range(5)]
    path = record(tmp_path / "t.json", *calls, buffer_bytes=3 * 8 * N)
    assert [bool(step.get("arrays")) for step in steps(path)] == [False, False, False, True, True]
    outcomes = [str(item.outcome) for item in replay(path, until_failure=False, working_folder=tmp_path).steps]
    assert outcomes == ["skipped"] * 3 + ["same_output"] * 2


def test_pieces_are_kept_by_their_values_alone():
    pieces = Pieces(100)
    one = pieces.made("a", "npy", 60, lambda: b"x" * 60)
    assert pieces.made("a", "npy", 60, lambda: b"y" * 60) is one
    assert pieces.made("b", "npy", 101, lambda: b"x" * 101) is None
    two = pieces.made("c", "npy", 60, lambda: b"z" * 60)
    assert (one.data, two.data) == (b"", b"z" * 60)
    del one, two
    assert pieces.made("d", "npy", 90, lambda: b"w" * 90).data == b"w" * 90


@pytest.mark.costly
def test_no_secret_is_in_the_files(tmp_path, nodes):
    hidden = "hunter2-hunter2"
    frame = pandas.DataFrame({"n": range(N), "password": [hidden] * N, "note": [f"token={hidden}"] * N})
    letters = numpy.frombuffer(f"api_key={hidden} ".encode() * N, "u1")
    texts = numpy.array([f"password={hidden}"] * N)
    values = [frame, letters, texts, polars.DataFrame({"token": [hidden] * N}), pyarrow.table({"pin": [hidden] * N})]
    path = record(tmp_path / "t.json", *[lambda value=value: nodes.same(value) for value in values])
    files = [path, *(tmp_path / "t.payloads").iterdir()]
    assert len(files) == 2  # the column of numbers
    for file in files:
        assert hidden.encode() not in file.read_bytes()
        assert hidden.encode("utf-32-le") not in file.read_bytes()


def test_a_file_that_is_gone_or_another_one_is_not_used(tmp_path, nodes):
    path = record(tmp_path / "t.json", lambda: nodes.first(numpy.arange(N)))
    ((digest, name),) = steps(path)[0]["arrays"].items()
    (tmp_path / name).write_bytes(b"x")
    (item,) = replay(path, until_failure=False, working_folder=tmp_path).steps
    assert (str(item.outcome), "is not named after the hash of its content" in item.reason) == ("skipped", True)
    assert [(item.code, item.pointer) for item in validate(path)] == [("payload-mismatch", f"/steps/0/arrays/{digest}")]
    (tmp_path / name).unlink()
    assert [item.code for item in validate(path)] == ["payload-file"]
    (item,) = replay(path, until_failure=False, working_folder=tmp_path).steps
    assert (str(item.outcome), name in item.reason) == ("skipped", True)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "link.npy", "pipe.npy", "", "\x1b[31m.npy"])
def test_no_reader_of_an_array_is_led_out_of_the_folder(tmp_path, nodes, name):
    (tmp_path / "link.npy").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe.npy")
    path = record(tmp_path / "t.json", lambda: nodes.first(numpy.arange(N)))
    (digest,) = steps(path)[0]["arrays"]
    edit(path, lambda document: document["steps"][0].update(arrays={digest: name}))
    (item,) = replay(path, until_failure=False, working_folder=tmp_path).steps
    assert (str(item.outcome), item.reason.startswith("at /value: the payload file ")) == ("skipped", True)
    assert [item.code for item in validate(path)] == ["payload-file"]
    assert PayloadValues(path).array({digest: name}, digest) is None


def test_a_file_of_another_size_makes_no_array(tmp_path, nodes):
    table = pyarrow.table({"n": range(N)})
    path = record(tmp_path / "t.json", lambda: nodes.first(table))
    ((digest, name),) = steps(path)[0]["arrays"].items()
    other = record(tmp_path / "u.json", lambda: nodes.first(pyarrow.table({"n": range(2 * N)})))
    ((_, larger),) = steps(other)[0]["arrays"].items()
    for change in (name, larger), (larger, name):
        edit(path, lambda document, change=change: document["steps"][0].update(arrays={digest: change[0]}))
        (item,) = replay(path, until_failure=False, working_folder=tmp_path).steps
        assert (str(item.outcome), item.reason == "") in {("same_output", True), ("skipped", False)}
        assert (change[0] == name) is (item.outcome == "same_output")


@pytest.mark.parametrize(
    "value",
    [
        numpy.broadcast_to(numpy.arange(3), (10**12, 3)),
        numpy.lib.stride_tricks.sliding_window_view(numpy.arange(10**6), 10**5),
        pandas.RangeIndex(10**13),
        pandas.DataFrame(index=pandas.RangeIndex(10**13)),
    ],
    ids=["broadcast", "windows", "index", "frame"],
)
def test_what_repeats_itself_for_years_is_opaque(value):
    assert len(encode(value).opaque) == 1
    assert encode(numpy.broadcast_to(numpy.arange(3), (N, 3))).opaque == ()


def test_no_test_can_hold_a_large_array(tmp_path, nodes):
    path = record(tmp_path / "t.json", lambda: nodes.first(numpy.arange(N)))
    with pytest.raises(ReplayError, match="can't be written into a test: of an array only the hash was kept"):
        replay(path, until_failure=False, working_folder=tmp_path, emit_test=tmp_path / "test_it.py")


@pytest.mark.costly
def test_show_tells_size_dtypes_and_first_rows(tmp_path, nodes):
    small = numpy.array([[1.5, 2], [3, 4], [5, 6], [7, 8]], "f4")
    columns = {
        "at": numpy.array([0, 1_500_000_000], "M8[ns]"),
        "kind": pandas.Categorical(["a", "b"]),
        "n": pandas.array([1, None], dtype="Int64"),
    }
    calls = [small, pandas.DataFrame(columns), *map(VALUES.get, ("pandas.frame", "polars.frame", "arrow.table"))]
    path = record(
        tmp_path / "t.json", *[lambda value=value: nodes.same(value) for value in calls], capture_outputs=False
    )
    files = PayloadValues(path)
    found = [
        in_short(step.invocation_json["payload"]["value"], partial(files.array, step.arrays))
        for step in load_trace(path).steps
    ]
    shown = flowtrace("show", str(path)).stdout
    assert "input {'value': <array, float32, 4 x 2: [[1.5, 2.0], [3.0, 4.0], [5.0, 6.0]]>}" in shown
    assert found == [
        {"array, float32, 4 x 2": [[1.5, 2.0], [3.0, 4.0], [5.0, 6.0]]},
        {
            "pandas.frame, 2 x 3": {
                "at: datetime64[ns]": ["1970-01-01T00:00:00", "1970-01-01T00:00:01.500000000"],
                "kind: category": ["a", "b"],
                "n: Int64": [1, {"$py": "pandas.na"}],
            }
        },
        {
            "pandas.frame, 20000 x 5": {
                "number: int64": [0, 1, 2],
                "share: float64": [0.0, 1 / (N - 1), 2 / (N - 1)],
                "word: str": ["wörd 0", "wörd 1", "wörd 2"],
                "at: datetime64[us, UTC]": ["2026-01-01T00:00:00", "2026-01-02T00:00:00", "2026-01-03T00:00:00"],
                "kind: category": ["u", "v", "u"],
            }
        },
        {
            "polars.frame, 20000 x 4": {
                "number: Int64": [0, 1, 2],
                "word: String": ["wörd 0", "wörd 1", "wörd 2"],
                "some: Int64": [1, None, 1],
                "at: Datetime(time_unit='us', time_zone=None)": ["2026-01-01T00:00:00"] * 3,
            }
        },
        {
            "arrow.table, 20000 x 4": {
                "number: int64": [0, 1, 2],
                "share: float": [0.5, 0.5, 0.5],
                "word: string": ["wörd 0", "wörd 1", "wörd 2"],
                "at: timestamp[ns]": ["1970-01-01T00:00:00", *(f"1970-01-01T00:00:00.00000000{n}" for n in (1, 2))],
            }
        },
    ]


@pytest.mark.parametrize(
    "wrap",
    [lambda array: array, lambda array: {"x": array}, lambda array: [{"x": [array, 1]}]],
    ids=["alone", "in a dict", "deeper"],
)
def test_a_large_array_is_hashed_once(wrap, monkeypatch):
    sizes = []
    real = forms_arrays.hash_buffer
    monkeypatch.setattr(forms_arrays, "hash_buffer", lambda data: sizes.append(data.nbytes) or real(data))
    encoded = encode(wrap(VALUES["float64"]), pieces=Pieces(1 << 20))
    assert (sizes, len(encoded.pieces)) == ([8 * N], 1)
