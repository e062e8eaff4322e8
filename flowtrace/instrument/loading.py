"""When the recorder is loaded: not before something asks for tracing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from flowtrace.host.safe_loading import REFUSAL, is_main, load_once
from flowtrace.host.switch import environment_may_enable, is_unread, may_be_on, turn_off

T = TypeVar("T")


def if_on(make: Callable[..., T | None], *arguments: object) -> T | None:
    """Read the environment where nobody has, and make something where tracing is on; the host never sees this fail.

    Args:
        make: makes what is needed of the recorder.
        *arguments: what it takes.

    Returns:
        What was made; None where tracing is off or something of ours failed.
    """
    try:
        if not may_be_on():
            return None
        if not load_once(_load):
            turn_off()
            return None
        if not is_main():
            turn_off()
            from flowtrace.host.log import warn

            warn(f"{REFUSAL}: tracing is off here")
            return None
        from flowtrace.recording.process import ensure

        return None if ensure().is_off else make(*arguments)
    except Exception as error:
        from flowtrace.host.log import internal_fault

        internal_fault("load the recorder", error)
        return None


def is_ready() -> bool:
    """Read the environment where nobody has; tell whether tracing may be on, with all that a flow needs loaded."""
    start_if_asked()
    return may_be_on() and load_once(_load)


def _load() -> None:
    """Load all that a call needs, at once; nothing in a subinterpreter."""
    if is_main():
        from flowtrace.instrument import subjects as subjects
        from flowtrace.recording import flow_runs as flow_runs


def start_if_asked() -> None:
    """Where the environment asks for tracing, begin now: a failure before the first call must be seen too."""
    if is_unread() and environment_may_enable():
        if_on(lambda: None)
