"""Copies of objects, as the native core makes them: their forms can be made later, whatever the program does to them.

A copier says what of a class's instances that is: nothing, for what can't change and for what has no form of its own;
the fields of a record; the name and the value of an enum member. The core asks for it once, after an instance was
encoded in Python, and again when the class was changed. What it has copied comes back as a `Copy`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Final, NamedTuple
from uuid import UUID
from weakref import ref
from zoneinfo import ZoneInfo

from flowtrace.host.objects import class_name
from flowtrace.host.system import datetime
from flowtrace.values.forms import ClassName, Form, Opaque, Tag
from flowtrace.values.forms_builtin import base_plan
from flowtrace.values.forms_records import ENUM_NAMES, Record, layout_of


class CopyMode(IntEnum):
    """How the core takes an instance. The numbers are those of ``enum copy_mode`` in ``native/native.h``."""

    NEVER = 0  # Python has to look at each one
    BY_REFERENCE = 1  # it can't change
    ZONED = 2  # it can't change, if its tzinfo can't
    NAMED = 3  # its class is all that is written
    FIELDS = 4  # it has these attributes, and no others
    MEMBER = 5  # an enum member: of its attributes, these


class Copier(NamedTuple):
    """How the core takes the instances of a class.

    Attributes:
        mode: which of the modes.
        make: takes the attributes that were copied, by name; returns what is encoded in place of the instance.
        names: of the attributes that are in the instance's dictionary; None where it has none.
        slots: the names of those that are in slots.
    """

    mode: CopyMode
    make: Callable[[dict[str, Any]], Copy] | None = None
    names: frozenset[str] | None = None
    slots: tuple[str, ...] = ()


NO_COPIER: Final = Copier(CopyMode.NEVER)
"""Copies nothing."""
_CONSTANT: Final = (
    *(complex, Decimal, Fraction, UUID, PurePosixPath, PureWindowsPath, type(Path()), ZoneInfo),
    *(datetime.date, datetime.timedelta, datetime.timezone),
    *(ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Network),
    *(ipaddress.IPv6Network, ipaddress.IPv4Interface, ipaddress.IPv6Interface),
)
_FIXED: Final[dict[int, Copier]] = {
    **{id(cls): Copier(CopyMode.BY_REFERENCE) for cls in _CONSTANT},
    **{id(cls): Copier(CopyMode.ZONED) for cls in (datetime.datetime, datetime.time)},
}
"""The copiers of the standard library's values, by the id of the class. A subclass may add attributes."""
_GONE: Final = type("Gone", (), {})
"""Stands for a class that is gone. No module has it under its name."""


class Copy:
    """A copy of an object: its attributes.

    Args:
        source: says what its class was.
        fields: its attributes by name.

    Attributes:
        fields: the same.
    """

    __slots__ = ("_source", "fields")

    def __init__(self, source: _Source, fields: dict[str, Any]) -> None:
        self._source = source
        self.fields = fields

    def form(self) -> Form:
        """Return the form that the object had."""
        return self._source.form(self.fields)

    def content(self) -> list[object]:
        """Return what the object was beside its attributes: a member of an enum of texts is a text."""
        return [self.fields[ENUM_NAMES[1]]] if self._source.is_value else []


class _Source:
    """The class of what is copied, which is not held: it may be gone when the copy is written.

    Args:
        kind: of the form.
        cls: the class.

    Attributes:
        is_value: it is an enum, whose members are their values.
    """

    __slots__ = ("_cls", "_kind", "_name", "is_value")

    def __init__(self, kind: str, cls: type) -> None:
        self._kind = kind
        self._name = class_name(cls)
        self._cls = ref(cls)
        self.is_value = kind == "enum" and base_plan(cls) is not None

    def __call__(self, fields: dict[str, Any]) -> Copy:
        return Copy(self, fields)

    def form(self, fields: dict[str, Any]) -> Form:
        """Return the form of an instance with these attributes."""
        if self._kind == "opaque":
            return Opaque(self._name)
        named = ClassName(self._name, self._cls() or _GONE)
        if self._kind == "enum":
            return Tag("enum", [("class", named), *zip(("name", "value"), map(fields.get, ENUM_NAMES), strict=True)])
        return Tag(self._kind, [("class", named), ("fields", fields)])


def fixed_copier(cls: type) -> Copier:
    """Return the copier of a type that is built in, or of the standard library."""
    return _FIXED.get(id(cls), NO_COPIER)


def record_copier(record: Record, cls: type) -> Copier:
    """Return the copier of records that have nothing but their fields."""
    in_dict, dict_at, in_slots = record.layout
    if layout_of([*in_dict, *(name for name, _ in in_slots)], cls) != record.layout:  # the class was changed since
        return NO_COPIER
    names = None if dict_at is None else in_dict
    return Copier(CopyMode.FIELDS, _Source(record.kind, cls), names, tuple(name for name, _ in in_slots))


def enum_copier(cls: type) -> Copier:
    """Return the copier of the members of an enum."""
    return Copier(CopyMode.MEMBER, _Source("enum", cls), frozenset(ENUM_NAMES))


def opaque_copier(cls: type) -> Copier:
    """Return the copier of objects of which only the class is written."""
    return Copier(CopyMode.NAMED, _Source("opaque", cls))
