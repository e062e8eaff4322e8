"""A traced recursive function keeps half of its depth, and fails at the limit as Python does."""

from __future__ import annotations

import sys

import pytest

import flowtrace

from .flowtrace_subject import FLOWTRACE
from .recursion import DEPTHS, figures

# CPython 3.11 counts the call through a C type as a level of its own: two of three levels are ours.
PART = {"off": 0.49, "on": 0.49 if sys.version_info >= (3, 12) else 0.32}

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # coroutines that the limit left unstarted


@pytest.mark.costly
@pytest.mark.parametrize("mode", ["off", "on"])
@pytest.mark.parametrize("kind", DEPTHS)
def test_a_traced_recursion_keeps_its_part_of_the_depth(kind, mode):
    assert figures(FLOWTRACE, (mode,), (kind,))[kind, mode] >= PART[mode]


@pytest.mark.costly
@pytest.mark.parametrize("mode", ["off", "on", "always"])
def test_the_limit_raises_in_the_function_and_the_program_goes_on(mode):
    @flowtrace.traced_node
    def deeper(number):
        return deeper(number + 1)

    flowtrace.configure(mode=mode, out_path="trace.json")
    for _ in range(3):
        with pytest.raises(RecursionError, match="maximum recursion depth exceeded"):
            deeper(0)
    assert flowtrace.traced_node(lambda: "goes on")() == "goes on"
