"""The step or flow that runs here, and how it goes along into other threads.

It is in a context variable: tasks, generators and threads each see their own. A thread starts with an empty context.
While tracing is on, `ThreadPoolExecutor.submit` therefore takes the current step along; while it is off, nothing is
patched. Only our own variable goes along: whatever else the program keeps in its context is as it would be without us.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from flowtrace.recording.recorder import TraceRecorder
    from flowtrace.recording.step import Step


class Scope:
    """A flow that runs: it is current inside the flow and outside any step.

    Attributes:
        run: its recorder.
        number: 0, since a flow is no step's parent.
        previous: the step or flow that was current before.
        token: None, as that of a step that has been resumed.
    """

    __slots__ = ("number", "previous", "run", "token")

    def __init__(self, run: TraceRecorder) -> None:
        self.run: TraceRecorder | None = run
        self.number = 0
        self.previous: Step | Scope | None = None
        self.token: None = None


CURRENT: Final[ContextVar[Step | Scope | None]] = ContextVar("flowtrace_current", default=None)
"""Process-global: the step or flow that runs here, a context variable: each task and each thread has its own."""
current: Final = CURRENT.get
"""The variable's methods, bound once: a call that looks one up makes an object for it."""
make_current: Final = CURRENT.set
restore_current: Final = CURRENT.reset


def encloses(scope: Scope) -> bool:
    """Return True if a scope is current here, or around the current step."""
    around = current()
    while around is not None and around is not scope:
        around = around.previous
    return around is scope


def carry(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that runs as a child of the step that is current now; the same one where there is none."""
    origin = current()
    if origin is None:
        return function

    @wraps(function, updated=())
    def carried(*args: Any, **kwargs: Any) -> Any:
        before = current()
        make_current(origin)
        try:
            return function(*args, **kwargs)
        finally:
            make_current(before)

    return carried


_original_submit: Final = ThreadPoolExecutor.submit


@wraps(_original_submit)  # type: ignore[arg-type]
def _submit(executor: ThreadPoolExecutor, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
    return _original_submit(executor, carry(function), *args, **kwargs)


def patch_thread_pools() -> None:
    """Let thread pools take the current step along, unless the program has replaced their ``submit``."""
    if ThreadPoolExecutor.submit is _original_submit:
        ThreadPoolExecutor.submit = _submit  # type: ignore[assignment,method-assign]


def unpatch_thread_pools() -> None:
    """Undo `patch_thread_pools`, unless the program has wrapped our ``submit`` since."""
    if ThreadPoolExecutor.submit is _submit:
        ThreadPoolExecutor.submit = _original_submit  # type: ignore[method-assign]
