"""The pytest plugin that chooses what runs: `make test` a part that takes minutes, `make test-all` everything.

In between, `make test-each` runs that part and, of every test that it would leave out, one case or one in ``SHARE``.

Three markers say what may be left out:

- ``cells``: a test with one case for each combination of its parameters, hundreds of them. One case in ``SHARE`` runs,
  and as many more as it takes for every value of every parameter to be there at least once. The commit decides which:
  the same commit runs the same cases everywhere, ``SHARE`` turns in a row run all of them.
- ``costly``: a test that takes half a second or more, or many cases that start a program each. One in ``SHARE`` of all
  these runs, in turns as well.
- ``slow``: a test that mainly waits, or repeats for long.

Tests by hypothesis try fewer examples of each kind, but for those that say how many they need.

Nothing is left out with ``--all``, nor where the command line asks for tests by name: a node id, -k, -m, --lf.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections import Counter

import pytest

SHARE = 8
NOUNS = {"slow": "slow test", "cells": "combinatorial case", "costly": "costly case"}
MARKERS = {
    "cells": "one case for each combination of parameters: a part of them runs without --all",
    "costly": "takes half a second or more, or is one of many that start a program: a part of them runs without --all",
    "slow": "mainly waits, or repeats for long: does not run without --all",
}


def pick(cases, turn, share=SHARE):
    """Return the names of the cases that run in a turn.

    Args:
        cases: maps the name of each case to its values, as (parameter, value) pairs.
        turn: any whole number.
        share: one case in so many runs, and those that it takes to see each pair at least once.
    """
    shuffled = sorted(cases, key=_hash)
    picked = set(shuffled[turn % share :: share])
    seen = {pair for name in picked for pair in cases[name]}
    for name in sorted(cases, key=lambda name: _hash(f"{turn} {name}")):
        if not seen.issuperset(cases[name]):
            picked.add(name)
            seen.update(cases[name])
    return picked


def _hash(text):
    """Return what a text is sorted by: an order that is the same everywhere, and has nothing to do with the text."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def values_of(item):
    """Return the values that a test is called with, as pairs of a parameter and what identifies the value."""
    return {(name, value if isinstance(value, str) else id(value)) for name, value in item.callspec.params.items()}


def pytest_addoption(parser):
    group = parser.getgroup("selection of tests")
    group.addoption("--all", action="store_true", help="run the slow tests and every case of the combinatorial ones")
    group.addoption("--each", action="store_true", help="run a case of every test, one in so many of those with many")
    group.addoption("--cells", metavar="COMMIT", help="run the cases that this commit runs (default: the current one)")


def pytest_configure(config):
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")
    config.option.cells = config.option.cells or _current_commit(config.rootpath)
    config.stash[LEFT_OUT] = Counter()
    if not _takes_all(config) and config.pluginmanager.hasplugin("hypothesispytest"):
        from hypothesis import settings  # takes a while to load, and is there already

        settings.register_profile("part", max_examples=30)
        settings.load_profile("part")


LEFT_OUT = pytest.StashKey[Counter]()


def _current_commit(folder):
    command = ["git", "-C", str(folder), "rev-parse", "--short=10", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "0"  # no repository: the source archive


def _takes_all(config):
    """Return whether the command line asks for all tests, or for some by name."""
    option = config.option
    by_name = option.keyword or option.markexpr or getattr(option, "lf", False)
    return option.all or bool(by_name) or any("::" in str(argument) for argument in config.args)


def pytest_report_header(config):
    if _takes_all(config):
        return "selection: everything that was asked for"
    slow = "slow ones too, and one of every test" if config.option.each else "and no slow tests"
    return (
        f"selection: one in {SHARE} combinatorial or costly cases, those of --cells={config.option.cells}, {slow}; "
        "--all (make test-all) runs everything, a node id or -k whatever it names"
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    if _takes_all(config):
        return
    each = config.option.each
    groups, costly = {}, {}
    for item in items:
        test = item.nodeid.partition("[")[0]
        if item.get_closest_marker("costly") or (each and item.get_closest_marker("slow")):
            costly[item.nodeid] = {test} if each else set()
        elif item.get_closest_marker("cells"):
            groups.setdefault(test, {})[item.nodeid] = values_of(item)
    turn = int(_hash(config.option.cells).hex(), 16)
    picked = pick(costly, turn).union(*(pick(cases, turn) for cases in groups.values()))
    kept, left_out = [], []
    for item in items:
        reason = _left_out_as(item, picked, each)
        (left_out if reason else kept).append(item)
        config.stash[LEFT_OUT][reason] += bool(reason)
    items[:] = kept
    config.hook.pytest_deselected(items=left_out)


def _left_out_as(item, picked, each):
    """Return the marker that leaves a test out, or nothing."""
    reason = next((name for name in ("slow", "costly", "cells") if item.get_closest_marker(name)), "")
    is_picked = item.nodeid in picked and (each or reason != "slow")
    return "" if is_picked else reason


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = dict(session.config.stash[LEFT_OUT])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Take over from a worker of pytest-xdist what it left out: each collects the same tests."""
    node.config.stash[LEFT_OUT] |= Counter(getattr(node, "workeroutput", {}).get("left_out", {}))


def pytest_terminal_summary(terminalreporter, config):
    left = config.stash[LEFT_OUT]
    counts = [f"{left[name]} {what}{'s' if left[name] > 1 else ''}" for name, what in NOUNS.items() if left[name]]
    if counts:
        terminalreporter.write_line(f"left out: {', '.join(counts)} (make test-all runs them)")
