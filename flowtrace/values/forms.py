"""The vocabulary between the codecs, which say what a value is made of, and the encoder, which writes it.

A codec answers with one of these; anything inside them is an ordinary Python value again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MemberDescriptorType
from typing import Any

from flowtrace.host.objects import class_attribute, instance_dict, mro, namespace_of, pairs_of


@dataclass(frozen=True, slots=True)
class Tag:
    """A tagged object: ``{"$py": kind, ...}``. Field names must be lower-case and in sorted order."""

    kind: str
    fields: Sequence[tuple[str, object]] = ()


@dataclass(frozen=True, slots=True)
class Opaque:
    """A value without honest content: only its class is told."""

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
    """The hex hash of a value's canonical bytes, in place of the value; NaN and infinities in it are told apart."""

    value: object


@dataclass(frozen=True, slots=True)
class Under:
    """A value that has a name (a text, or a tuple of them); it is hidden where that name is secret."""

    name: object
    value: object


@dataclass(frozen=True, slots=True)
class As:
    """A value that is written as something else here: the form that its codec gave it in this place."""

    value: object
    form: object


@dataclass(frozen=True, slots=True)
class Named:
    """A value whose parts have names that are not written: as it is, or apart where some part may be hidden.

    Attributes:
        names: the names of all parts.
        whole: the value.
        apart: makes the same value, with each named part `Under` its name.
        is_alike: taking it apart alone changes no byte; else only a secret name does so, and no redactor is asked.
    """

    names: Collection[object]
    whole: object
    apart: Callable[[], object]
    is_alike: bool = True


Form = Tag | Opaque | Unordered | Pairs | HashOf | Under | As | Named


def state(value: object, known: Container[str] = (), below: type = object) -> dict[str, Any]:
    """Return what an instance holds beside its known fields: other attributes, and slots of classes derived later.

    What ``functools.cached_property`` has left behind is no state: it would change with the first look at it.

    Args:
        value: the instance.
        known: names that are told already.
        below: the class that the known fields come from; its own slots and those of its bases are left out.
    """
    found = {
        name: item
        for name, item in pairs_of(instance_dict(value))
        if type(name) is not str or (name not in known and not _is_cached(value, name))
    }
    for base in mro(type(value)):
        if base is below:
            break
        for name, descriptor in pairs_of(namespace_of(base)):
            if type(descriptor) is MemberDescriptorType and name not in known and name != "__dict__":
                item = _slot(value, name)
                if type(item) is not Tag:
                    found.setdefault(name, item)
    return found


def _is_cached(value: object, name: str) -> bool:
    return type(class_attribute(type(value), name)) is cached_property


def stored(value: object, names: Iterable[str]) -> dict[str, Any]:
    """Return the named attributes that an object really stores, in its dictionary or slots.

    Properties and ``__getattr__`` are not run: a name that only they would answer reads as a tagged "missing".
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
