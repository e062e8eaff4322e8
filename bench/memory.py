"""The memory of this process, as Linux counts it: allocators of every language are in it."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
KIB, MEGA = 1024, 1_000_000


def _bytes_of(name: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * KIB
    raise LookupError(f"{_STATUS} has no {name}")


def resident() -> int:
    """Return how many bytes are resident now."""
    gc.collect()
    return _bytes_of("VmRSS")


def peak_above_start(action: Callable[[], object]) -> int:
    """Return how many more bytes were resident during an action, at the most, than before it."""
    before = resident()
    _RESET.write_text("5")  # the peak starts again from what is resident now: see proc(5)
    action()
    return _bytes_of("VmHWM") - before


def growth_over(action: Callable[[], object]) -> int:
    """Return how many more bytes are resident after an action than before it."""
    before = resident()
    action()
    return resident() - before
