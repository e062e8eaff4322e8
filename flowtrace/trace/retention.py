"""How many trace files are kept, where each run has a file of its own.

The rule: of the traces that this program wrote to the paths of one template, the newest ``max_files`` stay; each older
one goes, with the payload files that no other file names and with the folders that are empty then. A file is removed
only if it is a regular file of this user, reached through no link, whose own content says, byte for byte as flowtrace
writes it, that this program wrote it to exactly this path. Processes do not wait for each other: a file that is gone
already is no error, and a payload file that another process needs again is put back.

Looking costs little: a folder is listed again after a number of writes that grows with what is in it, and files are
opened only where there may be too many.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from threading import RLock
from typing import Final, Literal

from flowtrace.host import log
from flowtrace.host.signals import is_taken, let_through
from flowtrace.host.system import os, re
from flowtrace.trace.files import PLACEHOLDERS, Stamp, is_ours, pattern_of, rendered_paths, stamp_of
from flowtrace.trace.model import Struct, decoder_of
from flowtrace.trace.payload_files import PAYLOAD_NAME, Folder, payload_folder, write_payload
from flowtrace.values.encoded import hash_bytes
from flowtrace.values.json import loads, plain, pretty

NAMES_A_WRITE: Final = 64  # listed, on average
_MOST_OPENED: Final = 1000  # files, after one listing
_MOST_SIBLINGS: Final = 200  # files that are searched for the payload files they name
_MOST_PACKS: Final = 1000
_MAX_BYTES: Final = 1 << 28  # 256 MiB, of a file that is opened


class TemplatePaths:
    """The paths that a template can give.

    Args:
        template: an absolute path with placeholders. The files of child processes, which add their pids, count too.

    Attributes:
        base: the folder that all paths are in: the part of the template before its first placeholder.
        entries: how many names were looked at in the last listing.
    """

    def __init__(self, template: str) -> None:
        self.template = template
        self.entries = 0
        *folders, name = template.split(os.sep)
        fixed = next((at for at, part in enumerate(folders) if any(map(part.__contains__, PLACEHOLDERS))), len(folders))
        self.base = os.sep.join(folders[:fixed]) or os.sep
        stem, suffix = os.path.splitext(name)
        child = "" if "{pid}" in template else r"(?:\.[0-9]+)?"
        patterns = [*map(pattern_of, folders[fixed:]), pattern_of(stem) + child + pattern_of(suffix)]
        self._patterns = [re.compile(pattern) for pattern in patterns]

    def parts(self, path: str) -> list[str]:
        """Return the names of the folders from the base down to a path, and of the file."""
        return os.path.relpath(path, self.base).split(os.sep)

    def files(self) -> Iterator[tuple[str, Stamp]]:
        """Yield the path and the stamp of every regular file of ours that may be one of the template's."""
        self.entries = 0
        yield from self._files_in(self.base, self._patterns)

    def _files_in(self, folder: str, patterns: list[re.Pattern[str]]) -> Iterator[tuple[str, Stamp]]:
        found: list[os.DirEntry[str]] = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    self.entries += 1
                    if patterns[0].fullmatch(entry.name) and entry.path != self.template:
                        found.append(entry)
        except OSError as error:
            let_through(error)
        for entry in found:
            if len(patterns) > 1:
                if entry.is_dir(follow_symlinks=False):
                    yield from self._files_in(entry.path, patterns[1:])
                continue
            with suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                if is_ours(status):
                    yield entry.path, stamp_of(status)

    def program_of(self, data: bytes, path: str) -> str | None:
        """Return the ``pack_ref`` of the program that wrote a trace to a path of this template.

        Args:
            data: the content of the file.
            path: where it was found.

        Returns:
            None where the content is not such a trace, or says that it was written to another path.
        """
        origin = _origin_of(data) if data.startswith(b'{\n  "trace_version": 1,\n') else None
        if origin is None:
            return None
        run = origin.run
        values = {"run_id": run.id, "flow_id": origin.flow.id, "timestamp": run.started_at}
        return origin.pack.pack_ref if path in rendered_paths(self.template, pid=run.pid, **values) else None


class Retention:
    """Keeps the newest trace files of one template.

    Args:
        template: an absolute path.
        max_files: how many are kept.
    """

    def __init__(self, template: str, max_files: int) -> None:
        self._template = _as_listed(template)
        self._max_files = max_files
        self._packs: set[str] = set()  # of the programs whose traces this process writes
        self._counted: dict[str, Stamp] = {}  # the traces that count towards the limit
        self._checked: dict[tuple[str, Stamp], str | None] = {}  # which program the content of a file names
        self._writes = 0
        self._writes_until_listing = 1
        self._is_busy = False
        self._not_removed: list[tuple[str, OSError]] = []
        self._lock = RLock()

    @cached_property
    def _paths(self) -> TemplatePaths:
        return TemplatePaths(self._template)

    def forget_lock(self) -> None:
        """Make a new lock: in a forked child the old one may be held by a thread that does not exist there."""
        self._lock = RLock()
        self._is_busy = False

    def after_write(self, path: str, pack_ref: str, has_payloads: bool = False) -> None:
        """Remove what is over the limit, now that a trace was written. Never raises an Exception.

        Args:
            path: the trace file.
            pack_ref: the program that wrote it.
            has_payloads: payload files were written beside it.
        """
        if path == self._template and not has_payloads:  # the only file
            return
        try:
            with self._lock:
                if not self._is_busy:  # a signal handler may write a trace while this is at work in the same thread
                    self._is_busy = True
                    try:
                        self._tidy(_as_listed(path), pack_ref, has_payloads)
                    finally:
                        self._is_busy = False
                not_removed, self._not_removed = self._not_removed, []
            for old, failure in not_removed:  # without the lock: a log handler may wait for another thread
                cause = ("remove", self._template, failure.errno)
                reason = failure.strerror or type(failure).__qualname__
                log.warn_once("failed to remove an old trace", cause, path=old, errno=failure.errno, reason=reason)
        except Exception as error:
            log.internal_fault("remove old traces", error)

    def _tidy(self, path: str, pack_ref: str, has_payloads: bool) -> None:
        if path != self._template:
            if len(self._packs) >= _MOST_PACKS:
                self._packs.clear()
            self._packs.add(pack_ref)
            self._count(path, pack_ref)
            self._remove_oldest(but=path)
        if has_payloads:
            try:
                self._tidy_payloads(path)
            except OSError as error:  # another process removed the trace and its folder, say
                let_through(error)

    # --- which traces count

    def _count(self, path: str, pack_ref: str) -> None:
        with suppress(FileNotFoundError):
            stamp = stamp_of(os.lstat(path))
            self._counted.pop(path, None)  # it becomes the latest
            self._counted[path] = stamp
            self._checked[path, stamp] = pack_ref
        self._writes += 1
        if self._writes >= self._writes_until_listing:
            self._list()

    def _list(self) -> None:
        found = dict(self._paths.files())
        self._writes = 0
        self._writes_until_listing = max(1, self._paths.entries // NAMES_A_WRITE)
        self._checked = {file: self._checked[file] for file in found.items() & self._checked.keys()}
        if len(found) > self._max_files:
            unchecked = found.items() - self._checked.keys()
            for path, stamp in list(unchecked)[:_MOST_OPENED]:
                self._checked[path, stamp] = self._program_of(path)
            found = {path: stamp for path, stamp in found.items() if self._checked.get((path, stamp)) in self._packs}
        own = {path: found[path] for path in self._counted if path in found}
        self._counted = own | dict(sorted(found.items(), key=lambda item: (item[1], item[0])))

    def _program_of(self, path: str) -> str | None:
        *parts, name = self._paths.parts(path)
        try:
            with Folder(self._paths.base, parts) as folder:
                found = folder.read(name, _MAX_BYTES)
        except OSError as error:
            let_through(error)
            return None
        return None if found is None else self._paths.program_of(found[0], path)

    # --- which traces go

    def _remove_oldest(self, but: str) -> None:
        surplus = max(len(self._counted) - self._max_files, 0)
        others = [(path, stamp) for path, stamp in self._counted.items() if path != but]
        # in the order of their writes where the file system's clock gave several the same time
        oldest = sorted(others, key=lambda other: other[1].changed)
        for path, stamp in oldest[:surplus]:
            del self._counted[path]
            try:
                if self._remove_trace(path):
                    self._tidy_payloads(path)
                else:
                    self._checked[path, stamp] = None
            except FileNotFoundError:  # another process was quicker
                continue
            except OSError as error:
                let_through(error)
                self._not_removed.append((path, error))
                self._checked[path, stamp] = None

    def _remove_trace(self, path: str) -> bool:
        *parts, name = self._paths.parts(path)
        with Folder(self._paths.base, parts) as folder:
            found = folder.read(name, _MAX_BYTES)
            if found is None or self._paths.program_of(found[0], path) not in self._packs or _was_edited(found[0]):
                return False
            return folder.remove(name, found[1])

    # --- payload files

    def _tidy_payloads(self, path: str) -> None:
        """Remove the payload files of a path that no file names: all where its trace is gone, else the oldest."""
        *parts, _ = self._paths.parts(path)
        with Folder(self._paths.base, parts) as folder:
            try:
                self._remove_payloads(folder, path, kept=self._max_files if is_taken(path) else 0)
            except OSError as error:  # there are none, or their folder is a link
                let_through(error)
            folder.remove_if_empty(payload_folder(path))
        for at in reversed(range(len(parts))):
            with Folder(self._paths.base, parts[:at]) as above:
                above.remove_if_empty(parts[at])

    def _remove_payloads(self, folder: Folder, path: str, kept: int) -> None:
        with Folder(folder.path, [payload_folder(path)]) as payloads:
            names = [name for name in payloads.names() if PAYLOAD_NAME.fullmatch(name)]
            named = self._named_payloads(folder, path) if len(names) > kept else None
            if named is None:
                return
            names.sort(key=lambda name: _age(payloads, name))
            for name in names[: len(names) - kept]:
                if name not in named:
                    _remove_payload(payloads, name, folder, path)

    def _named_payloads(self, folder: Folder, path: str) -> set[str] | None:
        """Return the payload files of a path that some file beside it names; None where there are too many files."""
        stem, suffix = os.path.splitext(os.path.basename(path))
        names = [name for name in folder.names() if name.endswith(suffix) or name.startswith(f"{stem}.")]
        others = [name for name in names if os.path.splitext(name)[0] == stem or not self._is_own_trace(folder, name)]
        if len(others) > _MOST_SIBLINGS:
            return None
        return set().union(*(_payloads_named_in(folder, name, path) for name in others))

    def _is_own_trace(self, folder: Folder, name: str) -> bool:
        """Return True for a trace at the path that it was written to: its payload files are in a folder of its own."""
        with suppress(FileNotFoundError):
            file = (os.path.join(folder.path, name), stamp_of(folder.status(name)))
            return self._checked.get(file) in self._packs
        return False


def _as_listed(path: str) -> str:
    """Return a path without empty and ``.`` parts, as listings of its folders give it."""
    return re.sub(r"/(?:\.?/)+", "/", path)


def _was_edited(data: bytes) -> bool:
    """Return True if a trace does not have exactly the layout that flowtrace writes, which few editors keep."""
    try:
        return pretty(loads(data)) != data
    except (ValueError, TypeError, RecursionError) as error:
        let_through(error)
        return True


def _remove_payload(payloads: Folder, name: str, folder: Folder, path: str) -> None:
    """Remove a payload file that is named after its content, unless the trace that was just written needs it again."""
    try:
        found = payloads.read(name, _MAX_BYTES)
        if found is None or hash_bytes(found[0]).value != name.partition(".")[0] or not payloads.remove(name, found[1]):
            return
    except OSError as error:  # it is gone already, or can't be removed
        let_through(error)
        return
    if name in _payloads_named_in(folder, os.path.basename(path), path):
        digest, _, suffix = name.partition(".")
        write_payload(path, digest, found[0], suffix=suffix)


def _payloads_named_in(folder: Folder, name: str, path: str) -> set[str]:
    """Return the payload files of a path that a file names, whatever kind of file it is."""
    try:
        found = folder.read(name, _MAX_BYTES)
    except OSError as error:
        let_through(error)
        return set()
    start = (plain(payload_folder(path)) or b'""')[1:-1]
    names = re.findall(re.escape(start) + rb"/([0-9a-f]{64}\.(?:json|npy))", found[0]) if found is not None else []
    return {payload.decode() for payload in names}


def _age(folder: Folder, name: str) -> int:
    try:
        return folder.status(name).st_mtime_ns
    except FileNotFoundError:
        return 0


# --- which program wrote a file


class _PackOrigin(Struct):
    pack_ref: str


class _FlowOrigin(Struct):
    id: str


class _RunOrigin(Struct):
    id: str
    started_at: str
    pid: int


class _Origin(Struct):
    """The fields that say which program and which run wrote a trace; the other fields are skipped, so this is fast."""

    trace_version: Literal[1]
    runner_version: str
    pack: _PackOrigin
    flow: _FlowOrigin
    run: _RunOrigin


_decode_origin: Final = decoder_of(_Origin).decode  # made here: to read the annotations, it evaluates them


def _origin_of(data: bytes) -> _Origin | None:
    """Return where the content of a file comes from; None where it is not a trace that flowtrace wrote."""
    try:
        return _decode_origin(data)
    except (ValueError, RecursionError) as error:
        let_through(error)
        return None
