"""Copies of objects, as the native core makes them: their forms can be made later, whatever the program does to them.

A copier says what of a class's instances that is: nothing, for what can't change and for what has no form of its own;
the fields of a record; the name and the value of an enum member. The core asks for it once, after an instance was
encoded in Python, and again when the class was changed. What it has copied comes back as a `Copy`.
"""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Callable, Iterable
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Final, NamedTuple
from uuid import UUID
from weakref import ref
from zoneinfo import ZoneInfo

from flowtrace.host.objects import class_attribute, class_name, dict_getter, inherits, instance_dict, pairs_of
from flowtrace.host.system import datetime
from flowtrace.values.forms import ClassName, Form, Opaque, Tag, is_cache, slot_names
from flowtrace.values.forms_builtin import base_plan
from flowtrace.values.forms_records import (
    ENUM_NAMES,
    ENUM_NOTES,
    PYDANTIC_SLOTS,
    Record,
    generic_arguments,
    hidden_base,
    layout_of,
    left_out,
    printed,
    pydantic_fields,
    pydantic_parts,
)


class CopyMode(IntEnum):
    """How the core takes an instance. The numbers are those of ``enum copy_mode`` in ``native/native.h``."""

    NEVER = 0  # Python has to look at each one
    BY_REFERENCE = 1  # it can't change
    ZONED = 2  # it can't change, if its tzinfo can't
    NAMED = 3  # its class is all that is written
    FIELDS = 4  # it has these attributes, and no others
    MEMBER = 5  # an enum member: of its attributes, these; where it may be secret, it has none but the slots' names
    ITEMS = 6  # a named tuple


class Copier(NamedTuple):
    """How the core takes the instances of a class.

    Attributes:
        mode: which of the modes.
        make: takes the attributes that were copied, by name; returns what is encoded in place of the instance.
        names: of the attributes that are in the instance's dictionary; None where it has none.
        slots: the names of those that are in slots, or of a tuple's items; of an enum member, those that need no look.
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
_SCALARS: Final = (
    *("bool_", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128", "datetime64", "timedelta64"),
)
_GONE: Final = type("Gone", (), {})
"""Stands for a class that is gone. No module has it under its name."""


class Copy:
    """A copy of an object: its attributes.

    Args:
        source: says what its class was.
        fields: its attributes by name.
    """

    __slots__ = ("_fields", "_source")

    def __init__(self, source: _Source, fields: dict[str, Any]) -> None:
        self._source = source
        self._fields = fields

    def form(self) -> Form:
        """Return the form that the object had."""
        return self._source.form(self._fields)

    def parts(self) -> tuple[list[object], dict[str, Any]]:
        """Return what the object was, as a member of an enum of texts is a text, and its attributes."""
        items = [self._fields[name] for name in self._source.content]
        return items, {} if self._source.is_text else self._fields


class _Source:
    """The class of what is copied, which is not held: it may be gone when the copy is written.

    Args:
        kind: of the form.
        cls: the class.

    Attributes:
        content: the attributes that an instance is: the value of an enum of texts, the items of a named tuple.
        is_text: an instance is a text, and nothing else of it is one.
    """

    __slots__ = ("_cls", "_kind", "_name", "content", "is_text")

    def __init__(self, kind: str, cls: type, content: Iterable[str] = (), is_text: bool = False) -> None:
        self._kind = kind
        self._name = class_name(cls)
        self._cls = ref(cls)
        self.content = tuple(content)
        self.is_text = is_text

    def __call__(self, fields: dict[str, Any]) -> Copy:
        return Copy(self, fields)

    def form(self, fields: dict[str, Any]) -> Form:
        """Return the form of an instance with these attributes."""
        if self._kind == "opaque":
            return Opaque(self._name)
        named = ClassName(self._name, self._cls() or _GONE)
        if self._kind == "enum":
            return Tag("enum", [("class", named), *zip(("name", "value"), map(fields.get, ENUM_NAMES), strict=True)])
        if self._kind == "pydantic":
            return _form_of_model(named, fields)
        return Tag(self._kind, [("class", named), ("fields", fields)])


def fixed_copier(cls: type) -> Copier | None:
    """Return the copier of a type of the standard library, or of one of NumPy's numbers; None for any other class."""
    return Copier(CopyMode.BY_REFERENCE) if _is_scalar(cls) else _FIXED.get(id(cls))


def _is_scalar(cls: type) -> bool:
    numpy: Any = sys.modules.get("numpy")
    return numpy is not None and any(cls is getattr(numpy, name, None) for name in _SCALARS)


def record_copier(record: Record, cls: type) -> Copier:
    """Return the copier of records that have nothing but their fields."""
    in_dict, dict_at, in_slots = record.layout
    if layout_of([*in_dict, *(name for name, _ in in_slots)], cls) != record.layout:  # the class was changed since
        return NO_COPIER
    names = None if dict_at is None else in_dict
    return Copier(CopyMode.FIELDS, _Source(record.kind, cls), names, tuple(name for name, _ in in_slots))


def enum_copier(cls: type) -> Copier:
    """Return the copier of the members of an enum.

    Of a member that may be secret, all texts are searched for: it is copied only if it has none but its name and value.
    """
    is_text, is_number = inherits(cls, str), inherits(cls, int)
    is_plain = base_plan(cls) is None or ((is_text or is_number) and all(map(_is_its_value, _members_of(cls))))
    notes = ENUM_NOTES if is_plain and not slot_names(cls, caches=True) else ()
    content = ENUM_NAMES[1:] if is_text or is_number else ()
    return Copier(CopyMode.MEMBER, _Source("enum", cls, content, is_text), frozenset(ENUM_NAMES), notes)


def _members_of(cls: type) -> list[Any]:
    members = class_attribute(cls, "_member_map_")
    return [item for _, item in pairs_of(members)] if type(members) is dict else []


def _is_its_value(member: Any) -> bool:
    value = instance_dict(member).get("_value_")
    exact = str.__str__(member) if inherits(type(member), str) else int.__int__(member)
    return type(value) is type(exact) and bool(value == exact)


def tuple_copier(cls: type) -> Copier:
    """Return the copier of named tuples that have nothing but their items."""
    names = class_attribute(cls, "_fields")
    is_named = type(names) is tuple and all(type(name) is str for name in names) and len(set(names)) == len(names)
    if not is_named or dict_getter(cls) is not None or slot_names(cls, caches=True):
        return NO_COPIER
    return Copier(CopyMode.ITEMS, _Source("namedtuple", cls, names), None, names)


def pydantic_copier(cls: type) -> Copier:
    """Return the copier of models that have nothing but what pydantic gives them."""
    fields = pydantic_fields(cls)
    layout = layout_of([*fields, *PYDANTIC_SLOTS], cls)
    is_plain = (
        layout is not None and layout.in_dict == fields.keys() and base_plan(cls) is None and not hidden_base(cls)
    )
    if (
        not is_plain
        or not all(fields.values())
        or generic_arguments(cls)
        or any(is_cache(cls, name) for name in fields)
    ):
        return NO_COPIER
    return Copier(CopyMode.FIELDS, _Source("pydantic", cls), frozenset(fields), PYDANTIC_SLOTS)


def _form_of_model(named: ClassName, attributes: dict[str, Any]) -> Form:
    own = {name: item for name, item in attributes.items() if name not in PYDANTIC_SLOTS}
    fields, unset, private = pydantic_parts(own, **{name: attributes[name] for name in PYDANTIC_SLOTS})
    state = {"state": private} if private else {}
    shown = printed(fields, left_out(pydantic_fields(named.cls)))  # the class's fields can be changed in place
    return Tag("pydantic", list({"class": named, "fields": shown, **state, **unset}.items()))


def opaque_copier(cls: type) -> Copier:
    """Return the copier of objects of which only the class is written."""
    return Copier(CopyMode.NAMED, _Source("opaque", cls))
