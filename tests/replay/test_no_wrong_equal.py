"""Two values of one form are one value, and a value that comes back is the one that went: looked for with hypothesis.

A few hundred examples run with the tests. For more, `python -m tests.replay.test_no_wrong_equal 100000`.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import json
import math
import pathlib
import struct
import sys
import types
import uuid
from collections import Counter
from typing import Any, Generic, NamedTuple, TypeVar

import attrs
import msgspec
import numpy
import pandas
import polars
import pyarrow
import pydantic
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from flowtrace import RebuildError
from flowtrace.values.encode import encode
from flowtrace.values.rebuild import Rebuilder

T = TypeVar("T")


class Colour(enum.Enum):
    RED = 1
    BLUE = "1"


class Access(enum.IntFlag):
    READ = 1
    WRITE = 2


class Pair(NamedTuple):
    first: Any
    second: Any = None


@dataclasses.dataclass
class Crate(Generic[T]):
    content: T
    more: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class Slots:
    content: Any


@attrs.define
class Attrs:
    content: Any = None


class Struct(msgspec.Struct):
    content: Any = None


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    content: Any = None
    other: Any = None


class Number(int):
    pass


class Text(str):
    pass


class Items(list):
    pass


class Failed(Exception):
    pass


class Plain:
    def __init__(self, content):
        self.content = content


# Few of each, and much alike: values that differ must meet often.
FEW = st.sampled_from([0, 1, -1, 2, 2**63, 2**64])
LETTERS = st.sampled_from(["", "1", "a", "$py", "é", "\ud800", "null", "int"])
FLOATS = st.sampled_from([0.0, -0.0, 1.0, math.nan, math.inf, -math.inf, 1e300])
ZONES = st.sampled_from([None, dt.UTC, dt.timezone(dt.timedelta(0), "Z"), dt.timezone(dt.timedelta(hours=1))])
MOMENTS = st.builds(
    dt.datetime,
    st.just(2026),
    st.just(10),
    st.just(25),
    st.sampled_from([0, 2]),
    tzinfo=ZONES,
    fold=st.sampled_from([0, 1]),
)
ATOMS = [
    (int, FEW),
    (bool, st.booleans()),
    (float, FLOATS),
    (str, LETTERS),
    (type(None), st.none()),
    (complex, st.builds(complex, FLOATS, FLOATS)),
    (bytes, st.sampled_from([b"", b"1", b"\x00"])),
    (bytearray, st.sampled_from([b"", b"1"]).map(bytearray)),
    (
        decimal.Decimal,
        st.sampled_from(["0", "-0", "1", "1.0", "NaN", "sNaN", "-NaN", "Infinity", "1E+2", "100"]).map(decimal.Decimal),
    ),
    (fractions.Fraction, st.builds(fractions.Fraction, st.sampled_from([0, 1, 2]), st.sampled_from([1, 2]))),
    (uuid.UUID, st.sampled_from([0, 1]).map(lambda n: uuid.UUID(int=n))),
    (dt.date, st.sampled_from([dt.date(2026, 10, 25), dt.date(1, 1, 1)])),
    (dt.time, st.builds(dt.time, st.sampled_from([0, 2]), tzinfo=ZONES, fold=st.sampled_from([0, 1]))),
    (dt.datetime, MOMENTS),
    (
        dt.timedelta,
        st.builds(dt.timedelta, st.sampled_from([0, 1, -1]), st.sampled_from([0, 86399]), st.sampled_from([0, 1])),
    ),
    (
        pathlib.PurePath,
        st.sampled_from([pathlib.PurePosixPath("a/b"), pathlib.PureWindowsPath("a/b"), pathlib.PurePosixPath("a")]),
    ),
    (pathlib.Path, st.sampled_from(["a/b", "a", "."]).map(pathlib.Path)),
    (range, st.sampled_from([range(0), range(1), range(0, 2, 2), range(1, 1)])),
    (slice, st.sampled_from([slice(1), slice(0, 1), slice(None, 1, None), slice(1, None)])),
    (Colour, st.sampled_from(Colour)),
    (Access, st.sampled_from([Access(0), Access.READ, Access.READ | Access.WRITE])),
    (int, st.sampled_from([0, 1]).map(Number)),
    (str, LETTERS.map(Text)),
    (
        numpy.generic,
        st.sampled_from(
            [
                numpy.float32(1),
                numpy.float64(1),
                numpy.int8(1),
                numpy.uint8(1),
                numpy.bool_(1),
                numpy.str_("1"),
                numpy.bytes_(b"1"),
                numpy.datetime64(1, "s"),
                numpy.datetime64(1000, "ms"),
                numpy.float32("nan"),
                numpy.longdouble(1),
            ]
        ),
    ),
    (
        pandas.Timestamp,
        st.sampled_from(
            [pandas.Timestamp(0), pandas.Timestamp(1), pandas.Timestamp(0, tz="UTC"), pandas.Timestamp(0).as_unit("s")]
        ),
    ),
    (pandas.Timedelta, st.sampled_from([pandas.Timedelta(0), pandas.Timedelta(1), pandas.Timedelta(0).as_unit("s")])),
]
NUMBERS = st.lists(st.sampled_from([0, 1, 2]), max_size=3)
DTYPES = st.sampled_from(["i1", "u1", "i4", "<i8", ">i8", "f4", "f8", "?", "c8", "U1", "S1", "M8[s]", "m8[ns]", "O"])
LABELS = st.sampled_from([None, "a", "b", 1, ("a", 1), ("a",)])
COLUMNS = st.sampled_from(
    [
        *(
            pandas.array([0, 1], dtype=kind)
            for kind in ("int64", "int32", "float64", "bool", "Int64", "string", "boolean", "Float32")
        ),
        *(
            pandas.array([0, 1], dtype=kind)
            for kind in ("object", "datetime64[ns]", "datetime64[s]", "datetime64[ns, UTC]")
        ),
        *(pandas.array(["0", "1"], dtype=kind) for kind in ("object", "str", "string[python]", "string[pyarrow]")),
        *(pandas.Categorical(["0", "1"], names) for names in (["0", "1"], ["1", "0"], ["0", "1", "2"])),
        pandas.Categorical(["0", "1"], ["0", "1"], ordered=True),
        pandas.array([None, 1], dtype="Int64"),
        numpy.array([math.nan, 1.0]),
        numpy.array([None, 1], dtype=object),
    ]
)
INDEXES = st.sampled_from(
    [
        *(pandas.RangeIndex(2), pandas.Index([0, 1]), pandas.Index([0, 1], dtype="int32"), pandas.Index([0.0, 1.0])),
        *(pandas.Index(["0", "1"]), pandas.Index(["0", "1"], name="a"), pandas.Index([0, 1], name="a")),
        *(
            pandas.MultiIndex.from_arrays([[0, 1], ["0", "1"]]),
            pandas.MultiIndex.from_arrays([[0, 1], ["0", "1"]], names=["a", "b"]),
        ),
        *(pandas.date_range("2026", periods=2), pandas.DatetimeIndex(["2026-01-01", "2026-01-02"])),
        *(
            pandas.CategoricalIndex([0, 1]),
            pandas.IntervalIndex.from_breaks([0, 1, 2]),
            pandas.period_range("2026", periods=2, freq="D"),
        ),
    ]
)
POLARS_TYPES = st.sampled_from(
    [
        *(polars.Int8, polars.Int64, polars.UInt8, polars.Float32, polars.Float64, polars.Boolean, polars.String),
        *(polars.Date, polars.Time, polars.Datetime("us"), polars.Datetime("ns"), polars.Datetime("us", "UTC")),
        *(polars.Duration("us"), polars.Duration("ms"), polars.List(polars.Int64), polars.List(polars.Int8)),
        *(
            polars.Struct({"a": polars.Int64}),
            polars.Decimal(10, 2),
            polars.Decimal(10, 3),
            polars.Array(polars.Int8, 1),
        ),
    ]
)
ARROW_TYPES = st.sampled_from(
    [
        *(pyarrow.int8(), pyarrow.int64(), pyarrow.uint8(), pyarrow.float32(), pyarrow.float64(), pyarrow.bool_()),
        *(pyarrow.string(), pyarrow.large_string(), pyarrow.binary(), pyarrow.date32(), pyarrow.date64()),
        *(pyarrow.time32("s"), pyarrow.time64("ns"), pyarrow.timestamp("us"), pyarrow.timestamp("us", "UTC")),
        *(pyarrow.duration("s"), pyarrow.list_(pyarrow.int64()), pyarrow.list_(pyarrow.int8())),
        *(pyarrow.struct([("a", pyarrow.int64())]), pyarrow.dictionary(pyarrow.int8(), pyarrow.int64())),
    ]
)


def _array(numbers, kind, is_column):
    made = numpy.array(numbers, "i8").astype(kind)
    return made.reshape(-1, 1) if is_column else made


def _frame(columns, index, labels, attributes, unique):
    made = pandas.DataFrame(dict(enumerate(columns)), index=index)
    made.columns = pandas.Index(labels[: len(columns)], name="n" if unique else None)
    made.attrs.update(attributes)
    return made.set_flags(allows_duplicate_labels=False) if unique else made


def _polars(numbers, kind):
    wrap = {polars.List: lambda n: [n], polars.Array: lambda n: [n], polars.Struct: lambda n: {"a": n}}
    change = next((make for base, make in wrap.items() if kind == base), lambda n: n)
    whole = polars.Series("n", list(map(change, numbers)), dtype=kind if change(0) != 0 else polars.Int64)
    return whole if change(0) != 0 else whole.cast(kind)


def _arrow(numbers, kind):
    if pyarrow.types.is_nested(kind):
        return pyarrow.array([{"a": n} if pyarrow.types.is_struct(kind) else [n] for n in numbers], kind)
    plain = pyarrow.array(numbers, pyarrow.int64())
    if pyarrow.types.is_binary(kind):
        return plain.cast(pyarrow.string()).cast(kind)
    if pyarrow.types.is_temporal(kind):
        raw = pyarrow.int32() if kind.bit_width == 32 else pyarrow.int64()
        scale = 86_400_000 if kind == pyarrow.date64() else 1
        return pyarrow.array([n and n * scale for n in numbers], raw).cast(kind)
    return plain.dictionary_encode().cast(kind) if pyarrow.types.is_dictionary(kind) else plain.cast(kind)


MAYBE = st.lists(st.sampled_from([0, 1, 2, None]), max_size=2)
ATTRIBUTES = st.sampled_from([{}, {}, {"unit": "m"}, {"unit": 1}])
ATOMS += [
    (numpy.ndarray, st.builds(_array, NUMBERS, DTYPES, st.booleans())),
    (
        pandas.Series,
        st.builds(lambda values, index, name: pandas.Series(values, index=index, name=name), COLUMNS, INDEXES, LABELS),
    ),
    (pandas.Index, INDEXES),
    (
        pandas.DataFrame,
        st.builds(
            _frame, st.lists(COLUMNS, max_size=2), INDEXES, st.permutations(["a", "b", 1]), ATTRIBUTES, st.booleans()
        ),
    ),
    (polars.Series, st.builds(_polars, MAYBE, POLARS_TYPES)),
    (polars.DataFrame, st.builds(lambda numbers, kind: _polars(numbers, kind).to_frame(), MAYBE, POLARS_TYPES)),
    (pyarrow.Array, st.builds(_arrow, MAYBE, ARROW_TYPES)),
    (
        pyarrow.ChunkedArray,
        st.builds(lambda numbers, kind: pyarrow.chunked_array([_arrow(numbers, kind)]), MAYBE, ARROW_TYPES),
    ),
    (
        pyarrow.Table,
        st.builds(
            lambda numbers, kind, metadata: pyarrow.table({"n": _arrow(numbers, kind)}).replace_schema_metadata(
                metadata
            ),
            MAYBE,
            ARROW_TYPES,
            st.sampled_from([None, {"k": "v"}]),
        ),
    ),
]
KEYS = [atom for atom in ATOMS if atom[0] in (int, str, bool, bytes, dt.date, Colour, uuid.UUID, type(None))]


def _of(kind):
    hint, values = kind
    return st.tuples(st.just(hint), values)


def _around(inner):
    """Return strategies of an annotation and a value of it, each around others."""

    def of_list(make, hint):
        return inner.flatmap(
            lambda one: st.lists(st.just(one[1]), max_size=2).map(lambda items: (hint(one[0]), make(items)))
        )

    def of_one(make, hint):
        return inner.map(lambda one: (hint(one[0]), make(one[1])))

    key = st.sampled_from(KEYS).flatmap(_of)
    return st.one_of(
        of_list(list, lambda hint: list[hint]),
        of_list(tuple, lambda hint: tuple[hint, ...]),
        of_list(Items, lambda hint: list[hint]),
        of_list(lambda items: collections.deque(items, 3), lambda hint: collections.deque[hint]),
        st.tuples(inner, inner).map(lambda two: (tuple[two[0][0], two[1][0]], (two[0][1], two[1][1]))),
        of_one(lambda value: value, lambda hint: hint | None),
        of_one(lambda value: value, lambda hint: list[float] | dict[str, bool] | hint),
        st.tuples(LETTERS, inner).map(lambda two: (dict[str, two[1][0]], {two[0]: two[1][1]})),
        st.tuples(key, inner).map(lambda two: (dict[two[0][0], two[1][0]], {two[0][1]: two[1][1]})),
        st.tuples(LETTERS, inner).map(
            lambda two: (collections.OrderedDict[str, two[1][0]], collections.OrderedDict({two[0]: two[1][1]}))
        ),
        key.map(lambda one: (set[one[0]], {one[1]})),
        key.map(lambda one: (frozenset[tuple[one[0], ...]], frozenset([(one[1],), ()]))),
        of_one(Crate, lambda hint: Crate[hint]),
        of_one(lambda value: Crate(1, value), lambda hint: Crate[int]),
        *(of_one(make, lambda hint, make=make: make) for make in (Pair, Slots, Attrs, Struct, Plain)),
        *(
            of_one(lambda value, name=name: Model(**{name: value}), lambda hint: Model)
            for name in ("content", "other", "extra")
        ),
        of_one(Failed, lambda hint: Failed),
        of_one(lambda value: types.SimpleNamespace(a=value), lambda hint: types.SimpleNamespace),
    )


TYPED = st.recursive(st.sampled_from(ATOMS).flatmap(_of), _around, max_leaves=3)


def _described(value, *, tells_lists=True):
    """Tell all that makes a value the one that it is, by other means than flowtrace: each library's own."""
    cls = type(value)
    name = f"{cls.__module__}.{cls.__qualname__}"

    def of(part):
        return _described(part, tells_lists=tells_lists)

    if isinstance(value, float):
        return name, "nan" if value != value else struct.pack(">d", value)
    if isinstance(value, complex):
        return name, of(value.real), of(value.imag)
    if isinstance(value, numpy.ndarray):
        items = of(value.tolist()) if value.dtype.hasobject else value.tobytes()
        return name, value.dtype.str, value.shape, items
    if isinstance(value, numpy.generic):
        return name, str(value.dtype), str(value) if value.dtype.kind in "fcg" else value.tobytes()
    if isinstance(value, pandas.DataFrame):
        columns = tuple(of(value.iloc[:, at]) for at in range(value.shape[1]))
        return name, columns, of(value.columns), of(value.index), of(value.attrs), value.flags.allows_duplicate_labels
    if isinstance(value, pandas.Series):
        items = tuple(map(of, value.array))
        return name, _dtype(value.dtype), items, of(value.index), of(value.name), of(value.attrs)
    if isinstance(value, pandas.MultiIndex):
        return name, tuple(of(value.get_level_values(at)) for at in range(value.nlevels))
    if isinstance(value, pandas.Index):
        name = "index" if isinstance(value, pandas.RangeIndex) else name.replace("RangeIndex", "Index")
        name = "index" if name.endswith(".Index") else name
        return name, _dtype(value.dtype), tuple(map(of, value.array)), of(value.name), str(getattr(value, "freq", None))
    if isinstance(value, pandas.Interval):
        return name, of(value.left), of(value.right), value.closed
    if isinstance(value, (pandas.Timestamp, pandas.Timedelta)):
        return name, value.unit, repr(value)
    if isinstance(value, (polars.DataFrame, polars.Series)):
        whole = value if isinstance(value, polars.DataFrame) else value.to_frame()
        items = [column.to_physical().to_list() for column in whole.get_columns()]
        schema = str(value.schema) if isinstance(value, polars.DataFrame) else (value.name, str(value.dtype))
        return name, schema, value.shape, of(items)
    if isinstance(value, (pyarrow.Table, pyarrow.RecordBatch)):
        return name, value.schema.to_string(), of(value.schema.metadata), tuple(of(item) for item in value.columns)
    if isinstance(value, (pyarrow.Array, pyarrow.ChunkedArray)):
        chunks = value.chunks if isinstance(value, pyarrow.ChunkedArray) else [value]
        return name, str(value.type), of([item for chunk in chunks for item in _raw(chunk).to_pylist()])
    if isinstance(value, dict):
        items = [(of(key), of(item)) for key, item in value.items()]
        return name, tuple(items) if isinstance(value, collections.OrderedDict) else frozenset(items)
    if isinstance(value, (set, frozenset)):
        return name, frozenset(map(of, value))
    if isinstance(value, (list, tuple, collections.deque)):
        is_plain = cls in (list, tuple) and not tells_lists
        return "list" if is_plain else name, tuple(map(of, value)), getattr(value, "maxlen", None)
    if isinstance(value, enum.Enum):
        return name, value.name
    if isinstance(value, BaseException):
        return name, of(value.args), of(vars(value))
    if isinstance(value, pydantic.BaseModel):
        return (
            name,
            of(list(vars(value).items())),
            of(value.__pydantic_extra__),
            frozenset(value.__pydantic_fields_set__),
        )
    if isinstance(value, (Slots, Attrs, Struct)):
        return name, of(value.content)
    if isinstance(value, (Crate, Plain, types.SimpleNamespace)):
        return name, of(vars(value))
    if isinstance(value, (dt.time, dt.datetime)):
        return name, value.isoformat(), value.fold, repr(value.tzinfo)
    return name, repr(value)


def _raw(chunk):
    if not pyarrow.types.is_temporal(chunk.type):
        return chunk
    return chunk.view(pyarrow.int32() if chunk.type.bit_width == 32 else pyarrow.int64())


def _dtype(dtype):
    if isinstance(dtype, pandas.CategoricalDtype):
        return "category", dtype.ordered, _described(dtype.categories)
    return repr(dtype), getattr(dtype, "storage", None)


OWN = {f"{__name__}:{name}": cls for name, cls in list(globals().items()) if isinstance(cls, type)}
OWN = {name: cls for name, cls in OWN.items() if cls.__module__ == __name__}
SEEN: Counter[str] = Counter()
"""What became of the examples: a check of this file on itself, since a look at nothing finds nothing."""


EXAMPLES = 5000 if __name__ == "__main__" else 300
PHASES = [Phase.generate, Phase.shrink]
FORMS: dict[str, Any] = {}
"""The description of each value so far by its hash: the next one is compared with all of them."""
VALUES: dict[Any, tuple[str, Any]] = {}
"""The hash of each value so far, and the value, by its description."""


@given(TYPED, st.booleans())
@settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck), phases=PHASES)
def test_no_wrong_equal_and_no_wrong_replay(one, with_hint):
    SEEN["examples"] += 1
    hint, value = one
    first, description = encode(value), _described(value, tells_lists=False)
    if not first.opaque:
        SEEN["of a form that came before"] += first.digest in FORMS
        known, before = FORMS.get(first.digest, description), VALUES.get(description, (first.digest, value))
        assert known == description, (value, first.data, known)
        assert before[0] == first.digest, (value, first.data, before)
        FORMS[first.digest], VALUES[description] = description, (first.digest, value)
    if first.opaque:
        SEEN["opaque"] += 1
        return
    rebuilder = Rebuilder(OWN.get)
    try:
        found = rebuilder.rebuild(json.loads(first.data), hint if with_hint else Any)
    except RebuildError as error:
        SEEN[f"not rebuilt: {error}"[:100]] += 1
        return
    is_exact = encode(found).data == first.data and not encode(found).opaque
    SEEN["came back" if is_exact else "came back as another, and said so"] += 1
    if is_exact:
        tells_lists = not rebuilder.unsure_arrays
        assert _described(found, tells_lists=tells_lists) == _described(value, tells_lists=tells_lists), first.data


if __name__ == "__main__":
    while SEEN["examples"] < int(sys.argv[1]):
        test_no_wrong_equal_and_no_wrong_replay()
        print(f"{SEEN['examples']} examples", flush=True)
    print(*(f"{count:8} {what}" for what, count in SEEN.most_common()), sep="\n")
