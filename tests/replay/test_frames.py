"""Arrays and frames come back from a trace as they were: equal, of the same dtype, and with the same hash."""

from __future__ import annotations

import datetime as dt
import json

import numpy
import pandas
import polars
import polars.testing
import pyarrow
import pytest

from flowtrace import RebuildError, canonical_bytes, replay
from flowtrace.values.encode import encode
from flowtrace.values.rebuild import rebuild
from flowtrace.values.redaction import secret_names
from tests.replay.workshop import new_module, record

DAYS = pandas.date_range("2026-11-24", periods=3)
PANDAS = [
    pandas.DataFrame({"town": ["Ulm", "Linz", None], "sold": [3, 4, 5], "share": [0.5, numpy.nan, numpy.inf]}),
    pandas.DataFrame({"a": [1, 2]}, index=["x", "y"]),
    pandas.DataFrame({"a": [True, False], "b": pandas.array([1, None], dtype="Int64")}, index=[5, 3]),
    pandas.DataFrame({1: [1.5], (2): ["x"]}),
    pandas.DataFrame({"at": DAYS, "there": DAYS.tz_localize("Europe/Paris"), "took": DAYS - DAYS[0]}),
    pandas.DataFrame({"kind": pandas.Categorical(["b", "a", None], categories=["b", "a"], ordered=True)}),
    pandas.DataFrame({"a": [1, 2]}, index=pandas.Index([4, 6], name="id")),
    pandas.DataFrame({"objects": pandas.Series([1, "a", None, 2**70], dtype=object)}),
    pandas.DataFrame({"a": pandas.Series([], dtype="float32")}),
    pandas.Series([1, 2, 3], name="n", dtype="int8"),
    pandas.Series(["a", None], dtype="string"),
    pandas.Series([1.0], index=pandas.Index(["x"], name="k")),
    pandas.Index(["a", "b"], name="k"),
    pandas.RangeIndex(2, 10, 2),
]
NUMPY = [
    numpy.array([[1.0, 2.0], [numpy.nan, -0.0]]),
    numpy.arange(6, dtype=">i2").reshape(2, 3),
    numpy.asfortranarray(numpy.arange(6.0).reshape(2, 3)),
    numpy.array(5),
    numpy.zeros((0, 3)),
    numpy.array([True, False]),
    numpy.array([1 + 2j], dtype="complex64"),
    numpy.array(["2026-11-24", "NaT"], dtype="datetime64[s]"),
    numpy.array(["a", "größe"]),
    numpy.array([b"a", b"bc"]),
    numpy.array([[1, "a"], [None, 2**70]], dtype=object),
]
POLARS = [
    polars.DataFrame({"town": ["Ulm", None], "sold": [3, 4], "share": [0.5, float("nan")], "is": [True, None]}),
    polars.DataFrame({"day": [dt.date(2026, 11, 24)], "at": [dt.datetime(2026, 11, 24, 1, 2, 3, 4)], "b": [b"x"]}),
    polars.DataFrame({"at": polars.Series([1], dtype=polars.Int64).cast(polars.Datetime("ns", "UTC"))}),
    polars.DataFrame({"took": [dt.timedelta(seconds=1)], "time": [dt.time(1, 2)]}),
    polars.DataFrame(
        {"n": polars.Series([1, 2], dtype=polars.UInt8), "f": polars.Series([0.1, 2], dtype=polars.Float32)}
    ),
    polars.DataFrame(),
    polars.Series("n", [1, None]),
]
ARROW = [
    pyarrow.table({"town": ["Ulm", None], "sold": [3, 4], "share": [0.5, float("nan")]}),
    pyarrow.record_batch({"day": pyarrow.array([dt.date(2026, 11, 24), None]), "b": pyarrow.array([b"x", b""])}),
    pyarrow.array([1, None, 3], pyarrow.int16()),
    pyarrow.array([dt.datetime(2026, 11, 24)], pyarrow.timestamp("ns")),
]


def comes_back(value):
    found = rebuild(json.loads(canonical_bytes(value)), type(value))
    assert type(found) is type(value)
    assert canonical_bytes(found) == canonical_bytes(value)
    return found


@pytest.mark.parametrize("value", NUMPY, ids=lambda value: f"{value.dtype}{value.shape}")
def test_arrays_of_numpy_come_back(value):
    found = comes_back(value)
    assert (found.dtype, found.shape, found.flags.writeable) == (value.dtype, value.shape, True)
    numpy.testing.assert_array_equal(found, value)


@pytest.mark.parametrize("value", PANDAS, ids=range(len(PANDAS)))
def test_frames_of_pandas_come_back(value):
    found = comes_back(value)
    kind = "frame" if isinstance(value, pandas.DataFrame) else "series" if isinstance(value, pandas.Series) else "index"
    getattr(pandas.testing, f"assert_{kind}_equal")(found, value)


@pytest.mark.parametrize("value", POLARS, ids=range(len(POLARS)))
def test_frames_of_polars_come_back(value):
    kind = "frame" if isinstance(value, polars.DataFrame) else "series"
    getattr(polars.testing, f"assert_{kind}_equal")(comes_back(value), value)


@pytest.mark.parametrize("value", ARROW, ids=range(len(ARROW)))
def test_frames_of_arrow_come_back(value):
    found = comes_back(value)
    assert (found.schema if hasattr(value, "schema") else found.type) == (
        value.schema if hasattr(value, "schema") else value.type
    )


class Own(numpy.ndarray):
    pass


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (numpy.zeros(100_000), "of an array only the hash was kept"),
        (numpy.zeros(3).view(Own), "it is of a subclass"),
        (numpy.ma.masked_array([1, 2], [True, False]), "it is of a subclass"),
        (numpy.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]), "can't be rebuilt"),
        (polars.DataFrame({"a": [[1, 2]]}), r"a column of List\(Int64\) can't be rebuilt"),
    ],
    ids=["large", "subclass", "masked", "structured", "list"],
)
def test_what_has_no_form_in_full_is_refused(value, reason):
    with pytest.raises(RebuildError, match=reason):
        rebuild(json.loads(canonical_bytes(value)), type(value))


def test_a_column_under_a_secret_name_is_not_in_the_trace():
    for frame in (pandas.DataFrame, polars.DataFrame, lambda data: pyarrow.table(data)):
        found = encode(frame({"name": ["Ada"], "password": ["hunter2"]}), secret=secret_names(()))
        assert b"Ada" in found.data
        assert b"hunter2" not in found.data


def test_a_step_with_frames_is_replayed(tmp_path):
    source = """
        import numpy, pandas
        from flowtrace import traced_node

        @traced_node
        def total(frame, weights=None):
            return frame.assign(sold=frame.sold * weights).groupby("town").sum()
    """
    module = new_module(tmp_path, source)
    frame = pandas.DataFrame({"town": ["Ulm", "Linz", "Ulm"], "sold": [3, 4, 5]})
    trace = record(tmp_path / "t.json", lambda: module.total(frame, numpy.array([1.0, 2.0, 3.0])))
    (step,) = replay(trace, until_failure=False, working_folder=tmp_path).steps
    assert (str(step.outcome), step.exact_input, step.notes) == ("same_output", True, [])
