"""Captured values: in the trace itself, or, where they are large, in payload files beside it.

A payload file holds one value as canonical JSON, or the content of a large array in a value. It is named after the hash
of what is in it, so that equal values are one file. A trace may come from anywhere: a reader does not trust its paths.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from stat import S_IMODE, S_ISDIR, S_ISREG
from types import TracebackType
from typing import Any, Final

from flowtrace.errors import PayloadFileError, RebuildError
from flowtrace.host.signals import is_link, let_through
from flowtrace.host.system import os, re
from flowtrace.trace.files import (
    FILE,
    FOLDER,
    Flush,
    Stamp,
    is_ours,
    make_folders,
    read_up_to,
    stamp_of,
    write_atomically,
)
from flowtrace.trace.model import INPUT, UNSET, Step, is_within
from flowtrace.values.encoded import TAG, hash_bytes, npy_content
from flowtrace.values.json import loads

MAX_PAYLOAD_BYTES: Final = 1 << 28  # 256 MiB: a recorder keeps no more of one value than fits in its buffer
_MAX_SHOWN_BYTES: Final = 1 << 22  # 4 MiB, of a file that is shown or compared
_MAX_ALL_SHOWN_BYTES: Final = 1 << 26  # 64 MiB, of all such files of a trace
_LONGEST_PATH: Final = 1024
_HOLDS_FOLDERS: Final = {os.open, os.stat, os.unlink, os.rmdir} <= os.supports_dir_fd and os.listdir in os.supports_fd
PAYLOAD_NAME: Final = re.compile(r"([0-9a-f]{64})\.(json|npy)", re.ASCII)


# --- writing


def payload_folder(trace_path: str) -> str:
    """Return the name of the folder beside a trace that its payload files are in."""
    return os.path.splitext(os.path.basename(trace_path))[0] + ".payloads"


def write_payload(trace_path: str, digest: str, data: bytes, flush: Flush = Flush.NOTHING, suffix: str = "json") -> str:
    """Write a payload file, unless it is there already.

    A file that is there already counts only if it holds the same bytes and belongs to this user alone: a link, or a
    file that others may read or write, is replaced.

    Args:
        trace_path: the trace file.
        digest: hex hash of the content.
        data: the content: canonical JSON, or an array in NumPy's format.
        flush: what has to be on the disk before this returns.
        suffix: ``json`` or ``npy``.

    Returns:
        The payload file's path, relative to the folder of the trace, with forward slashes.

    Raises:
        OSError: the file can't be written, or the folder for payload files is a link or belongs to another user.
    """
    name = payload_folder(trace_path)
    parent = os.path.dirname(trace_path)
    folder = os.path.join(parent, name)
    path = os.path.join(folder, f"{digest}.{suffix}")
    make_folders(folder)
    _refuse_foreign_folder(folder, parent or ".")
    if not _is_written(path, data):
        write_atomically(path, data, flush=flush)
    return f"{name}/{digest}.{suffix}"


def _refuse_foreign_folder(folder: str, parent: str) -> None:
    """Refuse a folder that another user put there to see or to change what is written into it."""
    status = os.lstat(folder)
    if not S_ISDIR(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, "is a link or no folder", folder)
    if hasattr(os, "geteuid") and status.st_uid not in (os.geteuid(), os.stat(parent).st_uid):
        raise PermissionError(errno.EPERM, "is the folder of another user", folder)


def _is_written(path: str, data: bytes) -> bool:
    """Return True if a file holds these bytes, is not a link, and can be read and written by its owner alone."""
    try:
        descriptor = os.open(path, FILE)
    except OSError as error:
        let_through(error)
        return False
    try:
        status = os.fstat(descriptor)
        if not is_ours(status) or status.st_size != len(data):
            return False
        if hasattr(os, "geteuid") and S_IMODE(status.st_mode) & 0o077:
            return False
        return read_up_to(len(data) + 1, descriptor) == data
    finally:
        os.close(descriptor)


# --- reading


class _RefusedError(Exception):
    """A payload file is not read; the text says why."""


def read_payload(
    trace_path: str | os.PathLike[str], relative: str, *, pointer: str = "", limit: int = MAX_PAYLOAD_BYTES
) -> bytes:
    """Return the content of a payload file, which must be a regular file in or below the folder of its trace.

    The content is not compared with the hash in the file's name here; `holds_what_its_name_says` does that.

    Args:
        trace_path: the trace file.
        relative: the path as the trace gives it: relative to the trace's folder, with forward slashes.
        pointer: JSON Pointer of that path in the trace, for the error.
        limit: refuse a file with more bytes than this.

    Raises:
        PayloadFileError: the path leads out of the folder or through a symbolic link, or there is no readable file
            of at most that size.
    """
    name = os.fspath(trace_path)
    try:
        return _read_below(os.path.dirname(os.path.abspath(name)), _parts_of(relative), limit)
    except _RefusedError as error:
        reason = f"the payload file {relative[:200]!r} {error}"
        raise PayloadFileError(name, pointer, reason) from None


def holds_what_its_name_says(relative: str, data: bytes) -> bool | None:
    """Return True if a payload file's content has the hash that the file is named after.

    Args:
        relative: the file's path as the trace gives it.
        data: its content.

    Returns:
        None where the name is not a hash, so that there is nothing to compare.
    """
    name = PAYLOAD_NAME.fullmatch(relative.rpartition("/")[2])
    return None if name is None else hash_bytes(data).value == name[1]


def _parts_of(relative: str) -> list[str]:
    if len(relative) > _LONGEST_PATH or not relative.isprintable() or re.search(r'[\\:*?"<>|]', relative):
        raise _RefusedError("is not the path of a payload file")
    parts = relative.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise _RefusedError("is not a path that stays below the trace's folder")
    return parts


def _read_below(base: str, parts: list[str], limit: int) -> bytes:
    try:
        with Folder(base, parts[:-1]) as folder:
            descriptor = folder.open(parts[-1])
        try:
            if not S_ISREG(os.fstat(descriptor).st_mode):
                raise _RefusedError("is not a file")
            data = read_up_to(limit + 1, descriptor)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        path = os.path.join(os.path.realpath(base), *parts)
        if os.path.realpath(path) != path:
            raise _RefusedError("is reached through a symbolic link, which may lead anywhere") from error
        raise _RefusedError(f"can't be read: {getattr(error, 'strerror', None) or error}") from error
    if len(data) > limit:
        raise _RefusedError(f"is larger than {limit} bytes")
    return data


# --- the captured values of a step


class NotCapturedError(Exception):
    """The trace does not have a value; the text says why."""


_MORE: Final = {
    "work": "; a larger FLOWTRACE_MAX_VALUE_WORK keeps more",
    "overhead": "; FLOWTRACE_MAX_OVERHEAD=0 keeps all",
}


def captured_input(step: Step, folder: str | None) -> dict[str, Any]:
    """Return the arguments that a step's function was called with, as JSON-like objects by parameter name.

    Args:
        step: the step.
        folder: the folder of the trace and its payload files; None where it is not known.

    Raises:
        NotCapturedError: they were not captured, only in part, or their payload file can't be trusted.
    """
    for part in step.cut:
        if is_within(part.path, INPUT):
            where, more = part.path.removeprefix(INPUT) or "its root", _MORE.get(part.reason, "")
            raise NotCapturedError(f"its input was cut at {where}: {part.reason}{more}")
    for what, pointers in (("redacted", step.redacted), ("opaque", step.opaque)):
        found = next((pointer for pointer in pointers if is_within(pointer, INPUT)), None)
        if found is not None:
            more = ": register_codec records such objects" if what == "opaque" else ""
            raise NotCapturedError(f"its input is {what} at {found.removeprefix(INPUT) or 'its root'}{more}")
    if step.invocation_path is not None:
        payload = _from_file("input", step.invocation_path, folder)
    elif isinstance(step.invocation_json, dict):
        payload = step.invocation_json.get("payload")
    else:
        raise NotCapturedError("its input was not captured: FLOWTRACE_CAPTURE_INPUTS=1 keeps it next time")
    if not isinstance(payload, dict):
        raise NotCapturedError("its input is not an object of parameters")
    if payload.get(TAG) == "cut":
        raise NotCapturedError(f"its input was cut: {payload.get('reason')}")
    return payload


def captured_output(step: Step, folder: str | None) -> Any:
    """Return the result of a step's function, as JSON-like objects; ``UNSET`` where it was not captured.

    Args:
        step: the step.
        folder: the folder of the trace and its payload files; None where it is not known.

    Raises:
        NotCapturedError: its payload file can't be trusted, or does not exist.
    """
    if step.output_path is None or step.output_json is not UNSET:
        return step.output_json
    return _from_file("output", step.output_path, folder)


def _from_file(what: str, relative: str, folder: str | None) -> Any:
    if folder is None:
        raise NotCapturedError(f"its {what} is in the file {relative}, and the folder of the trace is not known")
    return from_file(relative, folder)[0]


def _trusted(relative: str, folder: str, limit: int) -> bytes:
    """Return the content of a payload file that is named after the hash of it.

    Raises:
        NotCapturedError: the file is not, or can't be read.
    """
    try:
        data = read_payload(os.path.join(folder, "trace"), relative, limit=limit)
    except PayloadFileError as error:
        raise NotCapturedError(error.reason) from error
    if not holds_what_its_name_says(relative, data):
        raise NotCapturedError(f"the payload file {relative!r:.200} is not named after the hash of its content")
    return data


def from_file(relative: str, folder: str, limit: int = MAX_PAYLOAD_BYTES) -> tuple[Any, int]:
    """Return the value in a payload file, and the file's size in bytes.

    Args:
        relative: the file's path as the trace gives it.
        folder: the folder of the trace.
        limit: refuse a file with more bytes than this.

    Raises:
        NotCapturedError: the file can't be trusted, or does not exist.
    """
    data = _trusted(relative, folder, limit)
    try:
        return loads(data), len(data)
    except ValueError as error:
        raise NotCapturedError(f"the payload file {relative!r:.200} can't be read: {error}") from error


def captured_array(
    arrays: Mapping[str, str], folder: str | None, digest: str, limit: int = MAX_PAYLOAD_BYTES
) -> tuple[str, bytes] | None:
    """Return the content of a large array: ``npy`` or ``json``, and the file's content; None where it was not kept.

    Args:
        arrays: payload files by the hash that stands for their content.
        folder: the folder of the trace and its payload files; None where it is not known.
        digest: the hash.
        limit: refuse a file with more bytes than this.

    Raises:
        RebuildError: its payload file can't be trusted, or does not exist.
    """
    relative = arrays.get(digest)
    if relative is None or folder is None:
        return None
    try:
        return relative.rpartition(".")[2], _trusted(relative, folder, limit)
    except NotCapturedError as error:
        raise RebuildError(str(error)) from error


class PayloadValues:
    """The values in the payload files of a trace that is shown or compared, with a limit for all files together.

    Args:
        trace_path: the trace file; None where it is not known.

    Attributes:
        trace_path: the same.
    """

    def __init__(self, trace_path: str | os.PathLike[str] | None) -> None:
        self.trace_path = trace_path
        self._folder = None if trace_path is None else os.path.dirname(os.path.abspath(trace_path))
        self._bytes_left = _MAX_ALL_SHOWN_BYTES
        self._read_before: dict[str, tuple[Any, str]] = {}

    def read(self, relative: str) -> tuple[Any, str]:
        """Return the value in a payload file and ``""``, or None and why there is none.

        Args:
            relative: the file's path as the trace gives it.
        """
        if self._folder is None:
            return None, "the folder of the trace is not known"
        try:
            value, size = from_file(relative, self._folder, min(_MAX_SHOWN_BYTES, self._bytes_left))
        except NotCapturedError as error:
            return None, str(error)
        self._bytes_left -= size
        return value, ""

    def array(self, arrays: Mapping[str, str], digest: str) -> bytes | list[Any] | None:
        """Return the items of a large array, or their bytes; None where they can't be had.

        Args:
            arrays: payload files by the hash that stands for their content.
            digest: the hash.
        """
        try:
            suffix, data = captured_array(arrays, self._folder, digest, self._bytes_left) or ("", b"")
            self._bytes_left -= len(data)
            content = npy_content(data).tobytes() if suffix == "npy" else loads(data) if suffix else None
        except (RebuildError, ValueError):
            return None
        return content if isinstance(content, bytes | list) else None

    def read_once(self, relative: str) -> tuple[Any, str]:
        """Do the same, and keep the result, for steps that name the same file."""
        if relative not in self._read_before:
            self._read_before[relative] = self.read(relative)
        return self._read_before[relative]


# --- a folder that is held open


class Folder:
    """A folder that is held open, so that it can't be swapped for a link while files in it are looked at and removed.

    Where the system can't open a name inside an open folder, the path is checked for links once, at the start.

    Args:
        base: a folder, which may itself be reached through links.
        parts: the names of the folders to go down from there; none of them may be a link.

    Attributes:
        path: the path of the folder.

    Raises:
        OSError: it does not exist, is not a folder, or is reached through a link.
    """

    def __init__(self, base: str, parts: Sequence[str] = ()) -> None:
        self.path = os.path.join(base, *parts)
        self._descriptor = _open_folder(base, parts) if _HOLDS_FOLDERS else None
        if self._descriptor is None:
            os.stat(self.path)
            if os.path.realpath(self.path) != os.path.join(os.path.realpath(base), *parts):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), self.path)

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

    def names(self) -> list[str]:
        """Return the names of everything in it."""
        return os.listdir(self.path if self._descriptor is None else self._descriptor)

    def status(self, name: str) -> os.stat_result:
        """Return the status of a file in it, without following a link."""
        return os.stat(self._locate(name), dir_fd=self._descriptor, follow_symlinks=False)

    def open(self, name: str) -> int:
        """Open a file in it for reading, and return the descriptor; a link is an error."""
        path = self._locate(name)
        if self._descriptor is None and is_link(path):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        return os.open(path, FILE, dir_fd=self._descriptor)

    def read(self, name: str, limit: int) -> tuple[bytes, Stamp] | None:
        """Return a file's content and its stamp; None where it is not a regular file of ours, or is too large."""
        if not is_ours(self.status(name)):  # asked before it is opened: opening a device may have an effect
            return None
        descriptor = self.open(name)
        try:
            status = os.fstat(descriptor)
            if not is_ours(status) or status.st_size > limit:
                return None
            return read_up_to(limit, descriptor), stamp_of(status)
        finally:
            os.close(descriptor)

    def remove(self, name: str, stamp: Stamp) -> bool:
        """Remove a file if it still has this stamp, and return True if it had."""
        if stamp_of(self.status(name)) != stamp:
            return False
        os.unlink(self._locate(name), dir_fd=self._descriptor)
        return True

    def remove_if_empty(self, name: str) -> None:
        """Remove a folder in it, if it is empty and can be removed."""
        try:
            os.rmdir(self._locate(name), dir_fd=self._descriptor)
        except OSError as error:
            let_through(error)

    def _locate(self, name: str) -> str:
        return os.path.join(self.path, name) if self._descriptor is None else name


def _open_folder(base: str, parts: Sequence[str]) -> int:
    descriptor = os.open(base or ".", FOLDER & ~getattr(os, "O_NOFOLLOW", 0))
    for part in parts:
        try:
            inner = os.open(part, FOLDER, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = inner
    return descriptor
