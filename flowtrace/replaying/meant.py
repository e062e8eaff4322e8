"""A check of an emitted test: it is parsed again before it is written, and holds nothing that was not meant.

Every text of a trace goes into a test as a literal, a comment or a checked name. This looks at the result all the same:
a name, a call or a statement that the writer of the test does not know is one that a trace has put there.
"""

from __future__ import annotations

import ast
import builtins
import warnings
from collections.abc import Iterator
from typing import Any, Final

from flowtrace.errors import ReplayError
from flowtrace.replaying.decorated import dotted

RESERVED: Final = frozenset(
    {
        *("Path", "asyncio", "caught", "collect", "collections", "datetime", "decimal", "item", "itertools", "pathlib"),
        *("pytest", "re", "result", "sys", "types", "uuid", "zoneinfo", *vars(builtins)),
    }
)
"""Names that a test has for itself: what it imports from the program gets other ones."""
_OWN: Final = frozenset({"__file__", "caught", "collect", "item", "result", "Ellipsis", "NotImplemented"})
_CLASSES: Final = frozenset(name for name, value in vars(builtins).items() if isinstance(value, type))
_OF_MODULES: Final = frozenset(
    {
        *("asyncio.run", "itertools.islice", "pytest.raises", "re.sub", "sys.path.insert", "types.SimpleNamespace"),
        *(f"datetime.{name}" for name in ("date", "datetime", "time", "timedelta", "timezone", "timezone.utc")),
        *("collections.Counter", "collections.OrderedDict", "collections.deque", "decimal.Decimal", "pathlib.Path"),
        *("pathlib.PurePosixPath", "pathlib.PureWindowsPath", "uuid.UUID", "zoneinfo.ZoneInfo"),
    }
)
_NODES: Final = (
    *(ast.Module, ast.Import, ast.ImportFrom, ast.alias, ast.FunctionDef, ast.AsyncFunctionDef, ast.arguments),
    *(ast.Expr, ast.With, ast.withitem, ast.Assign, ast.Assert, ast.Return, ast.Compare, ast.Eq, ast.NotEq, ast.Is),
    *(ast.ListComp, ast.comprehension, ast.Call, ast.keyword, ast.Name, ast.Attribute, ast.Load, ast.Store),
    *(ast.Constant, ast.List, ast.Tuple, ast.Dict, ast.Set, ast.UnaryOp, ast.USub, ast.BinOp, ast.Div),
)
Import = tuple[str, str, str]
"""Module, name in it (empty for the module itself), and name in the test."""


def check(source: str, name: str, imports: set[Import]) -> None:
    """Check the source of a test before it is written.

    Args:
        source: the complete file.
        name: the name of its one function.
        imports: what it is meant to import.

    Raises:
        ReplayError: it can't be compiled, or holds a statement, a name or a call that was not meant.
    """
    tree = _parsed(source)
    found = {item for node in tree.body for item in _imports_in(node)}
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    if found != imports or functions != [name]:
        raise ReplayError("no test can be written: its imports and functions would not be those that were meant")
    allowed = {alias for _, _, alias in imports} | _OWN | _CLASSES
    modules = {alias for _, name, alias in imports if not name}
    for node in ast.walk(tree):
        if not isinstance(node, _NODES) or not _is_meant(node, allowed, modules):
            line = getattr(node, "lineno", 1)
            raise ReplayError(f"no test can be written: its line {line} would hold code that was not meant")


def _parsed(source: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(source.encode(), "<test>", "exec", dont_inherit=True)  # it finds more than parsing alone
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ReplayError(f"no test can be written: its source would be wrong: {error}") from error


def _imports_in(node: ast.stmt) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        yield from ((item.name, "", item.asname or item.name) for item in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield from ((node.module or "", item.name, item.asname or item.name) for item in node.names)


def _is_meant(node: Any, allowed: set[str], modules: set[str]) -> bool:
    if isinstance(node, ast.Name):
        return node.id in allowed
    if isinstance(node, ast.Attribute):
        names = dotted(node)
        if names.partition(".")[0] in modules:
            return any(f"{item}.".startswith(f"{names}.") for item in _OF_MODULES)
        return not node.attr.startswith("__") or names == "caught.type.__name__"
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name | ast.Attribute)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return not node.decorator_list and not ast.unparse(node.args)
    return True
