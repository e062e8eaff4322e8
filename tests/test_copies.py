"""Objects that the native core copies: the same trace as if they were encoded at the call; no code of theirs runs."""

from __future__ import annotations

import enum
import functools
import gc
import ipaddress
import json
import time as clock
import types
import typing
import weakref
from collections import namedtuple
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import msgspec
import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowtrace import canonical_bytes, hash_value, override, register_codec, traced_node
from flowtrace.calls.core import NATIVE
from flowtrace.recording import fast_path
from flowtrace.recording.call_values import canonical_input, canonical_output
from flowtrace.recording.process import global_recorder
from flowtrace.values.codecs import REGISTERED
from flowtrace.values.encode import encode
from flowtrace.values.redaction import MARKER, secret_names
from flowtrace.values.secret_texts import texts_in

ran: list[str] = []


@dataclass
class Point:
    x: Any
    y: Any = 0


@dataclass(frozen=True, slots=True)
class Slotted:
    name: str
    inner: Any = None


@dataclass(slots=True)
class SlottedBelow(Point):
    z: Any = 0


@attrs.define
class Attrs:
    a: Any
    b: Any = ()


@attrs.define(slots=False)
class AttrsInDict:
    a: Any


class Struct(msgspec.Struct):
    a: Any
    b: int = 1


class Color(enum.Enum):
    RED = 1
    GREEN = ("a", 2)


class Level(enum.IntEnum):
    LOW = 1


class Word(enum.StrEnum):
    HELLO = "hello"


class Flags(enum.Flag):
    A = 1
    B = 2


Pair = namedtuple("Pair", "left right")
T = typing.TypeVar("T")


class Plain:
    def __init__(self):
        self.text = "unseen"


class Zone(tzinfo):
    def utcoffset(self, moment):
        return timedelta(hours=1)


class Model(pydantic.BaseModel):
    name: str
    items: list[Any] = []
    _private: int = pydantic.PrivateAttr(default=5)


class OpenModel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    a: int = 1


class ShyModel(pydantic.BaseModel):
    a: int = pydantic.Field(repr=False)


class CachingModel(pydantic.BaseModel):
    a: int

    @functools.cached_property
    def twice(self):
        return self.a * 2


class Generic(pydantic.BaseModel, typing.Generic[T]):
    a: T


class Row(Pair):
    pass


class Named(typing.NamedTuple):
    a: Any
    b: Any = ()


used = CachingModel(a=1)
assert used.twice == 2
MOMENT = datetime(2024, 2, 29, 12, 30, 1, 5)
CONSTANT = [
    *(MOMENT, MOMENT.replace(tzinfo=UTC), MOMENT.replace(tzinfo=ZoneInfo("Europe/Paris"), fold=1)),
    *(MOMENT.replace(tzinfo=timezone(timedelta(hours=2), "two")), time(1, 2, 3), time(1, tzinfo=UTC)),
    *(date(2024, 1, 2), timedelta(days=-1, microseconds=5), timezone(timedelta(minutes=5)), ZoneInfo("UTC")),
    *(Decimal("1.50"), Decimal("NaN"), Fraction(1, 3), 2 + 3j, 10**30, -(2**80), UUID(int=5)),
    *(Path("a/b"), PurePosixPath("/"), PureWindowsPath("c:/x"), ipaddress.ip_address("10.0.0.1")),
    ipaddress.ip_network("10.0.0.0/8"),
]
COPIED = [
    *(Point(1, "two"), Point([1, {"a": Point(None, 2.5)}], ()), Slotted("s"), Slotted("s", Slotted("t", [1]))),
    *(SlottedBelow(1, 2, 3), Attrs({"k": 1}), AttrsInDict(Attrs(1)), Struct(1), Struct([Struct(2, 3)])),
    *(Color.RED, Color.GREEN, Level.LOW, Word.HELLO, Flags.A | Flags.B, Plain(), iter(()), object()),
    *({1, "a"}, frozenset({(1, MOMENT), Color.RED}), set(), frozenset(), {float("nan")}, Point({1, 2}), {Decimal(1)}),
    *(
        Model(name="a"),
        Model(name="b", items=[Model(name="c"), {1}]),
        OpenModel(),
        OpenModel(a=2, z=[3]),
        CachingModel(a=1),
    ),
    *(Pair(1, [2]), Named(Pair(1, 2)), np.float64(1.5), np.int8(3), np.bool_(True), np.datetime64("2024-01-01")),
    *([Point(1, Color.RED), MOMENT, None], {"at": MOMENT, "who": Slotted("x")}, (Decimal(1), Level.LOW), Point(MOMENT)),
]
LEFT_TO_PYTHON = [
    *(MOMENT.replace(tzinfo=Zone()), [{"a": Plain()}], Row(1, 2), Point, len, range(3), {Point}, Point(Plain())),
    *({Decimal(1): 2}, ValueError("x"), used, np.arange(2), clock.struct_time(range(9))),
]


@traced_node(component="c", operation="same")
def same(value):
    return value


@pytest.fixture
def recorded(tmp_path):
    """Return a function that records some calls, and returns the canonical bytes of the last one's input and output."""

    def record(call, **changes):
        with override(mode="on", out_path=tmp_path / "t.json", capture_inputs=True, capture_outputs=True, **changes):
            for _ in range(5):  # each of the first ones may make the core learn a class
                result = call()
            (*_, step) = global_recorder().buffer.newest()
            policy = global_recorder().policy
            given = canonical_input(step.node, step.input, step.bound, policy)
            return given, canonical_output(step.node, step.output, policy), result

    return record


@pytest.fixture
def in_python(monkeypatch):
    """Count the values that Python takes."""
    taken = []

    def count(function):
        return lambda *given: taken.append(given) or function(*given)

    for name in ("snapshot_call", "snapshot_output"):
        monkeypatch.setattr(fast_path, name, count(getattr(fast_path, name)))
    return taken


@pytest.mark.parametrize("value", [*CONSTANT, *COPIED, *LEFT_TO_PYTHON], ids=lambda value: type(value).__name__)
def test_a_value_is_recorded_as_it_is(value, recorded):
    given, result, _ = recorded(lambda: same(value))
    assert given.data == b'{"value":%b}' % canonical_bytes(value)
    assert result.data == canonical_bytes(value)
    assert given.opaque == tuple("/value" + pointer for pointer in result.opaque)


@pytest.mark.skipif(NATIVE is None, reason="the pure twin encodes each")
@pytest.mark.parametrize("value", [*CONSTANT, *COPIED], ids=lambda value: type(value).__name__)
def test_the_native_core_takes_it_alone(value, recorded, in_python):
    recorded(lambda: same(value))
    in_python.clear()
    recorded(lambda: same(value))
    assert len(in_python) <= 1  # the first of a configuration, whose secret names may be others


@pytest.mark.skipif(NATIVE is None, reason="the pure twin encodes each")
@pytest.mark.parametrize("value", LEFT_TO_PYTHON, ids=lambda value: type(value).__name__)
def test_python_takes_what_depends_on_more(value, recorded, in_python):
    recorded(lambda: same(value))
    assert len(in_python) == 10


def test_what_is_done_to_an_object_later_changes_nothing(recorded):
    def call():
        point = Point([1], {"a": Slotted("s")})
        same(point)
        point.x.append(2)
        point.y, point.z = None, "more"

    given, result, _ = recorded(call)
    assert result.data == canonical_bytes(Point([1], {"a": Slotted("s")}))
    assert given.digest.value != result.digest.value


def test_an_object_with_more_or_fewer_attributes_than_its_class_says(recorded):
    point, less = Point(1), Point(1)
    recorded(lambda: same(point))
    point.more = 2
    del less.x
    point.__dict__["__x__"] = 3
    for value in (point, less):
        _, result, _ = recorded(lambda: same(value))
        assert result.data == canonical_bytes(value)
    assert json.loads(canonical_bytes(point))["state"] == {"__x__": 3, "more": 2}


def test_a_field_of_a_model_that_is_left_out_of_its_repr(recorded):
    _, result, _ = recorded(lambda: same(ShyModel(a=1)))
    assert json.loads(result.data)["fields"] == {"a": MARKER}
    assert result.redacted == ("/fields/a",)


def test_a_slot_that_is_not_set(recorded):
    slotted = SlottedBelow(1)
    recorded(lambda: same(slotted))
    del slotted.z
    _, result, _ = recorded(lambda: same(slotted))
    assert result.data == canonical_bytes(slotted)


def test_a_class_that_is_changed(recorded):
    @dataclass(slots=True)
    class Changed:
        a: int

    one = Changed(1)
    recorded(lambda: same(one))
    Changed.a = property(lambda self: ran.append("a"))
    ran.clear()
    _, result, _ = recorded(lambda: same(one))
    assert result.data == canonical_bytes(one)
    assert ran == []


def test_a_codec_that_is_registered_later(recorded):
    class Money(Plain):
        pass

    money = Money()
    recorded(lambda: same(money))
    register_codec(Plain, lambda plain: {"text": plain.text}, lambda content: Plain())
    try:
        _, result, _ = recorded(lambda: same(money))
        assert json.loads(result.data)["value"] == {"text": "unseen"}
    finally:
        del REGISTERED[id(Plain)]


def test_a_redactor_is_given_the_objects_themselves(recorded):
    seen = []

    def look(_name, value):
        seen.append(type(value))
        return False

    recorded(lambda: same(Point(Color.RED)), redactor=look)
    assert {Point, Color} <= set(seen)
    assert not any(kind.__module__.startswith("flowtrace") for kind in seen)


@dataclass
class Login:
    user: str
    password: str


@pytest.mark.parametrize("keyed", [{}, {"hash_key": "k" * 32}])
def test_a_secret_field_is_hidden(recorded, keyed):
    given, result, _ = recorded(lambda: same([Login("ada", "hunter2hunter2")]), **keyed)
    assert b"hunter2" not in given.data + result.data
    assert given.redacted == ("/value/0/fields/password",)
    assert given.secrets == result.secrets == ("hunter2hunter2",)


@dataclass
class Key:
    key: str
    hint: str = "abc"


class Holder:
    def __init__(self, text):
        self.text = text


class Secrets(enum.StrEnum):
    ONE = "enum-secret"


class KeyPair(typing.NamedTuple):
    first: str = "planted-text"


class KeyModel(pydantic.BaseModel):
    key: str = "planted-text"


@pytest.mark.parametrize(
    "secret", [Key("planted-text"), Holder("planted-text"), Secrets.ONE, [Key("planted-text")], KeyPair(), KeyModel()]
)
def test_an_error_does_not_quote_an_object_under_a_secret_name(tmp_path, secret):
    @traced_node(component="c", operation="fail")
    def fail(password):
        raise ValueError("it was planted-text or enum-secret")

    out = tmp_path / "t.json"
    with override(mode="on", out_path=out):
        for _ in range(5):
            with pytest.raises(ValueError, match="planted-text"):
                fail(secret)
    text = out.read_text()
    hidden = "enum-secret" if isinstance(secret, Secrets) else "planted-text"
    assert text.count(hidden) == 0
    assert "it was " in text


def test_a_function_that_is_given_other_code_with_a_secret_parameter(recorded):
    @traced_node(component="c", operation="changed")
    def changed(value):
        return None

    def other(password):
        return None

    secret = Holder("planted-text")

    def call():
        for _ in range(3):
            changed(secret)
        changed.__wrapped__.__code__ = other.__code__
        for _ in range(3):
            changed(secret)

    given, _, _ = recorded(call)
    assert given.secrets == ("planted-text",)


def test_a_field_of_a_model_that_is_left_out_of_its_repr_later(recorded):
    class Changed(pydantic.BaseModel):
        a: str = "planted-text"

    recorded(lambda: same(Changed()))
    Changed.model_fields["a"].repr = False
    _, result, _ = recorded(lambda: same(Changed()))
    assert json.loads(result.data)["fields"] == {"a": MARKER}


def test_an_object_in_the_keywords_of_a_call_under_a_secret_name(tmp_path):
    @traced_node(component="c", operation="fail")
    def fail(**options):
        if options:
            raise ValueError("it was planted-text")

    out = tmp_path / "t.json"
    with override(mode="on", out_path=out):
        for _ in range(5):
            fail()
            with pytest.raises(ValueError, match="planted-text"):
                fail(token=Holder("planted-text"))
    assert "planted-text" not in out.read_text()


class Telling:
    """Every attribute tells that it was asked for."""

    def __getattribute__(self, name):
        ran.append(name)
        return super().__getattribute__(name)

    def __getattr__(self, name):
        ran.append(name)
        raise AttributeError(name)

    def __eq__(self, other):
        ran.append("__eq__")
        return True

    __hash__ = None

    @property
    def __class__(self):
        ran.append("__class__")
        return int

    def __sizeof__(self):
        ran.append("__sizeof__")
        return 1

    def __reduce_ex__(self, _protocol):
        ran.append("__reduce_ex__")
        return object, ()


class TellingMeta(type):
    def __getattribute__(cls, name):
        ran.append(name)
        return super().__getattribute__(name)

    def __eq__(cls, other):
        ran.append("__eq__")
        return True

    __hash__ = type.__hash__


@dataclass(eq=False)
class TellingRecord(Telling):
    a: int


@dataclass(eq=False, slots=True)
class TellingSlots(Telling):
    a: int


class TellingClass(metaclass=TellingMeta):
    pass


class TellingTime(datetime):
    tzinfo = property(lambda self: ran.append("tzinfo"))

    def __sizeof__(self):
        ran.append("__sizeof__")
        return 1


@pytest.mark.parametrize(
    "make",
    [Telling, lambda: TellingRecord(1), lambda: TellingSlots(1), TellingClass, lambda: TellingTime(2024, 1, 1)],
)
def test_no_code_of_the_program_runs(make, recorded):
    value = make()
    ran.clear()
    recorded(lambda: [same(value), None][1])
    assert ran == []


def test_a_key_that_is_no_plain_text(recorded):
    class Text(str):
        __slots__ = ()

    point = Point(1, 2)
    recorded(lambda: same(Point(1)))
    del point.y
    vars(point)[Text("y")] = 3
    _, result, _ = recorded(lambda: same(point))
    assert result.data == canonical_bytes(point)


@pytest.mark.parametrize("kind", [Point, Plain])
def test_neither_an_object_nor_its_class_is_kept_alive(recorded, kind):
    class Local(kind):
        pass

    made = Local(1) if kind is Point else Local()
    cls, value = weakref.ref(Local), weakref.ref(made)
    with override(mode="on", buffer_size=20):
        for _ in range(3):
            same(made)
        del made, Local
        gc.collect()
        assert (value(), cls()) == (None, None)
        (*_, step) = global_recorder().buffer.newest()
        encoded = canonical_output(step.node, step.output, global_recorder().policy)
    assert encoded.opaque == (("/class",) if kind is Point else ("",))


def test_an_object_that_holds_itself(recorded):
    point = Point(1)
    point.y = [point]
    _, result, _ = recorded(lambda: same(point))
    assert result.data == canonical_bytes(point)
    assert b'"cycle"' in result.data


def test_what_a_generator_yields(recorded):
    @traced_node(component="c", operation="each")
    def each(values):
        yield from values

    point = Point([1])
    _, result, _ = recorded(lambda: list(each([point, MOMENT, Color.RED, Plain()])))
    items = json.loads(result.data)["items"]
    assert items == [json.loads(canonical_bytes(value)) for value in (point, MOMENT, Color.RED, Plain())]


def test_a_limit_on_the_work_of_a_value_holds(recorded):
    points = [Point(number) for number in range(50)]
    _, result, _ = recorded(lambda: same(points), max_value_work=300)
    _, again, _ = recorded(lambda: same([*points, {1}]), max_value_work=300)  # which Python takes
    assert result.cut == again.cut
    assert [part.pointer for part in result.cut] == ["/13/fields", "/14"]


# Without letters, no key is the name of a secret: hypothesis takes constants from our own sources, CVC among them.
keys = st.text(st.characters(exclude_categories=["L", "Cs"]), max_size=3)
values = st.recursive(
    st.one_of(st.none(), st.integers(), st.text(), st.sampled_from([*Color, *Word]), st.datetimes(), st.uuids()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(keys, inner, max_size=3),
        st.tuples(inner),
        st.builds(Point, inner, inner),
        st.builds(Slotted, st.text(max_size=3), inner),
        st.builds(Attrs, inner),
        st.builds(Struct, inner),
        st.builds(Named, inner, inner),
        st.builds(lambda item: Model(name="m", items=[item]), inner),
        st.sets(st.integers() | st.text(max_size=3), max_size=3),
    ),
    max_leaves=12,
)


@given(values)
def test_any_value_is_recorded_as_it_is(value):
    with override(mode="on"):
        for _ in range(3):
            same(value)
        (*_, step) = global_recorder().buffer.newest()
        policy = global_recorder().policy
        output = canonical_output(step.node, step.output, policy)
        given = canonical_input(step.node, step.input, step.bound, policy)
    assert output.size == len(canonical_bytes(value))
    assert (output.digest, given.digest) == (hash_value(value), hash_value({"value": value}))


class Note(enum.Enum):
    """Members with attributes of their own."""

    ONE = 1

    def __init__(self, _number):
        self.note = "planted-text"


class Numbered(enum.StrEnum):
    """Members that are another text than their value."""

    def __new__(cls, number):
        member = str.__new__(cls, "planted-text")
        member._value_ = number
        return member

    ONE = 1


class Status(enum.IntEnum):
    """Members that have what their class says, and nothing else."""

    FOUND = 12345678


@pytest.mark.parametrize("member", [Note.ONE, Numbered.ONE, Status.FOUND, Word.HELLO, Color.RED, KeyPair("abcd")])
def test_the_texts_of_a_secret_are_those_of_the_object_itself(recorded, member):
    given, _, _ = recorded(lambda: same({"password": Point(member), "token": member}))
    expected = encode({"password": Point(member), "token": member}, secret=secret_names())
    assert set(given.secrets) == set(expected.secrets)
    assert ("planted-text" in given.secrets) == isinstance(member, Note | Numbered)
    assert len(given.secrets) < 3  # neither the texts of its class nor those of the module


@pytest.mark.parametrize("secret", [len, Point.__init__, Telling])
def test_the_names_in_a_module_are_no_secrets(secret):
    assert not {"test_copies", __name__, __file__} & set(texts_in([secret, Holder(secret)], secret_names()))


def test_what_is_kept_in_a_class_or_module_is_a_secret():
    class Settings:
        key = "planted-text"

    module = types.ModuleType("settings")
    module.key = "planted-too"
    assert texts_in([Settings, module], secret_names()) == ("planted-text", "planted-too")
    assert texts_in([Holder(Settings)], secret_names()) == ()


class OtherDict(dict):
    """Every method tells that it was called, and says what is not so."""

    def __contains__(self, key):
        ran.append("__contains__")
        return False

    def __getitem__(self, key):
        ran.append("__getitem__")
        return "wrong"

    def __iter__(self):
        ran.append("__iter__")
        return iter(["wrong"])

    def get(self, *_given):
        ran.append("get")
        return "wrong"

    keys = items = values = copy = __or__ = __len__ = __iter__


@pytest.mark.parametrize(
    "make",
    [
        lambda: Point(1),
        lambda: AttrsInDict(1),
        Plain,
        lambda: Model(name="a"),
        lambda: AttributeError("a", obj=1),
        lambda: enum.Enum("Other", "A").A,
    ],
)
def test_attributes_in_a_dict_of_the_program(make, recorded):
    plain, value = make(), make()
    object.__setattr__(value, "__dict__", OtherDict(vars(plain)))
    ran.clear()
    _, result, _ = recorded(lambda: same(value))
    assert ran == []
    assert result.data == canonical_bytes(plain)


class TellingBytes(bytes):
    def __buffer__(self, _flags):
        ran.append("__buffer__")
        raise ValueError


def test_the_bytes_of_a_secret_are_those_of_the_base_class():
    ran.clear()
    assert "planted-text" in texts_in([TellingBytes(b"planted-text")], secret_names())
    assert ran == []
