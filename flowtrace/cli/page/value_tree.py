"""A recorded value as people read it, in Python's words: a small tree that a page unfolds, and the same on one line.

A part of such a tree is JSON: null, true, false or a whole number for itself, a text for a `str` with its quotes, and
an array for all else. The first item of an array says what it is:

- ``["v", type, text]``: a value of a type;
- ``["l", type, items, more]``: a sequence or a set, and how many items are not shown;
- ``["m", type, members, more]``: names (or keys as text) with values in turn: ``[name, value, name, value, ...]``;
- ``["t", title, columns, rows]``: the first rows of an array or a frame; ``columns`` is null for an array;
- ``["h", kind, text]``: a part that is ``redacted``, ``opaque`` or ``cut``.

Every text in it is `printable`, so that it can be shown anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from flowtrace.cli.common import printable
from flowtrace.values.arrays_in_short import FindArray, in_short
from flowtrace.values.forms import TAG
from flowtrace.values.redaction import MARKER
from flowtrace.values.shown import MALFORMED, as_python, class_name, hidden, leaf

Shown = Any
"""A part of the tree that the module describes."""
_TEXT: Final = 4000
_ITEMS: Final = 100
_NAME: Final = 200
_DEPTH: Final = 12
_NODES: Final = 1500
_EXACT: Final = 2**53
_BYTES: Final = 24
_TABLES: Final = re.compile(r"(?:array|pandas\.(?:frame|series|index)|polars\.\w+|arrow\.\w+)\Z")


def shown(value: Any, find: FindArray = lambda _: None) -> Shown:
    """Return the tree of a captured value.

    Args:
        value: JSON-like objects, as a trace holds them.
        find: finds the content of large arrays.
    """
    return _Shower(find).value(value, 0)


def as_line(tree: Shown, width: int) -> str:
    """Return a tree on one line, as Python's ``repr`` would have it, cut to a number of characters."""
    pieces: list[str] = []
    _write(tree, pieces, [width])
    text = "".join(pieces)
    return text if len(text) <= width else f"{text[: max(1, width - 1)]}…"


class _Shower:
    """Makes the tree of one value; counts its parts, since a value in a file may have any number of them."""

    def __init__(self, find: FindArray) -> None:
        self.find = find
        self.left = _NODES

    def value(self, value: Any, depth: int) -> Shown:
        self.left -= 1
        if isinstance(value, str):
            return ["h", "redacted", "redacted"] if value == MARKER else _quoted(value)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return value if abs(value) < _EXACT else ["v", "int", _clipped(str(value))]
        if isinstance(value, float):
            return ["v", "float", repr(value)]
        if depth >= _DEPTH or self.left <= 0:
            return ["h", "cut", "more is in the trace"]
        if isinstance(value, list):
            return self.items("list", value, depth)
        if TAG in value:
            return self.tagged(value, depth)
        return self.members("dict", value.items(), len(value), depth, quoted=True)

    def items(self, kind: str, items: Any, depth: int) -> Shown:
        found = list(items) if isinstance(items, list) else []
        kept = []
        for item in found[:_ITEMS]:
            if self.left <= 0:
                break
            kept.append(self.value(item, depth + 1))
        return ["l", kind, kept, len(found) - len(kept)]

    def members(
        self, kind: str, pairs: Iterable[tuple[Any, Any]], count: int, depth: int, *, quoted: bool = False
    ) -> Shown:
        found: list[Any] = []
        for name, value in pairs:
            if self.left <= 0 or len(found) >= 2 * _ITEMS:
                break
            found += [self.key(name, quoted, depth), self.value(value, depth + 1)]
        return ["m", kind, found, count - len(found) // 2]

    def key(self, name: Any, quoted: bool, depth: int) -> str:
        if isinstance(name, str):
            return _quoted(name, _NAME) if quoted else _clipped(name, _NAME)
        return as_line(self.value(name, depth + 1), _NAME)

    def tagged(self, form: dict[str, Any], depth: int) -> Shown:
        kind = form[TAG]
        if not isinstance(kind, str):
            return self.rest("?", form, depth)
        missing = hidden(form)
        if missing is not None:
            return ["h", kind, _clipped(missing)]
        try:
            if _TABLES.match(kind):
                return self.table(kind, form)
            found = leaf(form)
            if found is not None:
                return ["v", _clipped(found[0], _NAME), _clipped(found[1])]
            return self.inner(kind, form, depth)
        except MALFORMED:
            return self.rest(kind, form, depth)

    def inner(self, kind: str, form: dict[str, Any], depth: int) -> Shown:
        name = _clipped(class_name(form.get("class", kind)), _NAME)
        if kind in ("dict", "mappingproxy"):
            pairs = [(key, value) for key, value in form["items"]]
            return self.members(name, pairs, len(pairs), depth, quoted=True)
        if "fields" in form and isinstance(form["fields"], dict):
            return self.members(name, form["fields"].items(), len(form["fields"]), depth)
        if kind == "codec":
            return self.members(name, [("value", form["value"])], 1, depth)
        if kind == "exception":
            return self.items(name, form["args"], depth)
        if isinstance(form.get("items"), list):
            return self.items(name, form["items"], depth)
        return self.rest(name, form, depth)

    def rest(self, name: str, form: dict[str, Any], depth: int) -> Shown:
        pairs = [(key, value) for key, value in form.items() if key not in (TAG, "class")]
        return self.members(_clipped(name, _NAME), pairs, len(pairs), depth)

    def table(self, kind: str, form: dict[str, Any]) -> Shown:
        short = in_short(form, self.find)
        if short is None:
            raise ValueError(kind)
        ((title, content),) = short.items()
        if isinstance(content, dict):
            columns = [_clipped(str(name), _NAME) for name in content]
            texts = [
                list(map(_cell, cells)) if isinstance(cells, list) else [_cell(cells)] for cells in content.values()
            ]
            rows = [
                [texts[at][row] if row < len(texts[at]) else "" for at in range(len(columns))]
                for row in range(max(map(len, texts), default=0))
            ]
            return ["t", _clipped(title, _NAME), columns, rows]
        rows = [list(map(_cell, row[:_BYTES])) if isinstance(row, list) else [_cell(row)] for row in content]
        flat = [[cell for row in rows for cell in row]] if all(len(row) == 1 for row in rows) and rows else rows
        return ["t", _clipped(title, _NAME), None, flat]


# --- parts of a tree


def _quoted(text: str, length: int = _TEXT) -> str:
    return (
        _clipped(repr(text), length)
        if len(text) <= length
        else f"{_clipped(repr(text[:length]), length + 8)}… ({len(text):,} characters)"
    )


def _clipped(text: str, length: int = _TEXT) -> str:
    return printable(text) if len(text) <= length else f"{printable(text[:length])}…"


def _cell(value: Any) -> str:
    return _clipped(value if isinstance(value, str) else str(value), 40)


# --- on one line


def _write(tree: Shown, pieces: list[str], room: list[int]) -> None:
    """Append the pieces of a tree's line, until there are more characters than are wanted."""

    def put(text: str) -> None:
        pieces.append(text)
        room[0] -= len(text)

    if room[0] < 0:
        return
    if not isinstance(tree, list):
        put(tree if isinstance(tree, str) else repr(tree))
    elif tree[0] == "v":
        put(as_python(tree[1], tree[2]))
    elif tree[0] == "h":
        put(f"<{tree[2]}>")
    elif tree[0] == "t":
        put(f"<{tree[1]}>")
    else:
        _write_inner(tree, pieces, room, put)


def _write_inner(tree: Shown, pieces: list[str], room: list[int], put: Callable[[str], None]) -> None:
    kind, name, parts, more = tree
    is_plain = name in ("list", "dict", "set")
    start, end = ("[", "]") if name == "list" else ("{", "}") if is_plain else (f"{name}(", ")")
    put(start)
    step = 1 if kind == "l" else 2
    for at in range(0, len(parts), step):
        if room[0] < 0:
            return
        put(", " if at else "")
        if kind == "m":
            put(f"{parts[at]}: " if is_plain or parts[at][:1] in "'\"" else f"{parts[at]}=")
        _write(parts[at + step - 1], pieces, room)
    put(f", … {more} more" if more else "")
    put(end)
