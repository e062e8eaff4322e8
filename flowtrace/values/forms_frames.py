"""The forms of tables: frames, series and indexes of pandas and polars, tables and arrays of Arrow.

They have all that the library compares or pickles, metadata too.
"""

from __future__ import annotations

from array import array
from functools import partial
from itertools import pairwise
from sys import byteorder, modules
from typing import Any, Final

from flowtrace.host.objects import class_name, inherits, instance_dict, mro, root_package
from flowtrace.values.encoded import Hasher
from flowtrace.values.forms import (
    CHUNK,
    INLINE_BYTES,
    MOST_REPEATED,
    Form,
    HashOf,
    Labelled,
    LargeArray,
    NamedParts,
    Opaque,
    Pairs,
    Tag,
    WrittenAs,
    array_fields,
    labelled,
    tag_with_state,
)

_FEW: Final = 4096  # items, which are written one by one
_POLARS_NUMBERS: Final = {"Float32": "f", "Float64": "d"} | {
    f"{unsigned}Int{bits}": code
    for unsigned, codes in (("", "bhiq"), ("U", "BHIQ"))
    for bits, code in zip((8, 16, 32, 64), codes, strict=True)
}
"""The dtypes of polars that are plain numbers, with the type code of `array`."""


def polars_form(value: Any, polars: Any) -> Form | None:
    """Return the form of a polars frame or series; None for any other value."""
    cls = type(value)
    if inherits(cls, polars.DataFrame):
        own = value if cls is polars.DataFrame else polars.DataFrame._from_pydf(instance_dict(value)["_df"])
        columns = [(series.name, series) for series in own.get_columns()]
        fields = {"columns": Pairs(columns, ordered=True)} | ({} if columns else {"height": own.height})
        return tag_with_state("polars.frame", value, fields, polars.DataFrame, {"_df"})
    if inherits(cls, polars.Series):
        own = _own_series(value, cls, polars)
        values = labelled(own.name, own, _polars_values(own, polars))
        fields = {"dtype": str(own.dtype), "name": own.name, "size": len(own), "values": values}
        if root_package(type(own.dtype)) != "polars":
            return Opaque(class_name(cls))
        return tag_with_state("polars.series", value, fields, polars.Series, {"_s"})
    return None


def _own_series(value: Any, cls: type, polars: Any) -> Any:
    return value if cls is polars.Series else polars.Series._from_pyseries(instance_dict(value)["_s"])


def _polars_values(series: Any, polars: Any) -> object:
    """Return the values of a series; moments as the integers that they are, since Python may not have them."""
    series = _polars_raw(series, polars)
    kind = str(series.dtype)
    if kind not in _POLARS_NUMBERS or series.null_count() or len(series) <= _FEW:
        return HashOf(series.to_list())
    if "numpy" in modules:
        return series.to_numpy()
    # as NumPy would have it, which polars would load for that
    code = _POLARS_NUMBERS[kind]
    numbers = array(code, series.to_list())
    size = numbers.itemsize
    order = "|" if size == 1 else "<" if byteorder == "little" else ">"
    letter = "f" if code in "fd" else "u" if code.isupper() else "i"
    fields = array_fields(memoryview(numbers).cast("B"), f"{order}{letter}{size}", [len(numbers)])
    return Tag("array", sorted(fields.items()))


def _polars_raw(series: Any, polars: Any) -> Any:
    raw = without_moments(series.dtype, polars)
    return series if raw == series.dtype else series.cast(raw)


def without_moments(dtype: Any, polars: Any) -> Any:
    """Return a dtype with integers in the place of dates, times and durations, on every level."""
    if dtype.is_temporal():
        return polars.Int32 if dtype == polars.Date else polars.Int64
    if dtype == polars.List:
        return polars.List(without_moments(dtype.inner, polars))
    if dtype == polars.Array:
        return polars.Array(without_moments(dtype.inner, polars), dtype.size)
    if dtype == polars.Struct:
        return polars.Struct({field.name: without_moments(field.dtype, polars) for field in dtype.fields})
    return dtype


def first_of_polars(value: Any, cls: type, polars: Any, most: int) -> Any:
    """Return the first items of a value of polars's, at most so many; see `flowtrace.values.forms_arrays`."""
    return _polars_raw(_own_series(value, cls, polars)[:most], polars).to_list() if inherits(cls, polars.Series) else []


def arrow_form(value: Any, pyarrow: Any) -> Form | None:
    """Return the form of an Arrow table or array; None for any other value."""
    cls = type(value)
    for kind, base in (("arrow.table", pyarrow.Table), ("arrow.batch", pyarrow.RecordBatch)):
        if inherits(cls, base):
            columns = list(zip(value.column_names, value.columns, strict=True))
            fields = {"columns": Pairs(columns, ordered=True)} | ({} if columns else {"rows": value.num_rows})
            return tag_with_state(kind, value, fields | _schema_of(value.schema), base)
    if inherits(cls, pyarrow.ChunkedArray):
        return _arrow_array("arrow.chunked", value.type, value.chunks, len(value), pyarrow)
    if inherits(cls, pyarrow.Array):
        return _arrow_array("arrow.array", value.type, [value], len(value), pyarrow)
    return None


def _arrow_array(kind: str, dtype: Any, chunks: list[Any], size: int, pyarrow: Any) -> Form:
    """Describe the items of all chunks as one array: where it is cut makes no difference."""
    types = pyarrow.types
    more = _notes_within(dtype)
    if types.is_dictionary(dtype) and chunks:
        found = [chunks[0].dictionary]
        found += [two.dictionary for one, two in pairwise(chunks) if not one.dictionary.equals(two.dictionary)]
        more["dictionary"] = found
    chunks = [_arrow_raw(chunk, pyarrow) for chunk in chunks]
    flat = chunks[0].type if chunks else dtype
    is_plain = (types.is_integer(flat) or types.is_floating(flat)) and not any(chunk.null_count for chunk in chunks)
    if is_plain and size * flat.bit_width > 8 * INLINE_BYTES:
        content: object = _large(flat, chunks, size, types)
    else:
        items = [item for chunk in chunks for item in chunk.to_pylist()]
        content = HashOf(_with_named_pairs(dtype, items, types) if "map<" in str(dtype) else items)
    return Tag(kind, sorted({**more, "size": size, "type": str(dtype), "values": content}.items()))


def _large(flat: Any, chunks: list[Any], size: int, types: Any) -> Form:
    """Return the form of plain numbers, none of which is missing."""
    width = flat.bit_width // 8
    buffers = [
        memoryview(chunk.buffers()[1] or b"")[chunk.offset * width : (chunk.offset + len(chunk)) * width]
        for chunk in chunks
    ]
    hasher = Hasher()
    for data in buffers:
        hasher.update(data)
    letter = "f" if types.is_floating(flat) else "i" if types.is_signed_integer(flat) else "u"
    dtype = f"{'|' if width == 1 else '<'}{letter}{width}"
    return LargeArray(hasher.finish().value, size * width, dtype, [size], lambda: b"".join(buffers))


def _schema_of(schema: Any) -> dict[str, object]:
    """Return the fields for the metadata of a schema, and for what its fields have beside name and type."""
    found: dict[str, object] = {"metadata": schema.metadata} if schema.metadata else {}
    notes = [(at, note) for at, field in enumerate(schema) if (note := _field_note(field))]
    return found | ({"notes": notes} if notes else {})


def _field_note(field: Any) -> dict[str, object]:
    found = {} if field.nullable else {"nullable": False}
    return found | ({"metadata": field.metadata} if field.metadata else {}) | _notes_within(field.type)


def _notes_within(dtype: Any) -> dict[str, object]:
    """Return the same for the fields of a nested type: its text has their names and types."""
    fields = [dtype.field(at) for at in range(dtype.num_fields)]
    notes = [(at, note) for at, field in enumerate(fields) if (note := _field_note(field))]
    return {"notes": notes} if notes else {}


def _arrow_raw(chunk: Any, pyarrow: Any) -> Any:
    """Return an array with its values in place, and integers for moments."""
    if isinstance(chunk.type, pyarrow.BaseExtensionType) and root_package(type(chunk.type)) == "pyarrow":
        chunk = chunk.storage
    if pyarrow.types.is_dictionary(chunk.type):
        chunk = chunk.dictionary_decode()
    raw = arrow_without_moments(chunk.type, pyarrow)
    return chunk if chunk.type == raw else chunk.view(raw)


def arrow_without_moments(dtype: Any, pyarrow: Any) -> Any:
    """Return a type with integers in the place of moments, on every level: Arrow would load pandas to make objects.

    Raises:
        TypeError: Python objects may not have all of its items.
    """
    types = pyarrow.types
    if types.is_temporal(dtype) and not types.is_interval(dtype):
        return pyarrow.int32() if dtype.bit_width == 32 else pyarrow.int64()
    if types.is_struct(dtype):
        return pyarrow.struct([item.with_type(arrow_without_moments(item.type, pyarrow)) for item in dtype])
    if types.is_map(dtype):
        inner = (arrow_without_moments(part, pyarrow) for part in (dtype.key_type, dtype.item_type))
        return pyarrow.map_(*inner, keys_sorted=dtype.keys_sorted)
    if types.is_list(dtype) or types.is_large_list(dtype) or types.is_fixed_size_list(dtype):
        item = dtype.value_field.with_type(arrow_without_moments(dtype.value_type, pyarrow))
        if types.is_fixed_size_list(dtype):
            return pyarrow.list_(item, dtype.list_size)
        return pyarrow.list_(item) if types.is_list(dtype) else pyarrow.large_list(item)
    is_hidden = types.is_dictionary(dtype) and arrow_without_moments(dtype.value_type, pyarrow) != dtype.value_type
    if is_hidden or dtype.num_fields or isinstance(dtype, pyarrow.BaseExtensionType):
        raise TypeError
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


def first_of_arrow(value: Any, cls: type, pyarrow: Any, most: int) -> Any:
    """Return the first items of a value of pyarrow's, at most so many; see `flowtrace.values.forms_arrays`."""
    if inherits(cls, pyarrow.ChunkedArray):
        chunks = value.slice(0, most).chunks
    else:
        chunks = [value.slice(0, most)] if inherits(cls, pyarrow.Array) else []
    return [item for chunk in chunks for item in _arrow_raw(chunk, pyarrow).to_pylist()]


_OF_PANDAS: Final = frozenset(
    {
        *("_mgr", "_attrs", "_flags", "_name", "_item_cache", "_cacher", "_is_copy", "_data", "_freq", "_cache", "_id"),
        *("_references", "_range", "_levels", "_codes", "_names", "sortorder", "_engine"),
    }
)
"""The attributes in which pandas holds what its own classes have."""
_ZONES: Final = ("zoneinfo", "datetime", "pytz", "dateutil")
_LONGEST_ROW: Final = 1000


def pandas_form(value: Any, pandas: Any) -> Form | None:
    """Return the form of a pandas frame, series, index or scalar; None for any other value."""
    cls = type(value)
    if inherits(cls, pandas.DataFrame):
        frame = _as_own(value, pandas.DataFrame)
        series = [frame.iloc[:, at] for at in range(len(frame.columns))]
        forms = [WrittenAs(item, _column(item, pandas)) for item in series]
        names = tuple(frame.columns.names)
        columns = list(zip([_label(names, label) for label in frame.columns], forms, strict=True))
        fields = {"columns": Pairs(columns, ordered=True), "index": frame.index, "labels": frame.columns}
        return tag_with_state("pandas.frame", value, fields | _noted(value), pandas.DataFrame, _OF_PANDAS)
    if inherits(cls, pandas.Series):
        one = _as_own(value, pandas.Series)
        fields = {"index": one.index, "name": one.name, "values": labelled(one.name, one, _row(one, pandas))}
        return tag_with_state("pandas.series", value, fields | _noted(value), pandas.Series, _OF_PANDAS)
    if inherits(cls, pandas.Index):
        own = _own_index(value, cls)
        names = tuple(own.names)
        fields = {"names": list(names), "values": labelled(names, own, _column(own, pandas)), **_freq_of(own)}
        return tag_with_state("pandas.index", value, fields, type(own), _OF_PANDAS)
    return _pandas_scalar(value, cls, pandas)


def _noted(value: Any) -> dict[str, object]:
    """Return the fields for what is noted on a frame or a series as such."""
    attributes = instance_dict(value)
    found: dict[str, object] = {"attrs": attributes["_attrs"]} if attributes.get("_attrs") else {}
    if instance_dict(attributes.get("_flags")).get("_allows_duplicate_labels") is False:
        found["unique"] = True
    return found


def _freq_of(index: Any) -> dict[str, object]:
    """Return the field for the frequency of an index of moments; an offset of the program's own is opaque."""
    attributes = instance_dict(index)
    of_data = instance_dict(attributes.get("_data"))  # pandas before 3.1 has it there
    freq = attributes.get("_freq", of_data.get("_freq"))
    if freq is None:
        return {}
    if root_package(type(freq)) != "pandas":
        return {"freq": Opaque(class_name(type(freq)))}
    return {"freq": {"kwds": dict(freq.kwds), "name": freq.freqstr, "normalize": freq.normalize}}


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
        fields: dict[str, object] = {"unit": value.unit, "value": value.isoformat()}
        if value.tz is not None:
            own = root_package(type(value.tz)) in _ZONES
            fields["zone"] = str(value.tz) if own else Opaque(class_name(type(value.tz)))
        return Tag("pandas.timestamp", sorted((fields | ({"fold": 1} if value.fold else {})).items()))
    if cls is pandas.Timedelta:
        return Tag("pandas.timedelta", [("unit", value.unit), ("value", value.isoformat())])
    if cls is pandas.Period:
        return Tag("pandas.period", [("freq", value.freqstr), ("ordinal", value.ordinal), ("value", str(value))])
    if cls is pandas.Interval:
        return Tag("pandas.interval", [("closed", value.closed), ("left", value.left), ("right", value.right)])
    has_more = any(inherits(cls, base) for base in (pandas.Timestamp, pandas.Timedelta, pandas.Period, pandas.Interval))
    return Opaque(class_name(cls)) if has_more else None  # as a datetime, a subclass would lose its nanoseconds


def _column(values: Any, pandas: Any) -> Form:
    if not _is_own_array(values, pandas):
        return Opaque(class_name(type(values)))
    if inherits(type(values), pandas.MultiIndex):
        levels = [_column(values.get_level_values(at), pandas) for at in range(values.nlevels)]
        return Tag("pandas.values", [("levels", levels)])
    dtype = values.dtype
    fields: dict[str, object] = {"dtype": str(dtype)}
    if isinstance(dtype, pandas.CategoricalDtype):
        content = values.array.codes
        fields |= {"categories": _column(dtype.categories, pandas), "ordered": bool(dtype.ordered)}
    elif isinstance(dtype, pandas.DatetimeTZDtype):
        content = values.array.asi8  # in UTC, in the unit of the dtype
    elif isinstance(dtype, pandas.ArrowDtype):
        content = values.array._pa_array
    elif isinstance(dtype, pandas.api.extensions.ExtensionDtype):
        fields |= {"storage": dtype.storage} if isinstance(dtype, pandas.StringDtype) else {}
        content = values.to_numpy(dtype=object)  # as numbers, large integers beside a missing one would be rounded
    else:
        content = _range(values) if isinstance(values, pandas.RangeIndex) else values.to_numpy()
    return Tag("pandas.values", sorted({**fields, "values": content}.items()))


def _range(index: Any) -> Form:
    """Return the form of a RangeIndex as an array, made piece by piece."""
    size = len(index) * index.dtype.itemsize
    dtype, shape = index.dtype.str, [len(index)]
    if size <= INLINE_BYTES:
        return Tag("array", sorted(array_fields(memoryview(index.to_numpy().view("u1")), dtype, shape).items()))
    if size > MOST_REPEATED:
        return Opaque(class_name(type(index)))
    hasher = Hasher()
    for at in range(0, len(index), CHUNK):
        hasher.update(memoryview(index[at : at + CHUNK].to_numpy().view("u1")))
    large = LargeArray(hasher.finish().value, size, dtype, shape, lambda: index.to_numpy().tobytes())
    return Tag("array", [("blake3", large), ("dtype", dtype), ("shape", shape)])


def first_of_pandas(value: Any, cls: type, pandas: Any, most: int) -> Any:
    """Return the first items of a value of pandas's, at most so many; see `flowtrace.values.forms_arrays`."""
    if inherits(cls, pandas.Series):
        items = _as_own(value, pandas.Series)
    elif inherits(cls, pandas.Index):
        items = _own_index(value, cls)
    else:
        return []
    return items[:most].tolist() if _is_own_array(items, pandas) else []
