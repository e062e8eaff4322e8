"""Of a replayed step, its own input and output are compared; those of calls inside it only where stubs answer them."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowtrace import replay
from tests.replay.workshop import edit, new_module, outcomes, record

TREES = """
    from collections.abc import Iterator
    from dataclasses import dataclass
    from flowtrace import traced_node

    @dataclass
    class Tree:
        name: str
        inner: list["Tree"]

    @traced_node(component="trees", operation="copy")
    def copy(tree: Tree) -> Tree:
        return Tree(tree.name.upper(), [copy(inner) for inner in tree.inner])

    @traced_node(component="trees", operation="names")
    def names(tree: Tree) -> Iterator[Tree]:
        yield copy(tree)
        for inner in tree.inner:
            yield from names(inner)

    @traced_node(component="trees", operation="listed")
    def listed(tree: Tree) -> tuple[Tree, ...]:
        return tuple(names(tree))
"""


@pytest.fixture
def trees(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return new_module(tmp_path, TREES)


def listed(trees):
    def make(name, *inner):
        return trees.Tree(name, list(inner))

    return record("t.json", lambda: trees.listed(make("a", make("b"), make("c", make("d")))))


def test_inputs_and_outputs_of_every_step_are_compared_whatever_is_called_inside_it(trees):
    report = replay(listed(trees))
    assert [operation for operation, _, _ in outcomes(report)].count("copy") == 8
    assert [item for item in outcomes(report) if item[1:] != ("same_output", "")] == []
    assert {item.exact_input for item in report.steps} == {True}
    assert [item.output_json for item in report.steps] == [item.step.output_json for item in report.steps]


def test_a_changed_output_of_a_step_with_inner_calls_is_found(trees):
    trace = listed(trees)
    source = Path(trees.__file__)
    source.write_text(source.read_text().replace("tree.name.upper()", "tree.name"))
    exec(compile(source.read_text(), str(source), "exec"), vars(trees))
    assert {outcome for _, outcome, _ in outcomes(replay(trace))} == {"different_output"}


def test_an_input_that_is_not_the_recorded_one_is_noted(trees):
    trace = listed(trees)
    edit(trace, lambda document: document["steps"][0]["input_hash"].update(value="0" * 64))
    first, *others = replay(trace).steps
    assert (first.exact_input, {item.exact_input for item in others}) == (False, {True})


def test_stubs_are_answered_by_the_inputs_of_inner_calls(trees):
    report = replay(listed(trees), steps="trees.listed", stubs=["trees.copy"])
    (item,) = report.steps
    assert (item.outcome, item.notes) == ("same_output", [])
