"""When the recorder is loaded: not before something asks for tracing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from flowtrace.forks import is_torn, no_fork
from flowtrace.interpreter import REFUSAL, is_main
from flowtrace.switch import environment_speaks, is_unread, may_be_on, turn_off

T = TypeVar("T")
_loaded: Final[list[bool]] = []


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
        if not _loaded and is_torn():
            turn_off()
            return None
        if not (_loaded or _load()):
            turn_off()
            from flowtrace.log import warn

            warn(f"{REFUSAL}: tracing is off here")
            return None
        from flowtrace.runtime import ensure

        return None if ensure().is_off else make(*arguments)
    except Exception as error:
        from flowtrace.log import internal_fault

        internal_fault("load the recorder", error)
        return None


def _load() -> bool:
    """Load all that a call needs, at once; returns False in a subinterpreter, which gets nothing."""
    with no_fork():
        if not is_main():
            return False
        from flowtrace import scopes as scopes
        from flowtrace import subjects as subjects
    _loaded.append(True)
    return True


def start_if_asked() -> None:
    """Where the environment asks for tracing, begin now: a failure before the first call must be seen too."""
    if is_unread() and environment_speaks():
        if_on(lambda: None)
