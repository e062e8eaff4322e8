"""Which two values of a node's input tell its calls apart: they stand after its name wherever it is listed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flowtrace.cli.common import shortened
from flowtrace.cli.page.value_tree import Shown
from flowtrace.trace.outline import Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flowtrace.trace.model import Step

Path = tuple[str, ...]
_LOOKED_AT: Final = 60  # calls of each node
_LEAVES: Final = 30
_DEPTH: Final = 3
_SHOWN: Final = 2
_WIDTH: Final = 60


class Arguments:
    """The values that tell the calls of each node apart.

    Args:
        entries: the steps.
        input_of: returns the tree of a step's input in a list of one, or None.

    Attributes:
        paths: by node, the names that lead to each of these values in the tree of an input.
    """

    def __init__(self, entries: list[Entry], input_of: Callable[[Step], list[Shown] | None]) -> None:
        self._input_of = input_of
        calls: dict[str, list[dict[Path, str]]] = {}
        for entry in entries:
            samples = calls.setdefault(entry.step.node_id, [])
            if len(samples) < _LOOKED_AT and (tree := input_of(entry.step)) is not None:
                samples.append(dict(_leaves(tree[0])))
        self.paths = {node: _telling(found) for node, found in calls.items() if found}

    def of(self, step: Step) -> str:
        """Return the values of a step that tell it apart, on a short line."""
        paths = self.paths.get(step.node_id)
        tree = self._input_of(step) if paths else None
        if tree is None or not paths:
            return ""
        leaves = dict(_leaves(tree[0]))
        return shortened("  ".join(leaves[path] for path in paths if path in leaves), _WIDTH)


def _telling(calls: list[dict[Path, str]]) -> list[Path]:
    """Return the paths with the most different values, in the order in which they stand in the input."""
    values: dict[Path, set[str]] = {}
    for leaves in calls:
        for path, text in leaves.items():
            values.setdefault(path, set()).add(text)
    order = [path for path, texts in values.items() if len(texts) > 1 or len(calls) == 1]
    best = sorted(order, key=lambda path: (-len(values[path]), order.index(path)))[:_SHOWN]
    return sorted(best, key=order.index)


def _leaves(tree: Shown) -> Iterator[tuple[Path, str]]:
    """Yield the plain values in a tree with the names that lead there, the outer ones first."""
    waiting: list[tuple[Path, Any]] = [((), tree)]
    left = _LEAVES
    for path, part in waiting:
        if isinstance(part, list) and part[0] == "m" and len(path) < _DEPTH:
            waiting += [((*path, name), inner) for name, inner in zip(part[2][::2], part[2][1::2], strict=True)]
        elif path and (text := _plain(part)):
            yield path, text
            left -= 1
            if not left:
                return


def _plain(part: Shown) -> str:
    if isinstance(part, str):
        return part[1:-1] if part[-1:] == part[:1] else part
    if isinstance(part, list):
        return str(part[2]) if part[0] == "v" else ""
    return "" if part is None or isinstance(part, bool) else str(part)
