"""What each kind of Python value is made of: one documented, process-independent form.

Nothing here runs code of the value's class: contents are read through the base classes' own C methods, instance
dictionaries and slots. ``docs/pages/reference/canonical-json.md`` has the table of forms.
"""

from __future__ import annotations

import array
import base64
import collections
import datetime
import decimal
import enum
import fractions
import ipaddress
import pathlib
import re
import sys
import types
import uuid
import zoneinfo
from collections.abc import Callable
from typing import Any, Final, TypeVar

from flowtrace import digest, foreign
from flowtrace.errors import CodecError
from flowtrace.forms import (
    MISSING,
    Form,
    Opaque,
    Pairs,
    Tag,
    Unordered,
    class_attribute,
    class_name,
    inherits,
    instance_dict,
    mro,
    root_package,
    stored,
)

T = TypeVar("T")
INLINE_BYTES: Final = 64 * 1024
_Describe = Callable[[Any, type], Form]


def _with_class(kind: str, value: object, fields: dict[str, object], base: type) -> Tag:
    """Tag a value; one of a subclass also tells its class and what else the instance holds."""
    if type(value) is not base:
        fields["class"] = class_name(type(value))
        if state := instance_dict(value):
            fields["state"] = state
    return Tag(kind, sorted(fields.items()))


def _buffer(kind: str, value: object, data: memoryview, base: type) -> Form:
    if data.nbytes <= INLINE_BYTES:
        fields: dict[str, object] = {"base64": base64.b64encode(data).decode()}
    else:
        fields = {"blake3": digest.hash_buffer(data), "size": data.nbytes}
    return _with_class(kind, value, fields, base)


def _bytes(value: bytes, cls: type) -> Form:
    return _buffer("bytes", value, memoryview(value), bytes)


def _bytearray(value: bytearray, cls: type) -> Form:
    return _buffer("bytearray", value, memoryview(bytes(value)), bytearray)


def _memoryview(value: memoryview, cls: type) -> Form:
    data = memoryview(value.tobytes())
    return Tag("memoryview", [("data", bytes(data)), ("format", value.format)])


def _array(value: array.array[Any], cls: type) -> Form:
    data = memoryview(value.tobytes())
    fields = [("blake3", digest.hash_buffer(data)), ("size", len(value))]
    return Tag("array.array", [*fields, ("typecode", value.typecode)])


def _string(value: str, cls: type) -> Form:
    """A subclass, or text with lone surrogates, which UTF-8 can't hold."""
    exact = str.__str__(value)
    try:
        exact.encode()
    except UnicodeEncodeError:
        encoded = base64.b64encode(exact.encode("utf-8", "surrogatepass")).decode()
        return _with_class("str", value, {"surrogates": encoded}, str)
    return _with_class("str", value, {"value": exact}, str)


def _integer(value: int, cls: type) -> Form:
    exact = int.__int__(value)
    fits = -(2**63) <= exact < 2**64
    return _with_class("int", value, {"value": exact} if fits else {"hex": hex(exact)}, int)


def _float(value: float, cls: type) -> Form:
    return _with_class("float", value, {"value": float.__float__(value)}, float)


def _complex(value: complex, cls: type) -> Form:
    real, imag = complex.real.__get__(value), complex.imag.__get__(value)  # type: ignore[attr-defined]
    return _with_class("complex", value, {"imag": imag, "real": real}, complex)


def _dict(value: dict[Any, Any], cls: type) -> Form:
    pairs = list(dict.items(value))
    ordered = False
    if inherits(cls, collections.OrderedDict):
        ordered = True
        if all(type(key) is str for key, _ in pairs):  # only then is a look-up free of the user's __hash__
            moved = list(collections.OrderedDict.__iter__(value))  # type: ignore[arg-type]
            pairs = [(key, dict.__getitem__(value, key)) for key in moved]
    return _with_class("dict", value, {"items": Pairs(pairs, ordered)}, dict)


def _list(value: list[Any], cls: type) -> Form:
    return _with_class("list", value, {"items": list(list.__iter__(value))}, list)


def _tuple(value: tuple[Any, ...], cls: type) -> Form:
    items = list(tuple.__iter__(value))
    names = class_attribute(cls, "_fields")
    if type(names) is tuple and len(names) == len(items) and all(type(n) is str for n in names):
        fields = dict(zip(names, items, strict=True))
        return Tag("namedtuple", [("class", class_name(cls)), ("fields", fields)])
    return _with_class("tuple", value, {"items": items}, tuple)


def _set(value: set[Any], cls: type) -> Form:
    return _with_class("set", value, {"items": Unordered(list(set.__iter__(value)))}, set)


def _frozenset(value: frozenset[Any], cls: type) -> Form:
    items = Unordered(list(frozenset.__iter__(value)))
    return _with_class("frozenset", value, {"items": items}, frozenset)


def _deque(value: collections.deque[Any], cls: type) -> Form:
    items = list(collections.deque.__iter__(value))
    maxlen = class_attribute(collections.deque, "maxlen").__get__(value)
    return _with_class("deque", value, {"items": items, "maxlen": maxlen}, collections.deque)


def _decimal(value: decimal.Decimal, cls: type) -> Form:
    return _with_class("decimal", value, {"value": decimal.Decimal.__str__(value)}, decimal.Decimal)


def _fraction(value: fractions.Fraction, cls: type) -> Form:
    parts = stored(value, ("_denominator", "_numerator"))
    fields = {"denominator": parts["_denominator"], "numerator": parts["_numerator"]}
    return _with_class("fraction", value, fields, fractions.Fraction)


def _uuid(value: uuid.UUID, cls: type) -> Form:
    return Tag("uuid", [("value", uuid.UUID.__str__(value))])


def _address(value: Any, cls: type) -> Form:
    return Tag("ip", [("class", class_name(cls)), ("value", cls.__str__(value))])


def _parts(base: type, value: object, names: str) -> list[int]:
    return [class_attribute(base, name).__get__(value) for name in names.split()]


def _zone(value: object, base: type) -> object:
    zone = base.__dict__["tzinfo"].__get__(value)
    if type(zone) is zoneinfo.ZoneInfo:
        return zone.key
    return str(zone) if type(zone) is datetime.timezone else zone


def _moment(value: Any, base: type, names: str) -> Form:
    """A date and time or a time of day, naive text beside its zone; two folds of one hour differ."""
    naive = base(*_parts(base, value, names))
    fields: dict[str, object] = {"value": naive.isoformat()}
    if (zone := _zone(value, base)) is not None:
        fields["zone"] = zone
    if base.__dict__["fold"].__get__(value):
        fields["fold"] = 1
    return _with_class(base.__name__, value, fields, base)


def _datetime(value: datetime.datetime, cls: type) -> Form:
    return _moment(value, datetime.datetime, "year month day hour minute second microsecond")


def _time(value: datetime.time, cls: type) -> Form:
    return _moment(value, datetime.time, "hour minute second microsecond")


def _date(value: datetime.date, cls: type) -> Form:
    exact = datetime.date(*_parts(datetime.date, value, "year month day"))
    return _with_class("date", value, {"value": exact.isoformat()}, datetime.date)


def _timedelta(value: datetime.timedelta, cls: type) -> Form:
    days, seconds, micros = _parts(datetime.timedelta, value, "days seconds microseconds")
    fields: dict[str, object] = {"days": days, "microseconds": micros, "seconds": seconds}
    return _with_class("timedelta", value, fields, datetime.timedelta)


def _timezone(value: datetime.tzinfo, cls: type) -> Form:
    name = value.key if isinstance(value, zoneinfo.ZoneInfo) else str(value)
    return Tag("zone", [("name", name)])


def _path(value: pathlib.PurePath, cls: type) -> Form:
    windows = inherits(cls, pathlib.PureWindowsPath)
    flavour = "windows" if windows else "posix"
    return Tag("path", [("flavour", flavour), ("value", pathlib.PurePath.__str__(value))])


def _range(value: range, cls: type) -> Form:
    return Tag("range", [("start", value.start), ("step", value.step), ("stop", value.stop)])


def _slice(value: Any, cls: type) -> Form:
    return Tag("slice", [("start", value.start), ("step", value.step), ("stop", value.stop)])


def _pattern(value: re.Pattern[Any], cls: type) -> Form:
    return Tag("pattern", [("flags", value.flags), ("pattern", value.pattern)])


def _namespace(value: types.SimpleNamespace, cls: type) -> Form:
    return Tag("namespace", [("fields", dict(instance_dict(value)))])


def _exception(value: BaseException, cls: type) -> Form:
    arguments = BaseException.__dict__["args"].__get__(value)
    return Tag("exception", [("args", arguments), ("class", class_name(cls))])


def _type(value: type, cls: type) -> Form:
    return Tag("type", [("class", class_name(value))])


def _function(value: Any, cls: type) -> Form:
    """A function is told by its name; one that has no name of its own says nothing about its content."""
    module, name = getattr(value, "__module__", None), value.__qualname__
    if "<" in name or type(module) is not str:
        return Opaque(class_name(cls))
    return Tag("function", [("name", f"{module}:{name}")])


def _module(value: types.ModuleType, cls: type) -> Form:
    return Tag("module", [("name", value.__name__)])


def _singleton(kind: str) -> _Describe:
    return lambda value, cls: Tag(kind)


_EXACT_TYPES: Final[dict[type, _Describe]] = {
    memoryview: _memoryview,
    array.array: _array,
    range: _range,
    slice: _slice,
    re.Pattern: _pattern,
    types.FunctionType: _function,
    types.BuiltinFunctionType: _function,
    types.ModuleType: _module,
    type(...): _singleton("ellipsis"),
    type(NotImplemented): _singleton("notimplemented"),
    uuid.UUID: _uuid,
    datetime.timezone: _timezone,
    zoneinfo.ZoneInfo: _timezone,
    pathlib.PurePosixPath: _path,
    pathlib.PureWindowsPath: _path,
    type(pathlib.Path()): _path,
    **dict.fromkeys(
        (
            *(ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Network),
            *(ipaddress.IPv6Network, ipaddress.IPv4Interface, ipaddress.IPv6Interface),
        ),
        _address,
    ),
}
_BASES: Final[tuple[tuple[type, _Describe], ...]] = (
    (str, _string),
    (int, _integer),
    (float, _float),
    (complex, _complex),
    (bytes, _bytes),
    (bytearray, _bytearray),
    (dict, _dict),
    (list, _list),
    (tuple, _tuple),
    (set, _set),
    (frozenset, _frozenset),
    (collections.deque, _deque),
    (decimal.Decimal, _decimal),
    (fractions.Fraction, _fraction),
    (datetime.datetime, _datetime),
    (datetime.date, _date),
    (datetime.time, _time),
    (datetime.timedelta, _timedelta),
    (types.SimpleNamespace, _namespace),
    (BaseException, _exception),
    (type, _type),
)
# by id, since a metaclass may have an __eq__ and a __hash__ of its own
_EXACT: Final = {id(cls): describe for cls, describe in (*_BASES, *_EXACT_TYPES.items())}


def _enum(value: Any, cls: type) -> Form:
    attributes = instance_dict(value)
    name = attributes.get("_name_")
    fields: list[tuple[str, object]] = [("class", class_name(cls))]
    return Tag("enum", [*fields, ("name", name), ("value", attributes.get("_value_", MISSING))])


def _dataclass(value: object, cls: type) -> Form:
    definitions = class_attribute(cls, "__dataclass_fields__")
    names = [name for name, item in definitions.items() if item._field_type.name == "_FIELD"]
    return Tag("dataclass", [("class", class_name(cls)), ("fields", stored(value, names))])


def _attrs(value: object, cls: type) -> Form:
    names = [item.name for item in class_attribute(cls, "__attrs_attrs__")]
    return Tag("attrs", [("class", class_name(cls)), ("fields", stored(value, names))])


def _struct(value: object, cls: type) -> Form:
    names = class_attribute(cls, "__struct_fields__")
    return Tag("struct", [("class", class_name(cls)), ("fields", stored(value, names))])


def _pydantic(value: object, cls: type) -> Form:
    fields = dict(instance_dict(value))
    extra = stored(value, ("__pydantic_extra__",))["__pydantic_extra__"]
    if type(extra) is dict:
        fields |= extra
    return Tag("pydantic", [("class", class_name(cls)), ("fields", fields)])


_BY_MARK: Final[tuple[tuple[str, _Describe], ...]] = (
    ("__dataclass_fields__", _dataclass),
    ("__attrs_attrs__", _attrs),
    ("__struct_fields__", _struct),
    ("__pydantic_validator__", _pydantic),
)


class Registered:
    """A codec that the user added.

    Attributes:
        encode: from the value to JSON-like content.
        decode: back again; used where a call is replayed.
    """

    __slots__ = ("decode", "encode")

    def __init__(self, encode: Callable[[Any], object], decode: Callable[[Any], Any]) -> None:
        self.encode = encode
        self.decode = decode


_registered: dict[int, tuple[type, Registered]] = {}


def register_codec(cls: type[T], encode: Callable[[T], object], decode: Callable[[Any], T]) -> None:
    """Give the instances of a class, and of its subclasses, a content of their own.

    Args:
        cls: the class.
        encode: takes an instance and returns its content, made of values that have a form already. It must not change
            the instance; where it raises, the instance is recorded as opaque.
        decode: takes that content back to an equal instance; replay uses it.

    Raises:
        CodecError: ``cls`` is no class, is one of the JSON types, or ``encode`` or ``decode`` can't be called.
    """
    if not isinstance(cls, type):
        raise CodecError(f"register_codec takes a class first, not {cls!r:.80}")
    if cls in (object, str, int, float, bool, type(None), dict, list, tuple):
        raise CodecError(f"{cls.__name__} has a fixed form: a codec takes a class of your own")
    for name, function in (("encode", encode), ("decode", decode)):
        if not callable(function):
            raise CodecError(f"{name} of {cls.__name__} must be callable, not {function!r:.80}")
    _registered[id(cls)] = (cls, Registered(encode, decode))


def registered_codecs() -> dict[int, tuple[type, Registered]]:
    """Return the registry itself: class and codec, by the class's id."""
    return _registered


def describe(value: object) -> Form:
    """Return what a value is made of; never raises an Exception, never returns a wrong content.

    Args:
        value: any value but an exact str, bool, int, float, None, dict, list or tuple that JSON can hold as it is.
    """
    cls = type(value)
    try:
        return _describe(value, cls)
    except Exception:
        return Opaque(class_name(cls))


def _describe(value: object, cls: type) -> Form:
    exact = _EXACT.get(id(cls))
    if exact is not None:
        return exact(value, cls)
    for find in (_from_registry, _from_mark, _from_library, _from_base):
        form = find(value, cls)
        if form is not None:
            return form
    return Opaque(class_name(cls))


def _from_registry(value: object, cls: type) -> Form | None:
    for base in mro(cls) if _registered else ():
        if id(base) in _registered:
            content = _registered[id(base)][1].encode(value)
            return Tag("codec", [("class", class_name(base)), ("value", content)])
    return None


def _from_mark(value: object, cls: type) -> Form | None:
    if inherits(cls, enum.Enum):
        return _enum(value, cls)
    for mark, describe_marked in _BY_MARK:
        if class_attribute(cls, mark) is not MISSING:
            return describe_marked(value, cls)
    return None


def _from_library(value: object, cls: type) -> Form | None:
    for package in map(root_package, mro(cls)):
        if package in foreign.LIBRARIES and package in sys.modules:
            form = foreign.LIBRARIES[package](value, sys.modules[package])
            if form is not None:
                return form
    return None


def _from_base(value: object, cls: type) -> Form | None:
    for base, describe_base in _BASES:
        if inherits(cls, base):
            return describe_base(value, cls)
    return None
