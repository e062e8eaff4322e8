"""The forms of arrays and frames: NumPy, pandas, Polars, Arrow, torch. flowtrace never imports these libraries.

A value can only be theirs if its library is loaded. The form has dtype, shape and BLAKE3 hash of the buffer, which is
not copied; only columns of Python objects or with missing entries are hashed item by item.

No method of a program's class runs: an object of a subclass is read through one of the library's own class, around the
same data. What holds a column in a class of its own (an extension array) is opaque.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from functools import partial
from sys import byteorder, modules
from typing import Any, Final

from flowtrace.host.objects import class_name, inherits, instance_dict, mro, root_package
from flowtrace.values import digest
from flowtrace.values.forms import Form, HashOf, Labelled, NamedParts, Opaque, Pairs, Tag, WrittenAs, state

_CHUNK: Final = 1 << 16
_LONGEST_ROW: Final = 1000
_POLARS_NUMBERS: Final = {"Float32": "f", "Float64": "d"} | {
    f"{unsigned}Int{bits}": code
    for unsigned, codes in (("", "bhiq"), ("U", "BHIQ"))
    for bits, code in zip((8, 16, 32, 64), codes, strict=True)
}
"""The dtypes of polars that are plain numbers, with the type code of `array`."""


def _tag(kind: str, value: object, fields: dict[str, Any], base: type) -> Tag:
    """Tag a value; a subclass is written as well."""
    if type(value) is not base:
        fields["class"] = class_name(type(value))
    return Tag(kind, sorted(fields.items()))


def _numpy(value: Any, numpy: Any) -> Form | None:
    cls = type(value)
    if inherits(cls, numpy.ndarray):
        return _ndarray(value, numpy)
    if inherits(cls, numpy.generic):
        exact = numpy.asarray(value)
        fields = {"dtype": str(exact.dtype.str), "value": _numpy_item(exact, numpy)}
        mine = root_package(cls) == "numpy"
        return Tag("numpy.scalar", list(fields.items())) if mine else _tag("numpy.scalar", value, fields, object)
    if inherits(cls, numpy.dtype):
        return Tag("numpy.dtype", [("value", str(value))])
    return None


def _numpy_item(exact: Any, numpy: Any) -> object:
    """Return a scalar's content: as a Python value where that has all of it, else its bytes."""
    if exact.dtype.kind in "fc" and not numpy.isfinite(exact):
        return str(exact.item())
    item = exact.item()
    if exact.dtype.names:
        return HashOf(_structured(exact.dtype, item, 0))
    if _is_padded(exact, numpy):
        return str(item)
    return item if type(item) in (bool, int, float, str, bytes, complex) else exact.tobytes()


def _structured(dtype: Any, content: Any, levels: int) -> object:
    """Return items of a structured dtype, to be split into fields where a field's name hides it.

    Args:
        dtype: of each item.
        content: the items, as Python values.
        levels: in how many nested lists they are; 0 for a single item.
    """
    if not (names := _names_of(dtype)):
        return content
    return NamedParts(names, content, lambda: _split_fields(dtype, content, levels))


def _names_of(dtype: Any) -> list[str]:
    dtype = dtype.base
    return [name for own in dtype.names or () for name in (own, *_names_of(dtype[own]))]


def _split_fields(dtype: Any, content: Any, levels: int) -> object:
    dtype, levels = dtype.base, levels + len(dtype.shape)
    if not dtype.names or (levels and type(content) is not list):  # an array in a field splits its own fields
        return content
    if levels:
        return [_split_fields(dtype, item, levels - 1) for item in content]
    pairs = zip(dtype.names, content, strict=True)
    return tuple(Labelled(name, WrittenAs(item, _split_fields(dtype[name], item, 0))) for name, item in pairs)


def _is_padded(array: Any, numpy: Any) -> bool:
    """Return True if its numbers have 80 bits, with padding that holds whatever was in memory."""
    return bool(
        array.dtype.kind in "fc" and array.dtype.newbyteorder("=").char in "gG" and numpy.longdouble(0).nbytes > 8
    )


def _ndarray(value: Any, numpy: Any) -> Form:
    base = numpy.asarray(value)
    fields: dict[str, object] = {"dtype": base.dtype.str, "shape": list(base.shape)}
    if base.dtype.hasobject or base.dtype.names:  # a buffer of pointers, or with padding between the fields
        fields |= {"dtype": str(base.dtype), "items": HashOf(_structured(base.dtype, base.tolist(), base.ndim))}
    elif _is_padded(base, numpy):
        fields["items"] = HashOf([str(item) for item in base.ravel().tolist()])
    else:
        fields["blake3"] = _buffer_hash(base, numpy)
    cls = type(value)
    if cls is not numpy.ndarray:
        fields["class"] = class_name(cls)
        if inherits(cls, numpy.ma.MaskedArray):
            mask = instance_dict(value).get("_mask", numpy.ma.nomask)
            fields["mask"] = numpy.zeros(base.shape, bool) if mask is numpy.ma.nomask else numpy.asarray(mask)
        elif root_package(cls) != "numpy" and (more := state(value, below=numpy.ndarray)):
            fields["state"] = more
    return Tag("array", sorted(fields.items()))


def _buffer_hash(base: Any, numpy: Any) -> str:
    """Return the hash of an array's items in C order, copying at most a piece of it at a time."""
    if base.flags.c_contiguous:
        return digest.hash_buffer(memoryview(base.reshape(-1).view(numpy.uint8)))
    hasher = digest.Hasher()
    flags = ["external_loop", "buffered", "zerosize_ok"]
    for piece in numpy.nditer(base, flags=flags, order="C", buffersize=_CHUNK):
        hasher.update(memoryview(numpy.ascontiguousarray(piece).view(numpy.uint8)))
    return hasher.finish().value


def _pandas(value: Any, pandas: Any) -> Form | None:
    cls = type(value)
    if inherits(cls, pandas.DataFrame):
        frame = _as_own(value, pandas.DataFrame)
        series = [frame.iloc[:, at] for at in range(len(frame.columns))]
        forms = [WrittenAs(item, _column(item, pandas)) for item in series]
        names = tuple(frame.columns.names)
        columns = list(zip([_label(names, label) for label in frame.columns], forms, strict=True))
        fields = {"columns": Pairs(columns, ordered=True), "index": frame.index, "names": list(names)}
        return _tag("pandas.frame", value, fields, pandas.DataFrame)
    if inherits(cls, pandas.Series):
        one = _as_own(value, pandas.Series)
        fields = {"index": one.index, "name": one.name, "values": _labelled(one.name, one, _row(one, pandas))}
        return _tag("pandas.series", value, fields, pandas.Series)
    if inherits(cls, pandas.Index):
        value = _own_index(value, cls)
        names = tuple(value.names)
        fields = {"names": list(names), "values": _labelled(names, value, _column(value, pandas))}
        if root_package(cls) != "pandas":
            fields = {"class": class_name(cls), **fields}
        return Tag("pandas.index", list(fields.items()))
    return _pandas_scalar(value, cls, pandas)


def _as_own(value: Any, base: Any) -> Any:
    """Return a frame or a series of pandas' own class around the same data, without ``attrs``, which pandas copies."""
    attributes = instance_dict(value)
    own = base._from_mgr(attributes["_mgr"], attributes["_mgr"].axes)
    if "_name" in attributes:
        object.__setattr__(own, "_name", attributes["_name"])
    return own


def _own_index(value: Any, cls: type) -> Any:
    """Return an index of pandas' own class around the same data."""
    if root_package(cls) == "pandas":
        return value
    base: Any = next(base for base in mro(cls) if root_package(base) == "pandas")
    attributes = instance_dict(value)
    return base._simple_new(attributes["_data"], attributes.get("_name"))


def _is_own_array(values: Any, pandas: Any) -> bool:
    """Return True if pandas or NumPy holds the values of a series or an index, and not a class of the program."""
    if inherits(type(values), pandas.Series):
        array = values._mgr.blocks[0].values
    else:
        array = instance_dict(values).get("_data")
    return array is None or root_package(type(array)) in ("pandas", "numpy")


def _labelled(name: Any, value: object, form: object) -> object:
    """Return values with the name of their column or index, which may be secret; most have none."""
    names = name if type(name) is tuple else (name,)
    return Labelled(name, WrittenAs(value, form)) if any(inherits(type(item), str) for item in names) else form


def _label(names: tuple[Any, ...], label: Any) -> object:
    """Return a column's label, each part with the name of its level, which may be secret; most levels have none."""
    if not any(inherits(type(name), str) for name in names):
        return label
    if len(names) == 1 or type(label) is not tuple:
        return Labelled(names[0], label)
    return tuple(Labelled(name, part) for name, part in zip(names, label, strict=True))


def _is_name(label: object) -> bool:
    return inherits(type(label), str) or inherits(type(label), tuple)


def _row(series: Any, pandas: Any) -> object:
    """Return a column's values. Where they are a row, each label may be secret; a longer index is data."""
    labels = list(series.index[:_LONGEST_ROW])
    if len(series) > _LONGEST_ROW or not all(_is_name(label) for label in labels):
        return _column(series, pandas)
    split = partial(Pairs, list(zip(labels, series.tolist(), strict=True)), True)
    return NamedParts(labels, _column(series, pandas), split, is_alike=False)


def _pandas_scalar(value: Any, cls: type, pandas: Any) -> Form | None:
    if value is pandas.NaT:
        return Tag("pandas.nat")
    if value is pandas.NA:
        return Tag("pandas.na")
    if cls is pandas.Timestamp:
        zone = {} if value.tz is None else {"zone": str(value.tz)}
        return _tag("pandas.timestamp", value, {"value": value.isoformat(), **zone}, cls)
    if cls is pandas.Timedelta:
        return Tag("pandas.timedelta", [("value", value.isoformat())])
    if cls is pandas.Period:
        return Tag("pandas.period", [("freq", value.freqstr), ("value", str(value))])
    if cls is pandas.Interval:
        return Tag("pandas.interval", [("closed", value.closed), ("left", value.left), ("right", value.right)])
    return None


def _column(values: Any, pandas: Any) -> Form:
    if not _is_own_array(values, pandas):
        return Opaque(class_name(type(values)))
    dtype = values.dtype
    fields: dict[str, object] = {"dtype": str(dtype)}
    if isinstance(dtype, pandas.CategoricalDtype):
        content = values.array.codes
        fields |= {"categories": _column(dtype.categories, pandas), "ordered": bool(dtype.ordered)}
    elif isinstance(dtype, pandas.DatetimeTZDtype):
        content = values.array.asi8  # in UTC, in the unit of the dtype
    elif isinstance(dtype, pandas.api.extensions.ExtensionDtype):
        content = values.to_numpy(dtype=object)  # as numbers, large integers beside a missing one would be rounded
    else:
        content = _range(values) if isinstance(values, pandas.RangeIndex) else values.to_numpy()
    return Tag("pandas.values", sorted({**fields, "values": content}.items()))


def _range(index: Any) -> Form:
    """Return the form of a RangeIndex as an array, made piece by piece."""
    hasher = digest.Hasher()
    for at in range(0, len(index), _CHUNK):
        hasher.update(memoryview(index[at : at + _CHUNK].to_numpy().view("u1")))
    fields = {"blake3": hasher.finish().value, "dtype": index.dtype.str, "shape": [len(index)]}
    return Tag("array", list(fields.items()))


def _polars(value: Any, polars: Any) -> Form | None:
    cls = type(value)
    if inherits(cls, polars.DataFrame):
        own = value if cls is polars.DataFrame else polars.DataFrame._from_pydf(instance_dict(value)["_df"])
        columns = [(series.name, series) for series in own.get_columns()]
        return _tag("polars.frame", value, {"columns": Pairs(columns, ordered=True)}, polars.DataFrame)
    if inherits(cls, polars.Series):
        own = _own_series(value, cls, polars)
        values = _labelled(own.name, own, _polars_values(own, polars))
        fields = {"dtype": str(own.dtype), "name": own.name, "size": len(own), "values": values}
        return _tag("polars.series", value, fields, polars.Series)
    return None


def _own_series(value: Any, cls: type, polars: Any) -> Any:
    return value if cls is polars.Series else polars.Series._from_pyseries(instance_dict(value)["_s"])


def _polars_values(series: Any, polars: Any) -> object:
    """Return the values of a series; moments as the integers that they are, since Python may not have them."""
    series = _polars_raw(series, polars)
    kind = str(series.dtype)
    if kind not in _POLARS_NUMBERS or series.null_count():
        return HashOf(series.to_list())
    if "numpy" in modules:
        return series.to_numpy()
    # as NumPy would have it, which polars would load for that
    code = _POLARS_NUMBERS[kind]
    numbers = array(code, series.to_list())
    size = numbers.itemsize
    order = "|" if size == 1 else "<" if byteorder == "little" else ">"
    letter = "f" if code in "fd" else "u" if code.isupper() else "i"
    content = digest.hash_buffer(memoryview(numbers).cast("B"))
    return Tag("array", [("blake3", content), ("dtype", f"{order}{letter}{size}"), ("shape", [len(numbers)])])


def _polars_raw(series: Any, polars: Any) -> Any:
    raw = _without_moments(series.dtype, polars)
    return series if raw == series.dtype else series.cast(raw)


def _without_moments(dtype: Any, polars: Any) -> Any:
    """Return a dtype with integers in the place of dates, times and durations, on every level."""
    if dtype.is_temporal():
        return polars.Int32 if dtype == polars.Date else polars.Int64
    if dtype == polars.List:
        return polars.List(_without_moments(dtype.inner, polars))
    if dtype == polars.Array:
        return polars.Array(_without_moments(dtype.inner, polars), dtype.size)
    if dtype == polars.Struct:
        return polars.Struct({field.name: _without_moments(field.dtype, polars) for field in dtype.fields})
    return dtype


def _arrow(value: Any, pyarrow: Any) -> Form | None:
    cls = type(value)
    for kind, base in (("arrow.table", pyarrow.Table), ("arrow.batch", pyarrow.RecordBatch)):
        if inherits(cls, base):
            columns = list(zip(value.column_names, value.columns, strict=True))
            return Tag(kind, [("columns", Pairs(columns, ordered=True))])
    if inherits(cls, pyarrow.ChunkedArray):
        return _arrow_array("arrow.chunked", value.type, value.chunks, len(value), pyarrow)
    if inherits(cls, pyarrow.Array):
        return _arrow_array("arrow.array", value.type, [value], len(value), pyarrow)
    return None


def _arrow_array(kind: str, dtype: Any, chunks: list[Any], size: int, pyarrow: Any) -> Form:
    """Describe the items of all chunks as one array: where it is cut makes no difference."""
    types = pyarrow.types
    chunks = [_arrow_raw(chunk, pyarrow) for chunk in chunks]
    flat = chunks[0].type if chunks else dtype
    if (types.is_integer(flat) or types.is_floating(flat)) and not any(chunk.null_count for chunk in chunks):
        hasher = digest.Hasher()
        width = flat.bit_width // 8
        for chunk in chunks:
            data = memoryview(chunk.buffers()[1] or b"")
            hasher.update(data[chunk.offset * width : (chunk.offset + len(chunk)) * width])
        content: object = hasher.finish().value
    else:
        items = [item for chunk in chunks for item in chunk.to_pylist()]
        content = HashOf(_with_named_pairs(dtype, items, types) if "map<" in str(dtype) else items)
    return Tag(kind, [("size", size), ("type", str(dtype)), ("values", content)])


def _arrow_raw(chunk: Any, pyarrow: Any) -> Any:
    """Return an array with its values in place, and integers for moments."""
    if pyarrow.types.is_dictionary(chunk.type):
        chunk = chunk.dictionary_decode()
    raw = _arrow_without_moments(chunk.type, pyarrow)
    return chunk if chunk.type == raw else chunk.view(raw)


def _arrow_without_moments(dtype: Any, pyarrow: Any) -> Any:
    """Return a type with integers in the place of moments, on every level: Arrow would load pandas to make objects."""
    types = pyarrow.types
    if types.is_temporal(dtype) and not types.is_interval(dtype):
        return pyarrow.int32() if dtype.bit_width == 32 else pyarrow.int64()
    if types.is_struct(dtype):
        return pyarrow.struct([item.with_type(_arrow_without_moments(item.type, pyarrow)) for item in dtype])
    if types.is_map(dtype):
        inner = (_arrow_without_moments(part, pyarrow) for part in (dtype.key_type, dtype.item_type))
        return pyarrow.map_(*inner, keys_sorted=dtype.keys_sorted)
    if types.is_list(dtype) or types.is_large_list(dtype) or types.is_fixed_size_list(dtype):
        item = dtype.value_field.with_type(_arrow_without_moments(dtype.value_type, pyarrow))
        if types.is_fixed_size_list(dtype):
            return pyarrow.list_(item, dtype.list_size)
        return pyarrow.list_(item) if types.is_list(dtype) else pyarrow.large_list(item)
    return dtype


def _with_named_pairs(dtype: Any, items: list[Any], types: Any) -> list[Any]:
    """Return items with the pairs of their maps as such, since a key may be a secret name; the bytes are the same."""
    if types.is_map(dtype):
        return [item and Pairs(_pairs_of_map(dtype, item, types), ordered=True) for item in items]
    if types.is_struct(dtype):
        fields = {field.name: field.type for field in (dtype.field(at) for at in range(dtype.num_fields))}
        return [
            item and {name: _with_named_pairs(fields[name], [part], types)[0] for name, part in item.items()}
            for item in items
        ]
    if types.is_list(dtype) or types.is_large_list(dtype) or types.is_fixed_size_list(dtype):
        return [item and _with_named_pairs(dtype.value_type, item, types) for item in items]
    return items


def _pairs_of_map(dtype: Any, pairs: list[tuple[Any, Any]], types: Any) -> list[tuple[Any, Any]]:
    values = _with_named_pairs(dtype.item_type, [value for _, value in pairs], types)
    return list(zip((key for key, _ in pairs), values, strict=True))


def _torch(value: Any, torch: Any) -> Form | None:
    if not inherits(type(value), torch.Tensor):
        return None
    if value.layout is not torch.strided or value.is_meta:
        return Opaque(class_name(type(value)))
    data = value.detach().cpu().contiguous().resolve_conj().resolve_neg()
    content = memoryview(data.reshape(-1).view(torch.uint8).numpy())
    fields: dict[str, object] = {
        "blake3": digest.hash_buffer(content),
        "dtype": str(value.dtype),
        "shape": list(value.shape),
    }
    return _tag("tensor", value, fields, torch.Tensor)


LIBRARIES: Final[dict[str, Callable[[Any, Any], Form | None]]] = {
    "numpy": _numpy,
    "pandas": _pandas,
    "polars": _polars,
    "pyarrow": _arrow,
    "torch": _torch,
}


def first_items(value: Any, cls: type, most: int) -> list[object]:
    """Return the first items of an array or a series; no code of a program's class runs.

    Args:
        value: anything; any other value has none.
        cls: its class.
        most: how many rows, at most.
    """
    for package in map(root_package, mro(cls)):
        if package in _FIRST and package in modules:
            items = _FIRST[package](value, cls, modules[package], most)
            return items if type(items) is list else [items]
    return []


def _first_of_numpy(value: Any, cls: type, numpy: Any, most: int) -> Any:
    if not inherits(cls, numpy.ndarray) and not inherits(cls, numpy.generic):
        return []
    items = numpy.asarray(value)
    return (items[:most] if items.shape else items).tolist()


def _first_of_pandas(value: Any, cls: type, pandas: Any, most: int) -> Any:
    if inherits(cls, pandas.Series):
        items = _as_own(value, pandas.Series)
    elif inherits(cls, pandas.Index):
        items = _own_index(value, cls)
    else:
        return []
    return items[:most].tolist() if _is_own_array(items, pandas) else []


def _first_of_polars(value: Any, cls: type, polars: Any, most: int) -> Any:
    return _polars_raw(_own_series(value, cls, polars)[:most], polars).to_list() if inherits(cls, polars.Series) else []


def _first_of_arrow(value: Any, cls: type, pyarrow: Any, most: int) -> Any:
    if inherits(cls, pyarrow.ChunkedArray):
        chunks = value.slice(0, most).chunks
    else:
        chunks = [value.slice(0, most)] if inherits(cls, pyarrow.Array) else []
    return [item for chunk in chunks for item in _arrow_raw(chunk, pyarrow).to_pylist()]


def _first_of_torch(value: Any, cls: type, torch: Any, most: int) -> Any:
    return (value[:most] if value.shape else value).tolist() if inherits(cls, torch.Tensor) else []


_FIRST: Final[dict[str, Callable[[Any, type, Any, int], Any]]] = {
    "numpy": _first_of_numpy,
    "pandas": _first_of_pandas,
    "polars": _first_of_polars,
    "pyarrow": _first_of_arrow,
    "torch": _first_of_torch,
}
