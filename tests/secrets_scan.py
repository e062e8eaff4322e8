"""Planted secrets: values that no file may hold which a test makes flowtrace write; and the search for them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

MARK = "planted-secret-7f3a91c4"
_NEEDLES = (MARK.encode(), MARK.encode().hex().encode(), MARK.encode("utf-16-le"))
_SOURCES = {".py", ".pyc"}  # of the programs that plant them
_PIECE = 1 << 20


def planted(label, suffix=""):
    """Return a distinctive secret that stands in one place; the end tells two runs of one program apart."""
    return f"{MARK}-{label}-{suffix or 'x'}"


def is_in(data):
    """Tell whether bytes or a text hold a planted secret: as it is, in hex, or in UTF-16."""
    content = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
    return any(needle in content for needle in _NEEDLES)


def scan(folder):
    """Return the files below a folder whose bytes, or names, hold a planted secret. No link is followed."""
    found = []
    for parent, folders, names in os.walk(folder):
        found += [Path(parent, name) for name in folders if is_in(name)]
        for name in names:
            path = Path(parent, name)
            if path.suffix not in _SOURCES and (is_in(name) or _holds(path)):
                found.append(path)
    return sorted(found)


def _holds(path):
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return False
        with path.open("rb") as file:
            return any(map(is_in, _pieces(file)))
    except (PermissionError, FileNotFoundError):  # a test of what can't be read; files that come and go
        return False


def _pieces(file):
    """Return a file's content in pieces that overlap, without the holes of sparse files."""
    at = 0
    while True:
        try:
            at = os.lseek(file.fileno(), at, os.SEEK_DATA)
        except OSError:  # nothing but a hole is left
            return
        if not (piece := os.pread(file.fileno(), _PIECE, at)):
            return
        yield piece
        at += max(1, len(piece) - 2 * len(MARK)) if len(piece) == _PIECE else len(piece)
