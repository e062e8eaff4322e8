"""Canonical bytes and hashes: the vectors, the two ways to the same bytes, and what no value may do to us."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import threading
from itertools import starmap
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from flowtrace import canonical_bytes, hash_value
from flowtrace.values.encode import encode
from flowtrace.values.encoded import CutPart, Encoded, derive_key, hash_bytes
from flowtrace.values.encoder import MAX_POINTERS
from flowtrace.values.json import bytes_of_tree, loads, plain, pretty, sized_bytes_of_tree

VECTORS = [json.loads(line) for line in (Path(__file__).parent / "vectors/canonical.jsonl").read_text().splitlines()]
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)
MARK = b'{"$py":"cut","count":%d,"reason":"work"}'


def final(data, opaque=(), redacted=()):
    return Encoded(data, hash_bytes(data), len(data), opaque, redacted)


def cut(data, *parts):
    return final(data, tuple(pointer for pointer, *_ in parts))._replace(cut=tuple(starmap(CutPart, parts)))


def test_there_are_300_vectors():
    assert len(VECTORS) == 300


@pytest.mark.parametrize("vector", VECTORS, ids=range(300))
def test_a_vector_gives_its_bytes_and_hash_on_every_way(vector):
    value = json.loads(vector["json"])
    data = vector["canonical"].encode()
    assert plain(value) in (data, None)
    assert canonical_bytes(value) == data
    assert hash_value(value) == vector["blake3"]
    assert encode(value) == final(data)


@given(JSON_VALUES)
def test_the_fast_way_and_the_encoder_agree(value):
    data = plain(value)
    if data is None or b'"$py"' in data:
        data = canonical_bytes(value)
    assert encode(value) == final(data)


@pytest.mark.costly
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text().filter(lambda text: "\x7f" not in text),
        lambda inner: st.lists(inner) | st.dictionaries(st.text().filter(lambda text: "\x7f" not in text), inner),
    )
)
def test_without_floats_the_bytes_are_those_of_the_json_module(value):
    if '"$py"' not in json.dumps(value):
        text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        assert canonical_bytes(value) == text.encode()
        assert hash_value(value) == blake3(text.encode()).hexdigest()


def test_a_hash_knows_its_algorithm():
    digest = hash_value(None)
    assert (digest, digest.algorithm, digest.value) == (VECTORS[0]["blake3"], "blake3", VECTORS[0]["blake3"])


@pytest.mark.costly
def test_a_hash_is_the_same_in_every_process(tmp_path):
    program = """
import collections, dataclasses, enum, flowtrace
@dataclasses.dataclass(eq=False)
class Node:
    name: str
    peers: set = dataclasses.field(default_factory=set)
class Colour(enum.Flag):
    RED = 1
    BLUE = 2
a, b = Node("a"), Node("b")
a.peers |= {a, b}
b.peers.add(a)
print(flowtrace.hash_value([a, {"x", "y", "z", b"", (1, "t"), Colour.RED | Colour.BLUE}, {("k", 1): 2, None: 3}]))
"""
    hashes = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2", "77")
    }
    assert len(hashes) == 1
    assert len(hashes.pop().strip()) == 64


@dataclasses.dataclass(eq=False)
class Peer:
    to: object


@dataclasses.dataclass
class Link:
    to: object = None


@pytest.mark.costly
def test_a_cycle_tells_how_many_levels_up_it_leads():
    items: list = [1]
    items.append(items)
    mapping: dict = {"a": {}}
    mapping["a"]["b"] = mapping
    link = Link()
    link.to = [link]
    keyed: dict = {}
    keyed[1] = keyed
    assert canonical_bytes(items) == b'[1,{"$py":"cycle","up":1}]'
    assert canonical_bytes(mapping) == b'{"a":{"b":{"$py":"cycle","up":2}}}'
    name = f"{__name__}:Link"
    start = f'{{"$py":"dataclass","class":"{name}","fields":{{"to":['
    assert canonical_bytes(link) == f'{start}{{"$py":"cycle","up":3}}]}}}}'.encode()
    assert canonical_bytes(keyed) == b'{"$py":"dict","items":[[1,{"$py":"cycle","up":3}]]}'


def test_a_cycle_through_a_set_or_a_key_ends():
    one = Peer(set())
    one.to.add(one)
    start = b'{"$py":"dataclass","class":"tests.test_canonical:Peer","fields":{"to":'
    assert encode(one) == final(start + b'{"$py":"set","items":[{"$py":"cycle","up":4}]}}}')
    other = Peer({})
    other.to[other] = 1
    assert b'[{"$py":"cycle","up":5},1]' in canonical_bytes(other)


def test_siblings_that_are_the_same_object_are_written_twice():
    shared = {"a": [1]}
    assert canonical_bytes([shared, shared]) == b'[{"a":[1]},{"a":[1]}]'


@pytest.mark.costly
def test_100_000_levels_are_hashed_without_a_recursion():
    value: list = []
    for _ in range(100_000):
        value = [value]
    assert plain(value) is None
    assert canonical_bytes(value) == b"[" * 100_001 + b"]" * 100_001
    other = Link()
    for _ in range(30_000):
        other = Link(other)
    encoded = encode(other, limit=0, work=1 << 30)
    assert encoded.data is None
    assert encoded.opaque == ()


@pytest.mark.costly
@pytest.mark.parametrize(
    "wrap", [lambda x: [x, x], lambda x: {"a": x, "b": x}, lambda x: (x, (x,)), Link], ids=range(4)
)
def test_a_bomb_of_shared_references_is_cut(wrap):
    bomb = [0]
    for _ in range(60):
        bomb = [wrap(bomb), bomb]
    assert plain(bomb) is None
    encoded = encode(bomb)
    assert encoded.size < 4_000_000
    assert b'"reason":"work"}' in encoded.data
    assert 0 < len(encoded.opaque) == len(encoded.cut) <= MAX_POINTERS
    assert encode(bomb) == encoded


@pytest.mark.costly
def test_a_bomb_in_a_set_or_a_key_is_cut():
    bomb = frozenset()
    for _ in range(60):
        bomb = frozenset({bomb, (bomb,)})
    for value in (bomb, {bomb: 1}, [Link({bomb})]):
        encoded = encode(value)
        assert encoded.size < 4_000_000
        assert encoded.opaque


@pytest.mark.costly
def test_two_bombs_that_differ_only_in_what_was_cut_are_both_marked():
    one, two = [1], [2]
    for _ in range(60):
        one, two = [[0], one, one], [[0], two, two]
    assert all(encode(bomb).opaque for bomb in (one, two))


@pytest.mark.costly
def test_a_graph_in_which_everything_knows_everything_ends():
    nodes = [Link() for _ in range(40)]
    for node in nodes:
        node.to = list(nodes)
    encoded = encode(nodes)
    assert encoded.size < 4_000_000
    assert encoded.opaque


@pytest.mark.costly
def test_a_long_text_in_many_places_is_cut():
    text = "x" * 100_000
    assert plain([text] * 2000) is None
    seen = -(-200_000 // (1 + 100_000 // 512))
    data = json.dumps([text] * seen, separators=(",", ":")).encode()[:-1] + b"," + MARK % seen + b"]"
    assert encode([text] * 2000) == cut(data, (f"/{seen}", "work", seen))


@pytest.mark.costly
def test_what_is_shared_but_light_is_written_in_full():
    row = [0] * 10
    assert canonical_bytes([row] * 500) == b"[" + b",".join([b"[0,0,0,0,0,0,0,0,0,0]"] * 500) + b"]"
    rows = [{"id": number, "tags": ["a"]} for number in range(20_000)]
    assert plain(rows) == json.dumps(rows, separators=(",", ":")).encode()
    assert encode(rows, limit=0).digest == hash_bytes(plain(rows))


def test_a_large_value_is_plain_only_where_it_has_json_types_alone():
    rows = [{"id": number} for number in range(20_000)]
    assert plain([*rows, {1}]) is None
    assert canonical_bytes([*rows, rows[0]]).endswith(b'{"id":19999},{"id":0}]')


def test_the_encoder_lets_go_of_what_it_is_not_to_keep():
    value = [Link(number) for number in range(2000)]
    whole = encode(value)
    assert encode(value, limit=whole.size) == whole
    assert encode(value, limit=whole.size - 1) == whole._replace(data=None)
    assert encode(value, limit=0) == whole._replace(data=None)


def test_a_key_changes_the_hash_alone():
    value = {"a": {1, 2}}
    keyed = encode(value, key=derive_key("k"))
    assert keyed.digest.algorithm == "blake3-keyed"
    assert keyed.digest != encode(value).digest
    assert keyed._replace(digest=encode(value).digest) == encode(value)
    assert encode(value, key=derive_key("k")) == keyed


@pytest.mark.costly
def test_a_dict_of_200_000_keys():
    value = {f"k{number}": number for number in range(200_000)}
    data = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    assert plain(value) == data
    assert encode(value) == final(data)


@pytest.mark.costly
def test_containers_that_another_thread_changes_do_no_harm():
    mapping = {str(number): {number} for number in range(2000)}
    items = [{1} for _ in range(2000)]
    members = set(range(2000))
    stop = threading.Event()

    def change():
        number = 0
        while not stop.is_set():
            number += 1
            mapping[str(number % 5000)] = {number}
            mapping.pop(str((number * 7) % 5000), None)
            members.add(number % 5000)
            members.discard((number * 7) % 5000)
            if len(items) < 4000:
                items.append({number})

    thread = threading.Thread(target=change)
    thread.start()
    try:
        found = [encode([mapping, items, members]) for _ in range(5)]
    finally:
        stop.set()
        thread.join()
    assert [encoded.opaque for encoded in found] == [()] * 5
    assert all(loads(encoded.data) for encoded in found)


def test_encoding_near_the_end_of_the_stack_never_raises():
    found = []

    def descend():
        try:
            descend()
        except RecursionError:
            found.append(encode([{(1, 2)}, Link([Link(1)])]))
            raise

    with pytest.raises(RecursionError):
        descend()
    honest = encode([{(1, 2)}, Link([Link(1)])])
    assert found[-1] == honest
    assert all(encoded == honest or encoded.opaque for encoded in found)


def test_a_user_key_that_looks_like_the_tag_is_told_from_a_tag():
    real = {1, 2}
    fake = {"$py": "set", "items": [1, 2]}
    assert canonical_bytes(real) == b'{"$py":"set","items":[1,2]}'
    assert canonical_bytes(fake) == b'{"$py":"dict","items":[["$py","set"],["items",[1,2]]]}'
    assert canonical_bytes({"a": "$py"}) == b'{"a":"$py"}'
    twice = {"$py": "dict", "items": [["$py", "set"], ["items", [1, 2]]]}
    assert len({canonical_bytes(value) for value in (real, fake, twice)}) == 3


@pytest.mark.parametrize("name", ["slash/tilde~", "", "0"])
def test_the_pointer_of_an_opaque_part_is_exact(name):
    value = [1, {name: [object()]}, (lambda: 1,), {"k": {1: object()}}]
    token = name.replace("~", "~0").replace("/", "~1")
    assert encode(value).opaque == (f"/1/{token}/0", "/2/0", "/3/k/items/0/1")


def test_pointers_are_bounded():
    assert len(encode([object() for _ in range(5000)]).opaque) == MAX_POINTERS


def test_pretty_is_the_layout_of_the_trace_file():
    assert pretty({"b": [], "a": {}, "c": ["é"]}) == '{\n  "b": [],\n  "a": {},\n  "c": [\n    "é"\n  ]\n}'.encode()
    assert (
        pretty({"f\udcff": ["\ud800", 1, None]}) == b'{\n  "f\\\\udcff": [\n    "\\\\ud800",\n    1,\n    null\n  ]\n}'
    )
    with pytest.raises(ValueError):
        loads(b"{")


def test_a_text_in_its_own_size_is_the_same_and_takes_no_more():
    tree = {"b": [1, None, "ä"], "a": 0.5}
    assert sized_bytes_of_tree(tree) == bytes_of_tree(tree) == '{"a":0.5,"b":[1,null,"ä"]}'.encode()
    assert sys.getsizeof(sized_bytes_of_tree(tree)) == sys.getsizeof(b"") + 27
    for _ in range(300):
        tree = [tree]
    assert sized_bytes_of_tree(tree) is bytes_of_tree(tree) is None
