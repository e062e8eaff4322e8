"""The life of a step whose values are checked: what `flowtrace.recording.hot_path` does, and a check at both ends.

In mode ``error`` a value that is not valid ends the step, and an exception stands for the call. To the native core it
is *returned*, which raises it without a frame of ours; the pure twin has frames anyway, and gets it raised. The same
holds for what ends a validator of the program's and is no Exception, such as Ctrl-C: it ends the call.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from flowtrace.calls.core import NATIVE
from flowtrace.errors import InvocationValidationError
from flowtrace.host import log
from flowtrace.host.signals import OWN_FOLDER, is_from_handler, traceback_of
from flowtrace.recording import call_values, hot_path, program_texts, to_records
from flowtrace.recording.failure import MISSING_FIELD, SCHEMA, is_a, issue, pointer_to
from flowtrace.recording.node import bind, misfit
from flowtrace.recording.process import global_recorder
from flowtrace.recording.state import STATE
from flowtrace.recording.step import Step
from flowtrace.settings.config import ValidationMode
from flowtrace.trace.model import ValidationIssue
from flowtrace.values.secret_texts import EVERYTHING

if TYPE_CHECKING:
    from types import TracebackType

    from flowtrace.calls.core import Subject

REFUSED: Final = "invocation_validation_failed"
_UNBOUND: Final = {"args", "kwargs"}
_set_traceback: Final = BaseException.__dict__["__traceback__"].__set__


def begin(subject: Subject, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool) -> Any:
    """Start the step of a call, and check the arguments; return the step, or what the call raises instead."""
    step = hot_path.begin(subject, args, kwargs, bound)
    if step is None:
        return None
    raised = _raised_by_input(step, args, kwargs)
    return step if raised is None else raised


def prepare(subject: Subject, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool) -> Step | None:
    """Make the step of a body; its arguments are checked when it starts, as a body's error comes then, too."""
    step = hot_path.prepare(subject, args, kwargs, bound)
    if step is not None:
        step.unchecked = args, kwargs
    return step


def start(step: Step) -> BaseException | None:
    """Start the step of a body, and check the arguments."""
    given, step.unchecked = step.unchecked, None
    hot_path.start(step)
    return None if given is None else _raised_by_input(step, *given)


def emit(step: Step, item: object) -> BaseException | None:
    """Check one value that a generator yields, and record it."""
    found = _found(step, partial(_issues_of_output, step, item, f"/items/{step.checked}"))
    step.checked += 1
    hot_path.emit(step, item)
    return _raised(step, found, "result", item)


def end(step: Step, output: object) -> BaseException | None:
    """Check the result of a call, and record that it ended."""
    raised = _raised(step, _found(step, partial(_issues_of_output, step, output, "")), "result", output)
    if raised is None:
        hot_path.end(step, output)
    return raised


FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "begin": begin,
    "prepare": prepare,
    "start": start,
    "emit": emit,
    "end": end,
}
"""Those that a checked node has instead of the ones in `flowtrace.recording.hot_path`."""


def _checks(step: Step) -> Any:
    return step.node.checks


def _raised_by_input(step: Step, args: tuple[Any, ...], kwargs: dict[str, Any]) -> BaseException | None:
    return _raised(step, _found(step, partial(_issues_of_input, step, args, kwargs)), "arguments")


def _issues_of_input(step: Step, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[ValidationIssue]:
    node = step.node
    if not _checks(step).has_input:
        return []
    payload = bind(node, args, kwargs, step.bound)
    if payload.keys() == _UNBOUND:  # or its parameters have these names
        missing, wrong = misfit(node, args, kwargs, step.bound)
        if missing:
            return [issue(MISSING_FIELD, pointer_to("", [name]), "a required argument is missing") for name in missing]
        if wrong:
            return [issue(SCHEMA, "", wrong)]
    found: list[ValidationIssue] = _checks(step).input(payload)
    return found


def _issues_of_output(step: Step, value: object, pointer: str) -> list[ValidationIssue]:
    check = _checks(step).output  # made for the first value, from the program's own annotations
    found: list[ValidationIssue] = [] if check is None else check(value, pointer)
    return found


def _found(step: Step, check: Callable[[], list[ValidationIssue]]) -> list[ValidationIssue] | BaseException:
    """Return what a check finds; or what is to end the call, where a validator of the program's raised such a thing."""
    if _mode() is ValidationMode.OFF:
        return []
    try:
        return check()
    except BaseException as error:
        if not is_a(error, Exception) or is_from_handler(error):
            return error
        log.internal_fault(f"validate the values of {step.node.node_id}", error)
        return []


def _raised(
    step: Step, found: list[ValidationIssue] | BaseException, what: str, *result: object
) -> BaseException | None:
    """Keep the issues of a step; return or raise what is to end its call, if anything is."""
    if result and found:  # it may be quoted, and is not recorded where it is refused
        _hide(step, result[0])
    if not isinstance(found, list):
        hot_path.fail(step, found)
        return _handed_on(found)
    for one in found:
        message = one.message if what == "arguments" else f"in the {what}: {one.message}"
        step.note(ValidationIssue(one.code, one.path, message))
    if not found or _mode() is not ValidationMode.ERROR:
        return None
    error = InvocationValidationError(step.node.node_id, what, _without_secrets(step, found))
    hot_path.fail(step, error, REFUSED)
    if NATIVE is None:
        raise error from None
    return error


def _hide(step: Step, result: object) -> None:
    try:
        policy = (STATE.recorder or global_recorder()).policy
        step.hidden += call_values.secrets_of_result(step.node, result, policy)
    except Exception as error:
        step.hidden = (EVERYTHING,)
        log.internal_fault("find what a result hides", error)


def _mode() -> ValidationMode:
    return (STATE.recorder or global_recorder()).config.validation


def _without_secrets(step: Step, issues: list[ValidationIssue]) -> list[tuple[str, str, str]]:
    try:
        scrubber = to_records.scrubber_of([step], (STATE.recorder or global_recorder()).policy)
        scrubbed = [program_texts.scrubbed_issue(one, scrubber) for one in issues]
    except Exception as error:
        log.internal_fault("hide secrets in validation issues", error)
        return [(one.code, "", "(its text could not be searched for secrets)") for one in issues]
    return [(one.code, one.path, one.message) for one in scrubbed]


def _handed_on(error: BaseException) -> BaseException:
    """Hand on what the program's own code raised; to the native core, without our frames that it came through."""
    if NATIVE is None:
        raise error
    _set_traceback(error, _theirs(traceback_of(error)))
    return error


def _theirs(traceback: TracebackType | None) -> TracebackType | None:
    while traceback is not None and traceback.tb_frame.f_code.co_filename.startswith(OWN_FOLDER):
        traceback = traceback.tb_next
    return traceback
