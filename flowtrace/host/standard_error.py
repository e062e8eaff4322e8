"""Standard error, for our own warnings: never a stream that the program has put in its place to catch its own output.

pytest's capsys and capfd, click's CliRunner, `contextlib.redirect_stderr` and many others put a stream of theirs into
`sys.stderr`, or a file behind its descriptor, while a piece of the program runs. The program looks at what it finds
there, and a warning of ours among it would be a change.
"""

from __future__ import annotations

import sys
from atexit import register
from collections import deque
from typing import Any, Final

from flowtrace.host.signals import let_through
from flowtrace.host.system import os

_DESCRIPTOR: Final = 2
_MOST_WAITING: Final = 100


def _file() -> tuple[int, int] | None:
    """Return what tells the file behind standard error from others; None where it is closed."""
    try:
        found = os.fstat(_DESCRIPTOR)
    except OSError as error:
        let_through(error)
        return None
    return found.st_dev, found.st_ino


class _State:
    """Process-global: standard error as it was when flowtrace was loaded.

    Attributes:
        own: the stream; None where there was none.
        file: the file behind the descriptor; None where any will do.
        process: the id of the process in which all that was found.
        is_child: it was forked since.
        waiting: lines that could not be written yet.
        is_registered: those that still wait at the end are written then.
    """

    def __init__(self) -> None:
        self.own: Any = sys.stderr
        self.file = _file()
        self.process = os.getpid()
        self.is_child = False
        self.waiting: deque[str] = deque(maxlen=_MOST_WAITING)
        self.is_registered = False


_STATE: Final = _State()


def write(line: str) -> None:
    """Write a line; keep it for later where the program catches whatever is written.

    Args:
        line: text without a line break at its end.

    Raises:
        Exception: whatever the stream raises.
    """
    if sys.stderr is None:  # pythonw has none
        return
    if _STATE.process != os.getpid():
        _begin_in_child()
    _STATE.waiting.append(line)
    stream = _stream()
    if stream is not None:
        _write_waiting(stream)
    elif not _STATE.is_registered:
        _STATE.is_registered = True
        register(write_waiting)


def write_waiting() -> None:
    """Write the lines that waited: at the end of the process, whatever stands there then.

    Where its file was closed, nothing is written: from Python 3.14 on, the program would end with status 120.
    """
    if _STATE.waiting and sys.stderr is not None and _STATE.process == os.getpid():
        stream = _stream() or sys.__stderr__ or sys.stderr
        if stream is not sys.__stderr__ or _file() is not None:
            _write_waiting(stream)


def _begin_in_child() -> None:
    """Leave the lines that wait to the parent; a forked child may be a daemon, whose standard error is another file."""
    _STATE.waiting.clear()
    _STATE.file = None
    _STATE.process = os.getpid()
    _STATE.is_child = True


def _stream() -> Any:
    """Return the stream to write to; None while there is none that the program does not look at."""
    if sys.stderr is _STATE.own and sys.stderr is not sys.__stderr__:  # a notebook's, or what pytest shows of failures
        return sys.stderr
    if sys.__stderr__ is None or (_STATE.file is not None and _file() != _STATE.file):
        return None
    return _Descriptor if _STATE.is_child else sys.__stderr__


class _Descriptor:
    """Standard error of a forked child: a thread of the parent may have held the lock of the stream, and is not here.

    Up to Python 3.13, a child has a new lock.
    """

    @staticmethod
    def write(text: str) -> None:
        """Write all of a text."""
        data = text.encode("utf-8", "backslashreplace")
        while data:
            data = data[os.write(_DESCRIPTOR, data) :]

    @staticmethod
    def flush() -> None:
        """Do nothing: all is written."""


def _write_waiting(stream: Any) -> None:
    while _STATE.waiting:
        stream.write(f"{_STATE.waiting.popleft()}\n")
    stream.flush()
