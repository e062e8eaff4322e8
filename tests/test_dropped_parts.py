"""No form drops a part of a value without saying so: for each form, a change of each thing that is looked at elsewhere.

Elsewhere is the class's own ``__eq__`` or ``equals``, and what a pickle of the value keeps. A change must show in the
hash, or the value must be noted as opaque.
"""

from __future__ import annotations

import array
import collections
import contextlib
import copy
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import importlib.resources
import io
import ipaddress
import json
import math
import os
import pathlib
import pickle
import re
import subprocess
import sys
import time
import types
import uuid
import zoneinfo
from collections import OrderedDict, namedtuple
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import attrs
import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pydantic
import pytest

from flowtrace import hash_value, register_codec, traced_node
from flowtrace.values import codecs
from flowtrace.values.encode import encode
from flowtrace.values.json import loads

T = TypeVar("T")
NAN = math.nan


@dataclasses.dataclass
class Order:
    item: object
    count: int = 1


@dataclasses.dataclass
class Box(Generic[T]):
    item: T


@dataclasses.dataclass
class Text(io.StringIO):
    name: str


@dataclasses.dataclass(init=False)
class Day(dt.date):
    name: str = ""


@attrs.define
class Slots:
    item: object

    @functools.cached_property
    def twice(self):
        return [self.item, self.item]


@attrs.frozen(cache_hash=True)
class Key:
    name: str


class Struct(msgspec.Struct, frozen=True, cache_hash=True, dict=True):
    item: object


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    item: object = None
    more: object = None
    _private: object = pydantic.PrivateAttr(0)

    @pydantic.computed_field
    @functools.cached_property
    def twice(self) -> list:
        return [self.item, self.item]


class Page(pydantic.BaseModel, Generic[T]):
    items: list[T]


class Point(NamedTuple):
    x: int
    y: int


class Place(namedtuple("Place", "x y")):
    pass


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Number(int):
    pass


class Scalar(np.float64):
    pass


class Metres(np.ndarray):
    pass


class Masked(np.ma.MaskedArray):
    pass


class Frame(pd.DataFrame):
    _metadata = ("unit",)


class Column(pd.Series):
    pass


class Polar(pl.DataFrame):
    pass


class PolarColumn(pl.Series):
    pass


class Coded:
    def __init__(self, item):
        self.item = item


def scaled(factor):
    def decorate(function):
        @functools.wraps(function)
        def inner(*args):
            return function(*args) * factor

        return inner

    return decorate


def price():
    return 1


def local_class(factor):
    @dataclasses.dataclass
    class Local:
        item: int

        def total(self):
            return self.item * factor

    return Local


def with_state(value, **attributes):
    for name, item in attributes.items():
        if isinstance(value, Struct):  # it is frozen
            vars(value)[name] = item
        else:
            setattr(value, name, item)
    return value


def raised(cause=None, context=None, suppress=False, notes=()):
    error = ValueError("no")
    error.__context__ = context
    if cause is not None:
        error.__cause__ = cause
    error.__suppress_context__ = suppress
    for note in notes:
        error.add_note(note)
    return error


def zone_of_a_file(name):
    with importlib.resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return zoneinfo.ZoneInfo.from_file(file, key="Europe/Paris")


def moved(*keys):
    found = OrderedDict.fromkeys([1, 2, 3])
    for key in keys:
        found.move_to_end(key)
    return found


def noted(value, **attributes):
    value.attrs.update(attributes)
    return value


def nanoseconds(dtype, number=1):
    return pl.Series("t", [number], dtype=pl.Int64).cast(dtype)


def arrow_moments(dtype, number=1):
    return pa.array([number], pa.int64()).cast(dtype)


def nested_arrow(number):
    return pa.ListArray.from_arrays([0, 1], arrow_moments(pa.time64("ns"), number))


def arrow_table(nullable=True, field=None, schema=None, inner=None):
    kind = pa.struct([pa.field("x", pa.int64(), metadata=inner)])
    fields = [pa.field("a", pa.int64(), nullable, field), pa.field("b", kind)]
    return pa.table([[1], pa.array([{"x": 1}], kind)], pa.schema(fields, schema))


def dictionary(*words, ordered=False):
    return pa.DictionaryArray.from_arrays(pa.array([0]), list(words), ordered=ordered)


def dtype_of(**metadata):
    return np.dtype("i4", metadata=metadata)


def structured(*names):
    return np.zeros(1, [(name, "i4") for name in names])


def masked(fill=None, hard=False, mask=(0, 1), **attributes):
    made = with_state(np.ma.array([1, 2], mask=mask, fill_value=fill, hard_mask=hard), **attributes)
    return made


CHANGES = {
    "float": [NAN, math.inf, -math.inf, None, 0.0, -0.0],
    "str": [
        lambda: with_state(type("S", (str,), {})("a"), unit=1),
        lambda: with_state(type("S", (str,), {})("a"), unit=2),
    ],
    "int": [Number(1), with_state(Number(1), unit="m"), with_state(Number(1), unit="km")],
    "complex": [complex(NAN, 0), complex(0, NAN), complex(math.inf, 0), complex(0, 0), complex(-0.0, 0)],
    "bytes": [b"a", bytearray(b"a"), bytes(70_000), bytes(70_001), b"\0" * 69_999 + b"a"],
    "bytearray": [bytearray(b"a"), bytearray(b"b")],
    "memoryview": [memoryview(b"abcd"), memoryview(b"abcd").cast("H"), memoryview(b"abcd").cast("B", (2, 2))],
    "array.array": [array.array("b", [1]), array.array("B", [1]), array.array("b", [2]), array.array("b", [1, 2])],
    "decimal": [decimal.Decimal(text) for text in ("1", "1.0", "-0", "0", "NaN", "sNaN", "Infinity", "1E+2", "100")],
    "fraction": [fractions.Fraction(1, 3), fractions.Fraction(2, 3), fractions.Fraction(1, 2)],
    "uuid": [uuid.UUID(int=1), uuid.UUID(int=2), *(uuid.UUID(int=1, is_safe=safe) for safe in list(uuid.SafeUUID)[:2])],
    "ip": [
        *(ipaddress.ip_address("1.2.3.4"), ipaddress.ip_interface("1.2.3.4/8"), ipaddress.ip_interface("1.2.3.4/9")),
        *(ipaddress.ip_network("1.0.0.0/8"), ipaddress.ip_address("fe80::1"), ipaddress.ip_address("fe80::1%eth0")),
    ],
    "date": [dt.date(2026, 1, 1), dt.date(2026, 1, 2)],
    "time": [dt.time(1), dt.time(1, fold=1), dt.time(1, tzinfo=dt.UTC), dt.time(1, 0, 0, 1)],
    "datetime": [
        *(dt.datetime(2026, 1, 1, tzinfo=zone) for zone in (None, dt.UTC, zoneinfo.ZoneInfo("UTC"))),
        *(dt.datetime(2026, 1, 1, tzinfo=lambda_zone) for lambda_zone in (dt.timezone(dt.timedelta(0), "X"),)),
        *(dt.datetime(2026, 1, 1, fold=1), dt.datetime(2026, 1, 1, 0, 0, 0, 1)),
    ],
    "timedelta": [dt.timedelta(1), dt.timedelta(1, 1), dt.timedelta(1, 0, 1), dt.timedelta(-1)],
    "zone": [
        *(zoneinfo.ZoneInfo("Europe/Paris"), zoneinfo.ZoneInfo("Europe/Berlin")),
        *(lambda: zone_of_a_file("Asia/Tokyo"), lambda: zone_of_a_file("Asia/Kolkata")),
    ],
    "path": [pathlib.PurePosixPath("a"), pathlib.PureWindowsPath("a"), pathlib.PurePosixPath("b")],
    "range": [range(3), range(1, 3), range(0, 3, 2)],
    "slice": [slice(1), slice(0, 1), slice(0, 1, 1)],
    "pattern": [re.compile("a"), re.compile("a", re.I), re.compile("b"), re.compile(b"a")],
    "ellipsis": [..., NotImplemented],
    "notimplemented": [NotImplemented, ...],
    "missing": [lambda: Order.__new__(Order), Order(None), Order(1)],
    "module": [json, math, lambda: types.ModuleType("json"), lambda: types.ModuleType("math")],
    "function": [price, scaled(2)(price), scaled(3)(price), traced_node(scaled(2)(price)), len, print],
    "type": [Order, Point, lambda: local_class(1), lambda: local_class(2), pydantic.create_model("M", a=(int, 1))],
    "alias": [Box[int], Box[str], Box[list], Page, lambda: Generic[T]],
    "namespace": [types.SimpleNamespace(a=1), types.SimpleNamespace(a=2), types.SimpleNamespace(b=1)],
    "exception": [
        *(raised(), raised(cause=KeyError(1)), raised(cause=KeyError(2)), raised(context=KeyError(1))),
        *(raised(suppress=True), raised(notes=["a"]), raised(notes=["b"]), with_state(raised(), code=1)),
        *(OSError(1, "a"), OSError(1, "a", "file"), OSError(1, "a", "file", None, "other"), ImportError("a", name="x")),
        *(ImportError("a", path="x"), StopIteration(1), SystemExit(1), UnicodeDecodeError("u8", b"a", 0, 1, "no")),
        *(ExceptionGroup("g", [ValueError(1)]), ExceptionGroup("g", [ValueError(2)])),
        *(AttributeError("a", name="n", obj=1), AttributeError("a", name="n", obj=2), AttributeError("a", name="n")),
        *(with_state(raised(), obj=1), with_state(raised(), obj=2)),
    ],
    "dict": [
        *(
            {1: 2},
            collections.Counter({1: 2}),
            collections.defaultdict(int, {1: 2}),
            collections.defaultdict(str, {1: 2}),
        ),
        *(moved(), moved(1), moved(2), moved(1, 2)),
    ],
    "list": [with_state(type("L", (list,), {})(), unit=1), with_state(type("L", (list,), {})(), unit=2)],
    "tuple": [
        *(time.struct_time((1,) * 9, {"tm_gmtoff": 1}), time.struct_time((1,) * 9, {"tm_gmtoff": 2})),
        *(os.stat_result((1,) * 10, {"st_atime_ns": 1}), os.stat_result((1,) * 10, {"st_atime_ns": 2})),
    ],
    "set": [{1}, {2}, {1.0}, {NAN}],
    "frozenset": [frozenset({1}), frozenset({2})],
    "deque": [collections.deque([1]), collections.deque([1], 1), collections.deque([1], 2)],
    "namedtuple": [Point(1, 2), Place(1, 2), with_state(Place(1, 2), unit="m"), with_state(Place(1, 2), unit="km")],
    "enum": [Colour.RED, Colour.BLUE, enum.Enum("Colour", "RED").RED, enum.Enum("Colour", "RED BLUE").RED],
    "dataclass": [
        *(Order(1), Order(2), with_state(Order(1), unit="m"), Box(1), Box[int](1), Box[str](1)),
        *(lambda: local_class(1)(1), lambda: local_class(2)(1)),
        *(lambda: with_text("a"), lambda: with_text("b"), Day(2026, 1, 1), Day(2026, 1, 2)),
    ],
    "attrs": [Slots(1), Slots(2), Key("a"), Key("b")],
    "struct": [Struct(1), Struct(2), with_state(Struct(1), unit="m"), with_state(Struct(1), unit="km")],
    "pydantic": [
        *(Model(), Model(item=None), Model(more=None), Model(item=1), Model(other=1)),
        *(with_state(Model(), _private=1), Page[int](items=[]), Page[str](items=[]), Page[Order](items=[])),
        *(pydantic.create_model("M", a=(int, 1))(a=1), pydantic.create_model("M", a=(int, 2))(a=1)),
    ],
    "codec": [Coded(1), Coded(2), type("Coded", (Coded,), {})(1)],
    "array": [
        *(structured("a", "b"), structured("a", "c"), np.array([1], dtype_of()), np.array([1], dtype_of(unit="m"))),
        *(masked(), masked(fill=7), masked(hard=True), masked(mask=(1, 0)), with_state(masked(), _optinfo={"unit": 1})),
        *(with_state(masked().view(Masked), unit="m"), with_state(masked().view(Masked), unit="km")),
        *(with_state(np.zeros(1).view(Metres), unit="m"), with_state(np.zeros(1).view(Metres), unit="km"), np.zeros(1)),
        *(np.array(["a"], np.dtypes.StringDType(**more)) for more in ({}, {"na_object": None}, {"coerce": False})),
        *(np.zeros((0, 2)), np.zeros((2, 0)), np.zeros(1, "M8[s]"), np.zeros(1, "M8[2s]")),
    ],
    "numpy.scalar": [
        *(np.float64(1), Scalar(1), with_state(Scalar(1), unit="m"), with_state(Scalar(1), unit="km"), np.float32(1)),
        *(
            structured("a", "b")[0],
            structured("a", "c")[0],
            np.datetime64(1, "s"),
            np.datetime64(1, "ns"),
            np.float64(NAN),
        ),
    ],
    "numpy.dtype": [np.dtype("i4"), dtype_of(unit="m"), dtype_of(unit="km"), np.dtype(">i4"), structured("a").dtype],
    "pandas.frame": [
        *(
            pd.DataFrame({"a": [1]}),
            noted(pd.DataFrame({"a": [1]}), unit="m"),
            noted(pd.DataFrame({"a": [1]}), unit="km"),
        ),
        *(pd.DataFrame({"a": [1]}).set_flags(allows_duplicate_labels=False), pd.DataFrame(), pd.DataFrame(index=[1])),
        *(pd.DataFrame(columns=pd.Index([], dtype=kind)) for kind in ("float64", "str")),
        *(pd.DataFrame(columns=pd.CategoricalIndex([], categories=names)) for names in (["a"], ["b"])),
        *(pd.DataFrame([[1]], columns=pd.Index([1], dtype=kind)) for kind in ("int64", "int32", "object")),
        *(pd.DataFrame([[1]], columns=pd.MultiIndex.from_arrays([np.array([1], kind)])) for kind in ("i8", "i4")),
        *(with_state(Frame({"a": [1]}), unit="m"), with_state(Frame({"a": [1]}), unit="km")),
    ],
    "pandas.series": [
        *(pd.Series([1]), noted(pd.Series([1]), unit="m"), pd.Series([1]).set_flags(allows_duplicate_labels=False)),
        *(with_state(Column([1]), unit="m"), with_state(Column([1]), unit="km"), pd.Series([1], name="a")),
        *(pd.Series(["a"], dtype=f"string[{storage}]") for storage in ("python", "pyarrow")),
        *(
            pd.Series(pd.arrays.ArrowExtensionArray(pa.chunked_array([arrow_moments(pa.time64("ns"), n)])))
            for n in (1, 2)
        ),
        *(pd.Series(pd.arrays.SparseArray([1], fill_value=fill)) for fill in (0, 1)),
        *(
            pd.Series(pd.Categorical([1], categories, ordered))
            for categories in ([1], [1, 2])
            for ordered in (False, True)
        ),
    ],
    "pandas.index": [
        *(pd.date_range("2020", periods=2, freq="D"), pd.DatetimeIndex(pd.date_range("2020", periods=2).to_numpy())),
        *(pd.DatetimeIndex(["2020-01-01"], freq=freq) for freq in ("D", "h", "2D")),
        *(
            pd.DatetimeIndex(["2020-01-01"], freq=pd.offsets.CustomBusinessDay(holidays=[day]))
            for day in ("2020-05-01", "2020-05-04")
        ),
        *(pd.MultiIndex.from_arrays([np.array([1], kind), ["a"]]) for kind in ("i8", "i4", "f8")),
        *(pd.MultiIndex.from_arrays([pd.Categorical(["a"], names), [1]]) for names in (["a"], ["a", "b"])),
        *(pd.Index([1]), with_state(pd.Index([1]).view(), names=["x"]), pd.Index([1], dtype="i4")),
    ],
    "pandas.timestamp": [
        *(pd.Timestamp("2020").as_unit(unit) for unit in ("s", "ms", "us", "ns")),
        *(pd.Timestamp("2020", tz=zone) for zone in ("UTC", "Europe/Paris", dt.timezone(dt.timedelta(hours=1)))),
        pd.Timestamp(1577836800_000000001),
        *(pd.Timestamp(2020, 10, 25, 2, tz="Europe/Paris", fold=fold) for fold in (0, 1)),
    ],
    "pandas.timedelta": [pd.Timedelta(1, "ns"), pd.Timedelta(2, "ns"), pd.Timedelta(0).as_unit("s"), pd.Timedelta(0)],
    "pandas.period": [pd.Period("2020", "Y"), pd.Period("2020-01", "M"), pd.Period(ordinal=1, freq="ns")],
    "pandas.interval": [pd.Interval(0, 1), pd.Interval(0, 1, "left"), pd.Interval(0, 2), pd.Interval(0.0, 1.0)],
    "pandas.nat": [pd.NaT, pd.NA, None],
    "pandas.na": [pd.NA, pd.NaT, NAN],
    "polars.frame": [
        *(pl.DataFrame(), pl.DataFrame(height=3), pl.DataFrame({"a": []}), Polar({"a": [1]}), pl.DataFrame({"a": [1]})),
        *(with_state(Polar({"a": [1]}), unit="m"), with_state(Polar({"a": [1]}), unit="km")),
        *(nanoseconds(pl.Datetime("ns"), number).to_frame() for number in (1, 2)),
    ],
    "polars.series": [
        *(
            nanoseconds(kind, n)
            for kind in (pl.Datetime("ns"), pl.Duration("ns"), pl.Time, pl.Datetime("us"))
            for n in (1, 2)
        ),
        *(nanoseconds(pl.Time, n).implode() for n in (1, 2)),
        *(nanoseconds(pl.Time, n).to_frame().to_struct("t") for n in (1, 2)),
        *(nanoseconds(pl.Time, n).reshape((1, 1)) for n in (1, 2)),
        *(pl.Series("t", ["a"], dtype=pl.Enum(names)) for names in (["a"], ["a", "b"], [*map(str, range(99)), "a"])),
        *(with_state(PolarColumn("t", [1]), unit="m"), with_state(PolarColumn("t", [1]), unit="km")),
        *(nanoseconds(pl.Datetime("ns", zone)) for zone in ("UTC", "Europe/Paris")),
    ],
    "arrow.table": [
        *(arrow_table(), arrow_table(False), arrow_table(field={"k": "v"}), arrow_table(schema={"k": "v"})),
        *(arrow_table(inner={"k": "v"}), arrow_table(inner={"k": "w"})),
        *(pa.table({"a": [1] * rows}).select([]) for rows in (1, 2)),
    ],
    "arrow.batch": [batch for table in (arrow_table(), arrow_table(False)) for batch in table.to_batches()],
    "arrow.array": [
        *(nested_arrow(1), nested_arrow(2), dictionary("a"), dictionary("a", "b"), dictionary("a", ordered=True)),
        *(pa.StructArray.from_arrays([arrow_moments(pa.time64("ns"), n)], ["a"]) for n in (1, 2)),
        *(pa.array([[1]], pa.list_view(pa.int64())), pa.array([[1]])),
        *(arrow_moments(pa.timestamp("ns", zone)) for zone in (None, "UTC", "Europe/Paris")),
        *(arrow_moments(pa.duration("ns"), n) for n in (1, 2)),
        *(pa.UnionArray.from_sparse(pa.array([kind], pa.int8()), [pa.array([1]), pa.array([1])]) for kind in (0, 1)),
        *(pa.ExtensionArray.from_storage(pa.uuid(), pa.array([bytes([n]) * 16], pa.binary(16))) for n in (1, 2)),
    ],
    "arrow.chunked": [pa.chunked_array([arrow_moments(pa.time64("ns"), number)]) for number in (1, 2)],
}


def with_text(text):
    made = Text("a")
    io.StringIO.__init__(made, text)
    return made


@pytest.fixture
def codec():
    before = dict(codecs.REGISTERED)
    register_codec(Coded, lambda value: value.item, Coded)
    yield
    codecs.REGISTERED.clear()
    codecs.REGISTERED.update(before)
    codecs._PLANS.clear()


@pytest.mark.usefixtures("codec")
@pytest.mark.parametrize("kind", CHANGES)
def test_a_change_of_each_part_is_told_or_noted(kind):
    seen = {}
    kinds = set()
    for value in CHANGES[kind]:
        value = value() if isinstance(value, types.LambdaType) and value.__name__ == "<lambda>" else value
        encoded = encode(value)
        content = loads(encoded.data)
        kinds.add(content.get("$py") if isinstance(content, dict) else None)
        other = seen.get(encoded.data)
        assert other is None or encoded.opaque, f"{other!r} and {value!r} are both {encoded.data!r}"
        seen[encoded.data] = value
    assert kind in kinds or kind == "missing"


def leaves_of(part, path=()):
    """Yield each atom in what a pickle of a value keeps, with the way to it."""
    if type(part) in (tuple, list, dict):
        for at, inner in part.items() if type(part) is dict else enumerate(part):
            yield from leaves_of(inner, (*path, at))
    elif type(part) in OTHER:
        yield path, part


def put(part, path, atom):
    """Return a part with another atom in the place of one."""
    if not path:
        return atom
    pairs = part.items() if type(part) is dict else enumerate(part)
    changed = {at: put(inner, path[1:], atom) if at == path[0] else inner for at, inner in pairs}
    return changed if type(part) is dict else type(part)(changed.values())


def made_of(function, arguments, attributes=None, items=None, pairs=None):
    """Make a value of what `__reduce_ex__` gave, as `copy.copy` does."""
    items, pairs = (iter(part) if part is not None else None for part in (items, pairs))
    return copy._reconstruct(None, None, function, arguments, attributes, items, pairs)


OTHER = {
    int: lambda atom: atom + 1,
    float: lambda atom: atom + 1,
    bool: lambda atom: not atom,
    str: lambda atom: atom + "x",
    bytes: lambda atom: bytes([*atom[:-1], atom[-1] ^ 1]) if atom else b"x",
}
# What a pickle of these holds is a raw buffer: made up bytes in it are no value, or crash.
IN_BUFFERS = (
    "array",
    "numpy.dtype",
    "memoryview",
    "pandas.frame",
    "pandas.series",
    "pandas.index",
    "polars",
    "arrow",
    "codec",
)


def changes_of(value):
    """Yield values that a pickle tells from a value: each atom of what it keeps is changed in one of them."""
    parts = [list(part) if at > 2 and part else part for at, part in enumerate(value.__reduce_ex__(4))]
    before = pickle.dumps(made_of(*parts))
    for at, part in enumerate(parts):
        for path, atom in leaves_of(part) if at else ():
            with contextlib.suppress(Exception):  # there is no such value
                after = made_of(*parts[:at], put(part, path, OTHER[type(atom)](atom)), *parts[at + 1 :])
                if pickle.dumps(after) != before:
                    yield after


def test_whatever_a_pickle_keeps_of_a_value_is_told_or_noted():
    kinds = [kind for kind in CHANGES if not kind.startswith(IN_BUFFERS)]
    values = [value for kind in kinds for value in CHANGES[kind] if hasattr(type(value), "__reduce_ex__")]
    tried = 0
    for value in values:
        plain = encode(value)
        changed = []
        if type(value) is not types.FunctionType and not plain.opaque:
            with contextlib.suppress(Exception):  # it can't be pickled
                changed = list(changes_of(value))
        for other in changed:
            tried += 1
            assert encode(other).data != plain.data or encode(other).opaque, (value, other)
    assert tried > 200


def test_every_form_is_tried():
    folder = Path(codecs.__file__).parent
    text = "".join(path.read_text() for path in folder.glob("forms*.py")) + Path(codecs.__file__).read_text()
    found = set(
        re.findall(r'(?:Tag|_with_class|tag_with_state|_buffer|_record|_with_fields|_arrow_array)\(\s*"([\w.]+)"', text)
    )
    assert (
        found - CHANGES.keys() - {"pandas.values", "tensor"} == set()
    )  # the first is in a frame, and torch is no dependency


def test_what_is_only_kept_to_save_time_is_no_content():
    model, slots, key, struct = Model(item=1), Slots(1), Key("a"), Struct(1)
    masked_array, frame = masked(), pd.DataFrame({"a": [1]})
    index = pd.Index(["a"])
    values = [model, slots, key, struct, masked_array, frame, index]
    before = [hash_value(value) for value in values]
    looked_at = [
        model.twice,
        slots.twice,
        hash(key),
        hash(struct),
        masked_array.fill_value,
        frame["a"],
        index.is_unique,
    ]
    assert len(looked_at) == len(values)
    assert [hash_value(value) for value in values] == before
    assert [encode(value).opaque for value in values] == [()] * len(values)
    assert hash_value(copy.deepcopy(values)) == hash_value(values)


@pytest.mark.costly
def test_cached_hash_codes_do_not_differ_from_process_to_process(tmp_path):
    program = """
import attrs, msgspec, flowtrace
@attrs.frozen(cache_hash=True)
class Key:
    name: str
@attrs.frozen(cache_hash=True, slots=False)
class Open:
    name: str
class Struct(msgspec.Struct, frozen=True, cache_hash=True):
    name: str
values = [Key("tea"), Open("tea"), Struct("tea")]
print({hash(value) for value in values} and flowtrace.hash_value(values))
"""
    run = functools.partial(
        subprocess.run, [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, check=True
    )
    found = {run(env=os.environ | {"PYTHONHASHSEED": seed}).stdout for seed in ("0", "1", "2")}
    assert len(found) == 1


def test_classes_and_functions_that_a_module_has_are_not_opaque():
    for value in (
        Order,
        Order(1),
        Page[int](items=[1]),
        Page[Order](items=[]),
        traced.__wrapped__,
        Traced(1),
        price,
        Box[int](1),
    ):
        assert encode(value).opaque == (), value


@traced_node
def traced(value):
    return value


@dataclasses.dataclass
class Traced:
    item: object

    @traced_node
    def sell(self):
        return self.item


def test_a_local_class_is_noted_with_its_name():
    assert encode([local_class(1)(2)]).opaque == ("/0/class",)
    assert encode(local_class(1)).opaque == ("/class",)
    assert encode({"m": pydantic.create_model("M", a=(int, 1))(a=1)}).opaque == ("/m/class",)
