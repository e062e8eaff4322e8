"""The quick way to write common values: as trees of exact JSON types, which orjson writes in one call.

What is common: values of JSON types, and values whose form is a tag around such parts. Anything else raises `OddError`,
and the encoder writes it part by part. Both ways give the same bytes and pointers, and count the same work.
"""

from __future__ import annotations

from collections.abc import Collection
from operator import itemgetter
from typing import Any, Final, TypeAlias

from flowtrace.values import codecs
from flowtrace.values.encoded import Shared, pointer_to
from flowtrace.values.forms import (
    TAG,
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
from flowtrace.values.forms_records import Record
from flowtrace.values.json import (
    CONTAINERS,
    SCALARS,
    UNIT_OF_TEXT,
    Fragment,
    dumps_each,
    holds_odd_float,
    tree_bytes,
    type_ids,
    work_of_texts,
)
from flowtrace.values.redaction import MARKER

FORM_WORK: Final = 18
"""Units of work that a value takes in addition to its parts, where it needs a form."""
FORMS: Final = frozenset(
    map(
        id,
        (
            Tag,
            Opaque,
            ClassName,
            Unordered,
            Pairs,
            HashOf,
            LargeArray,
            LargeTexts,
            Labelled,
            WrittenAs,
            NamedParts,
            Unprinted,
        ),
    )
)
_MAX_WORK: Final = 4096  # of one tree: what turns out to be odd is done again
_MAX_LEVELS: Final = 24
_STR: Final = id(str)
_KEYS: Final = {_STR}
_first: Final = itemgetter(0)
_Found: TypeAlias = "tuple[type, Record | None, bool]"
"""A class, how to read its instances, and whether its module has it. While the class lives, no other has its id."""


class Raw(bytes):
    """Canonical bytes of a key, ready to be written."""

    __slots__ = ()


class OddError(Exception):
    """A value is not common."""


class Trees:
    """Makes trees of common values.

    Args:
        shared: what the encoder of the value knows; its `open` is only read.
        depth: how many containers are open.
        path: the tokens of the JSON Pointer that leads to the values.

    Attributes:
        left: units of work that are left.
        opaque: JSON Pointers of the parts whose content can't be read.
        redacted: JSON Pointers of the parts that were hidden.
        hidden: what was hidden there.
        large: the large arrays of which only the hash is in the bytes.
    """

    __slots__ = (
        "_deepest",
        "_depth",
        "_lowest",
        "_open",
        "_path",
        "_records",
        "_shared",
        "hidden",
        "large",
        "left",
        "opaque",
        "redacted",
    )

    def __init__(self, shared: Shared, depth: int, path: list[str | int]) -> None:
        self.left = shared.left
        self.opaque: list[str] = []
        self.redacted: list[str] = []
        self.hidden: list[object] = []
        self.large: list[Large] = []
        self._lowest = max(shared.left - _MAX_WORK, 0)
        self._shared = shared
        self._open: dict[int, int] = {}
        self._records: dict[int, _Found] = {}
        self._path = path
        self._depth = depth
        self._deepest = depth + _MAX_LEVELS

    def of_one(self, value: object) -> bytes:
        """Return the canonical bytes of a value.

        Raises:
            OddError: it is not common.
            TypeError: it has a key or an atom that JSON does not have.
        """
        self._look((value,))
        return self._written(self._tree(value, self._depth))

    def of_batch(self, values: tuple[object, ...], first: int) -> bytes:
        """Return the canonical bytes of some items of an array, with commas between them; else raise the same.

        Args:
            values: the items.
            first: the index of the first one.
        """
        trees = self._items(values, self._depth, first)
        if trees is values and self.left >= self._lowest:  # atoms alone, NaN among them
            return b",".join(dumps_each(values))
        return self._written(trees)[1:-1]

    def _written(self, tree: object) -> bytes:
        if self.left < self._lowest:
            raise OddError
        data = tree_bytes(tree)
        if holds_odd_float(tree, data):
            raise OddError
        return data

    def _items(self, items: Any, depth: int, first: int = 0) -> Any:
        """Return the trees of the items of an array."""
        if self._look(items) <= SCALARS:
            return items
        path, tree = self._path, self._tree
        path.append(first)
        trees = []
        for at, item in enumerate(items, first):
            path[-1] = at
            trees.append(tree(item, depth))
        path.pop()
        return trees

    def _mapping(self, mapping: dict[Any, Any], depth: int) -> dict[str, Any]:
        """Return the tree of a mapping, which is a copy of the program's."""
        if type_ids(mapping) != _KEYS or TAG in mapping:
            self.left -= FORM_WORK
            return self._tag(Tag("dict", [("items", Pairs(list(mapping.items())))]), depth)
        return self._members(mapping, depth)

    def _members(self, mapping: dict[str, Any], depth: int) -> dict[str, Any]:
        kinds = self._look(mapping.values())
        has_secrets = not self._shared.not_secret.issuperset(mapping) and not self._has_no_secrets(mapping)
        if kinds <= SCALARS and not has_secrets:
            return mapping
        path = self._path
        path.append("")
        for name in sorted(mapping):
            path[-1] = name
            value = mapping[name]
            if has_secrets and self._shared.is_secret(name):
                self._hide(value.value if type(value) is Unprinted else value)
                mapping[name] = MARKER
            elif id(type(value)) not in SCALARS:
                mapping[name] = self._tree(value, depth)
        path.pop()
        return mapping

    def _has_no_secrets(self, names: Collection[str]) -> bool:
        """Return True if none of some names is secret."""
        secret = [name for name in names if self._shared.is_secret(name)]
        self._shared.not_secret.update(name for name in names if name not in secret)
        return not secret

    def _hide(self, value: object) -> None:
        if type(value) is str:
            self.left += len(value) // UNIT_OF_TEXT  # the marker is short
        self.redacted.append(pointer_to(self._path))
        self.hidden.append(value)

    def _look(self, items: Any) -> set[int]:
        """Count the work of some values, without their parts; return the ids of their types."""
        if len(items) > self.left - self._lowest:  # before any work is done
            raise OddError
        kinds = type_ids(items)
        self.left -= len(items)
        if _STR in kinds:
            self.left -= work_of_texts(items)
        if self.left < self._lowest:
            raise OddError
        return kinds

    def _tree(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if id(kind) in SCALARS:
            return value
        at = id(value)
        above = self._open.get(at, self._shared.open.get(at))
        if above is not None:
            return {TAG: "cycle", "up": depth - above}
        if depth > self._deepest:
            raise OddError
        if id(kind) in CONTAINERS and len(value) > self.left - self._lowest:  # before it is copied
            raise OddError
        self._open[at] = depth
        if kind is dict:
            tree = self._mapping(value.copy(), depth + 1) if value else value
        elif kind is list or kind is tuple:
            tree = self._items(tuple(value), depth + 1)
        elif kind is Raw:
            tree = Fragment(bytes(value))
        else:
            tree = self._form(value, kind, depth + 1)
        del self._open[at]
        return tree

    def _form(self, value: Any, kind: type, depth: int) -> Any:
        form: object = value
        if kind is Fragment:
            raise OddError
        if id(kind) not in FORMS:
            self.left -= FORM_WORK
            _, record, is_named = self._records.get(id(kind)) or self._found(kind)
            fields = None if record is None else record.fields(value)
            if record is not None and fields is not None:
                return self._record(record, fields, depth, is_named)
            form = codecs.describe(value)
        if type(form) is Tag:
            return self._tag(form, depth)
        if type(form) is Opaque:
            self.opaque.append(pointer_to(self._path))
            return {TAG: "opaque", "class": form.name}
        if type(form) is Pairs:
            return self._rows(form, depth)
        if type(form) is LargeArray or type(form) is LargeTexts:
            self.large.append(form)
            return form.digest
        if type(form) is not Unordered:
            raise OddError
        return Fragment(b"[%b]" % b",".join(sorted(self._each(form.items))))

    def _found(self, cls: type) -> _Found:
        """Look a class up, once in each tree."""
        record = codecs.record_of(cls)
        found = self._records[id(cls)] = cls, record, record is not None and self._shared.is_named(cls)
        return found

    def _record(self, record: Record, fields: dict[str, Any], depth: int, is_named: bool) -> dict[str, object]:
        """Do what `_tag` does with the form of a record, in one step: there may be many of them."""
        if depth > self._deepest:
            raise OddError
        self.left -= 2  # the class and the fields
        if not is_named:
            self.opaque.append(pointer_to([*self._path, "class"]))
        self._path.append("fields")
        members = self._members(fields, depth + 1) if fields else fields
        self._path.pop()
        return {TAG: record.kind, "class": record.name, "fields": members}

    def _tag(self, form: Tag, depth: int) -> dict[str, object]:
        fields = form.fields
        tree: dict[str, object] = {TAG: form.kind}
        self.left -= len(fields)
        for name, part in fields:
            if type(part) is str:
                self.left -= len(part) // UNIT_OF_TEXT
                tree[name] = part
            elif id(type(part)) in SCALARS:
                tree[name] = part
            elif type(part) is ClassName:
                tree[name] = part.name
                if not self._shared.is_named(part.cls):
                    self.opaque.append(pointer_to([*self._path, name]))
            else:
                self._path.append(name)
                tree[name] = self._tree(part, depth)
                self._path.pop()
        return tree

    def _rows(self, form: Pairs, depth: int) -> list[object]:
        keys, children = zip(*form.items, strict=True) if form.items else ((), ())
        rows = list(zip(map(Raw, self._each(keys)), children, strict=True))
        if any(type(key) is str and self._shared.is_secret(key) for key in keys):
            raise OddError
        if not form.ordered:
            rows.sort(key=_first)
        return self._items(rows, depth)  # type: ignore[no-any-return]

    def _each(self, atoms: Collection[Any]) -> list[bytes]:
        """Return the bytes of each of some atoms."""
        if not self._look(atoms) <= SCALARS:
            raise OddError
        return dumps_each(atoms)
