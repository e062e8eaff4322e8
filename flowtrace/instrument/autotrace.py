"""Tracing undecorated functions, as their modules are imported: ``FLOWTRACE_AUTO``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import LazyLoader
from threading import local
from types import FunctionType, ModuleType
from typing import Any, Final

from flowtrace.host import log
from flowtrace.host.objects import namespace_of
from flowtrace.host.safe_loading import is_loading
from flowtrace.host.switch import environment
from flowtrace.instrument.proxies import is_traced
from flowtrace.instrument.traced_node import traced_node
from flowtrace.settings import variables

_NEVER: Final = sys.stdlib_module_names | {"flowtrace", "wrapt", "orjson", "blake3", "structlog", "msgspec"}
_WILD: Final = frozenset("*?[")
# Looking at a lazy module in the usual way would load it.
_namespace_of_module: Final[Callable[[ModuleType], dict[str, Any]]] = vars(ModuleType)["__dict__"].__get__


class ImportHook(MetaPathFinder):
    """Looks at chosen modules as soon as their code has run. Their loaders stay the same, so that no module sees it.

    A subclass chooses the modules in `wants`, and looks at them in `seen`.
    """

    def __init__(self) -> None:
        self._asked = local()

    def wants(self, name: str) -> bool:
        """Return True if a module of this name is to be looked at."""
        raise NotImplementedError

    def seen(self, module: ModuleType, new: Iterable[ModuleType]) -> None:
        """Look at a module.

        Args:
            module: it has just been executed.
            new: the modules that were first imported meanwhile, which may have taken things from it already.
        """
        raise NotImplementedError

    def not_watched(self, name: str, error: Exception) -> None:
        """Report a module that can't be looked at."""
        log.internal_fault(f"watch the import of {name}", error)

    def install(self) -> None:
        """Begin, before every other finder."""
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def uninstall(self) -> None:
        """End: modules that are imported from now on are not looked at."""
        while self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Let the other finders find it, and extend the last step of its loader."""
        # Another finder may ask all finders, and so this one again.
        asked: set[str] = self._asked.__dict__.setdefault("names", set())
        if fullname in asked or not self.wants(fullname):
            return None
        asked.add(fullname)
        try:
            finders = [finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec")]
            found = (finder.find_spec(fullname, path, target) for finder in finders)
            spec = next((spec for spec in found if spec is not None), None)
        finally:
            asked.remove(fullname)
        if spec is not None:
            self._extend(spec)
        return spec

    def _extend(self, spec: ModuleSpec) -> None:
        loader: Any = spec.loader
        if type(loader) is LazyLoader:
            loader = vars(loader)["loader"]
        execute = getattr(loader, "exec_module", None)
        # A namespace package has none; a loader that is a class, as that of frozen modules, is not ours to change;
        # and one that loads many modules, as that of an archive, may have been extended already.
        if execute is None or isinstance(loader, type) or getattr(execute, "flowtrace_hook", None) is self:
            return
        try:
            loader.exec_module = _extended(execute, self, loader)
        except Exception as error:
            self.not_watched(spec.name, error)

    def _finish(self, module: ModuleType, before: set[str]) -> None:
        try:
            new = [sys.modules.get(name) for name in sys.modules.keys() - before]
            self.seen(module, [other for other in new if isinstance(other, ModuleType) and other is not module])
        except Exception as error:
            self.not_watched(module.__name__, error)


def _extended(execute: Callable[[ModuleType], None], hook: ImportHook, loader: Any) -> Callable[[ModuleType], None]:
    """Return the function by which a loader executes a module from now on."""

    def exec_module(module: ModuleType) -> None:
        name = module.__name__
        if getattr(loader, "name", None) == name:
            del loader.exec_module  # it loads this module alone: leave it as it was
        before = set(sys.modules)
        execute(module)
        if hook.wants(name):
            hook._finish(module, before)  # pyright: ignore[reportPrivateUsage]  # its other half

    # Where the module raises, the interpreter takes frames of the import system out of the traceback, and so this one.
    exec_module.__code__ = exec_module.__code__.replace(co_filename="<frozen importlib._bootstrap>")
    exec_module.flowtrace_hook = hook  # type: ignore[attr-defined]  # pyright: ignore[reportFunctionMemberAccess]
    return exec_module


class Patterns:
    """Dotted names of modules or functions, in which ``*``, ``?`` and ``[...]`` stand for anything, dots included.

    A pattern that matches a module's name means all its functions; ``pkg.nodes.*`` means those of `pkg.nodes` and of
    every module below it.

    Args:
        patterns: the patterns.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        self.patterns = tuple(patterns)
        self._fixed = tuple(_fixed_part(pattern) for pattern in self.patterns)

    def may_match_in(self, module: str) -> bool:
        """Return True if something in a module of this name may match."""
        if module.partition(".")[0] in _NEVER or module == "__main__":
            return False
        inside = module + "."
        return any(fixed.startswith(inside) or inside.startswith(fixed) for fixed in self._fixed) or self._match(module)

    def match(self, module: str, name: str) -> bool:
        """Return True if a function of a module matches, by its module's name or by its own."""
        return self._match(module) or self._match(f"{module}.{name}")

    def _match(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.patterns)


def _fixed_part(pattern: str) -> str:
    end = next((at for at, character in enumerate(pattern) if character in _WILD), len(pattern))
    return pattern[:end]


class AutoTracer(ImportHook):
    """Traces the public functions, and the public methods of public classes, that chosen modules define.

    Args:
        patterns: which ones.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        super().__init__()
        self.patterns = Patterns(patterns)

    def wants(self, name: str) -> bool:
        """Return True if something in a module of this name may be traced, and it is not one that we load for us."""
        return self.patterns.may_match_in(name) and not is_loading()

    def seen(self, module: ModuleType, new: Iterable[ModuleType]) -> None:
        """Trace a module's functions, also where another module took one while this one was not finished."""
        names = _namespace_of_module(module)
        replaced: dict[int, tuple[Any, Any]] = {}
        self._trace_names(module.__name__, names, replaced)
        if not replaced:
            return
        for other in new:
            _replace(_namespace_of_module(other), replaced)

    def _trace_names(self, module: str, names: dict[str, Any], replaced: dict[int, tuple[Any, Any]]) -> None:
        for name, value in list(names.items()):
            if name.startswith("_"):
                continue
            if type(value) is FunctionType and self._is_chosen(value, module):
                if id(value) not in replaced:
                    replaced[id(value)] = (value, _traced(value))
                names[name] = replaced[id(value)][1]
            elif issubclass(type(value), type):
                self._trace_class(module, value)

    def _trace_class(self, module: str, cls: Any) -> None:
        namespace = namespace_of(cls)
        if namespace.get("__module__") != module:
            return
        for name, member in list(namespace.items()):
            if name.startswith("_"):
                continue
            function = member.__func__ if type(member) in (classmethod, staticmethod) else member
            if type(function) is FunctionType and self._is_chosen(function, module):
                node = _traced(member)
                type.__setattr__(cls, name, node)
                if is_traced(node):
                    type(node).__set_name__(node, cls, name)

    def _is_chosen(self, function: FunctionType, module: str) -> bool:
        if function.__module__ != module or function.__name__ == "<lambda>":
            return False
        return self.patterns.match(module, function.__qualname__) and not _is_traced(function)


def _traced(value: Any) -> Any:
    """Return the node of a function; where it can't be one, the function."""
    try:
        return traced_node(value)
    except Exception as error:
        log.internal_fault("trace a function of an imported module", error)
        return value


def _is_traced(function: Any) -> bool:
    """Return True if a function is a decorator of the user's around a node."""
    for _ in range(50):
        function = vars(function).get("__wrapped__")
        if is_traced(function):
            return True
        if type(function) is not FunctionType:
            return False
    return False


def _replace(names: dict[str, Any], replaced: Mapping[int, tuple[Any, Any]]) -> None:
    for name, value in list(names.items()):
        original, node = replaced.get(id(value), (None, None))
        if node is not None and original is value:
            names[name] = node


def install(environ: Mapping[str, str] | None = None) -> AutoTracer | None:
    """Begin to trace what ``FLOWTRACE_AUTO`` names, once in a process.

    Args:
        environ: the variables; None means those of the process.

    Returns:
        The hook in ``sys.meta_path``; None where the variable names nothing, or the kill switch is set.
    """
    parsed = variables.parse(environment() if environ is None else environ)
    if parsed.disabled or not parsed.auto:
        return None
    for finder in sys.meta_path:
        if isinstance(finder, AutoTracer):
            return finder
    hook = AutoTracer(parsed.auto)
    hook.install()
    return hook
