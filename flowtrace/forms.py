"""The vocabulary between the codecs, which say what a value is made of, and the encoder, which writes it.

A codec answers with one of these; anything inside them is an ordinary Python value again.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any, Final

# Straight to the interpreter's own view of a class: a metaclass can override none of these.
_mro = type.__dict__["__mro__"].__get__
_namespace = type.__dict__["__dict__"].__get__
_qualname = type.__dict__["__qualname__"].__get__
_DESCRIPTORS: Final = frozenset({GetSetDescriptorType, MemberDescriptorType})
_module = type.__dict__["__module__"].__get__
MISSING: Final = object()


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


Form = Tag | Opaque | Unordered | Pairs | HashOf


def mro(cls: type) -> tuple[type, ...]:
    """Return a class's bases as the interpreter sees them, whatever its metaclass says."""
    found: tuple[type, ...] = _mro(cls)
    return found


def inherits(cls: type, base: type) -> bool:
    """Tell whether a class is, or derives from, another; no ``__subclasscheck__`` or ``__eq__`` is run."""
    return type.__subclasscheck__(base, cls)


def class_name(cls: type) -> str:
    """Return ``module:qualname`` of a class, without running code of its metaclass."""
    return f"{module_name(cls)}:{_text(_qualname(cls))}"


def module_name(cls: type) -> str:
    """Return the name of the module that a class comes from; ``?`` where the class says something else."""
    try:
        found = _module(cls)
    except AttributeError:
        return "?"
    return _text(found) if inherits(type(found), str) else "?"


def _text(name: str) -> str:
    """Return an exact str that UTF-8 can hold."""
    return str.__str__(name).encode("utf-8", "backslashreplace").decode()


def root_package(cls: type) -> str:
    """Return the first part of the name of the module that a class comes from."""
    return module_name(cls).partition(".")[0]


def class_attribute(cls: type, name: str) -> Any:
    """Return an attribute from the class's own dictionaries, unbound, or MISSING; no descriptor is run."""
    for base in mro(cls):
        found = _namespace(base).get(name, MISSING)
        if found is not MISSING:
            return found
    return MISSING


def instance_dict(value: object) -> dict[str, Any]:
    """Return an object's own attributes, without running code of its class; empty where it has none."""
    for base in mro(type(value)):
        descriptor = _namespace(base).get("__dict__")
        if type(descriptor) in _DESCRIPTORS:
            attributes: dict[str, Any] = descriptor.__get__(value)
            return attributes
    return {}


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
        for name, descriptor in pairs_of(_namespace(base)):
            if type(descriptor) is MemberDescriptorType and name not in known and name != "__dict__":
                item = _slot(value, name)
                if type(item) is not Tag:
                    found.setdefault(name, item)
    return found


def _is_cached(value: object, name: str) -> bool:
    return type(class_attribute(type(value), name)) is cached_property


def pairs_of(mapping: Any) -> list[tuple[Any, Any]]:
    """Return the items of a dict, or of a class's namespace, also where another thread is changing it."""
    for _ in range(10):
        try:
            return list(dict.items(mapping) if inherits(type(mapping), dict) else mapping.items())
        except RuntimeError:
            continue
    raise RuntimeError("changed all the time")


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
