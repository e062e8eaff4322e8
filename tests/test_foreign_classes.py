"""Subclasses of arrays and frames: recording them runs none of their code, and loads nothing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from flowtrace import configure, traced_node
from flowtrace.values.encode import encode
from tests.programs import run_program

ran = []


class Telling:
    """A class whose every attribute tells that it was asked for."""

    def __getattribute__(self, name):
        ran.append(name)
        return super().__getattribute__(name)

    def __len__(self):
        ran.append("__len__")
        return super().__len__()

    def __iter__(self):
        ran.append("__iter__")
        return super().__iter__()

    def __getitem__(self, key):
        ran.append("__getitem__")
        return super().__getitem__(key)


class Frame(Telling, pd.DataFrame):
    @property
    def _constructor(self):
        ran.append("_constructor")
        return Frame

    @property
    def _constructor_sliced(self):
        ran.append("_constructor_sliced")
        return Series


class Series(Telling, pd.Series):
    @property
    def _constructor(self):
        ran.append("_constructor")
        return Series


class Index(Telling, pd.Index):
    pass


class PolarsFrame(Telling, pl.DataFrame):
    pass


class PolarsSeries(Telling, pl.Series):
    pass


class Array(Telling, np.ndarray):
    pass


class Masked(Telling, np.ma.MaskedArray):
    pass


class Copied:
    def __deepcopy__(self, memo):
        ran.append("__deepcopy__")
        return self


class Metres(pd.api.extensions.ExtensionDtype):
    name = "metres"
    type = float
    na_value = None

    @classmethod
    def construct_array_type(cls):
        return Lengths


class Lengths(pd.api.extensions.ExtensionArray):
    """An array of a program's own, in a column."""

    def __init__(self, numbers):
        self.numbers = list(numbers)

    dtype = property(lambda self: ran.append("dtype") or Metres())

    @classmethod
    def _from_sequence(cls, scalars, *, dtype=None, copy=False):
        return cls(scalars)

    def __getitem__(self, item):
        ran.append("__getitem__")
        return self.numbers[item] if isinstance(item, int) else Lengths(self.numbers[item])

    def __len__(self):
        return len(self.numbers)

    def isna(self):
        return np.zeros(len(self), bool)

    def copy(self):
        return Lengths(self.numbers)


def with_attributes(value):
    value.attrs["model"] = Copied()
    return value


CONTENT = {"a": [1, 2], "b": ["x", None]}
VALUES = {
    "pandas frame": (Frame(CONTENT), pd.DataFrame(CONTENT)),
    "pandas series": (Series([1.5, None], name="n"), pd.Series([1.5, None], name="n")),
    "pandas index": (Index._simple_new(np.array([3, 4]), "n"), pd.Index([3, 4], name="n")),
    "pandas attributes": (with_attributes(pd.DataFrame(CONTENT)), pd.DataFrame(CONTENT)),
    "pandas attributes of a series": (with_attributes(pd.Series([1, 2])), pd.Series([1, 2])),
    "polars frame": (PolarsFrame(CONTENT), pl.DataFrame(CONTENT)),
    "polars series": (PolarsSeries("n", [1, 2]), pl.Series("n", [1, 2])),
    "array": (np.arange(3.0).view(Array), np.arange(3.0)),
    "masked array": (Masked([1, 2], mask=[True, False]), None),
}


@traced_node
def give(value, password=None):
    return value


@pytest.mark.parametrize("name", VALUES)
def test_no_code_of_a_subclass_runs(name, tmp_path):
    value, plain = VALUES[name]
    configure(mode="always", out_path=tmp_path / "t.json", capture_inputs=True, capture_outputs=True)
    ran.clear()
    assert give(value, password=value) is value
    encoded = encode([value])
    assert ran == []
    attrs = f'"attrs":{{"model":{{"$py":"opaque","class":"{__name__}:Copied"}}}},'.encode()
    assert encoded.opaque == (("/0/attrs/model",) if attrs in encoded.data else ())
    if plain is not None:
        own = f',"class":"{__name__}:{type(value).__name__}"'.encode()
        assert encoded.data.replace(own, b"").replace(attrs, b"") == encode([plain]).data


def test_a_column_in_a_class_of_the_program_is_opaque_and_left_alone(tmp_path):
    frame = pd.DataFrame({"a": [1, 2], "length": pd.Series(Lengths([1.0, 2.0]))})
    ran.clear()
    encoded = encode(frame)
    assert ran == []
    assert encoded.opaque == ("/columns/1/1",)


# --- moments as the integers that they are

MOMENTS = [pl.Date, pl.Time, pl.Duration("ns"), pl.Datetime("ns"), pl.Datetime("us", "UTC")]


@pytest.mark.parametrize("dtype", MOMENTS, ids=str)
def test_polars_moments_that_differ_by_one_unit_differ_on_every_level(dtype):
    for levels in (
        dtype,
        pl.List(dtype),
        pl.Array(dtype, 1),
        pl.Struct({"t": dtype}),
        pl.List(pl.Struct({"t": dtype})),
    ):
        digests = set()
        for number in (1_000_001, 1_000_002):
            series = pl.Series("t", [number]).cast(pl.Int32 if dtype == pl.Date else pl.Int64).cast(dtype)
            if levels != dtype:
                shaped = pl.struct("t") if "Struct" in str(levels) else pl.col("t")
                shaped = pl.concat_list(shaped) if "List" in str(levels) else shaped
                shaped = shaped.reshape((-1, 1)) if isinstance(levels, pl.Array) else shaped
                series = series.to_frame().select(shaped.alias("t"))["t"]
            encoded = encode(series)
            assert encoded.opaque == ()
            digests.add(encoded.digest)
        assert len(digests) == 2


ARROW = [pa.date32(), pa.date64(), pa.time32("ms"), pa.time64("ns"), pa.timestamp("ns"), pa.duration("ns")]


@pytest.mark.parametrize("dtype", ARROW, ids=str)
def test_arrow_moments_that_differ_by_one_unit_differ_on_every_level(dtype):
    unit = 86_400_000 if dtype == pa.date64() else 1
    shapes = {
        "list": lambda number: pa.array([[number, None], None], pa.list_(dtype)),
        "large list": lambda number: pa.array([[number]], pa.large_list(dtype)),
        "fixed list": lambda number: pa.array([[number, 0]], pa.list_(dtype, 2)),
        "struct": lambda number: pa.array([{"t": number}, None], pa.struct([("t", dtype)])),
        "list of structs": lambda number: pa.array([[{"t": number}]], pa.list_(pa.struct([("t", dtype)]))),
        "map": lambda number: pa.array([[("a", number)]], pa.map_(pa.string(), dtype)),
        "plain": lambda number: pa.array([number, None], dtype),
        "cut": lambda number: pa.array([{"t": 0}, {"t": number}], pa.struct([("t", dtype)])).slice(1),
    }
    for shape, make in shapes.items():
        encoded = [encode(make(number * unit)) for number in (1, 2)]
        assert [one.opaque for one in encoded] == [(), ()], shape
        assert encoded[0].digest != encoded[1].digest, shape


POLARS = """
    import polars
    numbers = polars.Series("n", [1, 2])
    moments = polars.Series("d", [1, 2], dtype=polars.Int64).cast(polars.Datetime("ns"))
    values = [numbers, moments, polars.DataFrame([numbers, moments])]
    kinds = polars.Int8, polars.UInt8, polars.UInt64, polars.Float32, polars.Float64
    values += map(numbers.cast, kinds)
    """
ARROW_ONLY = """
    import pyarrow, struct
    plain = pyarrow.Array.from_buffers(pyarrow.int64(), 2, [None, pyarrow.py_buffer(struct.pack("<qq", 1, 2))])
    stamps = plain.view(pyarrow.timestamp("ns"))
    values = [plain, stamps, pyarrow.StructArray.from_arrays([stamps], ["t"])]
    """


@pytest.mark.costly
@pytest.mark.parametrize("pure", ["0", "1"])
@pytest.mark.parametrize(
    ("setup", "others"), [(POLARS, {"numpy", "pandas"}), (ARROW_ONLY, {"pandas", "pyarrow.compute"})]
)
def test_nothing_is_loaded_for_a_frame(tmp_path, setup, others, pure):
    program = f"""
        import flowtrace, sys
        flowtrace.configure(mode="always", out_path="t.json", capture_inputs=True)

        @flowtrace.traced_node
        def give(value):
            return value

        print(sorted({others} & set(sys.modules)))
        for value in values:
            give(value)
        before = [flowtrace.hash_value(value) for value in values]
        print(sorted({others} & set(sys.modules)))
        import numpy, pandas
        print([flowtrace.hash_value(value) for value in values] == before)
        """
    done = run_program(tmp_path, setup, program, FLOWTRACE_PURE=pure)
    assert done.stdout == "[]\n[]\nTrue\n"
