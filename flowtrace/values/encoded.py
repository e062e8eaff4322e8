"""Where canonical bytes go: kept up to a limit, and hashed all; and what is noted on the way."""

from __future__ import annotations

from typing import Final, NamedTuple

from flowtrace.errors import pointer_token
from flowtrace.values.digest import Digest, Hasher

MAX_DEPTH: Final = 200  # of a value that is shown; a hash has no such limit


class Encoded(NamedTuple):
    """A value in its final form.

    Attributes:
        data: the canonical bytes; None where they were too many to keep.
        digest: their hash.
        size: how many bytes they are.
        opaque: JSON Pointers of the parts with no honest content.
        redacted: JSON Pointers of the parts that were hidden.
        secrets: texts by which the hidden parts would be known again, for as long as the value is in memory.
    """

    data: bytes | None
    digest: Digest
    size: int
    opaque: tuple[str, ...] = ()
    redacted: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()


class Sink:
    """Takes the bytes of one value.

    Args:
        key: 32 bytes for keyed hashing.
        limit: keep no more bytes than this; None keeps all.

    Attributes:
        size: how many bytes there were so far.
    """

    __slots__ = ("_chunks", "_hasher", "_kept", "_limit", "size")

    def __init__(self, key: bytes | None = None, limit: int | None = None) -> None:
        self._chunks: list[bytes] = []
        self._hasher = Hasher(key)
        self._limit = limit
        self._kept = True
        self.size = 0

    def write(self, data: bytes) -> None:
        """Add bytes."""
        self.size += len(data)
        self._chunks.append(data)
        if self._limit is not None and self.size > self._limit and len(self._chunks) >= 256:
            self._spill()

    def _spill(self) -> None:
        self._hasher.update(b"".join(self._chunks))
        self._chunks.clear()
        self._kept = False

    def content(self) -> bytes:
        """Return all bytes of a sink without a limit."""
        return b"".join(self._chunks)

    def finish(self, opaque: tuple[str, ...] = (), redacted: tuple[str, ...] = ()) -> Encoded:
        """Return the final form, with the pointers that belong to it."""
        whole = b"".join(self._chunks)
        self._hasher.update(whole)
        keep = self._kept and (self._limit is None or self.size <= self._limit)
        return Encoded(whole if keep else None, self._hasher.finish(), self.size, opaque, redacted)


class Shared:
    """What the encoder of a value shares with those of its set items and keys, which are encoded apart.

    Attributes:
        open: the depth of each container around the current place, by its id.
        seen: each container that was met, by its id; kept, so that no id is used twice.
        repeated: how many bytes were written for containers that had been met before.
        hidden: what the marker stands for.
    """

    __slots__ = ("hidden", "open", "repeated", "seen")

    def __init__(self) -> None:
        self.open: dict[int, int] = {}
        self.seen: dict[int, object] = {}
        self.repeated = 0
        self.hidden: list[object] = []


def pointer_to(tokens: list[str | int]) -> str:
    """Return tokens as a JSON Pointer (RFC 6901), no longer than what can be shown is deep."""
    return "".join(f"/{pointer_token(token)}" for token in tokens[:MAX_DEPTH])
