"""The governor: a bound on the share of the time that recording values may take.

It leaves out values of the costliest nodes while recording values takes too much of the time. It is asked only where a
value has to be encoded while the program waits; a call whose values are small and plain never comes here. Steps, their
times and their errors are recorded all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from flowtrace.host import log
from flowtrace.host.system import time

if TYPE_CHECKING:
    from flowtrace.recording.node import Node


GRACE: Final = 500_000_000
"""Nanoseconds that values may take before the share counts; after a quiet time as much is free again."""
_ENOUGH: Final = 50_000_000  # ns of credit with which values are recorded again
_LONG: Final = 100_000  # ns; what takes less has not waited for other threads
_LITTLE: Final = 10  # so many times less than the share is recorded even where there is no credit
_MOST_NODES: Final = 1000  # functions that a program makes again and again have a node each
Reading: TypeAlias = "tuple[int] | tuple[int, int, int]"
"""Of the clocks: of the wall, and sometimes of the work of this thread and of all."""


class Governor:
    """Measures what values cost, and says whose are left out.

    The time that values may take is a credit. It grows by a share of the time that passes, up to `GRACE`.

    What a value takes is read from the clock of the wall, too: where other processes want the processor, the program
    waits longer for each value. But it may be other threads of the program that ran meanwhile, and their time is no
    cost. The clocks that tell take longer to read than a small value to encode, so they are read for the next value of
    a node whose last one seemed to take long.

    Args:
        share: of the time that passes, more than 0 and at most 1.
        wall: the clock of the time that passes, in ns.
        work: the clock of the time that this thread works, in ns.
        works: the clock of the time that all threads of the process work, in ns.

    Attributes:
        left_out: the nodes whose values are left out for now. The native core looks into it.
    """

    __slots__ = (
        *("_costs", "_credit", "_has_warned", "_long", "_share", "_since", "_then"),
        *("_wall", "_work", "_works", "left_out"),
    )

    def __init__(
        self,
        share: float,
        wall: Callable[[], int] = time.perf_counter_ns,
        work: Callable[[], int] = time.thread_time_ns,
        works: Callable[[], int] = time.process_time_ns,
    ) -> None:
        self._share = share
        self._wall = wall
        self._work = work
        self._works = works
        self._credit = float(GRACE)
        self._has_warned = False
        self._since = self._then = wall()
        self._costs: dict[Node, int] = {}
        self._long: set[Node] = set()
        self.left_out: set[Node] = set()

    def begin(self, node: Node) -> Reading | None:
        """Return a reading of the clocks before a value is encoded, for `end`; None where it is to be left out."""
        now = self._take_in()
        if node in self.left_out:
            return None
        return (now, self._work(), self._works()) if node in self._long else (now,)

    def leaves_out(self, node: Node) -> bool:
        """Return True if the values of a node are left out for now. No clock is read while those of no node are."""
        if not self.left_out:
            return False
        self._take_in()
        return node in self.left_out

    def _take_in(self) -> int:
        """Add the time that has passed to the credit; once there is enough of it, leave out no values any more."""
        now = self._wall()
        self._credit = min(self._credit + (now - self._then) * self._share, GRACE)
        self._then = now
        if self.left_out and self._credit >= _ENOUGH:
            self.forget()
        return now

    def forget(self) -> None:
        """Forget all nodes, whose functions would be held; the values of all are recorded again."""
        self.left_out.clear()
        self._forget(self._then)

    def _forget(self, now: int) -> None:
        self._costs.clear()
        self._long.clear()
        self._since = now

    def end(self, node: Node, begun: Reading) -> None:
        """Count the time since a value was begun."""
        spent = self._spent(node, begun)
        self._credit -= spent
        if len(self._costs) >= _MOST_NODES and not self.left_out:
            self._forget(self._then)
        self._costs[node] = self._costs.get(node, 0) + spent
        if self._credit <= 0:
            self._leave_out()

    def _spent(self, node: Node, begun: Reading) -> int:
        spent = self._wall() - begun[0]
        if len(begun) > 1:
            worked = self._work() - begun[1]
            spent = max(worked, spent - (self._works() - begun[2] - worked))
        if spent >= _LONG:
            self._long.add(node)
        else:
            self._long.discard(node)
        return spent

    def _leave_out(self) -> None:
        """Leave out the costliest nodes, until what the others cost is no more than the share."""
        others = {node: cost for node, cost in list(self._costs.items()) if node not in self.left_out}
        rest, allowed = sum(others.values()), (self._then - self._since) * self._share
        for node in sorted(others, key=others.__getitem__, reverse=True):
            if rest * _LITTLE <= allowed:  # others have used up the credit
                return
            self.left_out.add(node)
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
