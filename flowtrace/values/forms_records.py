"""The forms of records: enum members, dataclasses, attrs instances, msgspec structs, pydantic models.

A class is recognized by an attribute that its library gives it, so that the library need not be loaded.
"""

from __future__ import annotations

from dataclasses import Field
from enum import Enum
from typing import Any, Final

from flowtrace.host.objects import MISSING, class_attribute, class_name, inherits, instance_dict
from flowtrace.values.forms import Form, Tag, state, stored
from flowtrace.values.forms_builtin import Describe, describe_base

MARKS: Final = {
    "dataclass": "__dataclass_fields__",
    "attrs": "__attrs_attrs__",
    "struct": "__struct_fields__",
    "pydantic": "__pydantic_validator__",
}
"""The attribute that marks the class of each kind of record."""


def describe_record(value: object, cls: type) -> Form | None:
    """Return the form of a record; None for any other value."""
    if inherits(cls, Enum):
        return _enum(value)
    for kind, mark in MARKS.items():
        if class_attribute(cls, mark) is not MISSING:
            return _DESCRIBE[kind](value, cls)
    return None


def _enum(value: object) -> Form:
    attributes = instance_dict(value)
    fields = {"class": class_name(type(value)), "name": attributes.get("_name_"), "value": attributes["_value_"]}
    return Tag("enum", list(fields.items()))


def _record(kind: str, value: object, fields: dict[str, Any], more: dict[str, Any]) -> Form:
    """Tag a record with its fields, and with everything else in which two of them may differ.

    Args:
        kind: of record.
        value: the record.
        fields: those that its class declares.
        more: other attributes of the instance.
    """
    cls = type(value)
    found: dict[str, object] = {"class": class_name(cls), "fields": fields}
    if (content := describe_base(value, cls)) is not None:  # a dataclass that is an exception or a dict, too
        found["base"] = content
    elif more:
        found["state"] = more
    return Tag(kind, sorted(found.items()))


def _dataclass(value: object, cls: type) -> Form:
    definitions = class_attribute(cls, "__dataclass_fields__")
    names = [name for name, item in definitions.items() if _is_field(item)]
    return _record("dataclass", value, stored(value, names), state(value, names))


def _is_field(item: Any) -> bool:
    kind = Field.__dict__["_field_type"].__get__(item)
    return bool(kind.name == "_FIELD")


def _attrs(value: object, cls: type) -> Form:
    names = [item.name for item in class_attribute(cls, "__attrs_attrs__")]
    return _record("attrs", value, stored(value, names), state(value, names))


def _struct(value: object, cls: type) -> Form:
    names: tuple[str, ...] = class_attribute(cls, "__struct_fields__").__get__(value)  # msgspec's own, in C
    return _record("struct", value, stored(value, names), state(value, names))


def _pydantic(value: object, _cls: type) -> Form:
    inner = stored(value, ("__pydantic_extra__", "__pydantic_private__"))
    extra, private = inner.values()
    fields = dict(instance_dict(value)) | (extra if type(extra) is dict else {})
    return _record("pydantic", value, fields, private if type(private) is dict else {})


_DESCRIBE: Final[dict[str, Describe]] = {
    "dataclass": _dataclass,
    "attrs": _attrs,
    "struct": _struct,
    "pydantic": _pydantic,
}
