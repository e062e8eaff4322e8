"""The payload files beside a trace that is shown: each is read once, and no more of all of them than a screen needs."""

from __future__ import annotations

import os
from typing import Any

from flowtrace.cli.common import TraceSource


class Beside:
    """The payload files that a trace names.

    Args:
        source: where the trace was read from.
    """

    def __init__(self, source: TraceSource) -> None:
        from flowtrace.trace.payload_files import MAX_ALL_SHOWN_BYTES

        self._folder = None if source.path is None else os.path.dirname(os.path.abspath(source.path))
        self._room = MAX_ALL_SHOWN_BYTES
        self._known: dict[str, tuple[Any, str]] = {}

    def look(self, relative: str) -> tuple[Any, str]:
        """Return the value in a payload file, and why it can't be had; no reason where it can.

        Args:
            relative: the file's path, as it stands in the trace.
        """
        found = self._known.get(relative)
        if found is None:
            found = self._known[relative] = self._read(relative)
        return found

    def _read(self, relative: str) -> tuple[Any, str]:
        from flowtrace.trace.payload_files import MAX_SHOWN_BYTES, NotCapturedError, from_file

        if self._folder is None:
            return None, "where the trace lies is not known"
        try:
            value, size = from_file(relative, self._folder, min(MAX_SHOWN_BYTES, self._room))
        except NotCapturedError as error:
            return None, str(error)
        self._room -= size
        return value, ""
