"""The text of a trace file, made step by step: no trace is in memory as a whole while it is written.

The layout is that of `flowtrace.values.json.pretty`. A captured value goes from its canonical bytes to its lines
without becoming objects in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Final, cast

from flowtrace.trace.model import Record, Step, Trace, changed, in_lines, to_json

_BEFORE, _AFTER = b"[\n  [\n    ", b"\n  ]\n]"  # two lists around a step give its lines their indent
_BEFORE_FIELD: Final = b"[\n  [\n    [\n      "
_AFTER_FIELD: Final = b"\n    ]\n  ]\n]"
_BETWEEN: Final = b",\n    "
_GAP: Final = b"[\n    null\n  ]"
"""Stands for a list of steps in the text of an envelope; no other list in it has this indent."""


def step_text(step: Step) -> bytes:
    """Return the lines of a step as they stand in a trace file.

    Args:
        step: its record; captured values may be `Raw`.
    """
    return item_text(in_lines(b"[[%b]]" % _compact(step)))


def field_text(record: Record) -> bytes:
    """Return the lines of a record that is a field of a step."""
    return in_lines(b"[[[%b]]]" % _compact(record))[len(_BEFORE_FIELD) : -len(_AFTER_FIELD)]


def together(texts: Iterable[bytes]) -> bytes:
    """Return the lines of some steps that stand next to each other."""
    return _BETWEEN.join(texts)


def with_run(text: bytes, run_id: str) -> bytes:
    """Return the lines of a step with the id of its run as their last field."""
    return b'%b,\n      "run_id": "%b"\n    }' % (text[: text.rindex(b"\n")], run_id.encode())


def trace_text(envelope: Trace, steps: Iterable[bytes], in_flight: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the text of a trace file in pieces.

    Args:
        envelope: the other fields; its own steps do not count.
        steps: the lines of each finished step.
        in_flight: those of each running step.
    """
    gap = cast("list[Step]", [None])
    waiting = iter(in_flight)
    first = next(waiting, None)
    envelope = changed(envelope, steps=gap, in_flight=[] if first is None else gap)
    start, *rest = in_lines(_compact(envelope)).split(_GAP)
    yield from _list_of(steps, start, rest[0])
    if first is not None:
        yield from _list_of(chain([first], waiting), b"", rest[1])


def with_list(text: bytes, items: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the text of a document in pieces, with these items in the place of the list ``[null]`` at its end."""
    yield from _list_of(items, text[: text.rindex(b"[")], text[text.rindex(b"]") + 1 :])


def item_text(lists: bytes) -> bytes:
    """Return the text of an item as it stands in a list at the top of a document, from that of ``[[item]]``."""
    return lists[len(_BEFORE) : -len(_AFTER)] if lists.startswith(_BEFORE) else lists[2:-2]


def _list_of(items: Iterable[bytes], before: bytes, after: bytes) -> Iterator[bytes]:
    """Yield the text of a list in pieces, the first and the last with what stands before and after it."""
    start = before + b"[\n    "
    for item in items:
        yield start
        yield item
        del item  # before the next one is made: it may be large
        start = _BETWEEN
    yield (b"\n  ]" if start is _BETWEEN else before + b"[]") + after


def _compact(record: Record) -> bytes:
    """Return a record as JSON; a lone surrogate, as a file name may hold, is written as the text of its escape."""
    try:
        return to_json(record)
    except UnicodeEncodeError:
        return to_json(_escaped(record))


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Record):
        return changed(value, **{name: _escaped(getattr(value, name)) for name in value.__struct_fields__})
    if isinstance(value, dict):
        return {_escaped(name): _escaped(item) for name, item in value.items()}
    return [_escaped(item) for item in value] if isinstance(value, list) else value
