"""Both trees of a comparison in one, as columns for the script of the page: a row a pair, and what was folded away."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from flowtrace.cli.common import several
from flowtrace.cli.page.lanes import duration_ns
from flowtrace.cli.page.steps_data import Table, name_parts

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowtrace.comparing.align import Call, Pair
    from flowtrace.comparing.result import TraceDiff
    from flowtrace.trace.model import Step

_NAMED: Final = 4
SAME: Final = -1
ROLLED_OUT: Final = -2


class Pairs:
    """The pairs of two traces in the order of the tree.

    Args:
        pairs: the outermost ones.
        result: what differs.
        arguments_of: returns the values of a step that tell it apart.
    """

    def __init__(self, pairs: list[Pair], result: TraceDiff, arguments_of: Callable[[Step], str]) -> None:
        self._arguments_of = arguments_of
        self.rows: list[tuple[Pair, int, int]] = []  # each with its level, and the row of the one around it
        waiting = [(pair, 0, -1) for pair in reversed(pairs)]
        while waiting:
            pair, depth, parent = waiting.pop()
            row = len(self.rows)
            self.rows.append((pair, depth, parent))
            waiting += [(child, depth + 1, row) for child in reversed(_inside(pair))]
        self.kinds = Table()
        marked = {(item.a, item.b): self.kinds.number(str(item.kind)) for item in result.divergences}
        self.kind = [self._kind(pair, marked) for pair, _, _ in self.rows]
        first = result.first
        pointers = [_pointers(pair) for pair, _, _ in self.rows]
        self.first = pointers.index((first.a, first.b)) if first is not None and (first.a, first.b) in pointers else -1

    @property
    def first_arguments(self) -> str:
        """The values that tell the first differing step apart; empty where there is none."""
        return self._arguments_of(self.rows[self.first][0].either.step) if self.first >= 0 else ""

    def _kind(self, pair: Pair, marked: dict[tuple[str | None, str | None], int]) -> int:
        found = marked.get(_pointers(pair))
        if found is not None:
            return found
        return ROLLED_OUT if pair.is_rolled_out else SAME

    def document(self) -> dict[str, Any]:
        """Return the columns."""
        nodes = Table()
        return {
            "rows": len(self.rows),
            "node": [nodes.number(name_parts(pair.either.step)) for pair, _, _ in self.rows],
            "nodes": nodes.items,
            "depth": [depth for _, depth, _ in self.rows],
            "parent": [parent for _, _, parent in self.rows],
            "arguments": [self._arguments_of(pair.either.step) for pair, _, _ in self.rows],
            "kind": self.kind,
            "kinds": self.kinds.items,
            "first": self.first,
            "a": [_side(pair.a) for pair, _, _ in self.rows],
            "b": [_side(pair.b) for pair, _, _ in self.rows],
            "changed": self.folded(),
        }

    def folded(self) -> list[int | list[Any]]:
        """Return the rows that differ and those around them; between them, a list for the rows that are folded away.

        Such a list has the level of the rows, whether their counterparts rolled out, and a text.
        """
        kept = [kind >= 0 for kind in self.kind]
        for row in range(len(self.rows) - 1, -1, -1):
            parent = self.rows[row][2]
            if kept[row] and parent >= 0:
                kept[parent] = True
        found: list[int | list[Any]] = []
        row = 0
        while row < len(self.rows):
            if kept[row]:
                found.append(row)
                row += 1
                continue
            end = self._end_of_run(row, kept)
            found.append(self._fold(row, end))
            row = end
        return found

    def _end_of_run(self, start: int, kept: list[bool]) -> int:
        """Return the row after the last one of siblings that are folded together, with all that is inside them."""
        depth, is_lost = self.rows[start][1], self.kind[start] == ROLLED_OUT
        row = start
        while row < len(self.rows) and not kept[row] and self.rows[row][1] >= depth:
            if self.rows[row][1] == depth and (self.kind[row] == ROLLED_OUT) != is_lost:
                break
            row += 1
        return row

    def _fold(self, start: int, end: int) -> list[Any]:
        depth = self.rows[start][1]
        names = ["".join(name_parts(pair.either.step)) for pair, level, _ in self.rows[start:end] if level == depth]
        runs = [(name, len(list(group))) for name, group in groupby(names)]
        texts = [name if count == 1 else f"{name} \N{MULTIPLICATION SIGN} {count}" for name, count in runs[:_NAMED]]
        texts += ["…"] if len(runs) > _NAMED else []
        return [depth, int(self.kind[start] == ROLLED_OUT), f"{', '.join(texts)} ({several(end - start, 'step')})"]


def _inside(pair: Pair) -> list[Pair]:
    """Return the pairs inside a pair; those of a call that has no counterpart have none either."""
    from flowtrace.comparing.align import Pair as NewPair

    if pair.children or (pair.a is not None and pair.b is not None):
        return pair.children
    calls = pair.either.children
    return [
        NewPair(call if pair.a else None, call if pair.b else None, is_rolled_out=pair.is_rolled_out) for call in calls
    ]


def _pointers(pair: Pair) -> tuple[str | None, str | None]:
    return pair.a.pointer if pair.a else None, pair.b.pointer if pair.b else None


def _side(call: Call | None) -> list[int] | int:
    """Return a step's number (-1: in flight), its state and its time; 0 where it is not there."""
    if call is None:
        return 0
    is_finished = call.pointer.startswith("/steps/")
    error = call.step.error
    state = (
        4 if error is None and not is_finished else 0 if error is None else 3 if error.code == "node_cancelled" else 1
    )
    return [int(call.pointer.rpartition("/")[2]) if is_finished else -1, state, duration_ns(call.step)]
