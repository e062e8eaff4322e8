"""Arrays and frames: equal contents have one hash, all others differ, nothing is imported and nothing copied."""

from __future__ import annotations

import os
import subprocess
import sys
from base64 import b64encode
from datetime import date, datetime
from datetime import time as clock_time

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from flowtrace import canonical_bytes, hash_value
from flowtrace.values.encode import encode
from flowtrace.values.encoded import hash_buffer
from flowtrace.values.json import loads, plain

NAN = float("nan")


class Metres(np.ndarray):
    unit = None


class Frame(pd.DataFrame):
    pass


class Column(pd.Series):
    pass


class Polar(pl.DataFrame):
    pass


def metres(unit):
    array = np.arange(3.0).view(Metres)
    array.unit = unit
    return array


def structured(*rows):
    return np.array(list(rows), dtype=[("a", "i1"), ("b", "f8")])


def masked(mask):
    return np.ma.array([1, 2], mask=mask)


NUMPY = [
    *(np.array([1, 2]), np.array([2, 1]), np.array([[1, 2]]), np.array([[1], [2]]), np.array([1, 2, 0])),
    *(np.array([1, 2], dtype=">i8"), np.array([1, 2], dtype="i4"), np.array([1.0, 2.0]), np.array(["1", "2"])),
    *(np.array(1), np.array([1]), np.array([[1]]), np.array([], dtype="i8"), np.zeros((0, 3)), np.zeros((3, 0))),
    *(np.array([True, False]), np.array([1, 0], dtype="i1"), np.array([1 + 2j]), np.array([b"1"]), np.array([NAN])),
    *(np.array(["2020"], dtype="M8[D]"), np.array(["2020"], dtype="M8[s]"), np.array([1], dtype="m8[s]")),
    *(np.array([None, 1], dtype=object), np.array([NAN, 1], dtype=object), np.array([np.inf, 1], dtype=object)),
    *(np.array([-np.inf, 1], dtype=object), np.array([{"a": 1}], dtype=object), np.array([{"a": NAN}], dtype=object)),
    *(structured((1, 2.0)), structured((2, 1.0)), structured((1, NAN)), structured(), np.zeros(2, dtype="V4")),
    *(masked([0, 1]), masked([1, 0]), masked(False), metres("m"), metres("km"), metres(None)),
    *(np.array([1, 2]).view(np.recarray), np.array(["a"], dtype=np.dtypes.StringDType()), np.array(["a"])),
    *(np.longdouble("1.1"), np.array([1.1], dtype=np.longdouble), np.array([1.1])),
    *(np.int64(1), np.int32(1), np.float64(1), np.float32(1), np.bool_(True), np.str_("1"), np.bytes_(b"1")),
    *(np.float64(NAN), np.float64("inf"), np.float64("-inf"), np.float32(NAN), np.complex128(complex(NAN, 1))),
    *(np.complex128(complex(1, NAN)), np.datetime64("2020"), np.datetime64("2020-01-01"), np.timedelta64(1, "s")),
    *(np.datetime64("NaT", "s"), np.void(b"1"), structured((1, 2.0))[0], structured((1, 3.0))[0], np.dtype("i4")),
    *(1, 1.0, True, "1", b"1", None, [1, 2], (1,)),
]
PANDAS = [
    *(pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"b": [1, 2]}), pd.DataFrame({"a": [1.0, 2.0]}), Frame({"a": [1, 2]})),
    *(pd.DataFrame({"a": [1, 2]}, index=[1, 2]), pd.DataFrame({"a": [1, 2]}, index=["0", "1"]), pd.DataFrame()),
    *(
        pd.DataFrame({"a": [1], "b": [2]}),
        pd.DataFrame({"b": [2], "a": [1]}),
        pd.DataFrame([[1, 2]], columns=["a", "a"]),
    ),
    *(
        pd.DataFrame([[1, 2]]),
        pd.DataFrame([[1, 2]], columns=["0", "1"]),
        pd.DataFrame([[1, 2]], columns=[("a", 1), 2]),
    ),
    *(pd.DataFrame({"a": [1, None]}), pd.DataFrame({"a": pd.array([1, None], dtype="Int64")}), pd.Series([1, 2])),
    *(pd.Series(pd.array([2**60, None], dtype="Int64")), pd.Series(pd.array([2**60 + 1, None], dtype="Int64"))),
    *(
        pd.Series([1, 2], name="a"),
        pd.Series([1, 2], name=("a",)),
        Column([1, 2]),
        pd.Index([1, 2]),
        pd.Index([1, 2], name="i"),
    ),
    *(pd.Series([None, 1], dtype=object), pd.Series([NAN, 1], dtype=object), pd.Series([pd.NA, 1], dtype=object)),
    *(pd.Series([pd.NaT, 1], dtype=object), pd.Series(["a", None]), pd.Series(["a", "None"]), pd.Series(["a", "nan"])),
    *(pd.Series(["a", None], dtype="string"), pd.Series([True, None], dtype="boolean"), pd.Series([True, False])),
    *(pd.Series(["a", "b"], dtype="category"), pd.Series(pd.Categorical(["a", "b"], categories=["b", "a"]))),
    *(
        pd.Series(pd.Categorical(["a", "b"], ordered=True)),
        pd.Series(pd.Categorical(["a", None], categories=["a", "b"])),
    ),
    *(pd.Series(pd.Categorical([1, 2])), pd.Series(pd.Categorical([1, 2], categories=[1, 2, 3]))),
    *(pd.Series(pd.date_range("2020", periods=2)), pd.Series(pd.date_range("2020", periods=2, tz="UTC"))),
    *(pd.Series(pd.date_range("2020", periods=2, tz="Europe/Paris")), pd.date_range("2020", periods=2, tz="UTC")),
    *(pd.Series([pd.Timestamp("2020", tz="UTC"), pd.NaT]), pd.Series(pd.to_timedelta([1, 2], unit="s"))),
    *(pd.Series(pd.period_range("2020", periods=2, freq="M")), pd.Series(pd.period_range("2020", periods=2, freq="D"))),
    *(pd.cut(pd.Series([1, 2, 3]), 2), pd.cut(pd.Series([1, 2, 3]), 3), pd.IntervalIndex.from_breaks([0, 1])),
    *(
        pd.MultiIndex.from_tuples([("a", 1)]),
        pd.MultiIndex.from_tuples([("a", 1)], names=["x", None]),
        pd.Index([("a", 2)]),
    ),
    *(pd.Series([1, None], dtype="int64[pyarrow]"), pd.Series(pd.arrays.SparseArray([1, 2])), pd.NA, pd.NaT),
    *(
        pd.Timestamp("2020"),
        pd.Timestamp("2020", tz="UTC"),
        pd.Timestamp("2020", tz="Africa/Abidjan"),
        pd.Timedelta("1s"),
    ),
    *(pd.Period("2020", "Y"), pd.Interval(0, 1), pd.Interval(0, 1, closed="left"), [1, 2], np.array([1, 2])),
]
POLARS = [
    *(pl.DataFrame({"a": [1, 2]}), pl.DataFrame({"b": [1, 2]}), pl.DataFrame({"a": [1.0, 2.0]}), Polar({"a": [1, 2]})),
    *(pl.DataFrame({"a": [1], "b": [1]}), pl.DataFrame({"b": [1], "a": [1]}), pl.DataFrame(), pl.Series("a", [1, 2])),
    *(pl.Series("b", [1, 2]), pl.Series("a", [1.0, None]), pl.Series("a", [1.0, NAN]), pl.Series("a", [1.0, 0.0])),
    *(
        pl.Series("a", ["x", None]),
        pl.Series("a", ["x", "None"]),
        pl.Series("a", ["x", "null"]),
        pl.Series("a", [b"x"]),
    ),
    *(pl.Series("a", [[1.0, None], [NAN]]), pl.Series("a", [[1.0, NAN], [None]]), pl.Series("a", [[1.0], [None, NAN]])),
    *(
        pl.Series("a", [{"k": 1}]),
        pl.Series("a", [{"k": 2}]),
        pl.Series("a", [True]),
        pl.Series("a", [date(2020, 1, 1)]),
    ),
    *(pl.Series("a", [datetime(2020, 1, 1)]), pl.Series("a", ["x"], dtype=pl.Categorical), pl.Series("a", ["x"])),
    *(pl.Series("a", [], dtype=pl.Int64), pl.Series("a", [], dtype=pl.Int32), pl.Series("a", [1], dtype=pl.Int128)),
    *(pl.Series("a", [1], dtype=pl.Decimal(10, 2)), [1, 2], np.array([1, 2]), pd.Series([1, 2], name="a")),
]
ARROW = [
    *(pa.table({"a": [1, 2]}), pa.record_batch({"a": [1, 2]}), pa.table({"b": [1, 2]}), pa.array([1, 2])),
    *(pa.chunked_array([[1, 2]]), pa.array([2, 1]), pa.array([1, None]), pa.array([1.0, None]), pa.array([1.0, NAN])),
    *(pa.array([1, 2], type=pa.int8()), pa.array(["a", None]), pa.array(["a", ""]), pa.array([b"a"]), pa.array([None])),
    *(
        pa.array(["a"]).dictionary_encode(),
        pa.array([True]),
        pa.array([[1], [2]]),
        pa.array([[1, 2]]),
        pa.array([{"a": 1}]),
    ),
    *(pa.array([[NAN]]), pa.array([[None]], type=pa.list_(pa.float64())), pa.array([], type=pa.int8())),
    *(pa.array([datetime(2020, 1, 1)], type=pa.timestamp(unit)) for unit in ("s", "ms", "us", "ns")),
    *(
        pa.array([datetime(2020, 1, 1), None]),
        pa.array([date(2020, 1, 1)]),
        pa.array([date(2020, 1, 1)], type=pa.date64()),
    ),
    *(pa.array([clock_time(1)]), pa.array([datetime(2020, 1, 2) - datetime(2020, 1, 1)]), [1, 2]),
]


@pytest.mark.parametrize("values", [NUMPY, PANDAS, POLARS, ARROW], ids=["numpy", "pandas", "polars", "arrow"])
def test_different_values_never_have_one_hash(values):
    seen = {}
    for value in values:
        encoded = encode(value)
        assert encoded.opaque == (), (type(value), value)
        other = seen.setdefault(encoded.data, value)
        assert other is value, f"{other!r} and {value!r} are both {encoded.data!r}"
        assert encode(value) == encoded


def long_double(text):
    """Make a number whose 6 bytes of padding hold what was there before."""
    array = np.frombuffer(bytearray(os.urandom(16)), dtype=np.longdouble)
    array[0] = np.longdouble(text)
    return array


EQUAL = {
    "order of memory": (np.asfortranarray(np.arange(12.0).reshape(3, 4)), np.arange(12.0).reshape(3, 4)),
    "steps": (np.arange(10)[::2], np.arange(0, 10, 2)),
    "backwards": (np.arange(10)[::-1], np.arange(9, -1, -1)),
    "transposed": (np.arange(6).reshape(2, 3).T, np.array([[0, 3], [1, 4], [2, 5]])),
    "broadcast": (np.broadcast_to(np.int64(1), (2, 2)), np.ones((2, 2), dtype="i8")),
    "large and in steps": (
        np.arange(400_000).reshape(1000, 400)[:, ::3],
        np.arange(400_000).reshape(1000, 400)[:, ::3].copy(),
    ),
    "padding": (long_double("1.1"), long_double("1.1")),
    "read-only": (np.frombuffer(b"ab", dtype="u1"), np.array([97, 98], dtype="u1")),
    "frame and its copy": (pd.DataFrame({"a": [1.0, NAN]}), pd.DataFrame({"a": [1.0, NAN]}).copy(deep=True)),
    "kinds of index": (pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": [1, 2]}, index=[0, 1])),
    "chunks": (pa.chunked_array([[1], [2, 3]]), pa.chunked_array([[1, 2, 3]])),
    "chunks with gaps": (pa.chunked_array([["a"], [None]]), pa.chunked_array([["a", None]])),
    "slices": (pa.array([1, 2, 3])[1:], pa.array([2, 3])),
    "sliced moments": (pa.array([datetime(2020, 1, 1)] * 3)[1:], pa.array([datetime(2020, 1, 1)] * 2)),
    "polars chunks": (pl.concat([pl.Series("a", [1]), pl.Series("a", [2])], rechunk=False), pl.Series("a", [1, 2])),
    "nested": ({"k": [np.array([1])]}, {"k": [np.array([1])]}),
}


@pytest.mark.parametrize("name", EQUAL)
def test_equal_contents_have_one_hash(name):
    one, other = EQUAL[name]
    assert canonical_bytes(one) == canonical_bytes(other)


def test_an_array_is_told_by_dtype_shape_and_the_hash_of_its_buffer():
    array = np.arange(60_000, dtype="<i4").reshape(2, 30_000)
    blake3 = hash_buffer(memoryview(array.tobytes()))
    assert loads(canonical_bytes(array)) == {"$py": "array", "blake3": blake3, "dtype": "<i4", "shape": [2, 30_000]}
    small = array[:, :1]
    content = {"base64": b64encode(small.tobytes()).decode(), "dtype": "<i4", "shape": [2, 1]}
    assert loads(canonical_bytes(small)) == {"$py": "array"} | content
    assert plain(array) is None
    fortran = loads(canonical_bytes(np.asfortranarray(array)))
    assert fortran["blake3"] == blake3


def test_an_object_array_names_its_opaque_parts():
    assert encode({"x": np.array([1, object()], dtype=object)}).opaque == ("/x/items",)
    assert encode(pl.LazyFrame({"a": [1]})).opaque == ("",)
    assert encode([np.random.default_rng()]).opaque == ("/0",)


def test_secret_columns_are_hidden():
    frame = pd.DataFrame({"password": [1], "id": [2]})
    encoded = encode({"f": frame}, secret="password".__eq__)
    assert encoded.redacted == ("/f/columns/0/1",)
    assert loads(encoded.data)["f"]["columns"][0] == ["password", "__REDACTED__"]
    assert encoded == encode({"f": pd.DataFrame({"password": [9], "id": [2]})}, secret="password".__eq__)
    table = pa.table({"id": [1], "password": [2]})
    assert encode([table, pl.DataFrame({"password": [1]})], secret="password".__eq__).redacted == (
        "/0/columns/1/1",
        "/1/columns/0/1",
    )


@pytest.mark.costly
def test_a_library_that_is_not_loaded_is_not_imported(tmp_path):
    program = """
import sys
from flowtrace import canonical_bytes, hash_value
class Fake:
    __module__ = "numpy"
hash_value([Fake(), {1}, b"", object()])
loaded = {"numpy", "pandas", "polars", "pyarrow", "torch", "attrs", "pydantic"} & set(sys.modules)
assert not loaded, loaded
import pyarrow, datetime
values = [pyarrow.array([0, None]).cast(pyarrow.timestamp("ns")), pyarrow.table({"a": [1, None]})]
for name in ("pandas", "polars"):
    sys.modules.pop(name, None)
before = set(sys.modules)
hash_value(values)
assert not {"numpy", "pandas", "polars"} & (set(sys.modules) - before)
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        "np.zeros(32_000_000)",
        "np.zeros((8000, 4000), order='F')",
        "np.zeros((8000, 8000))[:, ::2]",
        "np.zeros(32_000_000, dtype='M8[s]')",
        "np.zeros(256_000_000, dtype=bool)",
        "np.ma.zeros(32_000_000)",
        "{'rows': [np.zeros(32_000_000)]}",
        "__import__('pandas').Series(np.zeros(32_000_000))",
        "__import__('polars').Series(np.zeros(32_000_000))",
        "__import__('pyarrow').array(np.zeros(32_000_000))",
    ],
)
def test_256_mb_are_hashed_where_they_lie(make, tmp_path):
    program = f"""
import tracemalloc
import numpy as np
from flowtrace.values.encode import encode, hash_value
value = {make}
tracemalloc.start()
size = encode(value).size
hash_value(value)
grown = tracemalloc.get_traced_memory()[1]
assert grown < 40_000_000, grown
assert size < 1000, size
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)


@pytest.mark.costly
def test_a_hash_is_the_same_in_another_process(tmp_path):
    program = "import numpy as np, flowtrace; print(flowtrace.hash_value({'a': np.arange(5.0), 'b': np.float32(2)}))"
    printed = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == hash_value({"a": np.arange(5.0), "b": np.float32(2)})
