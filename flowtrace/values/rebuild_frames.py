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
from math import prod
from typing import Any, Final

from flowtrace.errors import RebuildError
from flowtrace.host.system import re
from flowtrace.values.forms_frames import arrow_without_moments, without_moments
from flowtrace.values.rebuild_dtypes import arrow_type, numpy_type, polars_type

Members = dict[str, Any]
_WITH_ZONE: Final = re.compile(r"datetime64\[(s|ms|us|ns), (.+)\]", re.ASCII)

_ARRAY_CLASSES: Final = frozenset({"MaskedArray", "matrix", "recarray"})


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
    made = _plain_array(members, numpy)
    if "class" not in members:
        _refuse_subclass(members)
        return made
    name = members["class"].rpartition(":")[2]
    if "state" in members or not members["class"].startswith("numpy") or name not in _ARRAY_CLASSES:
        _refuse_subclass(members)
    if name != "MaskedArray":
        return made.view(getattr(numpy, name))
    more = {"mask": members["mask"], "fill_value": members["fill"], "hard_mask": members.get("hard", False)}
    return numpy.ma.MaskedArray(made, **more)


def _plain_array(members: Members, numpy: Any) -> Any:
    dtype, shape = numpy_type(members["dtype"], numpy), tuple(members["shape"])
    if {"base64", "data"} & members.keys() and not dtype.hasobject:
        data = members["data"] if "data" in members else b64decode(members["base64"], validate=True)
        return numpy.frombuffer(data, dtype).reshape(shape).copy()
    if "items" not in members:
        raise RebuildError("of an array only the hash was kept, since it is large")
    items = _kept(members["items"])
    if dtype.names:
        return numpy.array(_fields_of(dtype, items, len(shape)), dtype).reshape(shape)
    if dtype.kind == "S":
        items = [item.encode("latin-1") if isinstance(item, str) else item for item in items]
    if dtype.kind in "USg" or (dtype.kind == "f" and isinstance(items, list)):
        return numpy.array(items, dtype).reshape(shape)
    if dtype.kind not in "OT":
        raise RebuildError(f"an array of {dtype} can't be made from its items")
    for _ in shape[1:]:
        items = list(chain.from_iterable(items))
    made = numpy.empty(prod(shape), dtype)
    made[:] = items if shape else [items]
    return made.reshape(shape)


def _fields_of(dtype: Any, items: Any, levels: int) -> Any:
    """Return items of a dtype with fields as NumPy takes them: each is a tuple of its fields."""
    dtype, levels = dtype.base, levels + len(dtype.shape)
    if levels:
        return [_fields_of(dtype, item, levels - 1) for item in items] if dtype.names else items
    if not dtype.names:
        return items
    return tuple(_fields_of(dtype[name], item, 0) for name, item in zip(dtype.names, items, strict=True))


def _numpy_scalar(members: Members) -> Any:
    numpy = _library("numpy")
    dtype, value = numpy_type(members["dtype"], numpy), members["value"]
    if dtype.names:
        return numpy.array(_fields_of(dtype, value, 0), dtype)[()]
    if dtype.kind in "MmV":
        return (
            numpy.frombuffer(value, dtype)[0] if isinstance(value, bytes) else numpy.array(value, "i8").view(dtype)[()]
        )
    if dtype.kind not in "biufcUS":
        raise ValueError(f"a scalar of {dtype} can't be made from its text")
    return dtype.type(complex(value) if dtype.kind == "c" else value)


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
    if dtype.endswith("[pyarrow]") and "storage" not in members:
        return pandas.arrays.ArrowExtensionArray(values)
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


def _polars_series(members: Members) -> Any:
    polars = _library("polars")
    _refuse_subclass(members)
    dtype = polars_type(members["dtype"], polars)
    values = _kept(members["values"])
    values = values if isinstance(values, list) else values.tolist()
    made = polars.Series(members["name"], values, dtype=without_moments(dtype, polars))
    return made if made.dtype == dtype else made.cast(dtype)


def _polars_frame(members: Members) -> Any:
    _refuse_subclass(members)
    return _library("polars").DataFrame([series for _, series in members["columns"]])


# --- Arrow


def _arrow_array(members: Members) -> Any:
    pyarrow = _library("pyarrow")
    _refuse_subclass(members)
    dtype = arrow_type(members["type"], pyarrow)
    if "notes" in members:
        dtype = _noted_type(dtype, members["notes"], pyarrow)
    types = pyarrow.types
    if types.is_dictionary(dtype):
        return _dictionary(dtype, members, pyarrow)
    raw = arrow_without_moments(dtype, pyarrow)
    made = _raw_array(raw, members, pyarrow)
    return made if raw == dtype else made.view(dtype)


def _raw_array(raw: Any, members: Members, pyarrow: Any) -> Any:
    if "data" not in members:
        return pyarrow.array(_with_pairs(raw, _kept(members["values"]), pyarrow.types), raw)
    data, size = bytes(members["data"]), members["size"]
    if len(data) * 8 != size * raw.bit_width:
        raise RebuildError("its content is of another size")
    return pyarrow.Array.from_buffers(raw, size, [None, pyarrow.py_buffer(data)])


def _dictionary(dtype: Any, members: Members, pyarrow: Any) -> Any:
    if len(members["dictionary"]) != 1:
        raise RebuildError("its chunks have dictionaries of their own")
    (names,) = members["dictionary"]
    raw = arrow_without_moments(dtype.value_type, pyarrow)
    raw_names = names if raw == names.type else names.view(raw)
    positions = {name: at for at, name in enumerate(map(_hashable, raw_names.to_pylist()))}
    values = _raw_array(raw, members, pyarrow).to_pylist()
    indices = [None if value is None else positions[_hashable(value)] for value in values]
    return pyarrow.DictionaryArray.from_arrays(pyarrow.array(indices, dtype.index_type), names, ordered=dtype.ordered)


def _with_pairs(dtype: Any, items: Any, types: Any) -> Any:
    """Return the items of a type with the pairs of its maps as tuples, which Arrow asks for."""
    if types.is_map(dtype):
        rows = [item and list(zip(*item, strict=True)) for item in items]
        return [
            row and list(zip(row[0], _with_pairs(dtype.item_type, list(row[1]), types), strict=True)) for row in rows
        ]
    if types.is_struct(dtype):
        kinds = {field.name: field.type for field in dtype}
        return [
            item and {name: _with_pairs(kinds[name], [part], types)[0] for name, part in item.items()} for item in items
        ]
    if types.is_list(dtype) or types.is_large_list(dtype) or types.is_fixed_size_list(dtype):
        return [item and _with_pairs(dtype.value_type, item, types) for item in items]
    return items


def _noted_type(dtype: Any, notes: list[Any], pyarrow: Any) -> Any:
    """Return a nested type with what its text does not say of its fields: metadata."""
    if not pyarrow.types.is_struct(dtype):
        if _has_metadata(notes):
            raise RebuildError("the fields of its type have metadata")
        return dtype
    return pyarrow.struct(_noted_fields(list(dtype), notes, pyarrow))


def _has_metadata(notes: list[Any]) -> bool:
    return any("metadata" in note or _has_metadata(note.get("notes", [])) for _, note in notes)


def _noted_fields(fields: list[Any], notes: list[Any], pyarrow: Any) -> list[Any]:
    for at, note in notes:
        if "notes" in note:
            fields[at] = fields[at].with_type(_noted_type(fields[at].type, note["notes"], pyarrow))
        fields[at] = fields[at].with_nullable(note.get("nullable", True)).with_metadata(note.get("metadata"))
    return fields


def _arrow_columns(members: Members) -> tuple[list[Any], Any]:
    pyarrow = _library("pyarrow")
    _refuse_subclass(members)
    if "rows" in members:
        raise RebuildError("it has rows and no columns")
    columns = [values for _, values in members["columns"]]
    fields = [pyarrow.field(name, values.type) for name, values in members["columns"]]
    return columns, pyarrow.schema(_noted_fields(fields, members.get("notes", []), pyarrow), members.get("metadata"))


def _arrow_table(members: Members) -> Any:
    columns, schema = _arrow_columns(members)
    return _library("pyarrow").table(columns, schema=schema)


def _arrow_batch(members: Members) -> Any:
    columns, schema = _arrow_columns(members)
    return _library("pyarrow").record_batch(columns, schema=schema)


def _arrow_chunked(members: Members) -> Any:
    return _library("pyarrow").chunked_array([_arrow_array(members)])


FRAMES: Final[dict[str, Callable[[Members], Any]]] = {
    "array": _array,
    "numpy.scalar": _numpy_scalar,
    "pandas.values": _column,
    "pandas.period": lambda members: _library("pandas").Period(ordinal=members["ordinal"], freq=members["freq"]),
    "pandas.interval": lambda members: _library("pandas").Interval(
        members["left"], members["right"], members["closed"]
    ),
    "pandas.index": _index,
    "pandas.series": _series,
    "pandas.frame": _frame,
    "polars.series": _polars_series,
    "polars.frame": _polars_frame,
    "arrow.array": _arrow_array,
    "arrow.chunked": _arrow_chunked,
    "arrow.table": _arrow_table,
    "arrow.batch": _arrow_batch,
}
"""Functions that make a value, by kind."""
