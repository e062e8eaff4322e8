"""Taking the current step along into other threads, where context variables do not go by themselves.

While tracing is on, `ThreadPoolExecutor.submit` takes it along; while it is off, nothing is patched. Only our own
variable travels: what else the host keeps in its context is as it would be without us.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

from flowtrace.recording.step import CURRENT

_original_submit: Final = ThreadPoolExecutor.submit


def carry(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that runs as a child of the step that is current now; the same one where there is none."""
    origin = CURRENT.get()
    if origin is None:
        return function

    @functools.wraps(function, updated=())
    def carried(*args: Any, **kwargs: Any) -> Any:
        before = CURRENT.get()
        CURRENT.set(origin)
        try:
            return function(*args, **kwargs)
        finally:
            CURRENT.set(before)

    return carried


@functools.wraps(_original_submit)  # type: ignore[arg-type]
def _submit(executor: ThreadPoolExecutor, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
    return _original_submit(executor, carry(function), *args, **kwargs)


def install() -> None:
    """Let thread pools take the current step along, unless somebody else has replaced their ``submit``."""
    if ThreadPoolExecutor.submit is _original_submit:
        ThreadPoolExecutor.submit = _submit  # type: ignore[assignment,method-assign]


def uninstall() -> None:
    """Undo `install`, unless somebody else has wrapped our ``submit`` since."""
    if ThreadPoolExecutor.submit is _submit:
        ThreadPoolExecutor.submit = _original_submit  # type: ignore[method-assign]
