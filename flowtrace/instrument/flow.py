"""`flow`: a run with a name of its own. `current_step` and `propagate`, for the code inside it."""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from flowtrace.host import log, switch
from flowtrace.instrument import subjects
from flowtrace.instrument.proxies import traced
from flowtrace.instrument.subjects import checked_slow, flow_subject, is_ready, slow_again, start_if_asked

if TYPE_CHECKING:
    from flowtrace.calls.core import Subject
    from flowtrace.instrument.traced_node import Traceable
    from flowtrace.recording.state import Scope
    from flowtrace.recording.step import CurrentStep
    from flowtrace.settings.config import TraceContext

F = TypeVar("F", bound="Traceable")
C = TypeVar("C", bound="Callable[..., Any]")


class flow:  # noqa: N801  # context managers and decorators have lower case names
    """A run with its own buffer and context: a context manager (``with``, ``async with``) and a decorator.

    Steps inside it belong to it and to no other flow. When an exception leaves it, its trace is written; in mode
    ``always`` also when it ends well.

    Args:
        flow_id: name of the flow.
        version: its version.
        pack_ref: what it was shipped in; default: that of the process-global recorder.
        resolved_digest: digest of the shipped artifact; default: that of the process-global recorder.
        slow: seconds, or text such as ``"250ms"``; a trace is written, too, where the flow takes longer. 0 for never;
            default: as configured.

    Raises:
        TypeError: an argument is of the wrong type.
    """

    __slots__ = ("_context", "_entered", "_slow_after")

    def __init__(
        self,
        flow_id: str,
        *,
        version: str = "unknown",
        pack_ref: str | None = None,
        resolved_digest: str | None = None,
        slow: float | str | None = None,
    ) -> None:
        for name, value in {"flow_id": flow_id, "version": version}.items():
            if not isinstance(value, str) or not value:
                raise TypeError(f"flow: {name} must be text, not {value!r:.80}")
        for name, other in {"pack_ref": pack_ref, "resolved_digest": resolved_digest}.items():
            if other is not None and (not isinstance(other, str) or not other):
                raise TypeError(f"flow: {name} must be text or None, not {other!r:.80}")
        self._context = (flow_id, version, pack_ref, resolved_digest)
        self._slow_after = checked_slow("flow", slow)
        self._entered: list[tuple[int, Scope | None]] = []

    def __dir__(self) -> list[str]:
        """List what every object has: the rest is the inside."""
        return dir(object)

    def __enter__(self) -> flow:
        scope = self._make_scope()
        self._entered.append((get_ident(), scope))
        if scope is not None:
            before = subjects.state.current()
            try:
                subjects.hot_path.resume(scope)
            except BaseException:  # a signal handler's: nothing will leave this flow
                subjects.state.make_current(before)
                raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        scope = self._pop_scope()
        if scope is not None:
            subjects.process.close_flow(scope, error)

    async def __aenter__(self) -> flow:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __call__(self, function: F, /) -> F:
        """Decorate a function: each of its calls is a run of this flow.

        Raises:
            TypeError: the decorated object can't be called.
        """
        if isinstance(function, type) or not (callable(function) or hasattr(function, "__func__")):
            raise TypeError(f"flow decorates a function or a method, not {function!r:.80}")
        start_if_asked()
        decorated: Any = traced(function, self._subject)
        return decorated  # type: ignore[no-any-return]

    def _again(self) -> tuple[str, dict[str, Any]]:
        """Return the decorator's name and its arguments, to make it again in another process."""
        names = ("flow_id", "version", "pack_ref", "resolved_digest")
        return "flow", {**dict(zip(names, self._context, strict=True)), **slow_again(self._slow_after)}

    def _subject(self, _function: Any) -> Subject:
        return flow_subject(self._make_scope)

    def _make_scope(self) -> Scope | None:
        return subjects.process.open_flow(self._context_in, self._slow_after) if is_ready() else None

    def _pop_scope(self) -> Scope | None:
        """Return the scope that this ``with`` entered: one flow object may be entered in many threads and tasks."""
        here = get_ident()
        entered = [at for at, (thread, _) in enumerate(self._entered) if thread == here]
        around = [at for at in entered if _encloses(self._entered[at][1])]
        return self._entered.pop((around or entered)[-1])[1] if entered else None

    def _context_in(self, outer: TraceContext) -> TraceContext:
        flow_id, version, pack_ref, resolved_digest = self._context
        return subjects.config.context_of(
            pack_ref=pack_ref or outer.pack_ref,
            flow_id=flow_id,
            flow_version=version,
            resolved_digest=resolved_digest or outer.resolved_digest,
        )


def _encloses(scope: Scope | None) -> bool:
    return scope is None or subjects.state.encloses(scope)


_ID_NAMES: Final = ("run_id", "step_id", "component", "operation", "flow_id")


class _NoStep:
    """The current step where none is recorded: false, without ids, and its methods do nothing."""

    __slots__ = ()
    run_id = step_id = component = operation = flow_id = None

    def __bool__(self) -> bool:
        return False

    def add_validation_issue(self, code: str, path: str, message: str) -> None:
        """Do nothing."""

    def record_state_delta(self, value: object) -> None:
        """Do nothing."""


_NO_STEP = _NoStep()


def current_step() -> CurrentStep:
    """Return the step that runs here, to add information to it, or to say in a log which step it is.

    Returns:
        The step; where nothing is recorded, a false object whose ids are None and whose methods do nothing.
    """
    if not switch.SWITCH or switch.is_unread():
        return _NO_STEP
    current = subjects.state.CURRENT.get()
    return current if isinstance(current, subjects.step.Step) else _NO_STEP


def ids_here() -> dict[str, str | None]:
    """Return the ids of the step that runs here, by name; in a flow outside any step, those of its run. Never raises.

    Returns:
        Run id, step id, component, operation and flow id, as `CurrentStep` has them; None for what there is none of.
    """
    ids: dict[str, str | None] = dict.fromkeys(_ID_NAMES)
    if not switch.SWITCH or switch.is_unread():
        return ids
    try:
        current = subjects.state.CURRENT.get()
        if isinstance(current, subjects.step.Step):
            ids = {name: getattr(current, name) for name in _ID_NAMES}
        elif current is not None and current.run is not None:
            ids |= {"run_id": current.run.run_id, "flow_id": subjects.step.flow_of(current.run)}
    except Exception as error:
        log.internal_fault("name the current step", error)
    return ids


def propagate(function: C) -> C:
    """Take the current step along into a thread: ``threading.Thread(target=propagate(work))``.

    Thread pools and `asyncio.to_thread` do so by themselves while tracing is on.

    Args:
        function: the function that the thread will run.

    Returns:
        A function that does the same, as a child of the step that is current now; ``function`` itself where nothing
        is recorded.
    """
    if not is_ready():
        return function
    carried: Any = subjects.state.carry(function)
    return carried  # type: ignore[no-any-return]
