"""A folder that is held open while files in it are looked at and removed."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from types import TracebackType
from typing import Final

from flowtrace.host.signals import let_through
from flowtrace.host.system import os
from flowtrace.trace.files import FILE, FOLDER, Stamp, is_ours, read_up_to, stamp_of

_HOLDS_FOLDERS: Final = {os.open, os.stat, os.unlink, os.rmdir} <= os.supports_dir_fd and os.listdir in os.supports_fd


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
        if self._descriptor is None and os.path.islink(path):
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
