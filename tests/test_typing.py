"""What type checkers say of users' code: exactly the errors that the files in tests/typing expect.

pyright needs Node.js, which the test environment is spared: `make types` runs its part.
"""

from __future__ import annotations

import importlib.util

import pytest

from tests.typing import check


@pytest.mark.slow
def test_mypy_says_what_the_comments_expect(tmp_path):
    assert check.mypy(str(tmp_path)) == check.expected("mypy")


@pytest.mark.skipif(importlib.util.find_spec("pyright") is None, reason="pyright runs in `make types`")
def test_pyright_says_what_the_comments_expect():
    assert check.pyright() == check.expected("pyright")


def test_both_checkers_are_asked_to_refuse_the_same_lines():
    places = {tool: {place[:2] for place in check.expected(tool)} for tool in ("mypy", "pyright")}
    assert places["mypy"] == places["pyright"]
    assert {file for file, _ in places["mypy"]} == {"refused.py"}
    assert len(places["mypy"]) > 50
