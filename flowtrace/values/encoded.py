"""Hashes (BLAKE3, https://github.com/BLAKE3-team/BLAKE3-specs, plain or keyed), and the result of encoding.

Canonical bytes are written to a sink, which hashes all of them, and keeps them up to a limit. Of a large array or
column, a value's form has only the hash: its content is a piece, kept beside the form, for a file of its own. For
numbers it is in NumPy's format (https://numpy.org/neps/nep-0001-npy-format.html), without pickles; for anything else
it is canonical JSON.
"""

from __future__ import annotations

from ast import AST, AsyncFunctionDef, ClassDef, Constant, FunctionDef, JoinedStr, Module, get_docstring, iter_fields
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol
from weakref import ref

from blake3 import blake3

from flowtrace.errors import pointer_token
from flowtrace.host.objects import is_named
from flowtrace.host.signals import let_through
from flowtrace.values.json import dumps

_MAGIC: Final = b"\x93NUMPY\x01\x00"
_ALIGNED: Final = 64
_DEFINITIONS: Final = (FunctionDef, AsyncFunctionDef, ClassDef, Module)
# fields of a syntax tree that hold no meaning, or that only some supported versions fill
_LEFT_OUT: Final = frozenset({"type_comment", "type_ignores", "kind"})


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


TAG: Final = "$py"
"""The key that marks an object of canonical JSON as a tagged form. Its value is the kind of the form."""
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


def hex_digits(data: bytes) -> str:
    """Return the hex digits of the BLAKE3 hash of ``data``."""
    return hash_raw(data).hex() if len(data) < _PARALLEL_FROM else hash_bytes(data).value


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


MAX_DEPTH: Final = 200  # of a value in a trace; a hashed one may be deeper


CUT_REASONS: Final = ("work", "overhead", "nested")
"""Why a part of a value may be cut."""


class CutPart(NamedTuple):
    """A part of a value that was cut: the rest of a container, or all of the value.

    Attributes:
        pointer: JSON Pointer of the mark that stands for it.
        reason: ``work``, ``nested`` or ``overhead``.
        seen: how many items or members of the container were seen before it.
    """

    pointer: str
    reason: str
    seen: int


class Encoded(NamedTuple):
    """A value in its canonical form.

    Attributes:
        data: the canonical bytes; None where they were more than the limit.
        digest: their hash.
        size: how many bytes they are.
        opaque: JSON Pointers of the parts whose content could not be read, or was cut.
        redacted: JSON Pointers of the parts that were hidden.
        secrets: texts by which the hidden parts would be recognized elsewhere. They never leave the process.
        cut: the parts that were cut.
        pieces: the content of large arrays, of which the form has only the hash.
    """

    data: bytes | None
    digest: Digest
    size: int
    opaque: tuple[str, ...] = ()
    redacted: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    cut: tuple[CutPart, ...] = ()
    pieces: tuple[Piece, ...] = ()


class Sink:
    """Collects and hashes the bytes of one value.

    Args:
        key: 32 bytes for keyed hashing.
        limit: keep no more bytes than this; None keeps all.

    Attributes:
        size: how many bytes were written so far.
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

    def finish(
        self, opaque: tuple[str, ...] = (), redacted: tuple[str, ...] = (), cut: tuple[CutPart, ...] = ()
    ) -> Encoded:
        """Return the canonical form, with the pointers that belong to it."""
        rest = b"".join(self._chunks)
        self._hasher.update(rest)
        keep = self._kept and (self._limit is None or self.size <= self._limit)
        return Encoded(rest if keep else None, self._hasher.finish(), self.size, opaque, redacted, (), cut)


class Shared:
    """Data that the encoder of a value shares with the encoders of its set items and keys.

    Args:
        work: units of work that the parts of the value may take.
        is_secret: the test for secret names.
        pieces: where the content of large arrays is kept; None keeps none of it.

    Attributes:
        is_secret: the same test.
        pieces: the same.
        kept: the pieces of this value.
        not_secret: names that were found not to be secret.
        open: the depth of each container that is being written, by its id.
        left: units of work that are left; less than none where the last part took more.
        wasted: units of work that were done twice.
        hidden: the values that the marker replaced.
    """

    __slots__ = ("_named", "hidden", "is_secret", "kept", "left", "not_secret", "open", "pieces", "wasted")

    def __init__(self, work: int, is_secret: Callable[[str], bool], pieces: Pieces | None = None) -> None:
        self.is_secret = is_secret
        self.pieces = pieces
        self.kept: list[Piece] = []
        self.not_secret: set[str] = set()
        self.open: dict[int, int] = {}
        self.left = work + 1  # the value as such
        self.wasted = 0
        self.hidden: list[object] = []
        self._named: dict[int, tuple[type, bool]] = {}  # the class too: while it lives, no other one has its id

    def is_named(self, cls: type) -> bool:
        """Return True if a class is what its module has under its name; it is asked for once in each value."""
        if id(cls) not in self._named:
            self._named[id(cls)] = cls, is_named(cls)
        return self._named[id(cls)][1]

    def keep(self, digest: str, suffix: str, size: int, content: Callable[[], bytes]) -> None:
        """Keep the content of a large array, of which the hash was written, if contents are kept; see `Pieces.made`."""
        try:
            piece = None if self.pieces is None else self.pieces.made(digest, suffix, size, content)
        except BaseException as error:  # no room in memory, or texts that JSON does not have
            let_through(error)
            return
        if piece is not None:
            self.kept.append(piece)


def pointer_to(tokens: list[str | int]) -> str:
    """Return tokens as a JSON Pointer (RFC 6901), cut at the depth of a value in a trace."""
    return "".join(f"/{pointer_token(token)}" for token in tokens[:MAX_DEPTH])


def tagged_start(kind: str) -> bytes:
    """Return the first bytes of a tagged object."""
    return b'{"%b":%b' % (TAG.encode(), dumps(kind))


def opaque_form(name: str) -> bytes:
    """Return what is written of a value whose content can't be read: its class."""
    return b'%b,"class":%b}' % (tagged_start("opaque"), dumps(name))


def cut_form(reason: str, seen: int) -> bytes:
    """Return the mark for what was cut.

    Args:
        reason: why: ``work``, ``nested`` or ``overhead``.
        seen: how many items or members of its container were seen before it.
    """
    return b'%b,"count":%d,"reason":%b}' % (tagged_start("cut"), seen, dumps(reason))


# --- what is hashed of a function


def syntax(node: Any) -> str:
    """Return a syntax tree as text, without positions, docstrings and empty fields.

    The text is the same on every supported Python, for code that all of them can read.
    """
    if isinstance(node, AST):
        fields = ",".join(
            f"{name}={syntax(value)}"
            for name, value in _fields(node)
            if name not in _LEFT_OUT and value is not None and value != []
        )
        return f"{type(node).__name__}({fields})"
    if isinstance(node, list):
        return f"[{','.join(map(syntax, node))}]"
    return repr(node)


def _fields(node: AST) -> list[tuple[str, Any]]:
    pairs = list(iter_fields(node))
    if isinstance(node, _DEFINITIONS) and get_docstring(node, clean=False) is not None:
        return [(name, value[1:] if name == "body" else value) for name, value in pairs]
    if isinstance(node, JoinedStr):  # 3.12 ends some format specs with an empty text
        return [("values", [part for part in node.values if not isinstance(part, Constant) or part.value != ""])]
    return pairs
