"""An error as it is written: its code, text, type, causes, notes, task, frames; and in which step a run began to fail.

Nothing here keeps an error alive, and nothing is written on one: the program could see either. An error is known again
by its address and its traceback, which only grows at its outer end. A later error at the same address has a traceback
of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from flowtrace.host.objects import class_name, inherits, instance_dict, mro
from flowtrace.host.signals import OWN_FOLDER, let_through, traceback_of

if TYPE_CHECKING:
    from flowtrace.recording.step import Step


MAX_MESSAGE: Final = 8192
MAX_FRAMES: Final = 40
MAX_CAUSES: Final = 10
_MOST_OF_A_NAME: Final = 200  # characters
MAX_INNER_FRAMES: Final = 10
"""Of a cause, a context or a member of a group: enough for the line of the program's that it began in."""
# The class of an exception may compute these attributes with code of its own: read the interpreter's own ones.
_ATTRIBUTES: Final = BaseException.__dict__
_cause_of: Final = _ATTRIBUTES["__cause__"].__get__
_context_of: Final = _ATTRIBUTES["__context__"].__get__
_suppresses_context: Final = _ATTRIBUTES["__suppress_context__"].__get__
_parts_of: Final = BaseExceptionGroup.__dict__["exceptions"].__get__
_exit_code_of: Final = SystemExit.__dict__["code"].__get__


class Failure(NamedTuple):
    """Why a step failed, as it will be written.

    Attributes:
        code: one of the error codes of the trace file.
        message: the error's text.
        details: JSON-like details, or None.
    """

    code: str
    message: str
    details: dict[str, Any] | None


def describe(error: BaseException | str, code: str = "node_error") -> Failure:
    """Return an error as it is written. Never raises an Exception.

    Args:
        error: what was raised; or its text alone, where an engine has nothing else.
        code: the error code.

    Returns:
        The failure; without details where the error was never raised and carries neither cause nor notes.
    """
    if not inherits(type(error), BaseException):
        return Failure(code, _shortened(str(error)), None)
    raised: Any = error
    try:
        details = _details(raised)
    except BaseException as fault:
        let_through(fault)
        details = {"type": type_of(raised)}
    return Failure(code, message_of(raised), details)


def is_a(error: BaseException, classes: type[BaseException] | tuple[type[BaseException], ...]) -> bool:
    """Return True if an error is of a class, by its real type: no code of its class is run."""
    found = classes if isinstance(classes, tuple) else (classes,)
    return any(inherits(type(error), base) for base in found)


def is_clean_exit(error: BaseException) -> bool:
    """Return True if an error is ``sys.exit()`` or ``sys.exit(0)``."""
    return is_a(error, SystemExit) and (_exit_code_of(error) is None or _is_zero(_exit_code_of(error)))


def _is_zero(code: object) -> bool:
    return type(code) is int and code == 0


def code_of(error: BaseException) -> str:
    """Return the error code of an exception that ended a node."""
    if is_a(error, Exception):
        return "node_error"
    if is_a(error, (KeyboardInterrupt, SystemExit)):
        return "node_interrupted"
    # asyncio.CancelledError, trio.Cancelled: by name, so that neither library need be loaded
    names = {class_name(base).partition(":")[2] for base in mro(type(error))}
    return "node_cancelled" if names & {"CancelledError", "Cancelled"} else "node_interrupted"


def outcome_of(error: BaseException) -> str:
    """Return the outcome of a run that an exception ends; "stopped" is no failure, but no success either."""
    code = code_of(error)
    if code == "node_error":
        return "failed"
    if is_clean_exit(error):
        return "ok"
    return "stopped" if code == "node_cancelled" else "interrupted"


def mark_of(error: BaseException) -> tuple[Any, ...]:
    """Return a mark by which an exception is recognised later, without keeping it alive."""
    traceback = traceback_of(error)
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    origin = (id(traceback.tb_frame.f_code), traceback.tb_lineno) if traceback is not None else ()
    return (id(error), type(error).__qualname__, origin)


def message_of(error: BaseException) -> str:
    """Return an error's text; where its ``__str__`` fails, say so instead."""
    try:
        return _shortened(str.__str__(str(error)))
    except BaseException as raised:  # an error that its __str__ raises would replace the error itself
        let_through(raised)
        return f"<{type_of(error)} whose text could not be made>"


def type_of(error: BaseException) -> str:
    """Return an error's type as a traceback names it: with its module, unless that is builtins."""
    module, _, name = class_name(type(error)).partition(":")
    return name if module == "builtins" else f"{module}.{name}"


def _shortened(text: str) -> str:
    if len(text) > MAX_MESSAGE:
        text = f"{text[:MAX_MESSAGE]}... ({len(text)} characters)"
    return text.encode("utf-8", "backslashreplace").decode()


def _details(error: BaseException) -> dict[str, Any] | None:
    causes = _causes(error)
    notes = _notes(error)
    traceback = traceback_of(error)
    if traceback is None and not causes and not notes:
        return None
    details: dict[str, Any] = {"type": type_of(error)}
    if causes:
        details["causes"] = causes
    if notes:
        details["notes"] = notes
    if is_a(error, BaseExceptionGroup):
        details["exceptions"] = [_inner(part) for part in _parts_of(error)[:MAX_CAUSES]]
    task = _task_name()
    if task:
        details["task"] = task
    details["frames"] = frames(traceback)
    return details


def _inner(error: BaseException) -> dict[str, Any]:
    """Return an error that another one came from: type, text, and where it was raised."""
    found: dict[str, Any] = {"type": type_of(error), "message": message_of(error)}
    inner = frames(traceback_of(error), MAX_INNER_FRAMES)
    return found | {"frames": inner} if inner else found


def _causes(error: BaseException) -> list[dict[str, Any]]:
    """Return the chain of causes and contexts, nearest first, as a traceback would show it."""
    chain: list[dict[str, Any]] = []
    seen = {id(error)}
    while len(chain) < MAX_CAUSES:
        relation, following = "cause", _cause_of(error)
        if following is None and not _suppresses_context(error):
            relation, following = "context", _context_of(error)
        if following is None or id(following) in seen:
            break
        seen.add(id(following))
        error = following
        chain.append({"relation": relation, **_inner(error)})
    return chain


def _notes(error: BaseException) -> list[str]:
    notes = instance_dict(error).get("__notes__")
    if type(notes) is not list:
        return []
    return [_shortened(str.__str__(note)) for note in notes[:MAX_CAUSES] if inherits(type(note), str)]


def _task_name() -> str:
    """Return the name of the asyncio or trio task that runs; "" where there is none, or it can't be found out."""
    try:
        tasks, trio = sys.modules.get("asyncio.tasks"), sys.modules.get("trio.lowlevel")
        if tasks is not None and tasks.events._get_running_loop() is not None:
            task = tasks.current_task()
            name = tasks.Task.get_name(task) if inherits(type(task), tasks.Task) else ""
        elif trio is not None and trio.in_trio_task():
            name = trio.current_task().name
        else:
            return ""
        return _shortened(name[:_MOST_OF_A_NAME]) if type(name) is str else ""
    except BaseException as fault:
        let_through(fault)
        return ""


def frames(traceback: TracebackType | None, most: int = MAX_FRAMES) -> list[dict[str, Any]]:
    """Return a traceback's frames, outermost first, without our own and without any value; of many, both ends."""
    found: list[dict[str, Any]] = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if not code.co_filename.startswith(OWN_FOLDER):
            line = traceback.tb_lineno
            found.append({"file": code.co_filename, "line": line, "function": code.co_qualname})
        traceback = traceback.tb_next
    if len(found) <= most:
        return found
    half = most // 2
    left_out = {"left_out": len(found) - 2 * half}
    return [*islice(found, half), left_out, *found[-half:]]


# --- where an error comes from


def parts_of(error: BaseException) -> tuple[BaseException, ...]:
    """Return the members of an exception group; none for any other error."""
    found: tuple[BaseException, ...] = _parts_of(error) if is_a(error, BaseExceptionGroup) else ()
    return found


def cause_of(error: BaseException) -> BaseException | None:
    """Return the error that another one was raised from."""
    cause: BaseException | None = _cause_of(error)
    return cause


def context_of(error: BaseException) -> BaseException | None:
    """Return the error that was being handled when another one was raised, where a traceback would show it."""
    hidden = _cause_of(error) is not None or _suppresses_context(error)
    context: BaseException | None = None if hidden else _context_of(error)
    return context


def origins_of(traceback: TracebackType | None) -> Iterator[tuple[int, int | None]]:
    """Yield the code and the line of each entry of a traceback, outermost first."""
    while traceback is not None:
        yield id(traceback.tb_frame.f_code), traceback.tb_lineno
        traceback = traceback.tb_next


MOST_ERRORS: Final = 100  # errors that are remembered, of all threads and tasks
_MOST_LINKS: Final = 50  # causes, contexts and members that are followed
_HOPS: Final = 20


class Passed(NamedTuple):
    """The steps that an error came through.

    Attributes:
        run_id: of the run of the last one; "" for an outermost call without one.
        expected: the error is part of the contract of the last one's node.
        began: in each run, the number of the first step: the run's id and the number, in the order of the steps.
    """

    run_id: str
    expected: bool
    began: tuple[tuple[str, int], ...]

    def first_in(self, run_id: str | None) -> int:
        """Return the number of the first step, of a run or of all (None); 0 for none."""
        return next((number for run, number in self.began if run_id in (None, run)), 0)


class _Noted(NamedTuple):
    """An error on its way out.

    Attributes:
        depth: how many entries its traceback had at the first step.
        origins: the hash of those entries.
        head: the outermost entry when it was last seen.
        around: number of the step around the last one that it came through.
        passed: the steps.
    """

    depth: int
    origins: int
    head: tuple[int, ...]
    around: int
    passed: Passed


class ErrorsPassed:
    """The latest errors that came through steps."""

    __slots__ = ("_noted",)

    def __init__(self) -> None:
        self._noted: dict[tuple[int, int], _Noted] = {}

    def note(self, error: BaseException, step: Step, run_id: str, expected: bool) -> None:
        """Note that an error comes through a step of some run."""
        key = (id(error), id(type(error)))
        before = self._noted.pop(key, None)
        traceback = traceback_of(error)
        began: tuple[tuple[str, int], ...] = ((run_id, step.number),)
        if before is not None and _goes_on(before, traceback, step.number):
            depth, origins = before.depth, before.origins
            began = before.passed.began if before.passed.first_in(run_id) else before.passed.began + began
        else:
            entries = tuple(origins_of(traceback))
            depth, origins = len(entries), hash(entries)
        passed = Passed(run_id, expected, began)
        self._noted[key] = _Noted(depth, origins, _head(traceback), step.parent, passed)
        while len(self._noted) > MOST_ERRORS:
            self._noted.pop(next(iter(self._noted)), None)

    def steps_of(self, error: BaseException) -> Passed | None:
        """Return the steps that an error came through; None where no step has seen it."""
        noted = self._noted.get((id(error), id(type(error))))
        if noted is None:
            return None
        entries = tuple(origins_of(traceback_of(error)))
        return noted.passed if _ends_as(entries, noted) else None

    def began(self, error: BaseException, run_id: str | None = None) -> int:
        """Return the number of the step in which an error began.

        It is found through members of groups, causes and contexts. Of what was cancelled, no step is to blame.

        Args:
            error: what left a call, a flow or the process.
            run_id: only steps of this run count; None means of any.

        Returns:
            The number; 0 where no step has seen the error nor any that it comes from.
        """
        return self._began(error, run_id, set())

    def _began(self, error: BaseException, run_id: str | None, seen: set[int]) -> int:
        if id(error) in seen or len(seen) >= _MOST_LINKS or code_of(error) == "node_cancelled":
            return 0
        seen.add(id(error))
        # the members of a group, and what it was raised from, are older than the group
        older = (self._began(other, run_id, seen) for other in (*parts_of(error), cause_of(error)) if other is not None)
        found = next(filter(None, older), 0)
        if found:
            return found
        passed = self.steps_of(error)
        own = 0 if passed is None else passed.first_in(run_id)
        handled = context_of(error)
        inner = 0 if handled is None else self._began(handled, run_id, seen)
        # what failed before the own step began, such as an earlier attempt, was only being handled around it
        return inner if inner > own else own


def _head(traceback: Any) -> tuple[int, ...]:
    return () if traceback is None else (id(traceback), id(traceback.tb_frame.f_code), traceback.tb_lineno or 0)


def _goes_on(before: _Noted, traceback: Any, number: int) -> bool:
    """Return True if an error that comes through a step is the one that was noted, and no later one at its address.

    Mostly it comes from a step inside this one: then the newest entries tell that. A recursion may pass a thousand
    steps, and none of them should cost a walk through them all.
    """
    is_inside = before.around == number
    if is_inside and _stands_in(before.head, traceback):
        return True
    entries = tuple(origins_of(traceback))
    return (is_inside or len(entries) > before.depth) and _ends_as(entries, before)


def _stands_in(head: tuple[int, ...], traceback: Any) -> bool:
    """Return True if a traceback has grown from another one: each caller puts its own entry before."""
    for _ in range(_HOPS):
        if traceback is None:
            return False
        if _head(traceback) == head:
            return True
        traceback = traceback.tb_next
    return False


def _ends_as(entries: tuple[Any, ...], noted: _Noted) -> bool:
    start = len(entries) - noted.depth
    return start >= 0 and hash(entries[start:]) == noted.origins
