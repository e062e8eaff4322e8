"""Any Python value to its canonical JSON bytes.

Values that JSON can hold go through orjson in one call; its output with sorted keys is byte for byte what Rust's
serde_json makes of its default ``Value``. Everything else is walked, without recursion, by the encoder below, which
asks `flowtrace.codecs` what a value is made of.
"""

from __future__ import annotations

import marshal
import re
from collections.abc import Iterator
from operator import itemgetter
from typing import Any, Final, NamedTuple

import orjson

from flowtrace import codecs
from flowtrace.digest import Digest, Hasher
from flowtrace.forms import HashOf, Opaque, Pairs, Tag, Unordered, class_name
from flowtrace.redaction import MARKER, IsSecret

TAG: Final = "$py"
MAX_DEPTH: Final = 200  # of a value that is shown; a hash has no such limit
_OPTIONS: Final = (
    orjson.OPT_SORT_KEYS
    | orjson.OPT_PASSTHROUGH_SUBCLASS
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
)
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_CONTAINERS: Final = frozenset({dict, list, tuple})
_JSON_TYPES: Final = _SCALARS | _CONTAINERS
_MARSHAL_UP_TO: Final = 64 * 1024
_FORMS: Final = frozenset({Tag, Opaque, Unordered, Pairs, HashOf})
_SURROGATE: Final = re.compile("[\ud800-\udfff]").search
_first: Final = itemgetter(0)


class Encoded(NamedTuple):
    """A value in its final form.

    Attributes:
        data: the canonical bytes; None where they were too many to keep.
        digest: their hash.
        size: how many bytes they are.
        opaque: JSON Pointers of the parts with no honest content.
        redacted: JSON Pointers of the parts that were hidden.
    """

    data: bytes | None
    digest: Digest
    size: int
    opaque: tuple[str, ...] = ()
    redacted: tuple[str, ...] = ()


def plain(value: object) -> bytes | None:
    """Return the canonical bytes of a value that JSON holds as it is; None for any other value.

    orjson would write an enum member as its value and a UUID as its text, and so make different things equal; a
    second look, also in C, at the types rules them out.
    """
    try:
        data = orjson.dumps(value, None, _OPTIONS)
        if len(data) <= _MARSHAL_UP_TO:
            marshal.dumps(value, 2)
        elif not _only_json_types(value):
            return None
    except Exception:
        return None
    return data


def _only_json_types(value: object) -> bool:
    """Tell whether a tree is made of exact JSON types only, at C speed for each container and without a copy."""
    todo: list[Any] = [(value,)]
    while todo:
        items = todo.pop()
        kinds = set(map(type, items))
        if not kinds <= _JSON_TYPES:
            return False
        if kinds & _CONTAINERS:
            for item in items:
                kind = type(item)
                if kind is dict:
                    todo.append(item.values())
                elif kind is list or kind is tuple:
                    todo.append(item)
    return True


def loads(data: bytes) -> Any:
    """Return the JSON-like objects of canonical bytes, or of any JSON document.

    Raises:
        ValueError: the bytes are not JSON, or nested more than orjson reads (1,024 levels).
    """
    return orjson.loads(data)


def pretty(document: object) -> bytes:
    """Return a document in the layout of the trace file: 2-space indent, raw UTF-8, no trailing newline."""
    return orjson.dumps(document, option=orjson.OPT_INDENT_2)


def _never(name: str) -> bool:
    return False


def encode(value: object, *, secret: IsSecret = _never, key: bytes | None = None, limit: int | None = None) -> Encoded:
    """Return any value in its final form. Never raises an Exception.

    Args:
        value: anything.
        secret: tells which names' values are hidden behind a marker.
        key: 32 bytes for keyed hashing.
        limit: keep no more canonical bytes than this; None keeps all.
    """
    sink = _Sink(key, limit)
    encoder = _Encoder(secret, sink)
    try:
        encoder.run(value)
    except Exception:  # for example memory that ran out: say what little is sure
        name = class_name(type(value))
        sink = _Sink(key, limit)
        sink.write(_tagged_start("opaque") + b',"class":' + orjson.dumps(name) + b"}")
        return sink.finish(("",), ())
    return sink.finish(tuple(encoder.opaque), tuple(encoder.redacted))


def canonical_bytes(value: object) -> bytes:
    """Return the canonical JSON bytes of any value.

    The format is described in the docs under "Canonical JSON"; for plain JSON values it is RFC 8259 JSON as written
    by serde_json 1.0.147 for a key-sorted ``Value``.

    Args:
        value: anything.

    Returns:
        UTF-8 bytes. Parts with no honest content are tagged ``opaque``.
    """
    data = plain(value)
    if data is None or b'"$py"' in data:
        data = encode(value).data
    assert data is not None  # no limit was given
    return data


def hash_value(value: object) -> Digest:
    """Return the BLAKE3 hash of a value's canonical JSON bytes.

    Args:
        value: anything.

    Returns:
        64 lowercase hex digits, a str that also has ``algorithm`` and ``value``.
    """
    data = plain(value)
    if data is None or b'"$py"' in data:
        return encode(value, limit=0).digest
    hasher = Hasher()
    hasher.update(data)
    return hasher.finish()


def _is_plain_key(key: object) -> bool:
    return type(key) is str and key != TAG and (key.isascii() or not _SURROGATE(key))


def _tagged_start(kind: str) -> bytes:
    return b'{"%b":%b' % (TAG.encode(), orjson.dumps(kind))


def _pointer(tokens: list[str | int]) -> str:
    """Return tokens as a JSON Pointer (RFC 6901)."""
    return "".join("/" + str(token).replace("~", "~0").replace("/", "~1") for token in tokens)


class _Sink:
    """Takes the bytes, keeps them up to a limit, and hashes them all."""

    __slots__ = ("_chunks", "_hasher", "_kept", "_limit", "size")

    def __init__(self, key: bytes | None, limit: int | None) -> None:
        self._chunks: list[bytes] = []
        self._hasher = Hasher(key)
        self._limit = limit
        self._kept = True
        self.size = 0

    def write(self, data: bytes) -> None:
        self.size += len(data)
        self._chunks.append(data)
        if self._limit is not None and self.size > self._limit and len(self._chunks) >= 256:
            self._spill()

    def _spill(self) -> None:
        self._hasher.update(b"".join(self._chunks))
        self._chunks.clear()
        self._kept = False

    def finish(self, opaque: tuple[str, ...], redacted: tuple[str, ...]) -> Encoded:
        whole = b"".join(self._chunks)
        self._hasher.update(whole)
        keep = self._kept and (self._limit is None or self.size <= self._limit)
        return Encoded(whole if keep else None, self._hasher.finish(), self.size, opaque, redacted)


class _Frame(NamedTuple):
    """A container that is being written."""

    items: Iterator[tuple[bytes, str | int, object]]
    closer: bytes
    owner: object


class _Raw(bytes):
    """Canonical bytes that were made already."""

    __slots__ = ()


class _Encoder:
    """Writes one value. Depth costs memory here, never the interpreter's stack."""

    def __init__(self, secret: IsSecret, sink: _Sink) -> None:
        self.opaque: list[str] = []
        self.redacted: list[str] = []
        self._secret = secret
        self._write = sink.write
        self._frames: list[_Frame] = []
        self._path: list[str | int] = []
        self._open: dict[int, int] = {}

    def run(self, value: object) -> None:
        self._put(value)
        while self._frames:
            frame = self._frames[-1]
            step = next(frame.items, None)
            if step is None:
                self._leave(frame)
                continue
            lead, self._path[-1], child = step
            self._write(lead)
            self._put(child)

    def _put(self, value: object) -> None:
        kind = type(value)
        if kind in _SCALARS:
            self._scalar(value)
        elif kind is _Raw:
            self._write(value)  # type: ignore[arg-type]
        elif id(value) in self._open:
            levels = len(self._frames) - self._open[id(value)]
            self._write(_tagged_start("cycle") + b',"up":%d}' % levels)
        elif kind is dict:
            self._mapping(value)  # type: ignore[arg-type]
        elif kind is list or kind is tuple:
            self._array(value, iter(value))  # type: ignore[call-overload]
        else:
            self._form(value)

    def _scalar(self, value: object) -> None:
        try:
            self._write(orjson.dumps(value))
        except orjson.JSONEncodeError:  # beyond 64 bits, or lone surrogates
            self._form(value)

    def _enter(self, owner: object, opener: bytes, items: Any, closer: bytes) -> None:
        self._write(opener)
        self._open[id(owner)] = len(self._frames)
        self._frames.append(_Frame(items, closer, owner))
        self._path.append("")

    def _leave(self, frame: _Frame) -> None:
        self._write(frame.closer)
        self._frames.pop()
        self._path.pop()
        del self._open[id(frame.owner)]

    def _array(self, owner: object, values: Iterator[object]) -> None:
        items = ((b"," if at else b"", at, child) for at, child in enumerate(values))
        self._enter(owner, b"[", items, b"]")

    def _mapping(self, value: dict[Any, Any]) -> None:
        pairs = list(value.items())
        if all(_is_plain_key(key) for key, _ in pairs):
            self._enter(value, b"{", self._members(sorted(pairs, key=_first)), b"}")
        else:
            # the mapping itself stays the owner, so that a cycle through it is seen
            items = self._fields([("items", Pairs(pairs))])
            self._enter(value, _tagged_start("dict"), items, b"}")

    def _members(self, pairs: list[tuple[str, object]]) -> Iterator[tuple[bytes, str, object]]:
        comma = b""
        for name, child in pairs:
            yield comma + orjson.dumps(name) + b":", name, self._shown(name, child, name)
            comma = b","

    def _shown(self, name: object, child: object, *tokens: str | int) -> object:
        """Return the child, or the marker in its place where its name is secret."""
        if not issubclass(type(name), str) or not self._secret(str.__str__(name)):  # type: ignore[arg-type]
            return child
        self.redacted.append(_pointer([*self._path[:-1], *tokens]))
        return MARKER

    def _form(self, value: object) -> None:
        form = value if type(value) in _FORMS else codecs.describe(value)
        if isinstance(form, Tag):
            items = self._fields(form.fields)
            self._enter(value, _tagged_start(form.kind), items, b"}")
        elif isinstance(form, Opaque):
            self.opaque.append(_pointer(self._path))
            self._write(_tagged_start("opaque") + b',"class":' + orjson.dumps(form.name) + b"}")
        elif isinstance(form, Unordered):
            self._array(value, iter(sorted(map(self._nested, form.items))))
        elif isinstance(form, Pairs):
            self._array(value, self._pairs(form))
        else:
            self._write(b'"%b"' % self._nested_hash(form))

    def _fields(self, fields: Any) -> Iterator[tuple[bytes, str, object]]:
        for name, child in fields:
            yield b"," + orjson.dumps(name) + b":", name, child

    def _pairs(self, form: Pairs) -> Iterator[object]:
        pairs = [(self._nested(key), key, child) for key, child in form.items]
        if not form.ordered:
            pairs.sort(key=lambda pair: pair[0])
        for at, (raw, key, child) in enumerate(pairs):
            yield [raw, self._shown(key, child, at, 1)]

    def _nested(self, value: object) -> _Raw:
        """Return a value's own canonical bytes; where they are not honest, this place is not."""
        encoded = encode(value, secret=self._secret)
        if encoded.opaque:
            self.opaque.append(_pointer(self._path))
        if encoded.redacted:
            self.redacted.append(_pointer(self._path))
        return _Raw(encoded.data or b"")

    def _nested_hash(self, form: HashOf) -> bytes:
        encoded = encode(form.value, secret=self._secret, limit=0)
        if encoded.opaque:
            self.opaque.append(_pointer(self._path))
        if encoded.redacted:
            self.redacted.append(_pointer(self._path))
        return encoded.digest.encode()
