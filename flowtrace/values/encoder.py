"""The encoder of values that are not plain JSON: it walks a value without recursion, and writes its canonical bytes.

It asks `flowtrace.values.codecs` for the form of each part; what is common in a value, it leaves to
`flowtrace.values.trees`. Each part counts as work. Where the work of a value is used up, what is left of each open
container is cut.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from math import isfinite
from operator import itemgetter
from typing import Any, Final, NamedTuple

from flowtrace.host.objects import class_name, pairs_of
from flowtrace.host.signals import let_through
from flowtrace.values import codecs
from flowtrace.values.encoded import CutPart, Shared, Sink, cut_form, npy_file, opaque_form, pointer_to, tagged_start
from flowtrace.values.forms import (
    INLINE_BYTES,
    ClassName,
    HashOf,
    Labelled,
    Large,
    LargeArray,
    LargeTexts,
    NamedParts,
    Opaque,
    Pairs,
    Tag,
    Unordered,
    Unprinted,
    WrittenAs,
)
from flowtrace.values.forms import TAG as TAG
from flowtrace.values.json import (
    CONTAINERS,
    SCALARS,
    UNIT_OF_TEXT,
    Fragment,
    JSONError,
    dumps,
    dumps_each,
    float_form,
    loads,
    type_ids,
)
from flowtrace.values.redaction import MARKER, NO_NAMES, Redactor, SecretNames, is_hidden, names_in
from flowtrace.values.trees import FORM_WORK, FORMS, OddError, Raw, Trees

MAX_OPEN: Final = 200_000  # levels; only a codec that never ends goes deeper
MAX_POINTERS: Final = 1000
_BATCH: Final = 128  # children that are written together where they are common
_MAX_WASTED: Final = 20_000  # units of work that were done twice, since something in a batch was not common
_NUMBERS: Final = SCALARS - {id(str)}
_SURROGATE: Final = re.compile("[\ud800-\udfff]").search
_first: Final = itemgetter(0)


def _is_plain_key(key: object) -> bool:
    return type(key) is str and key != TAG and (key.isascii() or not _SURROGATE(key))


class _Frame(NamedTuple):
    """A container that is being written.

    Attributes:
        items: the bytes before each child, its token of a JSON Pointer, and the child.
        closer: the bytes after the last child.
        owner: the container.
    """

    items: Iterator[tuple[bytes, str | int, object]]
    closer: bytes
    owner: object


class _Batch(bytes):
    """The canonical bytes of some children, whose work is counted."""

    __slots__ = ()


class _Cut(NamedTuple):
    """The rest of a container, of which so many items or members were seen."""

    seen: int


class Encoder:
    """Writes one value. Depth costs memory here, never the interpreter's stack."""

    def __init__(
        self,
        secret: SecretNames,
        redactor: Redactor | None,
        sink: Sink,
        shared: Shared,
        outer: Encoder | None = None,
    ) -> None:
        self.opaque: list[str] = []
        self.redacted: list[str] = []
        self.cut: list[CutPart] = []
        self._secret = secret
        self._redactor = redactor
        self._write = sink.write
        self._shared = shared
        self._frames: list[_Frame] = []
        self._path: list[str | int] = []
        # how many containers are open, including those of outer encoders
        self._depth: int = 0 if outer is None else outer._depth

    def run(self, value: object) -> None:
        """Write a value."""
        try:
            self._encode(self._together((value,)) or value)
            while self._frames:
                frame = self._frames[-1]
                step = next(frame.items, None)
                if step is None:
                    self._leave(frame)
                    continue
                lead, self._path[-1], child = step
                self._write(lead)
                self._encode(child)
        finally:
            # The generators hold this encoder. Left in a cycle, they would be closed at any time; where the stack is
            # full then, Python prints that it can't close them.
            while self._frames:
                self._shared.open.pop(id(self._frames.pop().owner), None)

    def _encode(self, value: object) -> None:
        kind = type(value)
        if kind is _Batch:
            self._write(value)  # type: ignore[arg-type]
            return
        self._shared.left -= 1
        if id(kind) in SCALARS:
            self._scalar(value)
        elif kind is Raw:
            self._write(value)  # type: ignore[arg-type]
        elif id(value) in self._shared.open:
            levels = self._depth - self._shared.open[id(value)]
            self._write(tagged_start("cycle") + b',"up":%d}' % levels)
        elif id(kind) in CONTAINERS and not value:
            self._write(b"{}" if kind is dict else b"[]")
        elif kind is _Cut:
            self._cut_rest("work", value.seen)  # type: ignore[attr-defined]
        elif self._depth >= MAX_OPEN:
            self._cut_rest("nested", 0)
        else:
            self._open(value, kind)

    def _open(self, value: Any, kind: type) -> None:
        if kind is dict:
            self._mapping(value)
        elif kind is list or kind is tuple:
            self._array(value, value)
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
        self._encode(content)

    def _together(self, values: tuple[object, ...], token: str | None = None, at: int = 0) -> _Batch | None:
        """Return the bytes of some values, with commas between them; None where one of them is not common.

        Args:
            values: one value, or some items of the array that is open.
            token: the name of a member; None for items.
            at: the index of the first item.
        """
        shared = self._shared
        if self._redactor is not None or shared.wasted > _MAX_WASTED:
            return None
        path = self._path[:-1]
        if len(values) == 1:
            path += [] if not self._path else [at if token is None else token]
        trees = Trees(shared, self._depth, path)
        try:
            data: bytes | None = trees.of_one(values[0]) if len(values) == 1 else trees.of_batch(values, at)
        except OddError:
            data = None
        except BaseException as error:
            let_through(error)
            data = None
        if data is None:
            shared.wasted += shared.left - trees.left
            return None
        shared.left = trees.left
        shared.hidden += trees.hidden
        for form in trees.large:
            self._keep(form)
        for pointers, more in ((self.opaque, trees.opaque), (self.redacted, trees.redacted)):
            pointers += more[: MAX_POINTERS - len(pointers)]
        return _Batch(data)

    def _cut_rest(self, reason: str, seen: int) -> None:
        """Write the mark for what is left of the container that is open."""
        self._note(self.opaque)
        self._note_cut(reason, seen)
        self._write(cut_form(reason, seen))

    def _note_cut(self, reason: str, seen: int) -> None:
        if len(self.cut) < MAX_POINTERS:
            self.cut.append(CutPart(pointer_to(self._path), reason, seen))

    def _note(self, pointers: list[str], *tokens: str | int) -> None:
        if len(pointers) < MAX_POINTERS:
            pointer = pointer_to([*(self._path[:-1] if tokens else self._path), *tokens])
            if not pointers or pointers[-1] != pointer:
                pointers.append(pointer)

    def _scalar(self, value: Any) -> None:
        if type(value) is str and len(value) >= UNIT_OF_TEXT:
            self._shared.left -= len(value) // UNIT_OF_TEXT
        if type(value) is float and not isfinite(value):
            self._write(float_form(value))
            return
        try:
            self._write(dumps(value))
        except JSONError:  # beyond 64 bits, or lone surrogates
            self._form(value)

    def _enter(self, owner: object, opener: bytes, items: Any, closer: bytes) -> None:
        self._write(opener)
        self._shared.open[id(owner)] = self._depth
        self._frames.append(_Frame(items, closer, owner))
        self._depth += 1
        self._path.append("")

    def _leave(self, frame: _Frame) -> None:
        self._write(frame.closer)
        self._frames.pop()
        self._path.pop()
        self._depth -= 1
        del self._shared.open[id(frame.owner)]

    def _array(self, owner: object, values: list[object] | tuple[object, ...]) -> None:
        room = max(self._shared.left, 0) + 1  # each item takes work: no more are looked at
        self._enter(owner, b"[", self._items(tuple(islice(values, room))), b"]")

    def _items(self, values: tuple[object, ...]) -> Iterator[tuple[bytes, int, object]]:
        """Yield the items of an array, as many at once as can be written together."""
        at = 0
        while at < len(values):
            if self._shared.left <= 0:
                yield b"," if at else b"", at, _Cut(at)
                return
            batch = values[at : at + _BATCH]
            together = self._together(batch, at=at)
            if together is not None:
                yield b"," if at else b"", at, together
                at += len(batch)
                continue
            for child in batch:
                if self._shared.left <= 0:
                    break
                yield b"," if at else b"", at, child
                at += 1

    def _mapping(self, value: dict[Any, Any]) -> None:
        pairs = pairs_of(value) if len(value) <= self._shared.left else None
        if pairs is None:  # which members come first is not known without a look at all
            self._cut_rest("work", 0)
        elif all(_is_plain_key(key) for key, _ in pairs):
            self._enter(value, b"{", self._members(sorted(pairs, key=_first)), b"}")
        else:
            self._shared.left -= FORM_WORK
            # the owner is the mapping, so that a cycle through it is found
            self._enter(value, tagged_start("dict"), self._fields([("items", Pairs(pairs))]), b"}")

    def _members(self, pairs: list[tuple[str, object]]) -> Iterator[tuple[bytes, str, object]]:
        comma = b""
        for at, (name, child) in enumerate(pairs):
            lead = comma + dumps(name) + b":"
            if self._shared.left <= 0:
                yield lead, name, _Cut(at)
                return
            child = self._or_marker(name, child, name)
            yield lead, name, child if id(type(child)) in SCALARS else self._together((child,), name) or child
            comma = b","

    def _or_marker(self, name: object, child: object, *tokens: str | int) -> object:
        """Return the child, or the marker where it must be hidden."""
        if type(child) is Unprinted:
            return self._unprinted(name, child.value, *tokens)
        value = child.value if type(child) is WrittenAs else child
        if not is_hidden(name, value, self._secret, self._redactor):
            return child
        self._note(self.redacted, *tokens)
        self._shared.hidden.append(value)
        return MARKER

    def _unprinted(self, name: object, value: object, *tokens: str | int) -> object:
        """Return the marker for a value that is not to be shown; where nothing is hidden by name, the value itself."""
        if self._secret is NO_NAMES:
            return self._or_marker(name, value, *tokens)
        self._note(self.redacted, *tokens)
        if type(value) in (str, bytes):  # all the texts of a cache or of a parent would be too many to search for
            self._shared.hidden.append(value)
        return MARKER

    def _form(self, value: object) -> None:
        form: object = value
        if id(type(value)) not in FORMS:
            self._shared.left -= FORM_WORK
            form = codecs.describe(value)
        if isinstance(form, Tag):
            self._enter(value, tagged_start(form.kind), self._fields(form.fields), b"}")
        elif isinstance(form, Opaque):
            self._note(self.opaque)
            self._write(opaque_form(form.name))
        elif isinstance(form, ClassName):
            if not self._shared.is_named(form.cls):
                self._note(self.opaque)
            self._write(dumps(form.name))
        elif isinstance(form, Unordered):
            self._unordered(form)
        elif isinstance(form, Pairs):
            self._pairs(value, form)
        elif isinstance(form, HashOf):
            self._write(self._content_or_hash(form.value))
        elif isinstance(form, LargeArray | LargeTexts):
            self._write(dumps(form.digest))
            self._keep(form)
        elif isinstance(form, Labelled):
            self._encode(self._or_marker(form.name, form.value))
        elif isinstance(form, WrittenAs):
            self._encode(form.form)
        elif isinstance(form, NamedParts):
            self._named_parts(form)
        elif isinstance(form, Unprinted):
            self._encode(self._unprinted("", form.value))

    def _keep(self, form: Large) -> None:
        """Keep the content of a large array, where contents are kept."""
        if isinstance(form, LargeTexts):
            self._shared.keep(form.digest, "json", form.size, lambda: dumps(form.items()))
        else:
            self._shared.keep(form.digest, "npy", form.size, lambda: npy_file(form.dtype, form.shape, form.content()))

    def _named_parts(self, form: NamedParts) -> None:
        """Write a value as one, or split where the name of a part may hide that part."""
        hides = form.is_alike and self._redactor is not None
        hides = hides or any(self._secret(text) for name in form.names for text in names_in(name))
        self._encode(form.split() if hides else form.value)

    def _fields(self, fields: Any) -> Iterator[tuple[bytes, str, object]]:
        for name, child in fields:
            yield b"," + dumps(name) + b":", name, child

    def _unordered(self, form: Unordered) -> None:
        """Write the items of a set, which have no order of their own: all of them, or none."""
        raw = sorted(self._raw(form.items)) if len(form.items) <= self._shared.left else []
        if form.items and (not raw or self._shared.left < 0):
            self._cut_rest("work", 0)
        else:
            self._write(b"[%b]" % b",".join(raw))

    def _raw(self, items: Collection[object]) -> Iterable[bytes]:
        if type_ids(items) <= SCALARS:
            try:
                raw = dumps_each(items)
            except JSONError:
                pass
            else:
                self._shared.left -= len(raw) + sum(map(len, raw)) // UNIT_OF_TEXT
                return raw
        return (self._nested(item) for item in items if self._shared.left >= 0)

    def _pairs(self, value: object, form: Pairs) -> None:
        """Write the rows of a mapping. They are sorted by their keys, so that all keys are looked at, or none."""
        rows = self._rows(form) if len(form.items) <= self._shared.left else []
        if form.items and (not rows or self._shared.left < 0):
            self._cut_rest("work", 0)
        else:
            self._enter(value, b"[", self._redacted_rows(rows), b"]")

    def _rows(self, form: Pairs) -> list[tuple[Raw, object, object]]:
        rows = [(self._nested(key, 2), key, child) for key, child in form.items if self._shared.left >= 0]
        if not form.ordered:
            rows.sort(key=_first)
        return rows

    def _redacted_rows(self, rows: list[tuple[Raw, object, object]]) -> Iterator[tuple[bytes, int, object]]:
        comma = b""
        for at, (raw, key, child) in enumerate(rows):
            if self._shared.left <= 0:
                yield comma, at, _Cut(at)
                return
            yield comma, at, (raw, self._or_marker(key, child, at, 1))
            comma = b","

    def _nested(self, value: object, levels: int = 1) -> Raw:
        """Return the canonical bytes of a set item or a key. It counts as opaque if a part of it is.

        Args:
            value: the item or the key.
            levels: in how many arrays it will be written.
        """
        sink = Sink()
        try:
            self._inner(value, sink, levels)
        except BaseException as error:
            let_through(error)
            self._note(self.opaque)
            return Raw(opaque_form(class_name(type(value))))
        return Raw(sink.content())

    def _content_or_hash(self, value: object) -> bytes:
        pieces = self._shared.pieces
        sink = Sink(limit=INLINE_BYTES if pieces is None else max(INLINE_BYTES, pieces.room))
        try:
            self._inner(value, sink)
        except BaseException as error:
            let_through(error)
            self._note(self.opaque)
            sink.write(opaque_form(class_name(type(value))))
        found = sink.finish()
        if found.data is not None and found.size <= INLINE_BYTES:
            return found.data
        if found.data is not None:
            data = found.data
            self._shared.keep(found.digest.value, "json", found.size, lambda: data)
        return b'"%b"' % found.digest.encode()

    def _inner(self, value: object, sink: Sink, levels: int = 0) -> None:
        inner = Encoder(self._secret, self._redactor, sink, self._shared, self)
        inner._depth += levels
        inner.run(value)
        if inner.opaque:
            self._note(self.opaque)
        if inner.cut:
            self._note_cut(inner.cut[0].reason, inner.cut[0].seen)
        if inner.redacted:
            self._note(self.redacted)
