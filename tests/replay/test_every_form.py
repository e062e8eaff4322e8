"""Every tagged form comes back as it was, in whatever an annotation wraps it: of the same class, and with its hash."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import fractions
import ipaddress
import json
import pathlib
import re
import types
import uuid
import zoneinfo
from typing import Any, Generic, TypeVar

import numpy
import pandas
import pydantic
import pytest

from flowtrace import canonical_bytes, register_codec
from flowtrace.host.objects import class_name
from flowtrace.values.codecs import REGISTERED
from flowtrace.values.rebuild import Rebuilder
from flowtrace.values.rebuild_frames import FRAMES
from tests.ids import stable_repr
from tests.replay.test_rebuild import Access, Attrs, Colour, Name, Numbers, Pair, Point, Struct

T = TypeVar("T")


@dataclasses.dataclass
class Crate(Generic[T]):
    content: T


class Patch(pydantic.BaseModel):
    name: str = "x"
    age: int | None = None


class Rows(pydantic.RootModel[list[int]]):
    pass


class Money:
    def __init__(self, cents):
        self.cents = cents

    def __eq__(self, other):
        return type(other) is Money and other.cents == self.cents

    def __hash__(self):
        return hash(self.cents)


class Problem(Exception):
    def __eq__(self, other):
        return type(other) is Problem and other.args == self.args

    def __hash__(self):
        return hash(self.args)


VALUES = [
    (2**70, int),
    ("\ud800", str),
    (Name("Ada"), str),
    (1 + 2j, complex),
    (b"x", bytes),
    (bytearray(b"x"), bytearray),
    (memoryview(b"x"), memoryview),
    (decimal.Decimal("1.50"), decimal.Decimal),
    (fractions.Fraction(1, 3), fractions.Fraction),
    (uuid.UUID(int=1), uuid.UUID),
    (ipaddress.ip_address("10.0.0.1"), ipaddress.IPv4Address),
    (dt.date(2026, 11, 24), dt.date),
    (dt.time(12, 30), dt.time),
    (dt.datetime(2026, 11, 24, 12, 30, tzinfo=dt.UTC), dt.datetime),
    (dt.timedelta(days=1), dt.timedelta),
    (dt.timezone(dt.timedelta(hours=2)), dt.timezone),
    (zoneinfo.ZoneInfo("Europe/Paris"), dt.tzinfo),
    (pathlib.Path("a/b"), pathlib.Path),
    (pathlib.PurePosixPath("a/b"), pathlib.PurePosixPath),
    (pathlib.PureWindowsPath("a/b"), pathlib.PurePath),
    (range(3), range),
    (slice(1, None), slice),
    (re.compile("a+"), re.Pattern[str]),
    (..., types.EllipsisType),
    (NotImplemented, types.NotImplementedType),
    ({1: (2, 3)}, dict[int, tuple[int, int]]),
    (collections.OrderedDict(b=(1,), a=(2,)), collections.OrderedDict[str, tuple[int]]),
    (collections.Counter("aab"), collections.Counter[str]),
    (collections.defaultdict(list, {"a": [1]}), collections.defaultdict[str, list[int]]),
    ({(1, 2), (3, 4)}, set[tuple[int, int]]),
    (frozenset({(1, 2)}), frozenset[tuple[int, int]]),
    (collections.deque([(1, 2)], maxlen=4), collections.deque[tuple[int, int]]),
    (Numbers([1]), list[int]),
    (Colour.MIXED, Colour),
    (Access.READ | Access.WRITE, Access),
    (Pair(1, (2, 3)), Pair),
    (Point(1, (2, 3)), Point),
    (Crate[int](1), Crate[int]),
    (Crate((1, 2)), Crate[tuple[int, int]]),
    (Attrs(1, {3}), Attrs),
    (Struct(1, b"x"), Struct),
    (Patch(name="y"), Patch),
    (Patch(age=None), Patch),
    (Rows([1]), Rows),
    (types.SimpleNamespace(b=1, a=2), types.SimpleNamespace),
    (Problem("no", 1), Problem),
    (Colour, type[Colour]),
    (int, type[int]),
    (Money(3), Money),
    (numpy.float32(1.5), numpy.float32),
    (numpy.dtype("int64"), numpy.dtype),
    (pandas.Timestamp("2026-11-24", tz="Europe/Paris"), pandas.Timestamp),
    (pandas.Timedelta(hours=1), pandas.Timedelta),
]
OWN = {class_name(cls): cls for cls in map(type, (value for value, _ in VALUES)) if cls.__module__.startswith("tests.")}
WRAPPED = {
    "X": lambda value, hint: (value, hint),
    "X | None": lambda value, hint: (value, hint | None),
    "Y | X": lambda value, hint: (value, list[float] | dict[str, bool] | tuple[bool, ...] | hint),
    "tuple[X, ...]": lambda value, hint: ((value, value), tuple[hint, ...]),
    "tuple[X, X] | None": lambda value, hint: ((value, value), tuple[hint, hint] | None),
    "list[bool] | tuple[X, ...]": lambda value, hint: ((value, value), list[bool] | tuple[hint, ...]),
    "tuple[bool, ...] | list[X]": lambda value, hint: ([value], tuple[bool, ...] | list[hint]),
    "list[X | None]": lambda value, hint: ([value, None], list[hint | None]),
    "dict[str, X]": lambda value, hint: ({"a": value}, dict[str, hint]),
    "dict[str, bool] | dict[str, X]": lambda value, hint: ({"a": value}, dict[str, bool] | dict[str, hint]),
    "dict[int, tuple[X, ...]] | None": lambda value, hint: ({1: (value,)}, dict[int, tuple[hint, ...]] | None),
}


@pytest.fixture(autouse=True)
def _codec():
    register_codec(Money, lambda money: money.cents, Money)
    yield
    del REGISTERED[id(Money)]


def comes_back(value, hint, rebuilder):
    found = rebuilder.rebuild(json.loads(canonical_bytes(value)), hint)
    assert types_in(found) == types_in(value)
    assert found == value
    assert canonical_bytes(found) == canonical_bytes(value)
    return found


def types_in(value):
    inside = value.values() if isinstance(value, dict) else value if type(value) in (list, tuple) else ()
    return type(value), [types_in(item) for item in inside]


@pytest.mark.cells
@pytest.mark.parametrize("wrapper", WRAPPED)
@pytest.mark.parametrize(("value", "hint"), VALUES, ids=stable_repr)
def test_a_form_comes_back_from_whatever_wraps_it(value, hint, wrapper):
    comes_back(*WRAPPED[wrapper](value, hint), Rebuilder())


@pytest.mark.parametrize(("value", "hint"), VALUES, ids=stable_repr)
def test_a_form_comes_back_without_an_annotation(value, hint):
    if value is Colour:
        pytest.skip("a class is only taken where an annotation names it")
    if value == {1: (2, 3)}:
        pytest.skip("a tuple is a list without an annotation")
    if type(value) in (collections.OrderedDict, collections.deque, Crate):
        value = type(value)([1]) if type(value) is not collections.OrderedDict else type(value)(b=1, a=2)
    comes_back(value, Any, Rebuilder(OWN.get))


def test_every_form_is_tried():
    tried = {json.loads(canonical_bytes(value))["$py"] for value, _ in VALUES} | {"codec"}
    singletons = {"pandas.na", "pandas.nat"}
    assert Rebuilder._KINDS.keys() - tried <= {"float", "tuple", *singletons, *FRAMES}  # frames: test_frames.py


def test_a_model_keeps_which_of_its_fields_were_set_and_their_order():
    given = comes_back(Patch(name="y"), Patch, Rebuilder())
    assert given.model_dump(exclude_unset=True) == {"name": "y"}
    assert comes_back(Patch(age=None), Patch, Rebuilder()).model_dump(exclude_unset=True) == {"age": None}
    assert list(vars(given)) == ["name", "age"]


def test_fields_come_back_in_the_order_of_their_class():
    @dataclasses.dataclass
    class Row:
        last: int
        first: int

    found = Rebuilder().rebuild(json.loads(canonical_bytes(Row(1, 2))), Row)
    assert list(vars(found)) == ["last", "first"]


def test_the_alias_that_made_a_generic_instance_comes_back():
    crate = comes_back(Crate[int](1), Crate[int], Rebuilder())
    assert crate.__orig_class__ == Crate[int]
    assert comes_back(Crate[Point](Point(1)), Crate[Point], Rebuilder()).__orig_class__ == Crate[Point]
    assert not hasattr(comes_back(Crate(1), Crate[int], Rebuilder()), "__orig_class__")


def test_an_alias_with_a_class_that_no_annotation_names_is_left_out():
    found = Rebuilder().rebuild(json.loads(canonical_bytes(Crate[Colour](1))), Crate[int])
    assert not hasattr(found, "__orig_class__")
    assert canonical_bytes(found) != canonical_bytes(Crate[Colour](1))


@pytest.mark.parametrize(
    ("content", "hint", "unsure"),
    [
        ([1], Any, 1),
        ([[1], [2]], Any, 3),
        ([1], collections.abc.Sequence[int], 1),
        ([1], list[int], 0),
        ([1], tuple[int, ...] | None, 0),
        ([1], tuple[int, ...] | list[int], 1),
        ({"$py": "set", "items": [[1, 2]]}, Any, 0),
        (json.loads(canonical_bytes(pandas.DataFrame({"a": [1]}))), Any, 0),
        (json.loads(canonical_bytes(pandas.Series([(1, 2), [3]], dtype=object))), Any, 2),
    ],
    ids=str,
)
def test_an_array_that_may_have_been_a_tuple_is_counted(content, hint, unsure):
    rebuilder = Rebuilder()
    rebuilder.rebuild(content, hint)
    assert rebuilder.unsure_arrays == unsure
