"""Decorate every function and method of installed packages while they are imported, without editing them.

``install()`` reads the environment: ``FLOWTRACE_EVERYWHERE`` names the packages, ``FLOWTRACE_EVERYWHERE_SKIP`` the
modules in them to leave alone (shell patterns), ``FLOWTRACE_EVERYWHERE_STATS`` a folder for what was done. A ``.pth``
file calls it when an interpreter starts, so that it is there before the package, and in child processes too.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from flowtrace.instrument.autotrace import ImportHook

Decorate = Callable[[Any], Any]
TESTS = ("*.tests", "*.tests.*", "*.test", "*.test.*", "*.test_*", "*.conftest", "conftest", "test_*")
_CACHED = type(functools.lru_cache(lambda: None))
_namespace = type.__dict__["__dict__"].__get__
# To set these on a class changes the class itself, not what its instances find: `__name__` as a property, say.
_OF_THE_CLASS = frozenset(name for name, item in vars(type).items() if hasattr(type(item), "__set__"))


class Everywhere(ImportHook):
    """Finds the packages' modules as the others do, and decorates each as soon as its code has run.

    Args:
        packages: import names; everything below them counts.
        decorate: what is applied to each function, bare partial, cached function, class method and static method.
        skip: shell patterns of module names that stay as they are.

    Attributes:
        decorated: how many different objects were decorated.
        modules: names of the modules that were decorated.
        left_alone: what could not be decorated, and why.
    """

    def __init__(self, packages: Iterable[str], decorate: Decorate, skip: Iterable[str] = TESTS) -> None:
        super().__init__()
        self.packages = frozenset(packages)
        self.skip = tuple(skip)
        self.decorate = decorate
        self.decorated = 0
        self.modules: list[str] = []
        self.left_alone: list[str] = []
        # The original stands beside its replacement, so that no other object can get its id.
        self._replaced: dict[int, tuple[Any, Any]] = {}
        self._classes: dict[int, type] = {}

    # --- while modules are imported

    def install(self) -> None:
        """Begin: modules that are there already are decorated now, the others when they are imported."""
        super().install()
        for name, module in list(sys.modules.items()):
            if self.is_ours(name) and isinstance(module, ModuleType):
                self.decorate_module(module)

    def is_ours(self, name: object) -> bool:
        """Tell whether a module of this name is to be decorated."""
        if not isinstance(name, str) or name.partition(".")[0] not in self.packages:
            return False
        return not any(fnmatchcase(name, pattern) for pattern in self.skip)

    def wants(self, name: str) -> bool:
        """Tell the import hook which modules are to be decorated."""
        return self.is_ours(name)

    def seen(self, module: ModuleType, _new: Iterable[ModuleType]) -> None:
        """Decorate a module that has just been executed."""
        self.decorate_module(module)

    def not_watched(self, name: str, error: Exception) -> None:
        """Note a module whose loader can't be extended."""
        self.left_alone.append(f"{name}: {error}")

    # --- what is decorated, and how

    def decorate_module(self, module: ModuleType) -> None:
        """Decorate what a module defines, and put the replacements into whoever took the originals before."""
        # One that put another object in its place in sys.modules is known by its real namespace.
        self.modules.append(module.__name__)
        self._decorate_names(vars(module))
        for name, other in list(sys.modules.items()):
            if name.partition(".")[0] in self.packages and isinstance(other, ModuleType):
                self._fix(vars(other))
        for cls in self._classes.values():
            self._fix(dict(_namespace(cls)))
        for original, new in list(self._replaced.values()):
            if original is not new and type(original) is FunctionType and original.__defaults__:
                original.__defaults__ = tuple(map(self._known, original.__defaults__))

    def _decorate_names(self, names: dict[str, Any]) -> None:
        for name, value in list(names.items()):
            if _is_class(value):
                self._decorate_class(value)
            elif (new := self._replacement(value)) is not value:
                names[name] = new

    def _fix(self, names: dict[str, Any]) -> None:
        self._fix_entries(names, names.items())
        for name, value in list(names.items()):
            if name.startswith("__"):
                continue
            if type(value) is dict:
                self._fix_entries(value, value.items())
            elif type(value) is list:
                self._fix_entries(value, enumerate(value))

    def _known(self, value: Any) -> Any:
        original, new = self._replaced.get(id(value), (None, None))
        return new if original is value and new is not None else value

    def _fix_entries(self, container: Any, entries: Iterable[tuple[Any, Any]]) -> None:
        for key, value in list(entries):
            if (new := self._known(value)) is not value:
                container[key] = new

    def _decorate_class(self, cls: type) -> None:
        if id(cls) in self._classes or not self.is_ours(_namespace(cls).get("__module__")):
            return
        self._classes[id(cls)] = cls
        for name, member in list(_namespace(cls).items()):
            if _is_class(member):
                self._decorate_class(member)
            elif name in _OF_THE_CLASS:
                continue
            elif (new := self._replacement(member)) is not member:
                try:
                    type.__setattr__(cls, name, new)
                except TypeError as error:
                    self.left_alone.append(f"{cls.__module__}.{cls.__qualname__}.{name}: {error}")

    def _replacement(self, value: Any) -> Any:
        """Return what stands in a value's place from now on: the value itself where it is none of ours."""
        if id(value) in self._replaced:
            return self._replaced[id(value)][1]
        new = self._make(value)
        if new is not value:
            self._replaced[id(value)] = (value, new)
        return new

    def _make(self, value: Any) -> Any:
        kind = type(value)
        if kind is FunctionType:
            return self._decorated(value) if self._defined_here(value) else value
        if kind is _CACHED:
            return self._decorated(value) if self._defined_here(value.__wrapped__) else value
        if kind is functools.partial:
            return self._decorated(value)
        if issubclass(kind, classmethod | staticmethod):
            return self._of_class(value) if self._defined_here(value.__func__) else value
        if issubclass(kind, property):
            return self._property(value)
        if issubclass(kind, functools.cached_property | functools.partialmethod):
            value.func = self._replacement(value.func)
        return value

    def _of_class(self, value: Any) -> Any:
        # A function that has a name outside, too, stays one object, as under a decorator.
        function = value.__func__
        if id(function) in self._replaced:
            return type(value)(self._replaced[id(function)][1])
        new = self._decorated(value)
        self._replaced[id(function)] = (function, new.__func__)
        return new

    def _property(self, value: Any) -> Any:
        # Its own methods make a copy of the same class, with everything else it has.
        for part, copy_with in (("fget", "getter"), ("fset", "setter"), ("fdel", "deleter")):
            function = getattr(value, part)
            new = self._replacement(function)
            if new is not function:
                value = _with_part(value, part, copy_with, new)
        return value

    def _defined_here(self, function: Any) -> bool:
        if isinstance(function, functools.partial):
            return True
        if self.is_ours(getattr(function, "__module__", None)):
            return True
        return type(function) is FunctionType and self.is_ours(function.__globals__.get("__name__"))

    def _decorated(self, value: Any) -> Any:
        try:
            new = self.decorate(value)
        except Exception as error:
            self.left_alone.append(f"{value!r:.200}: {error!r:.200}")
            return value
        self.decorated += 1
        self._replaced[id(new)] = (new, new)
        return new


def _with_part(value: Any, part: str, copy_with: str, new: Any) -> Any:
    try:
        return getattr(value, copy_with)(new)
    except TypeError:  # a class of its own, made from other arguments than a property is
        parts = {name: getattr(value, name) for name in ("fget", "fset", "fdel")} | {part: new}
        property.__init__(value, **parts, doc=value.__doc__)
        return value


def _is_class(value: object) -> bool:
    return issubclass(type(value), type)


class _Faults:
    """The faults that flowtrace keeps to itself: to a user they are a line of text, here they are findings."""

    def __init__(self) -> None:
        self.seen: dict[str, dict[str, Any]] = {}

    def watch(self) -> None:
        from flowtrace.host import log

        report = log.internal_fault

        def internal_fault(where: str, error: BaseException) -> None:
            text = "".join(traceback.format_exception(error, limit=-12))
            found = self.seen.setdefault(f"{where}: {type(error).__name__}", {"count": 0, "traceback": text[-6000:]})
            found["count"] += 1
            report(where, error)

        log.internal_fault = internal_fault


@functools.cache  # an interpreter may read one .pth file twice
def install() -> Everywhere:
    """Begin to decorate what the environment names with `flowtrace.traced_node`."""
    from flowtrace import traced_node

    variables = os.environ
    skip = variables.get("FLOWTRACE_EVERYWHERE_SKIP", "")
    everywhere = Everywhere(
        variables["FLOWTRACE_EVERYWHERE"].split(","),
        traced_node,
        (*TESTS, *filter(None, skip.split(","))),
    )
    faults = _Faults()
    faults.watch()
    folder = variables.get("FLOWTRACE_EVERYWHERE_STATS")
    if folder:
        atexit.register(_save, everywhere, faults, Path(folder), os.getpid())
    everywhere.install()
    return everywhere


def _save(everywhere: Everywhere, faults: _Faults, folder: Path, pid: int) -> None:
    if os.getpid() != pid:  # a fork: its numbers are mostly those of its parent
        return
    from flowtrace.host.system import CLOCK

    stats = {
        "argv": sys.argv[:2],
        "decorated": everywhere.decorated,
        "modules": len(everywhere.modules),
        "left_alone": everywhere.left_alone,
        "steps": CLOCK.steps_begun(),
        "faults": faults.seen,
    }
    (folder / f"{pid}.json").write_text(json.dumps(stats, indent=1))
