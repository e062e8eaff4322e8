"""Which files a trace may have loaded: those under the working folder that are the user's own.

Loading the program that was run, without running it: its ``if __name__ == "__main__":`` does not hold.
"""

from __future__ import annotations

import ast
import os
import re
import sys
import sysconfig
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib.machinery import SourceFileLoader
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import FunctionType, ModuleType
from typing import Any, Final, TypeVar

from flowtrace.errors import ReplayError
from flowtrace.instrument.proxies import TracedFunction

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


MAIN: Final = "__main__"
SCRIPT: Final = "__mp_main__"  # what multiprocessing calls a main module that must not run as one
T = TypeVar("T")


class NotFoundError(Exception):
    """A function, class or module can't be used; the text says why."""


def guarded(what: str, load: Callable[[], T]) -> T:
    """Run a module's code; whatever goes wrong in it is the module's error."""
    try:
        return load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise NotFoundError(f"{what} can't be loaded: {type(error).__name__}: {error}") from error


def defines(file: str, qualname: str) -> bool:
    """Tell, by reading it only, whether a source file defines a name: before that, none of it is run.

    Of a file that is no source, such as an extension module, nothing can be told by reading; it counts as if it did.
    """
    if not file.endswith(".py"):
        return True
    try:
        body: list[Any] = [ast.parse(Path(file).read_bytes())]
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    for part in qualname.split("."):
        inner = [item for scope in body for item in _definitions(scope) if item.name == part]
        body = inner
    return bool(body)


def _definitions(scope: ast.AST) -> Iterator[Any]:
    for item in ast.iter_child_nodes(scope):
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield item
        elif isinstance(item, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield from _definitions(item)


def load_script(file: str) -> ModuleType:
    """Load a script, and put its folder on the path, as Python does where it runs one.

    Args:
        file: its real path.

    Returns:
        Its module, which is called ``__main__`` from then on.

    Raises:
        NotFoundError: its code raised an exception.
    """
    folder, package = package_of(file)
    for place in (os.path.dirname(file), folder):
        if place not in sys.path:
            sys.path.insert(0, place)
    module = ModuleType(SCRIPT)
    module.__file__, module.__package__ = file, package
    before = sys.modules.get(MAIN), sys.modules.get(SCRIPT)
    sys.modules[SCRIPT] = module
    try:
        guarded(f"the script {file}", lambda: _execute(file, module))
    except NotFoundError:
        for name, earlier in zip((MAIN, SCRIPT), before, strict=True):
            sys.modules.pop(name, None)
            if earlier is not None:
                sys.modules[name] = earlier
        raise
    _rename(module)
    return module


def _execute(file: str, module: ModuleType) -> None:
    """Run a script in a module, and leave no compiled file beside it, as Python does not either."""
    loader = SourceFileLoader(module.__name__, file)
    code = loader.source_to_code(loader.get_data(file), file)
    exec(code, vars(module))  # noqa: S102  # a script of the user's, under the working folder


def package_of(file: str) -> tuple[str, str]:
    """Return the folder that a script's package is imported from, and the package's name."""
    folder, package = os.path.dirname(file), ""
    while os.path.isfile(os.path.join(folder, "__init__.py")):
        folder, name = os.path.split(folder)
        package = f"{name}.{package}" if package else name
    return folder, package


def _rename(module: ModuleType) -> None:
    """Give the script the name that it had when it ran: it stands in its steps, and in the form of its classes."""
    module.__name__ = MAIN
    waiting: list[Any] = list(vars(module).values())
    seen: set[int] = set()
    while waiting:
        item = waiting.pop()
        item = item.__func__ if isinstance(item, classmethod | staticmethod) else item
        if id(item) in seen or not isinstance(item, type | FunctionType | TracedFunction):
            continue
        seen.add(id(item))
        if getattr(item, "__module__", None) == SCRIPT:
            try:
                item.__module__ = MAIN
            except (AttributeError, TypeError):  # a metaclass may not like it
                continue
            waiting += vars(item).values() if isinstance(item, type) else [getattr(item, "__wrapped__", None)]
