r"""Secrets in the tables of a text: the cells below a secret name, or beside one.

A table has bars between its cells (Markdown, psql, MySQL, Polars), separators (CSV; its lines may also be written with
``\n``), columns that stand below each other (pandas, SQL*Plus, docker), or the tags of HTML. Where a row does not fit
its header, because a value holds a separator, the rest of the row is hidden.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from flowtrace.values.redaction import MARKER, SecretNames
from flowtrace.values.secret_patterns import Span, compiled

_BREAK: Final = r"\r?\n|(?:\\+r)?\\+n"
_BAR: Final = r"(?<!\\)[|│┆┃║¦]"
_BARS: Final = frozenset("|│┆┃║¦")
_RULE: Final = r"(?=.*[-=─-╿])[\s|¦+=:~*─-╿-]+"
_SEGMENT: Final = r"[-=─━═]+"
_NAME: Final = r"\w[\w./#-]*(?: [\w./#()-]+){0,2}"
_NAME_LIST: Final = r"""[\[(](\\*["'][\w ./#-]{1,60}\\*["'](?:, ?\\*["'][\w ./#-]{1,60}\\*["'])++),?[\])]"""
_ITEM_LIST: Final = r"""(?x)[\s,\])]{0,9}(?:\\*["']\w{1,20}\\*["']:[ ]?(?:\[[\d, ]{0,2000}\])?)?[\[(]{1,2}
    ((?:'[^'\n]*+'|"[^"\n]*+"|[^\[\]()'"\n])*+)[\])]"""
_CODE: Final = r"(?:del|from|global|import|nonlocal|return|yield)\b"
_PREFIX: Final = r".*(?:[\"'`]|: )"
_OF_RULES: Final = tuple("|¦+=:~*-─━│┆┃┌┏╭╔├┡╞╟╠╡═┄╌┼╪╬└╰╚┗╘")
_NAMES: Final = r"[\w \t#./()*:-]+"
_BESIDE: Final = r"\s*(\w[\w./-]{0,59}) {2,}(\S+(?: \S+)*)\s*$"
_CHUNK: Final = r"\S+(?: \S+)*"
_OPEN: Final = r"\s*\\*\""
_IN_QUOTES: Final = r"(?s)[bru]?(\\*[\"'])(.*)\1"
_QUOTED: Final = r"\s*[bru]?(\\*([\"'])).*?\1(?!\2)\s*"
_TAGGED_ROW: Final = r"(?is)<tr\b[^>]{0,500}>(.*?)(?=<tr\b|</table|\Z)"
_TAGGED_CELL: Final = r"(?is)<t[hd]\b[^>]{0,500}>\s*(.*?)\s*(?=<t[hd]\b|</t[hdr]|\Z)"
_TAG: Final = r"<[^<>]{1,200}>"
_ORDINARY: Final = r"(?i)|-+|n/?a|none|null|true|false|yes|no|str|string|text|object|int|i64|bytes|\.\.\.|…"
_LONGEST: Final = 4000  # characters of a line; a longer one is no header, and as a row it is hidden
_LONGEST_NAME: Final = 60
_SIGNS: Final = ("\n", "\\n", "|", "<t", "<T", "[", "(")
_SEPARATORS: Final = ",;\t"
_MARKS: Final = " \t*_`\"'\\"


def without_table_secrets(text: str, secret: SecretNames) -> str:
    """Return a text with the marker in the cells of its tables that belong to secret names.

    Args:
        text: any text.
        secret: the test for secret names.
    """
    if text.isascii() and not any(sign in text for sign in _SIGNS):
        return text
    pieces: list[str] = []
    at = 0
    for span in sorted({*_Lines(text, secret).hidden(), *_tagged(text, secret), *_listed(text, secret)}):
        inside = compiled(_IN_QUOTES).fullmatch(text, *span)
        start, end = inside.span(2) if inside else span
        if end > start >= at and MARKER not in text[start:end] and not compiled(_ORDINARY).fullmatch(text, start, end):
            pieces += [text[at:start], MARKER]
            at = end
    return "".join([*pieces, text[at:]])


def _tagged(text: str, secret: SecretNames) -> Iterator[Span]:
    """Return where the secrets are in tables of HTML: below a name of the first row, or beside one in another row."""
    if "<t" not in text and "<T" not in text:
        return
    columns: list[int] = []
    for row in compiled(_TAGGED_ROW).finditer(text):
        cells = [Span(*found.span(1)) for found in compiled(_TAGGED_CELL).finditer(text, row.start(1), row.end())]
        named = [_is_named(compiled(_TAG).sub("", text[start:end]), secret) for start, end in cells]
        if any(named):
            columns = [column for column, is_secret in enumerate(named) if is_secret] if len(named) > 2 else columns
            if len(named) == 2 and named[0]:
                yield cells[1]
            elif len(named) == 2:
                columns = [1]
        else:
            yield from (cells[column] for column in columns if column < len(cells))


def _is_named(text: str, secret: SecretNames) -> bool:
    name = text.strip(_MARKS)
    return len(name) <= _LONGEST_NAME and compiled(_NAME).fullmatch(name) is not None and secret(name)


def _listed(text: str, secret: SecretNames) -> Iterator[Span]:
    """Return where the secrets are in lists that follow a list of names: ``[['user', 'pin'], ['ada', '1']]``."""
    at = 0
    while found := compiled(_NAME_LIST).search(text, at):
        at = found.end()
        names = found[1].split(",")
        named = [column for column, name in enumerate(names) if _is_named(name, secret)]
        while named and (row := compiled(_ITEM_LIST).match(text, at)):
            at = row.end()
            for start, end in _under(named, len(names), list(_fields(text, Span(*row.span(1)), ","))):
                if named != [0] or len(names) > 2 or not is_next_name(text[start:end]):
                    yield Span(start, end)


def _under(named: list[int], width: int, cells: list[Span]) -> Iterator[Span]:
    """Return the cells of a row below names; all from the first of them on where the row has another width."""
    if len(cells) == width:
        yield from (cells[column] for column in named)
    else:
        yield Span(cells[min(named[0], len(cells) - 1)].start, cells[-1].end)


def _fields(text: str, line: Span, separator: str) -> Iterator[Span]:
    """Return the fields of a line; one whose quote is never closed holds the rest of the text."""
    at = line.start
    while at <= line.end:
        quoted = compiled(_QUOTED).match(text, at, line.end)
        if quoted is not None and (quoted.end() == line.end or text[quoted.end()] == separator):
            end = quoted.end()
        elif quoted is None and compiled(_OPEN).match(text, at, line.end):
            end = len(text)
        else:
            end = text.find(separator, at, line.end)
            end = line.end if end < 0 else end
        yield _stripped(text, Span(at, end))
        at = end + 1


def is_next_name(text: str) -> bool:
    """Return True if what looks like a cell below a secret name may be the next name in a list of pairs."""
    return compiled(r"b?\\*[\"']?[A-Za-z][A-Za-z_-]{0,30}\\*[\"']?").fullmatch(text) is not None


class _Lines:
    """Reads the lines of one text; each line is a row of one table of a kind at most.

    Args:
        text: the text.
        secret: the test for secret names.
    """

    def __init__(self, text: str, secret: SecretNames) -> None:
        self._text = text
        self._secret = secret
        breaks = [found.span() for found in compiled(_BREAK).finditer(text)]
        ends = [(0, 0), *breaks, (len(text), len(text))]
        self._lines = [Span(before[1], after[0]) for before, after in pairwise(ends)]
        self._rows: set[tuple[str, int]] = set()

    def hidden(self) -> Iterator[Span]:
        """Return where the cells are that must be hidden, in any order; some may be there twice."""
        rows_with_bars = 0
        for at, line in enumerate(self._lines):
            text = self._of(line)
            if len(text) > _LONGEST or self._is_rule(text):
                continue
            if _BARS.isdisjoint(text):
                yield from self._aligned(at, text)
                rows_with_bars = 0
            else:
                yield from self._barred(at, rows_with_bars == 0)
                rows_with_bars += 1
            for separator in _SEPARATORS:
                if separator in text:
                    yield from self._separated(at, text, separator)

    def _of(self, span: Span) -> str:
        return self._text[span.start : span.end]

    def _named(self, span: Span) -> bool:
        return _is_named(self._of(span), self._secret)

    def _is_rule(self, text: str) -> bool:
        return text.lstrip()[:1] in _OF_RULES and compiled(_RULE).fullmatch(text) is not None

    def _next(self, at: int) -> str:
        return self._of(self._lines[at + 1]) if at + 1 < len(self._lines) else ""

    def _below(self, at: int, kind: str) -> Iterator[Span]:
        """Return the lines below a header, without the rules of the table, up to an empty line below the first."""
        is_first = (kind, at) not in self._rows
        for row in range(at + 1, len(self._lines) if is_first else 0):
            self._rows.add((kind, row))
            text = self._of(self._lines[row]).strip()
            if text and not self._is_rule(text):
                yield self._lines[row]
                is_first = False
            elif not text and not is_first:
                return

    # --- bars

    def _cells(self, line: Span) -> list[Span]:
        """Return the cells of a line between its bars; empty ones at its ends do not count."""
        text = self._text
        bars = [found.span() for found in compiled(_BAR).finditer(text, line.start, line.end)]
        edges = [(line.start, line.start), *bars, (line.end, line.end)]
        cells = [_stripped(text, Span(before[1], after[0])) for before, after in pairwise(edges)]
        inner = range(1, len(cells) - 1)
        return [cell for at, cell in enumerate(cells) if at in inner or cell.end > cell.start] if bars else []

    def _barred(self, at: int, is_first: bool) -> Iterator[Span]:
        cells = self._cells(self._lines[at])
        if self._of(self._lines[at]).lstrip().startswith("||"):  # Jira: a header has two bars
            cells = [cell for cell in cells if cell.end > cell.start]
        named = [column for column, cell in enumerate(cells) if self._named(cell)]
        is_header = is_first or ((len(cells) > 2 or named == [1]) and self._is_rule(self._next(at)))
        if named and is_header:
            for row in self._below(at, "bars"):
                found = self._cells(row)
                if not found:
                    break
                yield from _under(named, len(cells), found)
        if named == [0] and len(cells) == 2:
            yield cells[1]
        elif not is_header:
            yield from (cells[column + 1] for column in named if column + 1 < len(cells))

    # --- separators

    def _separated(self, at: int, text: str, separator: str) -> Iterator[Span]:
        named = self._header(text, separator)
        width = least = text.count(separator) + 1
        for row in self._below(at, separator) if named else ():
            cells = list(_fields(self._text, row, separator)) if row.end - row.start <= _LONGEST else [row, row]
            if len(cells) < least:
                return
            least = 2
            yield from _under(named, width, cells)

    def _header(self, text: str, separator: str) -> list[int]:
        """Return the columns of a header that are secret; none where the line is no header."""
        first, *others = text.split(separator)
        prefix = compiled(_PREFIX).match(first.rstrip(_MARKS))
        if prefix is not None and (not prefix[0].endswith(" ") or f"{separator} " not in text):
            first = first[prefix.end() :]
        named: list[int] = []
        for column, part in enumerate((first, *others)):
            name = part.strip(_MARKS)
            if len(name) > _LONGEST_NAME or not compiled(_NAME).fullmatch(name) or compiled(_CODE).match(name):
                return []
            named += [column] if self._secret(name) else []
        return named

    # --- columns

    def _aligned(self, at: int, text: str) -> Iterator[Span]:
        rule = self._next(at)
        if self._is_rule(rule):
            yield from self._ruled(at, rule)
        elif "  " in text:
            beside = compiled(_BESIDE).match(text)
            if beside is not None and self._secret(beside[1]):
                start = self._lines[at].start
                yield Span(start + beside.start(2), start + beside.end(2))
            if compiled(_NAMES).fullmatch(text):
                yield from self._below_names(at, self._chunks(self._lines[at]))

    def _below_names(self, at: int, chunks: list[Span]) -> Iterator[Span]:
        """Return what touches the columns of the secret names in a line."""
        named = [span for chunk in chunks for span in self._secret_parts(chunk)]
        is_first, start = True, self._lines[at].start
        for row in self._below(at, "columns") if named else ():
            cells = self._chunks(row)
            if is_first and len(cells) < 2:
                return
            is_first = False
            for name in named:
                moved = Span(name.start - start + row.start, name.end - start + row.start)
                touched = [cell for cell in cells if cell.start < moved.end and cell.end > moved.start]
                if not any(MARKER in self._of(cell) for cell in touched):
                    yield from touched

    def _chunks(self, line: Span) -> list[Span]:
        return [Span(*found.span()) for found in compiled(_CHUNK).finditer(self._text, line.start, line.end)]

    def _secret_parts(self, chunk: Span) -> list[Span]:
        parts = [Span(*found.span()) for found in compiled(r"\S+").finditer(self._text, chunk.start, chunk.end)]
        return [part for part in parts if self._named(part)] or ([chunk] if self._named(chunk) else [])

    def _ruled(self, at: int, rule: str) -> Iterator[Span]:
        """Return the cells below a header with a rule, whose parts are as wide as the columns."""
        starts = [found.start() for found in compiled(_SEGMENT).finditer(rule)]
        columns = list(zip(starts, [*starts[1:], None], strict=True))
        named = [column for column in columns if self._named(_part(self._lines[at], *column))]
        for row in self._below(at, "columns") if named else ():
            if not self._of(row).lstrip().startswith("("):  # (1 row)
                yield from (_stripped(self._text, _part(row, *column)) for column in named)


def _part(line: Span, start: int, end: int | None) -> Span:
    stop = line.end if end is None else min(line.end, line.start + end)
    return Span(min(line.start + start, stop), stop)


def _stripped(text: str, span: Span) -> Span:
    part = text[span.start : span.end]
    end = span.start + len(part.rstrip())
    return Span(min(end, span.end - len(part.lstrip())), end)
