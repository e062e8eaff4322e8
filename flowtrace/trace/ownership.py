"""Whose file is it? What may be removed is told by the file itself: nobody else's file ever passes for one of ours."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Final, NamedTuple

from flowtrace.host.signals import let_through
from flowtrace.trace import files
from flowtrace.trace.files import is_ours, rendered_paths
from flowtrace.trace.model import facts_of
from flowtrace.values.json import loads, pretty

MAX_BYTES: Final = 1 << 28  # 256 MiB, of a file that is looked into
_WALKS: Final = {os.open, os.stat, os.unlink, os.rmdir} <= os.supports_dir_fd and os.listdir in os.supports_fd
_WORDS: Final = {
    "{pid}": "[0-9]+",
    "{run_id}": "[0-9a-f]{32}",
    "{flow_id}": r"[\w.-]+",
    "{timestamp}": r"[0-9]{8}T[0-9]{6}\.[0-9]{6}Z",
}
_START: Final = b'{\n  "trace_version": 1,\n'


class Stamp(NamedTuple):
    """What tells a file from another one of its name, or from itself after a change; sorts by age."""

    changed: int
    inode: int
    size: int


def stamp_of(status: os.stat_result) -> Stamp:
    """Return the stamp of a file."""
    return Stamp(status.st_mtime_ns, status.st_ino, status.st_size)


class Folder:
    """A folder that is held open, so that nothing can be put in its place while one works in it.

    Args:
        base: a folder, which may be reached through links.
        parts: the way from there, on which no link is followed.

    Attributes:
        path: all of it.

    Raises:
        OSError: it is not there, or not a folder.
    """

    def __init__(self, base: str, parts: list[str]) -> None:
        self.path = os.path.join(base, *parts)
        self._descriptor = _walk(base, parts) if _WALKS else None
        if self._descriptor is None:
            os.stat(self.path)
            if os.path.realpath(self.path) != os.path.join(os.path.realpath(base), *parts):
                raise NotADirectoryError(self.path)

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

    def names(self) -> list[str]:
        """Return the names of everything in it."""
        return os.listdir(self.path if self._descriptor is None else self._descriptor)

    def inner(self, name: str) -> Folder:
        """Open a folder in it; a link is none."""
        return Folder(self.path, [name])

    def status(self, name: str) -> os.stat_result:
        """Return the status of what has a name, without following a link."""
        return os.stat(self._way(name), dir_fd=self._descriptor, follow_symlinks=False)

    def has(self, name: str) -> bool:
        """Tell whether something has a name."""
        try:
            self.status(name)
        except FileNotFoundError:
            return False
        return True

    def read(self, name: str) -> tuple[bytes, Stamp] | None:
        """Return a file's content and its stamp; None where it is not a regular file of ours, or too large."""
        if not is_ours(self.status(name)):  # before it is opened: opening a device may do something
            return None
        descriptor = os.open(self._way(name), files.FILE, dir_fd=self._descriptor)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not is_ours(status) or status.st_size > MAX_BYTES:
                return None
            return file.read(MAX_BYTES), stamp_of(status)

    def remove(self, name: str, stamp: Stamp) -> bool:
        """Remove a file if it is still the one that was looked into; tell whether it was."""
        if stamp_of(self.status(name)) != stamp:
            return False
        os.unlink(self._way(name), dir_fd=self._descriptor)
        return True

    def remove_folder(self, name: str) -> None:
        """Remove a folder, if it is empty."""
        try:
            os.rmdir(self._way(name), dir_fd=self._descriptor)
        except OSError as error:
            let_through(error)

    def _way(self, name: str) -> str:
        return os.path.join(self.path, name) if self._descriptor is None else name


def _walk(base: str, parts: list[str]) -> int:
    here = os.open(base or ".", files.FOLDER & ~getattr(os, "O_NOFOLLOW", 0))
    for part in parts:
        try:
            following = os.open(part, files.FOLDER, dir_fd=here)
        finally:
            os.close(here)
        here = following
    return here


class Template:
    """The paths that a template can stand for.

    Args:
        template: an absolute path with placeholders; without any, the files of child processes are told by their pids.

    Attributes:
        text: the template.
        entries: how many names were looked at in the last listing.
    """

    def __init__(self, template: str) -> None:
        self.text = template
        self.entries = 0
        *folders, name = template.split(os.sep)
        fixed = next((at for at, part in enumerate(folders) if _has_placeholder(part)), len(folders))
        self.base = os.sep.join(folders[:fixed]) or os.sep
        self._folders = [re.compile(pattern_of(part)) for part in folders[fixed:]]
        stem, suffix = os.path.splitext(name)
        child = "" if "{pid}" in template else r"(?:\.[0-9]+)?"
        self._name = re.compile(pattern_of(stem) + child + pattern_of(suffix))

    def parts(self, path: str) -> list[str]:
        """Return the way from the base to a path."""
        return os.path.relpath(path, self.base).split(os.sep)

    def files(self) -> Iterator[tuple[str, Stamp]]:
        """Yield every regular file of ours whose path looks like one of the template's, and its stamp."""
        self.entries = 0
        yield from self._below(self.base, self._folders)

    def _below(self, folder: str, folders: list[re.Pattern[str]]) -> Iterator[tuple[str, Stamp]]:
        pattern = folders[0] if folders else self._name
        found: list[os.DirEntry[str]] = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    self.entries += 1
                    if pattern.fullmatch(entry.name) and entry.path != self.text:
                        found.append(entry)
        except OSError as error:
            let_through(error)
        for entry in found:
            if not folders:
                with suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    if is_ours(status):
                        yield entry.path, stamp_of(status)
            elif entry.is_dir(follow_symlinks=False):
                yield from self._below(entry.path, folders[1:])


def _has_placeholder(part: str) -> bool:
    return any(word in part for word in _WORDS)


def pattern_of(text: str) -> str:
    """Return the regular expression of what a part of a template can become."""
    return "".join(_WORDS.get(piece) or re.escape(piece) for piece in re.split(r"(\{\w+\})", text))


def says_it_is_own(data: bytes, path: str, template: Template, packs: set[str]) -> bool:
    """Tell whether a file's content says that it is a trace of these programs, written by flowtrace to this path.

    Args:
        data: the content.
        path: where it was found.
        template: where such traces are written.
        packs: the programs' pack references.
    """
    facts = facts_of(data) if data.startswith(_START) else None
    if facts is None or facts.pack.pack_ref not in packs:
        return False
    run = facts.run
    words = {"run_id": run.id, "flow_id": facts.flow.id, "timestamp": run.started_at}
    return path in rendered_paths(template.text, pid=run.pid, **words)


def is_untouched(data: bytes) -> bool:
    """Tell whether a trace has the very layout that it was written in, which few editors keep."""
    try:
        return pretty(loads(data)) == data
    except (ValueError, TypeError, RecursionError) as error:
        let_through(error)
        return False
