"""What flowtrace says about itself: a few warnings through structlog, never an exception.

structlog is loaded when there is something to say, and never configured here. A host that has configured it gets
our warnings in its own format; elsewhere they go to standard error, since standard output belongs to the program.
"""

from __future__ import annotations

import sys
from threading import Lock, local
from typing import Final

from flowtrace.host.safe_loading import load_once
from flowtrace.host.signals import let_through

MAX_CAUSES: Final = 1000  # beyond these a flood of ever new ones is not told
_counts: dict[tuple[object, ...], int] = {}
_reported: dict[tuple[object, ...], tuple[str, dict[str, object]]] = {}
_lock = Lock()  # not re-entrant: nothing that holds it calls anything else
_speaking: Final = local()


def _load() -> None:
    import structlog as structlog


def _log(event: str, fields: dict[str, object]) -> None:
    if not load_once(_load):
        return
    import structlog

    if structlog.is_configured():
        structlog.get_logger("flowtrace").warning(event, **fields)
    elif sys.stderr is not None:  # pythonw has none
        # PrintLogger has a lock for each file: in a child that was forked meanwhile it would be held for ever.
        line = structlog.wrap_logger(
            structlog.testing.ReturnLogger(),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso"),
                structlog.dev.ConsoleRenderer(colors=False),
            ],
        ).warning(event, **fields)
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def warn(event: str, **fields: object) -> None:
    """Log one warning. Does nothing where logging itself fails or logs through a traced function.

    Args:
        event: what happened.
        **fields: structured context, JSON-like.
    """
    if getattr(_speaking, "now", False):
        return
    _speaking.now = True
    try:
        _log(event, fields)
    except Exception as error:
        let_through(error)
    finally:
        _speaking.now = False


def is_speaking() -> bool:
    """Tell whether this thread is inside one of our own warnings."""
    return bool(getattr(_speaking, "now", False))


def warn_once(event: str, cause: tuple[object, ...], **fields: object) -> None:
    """Log a warning the first time that ``cause`` occurs; count the later times in silence.

    Args:
        event: what happened.
        cause: what makes two occurrences the same (a path and an errno, say).
        **fields: structured context; ``count`` is added to it.
    """
    with _lock:
        if cause not in _counts and len(_counts) >= MAX_CAUSES:
            return
        _counts[cause] = times = _counts.get(cause, 0) + 1
        _reported.setdefault(cause, (event, fields))
    if times == 1:
        warn(event, **fields, count=1)


def summarise() -> None:
    """Log once more, with its final count, each cause that occurred again after its warning; then forget all."""
    with _lock:
        repeated = [(_reported[cause], times) for cause, times in _counts.items() if times > 1]
    forget()
    for (event, fields), times in repeated:
        warn(event, **fields, count=times)


def forget_lock() -> None:
    """Make a new lock: in a forked child the old one may be held by a thread that is not there."""
    global _lock
    _lock = Lock()


def forget() -> None:
    """Forget which causes were warned of."""
    with _lock:
        _counts.clear()
        _reported.clear()


def internal_fault(where: str, error: BaseException) -> None:
    """Report a fault of flowtrace itself, once for each place and kind of error.

    Args:
        where: what was being done, as a verb phrase ("record the start of a call").
        error: what was raised; it is raised again where it is none of ours, but a signal handler's.
    """
    let_through(error)
    kind = type(error).__qualname__
    warn_once(
        "flowtrace could not do its work; the program is not affected",
        ("fault", where, kind),
        doing=where,
        error=kind,
    )
