"""Loading the program that was run, without running it: its ``if __name__ == "__main__":`` does not hold."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from importlib.machinery import SourceFileLoader
from types import FunctionType, ModuleType
from typing import Any, Final, TypeVar

from flowtrace.instrument.proxies import is_traced, target_of

MAIN: Final = "__main__"
SCRIPT: Final = "__mp_main__"  # what multiprocessing calls a main module that must not run as one
T = TypeVar("T")


class NotFoundError(Exception):
    """A function, class or module can't be used; the message says why."""


def guarded(name: str, load: Callable[[], T]) -> T:
    """Run a module's code, and raise NotFoundError for any exception but Ctrl-C."""
    try:
        return load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise NotFoundError(f"{name} can't be loaded: {type(error).__name__}: {error}") from error


def load_script(file: str) -> tuple[ModuleType, str]:
    """Load a script, and put its folder on the path, as Python does when it runs one.

    One without a main guard does all its work then. Where that fails, what it had defined until then is there.

    Args:
        file: its real path.

    Returns:
        Its module, named ``__main__`` once it is loaded, and why it ended early, or nothing.
    """
    folder, package = package_of(file)
    for path in (os.path.dirname(file), folder):
        if path not in sys.path:
            sys.path.insert(0, path)
    module = ModuleType(SCRIPT)
    module.__file__, module.__package__ = file, package
    sys.modules[SCRIPT] = module
    problem = ""
    try:
        guarded(f"the script {file}", lambda: _execute(file, module))
    except NotFoundError as error:
        problem = f'{error}; lines that do its work belong under `if __name__ == "__main__":`'
    _rename(module)
    return module, problem


def _execute(file: str, module: ModuleType) -> None:
    """Run a script in a module, without a compiled file beside it, as Python does."""
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


def import_name_of(file: str) -> tuple[str, str]:
    """Return the folder that a script is imported from, and the name that it is imported by."""
    folder, package = package_of(file)
    stem = os.path.splitext(os.path.basename(file))[0]
    return folder, f"{package}.{stem}" if package else stem


def _inside(item: Any) -> Iterable[Any]:
    """Return what a class holds, or the function under a decorator."""
    if isinstance(item, type):
        return vars(item).values()
    return [target_of(item) if is_traced(item) else getattr(item, "__wrapped__", None)]


def _rename(module: ModuleType) -> None:
    """Name a script and its classes ``__main__``, as when it ran: its steps and canonical forms have that name."""
    module.__name__ = MAIN
    waiting: list[Any] = list(vars(module).values())
    seen: set[int] = set()
    while waiting:
        item = waiting.pop()
        item = item.__func__ if isinstance(item, classmethod | staticmethod) else item
        if id(item) in seen or not (is_traced(item) or isinstance(item, type | FunctionType)):
            continue
        seen.add(id(item))
        if getattr(item, "__module__", None) == SCRIPT:
            try:
                item.__module__ = MAIN
            except (AttributeError, TypeError):  # a metaclass may not like it
                continue
            waiting += _inside(item)
