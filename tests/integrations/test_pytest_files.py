"""The names of the traces of tests: safe on every file system, short, and no two tests share one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowtrace.integrations.pytest_files import FileNames

NAMES = FileNames()


@pytest.mark.parametrize(
    ("nodeid", "phase", "reruns", "name"),
    [
        ("test_a.py::test_b", "", 0, "test_a.py--test_b.json"),
        ("tests/unit/test_a.py::TestC::test_b", "", 0, "tests.unit.test_a.py--TestC--test_b.json"),
        ("test_a.py::test_b[1-x]", ".setup", 0, "test_a.py--test_b-1-x.setup.json"),
        ("test_a.py::test_b", ".teardown", 2, "test_a.py--test_b.rerun2.teardown.json"),
        ("test_a.py::test_b[a/b]", "", 0, "test_a.py--test_b-a_b-78470656.json"),
        ("test_a.py::test_b[C:\\x?]", "", 0, "test_a.py--test_b-C__x_-6b2a9c1d.json"),
        ("aux.py::test_b", "", 0, "_aux.py--test_b.json"),
        ("../trace.json::0", "", 0, "trace.json--0-f15c7efa.json"),
        ("test_ä.py::test_b", "", 0, "test__.py--test_b-be1f6aec.json"),
        ("", "", 0, "test-e3b0c442.json"),
    ],
)
def test_a_file_is_named_by_the_node_id(nodeid, phase, reruns, name):
    assert NAMES.file(nodeid, phase, reruns) == name


def test_a_long_name_is_cut_and_gets_a_short_hash():
    one, other = (NAMES.file(f"test_a.py::test_b[{'x' * 500}{end}]", ".setup", 1) for end in "12")
    assert one != other
    assert re.fullmatch(r"test_a\.py--test_b-x{82}-[0-9a-f]{8}\.rerun1\.setup\.json", one)


def test_two_tests_of_a_session_whose_names_differ_by_case_alone_get_names_of_their_own():
    names = FileNames(["t.py::test_a", "t.py::test_A", "t.py::test_b", "t.py::test_b"])
    found = [names.file(f"t.py::test_{letter}", "", 0) for letter in "aAb"]
    assert [re.sub(r"-[0-9a-f]{8}\.", "-#.", name) for name in found] == [
        "t.py--test_a-#.json",
        "t.py--test_A-#.json",
        "t.py--test_b.json",
    ]
    assert len({name.casefold() for name in found}) == 3


@given(st.lists(st.text(max_size=200), min_size=2, max_size=6, unique=True))
def test_any_node_ids_give_safe_names_that_differ(nodeids):
    names = FileNames(nodeids)
    found = [names.file(nodeid, ".teardown", 1) for nodeid in nodeids]
    assert all(re.fullmatch(r"[\w.-]{1,143}", name, re.ASCII) for name in found)
    assert not any(name.startswith(".") or name.endswith(".") for name in found)
    assert len({name.casefold() for name in found}) == len(nodeids)
