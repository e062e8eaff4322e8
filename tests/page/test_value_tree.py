"""A recorded value as a tree that a page unfolds: bounded, and printable, whatever stands in the trace."""

from __future__ import annotations

import json
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowtrace import canonical_bytes
from flowtrace.cli.page import render
from flowtrace.cli.page.value_tree import as_line, shown
from flowtrace.errors import FlowtraceError
from flowtrace.host.log import printable


def tree(value):
    return shown(json.loads(canonical_bytes(value)))


def test_an_array_has_its_shape_dtype_and_first_rows():
    numpy = pytest.importorskip("numpy")
    kind, title, columns, rows = tree(numpy.array([[1.5, 2.0], [3.0, 4.0]]))
    assert (kind, title, columns) == ("t", "array, float64, 2 x 2", None)
    assert rows == [["1.5", "2.0"], ["3.0", "4.0"]]


def test_a_large_value_is_cut_and_says_how_much_is_left():
    kind, name, items, more = tree(list(range(500)))
    assert (kind, name, len(items), more) == ("l", "list", 100, 400)
    assert as_line(tree("x" * 9000), 9000).endswith("… (9,000 characters)")
    assert as_line(tree(list(range(500))), 20) == "[0, 1, 2, 3, 4, 5, …"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KINDS = (
    "float int str bytes complex decimal fraction uuid date time datetime timedelta zone path ip range slice enum "
    "pattern type function module numpy.scalar tensor dict set dataclass array pandas.frame "
    "polars.series opaque cut exception"
)
FIELDS = st.sampled_from("value items class fields hex base64 days shape dtype args values columns size".split())
FORMS = st.builds(
    lambda kind, fields: {"$py": kind, **fields},
    st.sampled_from(KINDS.split()) | JSON,
    st.dictionaries(FIELDS, JSON, max_size=5),
)


@given(JSON | FORMS | st.lists(FORMS, max_size=3))
def test_whatever_stands_in_a_trace_has_a_tree_of_printable_texts(value):
    found = shown(value)
    text = json.dumps(found, ensure_ascii=False)
    assert printable(text) == text
    assert len(as_line(found, 80)) <= 80


def test_a_value_nested_without_end_is_cut():
    value = 1
    for _ in range(5000):
        value = [value]
    assert as_line(shown(value), 200) == "[" * 12 + "<more is in the trace>" + "]" * 12


def test_a_page_without_jinja2_says_what_to_install(monkeypatch):
    render.environment.cache_clear()
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(FlowtraceError, match=re.escape("pip install 'flowtrace[cli]'")):
        render.render("trace.html", {})
    render.environment.cache_clear()
