"""The names of the files of a test session's traces: a test's node id, made safe for every file system.

Safe means: letters, digits, ``.``, ``_`` and ``-`` of ASCII; no name that Windows keeps for a device; short enough for
file systems that take 143 bytes; and no two tests whose names differ in the case of a letter only.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from typing import Final

_LONGEST: Final = 100  # characters; what is added to it, with the end of a temporary name, takes less than 43
_DIGITS: Final = 8
_DEVICES: Final = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


class FileNames:
    """The names of the files of some tests.

    Args:
        nodeids: those of the tests of the session, the same ones in each worker of pytest-xdist.
    """

    def __init__(self, nodeids: Iterable[str] = ()) -> None:
        stems = Counter(_stem(nodeid)[0].casefold() for nodeid in set(nodeids))
        self._shared = {stem for stem, count in stems.items() if count > 1}

    def file(self, nodeid: str, phase: str, reruns: int) -> str:
        """Return the name of the file for an outcome of a test.

        Args:
            nodeid: the test.
            phase: what tells its outcomes apart: ``".setup"``; empty for its call.
            reruns: how often it was run before.
        """
        stem, is_complete = _stem(nodeid)
        if not is_complete or stem.casefold() in self._shared:
            digest = hashlib.sha256(nodeid.encode("utf-8", "surrogatepass")).hexdigest()
            stem = f"{stem}-{digest[:_DIGITS]}"
        return f"{stem}{f'.rerun{reruns}' if reruns else ''}{phase}.json"


def _stem(nodeid: str) -> tuple[str, bool]:
    """Return the beginning of a file's name, and whether it tells all that the node id does."""
    path, colons, test = nodeid.partition("::")
    name, bracket, values = test.partition("[")
    named = f"{path.replace('/', '.')}{colons and '--'}{name.replace('::', '--')}"
    named += f"-{values.removesuffix(']')}" if bracket else ""
    safe = re.sub(r"[^\w.-]", "_", named, flags=re.ASCII).lstrip(".-") or "test"
    if _DEVICES.match(safe):
        safe = f"_{safe}"
    return safe[:_LONGEST], safe in (named, f"_{named}") and len(safe) <= _LONGEST
