"""Files and their names: what a path template gives, writing a file in one step, and opening one that is to be trusted.

Other programs and users may have put something at our paths. So no link is followed where we write or remove, no pipe
is waited for, and a file counts as ours only if it belongs to the user that this process runs as.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from enum import Enum
from functools import partial
from stat import S_ISDIR, S_ISREG
from typing import BinaryIO, Final, NamedTuple

from flowtrace.errors import TraceFileError
from flowtrace.host.signals import Tolerating, is_folder, is_link, let_through
from flowtrace.host.switch import HOME_PID
from flowtrace.host.system import os, re

_USER: Final = getattr(os, "geteuid", None)
_READ: Final = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
FOLDER: Final = _READ | getattr(os, "O_DIRECTORY", 0)
FILE: Final = _READ | getattr(os, "O_NONBLOCK", 0)  # opening a pipe must not wait for its writer
FILE_OR_LINK: Final = FILE & ~getattr(os, "O_NOFOLLOW", 0)
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
_UNNAMED: Final = os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC if hasattr(os, "O_TMPFILE") else None
_NO_FSYNC: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EROFS})
# The process from which multiprocessing forks its workers: since 3.14 it loads the main module, too.
_IS_FORK_SERVER: Final = any("from multiprocessing.forkserver import main" in part for part in sys.orig_argv)
_LONGEST_NAME_KEPT: Final = 80  # in bytes, as file systems count
_SHORT_NAME: Final = 20  # characters, which take no more bytes than that

MAX_TRACE_BYTES: Final = 1 << 28  # 256 MiB: no recorder writes that much, and reading takes several times as much
PLACEHOLDERS: Final = {
    "{pid}": "[0-9]+",
    "{run_id}": "[0-9a-f]{32}",
    "{flow_id}": r"[\w.-]+",
    "{timestamp}": r"[0-9]{8}T[0-9]{6}\.[0-9]{6}Z",
}
InTurn = Callable[[Callable[[], None]], bool]
Content = bytes | Callable[[], Iterable[bytes]]
"""A file's content, or a function that makes it in pieces; it is called again where the first try went wrong."""
_AT_ONCE: Final = 1 << 18  # bytes of small pieces that are written with one system call


class Flush(Enum):
    """A choice: what a write waits for until it is on the disk. A killed process loses nothing, whatever the choice."""

    NOTHING = "nothing"
    FILE = "file"
    FOLDER = "file and folder"


# --- path templates


def is_child_process() -> bool:
    """Return True if this process was forked from, or started by multiprocessing for, another one."""
    if os.getpid() != HOME_PID:
        return True
    multiprocessing = sys.modules.get("multiprocessing")
    if multiprocessing is None:
        return False
    named = multiprocessing.current_process().name != "MainProcess"
    return named or _IS_FORK_SERVER or multiprocessing.parent_process() is not None


def render_path(template: str, run_id: str = "", flow_id: str = "", timestamp: str = "") -> str:
    """Return the path that a template gives in this process.

    A child process adds its pid before the suffix, unless ``{pid}`` is in the template: it must not write over the
    file of its parent.

    Args:
        template: a path with any of ``{pid} {run_id} {flow_id} {timestamp}``, or with none.
        run_id: 32 hex digits.
        flow_id: the flow's name; characters that are not safe in a file name become ``_``.
        timestamp: RFC 3339 text of the run's start.
    """
    is_child = is_child_process()
    if "{" not in template and not is_child:
        return template
    of_parent, of_child = rendered_paths(template, pid=os.getpid(), run_id=run_id, flow_id=flow_id, timestamp=timestamp)
    return of_child if is_child else of_parent


def rendered_paths(template: str, *, pid: int, run_id: str, flow_id: str, timestamp: str) -> tuple[str, str]:
    """Return the path that a template gives in a process of its own, and in a child process; see `render_path`."""
    if "{" not in template:
        stem, suffix = os.path.splitext(template)
        return template, f"{stem}.{pid}{suffix}"
    values = {
        "{pid}": str(pid),
        "{run_id}": run_id,
        "{flow_id}": _file_name(flow_id),
        "{timestamp}": re.sub("[-:]", "", timestamp),
    }
    stem, suffix = (
        re.sub(r"\{\w+\}", lambda found: values.get(found[0], found[0]), text) for text in os.path.splitext(template)
    )
    path = stem + suffix
    return path, path if "{pid}" in template else f"{stem}.{pid}{suffix}"


def refuse_links(template: str, path: str) -> None:
    """Refuse a path that leads through a link in the part that its template leaves open.

    Anybody who can guess such a name could have put the link there. What the template names in full may be a link.

    Args:
        template: the template that gave the path.
        path: the path of a file.

    Raises:
        OSError: a folder in that part is a link.
    """
    if "{" not in template:
        return
    folder, pattern = os.path.dirname(path), os.path.dirname(template)
    while any(name in pattern for name in PLACEHOLDERS):
        if is_link(folder):
            raise OSError(errno.ELOOP, f"the folder {os.path.basename(folder)} is a link, and is not followed", folder)
        folder, pattern = os.path.dirname(folder), os.path.dirname(pattern)


def _file_name(text: str) -> str:
    name = re.sub(r"[^\w.-]|^\.+", "_", text).encode()[:_LONGEST_NAME_KEPT]
    return name.decode(errors="ignore") or "_"


def pattern_of(text: str) -> str:
    """Return the regular expression for the names that a part of a template can give."""
    return "".join(PLACEHOLDERS.get(piece) or re.escape(piece) for piece in re.split(r"(\{\w+\})", text))


# --- opening what may not be ours


def is_ours(status: os.stat_result) -> bool:
    """Return True for a regular file of the user that this process runs as."""
    return S_ISREG(status.st_mode) and (_USER is None or status.st_uid == _USER())


class Stamp(NamedTuple):
    """A file's identity and version: it changes when the file does. Stamps sort by age, the oldest first."""

    changed: int
    inode: int
    size: int


def stamp_of(status: os.stat_result) -> Stamp:
    """Return the stamp of a file."""
    return Stamp(status.st_mtime_ns, status.st_ino, status.st_size)


def read_up_to(limit: int, descriptor: int) -> bytes:
    """Return the content of an open file, but no more than ``limit`` bytes of it."""
    chunks: list[bytes] = []
    while limit > 0 and (chunk := os.read(descriptor, min(limit, 1 << 20))):
        chunks.append(chunk)
        limit -= len(chunk)
    return b"".join(chunks)


@contextmanager
def open_trace(path: str) -> Generator[BinaryIO]:
    """Open a file that may be a trace for a ``with`` block: a device may have no end, and a pipe no writer.

    Raises:
        TraceFileError: it is not a regular file, or larger than ``MAX_TRACE_BYTES``.
        OSError: it can't be opened.
    """
    _refuse_no_file(path, os.stat(path))  # before it is opened: opening a device may have an effect
    with os.fdopen(os.open(path, FILE_OR_LINK), "rb") as file:
        status = os.fstat(file.fileno())
        _refuse_no_file(path, status)
        if status.st_size > MAX_TRACE_BYTES:
            raise too_large(path)
        yield file


def too_large(name: str) -> TraceFileError:
    """Return the error about a file that is larger than ``MAX_TRACE_BYTES``."""
    return TraceFileError(name, "", f"is larger than {MAX_TRACE_BYTES >> 20} MiB")


def _refuse_no_file(path: str, status: os.stat_result) -> None:
    if S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not S_ISREG(status.st_mode):
        raise TraceFileError(path, "", "is not a regular file")


# --- writing in one step


def at_once(put: Callable[[], None]) -> bool:
    """Put a new file in its place, whatever else is written there."""
    put()
    return True


def write_atomically(
    path: str,
    content: Content,
    in_turn: InTurn = at_once,
    flush: Flush = Flush.FILE,
    is_there: bool | None = None,
) -> None:
    """Replace a file's content in one step: a reader sees all of the old content or all of the new one.

    The bytes are written to a new file of mode 0600 in the same folder; then the file gets its name. Missing folders
    are made with mode 0700. On failure the new file is removed and the old content stays. On Linux the new file has no
    name until it is complete, so that even a killed process leaves no piece of it; where an older file is replaced, the
    new one has a temporary name for the moment between two system calls.

    Args:
        path: the file.
        content: its new content.
        in_turn: is given a function that puts the new file in its place; it either calls it and returns True, or
            returns False, and the new file is dropped.
        flush: what has to be on the disk before this returns: nothing, the file's content, or also its name.
        is_there: there is a file, which may be replaced; False where there is none, and one that comes meanwhile must
            not be replaced; None where that is to be found out.

    Raises:
        FileExistsError: there is a file, and it must not be replaced.
        OSError: the file can't be written, or the path belongs to something other than a file.
    """
    new = _NewFile(path, content, flush, is_there)
    try:
        written = _write_unnamed(new, in_turn)
        if not written:
            make_folders(new.folder)
            written = new.temporary
            new.write_and_close(os.open(written, _CREATE, 0o600))
        put = os.replace if new.replaces else put_new
        if written != path and not in_turn(partial(put, written, path)):
            os.unlink(written)
    except FileExistsError:  # what has the temporary name is not ours to remove
        raise
    except BaseException:
        with Tolerating(OSError):
            os.unlink(new.temporary)
        raise
    if flush is Flush.FOLDER:
        _flush_folder(new.folder)


def temporary_beside(path: str) -> str:
    """Return an unused name in the folder of a path, for a file that is going to replace the one at that path."""
    return _temporary_in(*os.path.split(path))


def _temporary_in(folder: str, name: str) -> str:
    if len(name) > _SHORT_NAME:
        name = os.fsdecode(os.fsencode(name)[:_LONGEST_NAME_KEPT])
    return f"{folder or '.'}{os.sep}.{name}.{os.getpid()}.{os.urandom(6).hex()}.tmp"


def make_folders(folder: str) -> None:
    """Make a folder, and those above it that are missing, with mode 0700."""
    if is_folder(folder):
        return
    parent = os.path.dirname(folder)
    if parent and parent != folder:
        make_folders(parent)
    with suppress(FileExistsError):  # another process was quicker; if it is no folder, open() will fail
        os.mkdir(folder, 0o700)


def is_file(path: str) -> bool:
    """Return True if there is a file at a path, which may be replaced; False if there is nothing.

    Raises:
        OSError: there is something else: a folder, a device or a pipe (``/dev/null``, say).
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise
        let_through(error)
        return False
    if S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder, not a file", path)
    if not S_ISREG(mode):
        raise OSError(errno.EINVAL, "is not a regular file", path)
    return True


def put_new(temporary: str, path: str) -> None:
    """Give a file its name, unless that is taken.

    Raises:
        FileExistsError: it is taken; the file is removed.
        OSError: it can't be given.
    """
    try:
        os.link(temporary, path)
    except FileExistsError:
        os.unlink(temporary)
        raise
    except OSError as error:  # a file system without hard links
        let_through(error)
        os.replace(temporary, path)
    else:
        os.unlink(temporary)


def _write_unnamed(new: _NewFile, in_turn: InTurn) -> str:
    """Write a file that gets a name when it is complete: that of the path if it is free, else the temporary one.

    Returns:
        That name, or that of the path where the file was dropped; ``""`` where the system or the file system has no
        files without a name.
    """
    descriptor = _open_unnamed(new.folder)
    if descriptor is None:
        return ""
    # with a descriptor, Python calls linkat(), which follows the link in /proc as open(2) advises
    give_name = partial(os.link, f"/proc/self/fd/{descriptor}", src_dir_fd=descriptor)

    def finish() -> str:
        try:
            if not new.is_there:
                in_turn(partial(give_name, new.path))
                return new.path
        except FileExistsError:
            if not new.replaces:
                raise
        except OSError as error:
            let_through(error)
        try:
            give_name(new.temporary)
        except OSError as error:
            let_through(error)
            return ""
        return new.temporary

    return new.write_and_close(descriptor, finish)


def _open_unnamed(folder: str) -> int | None:
    """Return a new file without a name in a folder, which is made where it is missing; None where that can't be."""
    if _UNNAMED is None:
        return None
    try:
        try:
            return os.open(folder, _UNNAMED, 0o600)
        except FileNotFoundError:  # to look first would take longer
            make_folders(folder)
            return os.open(folder, _UNNAMED, 0o600)
    except OSError as error:
        let_through(error)
        return None


class _NewFile:
    """A file that is being written; see `write_atomically`.

    Raises:
        OSError: there is something other than a file at this path.
    """

    def __init__(self, path: str, content: Content, flush: Flush, is_there: bool | None) -> None:
        self.path = path
        folder, self._name = os.path.split(path)
        self.folder = folder or "."
        self.content = content
        self.flush = flush
        self.replaces = is_there is not False
        self.is_there = is_file(path) if is_there is None else is_there
        self._temporary = ""

    @property
    def temporary(self) -> str:
        """Its name until it gets that of the path."""
        self._temporary = self._temporary or _temporary_in(self.folder, self._name)
        return self._temporary

    def write_and_close(self, descriptor: int, finish: Callable[[], str] = lambda: "") -> str:
        """Write to an open file, flush it, call ``finish``, close the file, and return what that returned."""
        try:
            for chunk in self._chunks():
                _write_all(descriptor, chunk)
            if self.flush is not Flush.NOTHING:
                _flush_to_disk(descriptor)
            finished = finish()
        except BaseException:
            with Tolerating(OSError):
                os.close(descriptor)
            raise
        try:
            os.close(descriptor)
        except InterruptedError:  # it is closed all the same
            pass
        return finished

    def _chunks(self) -> Iterable[bytes]:
        if isinstance(self.content, bytes):
            yield self.content
            return
        waiting: list[bytes] = []
        size = 0
        for piece in self.content():
            size += len(piece)
            if size <= _AT_ONCE:
                waiting.append(piece)
                continue
            yield b"".join(waiting)
            waiting.clear()
            size = len(piece)
            if size > _AT_ONCE:
                yield piece
                size = 0
            else:
                waiting.append(piece)
            del piece  # before the next one is made: it may be large
        yield b"".join(waiting)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        written = os.write(descriptor, data)
        if not written:  # or this would go on forever
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        data = data[written:]  # nothing, most often


def _flush_to_disk(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FSYNC:  # a file system without fsync can do no better
            raise


def _flush_folder(folder: str) -> None:
    """Flush the new name to the disk too. The file is in place already, so a folder without fsync is no failure."""
    with Tolerating(OSError):
        descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
