"""Encoding runs no code of a value's class: whatever can be defined there raises here, and counts."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import enum
import fractions
import math
import os
import re
import subprocess
import sys
import uuid
import weakref
from decimal import Decimal

import attrs
import msgspec
import orjson
import pytest

from flowtrace import canonical_bytes, hash_value
from flowtrace.values.encode import IDLE_PICKLERS, SMALL, encode, restore, take_value
from flowtrace.values.json import plain
from tests.ids import stable_repr

CALLED: list[str] = []
NAMES = """
    repr str format bytes eq ne lt le gt ge hash bool len iter next reversed contains getitem setitem missing
    index int float complex trunc round fspath call enter await aiter dir sizeof copy deepcopy
    reduce reduce_ex getstate getnewargs getnewargs_ex length_hint buffer array array_interface json
""".split()


def trap(name):
    def trapped(*args, **kwargs):
        CALLED.append(name)
        raise RuntimeError(name)

    return trapped


def hostile(*bases, **more):
    """Make a class in which every special method raises, properties and look-ups included."""
    body = {f"__{name}__": trap(name) for name in NAMES}
    body |= {
        "__class__": property(trap("class")),
        "secret": property(trap("property")),
        "value": property(trap("value")),
    }
    body |= {"__getattribute__": trap("getattribute"), "__getattr__": trap("getattr"), "__module__": "m"}
    body |= {"__doc__": property(trap("doc"))}
    return type("Hostile", bases, body | more)


class Meta(type):
    """A metaclass that raises as well."""

    __eq__ = trap("meta eq")
    __hash__ = trap("meta hash")
    __instancecheck__ = trap("meta instancecheck")
    __subclasscheck__ = trap("meta subclasscheck")
    __getattribute__ = trap("meta getattribute")
    __repr__ = trap("meta repr")
    __len__ = trap("meta len")
    __iter__ = trap("meta iter")
    __bool__ = trap("meta bool")
    mro = type.mro


def make(base, *arguments):
    cls = hostile(base)
    return base.__new__(cls, *arguments)


@pytest.fixture(autouse=True)
def nothing_called():
    CALLED.clear()
    yield
    assert CALLED == []


def filled(base, fill):
    value = make(base)
    fill(value)
    return value


SUBCLASSES = {
    "object": (make(object), b'{"$py":"opaque","class":"m:Hostile"}'),
    "str": (make(str, "a"), b'{"$py":"str","class":"m:Hostile","value":"a"}'),
    "int": (make(int, 1), b'{"$py":"int","class":"m:Hostile","value":1}'),
    "float": (make(float, 1.5), b'{"$py":"float","class":"m:Hostile","value":1.5}'),
    "complex": (make(complex, 1j), b'{"$py":"complex","class":"m:Hostile","imag":1.0,"real":0.0}'),
    "bytes": (make(bytes, b"a"), b'{"$py":"bytes","base64":"YQ==","class":"m:Hostile"}'),
    "tuple": (make(tuple, (1,)), b'{"$py":"tuple","class":"m:Hostile","items":[1]}'),
    "frozenset": (make(frozenset, {1}), b'{"$py":"frozenset","class":"m:Hostile","items":[1]}'),
    "list": (filled(list, lambda v: list.append(v, 1)), b'{"$py":"list","class":"m:Hostile","items":[1]}'),
    "set": (filled(set, lambda v: set.add(v, 1)), b'{"$py":"set","class":"m:Hostile","items":[1]}'),
    "dict": (
        filled(dict, lambda v: dict.__setitem__(v, "a", 1)),
        b'{"$py":"dict","class":"m:Hostile","items":[["a",1]]}',
    ),
    "deque": (
        filled(collections.deque, lambda v: collections.deque.append(v, 1)),
        b'{"$py":"deque","class":"m:Hostile","items":[1],"maxlen":null}',
    ),
    "exception": (make(ValueError, 1), b'{"$py":"exception","args":[1],"class":"m:Hostile"}'),
}


@pytest.mark.parametrize("name", SUBCLASSES)
@pytest.mark.parametrize(
    "wrap", [lambda value: value, lambda value: [value], lambda value: {"k": (value,)}], ids=range(3)
)
def test_no_method_of_a_subclass_is_called(name, wrap):
    value, form = SUBCLASSES[name]
    assert plain(wrap(value)) is None
    expected = canonical_bytes(wrap("%")).replace(b'"%"', form)
    assert canonical_bytes(wrap(value)) == expected
    assert len(hash_value(wrap(value))) == 64


def test_no_method_of_a_key_or_set_item_is_called():
    # a dict and a set need the hash once, to take the key; from then on it raises
    class Key:
        armed = False
        __module__ = "m"
        __qualname__ = "Key"

        def __hash__(self):
            return trap("hash")() if Key.armed else 1

        def __eq__(self, other):
            return trap("eq")()

    class Name(str):
        __module__ = "m"
        __qualname__ = "Name"
        __slots__ = ()

        def __hash__(self):
            return trap("name hash")() if Key.armed else 2

        __eq__ = trap("name eq")
        __lt__ = trap("name lt")

    mapping, members = {Key(): 1, Name("n"): 2}, {Key(), Name("n")}
    ordered = collections.OrderedDict([(Key(), 1)])
    Key.armed = True
    opaque, name = b'{"$py":"opaque","class":"m:Key"}', b'{"$py":"str","class":"m:Name","value":"n"}'
    assert canonical_bytes(mapping) == b'{"$py":"dict","items":[[%b,1],[%b,2]]}' % (opaque, name)
    assert canonical_bytes(members) == b'{"$py":"set","items":[%b,%b]}' % (opaque, name)
    assert encode(mapping).opaque == ("/items",)
    assert encode(ordered).opaque == ("/items",)


def test_no_method_of_a_record_is_called():
    bare = dataclasses.make_dataclass("D", ["a"])
    data = hostile(bare)
    record = object.__new__(data)
    object.__setattr__(record, "a", 1)
    assert canonical_bytes(record) == b'{"$py":"dataclass","class":"m:Hostile","fields":{"a":1}}'

    @attrs.define
    class Open:
        a: int

    traps = hostile(Open, __slots__=())
    record = object.__new__(traps)
    Open.__dict__["a"].__set__(record, 1)
    assert canonical_bytes(record) == b'{"$py":"attrs","class":"m:Hostile","fields":{"a":1}}'

    class Struct(msgspec.Struct):
        a: int
        __repr__ = trap("struct repr")
        __eq__ = trap("struct eq")
        __hash__ = trap("struct hash")

    assert b'"fields":{"a":1}' in canonical_bytes(Struct(1))


def test_no_property_of_an_enum_is_called_on_the_fast_way():
    class Trapped(enum.Enum):
        A = 1
        value = property(trap("value"))
        name = property(trap("name"))
        __module__ = "m"

    assert plain(Trapped.A) is None
    assert plain([{"k": Trapped.A}]) is None
    assert canonical_bytes(Trapped.A).endswith(b'"name":"A","value":1}')

    class Hidden(bytes, enum.Enum):
        A = b"x"

        def __new__(cls, value):
            member = bytes.__new__(cls, value)
            member._value_ = "x"
            return member

    assert canonical_bytes([Hidden.A]) != canonical_bytes(["x"])


def test_no_method_of_a_metaclass_is_called():
    cls = Meta("Odd", (), {"__module__": property(trap("module"))})
    value = object.__new__(cls)
    assert canonical_bytes([value]) == b'[{"$py":"opaque","class":"?:Odd"}]'
    assert canonical_bytes(cls) == b'{"$py":"type","class":"?:Odd"}'
    text = Meta("Text", (str,), {"__module__": "m"})
    assert canonical_bytes({"k": str.__new__(text, "a")}) == b'{"k":{"$py":"str","class":"m:Text","value":"a"}}'


def test_a_lazy_object_stays_lazy():
    class Lazy:
        __module__ = "m"
        __qualname__ = "Lazy"

        def __init__(self):
            object.__setattr__(self, "_load", trap("load"))

        def __getattribute__(self, name):
            return trap(f"load {name}")()

        __class__ = property(trap("class"))
        __str__ = __repr__ = __hash__ = __eq__ = __iter__ = __len__ = __bool__ = trap("proxy")

    class Column:
        __get__ = trap("column")
        __set__ = trap("column set")

    class Row:
        __module__ = "m"
        __qualname__ = "Row"
        name = Column()

        def __getattr__(self, name):
            return trap(f"query {name}")()

    assert encode([Lazy(), Row()]).opaque == ("/0", "/1")
    assert canonical_bytes(Row()) == b'{"$py":"opaque","class":"m:Row"}'


def test_a_descriptor_on_a_record_is_not_asked():
    Order = dataclasses.make_dataclass("Order", ["item"])
    Order.__module__ = "m"
    Order.item = property(trap("item"))
    order = object.__new__(Order)
    assert canonical_bytes(order) == b'{"$py":"dataclass","class":"m:Order","fields":{"item":{"$py":"missing"}}}'


class Answer(enum.Enum):
    YES = 1


class Level(enum.IntEnum):
    LOW = 1


class Name(str):
    __slots__ = ()


FOREIGN = [
    *(uuid.UUID(int=1), Answer.YES, Level.LOW, Name("a"), ..., object(), print, int, 1j, Decimal(1), re.ASCII),
    *(
        datetime.date(2024, 1, 1),
        fractions.Fraction(1),
        collections.OrderedDict(a=1),
        collections.Counter("a"),
        range(3),
    ),
]


@pytest.mark.parametrize("value", FOREIGN, ids=stable_repr)
@pytest.mark.parametrize(
    "wrap", [lambda value: value, lambda value: {"k": value}, lambda value: [{"k": (value,)}]], ids=range(3)
)
def test_no_snapshot_is_taken_of_what_is_no_built_in_type(value, wrap):
    for _ in range(3):
        assert take_value(wrap(value), SMALL) is None
        assert restore(take_value(wrap([1]), SMALL)) == wrap([1])
    assert len(IDLE_PICKLERS) <= 2


@pytest.mark.parametrize(
    "value",
    [
        {1},
        b"a",
        bytearray(b"a"),
        2**64,
        -(2**63),
        {1: 2},
        {"\ud800": 1},
        [{"a": {1}}],
        {"a": math.inf},
        frozenset({(1,)}),
    ],
    ids=ascii,
)
def test_a_snapshot_of_built_in_types_says_what_the_value_says(value):
    for wrapped in (value, [value], {"k": value}):
        assert encode(restore(take_value(wrapped, SMALL))) == encode(wrapped)


@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: {"k": value}, lambda value: [value]], ids=range(3))
def test_a_fragment_of_json_is_what_it_says(wrap):
    fragment = orjson.Fragment(b'{"b":[1], "a":{"$py":1}}')
    assert encode(wrap(fragment)) == encode(wrap({"b": [1], "a": {"$py": 1}}))
    taken = take_value(wrap(fragment), SMALL)
    assert taken is None or encode(restore(taken)) == encode(wrap(fragment))
    broken = wrap(orjson.Fragment(b"{"))
    assert canonical_bytes(broken) == canonical_bytes(wrap("%")).replace(
        b'"%"', b'{"$py":"opaque","class":"orjson:Fragment"}'
    )


def test_no_snapshot_is_larger_than_the_limit():
    for value in ("x" * 100, {"k": "x" * 100}, ["x" * 100]):
        assert take_value(value, 90) is None
        assert restore(take_value(value, 200)) == value
    assert take_value(["x" * SMALL], 1 << 30) is None


def test_a_snapshot_keeps_nothing_alive():
    class Dies(list):
        pass

    value = Dies()
    ref = weakref.ref(value)
    assert take_value([[1], value], SMALL) is None
    del value
    assert ref() is None


@pytest.mark.costly
def test_buffers_are_not_copied_before_they_are_refused(tmp_path):
    program = """
import resource, sys
from flowtrace.values.encode import encode
from flowtrace.values.encode import take_value
big = {"a": [b"x" * 300_000_000]}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert take_value(big, 1 << 30) is None and encode(big, limit=0).size < 300
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
sys.exit(grown > 100_000)
"""
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    assert subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environ).returncode == 0
