"""The source of a traced function, where the file at hand is still the code that ran: the hash of its syntax tree says.

Nothing of it is run, and nothing of it is shown.
"""

from __future__ import annotations

from ast import (
    AST,
    AsyncFunctionDef,
    Attribute,
    AugAssign,
    BinOp,
    Constant,
    Div,
    ExceptHandler,
    FloorDiv,
    FunctionDef,
    If,
    Mod,
    Module,
    Name,
    Raise,
    Try,
    TryStar,
    iter_child_nodes,
    parse,
    stmt,
    walk,
)
from itertools import pairwise
from stat import S_ISREG
from typing import Any, Final, NamedTuple, TypeGuard
from warnings import catch_warnings, simplefilter

from flowtrace.host.signals import let_through
from flowtrace.host.system import os
from flowtrace.trace.files import FILE, read_up_to
from flowtrace.trace.model import Code
from flowtrace.values.encoded import hash_bytes, syntax

_MOST_BYTES: Final = 1 << 22  # of a source file


# --- what a line uses


class Used(NamedTuple):
    """Names and texts in the failing line of a function.

    Attributes:
        names: of variables and attributes, and texts, which may be keys.
        texts: only the texts.
        divisors: only those by which it divides.
    """

    names: frozenset[str]
    texts: frozenset[str]
    divisors: frozenset[str]


def used_at(code: Code | None, line: int) -> Used | None:
    """Return what a line of a function uses; None where its source is not at hand, or is not what ran.

    Of a line that raises, it is the conditions round it; inside an ``except``, also what was tried.

    Args:
        code: where the function is defined.
        line: its number in the file.
    """
    try:
        tree = None if code is None else _definition(code)
        nodes = [] if tree is None else _nodes_at(tree, line)
    except Exception as error:  # whatever is in that file, it is no reason to fail
        let_through(error)
        return None
    if not nodes:
        return None
    inner = [item for node in nodes for item in walk(node)]
    divisors = [item.right if isinstance(item, BinOp) else item.value for item in inner if _divides(item)]
    names, texts = _names_in(inner)
    return Used(names, texts, _names_in([item for node in divisors for item in walk(node)])[0])


def _names_in(nodes: list[AST]) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names and texts of some nodes, and the texts alone."""
    texts = {item.value for item in nodes if isinstance(item, Constant) and isinstance(item.value, str)}
    names = {item.id for item in nodes if isinstance(item, Name)}
    attributes = {item.attr for item in nodes if isinstance(item, Attribute)}
    return frozenset(texts | names | attributes), frozenset(texts)


def _divides(node: AST) -> TypeGuard[BinOp | AugAssign]:
    return isinstance(node, BinOp | AugAssign) and isinstance(node.op, Div | FloorDiv | Mod)


def definition_in(source: str | bytes, line: int, digest: str) -> FunctionDef | AsyncFunctionDef | None:
    """Return the definition of a function in a source, if it begins at a line, and its syntax tree has a hash.

    Args:
        source: of a Python file.
        line: the function's first line, that of its first decorator.
        digest: 64 lowercase hex digits.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: it is no Python that can be read.
    """
    with catch_warnings():
        simplefilter("ignore")  # what Python says about that file was said when it ran
        tree = parse(source)
    functions = (node for node in walk(tree) if isinstance(node, FunctionDef | AsyncFunctionDef))
    node = next((node for node in functions if _first_line(node) == line), None)
    if node is None:
        return None
    text = syntax(Module(body=[node], type_ignores=[]))
    return node if hash_bytes(text.encode("utf-8", "backslashreplace")).value == digest else None


def _first_line(node: FunctionDef | AsyncFunctionDef) -> int:
    return min([node.lineno, *(item.lineno for item in node.decorator_list)])


def _definition(code: Code) -> AST | None:
    """Return the definition of a function in its file, if its hash is the recorded one."""
    if code.file is None or code.line is None or code.hash is None:
        return None
    return definition_in(_read(code.file), code.line, code.hash.value)


def _read(file: str) -> bytes:
    if not file.endswith(".py") or file.startswith(("//", "\\\\")):  # a trace names it: no other computer is asked
        return b""
    descriptor = os.open(file, FILE)
    try:
        status = os.fstat(descriptor)
        return read_up_to(_MOST_BYTES, descriptor) if S_ISREG(status.st_mode) else b""
    finally:
        os.close(descriptor)


def _nodes_at(tree: AST, line: int) -> list[AST]:
    """Return the innermost statement at a line, without its body, and what led to it."""
    above: list[AST] = []
    node: AST | None = tree
    while node is not None:
        above.append(node)
        node = next((child for child in _statements(node) if _covers(child, line)), None)
    last = above[-1]
    found = _without_body(last) if last is not tree else []
    for outer, inner in pairwise(above):
        if isinstance(inner, ExceptHandler) and isinstance(outer, Try | TryStar):
            found += outer.body
        if isinstance(last, Raise) and isinstance(outer, If):
            found.append(outer.test)
    return found


def _statements(node: AST) -> list[AST]:
    return [child for child in iter_child_nodes(node) if isinstance(child, stmt | ExceptHandler)]


def _covers(node: Any, line: int) -> bool:
    first, last = int(node.lineno), int(node.end_lineno or node.lineno)
    return first <= line <= last


def _without_body(node: AST) -> list[AST]:
    inner = _statements(node)
    return [child for child in iter_child_nodes(node) if child not in inner] if inner else [node]
