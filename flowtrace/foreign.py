"""Arrays and frames of libraries that flowtrace never imports: NumPy, pandas, Polars, Arrow, torch.

A value can only be theirs when its library is loaded already. Contents are hashed where they lie (dtype, shape and
BLAKE3 of the buffer); only columns of Python objects or with missing entries go item by item.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from flowtrace import digest
from flowtrace.forms import Form, HashOf, Opaque, Pairs, Tag, class_name, inherits


def _numpy(value: Any, numpy: Any) -> Form | None:
    cls = type(value)
    if inherits(cls, numpy.ndarray):
        return _ndarray(value, numpy)
    if inherits(cls, numpy.generic):
        item = numpy.generic.item(value)
        content = item if type(item) in (bool, int, float, str, bytes, complex) else value.tobytes()
        return Tag("numpy.scalar", [("dtype", value.dtype.str), ("value", content)])
    if inherits(cls, numpy.dtype):
        return Tag("numpy.dtype", [("value", str(value))])
    return None


def _ndarray(value: Any, numpy: Any) -> Form:
    base = numpy.asarray(value)
    fields: dict[str, object] = {"dtype": base.dtype.str, "shape": list(base.shape)}
    if base.dtype.hasobject or base.dtype.names:  # a buffer of pointers, or with padding between the fields
        fields |= {"dtype": str(base.dtype), "items": HashOf(base.tolist())}
    else:
        flat = numpy.ascontiguousarray(base).reshape(-1).view(numpy.uint8)
        fields["blake3"] = digest.hash_buffer(memoryview(flat))
    if type(value) is not numpy.ndarray:
        fields["class"] = class_name(type(value))
        if hasattr(numpy, "ma") and inherits(type(value), numpy.ma.MaskedArray):
            fields["mask"] = numpy.ma.getmaskarray(value)
    return Tag("array", sorted(fields.items()))


def _pandas(value: Any, pandas: Any) -> Form | None:
    cls = type(value)
    if inherits(cls, pandas.DataFrame):
        columns = [(label, _column(value.iloc[:, at], pandas)) for at, label in enumerate(value.columns)]
        fields = [("columns", Pairs(columns, ordered=True)), ("index", value.index)]
        return Tag("pandas.frame", [*fields, ("names", list(value.columns.names))])
    if inherits(cls, pandas.Series):
        fields = [("index", value.index), ("name", value.name)]
        return Tag("pandas.series", [*fields, ("values", _column(value, pandas))])
    if inherits(cls, pandas.Index):
        return Tag("pandas.index", [("names", list(value.names)), ("values", _column(value, pandas))])
    if inherits(cls, pandas.Timestamp):
        return Tag("pandas.timestamp", [("value", value.isoformat())])
    if inherits(cls, pandas.Timedelta):
        return Tag("pandas.timedelta", [("value", value.isoformat())])
    if value is pandas.NA:
        return Tag("pandas.na")
    return Tag("pandas.nat") if value is pandas.NaT else None


def _column(values: Any, pandas: Any) -> Form:
    fields = [("dtype", str(values.dtype)), ("values", values.to_numpy())]
    if isinstance(values.dtype, pandas.CategoricalDtype):
        fields.insert(0, ("categories", values.dtype.categories.to_numpy()))
        fields.insert(2, ("ordered", bool(values.dtype.ordered)))
    return Tag("pandas.values", fields)


def _polars(value: Any, polars: Any) -> Form | None:
    cls = type(value)
    if inherits(cls, polars.DataFrame):
        return Tag("polars.frame", [("columns", Pairs([(s.name, s) for s in value], ordered=True))])
    if inherits(cls, polars.Series):
        plain = value.dtype.is_numeric() and value.null_count() == 0
        content = value.to_numpy() if plain else HashOf(value.to_list())
        fields = [("dtype", str(value.dtype)), ("name", value.name), ("size", len(value))]
        return Tag("polars.series", [*fields, ("values", content)])
    return None


def _arrow(value: Any, pyarrow: Any) -> Form | None:
    cls = type(value)
    if inherits(cls, pyarrow.Table) or inherits(cls, pyarrow.RecordBatch):
        columns = list(zip(value.column_names, value.columns, strict=True))
        return Tag("arrow.table", [("columns", Pairs(columns, ordered=True))])
    if inherits(cls, pyarrow.Array) or inherits(cls, pyarrow.ChunkedArray):
        plain = pyarrow.types.is_integer(value.type) or pyarrow.types.is_floating(value.type)
        if plain and value.null_count == 0:
            whole = value.combine_chunks() if inherits(cls, pyarrow.ChunkedArray) else value
            content: object = whole.to_numpy(zero_copy_only=False)
        else:
            content = HashOf(value.to_pylist())
        return Tag("arrow.array", [("size", len(value)), ("type", str(value.type)), ("values", content)])
    return None


def _torch(value: Any, torch: Any) -> Form | None:
    if not inherits(type(value), torch.Tensor):
        return None
    if value.layout is not torch.strided or value.is_meta:
        return Opaque(class_name(type(value)))
    data = value.detach().cpu().contiguous().resolve_conj().resolve_neg()
    content = memoryview(data.reshape(-1).view(torch.uint8).numpy())
    fields = [("blake3", digest.hash_buffer(content)), ("dtype", str(value.dtype))]
    return Tag("tensor", [*fields, ("shape", list(value.shape))])


LIBRARIES: Final[dict[str, Callable[[Any, Any], Form | None]]] = {
    "numpy": _numpy,
    "pandas": _pandas,
    "polars": _polars,
    "pyarrow": _arrow,
    "torch": _torch,
}
