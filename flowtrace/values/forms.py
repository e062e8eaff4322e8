"""Forms: what the codecs make of a value, for the encoder to write. Any part of a form is an ordinary value again."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Collection, Container, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import FunctionType, MemberDescriptorType
from typing import Any, Final

from flowtrace.host.objects import class_attribute, class_name, inherits, instance_dict, mro, namespace_of, pairs_of
from flowtrace.values.encoded import TAG as TAG
from flowtrace.values.encoded import hash_buffer

INLINE_BYTES: Final = 64 * 1024
"""The content of a larger piece of data is written as its hash alone."""

CHUNK: Final = 1 << 16
"""So many items that are not in one piece in memory are copied and hashed at a time."""
MOST_REPEATED: Final = 1 << 30
"""More bytes that are not in memory are not read: a view may repeat a few items for years."""


@dataclass(slots=True)  # not frozen: that would make each one cost three times as much
class Tag:
    """A tagged object: ``{"$py": kind, ...}``. Field names must be lower-case and in sorted order."""

    kind: str
    fields: Sequence[tuple[str, object]] = ()


@dataclass(frozen=True, slots=True)
class Opaque:
    """A value whose content can't be read: only its class is written."""

    name: str


@dataclass(slots=True)
class ClassName:
    """The name of a class. It counts as opaque where the class's module does not have the class under that name.

    Two classes that were made at run time may have one name.
    """

    name: str
    cls: type


@dataclass(frozen=True, slots=True)
class Unordered:
    """An array whose items are sorted by their canonical bytes."""

    items: Collection[object]


@dataclass(frozen=True, slots=True)
class Pairs:
    """An array of ``[key, value]``, sorted by the keys' canonical bytes unless their order matters."""

    items: Sequence[tuple[object, object]]
    ordered: bool = False


@dataclass(frozen=True, slots=True)
class HashOf:
    """The hex hash of a value's canonical bytes, in place of the value."""

    value: object


@dataclass(frozen=True, slots=True)
class LargeArray:
    """The hash of the items of a large array; where contents are kept, a file of NumPy's format is made of it.

    Attributes:
        digest: of the items' bytes, in C order.
        size: how many bytes they are.
        dtype: of the items, as NumPy's ``dtype.str``.
        shape: of the array.
        content: makes a copy of the items' bytes.
    """

    digest: str
    size: int
    dtype: str
    shape: list[int]
    content: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class LargeTexts:
    """The hash of a large array of texts; where contents are kept, its items are written as JSON.

    Attributes:
        digest: of the items' bytes, in C order.
        size: how many bytes they are.
        items: makes a list of the texts; bytes as one letter each.
    """

    digest: str
    size: int
    items: Callable[[], list[str]]


@dataclass(frozen=True, slots=True)
class Labelled:
    """A value that has a name (a text, or a tuple of them); it is hidden where that name is secret."""

    name: object
    value: object


@dataclass(frozen=True, slots=True)
class WrittenAs:
    """A value together with the form to write for it; a redactor is asked about the value."""

    value: object
    form: object


@dataclass(frozen=True, slots=True)
class NamedParts:
    """A value whose parts have names that are not written. It is split where one of its parts may be hidden.

    Attributes:
        names: the names of all parts.
        value: the value, as one.
        split: makes the same value with each part `Labelled` by its name.
        is_alike: both have the same bytes, so that the value is split for a redactor as well as for a secret name.
    """

    names: Collection[object]
    value: object
    split: Callable[[], object]
    is_alike: bool = True


@dataclass(frozen=True, slots=True)
class Unprinted:
    """A value that its author does not want to be shown: it is hidden wherever secret names are."""

    value: object


Large = LargeArray | LargeTexts
Form = Tag | Opaque | ClassName | Unordered | Pairs | HashOf | Large | Labelled | WrittenAs | NamedParts | Unprinted


def data_field(data: memoryview) -> dict[str, object]:
    """Return the field of a form that has the bytes of a buffer, or their hash."""
    if data.nbytes <= INLINE_BYTES:
        return {"base64": b64encode(data).decode()}
    return {"blake3": hash_buffer(data)}


def array_fields(data: memoryview, dtype: str, shape: list[int]) -> dict[str, object]:
    """Return the fields of the form of an array whose items are in one buffer.

    Args:
        data: the items' bytes, in C order.
        dtype: of the items, as NumPy's ``dtype.str``.
        shape: of the array.
    """
    found: dict[str, object] = {"dtype": dtype, "shape": shape}
    if data.nbytes <= INLINE_BYTES:
        return found | data_field(data)
    return found | {"blake3": LargeArray(hash_buffer(data), data.nbytes, dtype, shape, data.tobytes)}


def state(value: object, fields: Container[str] = (), below: type = object) -> dict[str, Any]:
    """Return the attributes of an instance that are not among its fields, and the slots of its class.

    What is only kept to save time is no state: the first look at it would change it. See `is_cache`.

    Args:
        value: the instance.
        fields: names that are written elsewhere.
        below: the class that the fields come from; its own slots and those of its bases are left out.
    """
    found = {
        name: item
        for name, item in pairs_of(instance_dict(value))
        if type(name) is not str or (name not in fields and not is_cache(type(value), name))
    }
    for base in mro(type(value)):
        if base is below:
            break
        for name, descriptor in pairs_of(namespace_of(base)):
            if type(descriptor) is MemberDescriptorType and name not in fields and not is_cache(base, name):
                item = _slot(value, name)
                if type(item) is not Tag:
                    found.setdefault(name, item)
    return found


def slot_names(cls: type, *, caches: bool = False) -> list[str]:
    """Return the names of all slots of a class and its bases, with or without those that are only caches."""
    return [
        name
        for base in mro(cls)
        for name, descriptor in pairs_of(namespace_of(base))
        if type(descriptor) is MemberDescriptorType and (caches or not is_cache(base, name))
    ]


_HASHES: Final = frozenset({"_attrs_cached_hash", "__msgspec_cached_hash__"})
"""Where attrs and msgspec keep an instance's hash code, which differs from process to process."""


def class_of(cls: type) -> ClassName:
    """Return the name of a class, for a form."""
    return ClassName(class_name(cls), cls)


def is_cache(cls: type, name: str) -> bool:
    """Return True if an attribute of instances only keeps what can be computed again: a cached property, a hash code.

    Args:
        cls: the class of the instance; where attrs has put the attribute into a slot, the class that has the slot.
        name: of the attribute.
    """
    if name in _HASHES:
        return True
    kind = type(class_attribute(cls, name))
    if kind is MemberDescriptorType:
        return name in _cached_slots(cls)
    return inherits(kind, cached_property) or "cached_property" in class_name(kind)  # Django and others have their own


def _cached_slots(cls: type) -> Container[str]:
    """Return the names of the cached properties for which attrs has made slots: its ``__getattr__`` knows them."""
    function = namespace_of(cls).get("__getattr__")
    if type(function) is not FunctionType or "__attrs_attrs__" not in namespace_of(cls):
        return ()
    names, values = function.__code__.co_varnames, function.__defaults__ or ()
    found = values[0] if values and "cached_properties" in names else ()
    return found if type(found) is dict else ()


def stored(value: object, names: Iterable[str]) -> dict[str, Any]:
    """Return named attributes of an object, as its dictionary or slots have them.

    Properties and ``__getattr__`` are not run: an attribute that only they have is a tagged "missing".
    """
    attributes = instance_dict(value)
    return {name: attributes[name] if name in attributes else _slot(value, name) for name in names}


def _slot(value: object, name: str) -> Any:
    descriptor = class_attribute(type(value), name)
    if type(descriptor) is MemberDescriptorType:
        try:
            return descriptor.__get__(value)
        except AttributeError:
            pass
    return Tag("missing")


def tag_with_state(kind: str, value: object, fields: dict[str, Any], base: type, own: Container[str] = ()) -> Tag:
    """Tag a value; of a subclass, its class and what it adds to an instance is written as well.

    Args:
        kind: of the form.
        value: the value.
        fields: what the library's own class holds.
        base: that class.
        own: the names of the attributes in which it holds that.
    """
    if type(value) is not base:
        fields["class"] = class_of(type(value))
        if more := state(value, own, below=base):
            fields["state"] = more
    return Tag(kind, sorted(fields.items()))


def labelled(name: Any, value: object, form: object) -> object:
    """Return values with the name of their column or index, which may be secret; most have none."""
    names = name if type(name) is tuple else (name,)
    return Labelled(name, WrittenAs(value, form)) if any(inherits(type(item), str) for item in names) else form
