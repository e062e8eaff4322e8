"""Steering the process-global recorder from code: each setter has a context manager that restores."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Unpack

from flowtrace.errors import ConfigError
from flowtrace.recording import flow_runs as flow_runs  # as in `loading`: what calls need is loaded before they run
from flowtrace.recording import process
from flowtrace.recording.recorder import TraceRecorder
from flowtrace.settings.config import ConfigChanges, TraceConfig, TraceContext, TraceMode
from flowtrace.settings.variables import parse


def configure(
    config: TraceConfig | None = None,
    /,
    *,
    context: TraceContext | None = None,
    **changes: Unpack[ConfigChanges],
) -> TraceRecorder:
    """Replace the process-global recorder, and switch tracing on or off in every decorated function.

    Args:
        config: the whole configuration; None reads the environment again.
        context: what traces outside any ``flow(...)`` say about the program; None reads the environment.
        **changes: settings that differ from ``config``, or from the environment. A path alone switches tracing on,
            as it does in the environment.

    Returns:
        The new recorder; its mode is ``OFF`` where ``FLOWTRACE_DISABLED`` is set.

    Raises:
        ConfigError: a setting is unknown, or does not accept its value.
    """
    base = TraceConfig.from_env() if config is None else config
    if config is None and "out_path" in changes and "mode" not in parse(os.environ).sources:
        changes.setdefault("mode", TraceMode.ON)
    return process.put(_checked(base.changed(changes)), context or TraceContext.from_env())


@contextmanager
def override(
    config: TraceConfig | None = None,
    /,
    *,
    context: TraceContext | None = None,
    **changes: Unpack[ConfigChanges],
) -> Generator[TraceRecorder]:
    """Replace the process-global recorder for the length of a ``with`` block, in all threads; then put it back.

    Args:
        config: the whole configuration; None starts from the one in force.
        context: what traces outside any ``flow(...)`` say about the program; None keeps the one in force.
        **changes: settings that differ.

    Yields:
        The recorder of the block.

    Raises:
        ConfigError: a setting is unknown, or does not accept its value.
    """
    before = process.STATE.recorder
    current = process.ensure()
    chosen = _checked((config or current.config).changed(changes))
    try:
        yield process.put(chosen, context or current.context)
    finally:
        process.put_back(before)


def get_recorder() -> TraceRecorder:
    """Return the recorder in force here: that of the flow or outermost call around, else the process-global one."""
    return process.recorder_here()


def dump(path: str | os.PathLike[str] | None = None) -> Path | None:
    """Write what is in the buffer now, with the steps in flight; nothing stops or changes by it.

    Args:
        path: the file to write; None means the configured one.

    Returns:
        The file; None where tracing is off, or where it could not be written (a warning says why).
    """
    recorder = process.recorder_here()
    if recorder.is_off:
        return None
    written = recorder.snapshot(None if path is None else os.path.abspath(path))
    return None if written is None else Path(written)


def _checked(config: TraceConfig) -> TraceConfig:
    """Refuse a path that can't become a file, while the line that gave it can still be named."""
    if os.path.isdir(config.out_path):
        raise ConfigError(f"out_path={config.out_path!r} is a folder: it takes a file path")
    return config
