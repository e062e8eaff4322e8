"""Where a function is defined, and a hash of its code that stays the same when it is moved or reformatted."""

from __future__ import annotations

import ast
import inspect
import textwrap
from functools import lru_cache
from types import CodeType, FunctionType
from typing import Any, Final

from flowtrace.host.signals import let_through
from flowtrace.trace.model import Code, Hash, hash_record
from flowtrace.values import digest

_DEFINITIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)
# fields that hold no meaning, or that only some supported versions fill
_LEFT_OUT: Final = frozenset({"type_comment", "type_ignores", "kind"})


def locate(function: Any) -> Code | None:
    """Return where a function is defined.

    Args:
        function: a function, or any callable with a name.

    Returns:
        Its module, name, file, line and code hash, as far as it has them; None for a callable without a name.
    """
    try:
        return _locate(function)
    except Exception as error:  # the attributes of a callable object may raise anything
        let_through(error)
        return None


def _locate(function: Any) -> Code | None:
    plain = inspect.unwrap(function) if isinstance(function, FunctionType) else function
    name = getattr(plain, "__qualname__", None)
    module = getattr(plain, "__module__", None)
    if not isinstance(name, str) or not isinstance(module, str):
        return None
    code = getattr(plain, "__code__", None)
    if not isinstance(code, CodeType):
        return Code(module=module, qualname=name)
    return Code(
        module=module,
        qualname=name,
        file=code.co_filename,
        line=code.co_firstlineno,
        hash=_code_hash(code),
    )


@lru_cache(maxsize=1024)
def _code_hash(code: CodeType) -> Hash | None:
    """Return the hash of a function's syntax tree, or None where its source can't be read."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(code)))
    except Exception as error:  # no source, or one that was changed in any way since it was loaded
        let_through(error)
        return None
    node: ast.AST = tree
    if code.co_name == "<lambda>":
        # the source is the whole statement around it, in which it may not be the only one
        lambdas = [item for item in ast.walk(tree) if isinstance(item, ast.Lambda)]
        if len(lambdas) != 1:
            return None
        node = lambdas[0]
    return hash_record(digest.hash_bytes(syntax(node).encode("utf-8", "backslashreplace")))


def syntax(node: Any) -> str:
    """Return a syntax tree as text, without positions, docstrings and empty fields.

    The text is the same on every supported Python, for code that all of them can read.
    """
    if isinstance(node, ast.AST):
        fields = ",".join(
            f"{name}={syntax(value)}"
            for name, value in _fields(node)
            if name not in _LEFT_OUT and value is not None and value != []
        )
        return f"{type(node).__name__}({fields})"
    if isinstance(node, list):
        return f"[{','.join(map(syntax, node))}]"
    return repr(node)


def _fields(node: ast.AST) -> list[tuple[str, Any]]:
    pairs = list(ast.iter_fields(node))
    if isinstance(node, _DEFINITIONS) and ast.get_docstring(node, clean=False) is not None:
        return [(name, value[1:] if name == "body" else value) for name, value in pairs]
    if isinstance(node, ast.JoinedStr):  # 3.12 ends some format specs with an empty text
        return [("values", [part for part in node.values if not isinstance(part, ast.Constant) or part.value != ""])]
    return pairs
