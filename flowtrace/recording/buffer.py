"""The last steps of a run: at most so many, and at most so many bytes of values."""

from __future__ import annotations

from collections import deque
from itertools import count
from typing import Any

from flowtrace.calls.core import NATIVE
from flowtrace.recording.state import STATE
from flowtrace.recording.step import Step
from flowtrace.settings.config import TraceConfig
from flowtrace.values.encoded import Encoded


def new_buffer(config: TraceConfig) -> Any:
    """Return a buffer for the last steps: that of the native core, where there is one, or a `Buffer`."""
    return Buffer(config) if NATIVE is None else NATIVE.Ring(config.buffer_size, config.buffer_bytes)


class Buffer:
    """Keeps the last finished steps.

    As long as every value is below the limit of one value, the number of steps alone bounds the bytes. Then adding a
    step takes no lock: one append to `steps` and one tick, two calls in C that no other thread can interrupt. The first
    larger value ends that: from then on bytes are counted.

    Args:
        config: how many steps and bytes.

    Attributes:
        counts_bytes: the number of steps alone is not enough.
        steps: the steps that are kept, oldest first.
        ticks: counts the steps that were added.
    """

    __slots__ = ("_bytes", "_config", "_counted", "_sizes", "counts_bytes", "steps", "ticks")

    def __init__(self, config: TraceConfig) -> None:
        self._config = config
        self.steps: deque[Step] = deque(maxlen=config.buffer_size)
        self._sizes: dict[Step, int] = {}  # as they were when they were counted: a trace that is written changes them
        self.ticks = count(1)
        self._counted = self._bytes = 0
        self.counts_bytes = 2 * config.max_value_bytes * config.buffer_size > config.buffer_bytes

    def add(self, step: Step) -> None:
        """Keep a step, and let the oldest ones go that are too many."""
        if self.counts_bytes or type(step.input) is Encoded or type(step.output) is Encoded:
            self._add_under_lock(step)
        else:
            self.steps.append(step)
            next(self.ticks)

    def clear(self) -> None:
        """Let go of all steps."""
        with STATE.buffer_lock:
            self.steps.clear()
            self._sizes.clear()
            self._bytes = 0

    def newest(self) -> list[Step]:
        """Return the steps, oldest first."""
        return list(self.steps)

    def contents(self) -> tuple[list[Step], int]:
        """Return the steps, oldest first, and how many others there were before them."""
        with STATE.buffer_lock:
            self._counted += 1  # reading the count adds one
            total = next(self.ticks) - self._counted
            steps = self.newest()
        return steps, max(0, total - len(steps))

    def _add_under_lock(self, step: Step) -> None:
        with STATE.buffer_lock:
            if not self.counts_bytes and step.is_small():
                self.steps.append(step)
                next(self.ticks)
                return
            self.counts_bytes = True
            max_steps = self._config.buffer_size
            oldest = self.steps[0] if len(self.steps) == max_steps and self.steps else None
            self.steps.append(step)
            next(self.ticks)
            if max_steps:
                step.shed(self._config.buffer_bytes)
                self._sizes[step] = step.size()
                self._bytes += self._sizes[step]
            if oldest is not None:
                self._let_go(oldest)
            if len(self._sizes) != len(self.steps):  # nothing was counted before
                self._count_all()
            while self.steps and self._bytes > self._config.buffer_bytes:
                self._let_go(self.steps.popleft())

    def _let_go(self, step: Step) -> None:
        size = self._sizes.pop(step, None)
        if size is None:  # a thread was adding it while counting began
            self._count_all()
        else:
            self._bytes -= size

    def _count_all(self) -> None:
        counted = self._sizes
        self._sizes = {step: counted[step] if step in counted else step.size() for step in self.newest()}
        self._bytes = sum(self._sizes.values())
