"""Our own warnings: few, and never an exception.

structlog writes them: in the program's own format where the program has configured it, and elsewhere as lines on
standard error, since standard output belongs to the program. It is loaded with the recorder, not for a warning: that
comes in the middle of a call, or where something has failed.
"""

from __future__ import annotations

import sys
from threading import Lock, local
from typing import Any, Final

from flowtrace.host.clock import rfc3339
from flowtrace.host.printable import printable
from flowtrace.host.safe_loading import load_once
from flowtrace.host.signals import let_through
from flowtrace.host.system import time

MAX_CAUSES: Final = 1000
"""Of a flood of ever new causes, only so many are warned of."""


class _Cause:
    """A cause that was warned of, with the fields of its first warning."""

    __slots__ = ("event", "fields", "times")

    def __init__(self, event: str, fields: dict[str, object]) -> None:
        self.event = event
        self.fields = fields
        self.times = 1


class _State:
    """Process-global: the causes that were warned of, which threads are inside a warning, and structlog.

    Attributes:
        lock: protects ``causes``. It is not re-entrant, and whatever holds it calls no other code.
    """

    def __init__(self) -> None:
        self.causes: dict[tuple[object, ...], _Cause] = {}
        self.lock = Lock()
        self.thread = local()
        self.structlog: Any = None
        self.render: Any = None


_STATE: Final = _State()


def warn(event: str, **fields: object) -> None:
    """Log one warning. Does nothing where logging fails, or where a processor of structlog is a traced function.

    Args:
        event: what happened.
        **fields: structured context, JSON-like.
    """
    thread = _STATE.thread
    if getattr(thread, "is_warning", False):
        return
    thread.is_warning = True
    try:
        _log(event, fields)
    except BaseException as error:
        let_through(error)
    finally:
        thread.is_warning = False


def warn_once(event: str, cause: tuple[object, ...], **fields: object) -> None:
    """Log a warning the first time that ``cause`` occurs; from then on only count.

    Args:
        event: what happened.
        cause: two occurrences with the same one are the same (a path and an errno, say).
        **fields: structured context; ``count`` is added to it.
    """
    with _STATE.lock:
        earlier = _STATE.causes.get(cause)
        if earlier is not None:
            earlier.times += 1
            return
        if len(_STATE.causes) >= MAX_CAUSES:
            return
        _STATE.causes[cause] = _Cause(event, fields)
    warn(event, **fields, count=1)


def summarise() -> None:
    """Log each cause that occurred again after its warning once more, with its final count; then forget them all."""
    with _STATE.lock:
        repeated = [cause for cause in _STATE.causes.values() if cause.times > 1]
        _STATE.causes.clear()
    for cause in repeated:
        warn(cause.event, **cause.fields, count=cause.times)


def forget() -> None:
    """Forget which causes were warned of."""
    with _STATE.lock:
        _STATE.causes.clear()


def forget_lock() -> None:
    """Make a new lock: in a forked child, a thread that does not exist there may hold the old one."""
    _STATE.lock = Lock()


def internal_fault(where: str, error: BaseException) -> None:
    """Report a fault of flowtrace itself, once for each activity and kind of error.

    Args:
        where: the activity that failed, as a verb phrase ("record the start of a call").
        error: the exception; it is raised again if it is not ours, but that of a signal handler of the program.
    """
    let_through(error)
    kind = type(error).__qualname__
    warn_once(
        "flowtrace could not do its work; the program is not affected",
        ("fault", where, kind),
        doing=where,
        error=kind,
    )


def load() -> bool:
    """Load structlog, unless that was done; return False if it can't be loaded: then nothing is said."""
    return load_once(_load)


def _load() -> None:
    import structlog

    _STATE.structlog = structlog
    _STATE.render = structlog.dev.ConsoleRenderer(colors=False)


def _log(event: str, fields: dict[str, object]) -> None:
    if not load():
        return
    if _STATE.structlog.is_configured():
        _STATE.structlog.get_logger("flowtrace").warning(event, **{name: _printable(fields[name]) for name in fields})
    elif sys.stderr is not None:  # pythonw has none
        entry = {"timestamp": rfc3339(time.time_ns()), "level": "warning", "event": event, **fields}
        sys.stderr.write(f"{printable(_STATE.render(None, 'warning', entry))}\n")
        sys.stderr.flush()


def _printable(value: object) -> object:
    """Return a field as the program's own logging gets it, which may write it to a terminal as it is."""
    return printable(value) if type(value) is str else value
