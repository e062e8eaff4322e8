"""Files: path templates, the atomic write, payload files beside the trace."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import sys
from collections.abc import Callable
from typing import Final

from flowtrace.switch import HOME_PID

_NO_FSYNC: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EROFS})
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
_UNNAMED: Final = os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC if hasattr(os, "O_TMPFILE") else None
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
    pid = str(os.getpid())
    words = {
        "{pid}": pid,
        "{run_id}": run_id,
        "{flow_id}": _file_name(flow_id),
        "{timestamp}": re.sub("[-:]", "", timestamp),
    }
    path = re.sub(r"\{\w+\}", lambda found: words.get(found[0], found[0]), template)
    if "{pid}" in template or not is_child_process():
        return path
    stem, suffix = os.path.splitext(path)
    return f"{stem}.{pid}{suffix}"


def _file_name(text: str) -> str:
    name = re.sub(r"[^\w.-]|^\.+", "_", text).encode()[:_LONGEST_NAME_KEPT]
    return name.decode(errors="ignore") or "_"


def write_atomically(path: str, data: bytes) -> None:
    """Replace a file's content in one step: a reader sees the old content or the new, whole, never anything else.

    The bytes go to a new file of mode 0600 in the same folder, to the disk, and then under the name; missing folders
    are made with mode 0700. On failure the new file is removed and the old content stays. On Linux the new file has no
    name until it is whole, so that even a killed process leaves no piece of it; where an older file is replaced, the
    whole new one has a temporary name for the moment between two system calls.

    Args:
        path: the file.
        data: its new content.

    Raises:
        OSError: the file can't be written, or the path is something else than a file.
    """
    folder = os.path.dirname(path) or "."
    _make_folders(folder)
    refuse_special_file(path)
    name = os.fsdecode(os.fsencode(os.path.basename(path))[:_LONGEST_NAME_KEPT])
    temporary = os.path.join(folder, f".{name}.{os.getpid()}.{os.urandom(6).hex()}.tmp")
    try:
        written = _write_unnamed(folder, (path, temporary), data)
        if not written:
            _fill(os.open(temporary, _CREATE, 0o600), data)
        if written != path:
            os.replace(temporary, path)
    except FileExistsError:  # what has the temporary name is not ours to remove
        raise
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _flush_folder(folder)


def write_payload(trace_path: str, digest: str, data: bytes) -> str:
    """Write a payload that is too large for the trace into a file beside it, named after its hash, once.

    Args:
        trace_path: the trace file.
        digest: hex hash of the payload.
        data: the payload's canonical JSON.

    Returns:
        The payload file's path, relative to the folder of the trace, with forward slashes.

    Raises:
        OSError: the file can't be written.
    """
    folder = os.path.splitext(os.path.basename(trace_path))[0] + ".payloads"
    relative = f"{folder}/{digest}.json"
    path = os.path.join(os.path.dirname(trace_path), folder, f"{digest}.json")
    if not os.path.isfile(path):
        write_atomically(path, data)
    return relative


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


def _write_unnamed(folder: str, names: tuple[str, ...], data: bytes) -> str:
    """Write a file that gets the first name that is free when it is whole.

    Returns:
        That name; ``""`` where the system or the file system can't do that.
    """
    if _UNNAMED is None:
        return ""
    try:
        descriptor = os.open(folder, _UNNAMED, 0o600)
    except OSError:
        return ""

    def give_name() -> str:
        for name in names:
            # with a descriptor, Python calls linkat(), which follows the link in /proc as open(2) advises
            with contextlib.suppress(OSError):
                os.link(f"/proc/self/fd/{descriptor}", name, src_dir_fd=descriptor)
                return name
        return ""

    return _fill(descriptor, data, give_name)


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
