"""The forms of pandas frames, series, indexes and scalars, which have all that pandas compares or pickles."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from flowtrace.host.objects import class_name, inherits, instance_dict, mro, root_package
from flowtrace.values import digest
from flowtrace.values.forms import (
    INLINE_BYTES,
    Form,
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

_CHUNK: Final = 1 << 16

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
    freq = attributes.get(
        "_freq", instance_dict(attributes.get("_data")).get("_freq")
    )  # pandas before 3.1 has it there
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
    hasher = digest.Hasher()
    for at in range(0, len(index), _CHUNK):
        hasher.update(memoryview(index[at : at + _CHUNK].to_numpy().view("u1")))
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
