"""Values come back from their canonical JSON: of the same class, with the same hash."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import http
import ipaddress
import json
import math
import pathlib
import re
import types
import typing
import uuid
import zoneinfo
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, NotRequired, TypedDict, TypeVar

import attrs
import msgspec
import numpy
import pandas
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowtrace import FlowtraceError, RebuildError, canonical_bytes, hash_value, register_codec
from flowtrace.values.codecs import REGISTERED
from flowtrace.values.rebuild import rebuild
from tests.ids import stable_repr

T = TypeVar("T")
Few = TypeVar("Few", tuple[int, int], str)


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: tuple[int, ...] = ()


@dataclasses.dataclass
class Box(Generic[T]):
    content: T
    more: list[T] = dataclasses.field(default_factory=list)
    total: int = dataclasses.field(init=False, default=0)

    def __post_init__(self):
        self.total = len(self.more)


class Colour(enum.Enum):
    RED = "red"
    MIXED = (1, 2)


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Size(enum.IntEnum):
    SMALL = 1


class Pair(NamedTuple):
    a: int
    b: tuple[int, int] = (0, 0)


@attrs.define
class Attrs:
    _hidden: int
    numbers: set[int]


class Struct(msgspec.Struct, frozen=True):
    a: int
    b: bytes = b""


class Model(pydantic.BaseModel):
    model_config = {"extra": "allow"}
    a: int
    b: tuple[int, ...] = ()
    _private: int = pydantic.PrivateAttr(3)


class Typed(TypedDict):
    key: tuple[int, str]
    other: NotRequired[list[tuple[int, int]]]


class Name(str):
    pass


class Numbers(list):
    pass


class Moment(dt.datetime):
    pass


class Broken(Exception):
    def __init__(self, needed, also):
        super().__init__(needed)
        self.also = also


class Base:
    pass


@dataclasses.dataclass
class Derived(Base):
    x: int


UserId = NewType("UserId", tuple[int, int])
WITH_STATE = Name("Ada")
WITH_STATE.born = 1815

VALUES = [
    (Point(1, (2, 3)), Point),
    (Box((1, 2), [(3, 4)]), Box[tuple[int, int]]),
    ([Box(Point(1), [Point(2)])], list[Box[Point]]),
    (Colour.RED, Colour),
    (Colour.MIXED, Colour | None),
    (Access.READ | Access.WRITE, Access),
    (Size.SMALL, Size),
    (http.HTTPStatus.OK, http.HTTPStatus),
    (Pair(1, (2, 3)), Pair),
    (Attrs(1, {3}), Attrs),
    (Struct(1, b"x"), Struct),
    (Model(a=1, b=(1,), extra=2), Model),
    ({"key": (1, "a"), "other": [(1, 2)]}, Typed),
    (Derived(1), Base),
    (Name("x"), Name),
    (WITH_STATE, str),
    (Numbers([1]), list),
    (Moment(2026, 11, 24, 12, tzinfo=dt.UTC), dt.datetime),
    ((1, 2), UserId),
    ((1, 2), Few),
    ((1, (2,)), tuple[int, tuple[int]]),
    ([(1, 2), (3, 4)], list[tuple[int, int]] | None),
    ([(1, 2)], typing.List[typing.Tuple[int, int]]),  # noqa: UP006  # users still write it so
    ((1, "a"), tuple[int, int] | tuple[int, str] | list[int]),
    ([1], tuple[int, int] | list[int]),
    ((1, 2), Annotated[tuple[int, ...], "positive"]),
    ({"a": (1,)}, dict[str, tuple[int, ...]]),
    ({"a": (1,)}, collections.abc.Mapping[str, tuple[int, ...]]),
    ({(1, 2): (3,)}, dict[tuple[int, int], tuple[int, ...]]),
    ({(1, 2): 3, None: 4, 5: 6}, Any),
    ({frozenset({1}), (1, (2, 3))}, Any),
    (collections.deque([(1,)], maxlen=5), collections.deque[tuple[int]]),
    (collections.OrderedDict(b=1, a=2), Any),
    (collections.Counter("aab"), Any),
    (collections.defaultdict(list, {"a": [1]}), Any),
    ("x", Literal["x"]),
    (None, None),
    (True, bool | str),
    (2**70, int),
    ("\ud800", str),
    (1 + 2j, Any),
    (b"x", Any),
    (bytearray(b"y"), Any),
    (decimal.Decimal("1.50"), Any),
    (fractions.Fraction(1, 3), Any),
    (uuid.UUID(int=1), Any),
    (dt.date(2026, 11, 24), Any),
    (dt.datetime(2026, 10, 25, 2, 30, tzinfo=zoneinfo.ZoneInfo("Europe/Paris"), fold=1), Any),
    (dt.datetime(2026, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=-5, minutes=-30, seconds=-1), "odd")), Any),
    (dt.time(12, 30, 1, 5, tzinfo=dt.UTC), Any),
    (dt.timedelta(days=-1, seconds=2, microseconds=3), Any),
    (dt.timezone(dt.timedelta(hours=2)), Any),
    (zoneinfo.ZoneInfo("Europe/Paris"), Any),
    (pathlib.Path("a/b"), Any),
    (pathlib.PurePosixPath("a/b"), pathlib.PurePosixPath),
    (pathlib.PureWindowsPath("a/b"), Any),
    (ipaddress.ip_network("10.0.0.0/8"), Any),
    (range(3), Any),
    (slice(1, None), Any),
    (re.compile("a+", re.IGNORECASE), Any),
    (re.compile(b"a+"), Any),
    (types.SimpleNamespace(a=1), Any),
    (memoryview(b"abc"), Any),
    (int, Any),
    (Colour, type[enum.Enum]),
    (..., Any),
    (NotImplemented, Any),
    (numpy.float32(1.5), Any),
    (numpy.complex64(1 + 2j), Any),
    (numpy.dtype("int64"), Any),
    (pandas.Timestamp("2026-11-24", tz="Europe/Paris"), Any),
    (pandas.Timedelta(hours=1), Any),
]


def content_of(value):
    return json.loads(canonical_bytes(value))


@pytest.mark.parametrize(("value", "hint"), VALUES, ids=stable_repr)
def test_a_value_comes_back_equal_and_of_the_same_class(value, hint):
    found = rebuild(content_of(value), hint)
    assert type(found) is type(value)
    assert found == value
    assert hash_value(found) == hash_value(value)


@pytest.mark.parametrize("error", [ValueError("no", 1), KeyError("k"), OSError(2, "gone", "file"), Broken("a", also=2)])
def test_an_exception_comes_back_with_its_arguments_and_state(error):
    found = rebuild(content_of(error), BaseException)
    assert (type(found), found.args, vars(found)) == (type(error), error.args, vars(error))
    assert hash_value(found) == hash_value(error)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_nan_and_infinities_come_back_under_every_annotation(number):
    content = content_of(number)
    for hint in (Any, float, float | None, str | float):
        assert repr(rebuild(content, hint)) == repr(number)
    assert repr(rebuild([content, None], list[str] | tuple[float | None, ...])) == repr((number, None))
    assert repr(rebuild(content_of(complex(number, 1)))) == repr(complex(number, 1))
    assert rebuild(None, float) is None
    with pytest.raises(RebuildError):
        rebuild({"$py": "float", "value": "1_0"}, float)


def test_without_a_word_about_it_an_array_is_a_list():
    assert rebuild([[1], 2]) == [[1], 2]
    assert rebuild([[1], 2], typing.Sequence) == [[1], 2]


def test_private_state_of_a_model_comes_back():
    model = Model(a=1)
    model._private = 7
    assert rebuild(content_of(model), Model)._private == 7


def test_no_init_and_no_validator_of_the_user_runs():
    box = Box((1,), [])
    box.total = 99  # __post_init__ would count again
    model = Model.model_construct(a="not a number")
    assert rebuild(content_of(box), Box).total == 99
    assert rebuild(content_of(model), Model).a == "not a number"


def test_a_field_that_a_class_has_got_since_takes_its_default():
    assert rebuild({"$py": "dataclass", "class": f"{__name__}:Point", "fields": {"x": 1}}, Point) == Point(1, ())
    assert rebuild({"$py": "pydantic", "class": f"{__name__}:Model", "fields": {"a": 1}}, Model).b == ()
    assert rebuild({"$py": "namedtuple", "class": f"{__name__}:Pair", "fields": {"a": 1}}, Pair) == Pair(1)


def test_a_registered_codec_decodes():
    class Money:
        def __init__(self, cents):
            self.cents = cents

    register_codec(Money, lambda money: {"cents": money.cents}, lambda content: Money(content["cents"]))
    try:
        assert rebuild(content_of(Money(5)), Any).cents == 5
    finally:
        REGISTERED.pop(id(Money))


def test_forward_references_that_only_type_checkers_know_count_as_anything():
    namespace = {"__name__": __name__, "dataclasses": dataclasses}
    exec(
        "from __future__ import annotations\n"
        "@dataclasses.dataclass\n"
        "class Odd:\n"
        "    known: tuple[int, ...]\n"
        "    unknown: Missing\n",
        namespace,
    )
    odd = namespace["Odd"]((1,), [2])
    assert rebuild(content_of(odd), namespace["Odd"]) == odd


# --- what a trace must not do


class Loaded:
    """Not marked as a record of any kind."""

    made = 0

    def __init__(self):
        Loaded.made += 1


REFUSED = [
    ({"$py": "opaque", "class": "a:b"}, Any, "its content was not recorded: it is opaque"),
    ({"$py": "cut", "reason": "repeated"}, Any, "its content was not recorded: it was cut"),
    ({"$py": "cycle", "up": 1}, Any, "it holds itself, which can't be rebuilt"),
    (
        {"$py": "function", "name": "os:system"},
        Any,
        "it is a function, and a trace must not choose which one is called",
    ),
    ({"$py": "module", "name": "os"}, Any, "it is a module, and a trace must not choose which one is used"),
    ({"$py": "array", "blake3": "00", "dtype": "<f8", "shape": [2]}, Any, "of an array only the hash was kept"),
    (
        {"$py": "bytes", "blake3": "00", "size": 99999},
        Any,
        "this bytes can't be rebuilt: ValueError: of 99999 bytes only",
    ),
    ({"$py": "no such kind"}, Any, "'no such kind' is not a form that can be rebuilt"),
    ({"$py": ["a"]}, Any, "['a'] is not a form that can be rebuilt"),
    ({"$py": "bytes", "base64": "!"}, Any, "this bytes can't be rebuilt: Error: "),
    ({"$py": "decimal", "value": 1.5}, Any, "this decimal can't be rebuilt: TypeError: a value of type str"),
    (
        {"$py": "datetime", "value": "2026-01-01", "offset": "UTC+99"},
        Any,
        "this datetime can't be rebuilt: ValueError: ",
    ),
    ({"$py": "zone", "zone": "../../etc/passwd"}, Any, "this zone can't be rebuilt: "),
    ({"$py": "range", "start": "a", "stop": 1, "step": 1}, Any, "this range can't be rebuilt: TypeError: "),
    ({"$py": "dict", "items": 5}, Any, "this dict can't be rebuilt: TypeError: "),
    ({"$py": "set", "items": [{"a": 1}]}, Any, "this set can't be rebuilt: TypeError: "),
    ({"$py": "codec", "class": "a:b", "value": 1}, Any, "no codec is registered for a:b"),
    ({"$py": "dataclass", "class": f"{__name__}:Point", "fields": {}}, Any, f"the class {__name__}:Point is not the"),
    (
        {"$py": "dataclass", "class": f"{__name__}:Loaded", "fields": {}},
        Loaded,
        f"{__name__}:Loaded is not a dataclass",
    ),
    (
        {"$py": "dataclass", "class": f"{__name__}:Point", "fields": {"z": 1}},
        Point,
        "this dataclass can't be rebuilt: ",
    ),
    ({"$py": "enum", "class": f"{__name__}:Colour", "name": "__class__", "value": 1}, Colour, "this enum can't be "),
    (
        {"$py": "str", "class": "subprocess:Popen", "value": "x"},
        str,
        "the class subprocess:Popen is not the annotation's",
    ),
    (
        {"$py": "type", "class": "subprocess:Popen"},
        Any,
        "the class subprocess:Popen is an argument, and the annotation",
    ),
    ({"$py": "type", "class": "subprocess:Popen"}, type[enum.Enum], "the class subprocess:Popen is an argument, and"),
    ({"$py": "exception", "class": "os:error", "args": []}, Any, "the class os:error is not the annotation's, nor in"),
    ({"$py": "exception", "class": "builtins:print", "args": ["x"]}, Any, "the class builtins:print is not the"),
    ({"$py": "exception", "class": "builtins:exec", "args": ["x"]}, Any, "the class builtins:exec is not the"),
    ({"$py": "dataclass", "fields": {}}, Any, "it does not name its class"),
]


@pytest.mark.parametrize(("content", "hint", "reason"), REFUSED, ids=lambda item: str(item)[:50])
def test_what_can_not_or_must_not_be_made_is_refused_with_its_place(content, hint, reason):
    with pytest.raises(RebuildError) as caught:
        rebuild({"a/b": [0, content]}, dict[str, list[hint]])
    assert str(caught.value).startswith(f"at /a~1b/1: {reason}"), str(caught.value)
    assert caught.value.pointer == "/a~1b/1"
    assert Loaded.made == 0


def test_bottomless_nesting_is_refused():
    content = 1
    for _ in range(100_000):
        content = [content]
    with pytest.raises(RebuildError, match="nested too deeply to be rebuilt"):
        rebuild(content)


TEXT = st.text("ab$é/\n", max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(TEXT | st.sampled_from(["$py", "class", "fields"]), inner, max_size=4)
    ),
)
KINDS = st.sampled_from(
    ["dict", "set", "dataclass", "enum", "datetime", "exception", "type", "path", "memoryview", "int", "slice", "codec"]
)
FIELDS = st.sampled_from(
    ["class", "fields", "items", "value", "args", "name", "hex", "state", "data", "zone", "flavour"]
)


@pytest.mark.costly
@given(
    KINDS,
    st.dictionaries(FIELDS, JSON),
    st.sampled_from([Any, Point, Colour, dict[str, int], list[Point] | None, type]),
)
def test_whatever_stands_in_a_tag_gives_a_value_or_our_own_error(kind, members, hint):
    try:
        rebuild({**members, "$py": kind}, hint)
    except FlowtraceError:
        pass


@given(JSON)
def test_json_comes_back_with_the_same_hash(value):
    assert hash_value(rebuild(content_of(value))) == hash_value(value)
