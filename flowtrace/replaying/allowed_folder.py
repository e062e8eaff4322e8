"""The folder whose own source files a trace may have loaded."""

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


class AllowedFolder:
    """The folder whose own source files a trace may have loaded.

    Args:
        path: its path.

    Attributes:
        path: its real path.

    Raises:
        ReplayError: it is no folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.realpath(path)
        if not os.path.isdir(self.path):
            raise ReplayError(f"the working folder {self.path!r} is not a folder")

    def holds(self, path: str) -> bool:
        """Return True if a file is in the folder, and not part of an installed library or a virtual environment."""
        real = os.path.realpath(path)
        if not is_under(real, self.path):
            return False
        if any(is_under(real, installed) and not is_under(self.path, installed) for installed in _installed()):
            return False
        folders = Path(os.path.relpath(real, self.path)).parts[:-1]
        if _LIBRARIES & set(folders) or any(map(_INTERPRETER.fullmatch, folders)):
            return False
        around = [os.path.join(self.path, *folders[:count]) for count in range(1, len(folders) + 1)]
        return not any(os.path.exists(os.path.join(folder, "pyvenv.cfg")) for folder in around)

    def has_folder(self, path: str) -> bool:
        """Return True if a folder is this one, or lies in it."""
        return is_under(os.path.realpath(path), self.path)

    def local_file(self, file: str | None) -> str | None:
        """Return the file in the folder that a trace means, though it may have been written on another machine."""
        if not file or "\0" in file:
            return None
        windows = "\\" in file and "/" not in file
        parts = (PureWindowsPath(file) if windows else PurePosixPath(file)).parts
        if ".." in parts or not file.endswith(".py"):
            return None
        candidates = [file] if os.path.isabs(file) else []
        names = [part.strip("/\\") for part in parts]
        candidates += [os.path.join(self.path, *names[count:]) for count in range(len(names))]
        found = (path for path in candidates if os.path.isfile(path) and self.holds(path))
        return next((os.path.realpath(path) for path in found), None)


@lru_cache(maxsize=1)
def _installed() -> tuple[str, ...]:
    """Return the folders of the standard library and of the installed packages."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    return tuple({os.path.realpath(sysconfig.get_path(name)) for name in names})


def is_under(path: str, folder: str) -> bool:
    """Return True if a real path is that of a folder, or lies in it."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
