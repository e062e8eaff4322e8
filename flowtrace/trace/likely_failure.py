"""The step in which a failure most likely began, in a trace whose writer did not name it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flowtrace.trace.model import Step


def likely_failed_step(steps: Iterable[Step], in_flight: Iterable[Step]) -> Step | None:
    """Return the innermost step of the last failure; None where no step failed but by being cancelled.

    Args:
        steps: finished steps, in the order of their ends.
        in_flight: steps that still ran, or that their process died in.
    """
    listed = [*in_flight, *steps]  # in the order of their ends: one in flight ended last, but its error is no cause
    failed = [step for step in listed if step.error is not None and step.error.code != "node_cancelled"]
    last_inside: dict[str, Step] = {}
    for step in failed:
        if step.parent_step_id is not None:
            last_inside[step.parent_step_id] = step
    found = failed[-1] if failed else None
    while found is not None and found.step_id is not None and found.step_id in last_inside:
        found = last_inside.pop(found.step_id)
    return found
