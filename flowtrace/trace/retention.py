"""How many trace files are kept: of one's own at most so many, the oldest go first, and nobody else's is touched.

Looking costs little: a folder is listed again after a number of writes that grows with what is in it, and files are
looked into only where there may be too many.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from threading import RLock
from typing import Final

from flowtrace.host import log
from flowtrace.host.signals import let_through
from flowtrace.trace.files import payload_folder, write_payload
from flowtrace.trace.ownership import Folder, Stamp, Template, is_untouched, says_it_is_own, stamp_of
from flowtrace.values.digest import hash_bytes
from flowtrace.values.json import plain

NAMES_A_WRITE: Final = 64  # listed, on average
_FAR_FROM_FULL: Final = 1000  # files for which there is room
_MOST_LOOKED_INTO: Final = 1000  # files, after one listing
_MOST_VERDICTS: Final = 10_000
_MOST_PACKS: Final = 1000
_MOST_SIBLINGS: Final = 200  # files that are searched for payloads which they share
_PAYLOAD: Final = re.compile(r"([0-9a-f]{64})\.json", re.ASCII)


class Keeper:
    """Keeps the files few that are written to the paths of one template.

    Args:
        template: an absolute path.
        most: how many files are kept.
    """

    def __init__(self, template: str, most: int) -> None:
        self._text = _plain(template)
        self._most = most
        self._template: Template | None = None
        self._packs: set[str] = set()
        self._own: dict[str, Stamp] = {}
        self._verdicts: dict[str, tuple[Stamp, bool]] = {}
        self._writes = 0
        self._pause = 1
        self._is_busy = False
        self._refusals: list[tuple[str, OSError]] = []
        self._lock = RLock()

    def forget_lock(self) -> None:
        """Make a new lock: in a forked child the old one may be held by a thread that is not there."""
        self._lock = RLock()
        self._is_busy = False

    def written(self, path: str, pack_ref: str, stored: Collection[str] = ()) -> None:
        """Remove what is too much, now that a trace was written. Never raises an Exception.

        Args:
            path: the trace file.
            pack_ref: whose it is.
            stored: hashes of the payloads that were put beside it.
        """
        try:
            with self._lock:
                if not self._is_busy:  # a signal handler that writes a trace may come in between
                    self._is_busy = True
                    try:
                        self._tidy(_plain(path), pack_ref, stored)
                    finally:
                        self._is_busy = False
                refusals, self._refusals = self._refusals, []
            self._tell(refusals)  # without the lock: a handler of the host's logging may wait for another thread
        except Exception as error:
            log.internal_fault("remove old traces", error)

    def _tidy(self, path: str, pack_ref: str, stored: Collection[str]) -> None:
        varies = path != self._text
        if not varies and not stored:  # a plain path, as most are: there is nothing to look for
            return
        template = self._template = self._template or Template(self._text)
        if pack_ref not in self._packs:
            if len(self._packs) >= _MOST_PACKS:
                self._packs.clear()
            self._packs.add(pack_ref)
            self._verdicts.clear()
        if varies:
            self._note(path)
            self._writes += 1
            if self._writes >= self._pause:
                self._list(template)
            if len(self._own) > self._most:
                self._let_go(len(self._own) - self._most, path, template)
        if stored:
            try:
                self._prune(path, template, stored)
            except OSError as error:  # another process removed its trace, say
                let_through(error)

    def _note(self, path: str) -> None:
        try:
            stamp = stamp_of(os.lstat(path))
        except FileNotFoundError:
            return
        self._own[path] = stamp
        self._verdicts[path] = (stamp, True)

    # --- which files there are

    def _list(self, template: Template) -> None:
        found = dict(template.files())
        self._writes = 0
        self._pause = max(1, template.entries // NAMES_A_WRITE, (self._most - len(found)) // _FAR_FROM_FULL)
        known = self._verdicts if len(self._verdicts) < _MOST_VERDICTS else {}
        self._verdicts = {path: known[path] for path in found.keys() & known.keys()}
        if len(found) > self._most:
            left = [_MOST_LOOKED_INTO]
            found = {path: stamp for path, stamp in found.items() if self._is_own(path, stamp, template, left)}
        self._own = found

    def _is_own(self, path: str, stamp: Stamp, template: Template, left: list[int]) -> bool:
        known = self._verdicts.get(path)
        if known is None or known[0] != stamp:
            if not left[0]:
                return False
            left[0] -= 1
            known = self._verdicts[path] = (stamp, self._look_into(path, template))
        return known[1]

    def _look_into(self, path: str, template: Template) -> bool:
        *parts, name = template.parts(path)
        try:
            with Folder(template.base, parts) as folder:
                content = folder.read(name)
        except OSError as error:
            let_through(error)
            return False
        return content is not None and says_it_is_own(content[0], path, template, self._packs)

    # --- what goes

    def _let_go(self, count: int, but: str, template: Template) -> None:
        oldest = sorted((stamp, path) for path, stamp in self._own.items() if path != but)
        for stamp, path in oldest[:count]:
            del self._own[path]
            try:
                self._remove(path, template)
            except FileNotFoundError:  # another process was quicker
                continue
            except OSError as error:
                let_through(error)
                self._refusals.append((path, error))
                self._verdicts[path] = (stamp, False)

    def _tell(self, refusals: list[tuple[str, OSError]]) -> None:
        for path, error in refusals:
            cause = ("remove", self._text, error.errno)
            reason = error.strerror or type(error).__qualname__
            log.warn_once("failed to remove an old trace", cause, path=path, errno=error.errno, reason=reason)

    def _remove(self, path: str, template: Template) -> None:
        """Remove a trace with its payload files, and the folders that are empty then."""
        *parts, name = template.parts(path)
        with Folder(template.base, parts) as folder:
            content = folder.read(name)
            if content is None or not self._may_go(content[0], path, template):
                self._verdicts[path] = (stamp_of(folder.status(name)), False)
                return
            if folder.remove(name, content[1]):
                self._verdicts.pop(path, None)
                self._remove_payloads(folder, path)
        self._remove_empty(parts, template)

    def _remove_empty(self, parts: list[str], template: Template) -> None:
        for at in range(len(parts) - 1, -1, -1):
            with Folder(template.base, parts[:at]) as above:
                above.remove_folder(parts[at])

    def _may_go(self, data: bytes, path: str, template: Template) -> bool:
        return says_it_is_own(data, path, template, self._packs) and is_untouched(data)

    # --- payload files

    def _remove_payloads(self, folder: Folder, path: str) -> None:
        """Remove what only the trace at a path needed, which is gone."""
        within = payload_folder(path)
        try:
            payloads = folder.inner(within)
        except OSError as error:  # there is none, or it is a link
            let_through(error)
            return
        with payloads:
            needed = self._needed(folder, path)
            if needed is None:
                return
            for name in sorted(payloads.names()):
                if name not in needed and not folder.has(os.path.basename(path)):
                    self._remove_payload(payloads, name, folder, path)
        folder.remove_folder(within)

    def _prune(self, path: str, template: Template, stored: Collection[str]) -> None:
        """Keep the payload files few of traces that were written over one another."""
        *parts, name = template.parts(path)
        with Folder(template.base, parts) as folder:
            if folder.has(name):
                with folder.inner(payload_folder(path)) as payloads:
                    self._prune_folder(payloads, folder, path, {f"{digest}.json" for digest in stored})
                return
            self._remove_payloads(folder, path)  # another process removed the trace while these were looked after
        self._remove_empty(parts, template)

    def _prune_folder(self, payloads: Folder, folder: Folder, path: str, fresh: set[str]) -> None:
        names = [name for name in payloads.names() if _PAYLOAD.fullmatch(name)]
        needed = self._needed(folder, path) if len(names) > self._most else None
        if needed is None:
            return
        aged = sorted((_age(payloads, name), name) for name in names)
        for _, name in aged[: len(names) - self._most]:
            if name not in needed | fresh:
                self._remove_payload(payloads, name, folder, path)

    def _needed(self, folder: Folder, path: str) -> set[str] | None:
        """Return the payload files of a path that some file in its folder names; None where that can't be told."""
        suffix = os.path.splitext(path)[1]
        stem = os.path.splitext(os.path.basename(path))[0]
        siblings = [name for name in folder.names() if name.endswith(suffix) or name.startswith(f"{stem}.")]
        others = [name for name in siblings if not self._is_another(folder, name, stem)]
        if len(others) > _MOST_SIBLINGS:
            return None
        return set().union(*(_named_in(folder, name, path) for name in others))

    def _is_another(self, folder: Folder, name: str, stem: str) -> bool:
        """Tell whether a file is one of our traces, whose payload files are elsewhere."""
        path = os.path.join(folder.path, name)
        is_own = self._verdicts.get(path) == (self._own.get(path), True)
        return os.path.splitext(name)[0] != stem and is_own

    def _remove_payload(self, payloads: Folder, name: str, folder: Folder, path: str) -> None:
        """Remove a payload file, and put it back where a trace that needs it was written in the meantime."""
        found = _PAYLOAD.fullmatch(name)
        try:
            content = payloads.read(name) if found is not None else None
            if found is None or content is None or hash_bytes(content[0]).value != found[1]:
                return
            payloads.remove(name, content[1])
        except OSError as error:  # it is gone, or stays
            let_through(error)
            return
        if name in _named_in(folder, os.path.basename(path), path):
            write_payload(path, found[1], content[0])


def _plain(path: str) -> str:
    """Return a path as listings of its folders give it."""
    return re.sub(r"/(?:\.?/)+", "/", path)


def _named_in(folder: Folder, name: str, path: str) -> set[str]:
    """Return the payload files of a path that a file names, whatever else it holds."""
    try:
        content = folder.read(name)
    except OSError as error:
        let_through(error)
        return set()
    start = (plain(payload_folder(path)) or b'""')[1:-1]
    found = re.findall(re.escape(start) + rb"/([0-9a-f]{64}\.json)", content[0]) if content is not None else []
    return {digest.decode() for digest in found}


def _age(folder: Folder, name: str) -> int:
    try:
        return folder.status(name).st_mtime_ns
    except FileNotFoundError:
        return 0
