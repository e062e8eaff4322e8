"""The forms of built-in types, of the standard library's values, and of their subclasses.

No code of the value's class is run: its content is read through the C methods of the built-in base class, instance
dictionaries and slots. ``docs/pages/reference/canonical-json.md`` has the table of forms.
"""

from __future__ import annotations

import ipaddress
import sys
from array import array
from base64 import b64encode
from collections import OrderedDict, deque
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from pickle import PicklingError
from types import BuiltinFunctionType, FunctionType, ModuleType, SimpleNamespace
from typing import Any, Final, Generic, TypeVar
from uuid import UUID, SafeUUID
from zoneinfo import ZoneInfo

from flowtrace.host.objects import class_attribute, class_name, inherits, instance_dict, named, pairs_of
from flowtrace.host.system import datetime, re
from flowtrace.values.encoded import hash_buffer
from flowtrace.values.forms import INLINE_BYTES as INLINE_BYTES
from flowtrace.values.forms import Form, Opaque, Pairs, Tag, Unordered, class_of, data_field, state, stored

_ALL: Final = slice(None)
_UTC: Final = datetime.UTC
ADDRESSES: Final = (
    *(ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Network),
    *(ipaddress.IPv6Network, ipaddress.IPv4Interface, ipaddress.IPv6Interface),
)
Describe = Callable[[Any, type], Form]
_T = TypeVar("_T")


class _Some(Generic[_T]):
    """Any generic class: the aliases of all have one type."""


def _with_class(kind: str, value: object, fields: dict[str, object], base: type) -> Tag:
    """Tag a value; of a subclass, the class and other attributes of the instance are written as well."""
    if type(value) is not base:
        fields["class"] = class_of(type(value))
        if more := state(value, below=base):
            fields["state"] = more
    return Tag(kind, sorted(fields.items()))


def _buffer(kind: str, value: object, data: memoryview, base: type) -> Form:
    fields = data_field(data) | ({"size": data.nbytes} if data.nbytes > INLINE_BYTES else {})
    return _with_class(kind, value, fields, base)


def _bytes(value: bytes, cls: type) -> Form:
    # sliced, since a subclass may have a __buffer__ of its own; a slice of exact bytes is no copy
    return _buffer("bytes", value, memoryview(bytes.__getitem__(value, _ALL)), bytes)


def _bytearray(value: bytearray, cls: type) -> Form:
    return _buffer("bytearray", value, memoryview(bytearray.__getitem__(value, _ALL)), bytearray)


def _memoryview(value: memoryview, cls: type) -> Form:
    data = value.tobytes()  # a copy: while a view of it is open, the program could not release its own
    return Tag("memoryview", [("data", data), ("format", value.format), ("shape", value.shape)])


def _array(value: array[Any], cls: type) -> Form:
    data = memoryview(value.tobytes())
    fields = [("blake3", hash_buffer(data)), ("size", len(value))]
    return Tag("array.array", [*fields, ("typecode", value.typecode)])


def _string(value: str, cls: type) -> Form:
    """A subclass, or text with lone surrogates, which UTF-8 can't hold."""
    exact = str.__str__(value)
    try:
        exact.encode()
    except UnicodeEncodeError:
        encoded = b64encode(exact.encode("utf-8", "surrogatepass")).decode()
        return _with_class("str", value, {"surrogates": encoded}, str)
    return _with_class("str", value, {"value": exact}, str)


def _integer(value: int, cls: type) -> Form:
    exact = int.__int__(value)
    fits = -(2**63) <= exact < 2**64
    return _with_class("int", value, {"value": exact} if fits else {"hex": hex(exact)}, int)


def _float(value: float, cls: type) -> Form:
    return _with_class("float", value, {"value": float.__float__(value)}, float)


def _complex(value: complex, cls: type) -> Form:
    real, imag = complex.real.__get__(value), complex.imag.__get__(value)
    return _with_class("complex", value, {"imag": imag, "real": real}, complex)


def _dict(value: dict[Any, Any], cls: type) -> Form:
    pairs = pairs_of(value)
    ordered = inherits(cls, OrderedDict)
    if ordered and all(_is_hashed_by_python(key) for key, _ in pairs):  # its order is read by looking each key up
        by_key = {id(key): (key, item) for key, item in pairs}
        moved = [id(key) for key in class_attribute(OrderedDict, "__iter__")(value)]
        pairs = [by_key[key] for key in moved] if by_key.keys() == set(moved) else pairs
    return _with_class("dict", value, {"items": Pairs(pairs, ordered)}, dict)


def _is_hashed_by_python(key: object) -> bool:
    """Return True if no code of the program runs where a key is looked up."""
    if type(key) is tuple:
        return all(map(_is_hashed_by_python, key))
    return type(key) in (str, int, float, bool, complex, bytes, type(None))


def _list(value: list[Any], cls: type) -> Form:
    return _with_class("list", value, {"items": list(list.__iter__(value))}, list)


def describe_tuple(value: tuple[Any, ...], cls: type) -> Form:
    """Return the form of an instance of a subclass of tuple; the fields of a named one."""
    named_ones = named_items(value, cls)
    if named_ones is None:
        return _with_class("tuple", value, {"items": list(tuple.__iter__(value))}, tuple)
    fields: list[tuple[str, object]] = [("class", class_of(cls)), ("fields", named_ones)]
    more = state(value, class_attribute(cls, "_fields"), below=tuple)
    return Tag("namedtuple", [*fields, ("state", more)] if more else fields)


def named_items(value: object, cls: type) -> dict[str, Any] | None:
    """Return the items of a named tuple by name; None for any other value."""
    names: Any = class_attribute(cls, "_fields")
    if not inherits(cls, tuple) or type(names) is not tuple or not all(type(name) is str for name in names):
        return None
    items: list[Any] = list(tuple.__iter__(value))  # type: ignore[arg-type]
    return dict(zip(names, items, strict=True)) if len(names) == len(items) else None


def _set(value: set[Any], cls: type) -> Form:
    return _with_class("set", value, {"items": Unordered(list(set.__iter__(value)))}, set)


def _frozenset(value: frozenset[Any], cls: type) -> Form:
    items = Unordered(list(frozenset.__iter__(value)))
    return _with_class("frozenset", value, {"items": items}, frozenset)


def _deque(value: deque[Any], cls: type) -> Form:
    items = list(deque.__iter__(value))
    maxlen = class_attribute(deque, "maxlen").__get__(value)
    return _with_class("deque", value, {"items": items, "maxlen": maxlen}, deque)


def _decimal(value: Decimal, cls: type) -> Form:
    return _with_class("decimal", value, {"value": Decimal.__str__(value)}, Decimal)


def _fraction(value: Fraction, cls: type) -> Form:
    parts = stored(value, ("_denominator", "_numerator"))
    fields = {"denominator": parts["_denominator"], "numerator": parts["_numerator"]}
    return _with_class("fraction", value, fields, Fraction)


def _integers_of(base: type, value: object, names: str) -> list[int]:
    return [class_attribute(base, name).__get__(value) for name in names.split()]


def _zone(zone: object) -> dict[str, object]:
    """Return the fields for a zone: its key, or its offset; for any other kind of zone, the object itself."""
    if zone is None:
        return {}
    if type(zone) is ZoneInfo and type(zone.key) is str:
        return {"zone": zone.key if _is_by_key(zone) else Opaque(class_name(ZoneInfo))}
    if type(zone) is not datetime.timezone:
        return {"zone": zone}
    offset = str(datetime.timezone(zone.utcoffset(None)))
    name = zone.tzname(None)
    return {"offset": offset} if name == offset else {"name": name, "offset": offset}


def _is_by_key(zone: ZoneInfo) -> bool:
    """Return True if a zone is what the zone database has under its key, and was not read from a file of its own."""
    try:
        zone.__reduce__()
    except PicklingError:
        return False
    return True


def _moment(value: Any, base: Any, names: str) -> Form:
    """A date and time or a time of day: naive text, and its zone. The two folds of a repeated hour differ."""
    if type(value) is base and not value.fold and (value.tzinfo is None or value.tzinfo is _UTC):  # as most are
        offset = [] if value.tzinfo is None else [("offset", "UTC")]
        return Tag(base.__name__, [*offset, ("value", value.replace(tzinfo=None).isoformat())])
    naive = base(*_integers_of(base, value, names))
    fields = {"value": naive.isoformat(), **_zone(base.__dict__["tzinfo"].__get__(value))}
    if base.__dict__["fold"].__get__(value):
        fields["fold"] = 1
    return _with_class(base.__name__, value, fields, base)


def _datetime(value: datetime.datetime, cls: type) -> Form:
    return _moment(value, datetime.datetime, "year month day hour minute second microsecond")


def _time(value: datetime.time, cls: type) -> Form:
    return _moment(value, datetime.time, "hour minute second microsecond")


def _date(value: datetime.date, cls: type) -> Form:
    if cls is datetime.date:
        return Tag("date", [("value", value.isoformat())])
    exact = datetime.date(*_integers_of(datetime.date, value, "year month day"))
    return _with_class("date", value, {"value": exact.isoformat()}, datetime.date)


def _timedelta(value: datetime.timedelta, cls: type) -> Form:
    days, seconds, micros = _integers_of(datetime.timedelta, value, "days seconds microseconds")
    fields: dict[str, object] = {"days": days, "microseconds": micros, "seconds": seconds}
    return _with_class("timedelta", value, fields, datetime.timedelta)


def _timezone(value: datetime.tzinfo, cls: type) -> Form:
    fields = _zone(value)
    return Opaque(class_name(cls)) if fields.get("zone") is value else Tag("zone", sorted(fields.items()))


def _path(value: PurePath, cls: type) -> Form:
    flavour = "windows" if inherits(cls, PureWindowsPath) else "posix"
    pure = [] if inherits(cls, Path) else [("pure", True)]
    return Tag("path", [("flavour", flavour), *pure, ("value", PurePath.__str__(value))])


def _namespace(value: SimpleNamespace, cls: type) -> Form:
    return _with_class("namespace", value, {"fields": dict(instance_dict(value))}, SimpleNamespace)


def _exception(value: BaseException, cls: type) -> Form:
    """Its arguments, what it was raised from, and its attributes, an OSError's file name and notes as state."""
    read = {name: BaseException.__dict__[f"__{name}__"].__get__(value) for name in ("cause", "context")}
    fields: dict[str, object] = {"args": BaseException.__dict__["args"].__get__(value), "class": class_of(cls)}
    fields |= {name: item for name, item in read.items() if item is not None}
    if BaseException.__dict__["__suppress_context__"].__get__(value) and read["cause"] is None:
        fields["suppress"] = True  # raised "from None"
    more = state(value, below=BaseException)
    lacking = more.get("obj")
    if lacking is not None and inherits(cls, AttributeError) and "obj" not in instance_dict(value):
        more["obj"] = Opaque(class_name(type(lacking)))  # the object that lacks the attribute, which may be any
    if more := {name: item for name, item in more.items() if item is not None}:
        fields["state"] = more
    return Tag("exception", sorted(fields.items()))


def _function(value: Any, cls: type) -> Form:
    """A function has its name as content where it is what its module has under that name; any other one is opaque.

    Others are lambdas, local functions, and those that carry the name of the function which they wrap.
    """
    module, name = value.__module__, value.__qualname__
    if named(module, name) is not value:
        return Opaque(class_name(cls))
    return Tag("function", [("name", f"{module}:{name}")])


def _module(value: ModuleType, cls: type) -> Form:
    name = instance_dict(value).get("__name__")
    is_loaded = type(name) is str and sys.modules.get(name) is value
    return Tag("module", [("name", name)]) if is_loaded else Opaque(class_name(cls))


def _uuid(value: UUID, _cls: type) -> Form:
    fields: list[tuple[str, object]] = [("value", UUID.__str__(value))]
    is_safe = value.is_safe
    return Tag("uuid", fields if is_safe is SafeUUID.unknown else [("safe", is_safe.value == 0), *fields])


def _bounds(value: Any, cls: type) -> Form:
    """A range or a slice."""
    return Tag(cls.__name__, [("start", value.start), ("step", value.step), ("stop", value.stop)])


def _alias(value: Any, cls: type) -> Form:
    """A generic class of the program with types in its brackets, which its instances keep as ``__orig_class__``."""
    parts = instance_dict(value)
    origin = parts["__origin__"]
    if not inherits(origin, Generic):
        return Opaque(class_name(cls))
    return Tag("alias", [("arguments", list(parts["__args__"])), ("class", class_of(origin))])


_EXACT_TYPES: Final[dict[type, Describe]] = {
    memoryview: _memoryview,
    array: _array,
    range: _bounds,
    slice: _bounds,
    re.Pattern: lambda value, _: Tag("pattern", [("flags", value.flags), ("pattern", value.pattern)]),
    FunctionType: _function,
    BuiltinFunctionType: _function,
    type(_Some[int]): _alias,
    ModuleType: _module,
    type(...): lambda *_: Tag("ellipsis"),
    type(NotImplemented): lambda *_: Tag("notimplemented"),
    UUID: _uuid,
    datetime.timezone: _timezone,
    ZoneInfo: _timezone,
    PurePosixPath: _path,
    PureWindowsPath: _path,
    type(Path()): _path,
    **dict.fromkeys(ADDRESSES, lambda value, cls: Tag("ip", [("class", class_name(cls)), ("value", str(value))])),
}
_BASES: Final[tuple[tuple[type, Describe], ...]] = (
    (str, _string),
    (int, _integer),
    (float, _float),
    (complex, _complex),
    (bytes, _bytes),
    (bytearray, _bytearray),
    (dict, _dict),
    (list, _list),
    (tuple, describe_tuple),
    (set, _set),
    (frozenset, _frozenset),
    (deque, _deque),
    (Decimal, _decimal),
    (Fraction, _fraction),
    (datetime.datetime, _datetime),
    (datetime.date, _date),
    (datetime.time, _time),
    (datetime.timedelta, _timedelta),
    (SimpleNamespace, _namespace),
    (BaseException, _exception),
    (type, lambda value, _: Tag("type", [("class", class_of(value))])),
)
# by id, since a metaclass may have an __eq__ and a __hash__ of its own
EXACT: Final = {id(cls): describe for cls, describe in (*_BASES, *_EXACT_TYPES.items())}


def describe_base(value: Any, cls: type) -> Form | None:
    """Return the form of a value whose class derives from one of the types above; None where it does not."""
    describe = base_plan(cls)
    return None if describe is None else describe(value, cls)


def base_plan(cls: type) -> Describe | None:
    """Return how to describe the instances of a class that derives from one of the types above; else None."""
    for base, describe in _BASES:
        if inherits(cls, base):
            return describe
    return None
