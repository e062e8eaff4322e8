"""Python source of values, as a person would write them in a test.

Numbers, text, containers, records, enum members, dates, decimals and paths become literals and constructor calls. Any
other value becomes a call of `flowtrace.testing.rebuild` with its canonical JSON.
"""

from __future__ import annotations

import builtins
import collections
import datetime
import decimal
import enum
import keyword
import math
import pathlib
import types
import uuid
import zoneinfo
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple
from unicodedata import normalize

from flowtrace.errors import ReplayError
from flowtrace.host.objects import MISSING, class_attribute, instance_dict
from flowtrace.replaying.meant import RESERVED
from flowtrace.values.encode import canonical_bytes
from flowtrace.values.json import loads
from flowtrace.values.rebuild import rebuild

WIDTH: Final = 100
_ZONES: Final = (type(None), datetime.timezone, zoneinfo.ZoneInfo)


class Group(NamedTuple):
    """Source with parts, each of which may get a line of its own.

    Attributes:
        opener: the text before the parts, such as ``f(``.
        parts: for each part the text that leads it (``name=`` or ``key: ``), and its source.
        closer: the text after the parts.
        after_single: a comma, where one is needed after a single part on the same line.
    """

    opener: str
    parts: list[tuple[str, Source]]
    closer: str
    after_single: str = ""


Source = str | Group


def layout(source: Source, indent: int, lead: str = "") -> str:
    """Return source as text: on one line where it fits, else with a line for each part.

    Args:
        source: the source.
        indent: columns before it.
        lead: text before it on its first line.
    """
    flat = lead + _on_one_line(source)
    if isinstance(source, str) or indent + len(flat) <= WIDTH or not source.parts:
        return flat
    inner = indent + 4
    lines = [f"{'':{inner}}{layout(part, inner, before)},\n" for before, part in source.parts]
    return f"{lead}{source.opener}\n{''.join(lines)}{'':{indent}}{source.closer}"


def _on_one_line(source: Source) -> str:
    if isinstance(source, str):
        return source
    inside = ", ".join(before + _on_one_line(part) for before, part in source.parts)
    return source.opener + inside + (source.after_single if len(source.parts) == 1 else "") + source.closer


def is_identifier(name: str) -> bool:
    """Return True if Python code can use this name for an argument or attribute."""
    if not name.isidentifier() or keyword.iskeyword(name) or name == "__debug__":
        return False
    return normalize("NFKC", name) == name  # which is what Python takes a name for


def quoted(text: str) -> str:
    """Return the source of text, in double quotes where it holds none."""
    source = repr(text)
    return f'"{source[1:-1]}"' if '"' not in text and "'" not in text else source


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
        write = _WRITERS.get(type(value))
        if write is not None:
            return write(self, value)
        if isinstance(value, enum.Enum):
            return self._enum_member(value)
        if isinstance(value, type):
            return self.reference(value.__module__, value.__qualname__)
        return self._constructed(value) or self._rebuilt(value)

    def reference(self, module: str, qualname: str) -> str:
        """Return the expression by which the test reaches a qualified name of a module.

        Raises:
            ReplayError: it has no name that could be imported.
        """
        first, *others = qualname.split(".")
        if "<locals>" in others:
            raise ReplayError(f"{qualname} is defined inside a function, so that no test can import it")
        if not all(map(is_identifier, (*module.split("."), first, *others))):
            raise ReplayError(f"{module}:{qualname} is no name that a test can import")
        if module == "builtins" and hasattr(builtins, first):
            return qualname
        if module == "builtins":
            raise ReplayError(f"the class {qualname} has no name that a test could use")
        key = (self._main if module == "__main__" else module, first)
        if key not in self.names:
            taken = RESERVED.union(self.names.values())
            start = f"the_{first}" if first.lower().startswith("test") else first  # pytest would take it for a test
            names = (start, *(f"{start}_{number}" for number in range(2, len(taken) + 3)))
            self.names[key] = next(name for name in names if name not in taken)
        return ".".join([self.names[key], *others])

    def items(self, values: Iterable[Any]) -> list[tuple[str, Source]]:
        """Return the sources of values, one after the other."""
        return [("", self.value(item)) for item in values]

    def call(self, function: str, args: Iterable[Any], kwargs: dict[str, Any]) -> Group:
        """Return the source of a call with these arguments."""
        return Group(
            f"{function}(", [*self.items(args), *((f"{name}=", self.value(item)) for name, item in kwargs.items())], ")"
        )

    def by_repr(self, value: Any) -> Source:
        """Return the ``repr`` of a value of the standard library, which is a constructor call."""
        zone = value if isinstance(value, zoneinfo.ZoneInfo) else getattr(value, "tzinfo", None)
        if type(zone) not in _ZONES or (type(zone) is zoneinfo.ZoneInfo and zone.key is None):
            return self._rebuilt(value)  # its repr is whatever the zone's class says
        text = repr(value)
        module = type(value).__module__
        self.modules |= {module, "zoneinfo"} if "zoneinfo." in text else {module}
        return text if text.startswith(f"{module}.") else f"{module}.{text}"

    def from_path(self, value: pathlib.PurePath) -> str:
        """Return the source of a path of the system that the test runs on."""
        self.modules.add("pathlib")
        return f"pathlib.Path({str(value)!r})"

    def from_dict(self, value: dict[Any, Any]) -> Source:
        """Return the source of a dictionary."""
        return Group("{", [(f"{_on_one_line(self.value(key))}: ", self.value(value[key])) for key in value], "}")

    def from_set(self, value: Any) -> Source:
        """Return the source of a set, in an order that is the same each time."""
        name = "" if isinstance(value, set) else "frozenset"
        opener, closer = (f"{name}({{", "})") if name else ("{", "}")
        ordered = sorted(value, key=canonical_bytes)
        return Group(opener, self.items(ordered), closer) if value else f"{type(value).__name__}()"

    def _enum_member(self, value: enum.Enum) -> Source:
        cls = self.reference(type(value).__module__, type(value).__qualname__)
        name = value.name
        if isinstance(name, str) and is_identifier(name):
            return f"{cls}.{name}"
        return self.call(cls, [value.value], {})

    def _constructed(self, value: Any) -> Source | None:
        """Return a call of the value's class that makes an equal value; None where there is no simple one."""
        cls = type(value)
        arguments = _constructor_arguments(value)
        if arguments is None or not all(map(is_identifier, arguments[1])):
            return None
        args, kwargs = arguments
        try:
            if canonical_bytes(cls(*args, **kwargs)) != canonical_bytes(value):
                return None
        except Exception:  # its __init__ takes other arguments, or does something else with them
            return None
        if cls.__module__ not in ("collections", "types"):
            return self.call(self.reference(cls.__module__, cls.__qualname__), args, kwargs)
        self.modules.add(cls.__module__)
        return self.call(f"{cls.__module__}.{cls.__qualname__}", args, kwargs)

    def _rebuilt(self, value: Any) -> Source:
        """Return a call that rebuilds a value from its canonical JSON."""
        cls = type(value)
        content = loads(canonical_bytes(value))
        try:
            rebuild(content, cls)
        except Exception as error:
            raise ReplayError(f"a value of class {cls.__qualname__} can't be written into a test: {error}") from error
        function = self.reference("flowtrace.testing", "rebuild")
        hint = self.reference(cls.__module__, cls.__qualname__)
        return Group(f"{function}(", [("", self.value(_with_main_as(self._main, content))), ("", hint)], ")")


def _with_main_as(main: str, content: Any) -> Any:
    """Return canonical JSON in which the classes of the program have the module that the test imports."""
    if isinstance(content, list):
        return [_with_main_as(main, item) for item in content]
    if not isinstance(content, dict):
        return content
    renamed = {name: _with_main_as(main, item) for name, item in content.items()}
    cls = renamed.get("class")
    if "$py" in renamed and isinstance(cls, str) and cls.startswith("__main__:"):
        renamed["class"] = main + cls.removeprefix("__main__")
    return renamed


def _constructor_arguments(value: Any) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Return the arguments that may make an equal value; None for a class of which nothing is known."""
    cls = type(value)
    if isinstance(value, BaseException):
        return value.args, {}
    if cls is collections.deque:
        return (list(value),), {} if value.maxlen is None else {"maxlen": value.maxlen}
    if isinstance(value, tuple) and hasattr(cls, "_fields"):
        return (), dict(zip(cls._fields, value, strict=True))
    if cls in (collections.OrderedDict, collections.Counter):
        return (dict(value),), {}
    if cls is types.SimpleNamespace or class_attribute(cls, "__pydantic_validator__") is not MISSING:
        return (), dict(instance_dict(value))
    found = class_attribute(cls, "__dataclass_fields__")
    if found is not MISSING:
        names = [item.name for item in found.values() if item._field_type.name == "_FIELD" and item.init]
        return (), {name: getattr(value, name) for name in names}
    found = class_attribute(cls, "__attrs_attrs__")
    if found is not MISSING:
        return (), {item.alias: getattr(value, item.name) for item in found if item.init}
    if class_attribute(cls, "__struct_fields__") is not MISSING:
        return (), {name: getattr(value, name) for name in cls.__struct_fields__}
    return None


_WRITERS: Final[dict[type, Callable[[Writer, Any], Source]]] = {
    **dict.fromkeys(
        (type(None), bool, bytes, bytearray, range, slice, type(...), type(NotImplemented)),
        lambda _, value: repr(value),
    ),
    str: lambda _, value: quoted(value),
    int: lambda _, value: repr(value) if -(2**64) < value < 2**64 else hex(value),  # digits are limited, hex is not
    float: lambda _, value: repr(value) if math.isfinite(value) else f'float("{value}")',
    list: lambda writer, value: Group("[", writer.items(value), "]"),
    tuple: lambda writer, value: Group("(", writer.items(value), ")", ","),
    dict: Writer.from_dict,
    **dict.fromkeys((set, frozenset), Writer.from_set),
    type(pathlib.Path()): Writer.from_path,
    **dict.fromkeys(
        (
            *(datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.timezone),
            *(decimal.Decimal, uuid.UUID, zoneinfo.ZoneInfo),
        ),
        Writer.by_repr,
    ),
}
