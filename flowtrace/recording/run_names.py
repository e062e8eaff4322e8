"""Which run a step belongs to, for a trace that shows the last steps of the whole process."""

from __future__ import annotations

from collections.abc import Iterable

from flowtrace.host.clock import CLOCK
from flowtrace.recording.state import STATE
from flowtrace.recording.step import Step


class RunName:
    """The id of a run, made when it is first asked for: few runs are ever written."""

    @property
    def id(self) -> str:
        """32 hex digits."""
        made: str | None = self.__dict__.get("made")
        # in one go: two threads of a run may fail at the same time
        return made or self.__dict__.setdefault("made", CLOCK.run_id())


def other_runs(steps: Iterable[Step], run_id: str) -> dict[int, str]:
    """Return the ids of the runs of some steps, by the numbers of the steps; without those of one run.

    Args:
        steps: finished steps.
        run_id: that run.
    """
    with STATE.buffer_lock:
        found = {step.number: _name_of(step).id for step in steps}
    return {number: other for number, other in found.items() if other != run_id}


def _name_of(step: Step) -> RunName:
    if step.run is not None:
        return step.run.name
    name: RunName | None = getattr(step, "ended_run", None)
    if name is None:  # it was all of its run, which has had no recorder
        step.ended_run = name = RunName()
    return name
