"""Reading a long trace for one look at each step: every step is checked, and let go until it is looked at.

Records take several times the memory of their text, and the time to fill it. So only the text is kept here, and of each
step what its place in the tree depends on.
"""

from __future__ import annotations

from typing import Any, BinaryIO, NamedTuple, cast

from flowtrace.trace.model import Code, Raw, Step, StepError, Struct, Trace, changed
from flowtrace.trace.outline import Entry
from flowtrace.trace.reading import UNREADABLE, all_of, from_document, parse_document, step_of, unread_trace


class StepHead(Struct, gc=False):
    """The facts that the place of a step in the tree depends on, with the names that `Step` has for them.

    A step with an error or with validation issues has no head: its record is kept.
    """

    node_id: str
    step_id: str | None
    parent_step_id: str | None
    started_at: str | None
    duration_ms: int
    duration_ns: int | None
    thread: str | None
    run_id: str | None
    code: Code | None
    error: StepError | None = None


class Skimmed(NamedTuple):
    """A trace that was skimmed.

    Attributes:
        trace: its record; most of its steps are a `StepHead`.
        texts: the JSON of its steps; empty where all records were kept.
    """

    trace: Trace
    texts: list[Raw]

    def step(self, entry: Entry) -> Step:
        """Return the record of a step."""
        held = cast("Step | StepHead", entry.step)
        return held if isinstance(held, Step) else step_of(self.texts[cast("int", entry.number)])

    def complete(self) -> Trace:
        """Return the trace with the records of all steps; those that were kept are the same."""
        if not self.texts:
            return self.trace
        steps = [
            step if isinstance(step, Step) else step_of(text)
            for step, text in zip(cast("list[Step | StepHead]", self.trace.steps), self.texts, strict=True)
        ]
        return changed(self.trace, steps=steps)


def skim(file: BinaryIO, name: str) -> Skimmed:
    """Read a trace from an open file, which can be read twice.

    Args:
        file: the file.
        name: its name in errors.

    Raises:
        TraceFileError: it is not a version 1 trace.
    """
    data = all_of(file, name)
    try:
        trace = unread_trace(data)
        if trace is not None:
            texts = cast("list[Raw]", trace.steps)
            codes: dict[Any, Code] = {}
            trace.steps = cast("list[Step]", [_head(step_of(text), codes) for text in texts])
            trace.in_flight = [step_of(text) for text in cast("list[Raw]", trace.in_flight)]
            return Skimmed(trace, texts)
    except UNREADABLE:
        pass
    return Skimmed(from_document(parse_document(data, name), name), [])


def _head(step: Step, codes: dict[Any, Code]) -> Step | StepHead:
    if step.error is not None or step.validation_issues:
        return step
    code = step.code
    return StepHead(
        step.node_id,
        step.step_id,
        step.parent_step_id,
        step.started_at,
        step.duration_ms,
        step.duration_ns,
        step.thread,
        step.run_id,
        code and codes.setdefault((code.module, code.qualname, code.file, code.line), code),
    )
