"""The forms of polars frames and series."""

from __future__ import annotations

from array import array
from sys import byteorder, modules
from typing import Any, Final

from flowtrace.host.objects import class_name, inherits, instance_dict, root_package
from flowtrace.values.forms import (
    Form,
    HashOf,
    Opaque,
    Pairs,
    Tag,
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
