"""What values are made of: standard types, records, the users' own codecs, and what has no honest content."""

from __future__ import annotations

import array
import collections
import dataclasses
import enum
import fractions
import gc
import ipaddress
import json
import pathlib
import re
import socket
import threading
import types
import uuid
import weakref
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import cached_property, partial
from typing import NamedTuple
from unittest.mock import Mock
from zoneinfo import ZoneInfo

import attrs
import msgspec
import pydantic
import pytest

from flowtrace import canonical_bytes, hash_value
from flowtrace.values.encode import encode
from flowtrace.values.json import loads, plain

HERE = __name__
NAN, INF = float("nan"), float("inf")


class Text(str):
    pass


class Number(int):
    pass


class Real(float):
    pass


class Words(list):
    pass


class Slotted(list):
    __slots__ = ("extra",)


class Pair(tuple):
    pass


class Basket(dict):
    pass


class Bag(set):
    pass


class Blob(bytes):
    pass


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(str, enum.Enum):  # noqa: UP042
    SMALL = "s"


class Level(enum.IntEnum):
    LOW = 1


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Order:
    item: object
    count: int = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    item: object


class Derived(Order):
    pass


class DerivedSlots(Frozen):
    __slots__ = ("more",)


@dataclasses.dataclass
class Problem(Exception):
    code: int


@dataclasses.dataclass
class Table(dict):
    name: str


@attrs.define
class Slots:
    item: object


@attrs.define(slots=False)
class Open:
    item: object


class Struct(msgspec.Struct):
    item: object
    count: int = 1


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    item: int
    _private: int = pydantic.PrivateAttr(0)


class Plain:
    def __init__(self, item=None):
        self.item = item


def with_state(value, **attributes):
    for name, item in attributes.items():
        setattr(value, name, item)
    return value


def tagged(value):
    document = loads(canonical_bytes(value))
    assert list(document) == sorted(document)
    return document


def same_function():
    return lambda: 1


FORMS = [
    (Text("a"), {"$py": "str", "class": f"{HERE}:Text", "value": "a"}),
    (with_state(Number(3), unit="m"), {"$py": "int", "class": f"{HERE}:Number", "state": {"unit": "m"}, "value": 3}),
    (Real(1.5), {"$py": "float", "class": f"{HERE}:Real", "value": 1.5}),
    (Words([1]), {"$py": "list", "class": f"{HERE}:Words", "items": [1]}),
    (with_state(Slotted(), extra=1), {"$py": "list", "class": f"{HERE}:Slotted", "items": [], "state": {"extra": 1}}),
    (Pair((1,)), {"$py": "tuple", "class": f"{HERE}:Pair", "items": [1]}),
    (Basket(a=1), {"$py": "dict", "class": f"{HERE}:Basket", "items": [["a", 1]]}),
    (Bag({1}), {"$py": "set", "class": f"{HERE}:Bag", "items": [1]}),
    (2**64, {"$py": "int", "hex": "0x10000000000000000"}),
    (-(2**63) - 1, {"$py": "int", "hex": "-0x8000000000000001"}),
    (NAN, {"$py": "float", "value": "nan"}),
    (-INF, {"$py": "float", "value": "-inf"}),
    ({INF, None}, {"$py": "set", "items": [None, {"$py": "float", "value": "inf"}]}),
    (Real(NAN), {"$py": "float", "class": f"{HERE}:Real", "value": {"$py": "float", "value": "nan"}}),
    ("\ud800", {"$py": "str", "surrogates": "7aCA"}),
    ({"\ud800": 1}, {"$py": "dict", "items": [[{"$py": "str", "surrogates": "7aCA"}, 1]]}),
    ({1: "a", None: "b", (1, 2): "c"}, {"$py": "dict", "items": [[1, "a"], [[1, 2], "c"], [None, "b"]]}),
    (Colour.RED, {"$py": "enum", "class": f"{HERE}:Colour", "name": "RED", "value": "red"}),
    (Size.SMALL, {"$py": "enum", "class": f"{HERE}:Size", "name": "SMALL", "value": "s"}),
    (Level.LOW, {"$py": "enum", "class": f"{HERE}:Level", "name": "LOW", "value": 1}),
    (Right.READ | Right.WRITE, {"$py": "enum", "class": f"{HERE}:Right", "name": "READ|WRITE", "value": 3}),
    (uuid.UUID(int=1), {"$py": "uuid", "value": "00000000-0000-0000-0000-000000000001"}),
    (Order("tea"), {"$py": "dataclass", "class": f"{HERE}:Order", "fields": {"item": "tea", "count": 1}}),
    (Frozen(1), {"$py": "dataclass", "class": f"{HERE}:Frozen", "fields": {"item": 1}}),
    (
        with_state(Derived(1), more=2),
        {"$py": "dataclass", "class": f"{HERE}:Derived", "fields": {"item": 1, "count": 1}, "state": {"more": 2}},
    ),
    (Point(1, 2), {"$py": "namedtuple", "class": f"{HERE}:Point", "fields": {"x": 1, "y": 2}}),
    (Slots(1), {"$py": "attrs", "class": f"{HERE}:Slots", "fields": {"item": 1}}),
    (Open(1), {"$py": "attrs", "class": f"{HERE}:Open", "fields": {"item": 1}}),
    (Struct(1), {"$py": "struct", "class": f"{HERE}:Struct", "fields": {"item": 1, "count": 1}}),
    (
        Model(item=1, other=2),
        {"$py": "pydantic", "class": f"{HERE}:Model", "fields": {"item": 1, "other": 2}, "state": {"_private": 0}},
    ),
    (Decimal("1.50"), {"$py": "decimal", "value": "1.50"}),
    (fractions.Fraction(1, 3), {"$py": "fraction", "denominator": 3, "numerator": 1}),
    (1 + 2j, {"$py": "complex", "imag": 2.0, "real": 1.0}),
    (date(2026, 11, 24), {"$py": "date", "value": "2026-11-24"}),
    (time(12, 30, fold=1), {"$py": "time", "fold": 1, "value": "12:30:00"}),
    (datetime(2026, 1, 1), {"$py": "datetime", "value": "2026-01-01T00:00:00"}),
    (datetime(2026, 1, 1, tzinfo=UTC), {"$py": "datetime", "offset": "UTC", "value": "2026-01-01T00:00:00"}),
    (
        datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Paris"), fold=1),
        {"$py": "datetime", "fold": 1, "value": "2026-10-25T02:30:00", "zone": "Europe/Paris"},
    ),
    (timedelta(hours=1), {"$py": "timedelta", "days": 0, "microseconds": 0, "seconds": 3600}),
    (pathlib.PosixPath("a/b"), {"$py": "path", "flavour": "posix", "value": "a/b"}),
    (pathlib.PurePosixPath("a/b"), {"$py": "path", "flavour": "posix", "pure": True, "value": "a/b"}),
    ({3, 1, 2}, {"$py": "set", "items": [1, 2, 3]}),
    ({"a", 1, (1,), b"x"}, {"$py": "set", "items": ["a", 1, [1], {"$py": "bytes", "base64": "eA=="}]}),
    (
        collections.OrderedDict(b=1, a=2),
        {"$py": "dict", "class": "collections:OrderedDict", "items": [["b", 1], ["a", 2]]},
    ),
    (types.SimpleNamespace(a=1), {"$py": "namespace", "fields": {"a": 1}}),
    (range(3), {"$py": "range", "start": 0, "step": 1, "stop": 3}),
    (
        FileNotFoundError(2, "no", "f"),
        {
            "$py": "exception",
            "args": [2, "no"],
            "class": "builtins:FileNotFoundError",
            "state": {"errno": 2, "filename": "f", "strerror": "no"},
        },
    ),
    (Order, {"$py": "type", "class": f"{HERE}:Order"}),
    (same_function, {"$py": "function", "name": f"{HERE}:same_function"}),
    (..., {"$py": "ellipsis"}),
]


@pytest.mark.parametrize(("value", "form"), FORMS, ids=[str(form)[:60] for _, form in FORMS])
def test_a_value_has_its_documented_form(value, form):
    assert tagged(value) == form
    assert plain(value) is None
    assert encode(value).opaque == ()


@pytest.mark.parametrize("size", [0, 1, 2, 3, 65_536, 65_537, 3_000_000])
def test_bytes_of_all_sizes(size):
    data = bytes(size)
    forms = [canonical_bytes(kind(data)) for kind in (bytes, bytearray, memoryview, Blob)]
    assert len(set(forms)) == 4
    assert all(len(form) < 400_000 for form in forms)
    assert canonical_bytes(data) != canonical_bytes(bytes(size + 1))
    assert canonical_bytes(data) == canonical_bytes(bytes(size))


DIFFERENT = [
    *(1, 1.0, True, "1", b"1", bytearray(b"1"), Decimal(1), Decimal("1.0"), fractions.Fraction(1), 1 + 0j, Number(1)),
    *(None, [None], NAN, INF, -INF, [NAN], [INF], {"a": None}, {"a": NAN}, {NAN}, {None}, {NAN: 1}, {None: 2}, "nan"),
    *(
        complex(NAN, 1),
        complex(1, NAN),
        complex(INF, 1),
        Real(NAN),
        Real(INF),
        {"nan"},
        {"$py": "float", "value": "nan"},
    ),
    *(0, 0.0, -0.0, False, "", b"", [], {}, set(), frozenset(), collections.deque(), range(0)),
    *(Real(1.0), Text("1"), Level.LOW, "LOW", Size.SMALL, "s", Text("s"), Colour.RED, Colour.BLUE, "red"),
    *([1, 2], {1, 2}, frozenset({1, 2}), {"0": 1, "1": 2}, {0: 1, 1: 2}, Point(1, 2), Pair((1, 2)), Words([1, 2])),
    *(collections.deque([1, 2]), collections.deque([1, 2], 3), array.array("b", [1, 2]), array.array("i", [1, 2])),
    *({"a": 1}, Basket(a=1), collections.Counter(a=1), collections.OrderedDict(a=1), types.SimpleNamespace(a=1)),
    *(collections.defaultdict(int, a=1), collections.defaultdict(list, a=1), [["a", 1]], {("a", 1)}),
    *(with_state(Text("a"), x=1), with_state(Text("a"), x=2), Text("a"), with_state(Slotted(), extra=1)),
    *(Slotted(), with_state(Slotted(), extra=2), Words()),
    *(Order(1), Order(2), Derived(1), with_state(Derived(1), more=1), with_state(Derived(1), more=2), {"item": 1}),
    *(Frozen(1), DerivedSlots(1), Slots(1), Open(1), Struct(1), Model(item=1), Model(item=1, other=1)),
    *(with_state(Model(item=1), _private=5), with_state(Order(1), later=1)),
    *(Problem(1), Problem(2), Table("a"), with_state(Table("a"), name="b")),
    *(
        ValueError(1),
        ValueError("1"),
        KeyError(1),
        with_state(ValueError(1), code=1),
        with_state(ValueError(1), code=2),
    ),
    *(OSError(2, "x", "a"), OSError(2, "x", "b"), OSError(2, "x"), ExceptionGroup("g", [ValueError(1)])),
    *(datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, fold=1), date(2026, 1, 1)),
    *(datetime(2026, 1, 1, tzinfo=ZoneInfo("UTC")), datetime(2026, 1, 1, tzinfo=ZoneInfo("Europe/London"))),
    *(
        datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1))),
        datetime(2026, 1, 1, tzinfo=timezone(timedelta(0), "X")),
    ),
    *(datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1), "X")), "2026-01-01", "2026-01-01T00:00:00"),
    *(
        UTC,
        ZoneInfo("UTC"),
        timezone(timedelta(hours=1)),
        timezone(timedelta(hours=1), "X"),
        timezone(timedelta(0), "X"),
    ),
    *(time(0), time(0, tzinfo=UTC), time(0, fold=1), timedelta(0), timedelta(1), timedelta(seconds=1)),
    *(pathlib.PurePosixPath("a"), pathlib.PureWindowsPath("a"), pathlib.Path("b"), "a"),
    *(uuid.UUID(int=1), uuid.UUID(int=2), str(uuid.UUID(int=1)), ipaddress.ip_address("1.2.3.4"), "1.2.3.4"),
    *(ipaddress.ip_network("1.2.3.4"), ipaddress.ip_interface("1.2.3.4")),
    *(2**64, 2**64 + 1, -(2**64), str(2**64), 10**5000, 10**5000 + 1, "\ud800", "\udfff", "\\ud800"),
    *(re.compile("a"), re.compile("a", re.I), re.compile(b"a"), int, str, Order, same_function, len, print, json),
    *(slice(1), slice(0, 1), range(1), range(0, 1, 2), ..., NotImplemented, memoryview(b"ab"), b"ab"),
    *(memoryview(bytes(6)).cast("B", (2, 3)), memoryview(bytes(6)).cast("B", (3, 2)), bytes(6)),
    *({"$py": "set", "items": []}, {"$py": "int", "hex": "0x10000000000000000"}, {"$py": "ellipsis"}),
    *({"__proto__": 1}, {Text("a"): 1}, {b"a": 1}, {None: 1}, {"None": 1}, {"null": 1}, {True: 1}, {"true": 1}),
]


def test_different_values_never_have_one_hash():
    seen = {}
    for value in DIFFERENT:
        encoded = encode(value)
        assert encoded.opaque == (), value
        other = seen.setdefault(encoded.data, value)
        assert other is value, f"{other!r} and {value!r} are both {encoded.data!r}"
        assert hash_value(value) == encoded.digest


def test_a_cached_property_does_not_change_a_hash():
    @dataclasses.dataclass
    class Report:
        rows: list

        @cached_property
        def total(self):
            return sum(self.rows)

    report = Report([1, 2])
    before = hash_value(report)
    assert report.total == 3
    assert hash_value(report) == before


EQUAL = [
    ((1, 2), [1, 2]),
    ({"b": 1, "a": 2}, {"a": 2, "b": 1}),
    ({1: 1, "1": 2}, {"1": 2, 1: 1}),
    (set("abcdefgh"), set("hgfedcba")),
    (frozenset([(1, 2), "x"]), frozenset(["x", (1, 2)])),
    (Order([1]), Order([1])),
    (uuid.UUID(int=7), uuid.UUID(str(uuid.UUID(int=7)))),
    (Decimal("1.50"), Decimal("1.50")),
    (NAN, -NAN),
    (memoryview(bytearray(b"ab")), memoryview(b"ab")),
    (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=timezone(timedelta(0)))),
    ("\x7f", "".join(["\x7f"])),
]


@pytest.mark.parametrize(("one", "other"), EQUAL, ids=lambda value: type(value).__name__)
def test_equal_content_has_one_hash(one, other):
    assert canonical_bytes(one) == canonical_bytes(other)
    assert hash_value(one) == hash_value(other)


OPAQUE = {
    "lock": threading.Lock(),
    "generator": (n for n in ()),
    "lambda": same_function(),
    "object": object(),
    "plain": Plain(1),
    "mock": Mock(),
    "method": Plain().__init__,
    "bound": [].append,
    "partial": partial(print),
    "iterator": iter([]),
    "zone": type("Zone", (timezone.__base__,), {})(),
    "event": threading.Event(),
    "view": {}.keys(),
}


@pytest.mark.parametrize("name", OPAQUE)
def test_what_has_no_content_is_opaque_and_named(name):
    cls = type(OPAQUE[name])
    form = {"$py": "opaque", "class": f"{cls.__module__}:{cls.__qualname__}"}
    encoded = encode({"a": [OPAQUE[name]]})
    assert loads(encoded.data) == {"a": [form]}
    assert encoded.opaque == ("/a/0",)


def test_an_open_socket_is_opaque_and_untouched():
    with socket.socket() as open_socket:
        encoded = encode([open_socket])
        assert encoded.opaque == ("/0",)
        assert open_socket.fileno() >= 0


@pytest.mark.parametrize("slots", [False, True])
@pytest.mark.parametrize("library", [dataclasses.dataclass, attrs.define], ids=["dataclass", "attrs"])
def test_a_class_whose_instances_were_encoded_goes_when_the_program_lets_go_of_it(library, slots):
    class Made:
        value: int = 1

    made = library(Made, slots=slots)
    first, again = encode(made(1)), encode([made(1)] * 300)
    assert b'"fields":{"value":1}' in first.data
    assert again.data.count(b'"fields":{"value":1}') == 300
    reference = weakref.ref(made)
    del Made, made
    gc.collect()
    assert reference() is None


def test_no_code_that_a_program_puts_into_a_class_later_runs():
    asked = []

    @dataclasses.dataclass(slots=True)
    class Made:
        value: int = 1

    made = Made()
    before = encode(made).data
    Made.value = property(lambda self: asked.append("asked"))
    assert encode(made).data != before
    assert asked == []
