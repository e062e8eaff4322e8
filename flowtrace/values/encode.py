"""Any Python value to its canonical JSON bytes.

A value of JSON types is written by orjson in one call: with sorted keys, its output is byte for byte that of Rust's
serde_json for its default ``Value``. The encoder below walks any other value without recursion, and asks
`flowtrace.values.codecs` for the form of each part.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from math import isfinite
from operator import itemgetter
from typing import Any, Final, NamedTuple

from flowtrace.host.objects import class_name, pairs_of
from flowtrace.host.signals import let_through
from flowtrace.values import codecs
from flowtrace.values.digest import Digest, hash_bytes
from flowtrace.values.encoded import Encoded, Shared, Sink, pointer_to
from flowtrace.values.forms import TAG as TAG
from flowtrace.values.forms import HashOf, Labelled, NamedParts, Opaque, Pairs, Tag, Unordered, WrittenAs
from flowtrace.values.json import (
    CONTAINERS,
    LONG_TEXT,
    SCALARS,
    Fragment,
    JSONError,
    dumps,
    dumps_each,
    keys_of,
    loads,
    plain,
    type_ids,
)
from flowtrace.values.redaction import MARKER, NO_NAMES, Redactor, SecretNames, is_hidden, names_in
from flowtrace.values.scrub import texts_in

MAX_OPEN: Final = 200_000  # levels; only a codec that never ends goes deeper
# A value that is small in memory may hold one container a billion times. Writing a container again counts its bytes,
# and REPEAT_COST for each container in it; when the sum passes the limit, the rest is cut.
MAX_REPEATED: Final = 1 << 20
REPEAT_COST: Final = 32
MAX_POINTERS: Final = 1000
_NUMBERS: Final = SCALARS - {id(str)}
_FORMS: Final = frozenset(map(id, (Tag, Opaque, Unordered, Pairs, HashOf, Labelled, WrittenAs, NamedParts)))
_SURROGATE: Final = re.compile("[\ud800-\udfff]").search
_first: Final = itemgetter(0)


def encode(
    value: object,
    *,
    secret: SecretNames = NO_NAMES,
    redactor: Redactor | None = None,
    name: str = "",
    key: bytes | None = None,
    limit: int | None = None,
) -> Encoded:
    """Return any value in its canonical form. Never raises, but for what a signal handler does.

    Args:
        value: anything.
        secret: the names whose values are replaced by a marker.
        redactor: the program's own function, which hides more values.
        name: the name of the value itself, for the redactor; "" where it has none.
        key: 32 bytes for keyed hashing.
        limit: keep no more canonical bytes than this; None keeps all.
    """
    data = plain(value) if redactor is None else None
    if data is not None and not _has_tag(data) and not (secret.may_be_in(data) and _has_key(value, secret)):
        return Encoded(data if limit is None or len(data) <= limit else None, hash_bytes(data, key), len(data))
    del data
    sink = Sink(key, limit)
    shared = Shared()
    encoder = _Encoder(secret, redactor, sink, shared)
    try:
        encoder.run(Labelled(name, value) if name and redactor is not None else value)
    except BaseException as error:  # for example out of memory: the class is all that is sure
        let_through(error)
        sink = Sink(key, limit)
        sink.write(_opaque_form(class_name(type(value))))
        encoded = sink.finish(("",), ())
    else:
        encoded = sink.finish(tuple(encoder.opaque), tuple(encoder.redacted))
    return encoded._replace(secrets=texts_in(shared.hidden, secret)) if shared.hidden else encoded


def _has_tag(data: bytes) -> bool:
    """Return True if JSON text may hold the key of a tagged form; one letter is found faster than five."""
    return b"$" in data and b'"$py"' in data


def _has_key(tree: object, secret: SecretNames) -> bool:
    """Return True if a mapping in a tree has a secret key."""
    names = set(keys_of(tree))
    return secret.may_be_in(dumps(list(names))) and any(map(secret, names))


def canonical_bytes(value: object) -> bytes:
    """Return the canonical JSON bytes of any value.

    The format is described in the docs under "Canonical JSON"; for plain JSON values it is RFC 8259 JSON as written
    by serde_json 1.0.147 for a key-sorted ``Value``.

    Args:
        value: anything.

    Returns:
        UTF-8 bytes. Parts whose content can't be read are tagged ``opaque``.
    """
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
    return encode(value, limit=0).digest


def _is_plain_key(key: object) -> bool:
    return type(key) is str and key != TAG and (key.isascii() or not _SURROGATE(key))


def _tagged_start(kind: str) -> bytes:
    return b'{"%b":%b' % (TAG.encode(), dumps(kind))


def _opaque_form(name: str) -> bytes:
    return b'%b,"class":%b}' % (_tagged_start("opaque"), dumps(name))


def _cut_form(reason: str) -> bytes:
    return b'%b,"reason":%b}' % (_tagged_start("cut"), dumps(reason))


class _Frame(NamedTuple):
    """A container that is being written.

    Attributes:
        items: the bytes before each child, its token of a JSON Pointer, and the child.
        closer: the bytes after the last child.
        owner: the container.
        own: the children are the container's own, not made by its form.
    """

    items: Iterator[tuple[bytes, str | int, object]]
    closer: bytes
    owner: object
    own: bool


class _Raw(bytes):
    """Canonical bytes, ready to be written."""

    __slots__ = ()


class _Encoder:
    """Writes one value. Depth costs memory here, never the interpreter's stack."""

    def __init__(
        self,
        secret: SecretNames,
        redactor: Redactor | None,
        sink: Sink,
        shared: Shared,
        outer: _Encoder | None = None,
    ) -> None:
        self.opaque: list[str] = []
        self.redacted: list[str] = []
        self._secret = secret
        self._redactor = redactor
        self._sink = sink
        self._write = sink.write
        self._shared = shared
        self._frames: list[_Frame] = []
        self._path: list[str | int] = []
        # how many containers are open, including those of outer encoders
        self._depth: int = 0 if outer is None else outer._depth
        self._exact = False
        # depth of the container that is being written again; 0 for none, -1 for a container of an outer encoder
        self._again: int = 0 if outer is None or not outer._again else -1
        self._counted = 0  # size of the sink up to which repeated bytes are counted

    def run(self, value: object) -> None:
        """Write a value."""
        try:
            self._encode(value, True)
            while self._frames:
                frame = self._frames[-1]
                step = next(frame.items, None)
                if step is None:
                    self._leave(frame)
                    continue
                lead, self._path[-1], child = step
                self._write(lead)
                self._encode(child, frame.own)
        finally:
            for frame in self._frames:
                self._shared.open.pop(id(frame.owner), None)
            self._count_again()

    def _encode(self, value: object, own: bool) -> None:
        kind = type(value)
        if id(kind) in SCALARS and (kind is not str or len(value) < LONG_TEXT):  # type: ignore[arg-type]
            self._scalar(value)
        elif kind is _Raw:
            self._write(value)  # type: ignore[arg-type]
        elif id(value) in self._shared.open:
            levels = self._depth - self._shared.open[id(value)]
            self._write(_tagged_start("cycle") + b',"up":%d}' % levels)
        elif id(kind) in CONTAINERS and not value:
            self._write(b"{}" if kind is dict else b"[]")
        elif not self._is_cut(value, own):
            self._open(value, kind)
            if self._again == self._depth + 1:  # it had no children to wait for
                self._end_again()

    def _open(self, value: Any, kind: type) -> None:
        if id(kind) in SCALARS:
            self._scalar(value)
        elif kind is dict:
            self._mapping(value)
        elif kind is list or kind is tuple:
            self._array(value, tuple(value), True)
        elif kind is Fragment:
            self._fragment(value)
        else:
            self._form(value)

    def _fragment(self, value: object) -> None:
        """Write an orjson.Fragment, which is JSON text, as the value of that text."""
        try:
            content = loads(dumps(value))
        except ValueError:
            content = Opaque(class_name(Fragment))
        self._encode(content, False)

    def _is_cut(self, value: object, own: bool) -> bool:
        """Write a cut form, and return True, where the text would be far larger or deeper than the value in memory."""
        shared = self._shared
        reason = ""
        if self._again:
            self._count_again()
            shared.repeated += REPEAT_COST
        elif own and id(value) in shared.seen:
            self._again, self._counted = self._depth + 1, self._sink.size
        elif own:
            shared.seen[id(value)] = value
        if self._again and shared.repeated > MAX_REPEATED:
            reason = "repeated"
            if self._again == self._depth + 1:
                self._end_again()
        elif self._depth >= MAX_OPEN:
            reason = "nested"
        if reason:
            self._note(self.opaque)
            self._write(_cut_form(reason))
        return bool(reason)

    def _count_again(self) -> None:
        if self._again:
            self._shared.repeated += self._sink.size - self._counted
            self._counted = self._sink.size

    def _end_again(self) -> None:
        self._count_again()
        self._again = 0

    def _note(self, pointers: list[str], *tokens: str | int) -> None:
        if len(pointers) < MAX_POINTERS:
            pointer = pointer_to([*(self._path[:-1] if tokens else self._path), *tokens])
            if not pointers or pointers[-1] != pointer:
                pointers.append(pointer)

    def _scalar(self, value: object) -> None:
        if self._exact and type(value) is float and not isfinite(value):
            self._write(_tagged_start("float") + b',"value":"%b"}' % str(value).encode())
            return
        try:
            self._write(dumps(value))
        except JSONError:  # beyond 64 bits, or lone surrogates
            self._form(value)

    def _enter(self, owner: object, opener: bytes, items: Any, closer: bytes, own: bool) -> None:
        self._write(opener)
        self._shared.open[id(owner)] = self._depth
        self._frames.append(_Frame(items, closer, owner, own))
        self._depth += 1
        self._path.append("")

    def _leave(self, frame: _Frame) -> None:
        self._write(frame.closer)
        self._frames.pop()
        self._path.pop()
        self._depth -= 1
        del self._shared.open[id(frame.owner)]
        if self._again == self._depth + 1:
            self._end_again()

    def _array(self, owner: object, values: tuple[object, ...], own: bool) -> None:
        if type_ids(values) <= _NUMBERS and not self._exact:
            try:
                self._write(dumps(values))
                return
            except JSONError:  # beyond 64 bits
                pass
        self._enter(owner, b"[", self._items(values), b"]", own)

    def _items(self, values: Iterable[object]) -> Iterator[tuple[bytes, int, object]]:
        for at, child in enumerate(values):
            yield b"," if at else b"", at, child

    def _mapping(self, value: dict[Any, Any]) -> None:
        pairs = pairs_of(value)
        if all(_is_plain_key(key) for key, _ in pairs):
            self._enter(value, b"{", self._members(sorted(pairs, key=_first)), b"}", True)
        else:
            # the owner is the mapping, so that a cycle through it is found
            self._enter(value, _tagged_start("dict"), self._fields([("items", Pairs(pairs))]), b"}", False)

    def _members(self, pairs: list[tuple[str, object]]) -> Iterator[tuple[bytes, str, object]]:
        comma = b""
        for name, child in pairs:
            yield comma + dumps(name) + b":", name, self._or_marker(name, child, name)
            comma = b","

    def _or_marker(self, name: object, child: object, *tokens: str | int) -> object:
        """Return the child, or the marker where it must be hidden."""
        value = child.value if type(child) is WrittenAs else child
        if not is_hidden(name, value, self._secret, self._redactor):
            return child
        self._note(self.redacted, *tokens)
        self._shared.hidden.append(value)
        return MARKER

    def _form(self, value: object) -> None:
        form = value if id(type(value)) in _FORMS else codecs.describe(value)
        if isinstance(form, Tag):
            self._enter(value, _tagged_start(form.kind), self._fields(form.fields), b"}", False)
        elif isinstance(form, Opaque):
            self._note(self.opaque)
            self._write(_opaque_form(form.name))
        elif isinstance(form, Unordered):
            self._write(b"[%b]" % b",".join(sorted(self._raw(form.items))))
        elif isinstance(form, Pairs):
            rows = self._rows(form)
            self._enter(value, b"[", self._items(self._redacted_rows(rows)), b"]", False)
        elif isinstance(form, HashOf):
            self._write(b'"%b"' % self._hash_of(form.value))
        elif isinstance(form, Labelled):
            self._encode(self._or_marker(form.name, form.value), False)
        elif isinstance(form, WrittenAs):
            self._encode(form.form, False)
        elif isinstance(form, NamedParts):
            self._named_parts(form)

    def _named_parts(self, form: NamedParts) -> None:
        """Write a value as one, or split where the name of a part may hide that part."""
        hides = form.is_alike and self._redactor is not None
        hides = hides or any(self._secret(text) for name in form.names for text in names_in(name))
        self._encode(form.split() if hides else form.value, False)

    def _fields(self, fields: Any) -> Iterator[tuple[bytes, str, object]]:
        for name, child in fields:
            yield b"," + dumps(name) + b":", name, child

    def _raw(self, items: Collection[object]) -> Iterable[bytes]:
        if type_ids(items) <= SCALARS and not self._exact:
            try:
                return dumps_each(items)
            except JSONError:
                pass
        return map(self._nested, items)

    def _rows(self, form: Pairs) -> list[tuple[_Raw, object, object]]:
        rows = [(self._nested(key, 2), key, child) for key, child in form.items]
        if not form.ordered:
            rows.sort(key=_first)
        return rows

    def _redacted_rows(self, rows: list[tuple[_Raw, object, object]]) -> Iterator[object]:
        for at, (raw, key, child) in enumerate(rows):
            yield raw, self._or_marker(key, child, at, 1)

    def _nested(self, value: object, levels: int = 1) -> _Raw:
        """Return the canonical bytes of a set item or a key. It counts as opaque if a part of it is.

        Args:
            value: the item or the key.
            levels: in how many arrays it will be written.
        """
        sink = Sink()
        try:
            self._inner(value, sink, False, levels)
        except BaseException as error:
            let_through(error)
            self._note(self.opaque)
            return _Raw(_opaque_form(class_name(type(value))))
        return _Raw(sink.content())

    def _hash_of(self, value: object) -> bytes:
        sink = Sink(limit=0)
        try:
            self._inner(value, sink, True)
        except BaseException as error:
            let_through(error)
            self._note(self.opaque)
            sink.write(_opaque_form(class_name(type(value))))
        return sink.finish().digest.encode()

    def _inner(self, value: object, sink: Sink, exact: bool, levels: int = 0) -> None:
        inner = _Encoder(self._secret, self._redactor, sink, self._shared, self)
        inner._depth += levels
        inner._exact = exact or self._exact
        inner.run(value)
        if inner.opaque:
            self._note(self.opaque)
        if inner.redacted:
            self._note(self.redacted)
