"""Python source of values: literals and constructor calls, as somebody would write them in a test."""

from __future__ import annotations

import builtins
import collections
import datetime
import decimal
import enum
import fractions
import ipaddress
import keyword
import math
import pathlib
import re
import types
import uuid
import zoneinfo
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from flowtrace.errors import ReplayError
from flowtrace.host.objects import MISSING, class_attribute, instance_dict
from flowtrace.values.encode import canonical_bytes
from flowtrace.values.json import loads
from flowtrace.values.rebuild import rebuild

WIDTH: Final = 100


class Group(NamedTuple):
    """Source with parts, each of which may get a line of its own.

    Attributes:
        opener: what stands before them.
        parts: their sources, each with what leads it (``name=`` or ``key: ``).
        closer: what stands behind them.
        one: what stands behind a single part on the same line.
    """

    opener: str
    parts: list[tuple[str, Source]]
    closer: str
    one: str = ""


Source = str | Group


def layout(source: Source, indent: int, lead: str = "") -> str:
    """Return source as text: on one line where it fits, else with a line for each part.

    Args:
        source: the source.
        indent: columns before it.
        lead: what stands before it on its first line.
    """
    if isinstance(source, str):
        return lead + source
    flat = lead + _flat(source)
    if indent + len(flat) <= WIDTH or not source.parts:
        return flat
    inner = indent + 4
    lines = [f"{'':{inner}}{layout(part, inner, before)},\n" for before, part in source.parts]
    return f"{lead}{source.opener}\n{''.join(lines)}{'':{indent}}{source.closer}"


def _flat(source: Source) -> str:
    if isinstance(source, str):
        return source
    inside = ", ".join(before + _flat(part) for before, part in source.parts)
    return source.opener + inside + (source.one if len(source.parts) == 1 else "") + source.closer


def text(value: str) -> str:
    """Return the source of text, in double quotes where it holds none."""
    shown = repr(value)
    return f'"{shown[1:-1]}"' if '"' not in value and "'" not in value else shown


class Writer:
    """Writes values as Python source, and notes what has to be imported for it.

    Args:
        main: name under which the test imports the program whose module was ``__main__``.

    Attributes:
        modules: modules to import as they are.
        names: names to import, by module and name; the value is the name in the test.
    """

    def __init__(self, main: str) -> None:
        self.modules: set[str] = set()
        self.names: dict[tuple[str, str], str] = {}
        self._main = main

    def value(self, value: Any) -> Source:
        """Return the source of a value.

        Raises:
            ReplayError: it can't be written.
        """
        kind = type(value)
        write = _WRITERS.get(kind)
        if write is not None:
            return write(self, value)
        if isinstance(value, enum.Enum):
            return self._member(value)
        if isinstance(value, type):
            return self.reference(value.__module__, value.__qualname__)
        made = self._constructed(value)
        return self._rebuilt(value) if made is None else made

    def reference(self, module: str, qualname: str) -> str:
        """Return how the test calls what a module has under a qualified name.

        Raises:
            ReplayError: it has no name that could be imported.
        """
        first, *others = qualname.split(".")
        if "<" in qualname or not all(map(str.isidentifier, (first, *others))):
            raise ReplayError(f"{qualname} is defined inside a function, so that no test can import it")
        if module == "builtins" and hasattr(builtins, first):
            return qualname
        if module == "builtins":
            raise ReplayError(f"the class {qualname} has no name that a test could use")
        key = (self._main if module == "__main__" else module, first)
        if key not in self.names:
            taken = set(self.names.values())
            names = (first, *(f"{first}_{number}" for number in range(2, len(taken) + 3)))
            self.names[key] = next(name for name in names if name not in taken)
        return ".".join([self.names[key], *others])

    def library(self, module: str, text: str) -> str:
        """Return text, and note that it needs a module."""
        self.modules.add(module)
        return text

    def items(self, values: Iterable[Any]) -> list[tuple[str, Source]]:
        """Return the sources of values, one after the other."""
        return [("", self.value(item)) for item in values]

    def dict_(self, value: dict[Any, Any], opener: str = "{", closer: str = "}") -> Source:
        """Return the source of a dictionary."""
        return Group(opener, [(f"{_flat(self.value(key))}: ", self.value(item)) for key, item in value.items()], closer)

    def set_(self, value: Any, opener: str = "{", closer: str = "}") -> Source:
        """Return the source of a set, in an order that is the same each time."""
        ordered = sorted(value, key=canonical_bytes)
        return Group(opener, self.items(ordered), closer) if value else f"{type(value).__name__}()"

    def float_(self, value: float) -> str:
        """Return the source of a float."""
        return repr(value) if math.isfinite(value) else f'float("{value}")'

    def complex_(self, value: complex) -> str:
        """Return the source of a complex number."""
        return f"complex({self.float_(value.real)}, {self.float_(value.imag)})"

    def deque_(self, value: collections.deque[Any]) -> Source:
        """Return the source of a deque."""
        self.modules.add("collections")
        parts = [("", Group("[", self.items(value), "]"))]
        if value.maxlen is not None:
            parts.append(("maxlen=", str(value.maxlen)))  # type: ignore[arg-type]  # both are sources
        return Group("collections.deque(", parts, ")")  # type: ignore[arg-type]

    def pairs(self, value: Any) -> Source:
        """Return the source of an ordered or counting dictionary."""
        self.modules.add("collections")
        name = type(value).__name__
        if isinstance(value, collections.Counter):
            return self.dict_(value, f"collections.{name}({{", "})")
        rows = [("", Group("(", self.items(pair), ")")) for pair in value.items()]
        return Group(f"collections.{name}([", rows, "])")  # type: ignore[arg-type]  # groups are sources

    def _member(self, value: enum.Enum) -> Source:
        cls = self.reference(type(value).__module__, type(value).__qualname__)
        name = value.name
        if isinstance(name, str) and name.isidentifier() and not keyword.iskeyword(name):
            return f"{cls}.{name}"
        return Group(f"{cls}(", [("", self.value(value.value))], ")")

    def _constructed(self, value: Any) -> Source | None:
        """Return a call of the value's class that makes an equal value; None where there is no simple one."""
        arguments = _arguments(value)
        if arguments is None:
            return None
        args, kwargs = arguments
        try:
            if canonical_bytes(type(value)(*args, **kwargs)) != canonical_bytes(value):
                return None
        except Exception:  # its __init__ wants, or does, something else
            return None
        cls = self.reference(type(value).__module__, type(value).__qualname__)
        parts = [*self.items(args), *((f"{name}=", self.value(item)) for name, item in kwargs.items())]
        return Group(f"{cls}(", parts, ")")

    def _rebuilt(self, value: Any) -> Source:
        """Return a call that rebuilds the value from its canonical JSON, for what has no simpler source."""
        cls = type(value)
        content = loads(canonical_bytes(value))
        try:
            rebuild(content, cls)
        except Exception as error:
            raise ReplayError(f"a value of class {cls.__qualname__} can't be written into a test: {error}") from error
        self.names[("flowtrace.values.rebuild", "rebuild")] = "rebuild"
        renamed = Writer(self._main).value(_renamed(content, self._main))
        hint = self.reference(cls.__module__, cls.__qualname__)
        return Group("rebuild(", [("", renamed), ("", hint)], ")")


def _renamed(content: Any, main: str) -> Any:
    """Return tagged content in which the classes of the program have the module that the test imports."""
    if isinstance(content, list):
        return [_renamed(item, main) for item in content]
    if not isinstance(content, dict):
        return content
    found = {name: _renamed(item, main) for name, item in content.items()}
    name = found.get("class")
    if "$py" in found and isinstance(name, str) and name.startswith("__main__:"):
        found["class"] = main + name.removeprefix("__main__")
    return found


def _arguments(value: Any) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Return what a record's class, or an exception's, may be called with; None for a value of any other class."""
    cls = type(value)
    if isinstance(value, BaseException):
        return value.args, {}
    if isinstance(value, tuple) and hasattr(cls, "_fields"):
        return (), dict(zip(cls._fields, value, strict=True))
    found = class_attribute(cls, "__dataclass_fields__")
    if found is not MISSING:
        names = [item.name for item in found.values() if item._field_type.name == "_FIELD" and item.init]
        return (), {name: getattr(value, name) for name in names}
    found = class_attribute(cls, "__attrs_attrs__")
    if found is not MISSING:
        return (), {item.alias: getattr(value, item.name) for item in found if item.init}
    if class_attribute(cls, "__struct_fields__") is not MISSING:
        return (), {name: getattr(value, name) for name in cls.__struct_fields__}
    if class_attribute(cls, "__pydantic_validator__") is not MISSING:
        return (), dict(instance_dict(value))
    return None


def _of_module(module: str) -> Callable[[Writer, Any], Source]:
    return lambda writer, value: writer.library(module, f"{module}.{value!r}")


def _as_it_is(module: str) -> Callable[[Writer, Any], Source]:
    return lambda writer, value: writer.library(module, repr(value))


def _time(writer: Writer, value: Any) -> Source:
    if "zoneinfo." in repr(value):
        writer.modules.add("zoneinfo")
    return writer.library("datetime", repr(value))


def _pattern(writer: Writer, value: re.Pattern[Any]) -> Source:
    return writer.library("re", f"re.compile({value.pattern!r}, {value.flags})")


_WRITERS: Final[dict[type, Callable[[Writer, Any], Source]]] = {
    str: lambda _, value: text(value),
    **dict.fromkeys((type(None), bool, bytes, bytearray, range, slice), lambda _, value: repr(value)),
    int: lambda _, value: repr(value) if -(2**64) < value < 2**64 else hex(value),
    type(...): lambda _, _value: "...",
    type(NotImplemented): lambda _, value: repr(value),
    float: Writer.float_,
    complex: Writer.complex_,
    list: lambda writer, value: Group("[", writer.items(value), "]"),
    tuple: lambda writer, value: Group("(", writer.items(value), ")", ","),
    dict: Writer.dict_,
    set: Writer.set_,
    frozenset: lambda writer, value: writer.set_(value, "frozenset({", "})"),
    collections.deque: Writer.deque_,
    collections.OrderedDict: Writer.pairs,
    collections.Counter: Writer.pairs,
    types.SimpleNamespace: lambda writer, value: (
        writer.library("types", "types.SimpleNamespace")
        and Group(
            "types.SimpleNamespace(", [(f"{name}=", writer.value(item)) for name, item in vars(value).items()], ")"
        )
    ),
    re.Pattern: _pattern,
    uuid.UUID: _of_module("uuid"),
    decimal.Decimal: _of_module("decimal"),
    fractions.Fraction: _of_module("fractions"),
    pathlib.PurePosixPath: _of_module("pathlib"),
    pathlib.PureWindowsPath: _of_module("pathlib"),
    type(pathlib.Path()): lambda writer, value: writer.library("pathlib", f"pathlib.Path({str(value)!r})"),
    **dict.fromkeys((datetime.date, datetime.timedelta, datetime.timezone), _as_it_is("datetime")),
    **dict.fromkeys((datetime.datetime, datetime.time), _time),
    zoneinfo.ZoneInfo: _as_it_is("zoneinfo"),
    **dict.fromkeys(
        (
            *(ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Network),
            *(ipaddress.IPv6Network, ipaddress.IPv4Interface, ipaddress.IPv6Interface),
        ),
        _of_module("ipaddress"),
    ),
}
