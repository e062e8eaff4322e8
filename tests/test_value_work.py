"""The bound on the work of one value: what is counted, what is cut, and that nothing cut is ever called equal."""

from __future__ import annotations

import collections
import datetime
import enum
import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flowtrace
from flowtrace import diff, validate
from flowtrace.settings import variables
from flowtrace.values import encoder
from flowtrace.values import json as json_values
from flowtrace.values.encode import encode
from flowtrace.values.encoded import CutPart, Encoded, derive_key, hash_bytes
from flowtrace.values.redaction import MARKER, secret_names
from tests.traces import step, trace


@dataclass
class Row:
    id: int
    more: Any = None


@dataclass(slots=True)
class Slotted:
    id: int
    more: Any = None


class Colour(enum.Enum):
    RED = 1


Pair = collections.namedtuple("Pair", "one two")


class Opaque:
    __slots__ = ("hidden",)


def cut(data, *parts):
    marks = tuple(CutPart(*part) for part in parts)
    return Encoded(data, hash_bytes(data), len(data), tuple(part.pointer for part in marks), (), (), marks)


def mark(seen):
    return b'{"$py":"cut","count":%d,"reason":"work"}' % seen


def test_the_default_is_the_same_in_the_settings():
    assert variables.WORK == json_values.MAX_WORK == flowtrace.TraceConfig().max_value_work == 200_000


@pytest.mark.parametrize(
    ("value", "data", "parts"),
    [
        ([1, 2, 3, 4], b"[1,2,3,4]", ()),
        ([1, 2, 3, 4, 5], b"[1,2,3,4," + mark(4) + b"]", (("/4", "work", 4),)),
        ((1, 2, [3, 4]), b"[1,2,[3," + mark(1) + b"]]", (("/2/1", "work", 1),)),
        ([[], {}, (), "", None], b'[[],{},[],"",' + mark(4) + b"]", (("/4", "work", 4),)),
        ([1, [2, [3]], 4], b"[1,[2,[" + mark(0) + b"]]," + mark(2) + b"]", (("/1/1/0", "work", 0), ("/2", "work", 2))),
        ({"b": 1, "a": [2, 3]}, b'{"a":[2,3],"b":1}', ()),
        ({"b": 1, "a": [2, 3, 4]}, b'{"a":[2,3,4],"b":' + mark(1) + b"}", (("/b", "work", 1),)),
        ({"a": 1, "b": 2, "c": 3, "d": 4}, b'{"a":1,"b":2,"c":3,"d":4}', ()),
        (dict.fromkeys("abcde"), mark(0), (("", "work", 0),)),  # which members come first is not known
        ({1, 2}, b'{"$py":"set","items":' + mark(0) + b"}", (("/items", "work", 0),)),
        (["x" * 511, "x" * 512], b'["%b","%b"]' % (b"x" * 511, b"x" * 512), ()),
        (["x" * 1536, 1], b'["%b",' % (b"x" * 1536) + mark(1) + b"]", (("/1", "work", 1),)),
        (Row(1), b'{"$py":"dataclass","class":"tests.test_value_work:Row","fields":' + mark(0) + b"}", None),
    ],
)
def test_what_is_beyond_the_work_is_cut(value, data, parts):
    if parts is None:
        parts = (("/fields", "work", 0),)
    assert encode(value, work=4) == cut(data, *parts)


def test_an_object_with_attributes_is_20_units_and_its_atoms():
    rows = [Row(number, "x") for number in range(5)]
    whole = encode(rows, work=5 * 23)
    assert whole.cut == ()
    assert encode(rows, work=5 * 23 - 1).cut != ()
    assert encode([datetime.date(2026, 11, number) for number in range(1, 11)], work=200).cut == ()


@pytest.mark.parametrize(
    "kind", [set, frozenset, lambda items: dict.fromkeys(items, 1), lambda items: {"s": set(items)}]
)
def test_what_has_no_order_is_cut_as_a_whole(kind):
    for items in ([f"k{number}" for number in range(300)], [Pair(number, (number,)) for number in range(100)]):
        one, other = encode(kind(items), work=250), encode(kind(reversed(items)), work=250)
        assert one == other
        assert one.cut[0].seen == 0


def test_a_value_that_was_cut_has_the_hash_of_what_was_seen():
    ours, theirs = [Row(number) for number in range(100)], [Row(number) for number in range(200)]
    assert encode(ours, work=1000) == encode(theirs, work=1000)
    ours[3].id = 7
    assert encode(ours, work=1000).digest != encode(theirs, work=1000).digest


def test_a_key_and_hidden_parts_do_not_change_what_is_counted():
    rows = [{"token": "x" * 5000, "id": number} for number in range(100)]
    hidden = [{"token": MARKER, "id": number} for number in range(100)]
    redacted = encode(rows, secret=secret_names(), work=290)
    assert redacted[:5] == encode(hidden, secret=secret_names(), work=290)[:5]
    assert redacted.redacted == tuple(f"/{number}/token" for number in range(96))
    assert redacted.cut[-1] == CutPart("/98", "work", 98)
    keyed = encode([1, 2, 3], key=derive_key("k"), work=2)
    assert keyed._replace(digest=None) == encode([1, 2, 3], work=2)._replace(digest=None)


LEAVES = st.one_of(
    *(st.none(), st.booleans(), st.integers(-5, 5), st.floats(), st.text(max_size=3), st.binary(max_size=3)),
    *(st.dates(), st.datetimes(), st.just(Colour.RED), st.decimals(), st.uuids(), st.just("x" * 1500)),
    st.sampled_from([1 << 70, "\ud800", Opaque(), datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), len]),
    *(st.sets(st.integers(0, 9), max_size=3), st.frozensets(st.text(max_size=1) | st.tuples(st.integers()))),
)
NAMES = st.sampled_from(["a", "b", "token", "$py", "\udc80", "name"])
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=5).map(tuple),
        st.dictionaries(NAMES, inner, max_size=3),
        st.dictionaries(st.integers(0, 3) | st.dates() | NAMES, inner, max_size=3),
        st.builds(Row, inner, inner),
        st.builds(Slotted, inner, inner),
        st.builds(Pair, inner, inner),
        inner.map(lambda part: [part, part]),
        st.lists(inner, max_size=3).map(lambda items: items.append(items) or items),
        inner.map(lambda part: _knows_itself(Row(part))),
        inner.map(lambda part: collections.OrderedDict([("b", part), (2, part)])),
    ),
    max_leaves=25,
)


def _knows_itself(row):
    row.more = {"row": [row], 1: row}
    return row


@given(VALUES, st.sampled_from([5, 40, 150, 4000]))
def test_the_quick_way_and_the_long_way_agree(value, work):
    quick = encode(value, secret=secret_names(), work=work)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder, "_MAX_WASTED", -1)
        assert encode(value, secret=secret_names(), work=work) == quick


@flowtrace.traced_node(component="c")
def count(rows):
    return len(rows)


def one_step(path, rows, **changes):
    with flowtrace.override(mode="always", out_path=path, capture_inputs=True, **changes):
        count(rows)
    assert validate(path) == []
    (found,) = json.loads(path.read_bytes())["steps"]
    return found


def test_the_step_says_what_was_cut(tmp_path):
    found = one_step(tmp_path / "t.json", [1, 2, Row([3]), 4], max_value_work=26)
    row = {"$py": "dataclass", "class": f"{__name__}:Row"}
    row["fields"] = {"id": [3], "more": {"$py": "cut", "count": 1, "reason": "work"}}
    payload = {"rows": [1, 2, row, {"$py": "cut", "count": 3, "reason": "work"}]}
    assert found["invocation_json"]["payload"] == payload
    places = {"/2/fields/more": 1, "/3": 3}
    assert found["opaque"] == [f"/invocation_json/payload/rows{place}" for place in places]
    assert found["cut"] == [
        {"path": f"/invocation_json/payload/rows{place}", "reason": "work", "count": seen}
        for place, seen in places.items()
    ]
    assert found["output_hash"]["value"] == hash_bytes(b"4")


def test_a_keyed_hash_that_covers_a_part_says_so(tmp_path):
    found = one_step(tmp_path / "t.json", [1, 2, 3, 4], max_value_work=4, hash_key="k")
    assert found["cut"] == [{"path": "/invocation_json/payload/rows/3", "reason": "work", "count": 3}]
    hidden = one_step(tmp_path / "u.json", {"token": [1] * 9, "id": 1}, max_value_work=8, hash_key="k")
    assert hidden["invocation_json"]["payload"] == {"rows": {"id": 1, "token": MARKER}}
    assert hidden["cut"] == [{"path": "/invocation_json/payload/rows/token/5", "reason": "work", "count": 5}]


def test_equal_hashes_of_cut_values_are_doubted(tmp_path):
    one_step(tmp_path / "a.json", list(range(100)), max_value_work=50)
    one_step(tmp_path / "b.json", [*range(99), 0], max_value_work=50)
    result = diff(tmp_path / "a.json", tmp_path / "b.json")
    assert result.divergences[0].aspects[0].what == "output" if result.divergences else True
    assert [doubt.reason for doubt in result.doubts] == ["equal hashes over opaque parts: the values may differ there"]


def cut_step(value, reason, **fields):
    part = {"path": "/invocation_json/payload", "reason": reason, "count": 0}
    return step("c.a", value, opaque=[part["path"]], cut=[part], **fields)


def test_what_was_cut_for_its_overhead_is_neither_equal_nor_different():
    for ours, theirs in ((1, 2), (1, 1)):
        result = diff(trace(cut_step(ours, "overhead")), trace(step("c.a", theirs)))
        assert result.divergences == []
        assert [(doubt.reason, doubt.count) for doubt in result.doubts] == [
            ("values that were not recorded, since that cost too much: they can't be compared", 1)
        ]
        assert str(result.verdict) != "same"


def test_a_difference_of_cut_values_says_that_one_was_cut():
    (aspect,) = diff(trace(cut_step(1, "work")), trace(step("c.a", 2))).divergences[0].aspects
    assert aspect.note.startswith("one of them was cut: with another FLOWTRACE_MAX_VALUE_WORK")


def test_validate_looks_at_what_was_cut(tmp_path):
    found = [
        {"path": "/invocation_json/payload", "reason": "work", "count": -1},
        {"path": "/output_json", "reason": "mood", "count": 1},
    ]
    document = {"trace_version": 1, "pack": {"pack_ref": "p"}, "flow": {"id": "f", "version": "1"}}
    document["steps"] = [step("c.a", 1, opaque=["/invocation_json/payload"], cut=found)]
    (tmp_path / "t.json").write_text(json.dumps(document))
    assert [(item.code, item.pointer) for item in validate(tmp_path / "t.json")] == [
        ("negative", "/steps/0/cut/0/count"),
        ("unknown-cut-reason", "/steps/0/cut/1/reason"),
        ("cut-not-opaque", "/steps/0/cut/1/path"),
    ]
