"""The forms of records: enum members, dataclasses, attrs instances, msgspec structs, pydantic models.

A class is recognized by an attribute that its library gives it, so that the library need not be loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import Field
from enum import Enum
from functools import partial
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any, Final, NamedTuple

from flowtrace.host.objects import (
    MISSING,
    class_attribute,
    class_name,
    inherits,
    instance_dict,
    is_named,
    mro,
    namespace_of,
    pairs_of,
)
from flowtrace.values.forms import (
    TAG,
    ClassName,
    Form,
    Opaque,
    Tag,
    Unprinted,
    class_of,
    is_cache,
    slot_names,
    state,
    stored,
)
from flowtrace.values.forms_builtin import Describe, base_plan, describe_base
from flowtrace.values.json import type_ids

PYDANTIC_SLOTS: Final = ("__pydantic_extra__", "__pydantic_private__", "__pydantic_fields_set__")
"""The attributes in which a model has what is not in its dictionary."""
ENUM_NAMES: Final = ("_name_", "_value_")
"""The attributes of an enum member in which its name and its value are."""
ENUM_NOTES: Final = ("__objclass__", "_sort_order_", "_inverted_")
"""The attributes of an enum member in which Python notes what its class says anyway."""
_STR: Final = {id(str)}
_copy: Final = dict.copy
_POINTER: Final = tuple.__itemsize__  # a pointer
_PLAIN_SIZE: Final = object.__basicsize__

MARKS: Final = {
    "dataclass": "__dataclass_fields__",
    "attrs": "__attrs_attrs__",
    "struct": "__struct_fields__",
    "pydantic": "__pydantic_validator__",
}
"""The attribute that marks the class of each kind of record."""


def plan_of(value: object, cls: type) -> Describe | None:
    """Return how to describe the instances of a class of records; None for any other class.

    Args:
        value: one of them.
        cls: the class.
    """
    if inherits(cls, Enum):
        return describe_enum
    for kind, mark in MARKS.items():
        if class_attribute(cls, mark) is not MISSING:
            return _PLANS[kind](value, cls)
    return None


def describe_enum(value: object, cls: type) -> Form:
    """Return the form of an enum member."""
    attributes = instance_dict(value)
    name, content = ENUM_NAMES
    fields = [("class", class_of(cls)), ("name", attributes.get(name)), ("value", attributes[content])]
    return Tag("enum", fields)


def _record(
    kind: str, value: object, fields: dict[str, Any], more: dict[str, Any], hidden: str = "", **also: object
) -> Form:
    """Tag a record with its fields, and with everything else in which two of them may differ.

    Args:
        kind: of record.
        value: the record.
        fields: those that its class declares.
        more: other attributes of the instance.
        hidden: the name of a base that holds more than can be read.
        also: other parts of the form.
    """
    cls = type(value)
    found: dict[str, object] = {"class": class_of(cls), "fields": fields, **also}
    if (content := describe_base(value, cls)) is not None:  # a dataclass that is an exception or a dict, too
        found["base"] = content
    elif more:
        found["state"] = more
    if content is None and hidden:
        found["base"] = Opaque(hidden)
    return Tag(kind, sorted(found.items()))


def hidden_base(cls: type) -> str:
    """Return the name of the base, written in C, whose instances hold more than attributes and slots; "" for none.

    The sizes are those that `object.__reduce_ex__` looks at.
    """
    for base in reversed(mro(cls)):
        layout: Any = base
        offsets = [type.__dict__[name].__get__(layout) for name in ("__dictoffset__", "__weakrefoffset__")]
        expected = _PLAIN_SIZE + _POINTER * (sum(offset > 0 for offset in offsets) + len(slot_names(base, caches=True)))
        if type.__dict__["__basicsize__"].__get__(layout) > expected or type.__dict__["__itemsize__"].__get__(layout):
            return class_name(base)
    return ""


def _with_fields(kind: str, names: Sequence[str], cls: type, unprinted: Collection[str] = ()) -> Describe:
    """Return how to describe records whose class declares their fields."""

    def describe(value: object, _cls: type) -> Form:
        return _record(kind, value, printed(stored(value, names), unprinted), state(value, names), hidden)

    hidden = hidden_base(cls)
    layout = None if unprinted or base_plan(cls) is not None or hidden else layout_of(names, cls)
    return describe if layout is None else Record(kind, cls, layout, describe)


class Layout(NamedTuple):
    """Where the instances of a class have their attributes.

    Attributes:
        in_dict: the names of those in an instance's dictionary.
        dict_at: which base of the class has the descriptor of that dictionary; None for none.
        in_slots: the names of those in slots, each with the base that has the slot.
    """

    in_dict: frozenset[str]
    dict_at: int | None
    in_slots: tuple[tuple[str, int], ...]


class Record:
    """Describes records that have nothing but their fields.

    Args:
        kind: of the form.
        cls: their class, which is not held.
        layout: where their fields are.
        describe: describes those that have other attributes.

    Attributes:
        kind: see above.
        name: of the class.
        layout: see above.
    """

    __slots__ = ("_describe", "kind", "layout", "name")

    def __init__(self, kind: str, cls: type, layout: Layout, describe: Describe) -> None:
        self.kind = kind
        self.name = class_name(cls)
        self.layout = layout
        self._describe = describe

    def __call__(self, value: object, cls: type) -> Form:
        """Return the form of an instance."""
        fields = self.fields(value)
        if fields is None:
            return self._describe(value, cls)
        return Tag(self.kind, [("class", ClassName(self.name, cls)), ("fields", fields)])

    def fields(self, value: object) -> dict[str, Any] | None:
        """Return a new dictionary of an instance's fields by name; None where it has others.

        The class is found anew each time: what reads an attribute belongs to its class, and would keep it alive.
        """
        in_dict, dict_at, in_slots = self.layout
        bases = mro(type(value))
        try:
            found = {} if dict_at is None else _read(bases[dict_at], "__dict__", GetSetDescriptorType, value)
            if type(found) is not dict:  # one of the program's
                return None
            fields = _copy(found)
            if len(fields) != len(in_dict) or (fields and (type_ids(fields) != _STR or fields.keys() != in_dict)):
                return None
            for slot, at in in_slots:
                fields[slot] = _read(bases[at], slot, MemberDescriptorType, value)
        except (AttributeError, KeyError, IndexError):  # it was not set yet, or the class was changed
            return None
        return fields


def layout_of(names: Collection[str], cls: type) -> Layout | None:
    """Return where the instances of a class have attributes of these names; None where they may have others."""
    slots = list(dict.fromkeys(slot_names(cls)))
    in_dict = frozenset(names).difference(slots)
    dict_at = _index_of(cls, "__dict__", GetSetDescriptorType)
    is_replaced = any(type(class_attribute(cls, slot)) is not MemberDescriptorType for slot in slots)
    if is_replaced or not set(names).issuperset(slots) or (dict_at is None and in_dict) or TAG in names:
        return None
    return Layout(in_dict, dict_at, tuple((slot, _index_of(cls, slot, MemberDescriptorType) or 0) for slot in slots))


def _index_of(cls: type, name: str, kind: type) -> int | None:
    """Return which base of a class is the first with an attribute of a kind: 0 is the class itself; None for none."""
    return next((at for at, base in enumerate(mro(cls)) if type(namespace_of(base).get(name)) is kind), None)


def _read(base: type, name: str, kind: object, value: object) -> Any:
    descriptor: Any = namespace_of(base)[name]
    if type(descriptor) is not kind:  # the program has put something else there since
        raise AttributeError(name)
    return descriptor.__get__(value)


def _dataclass(_value: object, cls: type) -> Describe:
    definitions = class_attribute(cls, "__dataclass_fields__")
    shown = {name: _attribute(item, "repr") for name, item in definitions.items() if _is_field(item)}
    return _with_fields("dataclass", list(shown), cls, left_out(shown))


def left_out(shown: Mapping[str, object]) -> list[str]:
    """Return the names of the fields that a class leaves out of its repr."""
    return [name for name, is_shown in shown.items() if is_shown is False]


def printed(fields: dict[str, Any], unprinted: Collection[str]) -> dict[str, Any]:
    """Return fields without the values of some of them, which are not to be shown."""
    hidden = [name for name in unprinted if name in fields and type(fields[name]) is not Tag]
    return fields | {name: Unprinted(fields[name]) for name in hidden}


def _attribute(item: object, name: str) -> object:
    """Return an attribute of a library's own field, from its slot or dictionary."""
    return stored(item, (name,))[name]


def _is_field(item: Any) -> bool:
    kind = Field.__dict__["_field_type"].__get__(item)
    return bool(kind.name == "_FIELD")


def _attrs(_value: object, cls: type) -> Describe:
    shown = {item.name: _attribute(item, "repr") for item in class_attribute(cls, "__attrs_attrs__")}
    return _with_fields("attrs", list(shown), cls, left_out(shown))


def _struct(value: object, cls: type) -> Describe:
    # msgspec's own descriptor, in C, which takes an instance
    return _with_fields("struct", class_attribute(cls, "__struct_fields__").__get__(value), cls)


def _pydantic(_value: object, cls: type) -> Describe:
    return partial(describe_pydantic, hidden_base(cls))


def describe_pydantic(hidden: str, value: object, cls: type) -> Form:
    """Return the form of a model; `hidden` is the name of a base that holds more than can be read, or ""."""
    own = {name: item for name, item in pairs_of(instance_dict(value)) if not is_cache(cls, name)}
    fields, unset, private = pydantic_parts(own, **stored(value, PYDANTIC_SLOTS))
    shown = printed(fields, left_out(pydantic_fields(cls)))
    return _record("pydantic", value, shown, private, hidden, **generic_arguments(cls), **unset)


def pydantic_parts(
    own: dict[str, Any], *, __pydantic_extra__: object, __pydantic_private__: object, __pydantic_fields_set__: object
) -> tuple[dict[str, Any], dict[str, list[str]], dict[str, Any]]:
    """Return a model's fields, the part of its form with the names of those that were not set, and what is private.

    Args:
        own: what is in its dictionary.
        __pydantic_extra__: fields that its class does not declare, if these are allowed.
        __pydantic_private__: its private attributes, if it has any.
        __pydantic_fields_set__: the names of the fields that were set.
    """
    extra, private, were_set = __pydantic_extra__, __pydantic_private__, __pydantic_fields_set__
    fields = own | extra if type(extra) is dict else own
    unset = sorted(fields.keys() - were_set) if type(were_set) is set and type_ids(fields) <= _STR else []
    return fields, {"unset": unset} if unset else {}, private if type(private) is dict else {}


def pydantic_fields(cls: type) -> dict[str, object]:
    """Return whether each field that a class of models declares is in its repr."""
    definitions = class_attribute(cls, "__pydantic_fields__")  # model_fields before pydantic 2.10
    definitions = class_attribute(cls, "model_fields") if definitions is MISSING else definitions
    return {name: _attribute(item, "repr") for name, item in definitions.items()} if type(definitions) is dict else {}


def generic_arguments(cls: type) -> dict[str, object]:
    """Return what tells a class such as `Page[Item]`, which pydantic makes at run time: the class and the arguments."""
    generic = namespace_of(cls).get("__pydantic_generic_metadata__")
    if type(generic) is not dict or not generic.get("origin") or is_named(cls):
        return {}
    return {"class": ClassName(class_name(cls), generic["origin"]), "arguments": list(generic["args"])}


_PLANS: Final[dict[str, Callable[[object, type], Describe]]] = {
    "dataclass": _dataclass,
    "attrs": _attrs,
    "struct": _struct,
    "pydantic": _pydantic,
}
