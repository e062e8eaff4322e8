"""The report of a replay: one entry a step, and a verdict."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from flowtrace.trace.model import UNSET, Hash, Json, Step, StepError, UnsetType, new_document


class ReplayOutcome(StrEnum):
    """How a replayed step compares with the recorded one.

    ``SAME_OUTPUT``, ``SAME_ERROR``: as recorded. ``ENDED_WELL``: without an error, as recorded, and outputs were not
    compared. ``DIFFERENT_OUTPUT``, ``DIFFERENT_ERROR``: another output or error. ``ERROR_VANISHED``,
    ``ERROR_APPEARED``: the recorded error did not occur, or one did that was not recorded. ``SKIPPED``: not called, or
    the call proves nothing.
    """

    SAME_OUTPUT = "same_output"
    SAME_ERROR = "same_error"
    ENDED_WELL = "ended_well"
    DIFFERENT_OUTPUT = "different_output"
    DIFFERENT_ERROR = "different_error"
    ERROR_VANISHED = "error_vanished"
    ERROR_APPEARED = "error_appeared"
    SKIPPED = "skipped"


AS_RECORDED: Final = frozenset({ReplayOutcome.SAME_OUTPUT, ReplayOutcome.SAME_ERROR, ReplayOutcome.ENDED_WELL})


@dataclass(slots=True)
class StepReplay:
    """A recorded step, and what its replay gave.

    Attributes:
        number: index of the step in the trace, from 0, as ``flowtrace show`` prints it.
        step: the recorded step.
        outcome: how the replay compares with it.
        reason: why it was skipped, or what differs; empty where everything is as recorded.
        output_hash: hash of the replayed output; None where there is none.
        output_json: the replayed output; ``UNSET`` where there is none.
        error: the replayed error, or None.
        exact_input: the rebuilt input has the recorded hash; None where that is not known.
        code_changed: the function's code has changed since; None where that is not known.
        duration_ns: how long the replayed call took; None where it was not called.
        notes: further remarks for the reader.
    """

    number: int
    step: Step
    outcome: ReplayOutcome
    reason: str = ""
    output_hash: Hash | None = None
    output_json: Json | UnsetType = UNSET
    error: StepError | None = None
    exact_input: bool | None = None
    code_changed: bool | None = None
    duration_ns: int | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def is_as_recorded(self) -> bool:
        """True if the step was replayed and behaved as recorded."""
        return self.outcome in AS_RECORDED

    def document(self) -> dict[str, Any]:
        """Return this as JSON-like objects, the recorded values beside the replayed ones."""
        step = self.step
        found: dict[str, Any] = {
            "number": self.number,
            "step_id": step.step_id,
            "node_id": step.node_id,
            "outcome": str(self.outcome),
            "reason": self.reason or None,
            "recorded": _side(step.output_hash, step.output_json, step.error),
            "replayed": None,
            "exact_input": self.exact_input,
            "code_changed": self.code_changed,
            "duration_ns": self.duration_ns,
            "notes": self.notes,
        }
        if self.duration_ns is not None:
            found["replayed"] = _side(self.output_hash, self.output_json, self.error)
        return found


def _side(output_hash: Hash | None, output: Json | UnsetType, error: StepError | None) -> dict[str, Any]:
    side: dict[str, Any] = {}
    if output_hash is not None:
        side["output_hash"] = {"algorithm": output_hash.algorithm, "value": output_hash.value}
    if not isinstance(output, UnsetType):
        side["output_json"] = output
    if error is not None:
        side["error"] = new_document(error)
    return side


@dataclass(slots=True)
class ReplayReport:
    """The steps of a replay, and the verdict on them.

    Attributes:
        trace: name of the trace.
        steps: the steps that were looked at, in the order of the trace.
        python: a remark if another version of Python wrote the trace; else empty.
    """

    trace: str
    steps: list[StepReplay]
    python: str = ""

    @property
    def exit_code(self) -> int:
        """0 if each replayed step behaved as recorded; 1 if one did not, or if the replay proves nothing.

        It proves nothing if no step was replayed, or if steps had failed and none of these was replayed.
        """
        replayed = [item for item in self.steps if item.outcome is not ReplayOutcome.SKIPPED]
        failed = [item for item in self.steps if item.step.error is not None]
        unproven = bool(failed) and not any(item in replayed for item in failed)
        return 1 if unproven or not replayed or not all(item.is_as_recorded for item in replayed) else 0

    @property
    def is_as_recorded(self) -> bool:
        """True if each replayed step behaved as recorded, that is, if the exit code is 0."""
        return self.exit_code == 0

    def counts(self) -> dict[ReplayOutcome, int]:
        """Return the number of steps for each outcome that occurred."""
        return dict(Counter(item.outcome for item in self.steps))

    def document(self) -> dict[str, Any]:
        """Return the report as JSON-like objects."""
        return {
            "trace": self.trace,
            "as_recorded": self.is_as_recorded,
            "counts": {str(outcome): count for outcome, count in self.counts().items()},
            "steps": [item.document() for item in self.steps],
        }


def error_type(error: StepError | None) -> str | None:
    """Return the name of an error's class as a traceback has it; None where the trace does not say it."""
    found = error.details.get("type") if error is not None and isinstance(error.details, dict) else None
    return found if isinstance(found, str) else None


def error_line(error: StepError) -> str:
    """Return an error as the last line of a traceback has it."""
    name = error_type(error)
    return f"{name}: {error.message}" if name else error.message
