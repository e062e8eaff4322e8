"""Our own warnings: few, and never an exception; and the one escaper that every text for a terminal passes.

structlog writes the warnings: in the program's own format where the program has configured it, and elsewhere as lines
on standard error, since standard output belongs to the program. It is loaded with the recorder, not for a warning: that
comes in the middle of a call, or where something has failed.
"""

from __future__ import annotations

from threading import Lock, local
from typing import Any, Final

from flowtrace.host import standard_error
from flowtrace.host.safe_loading import load_once
from flowtrace.host.signals import let_through
from flowtrace.host.system import re, rfc3339, time

_BLANK: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Characters that Python calls printable, and that show nothing: fillers, a blank Braille cell, variation selectors."""
_BEYOND_ASCII: Final = re.compile(r"[^\n -~]")
_16_BITS: Final = 0xFFFF


def printable(text: str) -> str:
    r"""Return text on one line, without characters that a terminal would obey or hide.

    Control characters, ANSI escapes, marks that change the direction of text, tags and other invisible characters
    become Python's escapes, such as ``\x1b``.
    """
    if text.isprintable():
        return text if text.isascii() else _BLANK.sub(lambda found: _escaped(found[0]), text)
    return "".join(character if _is_seen(character) else _escaped(character) for character in text)


def json_printable(text: str) -> str:
    r"""Return JSON text in which such characters are escaped as JSON allows; its line breaks stay.

    Args:
        text: JSON text, which has none of them outside of its strings.
    """
    return _BEYOND_ASCII.sub(lambda found: found[0] if _is_seen(found[0]) else _json_escape(found[0]), text)


def _is_seen(character: str) -> bool:
    return character.isprintable() and _BLANK.match(character) is None


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _json_escape(character: str) -> str:
    code = ord(character)
    if code <= _16_BITS:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"


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
    if is_warning():
        return
    thread.is_warning = True
    try:
        _log(event, fields)
    except BaseException as error:
        let_through(error)
    finally:
        thread.is_warning = False


def is_warning() -> bool:
    """Return True if a warning of ours is being logged in this thread."""
    return bool(getattr(_STATE.thread, "is_warning", False))


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
    """Log each cause that occurred again once more, with its count, and forget them all; write what had to wait."""
    with _STATE.lock:
        repeated = [cause for cause in _STATE.causes.values() if cause.times > 1]
        _STATE.causes.clear()
    for cause in repeated:
        warn(cause.event, **cause.fields, count=cause.times)
    try:
        standard_error.write_waiting()
    except BaseException as error:
        let_through(error)


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
    else:
        entry = {"timestamp": rfc3339(time.time_ns()), "level": "warning", "event": event, **fields}
        standard_error.write(printable(_STATE.render(None, "warning", entry)))


def _printable(value: object) -> object:
    """Return a field as the program's own logging gets it, which may write it to a terminal as it is."""
    return printable(value) if type(value) is str else value
