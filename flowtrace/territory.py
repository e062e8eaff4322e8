"""Which files a trace may have loaded: those under the working folder that are the user's own."""

from __future__ import annotations

import os
import re
import sysconfig
from functools import lru_cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Final

from flowtrace.errors import ReplayError

_INTERPRETER: Final = re.compile(r"python\d(\.\d+)?t?")  # as in lib/python3.13
_LIBRARIES: Final = frozenset({"site-packages", "dist-packages", "__pypackages__", "node_modules"})


class Territory:
    """The working folder.

    Args:
        folder: its path.

    Attributes:
        folder: its real path.

    Raises:
        ReplayError: it is no folder.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = os.path.realpath(folder)
        if not os.path.isdir(self.folder):
            raise ReplayError(f"the working folder {self.folder!r} is no folder")

    def holds(self, path: str) -> bool:
        """Tell whether a path lies under the working folder."""
        return _is_under(os.path.realpath(path), self.folder)

    def is_mine(self, path: str) -> bool:
        """Tell whether a file lies under the working folder, and is no installed library or virtual environment."""
        real = os.path.realpath(path)
        inside = os.path.relpath(real, self.folder) if _is_under(real, self.folder) else None
        if inside is None or any(
            _is_under(real, place) and not _is_under(self.folder, place) for place in _installed()
        ):
            return False
        folders = Path(inside).parts[:-1]
        if _LIBRARIES & set(folders) or any(map(_INTERPRETER.fullmatch, folders)):
            return False
        around = [os.path.join(self.folder, *folders[:count]) for count in range(1, len(folders) + 1)]
        return not any(os.path.exists(os.path.join(folder, "pyvenv.cfg")) for folder in around)

    def local_file(self, file: str | None) -> str | None:
        """Return the file under the working folder that a trace means, which may have been written elsewhere."""
        if not file or "\0" in file:
            return None
        windows = "\\" in file and "/" not in file
        parts = (PureWindowsPath(file) if windows else PurePosixPath(file)).parts
        if ".." in parts or not file.endswith(".py"):
            return None
        if os.path.isabs(file) and os.path.isfile(file) and self.is_mine(file):
            return os.path.realpath(file)
        for count in range(len(parts)):
            found = os.path.join(self.folder, *(part.strip("/\\") for part in parts[count:]))
            if os.path.isfile(found) and self.is_mine(found):
                return os.path.realpath(found)
        return None


@lru_cache(maxsize=1)
def _installed() -> tuple[str, ...]:
    """Return the folders of the interpreter's own modules and of the installed ones."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    return tuple({os.path.realpath(sysconfig.get_path(name)) for name in names})


def _is_under(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
