"""A recorder that writes no file by itself: who made it reads its steps, and says when they become a trace.

For tests, where an error that leaves a node may be just what the test expects.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Unpack

from flowtrace.recording import to_records
from flowtrace.recording.control import override
from flowtrace.recording.recorder import TraceRecorder
from flowtrace.recording.state import STATE, LastSteps
from flowtrace.recording.step import Step
from flowtrace.recording.step_records import Shared
from flowtrace.settings.config import ConfigChanges, TraceConfig, TraceContext
from flowtrace.trace.files import at_once
from flowtrace.trace.model import Trace
from flowtrace.trace.reading import parse_trace
from flowtrace.trace.shared_paths import Target


@contextmanager
def quiet_recorder(
    config: TraceConfig | None, context: TraceContext | None, **changes: Unpack[ConfigChanges]
) -> Generator[TraceRecorder]:
    """Record everything that runs in a ``with`` block, in all threads, and write nothing.

    Args:
        config: the whole configuration; None starts from the current one.
        context: what its trace says about the program; None keeps what the current recorder says.
        **changes: settings that differ.

    Yields:
        The recorder of the block.
    """
    with override(config, context=context, **changes) as recorder:
        recorder.is_quiet = True
        if STATE.open_fast_path is not None:  # the runs that the native core makes are quiet, too
            STATE.open_fast_path(recorder)
        yield recorder


def trace_of(recorder: TraceRecorder) -> Trace:
    """Return the trace that a recorder would write now; large values are left out of it, as there is no file."""
    steps, dropped, in_flight = recorder.shown_steps()
    facts = to_records.RunFacts(recorder.run_id, recorder.started, None, "snapshot", dropped, 0, 0)
    shared = Shared(recorder.policy, _nowhere, {})
    text = to_records.trace_text(facts, recorder.context, steps, in_flight, shared)
    return parse_trace(b"".join(text.pieces()))


def _nowhere(_digest: str, _data: bytes, _suffix: str) -> None:
    """Store no value beside a trace that is no file."""


def write_trace(recorder: TraceRecorder, path: str, error: BaseException | str | None) -> None:
    """Write what a recorder holds now to a file, which is replaced; recording goes on.

    Args:
        recorder: a recorder of the process.
        path: the file.
        error: what ended the work, or the text of it; None where it ended well.

    Raises:
        OSError: the file can't be written.
    """
    run = recorder.new_run(recorder.context, recorder.started)
    run.name = recorder.name
    run.is_process_wide = True
    steps, dropped, _ = recorder.last_steps()
    if error is not None:
        run.failed_step = _began_in(error, steps)
        if not run.failed_step:
            run.failed_step = run.add_flow_error(error)
            steps = [*steps, *run.buffer.newest()]
    run.frozen = LastSteps(steps, dropped)
    run.write_to("ok" if error is None else "failed", True, at_once, Target(path))


def _began_in(error: BaseException | str, steps: list[Step]) -> int:
    """Return the number of the step in which an error began; 0 where it is none of these steps."""
    number = 0 if isinstance(error, str) else STATE.passed.began(error)
    return number if any(step.number == number for step in steps) else 0
