"""NumPy arrays, and the frames, series and columns of pandas, polars and Arrow, from their forms.

Each function takes the members of a tagged object, of which those that were tagged are values already. Only a library
that the program has loaded is used, and nothing is unpickled. Any exception means that a value can't be rebuilt;
`flowtrace.values.rebuild` makes a RebuildError of it. What is made may lack what the form does not say in full: replay
compares its hash with the recorded one.
"""

from __future__ import annotations

import sys
from base64 import b64decode
from collections.abc import Callable
from itertools import chain
from typing import Any, Final

from flowtrace.errors import RebuildError
from flowtrace.host.system import re

Members = dict[str, Any]
_WITH_ZONE: Final = re.compile(r"datetime64\[(s|ms|us|ns), (.+)\]", re.ASCII)
_POLARS_DATETIME: Final = re.compile(r"Datetime\(time_unit='(ms|us|ns)', time_zone=(?:None|'([^']+)')\)", re.ASCII)
_POLARS_DURATION: Final = re.compile(r"Duration\(time_unit='(ms|us|ns)'\)", re.ASCII)
_POLARS_PLAIN: Final = re.compile(r"U?Int(8|16|32|64)|Float(32|64)|String|Boolean|Binary|Date|Time|Null", re.ASCII)


def _library(name: str) -> Any:
    if name not in sys.modules:
        raise LookupError(f"{name} is not loaded")
    return sys.modules[name]


def _refuse_subclass(members: Members) -> None:
    if "class" in members or "state" in members:
        raise RebuildError("it is of a subclass, or has attributes of its own")


def _kept(content: Any) -> Any:
    """Return items; a text stands for them where they were too many."""
    if isinstance(content, str):
        raise RebuildError("of an array only the hash was kept, since it is large")
    return content


def _array(members: Members) -> Any:
    numpy = _library("numpy")
    _refuse_subclass(members)
    dtype, shape = numpy.dtype(members["dtype"]), tuple(members["shape"])
    if {"base64", "data"} & members.keys() and not dtype.hasobject:
        data = members["data"] if "data" in members else b64decode(members["base64"], validate=True)
        return numpy.frombuffer(data, dtype).reshape(shape).copy()
    if "items" not in members:
        raise RebuildError("of an array only the hash was kept, since it is large")
    items = _kept(members["items"])
    if dtype.kind == "S":
        items = [item.encode("latin-1") if isinstance(item, str) else item for item in items]
    if dtype.kind in "US":
        return numpy.array(items, dtype).reshape(shape)
    if dtype.kind != "O":
        raise RebuildError(f"an array of {dtype} can't be made from its items")
    for _ in shape[1:]:
        items = list(chain.from_iterable(items))
    made = numpy.empty(len(items), object)
    made[:] = items
    return made.reshape(shape)


# --- pandas


def _column(members: Members) -> Any:
    """Return the values of a column: an array of NumPy, or one of pandas."""
    pandas = _library("pandas")
    if "levels" in members:
        return pandas.MultiIndex.from_arrays(members["levels"])
    dtype, values = members["dtype"], members["values"]
    if "categories" in members:
        categories = pandas.Index(members["categories"])
        return pandas.Categorical.from_codes(values, categories, ordered=members["ordered"])
    if zone := _WITH_ZONE.fullmatch(dtype):
        moments = pandas.DatetimeIndex(values.view(f"M8[{zone[1]}]"))
        return moments.tz_localize("UTC").tz_convert(zone[2]).array
    made = pandas.api.types.pandas_dtype(dtype)
    if not isinstance(made, pandas.api.extensions.ExtensionDtype):
        return values
    if "storage" in members and isinstance(made, pandas.StringDtype):
        made = pandas.StringDtype(members["storage"], na_value=made.na_value)
    return pandas.array(values, dtype=made)


def _index(members: Members) -> Any:
    pandas = _library("pandas")
    _refuse_subclass(members)
    values, names = members["values"], members["names"]
    if isinstance(values, pandas.MultiIndex):
        return values.set_names(names)
    name = tuple(names[0]) if isinstance(names[0], list) else names[0]
    if getattr(values, "dtype", None) == "int64" and len(values) > 1 and "freq" not in members:
        step = int(values[1]) - int(values[0])  # an index of numbers in a row is a range, as the usual one is
        row = pandas.RangeIndex(int(values[0]), int(values[0]) + step * len(values), step) if step else None
        if row is not None and (row.to_numpy() == values).all():
            return row.rename(name)
    made = pandas.Index(values, name=name, dtype=values.dtype)
    return made if "freq" not in members else type(made)(made, freq=members["freq"]["name"])


def _hashable(label: Any) -> Any:
    return tuple(map(_hashable, label)) if isinstance(label, list) else label


def _series(members: Members) -> Any:
    pandas = _library("pandas")
    _refuse_subclass(members)
    made = pandas.Series(members["values"], index=members["index"], name=_hashable(members["name"]))
    return _noted(made, members)


def _frame(members: Members) -> Any:
    pandas = _library("pandas")
    _refuse_subclass(members)
    columns = members["columns"]
    made = pandas.DataFrame(dict(enumerate(values for _, values in columns)), index=members["index"])
    if "labels" in members:
        made.columns = members["labels"]
    else:
        names = members["names"]
        labels = [_hashable(label) for label, _ in columns]
        made.columns = (
            pandas.Index(labels, name=_hashable(names[0]))
            if len(names) == 1
            else (pandas.MultiIndex.from_tuples(labels, names=names))
        )
    return _noted(made, members)


def _noted(made: Any, members: Members) -> Any:
    made.attrs.update(members.get("attrs", {}))
    return made.set_flags(allows_duplicate_labels=False) if members.get("unique") else made


# --- polars


def _polars_dtype(text: str, polars: Any) -> Any:
    if _POLARS_PLAIN.fullmatch(text):
        return getattr(polars, text)
    if found := _POLARS_DATETIME.fullmatch(text):
        return polars.Datetime(found[1], found[2])
    if found := _POLARS_DURATION.fullmatch(text):
        return polars.Duration(found[1])
    raise RebuildError(f"a column of {text:.80} can't be rebuilt")


def _polars_series(members: Members) -> Any:
    polars = _library("polars")
    _refuse_subclass(members)
    dtype = _polars_dtype(members["dtype"], polars)
    raw = dtype if not dtype.is_temporal() else polars.Int32 if dtype == polars.Date else polars.Int64
    values = _kept(members["values"])
    values = values if isinstance(values, list) else values.tolist()
    return polars.Series(members["name"], values, dtype=raw).cast(dtype)


def _polars_frame(members: Members) -> Any:
    _refuse_subclass(members)
    return _library("polars").DataFrame([series for _, series in members["columns"]])


# --- Arrow


def _arrow_chunks(members: Members) -> Any:
    pyarrow = _library("pyarrow")
    _refuse_subclass(members)
    dtype = pyarrow.type_for_alias(members["type"])
    raw = dtype
    if pyarrow.types.is_temporal(dtype) and not pyarrow.types.is_interval(dtype):
        raw = pyarrow.int32() if dtype.bit_width == 32 else pyarrow.int64()
    if "data" in members:
        data, size = bytes(members["data"]), members["size"]
        if len(data) * 8 != size * raw.bit_width:
            raise RebuildError("its content is of another size")
        made = pyarrow.Array.from_buffers(raw, size, [None, pyarrow.py_buffer(data)])
    else:
        made = pyarrow.array(_kept(members["values"]), raw)
    return made.view(dtype) if raw != dtype else made


def _arrow_columns(members: Members) -> tuple[list[Any], list[str]]:
    _refuse_subclass(members)
    if members.keys() - {"$py", "columns"}:
        raise RebuildError("it has a schema of its own")
    return [values for _, values in members["columns"]], [name for name, _ in members["columns"]]


def _arrow_table(members: Members) -> Any:
    columns, names = _arrow_columns(members)
    return _library("pyarrow").table(columns, names=names)


def _arrow_batch(members: Members) -> Any:
    columns, names = _arrow_columns(members)
    return _library("pyarrow").record_batch(columns, names=names)


def _arrow_chunked(members: Members) -> Any:
    return _library("pyarrow").chunked_array([_arrow_chunks(members)])


FRAMES: Final[dict[str, Callable[[Members], Any]]] = {
    "array": _array,
    "pandas.values": _column,
    "pandas.index": _index,
    "pandas.series": _series,
    "pandas.frame": _frame,
    "polars.series": _polars_series,
    "polars.frame": _polars_frame,
    "arrow.array": _arrow_chunks,
    "arrow.chunked": _arrow_chunked,
    "arrow.table": _arrow_table,
    "arrow.batch": _arrow_batch,
}
"""Functions that make a value, by kind."""
