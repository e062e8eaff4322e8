"""Where a function is defined, and a hash of its code that stays the same when it is moved or reformatted."""

from __future__ import annotations

import inspect
import linecache
import textwrap
import tokenize
from ast import (
    AST,
    AsyncFunctionDef,
    ClassDef,
    Constant,
    FunctionDef,
    JoinedStr,
    Lambda,
    Module,
    PyCF_ONLY_AST,
    get_docstring,
    iter_child_nodes,
    iter_fields,
)
from functools import lru_cache
from inspect import unwrap
from io import BytesIO, StringIO
from stat import S_ISREG
from types import CodeType, FunctionType
from typing import Any, Final
from zipimport import zipimporter

from flowtrace.host.signals import let_through
from flowtrace.host.system import copy_of, open_file, os, re
from flowtrace.trace.model import Code, Hash, hash_record
from flowtrace.values.encoded import hash_bytes

_DEFINITIONS: Final = (FunctionDef, AsyncFunctionDef, ClassDef, Module)
_compile: Final = compile
_dedent: Final = copy_of(textwrap, re=re).dedent
_tokenize: Final = copy_of(tokenize, re=re)
_getblock: Final = copy_of(inspect, tokenize=_tokenize).getblock
_read_before: Final[dict[str, Any]] = linecache.cache
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
    except BaseException as error:  # the attributes of a callable object may raise anything
        let_through(error)
        return None


def _locate(function: Any) -> Code | None:
    plain = unwrap(function) if isinstance(function, FunctionType) else function
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
        hash=_code_hash(code, _archive_of(plain), module),
    )


@lru_cache(maxsize=1024)
def _code_hash(code: CodeType, archive: zipimporter | None, module: str) -> Hash | None:
    """Return the hash of a function's syntax tree, or None where its source can't be read."""
    try:
        lines = _lines_of(code.co_filename, archive, module)
        source = _dedent("".join(_getblock(lines[code.co_firstlineno - 1 :])))
        tree = _compile(source, "<source>", "exec", PyCF_ONLY_AST)
    except BaseException as error:  # no source, or one that was changed in any way since it was loaded
        let_through(error)
        return None
    node: AST = tree
    if code.co_name == "<lambda>":
        # the source is the whole statement around it, in which it may not be the only one
        lambdas = [item for item in _nodes(tree) if isinstance(item, Lambda)]
        if len(lambdas) != 1:
            return None
        node = lambdas[0]
    return hash_record(hash_bytes(syntax(node).encode("utf-8", "backslashreplace")))


def _nodes(tree: AST) -> list[AST]:
    """Return all nodes of a syntax tree. `ast.walk` imports something in each call, which the program might see."""
    found = [tree]
    for node in found:
        found.extend(iter_child_nodes(node))
    return found


def _archive_of(function: Any) -> zipimporter | None:
    loader = getattr(function, "__globals__", {}).get("__loader__")
    return loader if type(loader) is zipimporter else None


def _lines_of(file: str, archive: zipimporter | None, module: str) -> list[str]:
    """Return the lines of a source file as it is now, or what a program has put into `linecache` for code without one.

    `inspect` would look through all modules for the one that the code is from, and ask each of them.
    """
    if file in _read_before and len(entry := _read_before[file]) > 1 and entry[1] is None:
        return list(entry[2])
    if archive is not None:
        return (archive.get_source(module) or "").splitlines(keepends=True)
    if not S_ISREG(os.stat(file).st_mode):  # as `python /dev/stdin` names a pipe that the program may read
        return []
    with open_file(file, "rb") as source:
        data = source.read()
    encoding, _ = _tokenize.detect_encoding(BytesIO(data).readline)
    return StringIO(data.decode(encoding), newline=None).readlines()


def syntax(node: Any) -> str:
    """Return a syntax tree as text, without positions, docstrings and empty fields.

    The text is the same on every supported Python, for code that all of them can read.
    """
    if isinstance(node, AST):
        fields = ",".join(
            f"{name}={syntax(value)}"
            for name, value in _fields(node)
            if name not in _LEFT_OUT and value is not None and value != []
        )
        return f"{type(node).__name__}({fields})"
    if isinstance(node, list):
        return f"[{','.join(map(syntax, node))}]"
    return repr(node)


def _fields(node: AST) -> list[tuple[str, Any]]:
    pairs = list(iter_fields(node))
    if isinstance(node, _DEFINITIONS) and get_docstring(node, clean=False) is not None:
        return [(name, value[1:] if name == "body" else value) for name, value in pairs]
    if isinstance(node, JoinedStr):  # 3.12 ends some format specs with an empty text
        return [("values", [part for part in node.values if not isinstance(part, Constant) or part.value != ""])]
    return pairs
