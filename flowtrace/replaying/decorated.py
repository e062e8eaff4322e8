"""Whether a source decorates a function with `traced_node`: it is only parsed, none of it is run."""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, Final

_ROUNDS: Final = 20  # of names that stand for names
_DEEPEST: Final = 10  # modules that import the decorator from each other
_DECORATOR: Final = "traced_node"
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Sources:
    """Reads sources.

    Args:
        may_be_read: returns True for a file that a module may be looked up in.
        roots: folders that modules are imported from.
        trusted: names of modules whose decorators count, whatever they do.
    """

    def __init__(
        self, may_be_read: Callable[[str], bool], roots: Callable[[], list[str]], trusted: Collection[str]
    ) -> None:
        self._may_be_read = may_be_read
        self._roots = roots
        self._trusted = frozenset(trusted)

    def defines(self, file: str, qualname: str) -> bool:
        """Return True if a source file defines a name."""
        return any(True for _ in _found(_parsed(file), qualname))

    def decorates(self, file: str, qualname: str) -> bool:
        """Return True if a source file decorates the function of this name, its class, or assigns a decorated one."""
        tree = _parsed(file)
        ours = self._decorators(tree, file, 0)
        for chain in _found(tree, qualname):
            if any(_mentions(decorator, ours) for item in chain for decorator in item.decorator_list):
                return True
            for scope, name in ((tree, qualname), ([tree, *chain][-2], chain[-1].name)):
                for targets, value in _assignments(scope):
                    if name in map(dotted, targets) and _mentions(value, ours):
                        return True
        return False

    def _decorators(self, tree: ast.Module, file: str, depth: int) -> set[str]:
        """Return the dotted names that stand for `traced_node`, or for what was made with it, in a module."""
        ours: set[str] = set()
        for item in _statements(tree):
            if isinstance(item, ast.Import | ast.ImportFrom):
                ours.update(self._imported(item, file, depth))
        for _ in range(_ROUNDS):
            before = len(ours)
            for item in _statements(tree):
                if isinstance(item, _Definition) and any(_mentions(inner, ours) for inner in item.body):
                    ours.add(item.name)
            for targets, value in _assignments(tree):
                if _mentions(value, ours):
                    ours.update(filter(None, map(dotted, targets)))
            if len(ours) == before:
                break
        return ours

    def _imported(self, item: ast.Import | ast.ImportFrom, file: str, depth: int) -> Iterator[str]:
        if isinstance(item, ast.Import):
            for alias in item.names:
                names = self._of_module(alias.name, 0, file, depth)
                yield from (f"{alias.asname or alias.name}.{name}" for name in names)
                if alias.name.startswith("flowtrace."):
                    yield f"flowtrace.{_DECORATOR}"
            return
        module = item.module or ""
        names = self._of_module(module, item.level, file, depth)
        for alias in item.names:
            if alias.name == "*":
                yield from names
            elif alias.name in names or (not item.level and module in self._trusted):
                yield alias.asname or alias.name
            else:
                inner = self._of_module(f"{module}.{alias.name}".lstrip("."), item.level, file, depth)
                yield from (f"{alias.asname or alias.name}.{name}" for name in inner)

    def _of_module(self, name: str, level: int, file: str, depth: int) -> set[str]:
        """Return the names of a module that stand for `traced_node`, with the module found beside a file or a root."""
        if not level and name.partition(".")[0] == "flowtrace":
            return {_DECORATOR}
        folder = os.path.dirname(file)
        for _ in range(1, level):
            folder = os.path.dirname(folder)
        for root in [folder] if level else [folder, *self._roots()]:
            path = os.path.join(root, *name.split("."))
            for found in (f"{path}.py", os.path.join(path, "__init__.py")):
                if depth < _DEEPEST and os.path.isfile(found) and self._may_be_read(found):
                    return self._decorators(_parsed(found), found, depth + 1)
        return set()


def _parsed(file: str) -> ast.Module:
    """Return the syntax tree of a source file; an empty one of what is no source."""
    try:
        return ast.parse(Path(file).read_bytes()) if file.endswith(".py") else ast.Module([], [])
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return ast.Module([], [])


def _found(tree: ast.Module, qualname: str) -> Iterator[list[Any]]:
    """Yield the definitions of a qualified name, each with the classes around it before it."""
    chains: list[list[Any]] = [[]]
    for part in qualname.split("."):
        chains = [
            [*chain, item]
            for chain in chains
            for item in _statements(chain[-1] if chain else tree)
            if isinstance(item, _Definition) and item.name == part
        ]
    yield from chains


def _statements(scope: ast.AST) -> Iterator[ast.AST]:
    """Yield the statements of a module or class, those under `if`, `try`, `with` and the like too."""
    for item in ast.iter_child_nodes(scope):
        if isinstance(item, ast.stmt):
            yield item
        if not isinstance(item, _Definition) and isinstance(item, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield from _statements(item)


def _assignments(scope: ast.AST) -> Iterator[tuple[list[ast.expr], ast.expr]]:
    for item in _statements(scope):
        if isinstance(item, ast.Assign):
            yield item.targets, item.value
        elif isinstance(item, ast.AnnAssign) and item.value is not None:
            yield [item.target], item.value


def _mentions(node: ast.AST, names: set[str]) -> bool:
    return any(dotted(item) in names for item in ast.walk(node) if isinstance(item, ast.Name | ast.Attribute))


def dotted(node: ast.AST) -> str:
    """Return names with dots between them as text; empty where the first is no name."""
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return node.id if isinstance(node, ast.Name) else ""
