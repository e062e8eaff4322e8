"""The text of a trace file, made step by step: no trace is in memory as a whole while it is written.

The layout is that of `flowtrace.values.json.pretty`. A captured value goes from its canonical bytes to its lines without
becoming objects in between: msgspec copies it (`msgspec.Raw`) and breaks it into lines (`msgspec.json.format`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from typing import Any, Final, cast

import msgspec

from flowtrace.trace.model import Record, Step, Trace, changed

_encode: Final = msgspec.json.Encoder().encode
_in_lines: Final = partial(msgspec.json.format, indent=2)
_BEFORE, _AFTER = b"[\n  [\n    ", b"\n  ]\n]"  # two lists around a step give its lines their indent
_PLACE: Final = b"[\n    null\n  ]"
"""Stands for a list of steps in the text of an envelope; no other list in it has this indent."""


def step_text(step: Step) -> bytes:
    """Return the lines of a step as they stand in a trace file.

    Args:
        step: its record; captured values may be `msgspec.Raw`.
    """
    lines = _in_lines(b"[[%b]]" % _compact(step))
    return lines[len(_BEFORE) : -len(_AFTER)]


def trace_text(envelope: Trace, steps: Iterable[bytes], in_flight: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the text of a trace file in pieces.

    Args:
        envelope: the other fields; its own steps do not count.
        steps: the lines of each finished step.
        in_flight: those of each running step.
    """
    place = cast("list[Step]", [None])
    waiting = iter(in_flight)
    first = next(waiting, None)
    envelope = changed(envelope, steps=place, in_flight=[] if first is None else place)
    start, *rest = _in_lines(_compact(envelope)).split(_PLACE)
    yield start
    yield from _list_of(steps)
    if first is not None:
        yield rest.pop(0)
        yield from _list_of(chain([first], waiting))
    yield rest[0]


def _list_of(items: Iterable[bytes]) -> Iterator[bytes]:
    before = b"[\n    "
    for item in items:
        yield before
        yield item
        before = b",\n    "
    yield b"[]" if before.startswith(b"[") else b"\n  ]"


def _compact(record: Record) -> bytes:
    """Return a record as JSON; a lone surrogate, as a file name may hold, is written as the text of its escape."""
    try:
        return _encode(record)
    except UnicodeEncodeError:
        return _encode(_escaped(record))


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Record):
        return changed(value, **{name: _escaped(getattr(value, name)) for name in value.__struct_fields__})
    if isinstance(value, dict):
        return {_escaped(name): _escaped(item) for name, item in value.items()}
    return [_escaped(item) for item in value] if isinstance(value, list) else value
