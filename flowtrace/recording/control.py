"""The control of the process-global recorder from code."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Unpack

from flowtrace.host.switch import environment
from flowtrace.host.system import os
from flowtrace.recording.process import global_recorder, open_run, restore_recorder, set_recorder
from flowtrace.recording.recorder import TraceRecorder
from flowtrace.recording.state import CURRENT, STATE
from flowtrace.settings.config import ConfigChanges, TraceConfig, TraceContext, TraceMode, warn_of_placeholders
from flowtrace.settings.kinds import TRACE_NAME, in_folder
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
    if config is None and "out_path" in changes and "mode" not in parse(environment()).sources:
        changes.setdefault("mode", TraceMode.ON)
    chosen = base.changed(changes)
    if config is not None or changes:  # what the variables hold has been warned of
        warn_of_placeholders(chosen)
    return set_recorder(chosen, context or TraceContext.from_env())


@contextmanager
def override(
    config: TraceConfig | None = None,
    /,
    *,
    context: TraceContext | None = None,
    **changes: Unpack[ConfigChanges],
) -> Generator[TraceRecorder]:
    """Replace the process-global recorder for the length of a ``with`` block, in all threads; then restore it.

    Args:
        config: the whole configuration; None starts from the current one.
        context: what traces outside any ``flow(...)`` say about the program; None keeps the current one.
        **changes: settings that differ.

    Yields:
        The recorder of the block.

    Raises:
        ConfigError: a setting is unknown, or does not accept its value.
    """
    before, ended_runs = STATE.recorder, STATE.ended_runs
    current = global_recorder()
    chosen = (config or current.config).changed(changes)
    warn_of_placeholders(chosen)
    try:
        yield set_recorder(chosen, context or current.context)
    finally:
        restore_recorder(before)
        STATE.ended_runs = ended_runs


def get_recorder() -> TraceRecorder:
    """Return the recorder of the flow or outermost call that runs here, else the process-global one."""
    recorder = global_recorder()
    current = CURRENT.get()
    if current is None or recorder.is_off:
        return recorder
    return current.run or open_run(current)


def dump(path: str | os.PathLike[str] | None = None) -> Path | None:
    """Write the steps in the buffer, and those in flight, as they are now; recording goes on.

    Args:
        path: the file to write, or a folder for ``trace.json``; None means the configured one.

    Returns:
        The file; None where tracing is off, or where it could not be written (a warning says why).
    """
    recorder = get_recorder()
    if recorder.is_off:
        return None
    given = None if path is None else os.path.abspath(in_folder(os.path.expanduser(path), TRACE_NAME))
    written = recorder.snapshot(given)
    return None if written is None else Path(written)
