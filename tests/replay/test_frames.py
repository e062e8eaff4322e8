"""Arrays and frames come back from a trace as they were: equal, of the same dtype, and with the same hash."""

from __future__ import annotations

import datetime as dt
import decimal
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
    pandas.Series(pandas.period_range("2026", periods=2, freq="M")),
    pandas.Series(pandas.cut([1, 2, 3], 2)),
    pandas.Series(pandas.interval_range(0, 2)),
    pandas.Series([[1], None], dtype=pandas.ArrowDtype(pyarrow.list_(pyarrow.int8()))),
    pandas.Series(["a", None], dtype=pandas.ArrowDtype(pyarrow.string())),
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
    numpy.array({"a": 1}, dtype=object),
    numpy.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
    numpy.array([((1, "x"), [[1, 2]])], dtype=[("in", [("n", "i4"), ("s", "U1")]), ("m", "f4", (1, 2))]),
    numpy.zeros(2, numpy.dtype([("a", "i1"), ("b", "i8")], align=True)),
    numpy.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
    numpy.array([[1, 2]]).view(numpy.matrix),
    numpy.array(["a", "größe"], numpy.dtypes.StringDType()),
    numpy.array([numpy.longdouble(1) / 3]),
    numpy.array([b"ab"], "V2"),
]
MASKED = [
    numpy.ma.masked_array([1, 2], [True, False]),
    numpy.ma.masked_array([1.0, 2], fill_value=7, hard_mask=True),
    numpy.ma.masked_array(numpy.zeros(2, [("a", "i4")])),
]
SCALARS = [
    *(numpy.datetime64("2026"), numpy.datetime64(1, "ns"), numpy.timedelta64(3, "h"), numpy.datetime64("NaT", "ns")),
    *(numpy.longdouble(1) / 3, numpy.void(b"ab"), numpy.array([(1, "a")], [("x", "i4"), ("y", "U3")])[0]),
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
    *(
        polars.DataFrame({"a": polars.Series([*items, None], dtype=kind)})
        for kind, items in (
            (polars.Decimal(10, 2), [decimal.Decimal("1.10")]),
            (polars.List(polars.List(polars.Datetime("ns", "UTC"))), [[[dt.datetime(2026, 1, 1, tzinfo=dt.UTC)]]]),
            (polars.Struct({"a b": polars.List(polars.Struct({"c": polars.Time}))}), [{"a b": [{"c": dt.time(1)}]}]),
            (polars.Array(polars.Array(polars.Int8, 2), 1), [[[1, 2]]]),
            (polars.Enum(["x'y", "z"]), ["z"]),
            (polars.Categorical, ["u", "v", "u"]),
            (polars.Int128, [2**100]),
            (polars.Null, []),
        )
    ),
]
ARROW = [
    pyarrow.table({"town": ["Ulm", None], "sold": [3, 4], "share": [0.5, float("nan")]}),
    pyarrow.record_batch({"day": pyarrow.array([dt.date(2026, 11, 24), None]), "b": pyarrow.array([b"x", b""])}),
    pyarrow.array([1, None, 3], pyarrow.int16()),
    pyarrow.array([dt.datetime(2026, 11, 24)], pyarrow.timestamp("ns")),
    pyarrow.array([1, 2], pyarrow.timestamp("us")).dictionary_encode(),
    pyarrow.table({"a": [1]}).replace_schema_metadata({"k": "v"}),
    pyarrow.table(
        [pyarrow.array([1])], schema=pyarrow.schema([pyarrow.field("a", pyarrow.int64(), False, {"k": "v"})])
    ),
    pyarrow.table([pyarrow.array([1]), pyarrow.array([2])], names=["a", "a"]),
    pyarrow.Table.from_pandas(pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]})),
    *(
        pyarrow.array([*items, None], kind)
        for kind, items in (
            (pyarrow.timestamp("us", "Europe/Paris"), [1]),
            (pyarrow.dictionary(pyarrow.int8(), pyarrow.string(), True), ["x", "y", "x"]),
            (pyarrow.decimal128(10, 2), [decimal.Decimal("1.10")]),
            (pyarrow.decimal256(40, 2), [decimal.Decimal("1.10")]),
            (pyarrow.binary(2), [b"ab"]),
            (pyarrow.list_(pyarrow.field("item", pyarrow.int64(), nullable=False)), [[1]]),
            (pyarrow.large_list(pyarrow.timestamp("ns")), [[1]]),
            (pyarrow.list_(pyarrow.int8(), 2), [[1, 2]]),
            (pyarrow.struct([("a b", pyarrow.list_(pyarrow.int8())), ("c", pyarrow.date32())]), [{"a b": [1], "c": 3}]),
            (pyarrow.struct([pyarrow.field("a", pyarrow.int8(), metadata={"k": "v"})]), [{"a": 1}]),
            (pyarrow.map_(pyarrow.string(), pyarrow.map_(pyarrow.string(), pyarrow.int8())), [[("k", [("l", 1)])], []]),
            (pyarrow.map_(pyarrow.string(), pyarrow.int8(), keys_sorted=True), [[("k", 1)]]),
        )
    ),
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


@pytest.mark.parametrize("value", MASKED, ids=range(len(MASKED)))
def test_masked_arrays_of_numpy_come_back(value):
    found = comes_back(value)
    numpy.testing.assert_array_equal(found.mask, value.mask)
    assert (found.dtype, found.fill_value, found.hardmask) == (value.dtype, value.fill_value, value.hardmask)


@pytest.mark.parametrize("value", SCALARS, ids=lambda value: f"{value.dtype}")
def test_scalars_of_numpy_come_back(value):
    found = comes_back(value)
    assert (found.dtype, repr(found)) == (value.dtype, repr(value))


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')",
        "List(",
        "Object",
        "List(os)",
        "Int64.x",
        "list<item: int64",
        "int64>",
        "struct<a int8>",
        "x[9]",
    ],
)
def test_no_other_text_is_a_type(text):
    series = {"$py": "polars.series", "dtype": text, "name": "n", "size": 1, "values": [1]}
    for form in (series, {"$py": "arrow.array", "type": text, "size": 1, "values": [1]}):
        with pytest.raises(RebuildError, match="can't be rebuilt"):
            rebuild(form)


class Own(numpy.ndarray):
    pass


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (numpy.zeros(100_000), "of an array only the hash was kept"),
        (numpy.zeros(3).view(Own), "it is of a subclass"),
        (
            pyarrow.chunked_array([pyarrow.array([word]).dictionary_encode() for word in "ab"]),
            "its chunks have dictionaries of their own",
        ),
    ],
    ids=["large", "subclass", "chunks"],
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
