"""The source around the line that failed: from the trace, or from the file beside it that has the recorded hash.

A trace can name any file. One is only read where it is a Python file of the working folder, and only shown where the
function that is defined there has the hash of the code that ran: what a page shows, people send to others.
"""

from __future__ import annotations

import io
import os
import tokenize
from functools import lru_cache
from keyword import iskeyword
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flowtrace.cli.common import printable
from flowtrace.cli.step_text import details_of, frames_of, items_in, path_text, short_name

if TYPE_CHECKING:
    from flowtrace.trace.model import Code, SourceLines, Step, Trace

_MOST_BYTES: Final = 1 << 20
_BEFORE: Final = 9
_AFTER: Final = 4
_WIDTH: Final = 300
_STRINGS: Final = {tokenize.STRING, *(getattr(tokenize, f"FSTRING_{part}", -1) for part in ("START", "MIDDLE", "END"))}


def code_of_failure(trace: Trace, step: Step, folders: frozenset[str]) -> dict[str, Any] | None:
    """Return the lines around the line of a step's own function that failed; None where they can't be had.

    Args:
        trace: the trace.
        step: the step that failed.
        folders: of the traced functions.
    """
    code = step.code
    if step.error is None or code is None or code.file is None:
        return None
    details, name = details_of(step.error), code.qualname.rpartition(".")[2]
    hit = _line_in(code.file, name, frames_of(details, folders).own)
    found = None if hit is None else _found(trace, code, hit)
    if hit is None or found is None:
        return None
    first, texts, note = found
    related = [*items_in(details, "causes"), *items_in(details, "exceptions")]
    inner = {_line_in(code.file, name, items_in(item, "frames")) for item in related} - {hit}
    lines = [
        {"number": at, "pieces": pieces, "hit": at == hit, "inner": at in inner, "level": _level(text)}
        for at, (text, pieces) in enumerate(zip(texts, coloured(texts), strict=True), first)
    ]
    return {"title": f"{path_text(code.file)}:{hit}", "note": f"in {short_name(name)} · {note}", "lines": lines}


def _found(trace: Trace, code: Code, hit: int) -> tuple[int, list[str], str] | None:
    """Return the lines round a line of a function, the number of the first, and where they are from."""
    lines = lines_of(code, Path.cwd())
    start = code.line or 0
    if start <= hit < start + len(lines):
        first = max(start, hit - _BEFORE)
        return first, lines[first - start : hit + _AFTER + 1 - start], "this source has the hash of the code that ran"
    held = _held(trace, code.file, hit)
    if held is None:
        return None
    first = max(held.line, hit - _BEFORE)
    texts = held.lines[first - held.line : hit + _AFTER + 1 - held.line]
    return first, texts, "as it was when the trace was written"


def _held(trace: Trace, file: object, line: int) -> SourceLines | None:
    """Return the lines in a trace that a line of a file is one of."""
    return next((item for item in trace.source if item.file == file and 0 <= line - item.line < len(item.lines)), None)


def source_line(trace: Trace, step: Step, frame: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the line of a frame in coloured pieces; none where its source can't be had."""
    code, line = step.code, frame.get("line")
    if not isinstance(line, int):
        return []
    if code is not None and code.line is not None and frame.get("file") == code.file:
        lines = lines_of(code, Path.cwd())
        if 0 <= line - code.line < len(lines):
            return coloured([lines[line - code.line].strip()])[0]
    held = _held(trace, frame.get("file"), line)
    return [] if held is None else coloured([held.lines[line - held.line].strip()])[0]


def _line_in(file: str, name: str, frames: list[dict[str, Any]]) -> int | None:
    """Return the line that the innermost of some frames in a function stands at; None for none."""
    own = [frame for frame in frames if frame.get("file") == file and str(frame.get("function", "")).endswith(name)]
    line = own[-1].get("line") if own else None
    return line if isinstance(line, int) else None


def _level(line: str) -> int:
    """Return how far a line is indented, in steps of four: where it is broken, its rest goes two further."""
    return min((len(line) - len(line.lstrip())) // 4, 6)


def lines_of(code: Code, folder: Path) -> list[str]:
    """Return the lines of a function as they are in a folder's file now; none where it is not the code that ran.

    Args:
        code: where the function is defined, and its hash.
        folder: what the file must be in.
    """
    if code.file is None or code.line is None or code.hash is None or code.hash.algorithm != "blake3":
        return []
    return list(_lines_of(code.file, code.line, code.hash.value, folder))


@lru_cache(maxsize=64)
def _lines_of(file: str, line: int, digest: str, folder: Path) -> tuple[str, ...]:
    from flowtrace.trace.source import definition_in

    text = _text_of(file, folder)
    try:
        found = definition_in(text, line, digest)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
    return () if found is None or found.end_lineno is None else tuple(text.splitlines()[line - 1 : found.end_lineno])


def _text_of(file: str, folder: Path) -> str:
    path = Path(file)
    try:
        real = path.resolve(strict=True)
        is_there = file.endswith(".py") and real.is_file() and real.is_relative_to(folder.resolve())
        if not is_there or os.path.getsize(real) > _MOST_BYTES:
            return ""
        with tokenize.open(real) as source:
            return source.read()
    except (OSError, SyntaxError, ValueError):
        return ""


def coloured(lines: list[str]) -> list[list[tuple[str, str]]]:
    """Return each line in pieces of printable text: with ``k`` for a keyword, ``s`` for a text, ``c`` for a comment."""
    marks: list[list[tuple[int, int, str]]] = [[] for _ in lines]
    source = "\n".join(lines) + "\n"
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            kind = _kind(token)
            if kind:
                _mark(marks, lines, token, kind)
    except (tokenize.TokenError, SyntaxError, IndentationError):
        pass  # the lines begin or end inside of something: what was read so far has its colours
    return [_pieces(line, found) for line, found in zip(lines, marks, strict=True)]


def _kind(token: tokenize.TokenInfo) -> str:
    if token.type in _STRINGS:
        return "s"
    return (
        "c"
        if token.type == tokenize.COMMENT
        else "k"
        if token.type == tokenize.NAME and iskeyword(token.string)
        else ""
    )


def _mark(marks: list[list[tuple[int, int, str]]], lines: list[str], token: tokenize.TokenInfo, kind: str) -> None:
    (first, start), (last, end) = token.start, token.end
    for number in range(first, min(last, len(lines)) + 1):
        length = len(lines[number - 1])
        marks[number - 1].append((start if number == first else 0, end if number == last else length, kind))


def _pieces(line: str, marks: list[tuple[int, int, str]]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    at = 0
    line = line[:_WIDTH].replace("\t", " ")  # one character each, as the marks count
    for start, end, kind in marks:
        found += [("", line[at:start]), (kind, line[start:end])]
        at = end
    found.append(("", line[at:]))
    return [(kind, printable(text)) for kind, text in found if text]
