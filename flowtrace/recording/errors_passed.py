"""The steps that errors came through, and so the step in which the error of a run began.

Nothing here keeps an error alive, and nothing is written on one: the program could see either. An error is known again
by its address and its traceback, which only grows at its outer end. A later error at the same address has a traceback
of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from flowtrace.host.signals import traceback_of
from flowtrace.recording.failure import cause_of, code_of, context_of, origins_of, parts_of

if TYPE_CHECKING:
    from flowtrace.recording.step import Step

MOST_ERRORS: Final = 100  # errors that are remembered, of all threads and tasks
_MOST_LINKS: Final = 50  # causes, contexts and members that are followed
_HOPS: Final = 20


class Passed(NamedTuple):
    """The steps that an error came through.

    Attributes:
        run_id: of the run of the last one; "" for an outermost call without one.
        expected: the error is part of the contract of the last one's node.
        began: in each run, the number of the first step: the run's id and the number, in the order of the steps.
    """

    run_id: str
    expected: bool
    began: tuple[tuple[str, int], ...]

    def first_in(self, run_id: str | None) -> int:
        """Return the number of the first step, of a run or of all (None); 0 for none."""
        return next((number for run, number in self.began if run_id in (None, run)), 0)


class _Noted(NamedTuple):
    """An error on its way out.

    Attributes:
        depth: how many entries its traceback had at the first step.
        origins: the hash of those entries.
        head: the outermost entry when it was last seen.
        around: number of the step around the last one that it came through.
        passed: the steps.
    """

    depth: int
    origins: int
    head: tuple[int, ...]
    around: int
    passed: Passed


class ErrorsPassed:
    """The latest errors that came through steps."""

    __slots__ = ("_noted",)

    def __init__(self) -> None:
        self._noted: dict[tuple[int, int], _Noted] = {}

    def note(self, error: BaseException, step: Step, run_id: str, expected: bool) -> None:
        """Note that an error comes through a step of some run."""
        key = (id(error), id(type(error)))
        before = self._noted.pop(key, None)
        traceback = traceback_of(error)
        began: tuple[tuple[str, int], ...] = ((run_id, step.number),)
        if before is not None and _goes_on(before, traceback, step.number):
            depth, origins = before.depth, before.origins
            began = before.passed.began if before.passed.first_in(run_id) else before.passed.began + began
        else:
            entries = tuple(origins_of(traceback))
            depth, origins = len(entries), hash(entries)
        passed = Passed(run_id, expected, began)
        self._noted[key] = _Noted(depth, origins, _head(traceback), step.parent, passed)
        while len(self._noted) > MOST_ERRORS:
            self._noted.pop(next(iter(self._noted)), None)

    def steps_of(self, error: BaseException) -> Passed | None:
        """Return the steps that an error came through; None where no step has seen it."""
        noted = self._noted.get((id(error), id(type(error))))
        if noted is None:
            return None
        entries = tuple(origins_of(traceback_of(error)))
        return noted.passed if _ends_as(entries, noted) else None

    def began(self, error: BaseException, run_id: str | None = None) -> int:
        """Return the number of the step in which an error began.

        It is found through members of groups, causes and contexts. Of what was cancelled, no step is to blame.

        Args:
            error: what left a call, a flow or the process.
            run_id: only steps of this run count; None means of any.

        Returns:
            The number; 0 where no step has seen the error nor any that it comes from.
        """
        return self._began(error, run_id, set())

    def _began(self, error: BaseException, run_id: str | None, seen: set[int]) -> int:
        if id(error) in seen or len(seen) >= _MOST_LINKS or code_of(error) == "node_cancelled":
            return 0
        seen.add(id(error))
        # the members of a group, and what it was raised from, are older than the group
        older = (self._began(other, run_id, seen) for other in (*parts_of(error), cause_of(error)) if other is not None)
        found = next(filter(None, older), 0)
        if found:
            return found
        passed = self.steps_of(error)
        own = 0 if passed is None else passed.first_in(run_id)
        handled = context_of(error)
        inner = 0 if handled is None else self._began(handled, run_id, seen)
        # what failed before the own step began, such as an earlier attempt, was only being handled around it
        return inner if inner > own else own


def _head(traceback: Any) -> tuple[int, ...]:
    return () if traceback is None else (id(traceback), id(traceback.tb_frame.f_code), traceback.tb_lineno or 0)


def _goes_on(before: _Noted, traceback: Any, number: int) -> bool:
    """Return True if an error that comes through a step is the one that was noted, and no later one at its address.

    Mostly it comes from a step inside this one: then the newest entries tell that. A recursion may pass a thousand
    steps, and none of them should cost a walk through them all.
    """
    is_inside = before.around == number
    if is_inside and _stands_in(before.head, traceback):
        return True
    entries = tuple(origins_of(traceback))
    return (is_inside or len(entries) > before.depth) and _ends_as(entries, before)


def _stands_in(head: tuple[int, ...], traceback: Any) -> bool:
    """Return True if a traceback has grown from another one: each caller puts its own entry before."""
    for _ in range(_HOPS):
        if traceback is None:
            return False
        if _head(traceback) == head:
            return True
        traceback = traceback.tb_next
    return False


def _ends_as(entries: tuple[Any, ...], noted: _Noted) -> bool:
    start = len(entries) - noted.depth
    return start >= 0 and hash(entries[start:]) == noted.origins
