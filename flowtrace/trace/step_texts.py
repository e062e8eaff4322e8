"""The texts of a trace file's steps, one at a time, so that neither they nor their records need be in memory together.

JSON has no line break inside a string. So in the layout of our own files, a closing brace on a line of its own, after
four spaces, is the end of a step. Nothing depends on that a file really has this layout: each text has to be the JSON
of a step, and what stands around them has to be that of a trace without steps; where one is not, the file is read as a
whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Final

from flowtrace.trace import files

_FIRST: Final = b'\n  "steps": [\n    {'
_NEXT: Final = b"\n    },\n    {"
_LAST: Final = b"\n    }\n  ]"
GAP: Final = b"null"
"""Stands for the steps in the envelope."""
_PIECE: Final = 1 << 20  # bytes


class StepTexts:
    """Iterates once over the texts of the steps that ended.

    Args:
        file: is read from where it is to its end, but no further than `MAX_TRACE_BYTES` allows.

    Attributes:
        envelope: after the last step, the document with the list ``[null]`` in the place of the steps; the document as
            it is where it has another layout, and no texts were found; empty where the end is missing.
        is_split: whether there were texts of steps.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.envelope = b""
        self.is_split = False
        self._file = file
        self._left = files.MAX_TRACE_BYTES + 1

    def __iter__(self) -> Iterator[bytes]:
        start, first, rest = self._read(_PIECE).partition(_FIRST)
        if not first:
            self.envelope = start + self._read(self._left)
            return
        self.is_split = True
        while (end := rest.find(_LAST)) < 0:
            *complete, rest = rest.split(_NEXT)
            yield from map(_braced, complete)
            more = self._read(max(_PIECE, len(rest)))
            if not more:
                return
            rest += more
        yield from map(_braced, rest[:end].split(_NEXT))
        self.envelope = b'%b\n  "steps": [%b]%b%b' % (start, GAP, rest[end + len(_LAST) :], self._read(self._left))

    def _read(self, length: int) -> bytes:
        data = self._file.read(min(length, self._left))
        self._left -= len(data)
        return data


def _braced(text: bytes) -> bytes:
    return b"{%b\n    }" % text
