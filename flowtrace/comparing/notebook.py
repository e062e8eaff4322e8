"""A comparison as HTML, which notebooks show: plain elements without styles or scripts, every text escaped."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING, Final

from flowtrace.host.log import printable
from flowtrace.trace.notebook import cut, table
from flowtrace.values.shown import value_text

if TYPE_CHECKING:
    from flowtrace.comparing.result import Divergence, TraceDiff

_MOST_ROWS: Final = 50
_LONG: Final = 500  # characters


def diff_html(found: TraceDiff) -> str:
    """Return a comparison as HTML: the verdict, the first divergence in detail, and all of them by kind and node."""
    verdict = f"{found.verdict}: {found.a} and {found.b}, {found.compared:,} steps compared"
    parts = ["<div>", f"<p><b>{_text(verdict)}</b></p>"]
    if found.first is not None:
        title = f"first divergence: {found.first.node_id}: {found.first.kind}"
        parts += [f"<p>{_text(title)}</p>", *table(("", "A", "B"), _rows(found.first))]
    if len(found.groups) > 1:
        rows = ((str(group.kind), cut(group.node_id, _LONG), str(group.count)) for group in found.groups[:_MOST_ROWS])
        parts += table(("divergence", "node", "times"), rows)
    return "".join([*parts, "</div>"])


def _rows(first: Divergence) -> Iterator[tuple[str, str, str]]:
    yield "step", first.a or "", first.b or ""
    for aspect in first.aspects:
        if not aspect.changes:
            yield aspect.what.replace("_", " "), _short(aspect.a), _short(aspect.b)
        for change in aspect.changes[:_MOST_ROWS]:
            yield f"{aspect.what} {cut(change.pointer, _LONG)}", *change.sides(_short, absent="")


def _short(value: object) -> str:
    return cut(value if isinstance(value, str) else value_text(value), _LONG)


def _text(text: str) -> str:
    return escape(printable(cut(text, _LONG)))
