"""The forms of arrays and frames: NumPy, pandas, Polars, Arrow, torch. flowtrace never imports these libraries.

A value can only be theirs if its library is loaded. The form has dtype, shape and BLAKE3 hash of the buffer, which is
not copied; only columns of Python objects or with missing entries are hashed item by item.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from flowtrace.host.objects import class_name, inherits, root_package
from flowtrace.values import digest
from flowtrace.values.forms import Form, HashOf, Labelled, NamedParts, Opaque, Pairs, Tag, WrittenAs, state

_CHUNK: Final = 1 << 16
_LONGEST_ROW: Final = 1000
_POLARS_NUMBERS: Final = frozenset({"Float32", "Float64", *(f"{u}Int{n}" for u in ("", "U") for n in (8, 16, 32, 64))})


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
            fields["mask"] = numpy.ma.getmaskarray(value)
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
        series = [value.iloc[:, at] for at in range(len(value.columns))]
        forms = [WrittenAs(item, _column(item, pandas)) for item in series]
        columns = list(zip(value.columns, forms, strict=True))
        fields = {"columns": Pairs(columns, ordered=True), "index": value.index, "names": list(value.columns.names)}
        return _tag("pandas.frame", value, fields, pandas.DataFrame)
    if inherits(cls, pandas.Series):
        fields = {"index": value.index, "name": value.name, "values": _labelled(value.name, value, _row(value, pandas))}
        return _tag("pandas.series", value, fields, pandas.Series)
    if inherits(cls, pandas.Index):
        names = tuple(value.names)
        fields = {"names": list(names), "values": _labelled(names, value, _column(value, pandas))}
        mine = root_package(cls) == "pandas"
        return Tag("pandas.index", list(fields.items())) if mine else _tag("pandas.index", value, fields, pandas.Index)
    return _pandas_scalar(value, cls, pandas)


def _labelled(name: Any, value: object, form: object) -> object:
    """Return values with the name of their column or index, which may be secret; most have none."""
    names = name if type(name) is tuple else (name,)
    return Labelled(name, WrittenAs(value, form)) if any(inherits(type(item), str) for item in names) else form


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
        columns = [(series.name, series) for series in value.get_columns()]
        return _tag("polars.frame", value, {"columns": Pairs(columns, ordered=True)}, polars.DataFrame)
    if inherits(cls, polars.Series):
        dtype = value.dtype
        plain = str(dtype) in _POLARS_NUMBERS and value.null_count() == 0
        content = value.to_numpy() if plain else HashOf(value.to_list())
        values = _labelled(value.name, value, content)
        fields = {"dtype": str(dtype), "name": value.name, "size": len(value), "values": values}
        return _tag("polars.series", value, fields, polars.Series)
    return None


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
    if types.is_temporal(dtype) and not types.is_interval(dtype):
        # as the integers that they are: Arrow would load pandas to make Python objects of them
        raw = pyarrow.int32() if dtype.bit_width == 32 else pyarrow.int64()
        chunks = [chunk.view(raw) for chunk in chunks]
    flat = chunks[0].type if chunks else dtype
    if (types.is_integer(flat) or types.is_floating(flat)) and not any(chunk.null_count for chunk in chunks):
        hasher = digest.Hasher()
        width = flat.bit_width // 8
        for chunk in chunks:
            data = memoryview(chunk.buffers()[1] or b"")
            hasher.update(data[chunk.offset * width : (chunk.offset + len(chunk)) * width])
        content: object = hasher.finish().value
    else:
        content = HashOf([item for chunk in chunks for item in chunk.to_pylist()])
    return Tag(kind, [("size", size), ("type", str(dtype)), ("values", content)])


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
