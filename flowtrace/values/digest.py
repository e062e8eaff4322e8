"""Hashes: BLAKE3 (https://github.com/BLAKE3-team/BLAKE3-specs), plain or keyed, over bytes and buffers."""

from __future__ import annotations

from typing import Final, Protocol

from blake3 import blake3

ALGORITHM: Final = "blake3"
KEYED_ALGORITHM: Final = "blake3-keyed"
_KEY_CONTEXT: Final = "flowtrace 2026-11-24 FLOWTRACE_HASH_KEY"
_PARALLEL_FROM: Final = 1 << 20


class Buffer(Protocol):
    """Anything that gives its bytes through the buffer protocol (PEP 688)."""

    def __buffer__(self, flags: int, /) -> memoryview: ...


class Digest(str):
    """A BLAKE3 hash: the 64 lowercase hex digits themselves, with their algorithm.

    Attributes:
        algorithm: ``"blake3"``, or ``"blake3-keyed"`` where a key was used.
        value: the same hex digits as plain text.
    """

    __slots__ = ("algorithm",)
    algorithm: str

    def __new__(cls, value: str, algorithm: str = ALGORITHM) -> Digest:
        """Make a digest from hex digits."""
        digest = super().__new__(cls, value)
        digest.algorithm = algorithm
        return digest

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]
        return self.value, self.algorithm

    @property
    def value(self) -> str:
        """The 64 hex digits as plain text."""
        return str.__str__(self)


class Hasher:
    """An incremental hash, plain or keyed.

    Args:
        key: 32 bytes from `derive_key`, or None for a plain hash.
    """

    __slots__ = ("_algorithm", "_state")

    def __init__(self, key: bytes | None = None) -> None:
        self._algorithm = ALGORITHM if key is None else KEYED_ALGORITHM
        self._state = blake3() if key is None else blake3(key=key)

    def update(self, data: Buffer) -> None:
        """Add bytes."""
        self._state.update(data)

    def finish(self) -> Digest:
        """Return the hash of everything added so far."""
        return Digest(self._state.hexdigest(), self._algorithm)


def hash_bytes(data: bytes | bytearray, key: bytes | None = None) -> Digest:
    """Return the BLAKE3 hash of ``data``; keyed where a 32-byte ``key`` is given."""
    if len(data) < _PARALLEL_FROM:
        return Digest(hash_raw(data, key).hex(), ALGORITHM if key is None else KEYED_ALGORITHM)
    if key is None:
        return Digest(blake3(data, max_threads=blake3.AUTO).hexdigest())
    return Digest(blake3(data, key=key, max_threads=blake3.AUTO).hexdigest(), KEYED_ALGORITHM)


_IDLE_HASHERS: Final = [blake3()]
"""Process-global: plain hashers to use again, since a new one takes longer than the hash of a short text.

One in use is not here, so that no thread shares it.
"""


def hash_raw(data: bytes | bytearray, key: bytes | None = None) -> bytes:
    """Return the 32 bytes of the BLAKE3 hash of a short text; keyed where a 32-byte ``key`` is given."""
    if key is not None:
        return blake3(data, key=key).digest()
    hasher = _IDLE_HASHERS.pop() if _IDLE_HASHERS else blake3()
    hasher.reset()
    hasher.update(data)
    digest = hasher.digest()
    _IDLE_HASHERS.append(hasher)
    return digest


def hash_buffer(data: memoryview) -> str:
    """Return the hex BLAKE3 of a contiguous buffer, without copying it."""
    return blake3(data, max_threads=_threads(data.nbytes)).hexdigest()


def _threads(size: int) -> int:
    """Return the number of threads for so many bytes: large values are hashed on all cores."""
    return blake3.AUTO if size >= _PARALLEL_FROM else 1


def derive_key(text: str) -> bytes:
    """Return the 32-byte key that is derived from ``text`` (BLAKE3 key derivation mode)."""
    material = text.encode("utf-8", "surrogateescape")
    return blake3(material, derive_key_context=_KEY_CONTEXT).digest()
