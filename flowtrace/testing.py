"""Tracing inside a test: on for the length of a ``with`` block, into a folder of its own, and then restored."""

from __future__ import annotations

import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final, Unpack

from flowtrace.host import log
from flowtrace.host.system import CLOCK, Clock
from flowtrace.recording import process
from flowtrace.recording.process import override
from flowtrace.recording.state import CURRENT, STATE
from flowtrace.settings.config import ConfigChanges, TraceMode
from flowtrace.settings.kinds import LARGEST_NUMBER
from flowtrace.trace.model import Trace
from flowtrace.trace.reading import load_trace

__all__ = ["Recording", "fixed_clock", "pristine", "rebuild", "recording"]
FIXED_START: Final = 1_700_000_000_000_000_000  # 2023-11-14T22:13:20Z
TICK: Final = 1_000_000


class Recording:
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


def __dir__() -> list[str]:
    return __all__


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
