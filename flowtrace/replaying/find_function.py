"""Finding the function that a step called, without letting the trace choose what else is run.

A trace may come from anywhere. So a module that it names is only imported where its file lies under the working folder,
or where the caller named the module; a name is looked up in dictionaries, never through code of the module; and what is
found counts only where `traced_node` decorated it.
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
from functools import cached_property
from pathlib import Path
from types import MethodType, ModuleType
from typing import Any, Final, NamedTuple

from flowtrace.errors import ReplayError
from flowtrace.host.objects import MISSING, class_attribute, class_name, inherits, instance_dict
from flowtrace.instrument.proxies import TracedFunction
from flowtrace.recording.node import Node
from flowtrace.replaying.load_script import MAIN, SCRIPT, NotFoundError, Territory, defines, guarded, load_script
from flowtrace.trace.model import Code

_MODULE: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_DUNDER: Final = re.compile(r"(.*\.)?__\w+__(\..*)?")


class Target(NamedTuple):
    """A function that a step called.

    Attributes:
        node: what its decorator said.
        traced: the decorated function.
        owner: the class that it is defined in; None for a function of a module.
        kind: ``function``, ``method``, ``classmethod`` or ``staticmethod``.
        module: the module that it was found in.
        file: the source file that the module was loaded from, or None.
    """

    node: Node
    traced: TracedFunction
    owner: type | None
    kind: str
    module: ModuleType
    file: str | None


class Resolver:
    """Finds functions and classes by what a trace says of them.

    Args:
        working_folder: modules and scripts under it may be loaded.
        imports: names of modules outside it that may be used, too.

    Raises:
        ReplayError: the working folder is no folder, or a module of ``imports`` can't be imported.
    """

    def __init__(self, working_folder: str | os.PathLike[str], imports: Collection[str] = ()) -> None:
        self._territory = Territory(working_folder)
        self.folder = self._territory.folder
        self._imports = frozenset(imports)
        self._targets: dict[tuple[str, str, str | None], Target | NotFoundError] = {}
        self._classes: dict[str, type | None] = {}
        self._scripts: dict[str, ModuleType] = {}

    @contextmanager
    def in_force(self) -> Generator[None]:
        """Import from the working folder, as ``python -m`` would; afterwards everything is as it was.

        Raises:
            ReplayError: a module that the caller named can't be imported.
        """
        before, mains = list(sys.path), {name: sys.modules.get(name) for name in (MAIN, SCRIPT)}
        sys.path.insert(0, self.folder)
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
        """Return the function that a step called, where its module is loaded already, wherever it lies.

        Raises:
            NotFoundError: it is not there, or not decorated.
        """
        if code is None:
            raise NotFoundError("the step does not say which function it called")
        module = sys.modules.get(code.module)
        if module is None:
            raise NotFoundError(f"the module {code.module} is not loaded")
        return _target_in(module, code.qualname)

    def class_named(self, name: str) -> type | None:
        """Return the class that stands under ``module:qualname`` in a module that may be used; else None.

        Of the standard library's loaded modules it finds enums and named tuples: to make one of these runs no code.
        """
        if name not in self._classes:
            self._classes[name] = self._class_named(name)
        return self._classes[name]

    def factory(self, name: str) -> Any:
        """Return what stands under ``module:name`` in a module that may be used: a function that the caller named.

        Raises:
            ReplayError: there is no such thing.
        """
        module, _, qualname = name.partition(":")
        try:
            found, _ = _walk(self._module(module), qualname)
        except NotFoundError as error:
            raise ReplayError(f"the receiver {name!r} can't be made: {error}") from error
        if not callable(found):
            raise ReplayError(f"the receiver {name!r} can't be made: it is not callable")
        return found

    # --- inside

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
                if target.file == code.file:
                    return target
        return _target_in(self._script(code), code.qualname)

    def _checked(self, target: Target) -> Target:
        """Refuse what a module that may be used has only taken from one that may not."""
        home = getattr(target.node.function, "__module__", None)
        if home != target.module.__name__ and home not in self._imports:
            found = sys.modules.get(home) if isinstance(home, str) else None
            if found is None:
                raise NotFoundError(f"{target.node.node_id} is from a module {home!s:.200} that is not loaded")
            self._check(found.__name__, found)
        return target

    def _class_named(self, name: str) -> type | None:
        module, _, qualname = name.partition(":")
        try:
            found, _ = _walk(self._module(module, qualname), qualname)
        except NotFoundError:
            return _of_standard_library(module, qualname)
        return found if isinstance(found, type) and class_name(found) == name else None

    def _module(self, name: str, qualname: str | None = None, file: str | None = None) -> ModuleType:
        """Return a module that may be used, imported where need be, one package after the other.

        Args:
            name: its name.
            qualname: what a trace says that it defines; None where the caller named the module.
            file: where a trace says that it was.
        """
        if name in self._imports or name == MAIN:
            return sys.modules[name]
        if _MODULE.fullmatch(name) is None or _DUNDER.fullmatch(name) is not None:
            raise NotFoundError(f"{name!r:.200} is no name of a module that may be imported")
        if sys.modules.get(name) is None:
            self._add_root(name, file)
            parts = name.split(".")
            for count in range(1, len(parts)):
                self._import(".".join(parts[:count]))
            self._import(name, qualname)
        self._check(name, sys.modules[name])
        return sys.modules[name]

    def _import(self, name: str, qualname: str | None = None) -> None:
        """Import a module whose packages are imported already, once it is known to lie under the working folder.

        Where its source does not define the qualified name that is looked for, it is not imported either.
        """
        if sys.modules.get(name) is not None:
            self._check(name, sys.modules[name])
            return
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError, AttributeError) as error:
            raise NotFoundError(f"the module {name} can't be found: {error}") from error
        if spec is None:
            raise NotFoundError(f"there is no module {name}")
        self._check_places(name, [spec.origin] if spec.has_location else list(spec.submodule_search_locations or ()))
        if qualname is not None and spec.has_location and not defines(str(spec.origin), qualname):
            raise NotFoundError(f"the module {name} has no {qualname:.200}")
        guarded(f"the module {name}", lambda: importlib.import_module(name))

    def _check(self, name: str, module: ModuleType) -> None:
        if name in self._imports:
            return
        spec = getattr(module, "__spec__", None)
        file = getattr(module, "__file__", None)
        places = [file] if isinstance(file, str) else list(getattr(spec, "submodule_search_locations", None) or ())
        self._check_places(name, places)

    def _check_places(self, name: str, places: list[Any]) -> None:
        if not places or not all(isinstance(place, str) and self._territory.is_mine(place) for place in places):
            place = f"is not under the working folder {self.folder}"
            raise NotFoundError(f"the module {name} {place}; name it as an import if you trust it")

    def _add_root(self, name: str, traced_file: str | None) -> None:
        """Search where the trace says that the module was: the folder of a script, or a ``src`` folder."""
        file = self._territory.local_file(traced_file)
        if file is None:
            return
        folder = Path(file).parent
        parts = name.split(".")
        if Path(file).name == "__init__.py":
            folder = folder.parent
        for part in reversed(parts[:-1]):
            if folder.name != part:
                return
            folder = folder.parent
        if self._territory.holds(str(folder)) and str(folder) not in sys.path:
            sys.path.insert(1, str(folder))

    def _script(self, code: Code) -> ModuleType:
        """Load the program that was run, as a module whose ``if __name__ == "__main__":`` does not hold."""
        file = self._territory.local_file(code.file)
        if file is None:
            raise NotFoundError(f"there is no script {code.file} under the working folder {self.folder}")
        if file not in self._scripts:
            if not defines(file, code.qualname):
                raise NotFoundError(f"{file} has no {code.qualname}")
            self._scripts[file] = load_script(file)
        module = self._scripts[file]
        sys.modules[MAIN] = sys.modules[SCRIPT] = module
        return module


def _import_named(name: str) -> None:
    if _MODULE.fullmatch(name) is None:
        raise ReplayError(f"{name!r} is no name of a module")
    try:
        guarded(f"the module {name}", lambda: importlib.import_module(name))
    except NotFoundError as error:
        raise ReplayError(str(error)) from error


def _walk(module: ModuleType, qualname: str) -> tuple[Any, Any]:
    """Return what stands under a qualified name, unbound, and what holds it; no code of the module is run."""
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
        node = _node_of(found) if isinstance(found, TracedFunction) else None
        if node is not None:
            return Target(node, found, owner, kind, module, _file_of(node.function))
        found = _inner(found)
        if found is MISSING:
            break
    raise NotFoundError(f"{qualname} of the module {module.__name__} is not decorated with traced_node")


def _inner(found: Any) -> Any:
    """Return what a descriptor, a flow or a `functools.wraps` stands around, as far as no code has to be run."""
    if isinstance(found, TracedFunction):
        return found.__wrapped__
    if type(found) in (classmethod, staticmethod, MethodType):
        return found.__func__
    if type(found) is property:
        return found.fget
    if type(found) is cached_property:
        return found.func
    return instance_dict(found).get("__wrapped__", MISSING)


def _node_of(traced: TracedFunction) -> Node | None:
    """Return what a decorator said; None for that of a flow. Tracing must be on."""
    subject = traced._self_subject  # pyright: ignore[reportPrivateUsage]  # wrapt's prefix
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
