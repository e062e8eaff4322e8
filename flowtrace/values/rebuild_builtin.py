"""Values of the built-in types and of the standard library, from their forms in `flowtrace.values.forms_builtin`.

Each function takes the members of a tagged object, of which those that were tagged are values already. Any exception
means that they are malformed; `flowtrace.values.rebuild` makes a RebuildError of it.
"""

from __future__ import annotations

import base64
import decimal
import fractions
import math
import sys
import uuid
import zoneinfo
from collections.abc import Callable
from typing import Any, Final, TypeVar

from flowtrace.host.objects import class_name
from flowtrace.host.system import datetime, re
from flowtrace.values.annotations import path_class
from flowtrace.values.forms_builtin import ADDRESSES

T = TypeVar("T")
Members = dict[str, Any]
_OFFSET: Final = re.compile(r"UTC(?:([+-])(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{6}))?)?)?", re.ASCII)
_ODD_FLOATS: Final = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_ADDRESSES: Final = {class_name(cls): cls for cls in ADDRESSES}


def _string(members: Members) -> str:
    if "surrogates" in members:
        return _decoded(members["surrogates"]).decode("utf-8", "surrogatepass")
    return _exact(members["value"], str)


def _integer(members: Members) -> int:
    return int(members["hex"], 16) if "hex" in members else _exact(members["value"], int)


def _float(members: Members) -> float:
    value = members["value"]
    return _ODD_FLOATS[value] if type(value) is str else _exact(value, float)


def _bytes(members: Members) -> bytes:
    if "base64" not in members:
        raise ValueError(f"of {members['size']} bytes only the hash was kept")
    return _decoded(members["base64"])


def _decoded(encoded: str) -> bytes:
    return base64.b64decode(encoded, validate=True)


def _exact(value: Any, kind: type[T]) -> T:
    if type(value) is not kind:
        raise TypeError(f"a value of type {kind.__name__} is expected")
    exact: T = value
    return exact


def _memoryview(members: Members) -> memoryview[Any]:
    view: memoryview[Any] = memoryview(_exact(members["data"], bytes))
    form, shape = members["format"], members["shape"]
    return view if (form, shape) == ("B", [len(view)]) else view.cast("B").cast(form, shape)


def _uuid(members: Members) -> uuid.UUID:
    safe = {True: uuid.SafeUUID.safe, False: uuid.SafeUUID.unsafe, None: uuid.SafeUUID.unknown}
    return uuid.UUID(members["value"], is_safe=safe[members.get("safe")])


# --- times


def _zone_of(members: Members) -> datetime.tzinfo | None:
    """Return the zone of a moment, or the one that a zone's members say; None for a naive moment."""
    if "zone" in members:
        zone = members["zone"]
        return zone if isinstance(zone, datetime.tzinfo) else zoneinfo.ZoneInfo(_exact(zone, str))
    if "offset" not in members:
        return None
    found = _OFFSET.fullmatch(members["offset"])
    if found is None:
        raise ValueError(f"{members['offset']!r:.40} is not an offset from UTC")
    sign, *amounts = found.groups()
    hours, minutes, seconds, micros = (int(amount or 0) for amount in amounts)
    offset = datetime.timedelta(hours=hours, minutes=minutes, seconds=seconds, microseconds=micros)
    offset = -offset if sign == "-" else offset
    return datetime.timezone(offset, members["name"]) if "name" in members else datetime.timezone(offset)


def _zone(members: Members) -> datetime.tzinfo:
    zone = _zone_of(members)
    if zone is None:
        raise ValueError("it has neither a zone nor an offset")
    return zone


def _datetime(members: Members) -> datetime.datetime:
    naive = datetime.datetime.fromisoformat(members["value"])
    return naive.replace(tzinfo=_zone_of(members), fold=members.get("fold", 0))


def _time(members: Members) -> datetime.time:
    naive = datetime.time.fromisoformat(members["value"])
    return naive.replace(tzinfo=_zone_of(members), fold=members.get("fold", 0))


# --- values of other libraries, which the program must have loaded


def _library(name: str) -> Any:
    if name not in sys.modules:
        raise LookupError(f"{name} is not loaded")
    return sys.modules[name]


def _timestamp(members: Members) -> Any:
    moment = _library("pandas").Timestamp(members["value"])
    moment = moment.tz_convert(members["zone"]) if "zone" in members else moment
    return moment.as_unit(members["unit"])


STANDARD: Final[dict[str, Callable[[Members], Any]]] = {
    "complex": lambda members: complex(_exact(members["real"], float), _exact(members["imag"], float)),
    "memoryview": _memoryview,
    "decimal": lambda members: decimal.Decimal(_exact(members["value"], str)),
    "fraction": lambda members: fractions.Fraction(*(_exact(members[n], int) for n in ("numerator", "denominator"))),
    "uuid": _uuid,
    "path": lambda members: path_class(members)(_exact(members["value"], str)),
    "ip": lambda members: _ADDRESSES[members["class"]](_exact(members["value"], str)),
    "range": lambda members: range(members["start"], members["stop"], members["step"]),
    "slice": lambda members: slice(members["start"], members["stop"], members["step"]),
    "pattern": lambda members: re.compile(members["pattern"], members["flags"]),
    "zone": _zone,
    "datetime": _datetime,
    "date": lambda members: datetime.date.fromisoformat(members["value"]),
    "time": _time,
    "timedelta": lambda members: datetime.timedelta(members["days"], members["seconds"], members["microseconds"]),
    "str": _string,
    "int": _integer,
    "float": _float,
    "bytes": _bytes,
    "bytearray": lambda members: bytearray(_bytes(members)),
    "ellipsis": lambda _: ...,
    "notimplemented": lambda _: NotImplemented,
    "numpy.dtype": lambda members: _library("numpy").dtype(members["value"]),
    "pandas.timestamp": _timestamp,
    "pandas.timedelta": lambda members: _library("pandas").Timedelta(members["value"]).as_unit(members["unit"]),
    "pandas.na": lambda _: _library("pandas").NA,
    "pandas.nat": lambda _: _library("pandas").NaT,
}
"""Functions that make a value, by kind, for the kinds that are no containers."""
