"""Values of every kind that has a canonical form, for the tables of the page "Canonical JSON"."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import importlib
import ipaddress
import math
import pathlib
import re
import sys
import threading
import types
import uuid
import zoneinfo
from typing import Any, NamedTuple

import msgspec

from flowtrace import canonical_bytes


class Colour(enum.Enum):
    """An enum."""

    RED = "red"


class Point(NamedTuple):
    """A named tuple."""

    x: int
    y: int


@dataclasses.dataclass
class Order:
    """A dataclass."""

    item: str
    count: int = 1


class Event(msgspec.Struct):
    """A msgspec struct."""

    name: str


class Name(str):
    """A subclass of a JSON type."""


class Basket(dict[str, int]):
    """A subclass of a container."""


class Slotted:
    """A class of which nothing is known."""

    __slots__ = ("x",)


def price(item: str) -> float:
    """Stand for any function that has a name of its own."""
    return len(item) / 2


_shop = sys.modules["shop"] = types.ModuleType("shop")
for _thing in (Colour, Point, Order, Event, Name, Basket, Slotted, price):
    _thing.__module__ = "shop"
    setattr(_shop, _thing.__name__, _thing)

_cycle: list[Any] = [1]
_cycle.append(_cycle)
_NAMES: dict[str, Any] = {
    **{module.__name__: module for module in (array, collections, datetime, fractions, ipaddress, math, re, types)},
    **{name: item for name, item in globals().items() if getattr(item, "__module__", "") == "shop"},
    "Decimal": decimal.Decimal,
    "OrderedDict": collections.OrderedDict,
    "deque": collections.deque,
    "PurePosixPath": pathlib.PurePosixPath,
    "PureWindowsPath": pathlib.PureWindowsPath,
    "SimpleNamespace": types.SimpleNamespace,
    "UUID": uuid.UUID,
    "ZoneInfo": zoneinfo.ZoneInfo,
    "date": datetime.date,
    "dt": datetime.datetime,
    "timedelta": datetime.timedelta,
    "time": datetime.time,
    "UTC": datetime.UTC,
    "threading": threading,
    "cycle": _cycle,
}
_PLAIN = (
    "None",
    "True",
    "42",
    "18446744073709551615",
    "1.0",
    "0.1 + 0.2",
    "1e-05",
    "1e-06",
    "1e16",
    "-0.0",
    "'é \\n \"'",
    "'\\x7f'",
    "[1, 2]",
    "(1, 2)",
    "{'b': 1, 'a': 2}",
    "{}",
)
_STANDARD = (
    "math.nan",
    "-math.inf",
    "2**64",
    "'\\ud800'",
    "{1: 'a', None: 'b'}",
    "{'$py': 1}",
    "Name('Ada')",
    "Basket(tea=2)",
    "OrderedDict(b=1, a=2)",
    "{3, 1, 2}",
    "frozenset({'a'})",
    "deque([1, 2], maxlen=5)",
    "b'abc'",
    "bytearray(b'abc')",
    "memoryview(b'abc')",
    "array.array('b', [1, 2])",
    "1 + 2j",
    "Decimal('1.50')",
    "fractions.Fraction(1, 3)",
    "UUID(int=1)",
    "date(2026, 11, 24)",
    "time(12, 30)",
    "dt(2026, 11, 24, 12, 30)",
    "dt(2026, 11, 24, 12, 30, tzinfo=UTC)",
    "dt(2026, 10, 25, 2, 30, tzinfo=ZoneInfo('Europe/Paris'), fold=1)",
    "timedelta(hours=1)",
    "ZoneInfo('Europe/Paris')",
    "PurePosixPath('a/b')",
    "PureWindowsPath('a/b')",
    "ipaddress.ip_address('10.0.0.1')",
    "range(3)",
    "slice(1, None)",
    "re.compile('a+')",
    "Colour.RED",
    "Point(1, 2)",
    "Order('tea')",
    "Event('start')",
    "SimpleNamespace(a=1)",
    "ValueError('no', 1)",
    "Order",
    "price",
    "math",
    "...",
    "NotImplemented",
    "cycle",
)
_OPAQUE = ("Slotted()", "threading.Lock()", "lambda: 1", "(item for item in ())")
_FOREIGN = (
    "attrs_order",
    "pydantic_order",
    "numpy.array([1.0, 2.0])",
    "numpy.array(['a', None], dtype=object)",
    "numpy.float32(1.5)",
    "numpy.dtype('int64')",
    "pandas.Series([1, 2], name='n')",
    "pandas.DataFrame({'a': [1, 2]})",
    "pandas.Timestamp('2026-11-24')",
    "pandas.Timedelta(hours=1)",
    "pandas.NA",
    "pandas.NaT",
    "polars.Series('n', [1, 2])",
    "polars.DataFrame({'a': [1, 2]})",
    "pyarrow.array([1, 2])",
    "pyarrow.table({'a': [1, 2]})",
)
_LIBRARIES = ("attrs", "numpy", "pandas", "polars", "pyarrow", "pydantic")
GROUPS = {"plain": _PLAIN, "standard": _STANDARD, "opaque": _OPAQUE, "foreign": _FOREIGN}


def rows(group: str) -> list[tuple[str, str]] | None:
    """Return the sources of a group's values, each with the bytes that the value really has.

    Returns None where a library that the group needs is not installed.
    """
    names = _NAMES
    if group == "foreign":
        libraries = _foreign()
        if libraries is None:
            return None
        names = _NAMES | libraries
    return [(source, _shown(eval(source, dict(names)))) for source in GROUPS[group]]  # noqa: S307  # sources above


def _shown(value: object) -> str:
    """Return canonical bytes as text; a control character that JSON leaves raw is made visible."""
    return canonical_bytes(value).decode().replace("\x7f", "␡")


@functools.cache
def _foreign() -> dict[str, Any] | None:
    try:
        libraries = {name: importlib.import_module(name) for name in _LIBRARIES}
    except ImportError:
        return None
    attrs_class = libraries["attrs"].make_class("AttrsOrder", ["item"])
    pydantic_class = libraries["pydantic"].create_model("PydanticOrder", item=str)
    for cls in (attrs_class, pydantic_class):
        cls.__module__ = "shop"
    return {**libraries, "attrs_order": attrs_class("tea"), "pydantic_order": pydantic_class(item="tea")}
