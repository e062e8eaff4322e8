"""The content of large arrays and columns, of which a value's form has only the hash: kept beside it, for files.

A piece is a whole file. For numbers it is in NumPy's format (https://numpy.org/neps/nep-0001-npy-format.html), without
pickles; for anything else it is canonical JSON.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from weakref import ref

_MAGIC: Final = b"\x93NUMPY\x01\x00"
_ALIGNED: Final = 64


class Piece:
    """The content of an array or of a column.

    Attributes:
        digest: its hash in the form: that of the items' bytes, in C order, or of the canonical JSON.
        suffix: ``npy`` or ``json``.
        data: the file's content; empty once there were too many.
    """

    __slots__ = ("__weakref__", "data", "digest", "suffix")

    def __init__(self, digest: str, suffix: str, data: bytes) -> None:
        self.digest = digest
        self.suffix = suffix
        self.data = data


class Pieces:
    """The pieces that are alive, each once however many values have it, up to so many bytes: the oldest let go first.

    Values keep their pieces; this has no hold on them. It takes no lock: each look at the dictionary is one call in C,
    and two threads at once can at worst keep a piece twice.

    Attributes:
        room: how many bytes.
    """

    __slots__ = ("_made", "room")

    def __init__(self, room: int) -> None:
        self.room = room
        self._made: dict[str, ref[Piece]] = {}

    def made(self, digest: str, suffix: str, size: int, content: Callable[[], bytes]) -> Piece | None:
        """Return a piece, which may be an earlier one; None where it is too large.

        Args:
            digest: its hash in the form.
            suffix: ``npy`` or ``json``.
            size: about how many bytes it has.
            content: makes the file's content.
        """
        if size > self.room:
            return None
        earlier = self._made.get(digest)
        piece = None if earlier is None else earlier()
        if piece is None or not piece.data or piece.suffix != suffix:
            piece = Piece(digest, suffix, content())
            self._made.pop(digest, None)  # so that it stands last
            self._made[digest] = ref(piece)
            self._let_go()
        return piece

    def _let_go(self) -> None:
        alive = [(digest, earlier()) for digest, earlier in list(self._made.items())]
        total = sum(len(piece.data) for _, piece in alive if piece is not None)
        for digest, piece in alive:
            if piece is not None and total <= self.room:
                continue
            self._made.pop(digest, None)
            if piece is not None:
                total -= len(piece.data)
                piece.data = b""


def npy_file(dtype: str, shape: list[int], content: bytes) -> bytes:
    """Return a file in NumPy's format.

    Args:
        dtype: of the items, as NumPy's ``dtype.str``.
        shape: of the array.
        content: the items' bytes, in C order.
    """
    sizes = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
    header = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': ({sizes}), }}".encode("latin-1")
    room = -(len(_MAGIC) + 2 + len(header) + 1) % _ALIGNED
    header += b" " * room + b"\n"
    return b"".join((_MAGIC, len(header).to_bytes(2, "little"), header, content))


def npy_content(data: bytes) -> memoryview:
    """Return the items' bytes in a file that `npy_file` made.

    Raises:
        ValueError: it is no such file.
    """
    if not data.startswith(_MAGIC):
        raise ValueError("it is not in NumPy's format, version 1.0")
    start = len(_MAGIC) + 2
    return memoryview(data)[start + int.from_bytes(data[start - 2 : start], "little") :]
