"""Finds the function that a step called, without letting the trace choose what else is run.

A trace may come from anywhere. So a module that it names is only imported if its file lies under the working folder and
its source decorates the function, or if the caller named the module; no module is imported for a class; a name is
looked up in dictionaries, never through code of the module; and a function is only called if `traced_node` decorated
it.
"""

from __future__ import annotations

import enum
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Collection, Generator
from contextlib import contextmanager
from functools import cached_property, partial
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import MethodType, ModuleType
from typing import Any, Final, NamedTuple

from flowtrace.errors import ReplayError
from flowtrace.host.objects import MISSING, class_attribute, class_name, inherits, instance_dict, mro
from flowtrace.instrument.autotrace import AutoTracer
from flowtrace.instrument.proxies import is_traced, subject_of, target_of
from flowtrace.recording.node import Node
from flowtrace.replaying.allowed_folder import AllowedFolder, is_under
from flowtrace.replaying.cell_source import is_cell
from flowtrace.replaying.decorated import Sources
from flowtrace.replaying.load_script import MAIN, SCRIPT, NotFoundError, guarded, import_name_of, load_script
from flowtrace.trace.model import Code

_MODULE: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_DUNDER: Final = re.compile(r"(.*\.)?__\w+__(\..*)?")


class Target(NamedTuple):
    """A function that a step called.

    Attributes:
        node: the arguments of its decorator.
        traced: the decorated function.
        owner: the class that defines it; None for a function of a module.
        kind: ``function``, ``method``, ``classmethod`` or ``staticmethod``.
        module: the module where it was found.
        file: the source file that the module was loaded from, or None.
    """

    node: Node
    traced: Any
    owner: type | None
    kind: str
    module: ModuleType
    file: str | None


class Resolver:
    """Finds the functions and classes that a trace names.

    Args:
        working_folder: modules and scripts under it may be loaded.
        imports: names of modules outside it that may be used, too.

    Attributes:
        own_module: the module of the function whose arguments or result are rebuilt; None for none.

    Raises:
        ReplayError: the working folder is no folder.
    """

    def __init__(self, working_folder: str | os.PathLike[str], imports: Collection[str] = ()) -> None:
        self._allowed = AllowedFolder(working_folder)
        self._imports = frozenset(imports)
        self.own_module: ModuleType | None = None
        self._targets: dict[tuple[str, str, str | None], Target | NotFoundError] = {}
        self._sources = Sources(self._allowed.holds, self._roots, self._imports)
        self._scripts: dict[str, tuple[ModuleType, str]] = {}

    @contextmanager
    def working_folder_on_path(self) -> Generator[None]:
        """Import from the working folder in a ``with`` block, as ``python -m`` does; afterwards restore the path.

        Raises:
            ReplayError: a module that the caller named can't be imported.
        """
        before, mains = list(sys.path), {name: sys.modules.get(name) for name in (MAIN, SCRIPT)}
        sys.path.insert(0, self._allowed.path)
        try:
            for name in sorted(self._imports):
                _import_named(name)
            yield
        finally:
            sys.path[:] = before
            for name, module in mains.items():
                sys.modules.pop(name, None)
                if module is not None:
                    sys.modules[name] = module

    def target(self, code: Code | None) -> Target:
        """Return the function that a step called.

        Raises:
            NotFoundError: it can't be found, is not decorated, or may not be called.
        """
        if code is None:
            raise NotFoundError("the step does not say which function it called")
        key = (code.module, code.qualname, code.file)
        if key not in self._targets:
            try:
                self._targets[key] = self._checked(self._find(code))
            except NotFoundError as error:
                self._targets[key] = error
        found = self._targets[key]
        if isinstance(found, NotFoundError):
            raise NotFoundError(str(found))
        return found

    def loaded(self, code: Code | None) -> Target:
        """Return the function that a step called, if its module is loaded already, from any folder.

        Raises:
            NotFoundError: the module is not loaded, or the function is not there or not decorated.
        """
        if code is None:
            raise NotFoundError("the step does not say which function it called")
        module = sys.modules.get(code.module)
        if module is None:
            raise NotFoundError(f"the module {code.module} is not loaded")
        return _target_in(module, code.qualname)

    def class_named(self, name: str) -> type | None:
        """Return the class named ``module:qualname``, if a trace may choose it; else None. Nothing is imported.

        A trace may choose among the classes that the step's own module defines, those of modules that the caller named,
        and enums and named tuples of the loaded standard library: making one of these runs no code.
        """
        module, _, qualname = name.partition(":")
        own = self.own_module
        if own is None or own.__name__ != module:
            own = sys.modules.get(module) if module in self._imports else None
        if own is None:
            return _of_standard_library(module, qualname)
        try:
            found, _ = _walk(own, qualname)
        except NotFoundError:
            return None
        return found if isinstance(found, type) and class_name(found) == name else None

    def factory(self, name: str, user: ModuleType) -> Any:
        """Return the function ``module:name`` that makes a receiver, if its module may be used.

        Args:
            name: of the function.
            user: the module of the method. Where it is a script, its file's name means it, too: imported once more, it
                would have other classes.

        Raises:
            ReplayError: there is no such function.
        """
        module, _, qualname = name.partition(":")
        if not module or not qualname:
            raise ReplayError(f"the receiver {name!r} can't be made: its form is MODULE:FACTORY, as in shop:make_cart")
        file = getattr(user, "__file__", None)
        is_script = user.__name__ == MAIN and isinstance(file, str) and import_name_of(file)[1] == module
        try:
            found, _ = _walk(user if is_script else self._module(module), qualname)
        except NotFoundError as error:
            raise ReplayError(f"the receiver {name!r} can't be made: {error}") from error
        if not callable(found):
            raise ReplayError(f"the receiver {name!r} can't be made: it is not callable")
        return found

    def _find(self, code: Code) -> Target:
        if "<locals>" in code.qualname:
            raise NotFoundError(f"{code.qualname} is defined inside another function, where it can't be found")
        if code.module != MAIN:
            return _target_in(self._module(code.module, code.qualname, code.file), code.qualname)
        running = sys.modules.get(MAIN)
        if running is not None:
            try:
                target = _target_in(running, code.qualname)
            except NotFoundError:
                pass
            else:
                if target.file == code.file or (is_cell(target.file) and is_cell(code.file)):
                    return target  # a cell that was run again has another name
        module, problem = self._script(code)
        try:
            return _target_in(module, code.qualname)
        except NotFoundError as error:
            raise NotFoundError(problem or str(error)) from error

    def problem_of(self, target: Target) -> str:
        """Return why the script that a function is from ended early when it was loaded; "" for nothing."""
        return next((problem for module, problem in self._scripts.values() if module is target.module), "")

    def _checked(self, target: Target) -> Target:
        """Refuse a function that an allowed module has only imported from one that is not allowed."""
        home = getattr(target.node.function, "__module__", None)
        if home != target.module.__name__ and home not in self._imports:
            found = sys.modules.get(home) if isinstance(home, str) else None
            if found is None:
                raise NotFoundError(f"{target.node.node_id} is from a module {home!s:.200} that is not loaded")
            self._check(found.__name__, found)
        return target

    def _roots(self) -> list[str]:
        return [path for path in sys.path if path and self._allowed.has_folder(path)]

    def _module(self, name: str, qualname: str | None = None, file: str | None = None) -> ModuleType:
        """Return a module that may be used; where it is not loaded, import it, one package after the other.

        Args:
            name: its name.
            qualname: the name that a trace says it defines; None where the caller named the module.
            file: its file, according to the trace.
        """
        if name in self._imports or name == MAIN:
            return sys.modules[name]
        if _MODULE.fullmatch(name) is None or _DUNDER.fullmatch(name) is not None:
            raise NotFoundError(f"{name!r:.200} is not the name of a module that may be imported")
        if sys.modules.get(name) is None:
            if qualname is not None:
                self._add_root(name, qualname, file)
                self._check_source(name, qualname)
            parts = name.split(".")
            for count in range(1, len(parts) + 1):
                self._import(".".join(parts[:count]))
        self._check(name, sys.modules[name])
        return sys.modules[name]

    def _check_source(self, name: str, qualname: str) -> None:
        """Refuse a module that would be imported for nothing: not even its packages are imported then."""
        spec: ModuleSpec | None = None
        folders: list[str] | None = None
        parts = name.split(".")
        for count, last in enumerate(parts, 1):
            part = ".".join(parts[:count])
            loaded = sys.modules.get(part)
            if loaded is not None:
                self._check(part, loaded)
                folders = list(getattr(loaded, "__path__", ()))
                continue
            spec = _spec(part, folders)
            inside = [os.path.join(folder, last) for folder in folders or ()]
            if spec.has_location or folders is None:
                inside = list(spec.submodule_search_locations or ())
            folders = [folder for folder in inside if os.path.isdir(folder)]
            self._check_paths(part, [spec.origin] if spec.has_location else folders)
        file = str(spec.origin) if spec is not None else ""
        self._check_decorated(file, f"the module {name}", qualname, self._is_chosen(name, qualname))

    def _check_decorated(self, file: str, where: str, qualname: str, is_chosen: bool = False) -> None:
        if file.endswith(".py") and not self._sources.defines(file, qualname):
            raise NotFoundError(f"{where} has no {qualname:.200}")
        if not is_chosen and not self._sources.decorates(file, qualname):
            hint = "name a module that you trust as an import"
            raise NotFoundError(f"{qualname:.200} of {where} is not decorated with traced_node in its source; {hint}")

    def _is_chosen(self, module: str, qualname: str) -> bool:
        """Return True if the user named the function as one to be traced without a decorator."""
        tracers = (finder for finder in sys.meta_path if isinstance(finder, AutoTracer))
        return any(
            tracer.patterns.may_match_in(module) and tracer.patterns.match(module, qualname) for tracer in tracers
        )

    def _import(self, name: str) -> None:
        """Import a module, once its packages are imported, if its file is allowed."""
        if sys.modules.get(name) is not None:
            self._check(name, sys.modules[name])
            return
        spec = _spec(name)
        self._check_paths(name, [spec.origin] if spec.has_location else list(spec.submodule_search_locations or ()))
        guarded(f"the module {name}", partial(importlib.import_module, name))

    def _check(self, name: str, module: ModuleType) -> None:
        if name in self._imports:
            return
        spec = getattr(module, "__spec__", None)
        file = getattr(module, "__file__", None)
        paths = [file] if isinstance(file, str) else list(getattr(spec, "submodule_search_locations", None) or ())
        self._check_paths(name, paths)

    def _check_paths(self, name: str, paths: list[Any]) -> None:
        if not paths or not all(isinstance(path, str) and self._allowed.holds(path) for path in paths):
            reason = f"is not under the working folder {self._allowed.path}"
            raise NotFoundError(f"the module {name} {reason}; name it as an import if you trust it")

    def _add_root(self, name: str, qualname: str, traced_file: str | None) -> None:
        """Put the folder that the module was imported from on the path: that of a script, or a ``src`` folder.

        A trace can name any file, and what is imported afterwards may come from its folder: it must be the function's.
        """
        file = self._allowed.local_file(traced_file)
        if file is None or not (self._sources.decorates(file, qualname) or self._is_chosen(name, qualname)):
            return
        folder = Path(file).parent
        parts = name.split(".")
        if Path(file).name == "__init__.py":
            folder = folder.parent
        for part in reversed(parts[:-1]):
            if folder.name != part:
                return
            folder = folder.parent
        if is_under(os.path.realpath(folder), self._allowed.path) and str(folder) not in sys.path:
            sys.path.insert(1, str(folder))

    def _script(self, code: Code) -> tuple[ModuleType, str]:
        """Load the program that was run, as a module whose ``if __name__ == "__main__":`` does not hold.

        Returns:
            The module, and why it ended early, or nothing.
        """
        file = self._allowed.local_file(code.file)
        if file is None:
            raise NotFoundError(f"there is no script {code.file} under the working folder {self._allowed.path}")
        if file not in self._scripts:
            self._check_decorated(file, file, code.qualname)
            self._scripts[file] = load_script(file)
        found = self._scripts[file]
        sys.modules[MAIN] = sys.modules[SCRIPT] = found[0]
        return found


def _spec(name: str, folders: list[str] | None = None) -> ModuleSpec:
    """Return where a module is; no package is imported where the folders of its package are given."""
    try:
        spec = importlib.util.find_spec(name) if folders is None else PathFinder.find_spec(name, folders)
    except (ImportError, ValueError, AttributeError) as error:
        raise NotFoundError(f"the module {name} can't be found: {error}") from error
    if spec is None:
        raise NotFoundError(f"there is no module {name}")
    return spec


def _import_named(name: str) -> None:
    if _MODULE.fullmatch(name) is None:
        raise ReplayError(f"{name!r} is not the name of a module")
    try:
        guarded(f"the module {name}", partial(importlib.import_module, name))
    except NotFoundError as error:
        raise ReplayError(str(error)) from error


def _walk(module: ModuleType, qualname: str) -> tuple[Any, Any]:
    """Return the attribute of a qualified name, unbound, and the object that has it; no code of the module is run."""
    holder: Any = None
    found: Any = module
    for part in qualname.split("."):
        holder = found
        if isinstance(holder, type):
            found = class_attribute(holder, part)
        elif holder is module:
            found = vars(module).get(part, MISSING)
        else:
            found = MISSING
        if found is MISSING:
            raise NotFoundError(f"the module {module.__name__} has no {qualname:.200}")
    return found, holder


def _target_in(module: ModuleType, qualname: str) -> Target:
    found, holder = _walk(module, qualname)
    owner = holder if isinstance(holder, type) else None
    kind = "function" if owner is None else "method"
    if type(found) in (classmethod, staticmethod):
        kind = type(found).__name__
    for _ in range(100):
        node = _node_of(found) if is_traced(found) else None
        if node is not None:
            return Target(node, found, owner, kind, module, _file_of(node.function))
        found = _inner(found)
        if found is MISSING:
            break
    raise NotFoundError(f"{qualname} of the module {module.__name__} is not decorated with traced_node")


def _inner(found: Any) -> Any:
    """Return the function inside a descriptor, a flow or a `functools.wraps`, if no code has to be run for it."""
    if is_traced(found):
        return target_of(found)
    if type(found) in (classmethod, staticmethod, MethodType):
        return found.__func__
    if type(found) is property:
        return found.fget
    if type(found) is cached_property:
        return found.func
    return instance_dict(found).get("__wrapped__", MISSING)


def _node_of(traced: Any) -> Node | None:
    """Return the node of a decorated function; None where the decorator is a flow. Tracing must be on."""
    subject = subject_of(traced)
    if subject.target is None:
        subject.load()
    return subject.target if isinstance(subject.target, Node) else None


def _file_of(function: Any) -> str | None:
    code = getattr(function, "__code__", None)
    return code.co_filename if code is not None else None


def _of_standard_library(module: str, qualname: str) -> type | None:
    if module.partition(".")[0] not in sys.stdlib_module_names or module not in sys.modules:
        return None
    try:
        found, _ = _walk(sys.modules[module], qualname)
    except NotFoundError:
        return None
    if not isinstance(found, type):
        return None
    is_named_tuple = inherits(found, tuple) and type(class_attribute(found, "_fields")) is tuple
    return found if inherits(found, enum.Enum) or is_named_tuple else None


def exception_named(name: str) -> type[BaseException] | None:
    """Return a built-in or loaded exception class by the name that a traceback gives it; None for any other name."""
    module, _, qualname = name.rpartition(".")
    found = vars(sys.modules.get(module or "builtins", object)).get(qualname)
    return found if isinstance(found, type) and BaseException in mro(found) else None
