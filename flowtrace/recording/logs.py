"""The last log records of each step that runs, where ``logs`` asks for them.

A handler on the root logger would be in the program's way: `logging.basicConfig` does nothing where there is one, and a
warning would no longer be printed by `logging.lastResort`; a program's `dictConfig` takes it off, and loggers that do
not propagate never reach it. So `Logger.callHandlers` is replaced, as error reporters do: it sees each record that a
logger's level and filters have let through, whatever handlers there are. It goes back when logs are switched off.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from logging import Handler, Logger, LogRecord
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from flowtrace.host import log
from flowtrace.host.objects import instance_dict
from flowtrace.host.system import CLOCK
from flowtrace.recording.log_text import Texts, shortened
from flowtrace.recording.process import report_fault
from flowtrace.recording.state import STATE, current
from flowtrace.recording.step import Step
from flowtrace.values.secret_texts import remember

if TYPE_CHECKING:
    from flowtrace.recording.recorder import TraceRecorder

MOST: Final = 20  # records of a step
_OF_A_LINE: Final = 200  # bytes of memory, beside its texts
_OF_A_CHARACTER: Final = 4  # at most


class LogLine(NamedTuple):
    """A log record as a step keeps it.

    Attributes:
        time: clock reading, in ns.
        level: its name.
        logger: the name of the logger; empty for none.
        message: its text.
        error: type and text of the exception that it was logged with, or None.
    """

    time: int
    level: str
    logger: str
    message: str
    error: str | None

    def bytes_kept(self) -> int:
        """Return about how many bytes of memory it takes."""
        return _OF_A_LINE + _OF_A_CHARACTER * (len(self.message) + len(self.error or ""))


class StepLogs:
    """The last log records of one step.

    Attributes:
        lines: the records, oldest first.
        total: how many there were.
        secrets: the texts of values that were hidden in them.
    """

    __slots__ = ("lines", "secrets", "total")

    def __init__(self) -> None:
        self.lines: deque[LogLine] = deque(maxlen=MOST)
        self.total = 0
        self.secrets: dict[str, None] = {}

    def bytes_kept(self) -> int:
        """Return about how many bytes of memory they take."""
        return sum(line.bytes_kept() for line in self.lines.copy())


class _State:
    """Process-global: whether logs are kept, and the `callHandlers` that is in place of the program's.

    Attributes:
        keeps: they are.
        installed: ours, where it may still be called: another library may have wrapped it.
        original: what it calls.
    """

    def __init__(self) -> None:
        self.keeps = False
        self.installed: Callable[..., None] | None = None
        self.original: Callable[..., None] = Logger.callHandlers


_STATE: Final = _State()


def use(recorder: TraceRecorder | None) -> None:
    """Keep logs from now on, or keep none any more, as a recorder is configured."""
    _STATE.keeps = recorder is not None and not recorder.is_off and recorder.config.logs
    if _STATE.keeps and _STATE.installed is None:
        _STATE.original = Logger.callHandlers
        _STATE.installed = _keeping_first(_STATE.original)
        Logger.callHandlers = _STATE.installed  # type: ignore[method-assign]
    elif not _STATE.keeps and Logger.callHandlers is _STATE.installed:
        Logger.callHandlers = _STATE.original  # type: ignore[method-assign]
        _STATE.installed = None


def _keeping_first(original: Callable[..., None]) -> Callable[..., None]:
    """Return what does the same as `Logger.callHandlers`, after it has kept the record.

    `logging` knows its own frames by their file, and leaves them out of what it says: this one counts as one of them.
    """

    def callHandlers(logger: Logger, record: LogRecord) -> None:  # noqa: N802  # the name it replaces
        if _STATE.keeps:
            try:
                keep_record(record)
            except RecursionError:  # no room on the stack, not even for a guard
                pass
        return original(logger, record)

    assert isinstance(callHandlers, FunctionType)
    code = callHandlers.__code__
    callHandlers.__code__ = code.replace(co_filename=Handler.handle.__code__.co_filename)
    return callHandlers


def keeps_logs() -> bool:
    """Return True if the step that runs here keeps log records."""
    return _STATE.keeps


def keep_record(record: LogRecord) -> None:
    """Keep a record of `logging` in the step that runs here. It is not changed, and no code of its values is run."""
    is_usual = type(record) is LogRecord
    _keep(lambda texts: _line_of(texts, record.__dict__ if is_usual else instance_dict(record)))


def keep_event(level: str, fields: dict[Any, Any], left_out: tuple[str, ...] = ()) -> None:
    """Keep an event of structlog in the step that runs here.

    Args:
        level: the name of the method that was called.
        fields: the event.
        left_out: names of fields that are not shown.
    """
    name = fields.get("logger")
    logger = name if type(name) is str else ""
    error = fields.get("exc_info")
    _keep(lambda texts: (level.upper(), logger, texts.event(fields, left_out), texts.error(error)))


def _line_of(texts: Texts, fields: dict[str, Any]) -> tuple[str, str, str, str | None]:
    level, name = fields.get("levelname"), fields.get("name")
    return (
        level if type(level) is str else "?",
        name if type(name) is str else "",
        texts.message(fields.get("msg"), fields.get("args")),
        texts.error(fields.get("exc_info")),
    )


def _keep(make: Callable[[Texts], tuple[str, str, str, str | None]]) -> None:
    """Make a record's line and keep it, where a step runs here. Never raises, but for what a signal handler does."""
    step = current()
    if not isinstance(step, Step) or step.ended or log.is_warning():
        return
    try:
        recorder = STATE.recorder
        if recorder is None:
            return
        texts = Texts(recorder.policy, recorder.policy.secret(step.node))
        level, logger, message, error = make(texts)
        line = LogLine(CLOCK.now(), shortened(level), shortened(logger), message, error)
        logs = step.logs
        if logs is None:
            step.logs = logs = StepLogs()
        logs.total += 1
        _count(step, line, logs)
        logs.lines.append(line)
        if texts.hidden:
            remember(texts.hidden, logs.secrets)
    except BaseException as error:
        report_fault("keep a log record", error)


def _count(step: Step, line: LogLine, logs: StepLogs) -> None:
    """Count a line's bytes where the native core has counted those of the step."""
    if step.held:
        oldest = logs.lines[0].bytes_kept() if len(logs.lines) == MOST else 0
        step.held += line.bytes_kept() - oldest
