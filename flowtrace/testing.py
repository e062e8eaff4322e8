"""Tracing inside a test: on for the length of a ``with`` block, into a folder of its own, and then restored."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Unpack

from flowtrace.errors import FlowtraceError
from flowtrace.host import log
from flowtrace.host.system import CLOCK, Clock
from flowtrace.recording import on_request, process
from flowtrace.recording.control import override
from flowtrace.recording.recorder import TraceRecorder
from flowtrace.recording.state import CURRENT, STATE
from flowtrace.settings.config import ConfigChanges, TraceConfig, TraceContext, TraceMode
from flowtrace.settings.kinds import LARGEST_NUMBER
from flowtrace.trace.model import Step, Trace
from flowtrace.trace.outline import names_of
from flowtrace.trace.reading import load_trace

if TYPE_CHECKING:
    from flowtrace.replaying.recorded import recorded

__all__ = ["Recording", "Steps", "Watch", "fixed_clock", "pristine", "rebuild", "recorded", "recording", "watching"]
FIXED_START: Final = 1_700_000_000_000_000_000  # 2023-11-14T22:13:20Z
TICK: Final = 1_000_000


_MOST_STEPS: Final = 10_000
_MOST_BYTES: Final = 1 << 28  # of values


class Steps:
    """Recorded steps, and what a test asks of them.

    A node is asked for by its component, as ``COMPONENT.OPERATION``, or by its node id.

    Attributes:
        steps: all of them, in the order in which they ended.
        failed: those that ended with an error.
    """

    @property
    def steps(self) -> list[Step]:
        """All steps that have ended so far.

        Raises:
            FlowtraceError: there were more than the buffer holds.
        """
        return [step for trace in self._traces() for step in _complete(trace)]

    @property
    def failed(self) -> list[Step]:
        """The steps that ended with an error."""
        return [step for step in self.steps if step.error is not None]

    def calls(self, node: str) -> list[Step]:
        """Return the steps of a node.

        Args:
            node: the node.
        """
        return [step for step in self.steps if node in names_of(step)]

    def only(self, node: str) -> Step:
        """Return the one step of a node.

        Args:
            node: the node.

        Raises:
            AssertionError: it was called more than once, or not at all.
        """
        found = self.calls(node)
        if len(found) != 1:
            names = Counter(step.node_id for step in self.steps)
            were = ", ".join(f"{name} x {count}" if count > 1 else name for name, count in names.items())
            raise AssertionError(
                f"{node} was called {len(found)} times, not once; what was called: {were or 'nothing'}"
            )
        return found[0]

    def _traces(self) -> list[Trace]:
        raise NotImplementedError


def _complete(trace: Trace) -> list[Step]:
    if trace.dropped_steps:
        kept, count = len(trace.steps), len(trace.steps) + trace.dropped_steps
        raise FlowtraceError(
            f"only {kept} of {count} steps were kept: buffer_size or buffer_bytes has no room for more"
        )
    return trace.steps


class Watch(Steps):
    """The steps of a `watching` block, in memory. No file is written unless `write` is called."""

    def __init__(self, recorder: TraceRecorder) -> None:
        self._recorder = recorder

    def write(self, path: str | os.PathLike[str], error: BaseException | str | None = None) -> Trace:
        """Write a trace of what has run so far. Call it inside the block, while the error is still there.

        Args:
            path: the file; one that is there is replaced, and missing folders are made.
            error: what the test failed with, or the text of it; None where it ended well. The failed step is the one in
                which this error began; where it began in none, a step ``unknown`` at the end stands for it.

        Returns:
            The trace.

        Raises:
            OSError: the file can't be written.
        """
        name = os.path.abspath(path)
        on_request.write_trace(self._recorder, name, error)
        return load_trace(name)

    def _traces(self) -> list[Trace]:
        return [on_request.trace_of(self._recorder)]


class Recording(Steps):
    """The traces that were written inside a `recording` block.

    Attributes:
        folder: where they are, until the block ends.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._kept: list[Trace] | None = None

    @property
    def traces(self) -> list[Trace]:
        """The traces so far, in the order in which their runs began."""
        if self._kept is not None:
            return self._kept
        found = [load_trace(path) for path in self.folder.glob("*.json")]
        return sorted(found, key=lambda trace: trace.run.started_at if trace.run else "")

    def keep(self) -> None:
        """Read the traces for good: the folder is about to go."""
        self._kept = self.traces

    def _traces(self) -> list[Trace]:
        return self.traces


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> object:
    """Load `recorded` when it is first asked for: it takes all of replay with it."""
    if name != "recorded":
        raise AttributeError(f"module 'flowtrace.testing' has no attribute {name!r}")
    from flowtrace.replaying.recorded import recorded

    return globals().setdefault(name, recorded)


@contextmanager
def recording(**changes: Unpack[ConfigChanges]) -> Generator[Recording]:
    """Trace everything that runs in a ``with`` block, each run into a file of its own in a temporary folder.

    Args:
        **changes: settings that differ from the current ones; the mode is ``always`` unless it is one of them.

    Yields:
        The recording, whose ``traces`` can be read inside the block and after it.
    """
    with tempfile.TemporaryDirectory() as folder:
        settings: ConfigChanges = {
            "mode": TraceMode.ALWAYS,
            "out_path": f"{folder}/{{run_id}}.json",
            "max_files": LARGEST_NUMBER,
            **changes,
        }
        recorded = Recording(Path(folder))
        with override(**settings):
            yield recorded
            recorded.keep()


@contextmanager
def watching(
    config: TraceConfig | None = None,
    /,
    *,
    context: TraceContext | None = None,
    **changes: Unpack[ConfigChanges],
) -> Generator[Watch]:
    """Keep the steps of everything that runs in a ``with`` block, in all threads, and write no file.

    Args:
        config: the whole configuration; None starts from the current one, with room for 10,000 steps and with their
            values.
        context: what a trace says about the program; None keeps what it says now.
        **changes: settings that differ. In mode ``off`` nothing is kept.

    Yields:
        The steps; they can be read inside the block and after it.

    Raises:
        ConfigError: a setting is unknown, or does not accept its value.
    """
    settings: ConfigChanges = changes
    if config is None:
        settings = {
            "mode": TraceMode.ON,
            "buffer_size": _MOST_STEPS,
            "buffer_bytes": _MOST_BYTES,
            "max_value_bytes": _MOST_BYTES,
            "max_overhead": 0,
            "capture_inputs": True,
            "capture_outputs": True,
            **changes,
        }
    with on_request.quiet_recorder(config, context, **settings) as recorder:
        yield Watch(recorder)


@contextmanager
def fixed_clock() -> Generator[Clock]:
    """Replace time and ids: each look at the clock is 1 ms after the last, runs and steps are numbered from 1.

    Yields:
        The fixed clock.
    """
    before = Clock()
    before.adopt(CLOCK)
    ticks, runs = count(0, TICK), count(1)
    CLOCK.adopt(
        Clock(
            now=lambda: next(ticks),
            wall=lambda: FIXED_START,
            run_id=lambda: f"{next(runs):032x}",
        )
    )
    try:
        yield CLOCK
    finally:
        CLOCK.adopt(before)


@contextmanager
def pristine() -> Generator[None]:
    """Run a ``with`` block as if flowtrace had not been used yet; afterwards everything is as it was."""
    before = STATE.recorder
    token = CURRENT.set(None)
    process.restore_recorder(None)
    log.forget()
    try:
        yield
    finally:
        process.restore_recorder(before)
        CURRENT.reset(token)
        STATE.in_flight.clear()
        log.forget()


def rebuild(content: object, hint: Any = Any) -> Any:
    """Return the Python value that canonical JSON stands for; tests that ``flowtrace replay`` writes call this.

    Args:
        content: the JSON, as `json.loads` returns it, such as a step's ``output_json``.
        hint: an annotation, such as a class or ``list[Order]``; only classes that it names are used.

    Returns:
        The value; its canonical bytes are those of ``content``, where the classes have not changed since.

    Raises:
        RebuildError: the content is opaque, cut or malformed, or needs a class that the annotation does not name.
    """
    from flowtrace.values.rebuild import Rebuilder  # here, so that importing `flowtrace.testing` loads none of it

    return Rebuilder().rebuild(content, hint)
