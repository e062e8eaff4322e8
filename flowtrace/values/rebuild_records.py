"""Records from their forms: enum members, dataclasses, attrs instances, msgspec structs and pydantic models.

They are restored as they were recorded. No ``__init__`` of the program runs, since it might refuse or change a state
that the instance reached later. A field that the class did not have then takes its default.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Set
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import fields as fields_of
from types import MemberDescriptorType
from typing import Any, Final

from flowtrace.host.objects import MISSING, class_attribute, dict_getter, inherits
from flowtrace.values.forms_records import MARKS

Fields = dict[str, Any]


def is_of_kind(kind: str, cls: type) -> bool:
    """Return True if a class makes records of a kind: a trace can name no other class for it."""
    if kind == "enum":
        return inherits(cls, enum.Enum)
    if kind == "namedtuple":
        return inherits(cls, tuple) and type(class_attribute(cls, "_fields")) is tuple
    return class_attribute(cls, MARKS[kind]) is not MISSING


def enum_member(cls: type[enum.Enum], name: Any, value: Any) -> enum.Enum:
    """Return a member of an enum by its name; a combination of flags by its value."""
    if isinstance(name, str) and name in cls.__members__:
        return cls.__members__[name]
    if not inherits(cls, enum.Flag):
        raise ValueError(f"it has no member {name!r:.80} any more")
    return cls(value)


def set_attributes(instance: Any, attributes: Fields) -> None:
    """Set attributes where an instance keeps them, in its dictionary and in slots.

    No ``__setattr__``, property or other descriptor of its class is run.

    Raises:
        AttributeError: there is no such slot, and no dictionary.
    """
    getter = dict_getter(type(instance))
    for name, value in attributes.items():
        slot = class_attribute(type(instance), name)
        if type(slot) is MemberDescriptorType:
            slot.__set__(instance, value)
        elif getter is not None:
            getter(instance)[name] = value
        else:
            raise AttributeError(f"it has no place for {name!r:.80}")


def _dataclass(cls: Any, fields: Fields, unset: Set[str]) -> Any:
    declared = {item.name: item for item in fields_of(cls)}
    _refuse_unknown(fields, declared)
    new = [item for name, item in declared.items() if name not in fields and name not in unset]
    fields = fields | {item.name: _default(item.name, item.default, item.default_factory) for item in new}
    return _bare_instance(cls, fields, declared)


def _default(name: str, default: Any, factory: Any) -> Any:
    if factory is not NO_DEFAULT:
        return factory()
    if default is not NO_DEFAULT:
        return default
    raise ValueError(f"it has a field {name!r} now, which has no default and was not recorded")


def _attrs(cls: Any, fields: Fields, unset: Set[str]) -> Any:
    declared = {item.name: item for item in cls.__attrs_attrs__}
    _refuse_unknown(fields, declared)
    new = [item for name, item in declared.items() if name not in fields and name not in unset]
    return _bare_instance(cls, fields | {item.name: _attrs_default(item.name, item.default) for item in new}, declared)


def _attrs_default(name: str, default: Any) -> Any:
    has_none = type(default).__qualname__ == "_Nothing" or getattr(default, "takes_self", False)
    return _default(name, NO_DEFAULT if has_none else default, getattr(default, "factory", NO_DEFAULT))


def _struct(cls: Any, fields: Fields, _unset: Set[str]) -> Any:
    return cls(**fields)


def _pydantic(cls: Any, fields: Fields, _unset: Set[str]) -> Any:
    declared = cls.__pydantic_fields__
    extra = {name: value for name, value in fields.items() if name not in declared}
    if extra and cls.model_config.get("extra") != "allow":
        _refuse_unknown(fields, declared)
    new = {name: item.get_default(call_default_factory=True) for name, item in declared.items() if name not in fields}
    instance: Any = object.__new__(cls)
    inner = {
        "__dict__": _in_order(fields | new, declared),
        "__pydantic_fields_set__": set(fields),
        "__pydantic_extra__": extra if cls.model_config.get("extra") == "allow" else None,
        "__pydantic_private__": None,
    }
    for name, value in inner.items():
        if name == "__dict__" or _is_slot(cls, name):
            object.__setattr__(instance, name, value)
    return instance


def _is_slot(cls: type, name: str) -> bool:
    """Return True if instances keep a value under a name; a RootModel's class has it for all of them."""
    return type(class_attribute(cls, name)) is MemberDescriptorType


def restore_inner(instance: Any, unset: Iterable[str], private: Fields | None) -> None:
    """Restore what a pydantic model keeps beside its fields.

    Args:
        instance: the model.
        unset: names of the fields that its maker did not set.
        private: its private attributes; None for none.
    """
    instance.__pydantic_fields_set__.difference_update(unset)
    if private is not None or _is_slot(type(instance), "__pydantic_private__"):
        object.__setattr__(instance, "__pydantic_private__", private)


def _refuse_unknown(fields: Fields, declared: Any) -> None:
    gone = [name for name in fields if name not in declared]
    if gone:
        raise ValueError(f"it has no field {gone[0]!r} any more")


def _bare_instance(cls: type, fields: Fields, declared: Iterable[str]) -> Any:
    instance: Any = object.__new__(cls)
    set_attributes(instance, _in_order(fields, declared))
    return instance


def _in_order(fields: Fields, declared: Iterable[str]) -> Fields:
    """Return fields in the order in which the class declares them, as its ``__init__`` sets them."""
    return {name: fields[name] for name in declared if name in fields}


MAKERS: Final[dict[str, Callable[[Any, Fields, Set[str]], Any]]] = {
    "dataclass": _dataclass,
    "attrs": _attrs,
    "struct": _struct,
    "pydantic": _pydantic,
}
"""Functions that make a record, by kind: they take the class, its fields, and the names of those that were not set."""
