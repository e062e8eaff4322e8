"""The source of what the cells of a notebook defined, for a test that can't import it from anywhere.

IPython keeps the source of each cell in `linecache`, under the name that its code has as a file. A test gets the
definition of the function, and of what that uses: imports and definitions of other cells, and the values of names.
"""

from __future__ import annotations

import ast
import builtins
import linecache
import os
import re
import symtable
from collections.abc import Iterable, Iterator
from typing import Any, Final

from flowtrace.errors import ReplayError
from flowtrace.replaying.load_script import MAIN
from flowtrace.replaying.python_source import Writer, layout
from flowtrace.values.encode import encode
from flowtrace.values.redaction import secret_names
from flowtrace.values.scrub import without_lookalikes

_CELL: Final = re.compile(r"<ipython-input-.*>|.*[/\\]ipykernel_\d+[/\\]\d+\.py")
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def is_cell(file: str | None) -> bool:
    """Return True if a file's name is one that IPython gives the code of a cell."""
    return file is not None and _CELL.fullmatch(file) is not None and not os.path.exists(file)


def with_definitions(test: str, imported: Iterable[tuple[str, str]], namespace: dict[str, Any]) -> str:
    """Return the source of a test with definitions in the place of its imports from the notebook.

    Args:
        test: the complete file.
        imported: what it imports from there, and the name that it has in the test.
        namespace: the names of the notebook.

    Raises:
        ReplayError: what the cells defined uses a value that can't be written.
    """
    cells = _Cells(namespace)
    for name, _ in imported:
        cells.add(name)
    blocks = [*cells.blocks, *(f"{alias} = {name}" for name, alias in imported if alias != name)]
    lines = [line for line in test.split("\n") if not line.startswith(f"from {MAIN} import ")]
    at = next(number for number, line in enumerate(lines) if line.startswith("def test_"))
    head = "\n".join(lines[:at]).rstrip("\n")
    imports = "\n".join(sorted(line for line in cells.imports if line not in lines))
    return "\n\n\n".join([f"{head}\n{imports}".rstrip("\n"), *blocks, "\n".join(lines[at:])])


class _Cells:
    """Collects definitions, each after what it uses.

    Attributes:
        imports: import statements of cells.
        blocks: definitions.
    """

    def __init__(self, namespace: dict[str, Any]) -> None:
        self.imports: set[str] = set()
        self.blocks: list[str] = []
        self._namespace = namespace
        self._secret = secret_names()
        self._seen: set[str] = set()
        self._found: dict[str, str] = {}
        for file in [file for file in linecache.cache if is_cell(file)]:  # in the order in which they were run
            self._look_at("".join(linecache.getlines(file)))

    def add(self, name: str) -> None:
        """Add what a name stands for, once."""
        if name in self._seen or (name not in self._found and name not in self._namespace):
            return
        self._seen.add(name)
        text = self._found.get(name)
        if text is None:
            self._add_value(name)
        elif text.startswith(("import ", "from ")):
            self.imports.add(text)
        else:
            for used in _names_used(text):
                self.add(used)
            self.blocks.append(text)

    def _look_at(self, cell: str) -> None:
        try:
            tree = ast.parse(cell)
        except (SyntaxError, ValueError, RecursionError):
            return
        for item in tree.body:
            if isinstance(item, ast.Import | ast.ImportFrom):
                for alias in item.names:
                    single = (
                        ast.ImportFrom(item.module, [alias], item.level) if isinstance(item, ast.ImportFrom) else None
                    )
                    self._found[(alias.asname or alias.name).partition(".")[0]] = ast.unparse(
                        ast.fix_missing_locations(single or ast.Import([alias]))
                    )
            elif isinstance(item, _Definition):
                first = min([item.lineno, *(decorator.lineno for decorator in item.decorator_list)])
                self._found[item.name] = "\n".join(cell.splitlines()[first - 1 : item.end_lineno])
            elif isinstance(item, ast.Assign | ast.AnnAssign | ast.AugAssign):
                for name in _bound(item):
                    self._found.pop(name, None)  # what it stands for now is a value

    def _add_value(self, name: str) -> None:
        value = self._namespace[name]
        if encode({name: value}, secret=self._secret).redacted:
            raise ReplayError(f"the value of {name}, which the cell's code uses, is one that a trace hides")
        writer = Writer(MAIN)
        try:
            text = layout(writer.value(value), 0, f"{name} = ")
        except ReplayError as error:
            raise ReplayError(f"the value of {name}, which the cell's code uses, can't be written: {error}") from error
        if writer.names:
            raise ReplayError(
                f"the value of {name}, which the cell's code uses, can't be written: define it in a function"
            )
        if without_lookalikes(text, self._secret) != text:
            raise ReplayError(f"the value of {name}, which the cell's code uses, looks like a secret")
        self.imports |= {f"import {module}" for module in writer.modules}
        self.blocks.append(text)


def _bound(item: ast.Assign | ast.AnnAssign | ast.AugAssign) -> Iterator[str]:
    targets = item.targets if isinstance(item, ast.Assign) else [item.target]
    for target in targets:
        yield from (node.id for node in ast.walk(target) if isinstance(node, ast.Name))


def _names_used(source: str) -> list[str]:
    """Return the global names that a definition uses, other than built-in ones."""
    found: dict[str, None] = {}
    waiting = [symtable.symtable(source, "<cell>", "exec")]
    while waiting:
        table = waiting.pop()
        waiting += table.get_children()
        for symbol in table.get_symbols():
            if symbol.is_global() or (table.get_type() == "module" and symbol.is_referenced()):
                found[symbol.get_name()] = None
    return [name for name in found if not hasattr(builtins, name)]
