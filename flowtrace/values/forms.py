"""Forms: what the codecs make of a value, for the encoder to write. Any part of a form is an ordinary value again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MemberDescriptorType
from typing import Any, Final

from flowtrace.host.objects import class_attribute, instance_dict, mro, namespace_of, pairs_of

TAG: Final = "$py"
"""The key that marks an object of canonical JSON as a tagged form. Its value is the kind of the form."""


@dataclass(slots=True)  # not frozen: that would make each one cost three times as much
class Tag:
    """A tagged object: ``{"$py": kind, ...}``. Field names must be lower-case and in sorted order."""

    kind: str
    fields: Sequence[tuple[str, object]] = ()


@dataclass(frozen=True, slots=True)
class Opaque:
    """A value whose content can't be read: only its class is written."""

    name: str


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


Form = Tag | Opaque | Unordered | Pairs | HashOf | Labelled | WrittenAs | NamedParts | Unprinted


def state(value: object, fields: Container[str] = (), below: type = object) -> dict[str, Any]:
    """Return the attributes of an instance that are not among its fields, and the slots of its class.

    The values of ``functools.cached_property`` are no state: the first look at such an attribute would change it.

    Args:
        value: the instance.
        fields: names that are written elsewhere.
        below: the class that the fields come from; its own slots and those of its bases are left out.
    """
    found = {
        name: item
        for name, item in pairs_of(instance_dict(value))
        if type(name) is not str or (name not in fields and not _is_cached(value, name))
    }
    for base in mro(type(value)):
        if base is below:
            break
        for name, descriptor in pairs_of(namespace_of(base)):
            if type(descriptor) is MemberDescriptorType and name not in fields and name != "__dict__":
                item = _slot(value, name)
                if type(item) is not Tag:
                    found.setdefault(name, item)
    return found


def slot_names(cls: type) -> list[str]:
    """Return the names of all slots of a class and its bases."""
    return [
        name
        for base in mro(cls)
        for name, descriptor in pairs_of(namespace_of(base))
        if type(descriptor) is MemberDescriptorType and name != "__dict__"
    ]


def _is_cached(value: object, name: str) -> bool:
    return type(class_attribute(type(value), name)) is cached_property


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
