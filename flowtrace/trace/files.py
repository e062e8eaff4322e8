"""Opening what somebody else may have put there: no link is followed, no pipe is waited for, and its owner is asked.

Files: path templates, the atomic write, payload files beside the trace.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import sys
from collections.abc import Callable
from functools import partial
from typing import Final

from flowtrace.host.switch import HOME_PID
from flowtrace.trace import files

_FLAGS: Final = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
FOLDER: Final = _FLAGS | getattr(os, "O_DIRECTORY", 0)
FILE: Final = _FLAGS | getattr(os, "O_NONBLOCK", 0)  # opening a pipe must not wait for its writer


def is_ours(status: os.stat_result) -> bool:
    """Tell whether something is a regular file of the user that this process runs as."""
    return stat.S_ISREG(status.st_mode) and (not hasattr(os, "geteuid") or status.st_uid == os.geteuid())


_NO_FSYNC: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EROFS})
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
_USER: Final = getattr(os, "geteuid", None)
_UNNAMED: Final = os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC if hasattr(os, "O_TMPFILE") else None
InTurn = Callable[[Callable[[], None]], bool]
_LONGEST_NAME_KEPT: Final = 80  # in bytes, as file systems count


def is_child_process() -> bool:
    """Tell whether this process was forked from, or started by multiprocessing for, another one."""
    if os.getpid() != HOME_PID:
        return True
    multiprocessing = sys.modules.get("multiprocessing")
    if multiprocessing is None:
        return False
    named = multiprocessing.current_process().name != "MainProcess"
    return named or multiprocessing.parent_process() is not None


def render_path(template: str, *, run_id: str, flow_id: str, timestamp: str) -> str:
    """Return the path that a template stands for in this process.

    A child process adds its pid before the suffix, unless ``{pid}`` is in the template: it must not write over the
    file of its parent.

    Args:
        template: a path with any of ``{pid} {run_id} {flow_id} {timestamp}``.
        run_id: 32 hex digits.
        flow_id: the flow's name; what can't safely stand in a file name becomes ``_``.
        timestamp: RFC 3339 text of the run's start.
    """
    of_parent, of_child = rendered_paths(template, pid=os.getpid(), run_id=run_id, flow_id=flow_id, timestamp=timestamp)
    return of_child if is_child_process() else of_parent


def rendered_paths(template: str, *, pid: int, run_id: str, flow_id: str, timestamp: str) -> tuple[str, str]:
    """Return the path that a template stands for in a process, and in one that is another one's child.

    Args:
        template: see `render_path`, as are the others.
        pid: the process.
        run_id: 32 hex digits.
        flow_id: the flow's name.
        timestamp: RFC 3339 text of the run's start.
    """
    words = {
        "{pid}": str(pid),
        "{run_id}": run_id,
        "{flow_id}": _file_name(flow_id),
        "{timestamp}": re.sub("[-:]", "", timestamp),
    }
    path = re.sub(r"\{\w+\}", lambda found: words.get(found[0], found[0]), template)
    stem, suffix = os.path.splitext(path)
    return path, path if "{pid}" in template else f"{stem}.{pid}{suffix}"


def _file_name(text: str) -> str:
    name = re.sub(r"[^\w.-]|^\.+", "_", text).encode()[:_LONGEST_NAME_KEPT]
    return name.decode(errors="ignore") or "_"


def at_once(place: Callable[[], None]) -> bool:
    """Put a new file in its place, whatever else is written there."""
    place()
    return True


def write_atomically(path: str, data: bytes, in_turn: InTurn = at_once) -> None:
    """Replace a file's content in one step: a reader sees the old content or the new, whole, never anything else.

    The bytes go to a new file of mode 0600 in the same folder, to the disk, and then under the name; missing folders
    are made with mode 0700. On failure the new file is removed and the old content stays. On Linux the new file has no
    name until it is whole, so that even a killed process leaves no piece of it; where an older file is replaced, the
    whole new one has a temporary name for the moment between two system calls.

    Args:
        path: the file.
        data: its new content.
        in_turn: calls what puts the new file in its place, and returns true; or returns false, and the file is dropped.

    Raises:
        OSError: the file can't be written, or the path is something else than a file.
    """
    folder = os.path.dirname(path) or "."
    _make_folders(folder)
    refuse_special_file(path)
    temporary = temporary_beside(path)
    try:
        written = _write_unnamed(folder, path, temporary, data, in_turn)
        if not written:
            _fill(os.open(temporary, _CREATE, 0o600), data)
        if written != path and not in_turn(partial(os.replace, temporary, path)):
            os.unlink(temporary)
    except FileExistsError:  # what has the temporary name is not ours to remove
        raise
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _flush_folder(folder)


def temporary_beside(path: str) -> str:
    """Return a name that nothing has, in the folder of a path, for a file that is to take that path's place."""
    folder, name = os.path.split(path)
    name = os.fsdecode(os.fsencode(name)[:_LONGEST_NAME_KEPT])
    return os.path.join(folder or ".", f".{name}.{os.getpid()}.{os.urandom(6).hex()}.tmp")


def write_payload(trace_path: str, digest: str, data: bytes) -> str:
    """Write a payload that is too large for the trace into a file beside it, named after its hash, once.

    Args:
        trace_path: the trace file.
        digest: hex hash of the payload.
        data: the payload's canonical JSON.

    What is there under its name already counts only where it says the same and is nobody else's: a link, or a file
    that others may read or write, is replaced.

    Returns:
        The payload file's path, relative to the folder of the trace, with forward slashes.

    Raises:
        OSError: the file can't be written, or the payloads' folder is a link or somebody else's.
    """
    folder = payload_folder(trace_path)
    relative = f"{folder}/{digest}.json"
    parent = os.path.dirname(trace_path)
    path = os.path.join(parent, folder, f"{digest}.json")
    _make_folders(os.path.dirname(path))
    _refuse_foreign_folder(os.path.dirname(path), parent or ".")
    if not _is_written(path, data):
        write_atomically(path, data)
    return relative


def payload_folder(trace_path: str) -> str:
    """Return the name of the folder beside a trace that its payload files are in."""
    return os.path.splitext(os.path.basename(trace_path))[0] + ".payloads"


def _refuse_foreign_folder(folder: str, parent: str) -> None:
    """Refuse a folder that somebody else put there, to see or to change what is written into it."""
    status = os.lstat(folder)
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, "is a link or no folder", folder)
    if _USER is not None and status.st_uid not in (_USER(), os.stat(parent).st_uid):
        raise PermissionError(errno.EPERM, "is the folder of another user", folder)


def _is_written(path: str, data: bytes) -> bool:
    """Tell whether a file holds these bytes, is no link, and is the user's own alone."""
    try:
        descriptor = os.open(path, files.FILE)
    except OSError:
        return False
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not files.is_ours(status) or status.st_size != len(data):
            return False
        if _USER is not None and stat.S_IMODE(status.st_mode) & 0o077:
            return False
        return file.read(len(data) + 1) == data


def _make_folders(folder: str) -> None:
    if os.path.isdir(folder):
        return
    parent = os.path.dirname(folder)
    if parent and parent != folder:
        _make_folders(parent)
    with contextlib.suppress(FileExistsError):  # another process was quicker, or it is no folder: open() will tell
        os.mkdir(folder, 0o700)


def refuse_special_file(path: str) -> None:
    """Refuse to put a file in the place of a folder, a device or a pipe (``/dev/null``, say).

    Raises:
        OSError: something else than a file has this path.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder, not a file", path)
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "is not a regular file", path)


def _write_unnamed(folder: str, path: str, temporary: str, data: bytes, in_turn: InTurn) -> str:
    """Write a file that gets a name when it is whole: that of the path if it is free, else the temporary one.

    Returns:
        That name, or that of the path where it was dropped; ``""`` where the system or the file system can't do that.
    """
    if _UNNAMED is None:
        return ""
    try:
        descriptor = os.open(folder, _UNNAMED, 0o600)
    except OSError:
        return ""
    # with a descriptor, Python calls linkat(), which follows the link in /proc as open(2) advises
    give_name = partial(os.link, f"/proc/self/fd/{descriptor}", src_dir_fd=descriptor)

    def finish() -> str:
        with contextlib.suppress(OSError):
            in_turn(partial(give_name, path))
            return path
        with contextlib.suppress(OSError):
            give_name(temporary)
            return temporary
        return ""

    return _fill(descriptor, data, finish)


def _fill(descriptor: int, data: bytes, finish: Callable[[], str] = lambda: "") -> str:
    """Write to a new file, down to the disk, and close it; what ``finish`` says is returned."""
    try:
        _write_all(descriptor, data)
        _flush_to_disk(descriptor)
        finished = finish()
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(descriptor)
        raise
    with contextlib.suppress(InterruptedError):  # the descriptor is closed all the same
        os.close(descriptor)
    return finished


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        written = os.write(descriptor, rest)
        if not written:  # or this would go on forever
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rest = rest[written:]


def _flush_to_disk(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FSYNC:  # a file system without fsync can do no better
            raise


def _flush_folder(folder: str) -> None:
    """Make the new name durable too. The file is in place already: a folder that can't be synced is no failure."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
