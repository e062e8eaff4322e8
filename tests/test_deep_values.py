"""Values that are nested deeply: recorded on both cores, and no process ends, however deep Python may recurse."""

from __future__ import annotations

import pytest

from flowtrace import canonical_bytes, hash_value
from flowtrace.values.json import plain
from tests.programs import run_program

PROGRAM = """
import gc, sys
from dataclasses import dataclass
from flowtrace import configure, traced_node

@dataclass
class Link:
    inner: object

WRAP = {
    "list": lambda inner: [inner],
    "tuple": lambda inner: (inner, 1),
    "dict": lambda inner: {"inner": inner},
    "record": lambda inner: Link(inner),
    "set": lambda inner: frozenset((inner,)),
    "both": lambda inner: [(inner, 1)],
}

def nested(kind):
    value = frozenset()
    for _ in range(DEPTH):
        value = WRAP[kind](value)
    return value

@traced_node(component="c", operation="back")
def back(value, **more):
    return value

@traced_node(component="c", operation="each")
def each(value):
    yield value

configure(mode="on", out_path="trace.json", blackbox=BOX)
sys.setrecursionlimit(LIMIT)
for kind in KINDS:
    value = nested(kind)
    for _ in range(3):
        gc.collect()  # which no longer tracks tuples of atoms then, nor a dict of such
    for given in (value, {"a": value})[-FEW:]:
        back(given), back(1, a=given), list(each(given))
    del value, given
print("ended")
"""


@pytest.mark.parametrize("pure", ["", "1"])
@pytest.mark.parametrize("box", [None, "app.ring"])
@pytest.mark.parametrize(
    ("depth", "limit", "kinds"),
    [(2_000, 1_000, "list tuple dict record set both"), (60_000, 1_000_000, "list"), (60_000, 1_000_000, "both")],
)
def test_a_value_that_is_nested_deeply_ends_no_process(tmp_path, pure, box, depth, limit, kinds):
    kinds = kinds.split()
    constants = f"BOX, DEPTH, LIMIT, KINDS, FEW = {box!r}, {depth}, {limit}, {kinds}, {min(len(kinds), 2)}"
    done = run_program(tmp_path, constants, PROGRAM, FLOWTRACE_PURE=pure, FLOWTRACE_MAX_OVERHEAD="0")
    assert done.stdout.startswith("ended")


@pytest.mark.parametrize("wrap", [lambda inner: (inner, 1), lambda inner: [1, inner], lambda inner: {"a": inner}])
@pytest.mark.parametrize("depth", [10, 252, 253, 254, 255, 300, 3_000])
def test_the_form_of_a_value_is_the_same_at_any_depth(wrap, depth):
    value = found = None
    text = b"null"
    for _ in range(depth):
        value = wrap(value)
    before, after = plain(wrap(None)).split(b"null")
    text = before * depth + b"null" + after * depth
    assert canonical_bytes(value) == text
    assert hash_value(value) == hash_value(value)
    found = plain(value)
    assert found is None if depth > 254 else found == text
