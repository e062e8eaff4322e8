"""Captured values as people read them: Python's words, whatever the form in the trace, and never its JSON."""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import fractions
import ipaddress
import math
import pathlib
import re
import types
import uuid
import zoneinfo
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowtrace.cli.page.value_tree import as_line, shown
from flowtrace.values.encode import canonical_bytes
from flowtrace.values.json import loads
from flowtrace.values.shown import TOO_DEEP, value_text


@dataclass
class Line:
    sku: str
    price: object = None


class Colour(enum.Enum):
    RED = "red"


class Name(str):
    pass


class Basket(dict):
    pass


Point = collections.namedtuple("Point", "x y")
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
WORDS = [
    (None, "None"),
    (True, "True"),
    (1.5, "1.5"),
    (math.nan, "nan"),
    (-math.inf, "-inf"),
    (2**70, str(2**70)),
    ("it's\n", '"it\'s\\n"'),
    ([1, (2, "a")], "[1, [2, 'a']]"),
    ({"a": None, "b": {}}, "{'a': None, 'b': {}}"),
    ({1: "a", None: [b"x"]}, "{1: 'a', None: [b'x']}"),
    (Basket(tea=2), "Basket({'tea': 2})"),
    ({3, 1}, "{1, 3}"),
    (set(), "set()"),
    (frozenset({"a"}), "frozenset({'a'})"),
    (collections.deque([1]), "deque([1])"),
    (bytearray(b"a" * 30), f"bytearray({b'a' * 30!r})"),
    (1 + 2j, "(1+2j)"),
    (decimal.Decimal("1.50"), "Decimal('1.50')"),
    (fractions.Fraction(1, 3), "Fraction('1/3')"),
    (uuid.UUID(int=1), "UUID('00000000-0000-0000-0000-000000000001')"),
    (datetime.date(2026, 11, 24), "date('2026-11-24')"),
    (datetime.datetime(2026, 11, 24, 12, tzinfo=BERLIN), "datetime('2026-11-24T12:00:00 Europe/Berlin')"),
    (datetime.timedelta(hours=1), "timedelta('1:00:00')"),
    (pathlib.PurePosixPath("a/b"), "Path('a/b')"),
    (ipaddress.ip_address("10.0.0.1"), "IPv4Address('10.0.0.1')"),
    (range(3), "range(0, 3, 1)"),
    (re.compile("a+"), "Pattern('a+')"),
    (Colour.RED, "Colour.RED"),
    (Name("Ada"), "Name('Ada')"),
    (Point(1, 2), "Point(x=1, y=2)"),
    (Line("A-1", decimal.Decimal("2")), "Line(price=Decimal('2'), sku='A-1')"),
    (types.SimpleNamespace(a=1), "namespace(a=1)"),
    (ValueError("no", 1), "ValueError('no', 1)"),
    (Line, "<class tests.test_shown.Line>"),
    (object(), "<opaque: object>"),
    (..., "..."),
]


@pytest.mark.parametrize(("value", "words"), WORDS, ids=[words for _, words in WORDS])
def test_a_value_in_python_s_words(value, words):
    assert value_text(loads(canonical_bytes(value))) == words


HELD_BY_THE_PAGE_ITSELF = (set, frozenset, collections.deque, dict, int, float, bytearray)


@pytest.mark.parametrize(("value", "words"), WORDS, ids=[words for _, words in WORDS])
def test_the_page_has_the_same_words_for_a_value_without_parts(value, words):
    if not isinstance(value, HELD_BY_THE_PAGE_ITSELF):
        assert as_line(shown(loads(canonical_bytes(value))), 1000) == words


def test_parts_that_are_not_there_are_named():
    assert value_text({"$py": "cut", "reason": "work", "count": 8695}) == "<cut (work) after 8,695>"
    assert value_text({"$py": "cut", "reason": "size", "size": 12345}) == "<cut (size), 12,345 bytes>"
    assert value_text([1, {"$py": "cycle", "up": 1}]) == "[1, <the value 1 levels up>]"


def test_arrays_have_their_first_rows_where_their_content_can_be_found():
    form = {"$py": "array", "dtype": "<i4", "shape": [2], "base64": "AQAAAAIAAAA="}
    assert value_text({"a": form}, lambda _: None) == "{'a': <array, int32, 2: [1, 2]>}"
    assert value_text({"a": form}) == "{'a': array(dtype='<i4', shape=[2], base64='AQAAAAIAAAA=')}"


def test_what_is_nested_too_deeply_is_said_to_be():
    deep = form = 1
    for _ in range(300):
        deep = [deep]
    for _ in range(120):
        form = {"$py": "set", "items": [form]}
    assert value_text(deep) == TOO_DEEP
    assert value_text(form).startswith("{{{")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from("class fields items value base64 hex name dtype shape columns up".split())
KINDS: list = [*"dict set bytes int range enum array pandas.frame opaque cut codec".split(), 7, None, []]


@given(JSON)
def test_plain_json_is_what_python_writes_of_it(value):
    content = loads(canonical_bytes(value))
    if '"$py"' not in canonical_bytes(value).decode():
        assert value_text(content) == repr(content)


@given(st.sampled_from(KINDS), st.dictionaries(FIELDS, JSON, max_size=4))
def test_a_form_of_another_make_is_shown_all_the_same(kind, fields):
    for find in (None, lambda _: None):
        text = value_text([{**fields, "$py": kind}], find)
        assert text[:1] == "["
        assert '"$py"' not in text
