"""The governor: it leaves out values of the costliest nodes while recording values takes too much of the time.

It is asked only where a value has to be encoded while the program waits; a call whose values are small and plain never
comes here. Steps, their times and their errors are recorded all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from flowtrace.host import log
from flowtrace.host.system import time

if TYPE_CHECKING:
    from flowtrace.recording.node import Node

GRACE: Final = 1_000_000_000
"""Nanoseconds that values may take before the share counts; after a quiet time as much is free again."""
_ENOUGH: Final = 50_000_000  # ns of credit with which values are recorded again


class Governor:
    """Measures what values cost, and says whose are left out.

    The time that values may take is a credit. It grows by a share of the time that passes, up to `GRACE`.

    Args:
        share: of the time that passes, more than 0 and at most 1.
        wall: the clock of the time that passes, in ns.
        work: the clock of the time that this thread works, in ns.
    """

    __slots__ = ("_costs", "_credit", "_has_warned", "_left_out", "_share", "_since", "_then", "_wall", "_work")

    def __init__(
        self,
        share: float,
        wall: Callable[[], int] = time.perf_counter_ns,
        work: Callable[[], int] = time.thread_time_ns,
    ) -> None:
        self._share = share
        self._wall = wall
        self._work = work
        self._credit = float(GRACE)
        self._has_warned = False
        self._since = self._then = wall()
        self._costs: dict[Node, int] = {}
        self._left_out: set[Node] = set()

    def begin(self, node: Node) -> int:
        """Return the reading of the clock before a value is encoded; -1 where it is to be left out."""
        self._take_in()
        return -1 if node in self._left_out else self._work()

    def leaves_out(self, node: Node) -> bool:
        """Return True if the values of a node are left out for now. No clock is read while those of no node are."""
        if not self._left_out:
            return False
        self._take_in()
        return node in self._left_out

    def _take_in(self) -> None:
        """Add the time that has passed to the credit; once there is enough of it, leave out no values any more."""
        now = self._wall()
        self._credit = min(self._credit + (now - self._then) * self._share, GRACE)
        self._then = now
        if self._left_out and self._credit >= _ENOUGH:
            self._left_out.clear()
            self._costs.clear()
            self._since = now

    def end(self, node: Node, begun: int) -> None:
        """Count the time since a value was begun."""
        spent = self._work() - begun
        self._credit -= spent
        self._costs[node] = self._costs.get(node, 0) + spent
        if self._credit <= 0:
            self._leave_out()

    def _leave_out(self) -> None:
        """Leave out the costliest nodes, until what the others cost is no more than the share."""
        others = {node: cost for node, cost in list(self._costs.items()) if node not in self._left_out}
        rest, allowed = sum(others.values()), (self._then - self._since) * self._share
        for node in sorted(others, key=others.__getitem__, reverse=True):
            self._left_out.add(node)
            self._warn(node)
            rest -= others[node]
            if rest <= allowed:
                return

    def _warn(self, node: Node) -> None:
        if not self._has_warned:
            self._has_warned = True
            log.warn_once(
                "recording the values of a node takes too much of the time: for now they are left out",
                ("overhead",),
                node=node.node_id,
                limit=self._share,
            )
