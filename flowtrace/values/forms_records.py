"""The forms of records: enums, dataclasses, attrs classes, msgspec structs, pydantic models.

They are told by what their class is marked with, so that no library need be loaded to know its own.
"""

from __future__ import annotations

import enum
from dataclasses import Field
from typing import Any, Final

from flowtrace.host.objects import MISSING, class_attribute, class_name, inherits, instance_dict
from flowtrace.values.forms import Form, Tag, state, stored
from flowtrace.values.forms_builtin import Describe, describe_base


def describe_record(value: object, cls: type) -> Form | None:
    """Return the form of a record; None for any other value."""
    if inherits(cls, enum.Enum):
        return _enum(value)
    for mark, describe in _BY_MARK:
        if class_attribute(cls, mark) is not MISSING:
            return describe(value, cls)
    return None


def _enum(value: object) -> Form:
    attributes = instance_dict(value)
    fields = {"class": class_name(type(value)), "name": attributes.get("_name_"), "value": attributes["_value_"]}
    return Tag("enum", list(fields.items()))


def _record(kind: str, value: object, fields: dict[str, Any], beside: dict[str, Any]) -> Form:
    """Tag a record with its fields, and with all that would else make two different ones equal.

    Args:
        kind: of record.
        value: the record.
        fields: what its class declares.
        beside: what the instance holds beside them.
    """
    cls = type(value)
    found: dict[str, object] = {"class": class_name(cls), "fields": fields}
    if (content := describe_base(value, cls)) is not None:  # a dataclass that is an exception or a dict, too
        found["base"] = content
    elif beside:
        found["state"] = beside
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


_BY_MARK: Final[tuple[tuple[str, Describe], ...]] = (
    ("__dataclass_fields__", _dataclass),
    ("__attrs_attrs__", _attrs),
    ("__struct_fields__", _struct),
    ("__pydantic_validator__", _pydantic),
)
