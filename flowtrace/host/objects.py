"""Straight to the interpreter's own view of a class: a metaclass can override nothing of it."""

from __future__ import annotations

from collections.abc import Mapping
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any, Final

RECEIVER_NAMES: Final = frozenset({"self", "cls", "mcs", "mcls", "metacls"})
"""What the first parameter of a method is called, where that has to tell."""
NO_RECEIVERS: Final = frozenset(
    map(id, (type(None), bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset))
)
"""Identities of classes that no method of a program stands in. A class itself might be asked for its hash."""
_DESCRIPTORS: Final = frozenset({GetSetDescriptorType, MemberDescriptorType})
MISSING: Final = object()
_mro = type.__dict__["__mro__"].__get__
_bases = type.__dict__["__bases__"].__get__
_namespace = type.__dict__["__dict__"].__get__
_qualname = type.__dict__["__qualname__"].__get__
_module = type.__dict__["__module__"].__get__
_subclasses = type.__dict__["__subclasses__"]


def mro(cls: type) -> tuple[type, ...]:
    """Return a class's bases as the interpreter sees them, whatever its metaclass says."""
    found: tuple[type, ...] = _mro(cls)
    return found


def first_base(cls: type) -> type:
    """Return the first class that a class was derived from."""
    found: tuple[type, ...] = _bases(cls)
    return found[0]


def direct_subclasses(cls: type) -> list[type]:
    """Return the classes that were derived from a class and are still there."""
    found: list[type] = _subclasses(cls)
    return found


def namespace_of(cls: type) -> Mapping[str, Any]:
    """Return what a class itself defines, by name."""
    found: Mapping[str, Any] = _namespace(cls)
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
        found = namespace_of(base).get(name, MISSING)
        if found is not MISSING:
            return found
    return MISSING


def instance_dict(value: object) -> dict[str, Any]:
    """Return an object's own attributes, without running code of its class; empty where it has none."""
    for base in mro(type(value)):
        descriptor: Any = namespace_of(base).get("__dict__")
        if type(descriptor) in _DESCRIPTORS:
            attributes: dict[str, Any] = descriptor.__get__(value)
            return attributes
    return {}


def pairs_of(mapping: Any) -> list[tuple[Any, Any]]:
    """Return the items of a dict, or of a class's namespace, also where another thread is changing it."""
    for _ in range(10):
        try:
            return list(dict.items(mapping) if inherits(type(mapping), dict) else mapping.items())
        except RuntimeError:
            continue
    raise RuntimeError("changed all the time")
