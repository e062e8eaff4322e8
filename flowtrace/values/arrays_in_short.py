"""Arrays and frames in a captured value, as people want to see them: size, dtypes and the first rows.

None of the libraries that they are of is loaded for it.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable
from datetime import datetime, timedelta
from math import prod
from struct import calcsize, unpack_from
from typing import Any, Final

FindArray = Callable[[str], "bytes | list[Any] | None"]
"""Returns the items' bytes, or the items, of a large array by the hash that stands for it; None where it has none."""
_ROWS: Final = 3
_COLUMNS: Final = 8
_CODES: Final = {"b1": "?", "f2": "e", "f4": "f", "f8": "d"} | {
    f"{kind}{size}": code
    for kind, codes in (("i", "bhiq"), ("u", "BHIQ"))
    for size, code in zip((1, 2, 4, 8), codes, strict=True)
}
_NUMBER: Final = re.compile(r"([<>|])([a-zA-Z]\d+)(?:\[(\w+)\])?")
_KINDS: Final = {"b": "bool", "c": "complex", "f": "float", "i": "int", "u": "uint", "M": "datetime", "m": "timedelta"}
_MOMENT: Final = re.compile(
    r"[<>]M8\[(\w+)|datetime64\[(\w+)|timestamp\[(\w+)|Datetime\(time_unit='(\w+)'|(Date\Z|date32)"
)
_PER_SECOND: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_START: Final = datetime(1970, 1, 1)  # noqa: DTZ001  # what stands in an array has no zone
_FRAMES: Final = {"pandas.frame", "polars.frame", "arrow.table", "arrow.batch"}
_COLUMNS_OF_THEM: Final = {"array", "pandas.series", "pandas.index", "polars.series", "arrow.array", "arrow.chunked"}


def in_short(form: dict[str, Any], find: FindArray) -> dict[str, Any] | None:
    """Return a title with the first rows of an array, or the first columns of a frame; None for any other form.

    Args:
        form: a tagged form; it stays as it is.
        find: finds the content of large arrays.
    """
    kind = form.get("$py")
    if kind not in _FRAMES and kind not in _COLUMNS_OF_THEM:
        return None
    try:
        return _frame(kind, form, find) if kind in _FRAMES else _column(kind, form, find)
    except (LookupError, TypeError, ValueError, OverflowError):  # it is of another form than flowtrace's
        return None


def _frame(kind: str, form: dict[str, Any], find: FindArray) -> dict[str, Any]:
    columns = form["columns"]
    sizes = [_size(values) for _, values in columns if isinstance(values, dict)]
    rows = form.get("rows", form.get("height", sizes[0] if sizes else _size(form.get("index"))))
    found: dict[str, Any] = {}
    for name, values in columns[:_COLUMNS]:
        if isinstance(values, dict):
            found[f"{_name(name)}: {_dtype(values)}"] = _first(values, find)
        else:
            found[_name(name)] = values  # it is hidden
    if len(columns) > _COLUMNS:
        found["..."] = f"{len(columns) - _COLUMNS} more columns"
    return {f"{kind}, {rows} x {len(columns)}": found}


def _name(label: Any) -> str:
    return label if isinstance(label, str) else str(label)


def _column(kind: str, form: dict[str, Any], find: FindArray) -> dict[str, Any]:
    size = " x ".join(map(str, form["shape"])) or "no dimensions" if kind == "array" else _size(form)
    name = f" {form['name']}" if isinstance(form.get("name"), str) else ""
    return {f"{kind}{name}, {_dtype(form)}, {size}": _first(form, find)}


def _size(form: Any) -> Any:
    """Return how many items a column has."""
    if not isinstance(form, dict):
        return "?"
    if "size" in form:
        return form["size"]
    if "shape" in form:
        return form["shape"][0]
    if "levels" in form:
        return _size(form["levels"][0])
    return _size(form["values"]) if isinstance(form.get("values"), dict) else len(form["values"])


def _dtype(form: dict[str, Any]) -> str:
    found = form.get("dtype", form.get("type"))
    if found is None:
        found = _dtype(form["values"]) if isinstance(form.get("values"), dict) else "levels"
    number = _NUMBER.fullmatch(str(found))
    if number is None or number[2][0] not in _KINDS:
        return str(found)
    kind, unit = _KINDS[number[2][0]], f"[{number[3]}]" if number[3] else ""
    order = ", big-endian" if number[1] == ">" else ""
    return f"{kind}{'' if kind == 'bool' else int(number[2][1:]) * 8}{unit}{order}"


def _first(form: dict[str, Any], find: FindArray) -> Any:
    """Return the first rows of an array or a column."""
    if "levels" in form:
        return [list(row) for row in zip(*(_first(level, find) for level in form["levels"]), strict=False)]
    if "shape" in form:
        return _first_of_array(form, find)
    values = form["values"]
    if isinstance(values, dict):
        items = _first(values, find)
    elif isinstance(values, str):
        found = find(values)
        items = (
            found if isinstance(found, list) else [] if found is None else _unpacked(_arrow_dtype(form), found, _ROWS)
        )
    else:
        items = values
    items = items[:_ROWS]
    if "categories" in form:
        names = form["categories"]["values"]
        names = names.get("items") if isinstance(names, dict) else names
        return [names[code] if isinstance(names, list) and code >= 0 else code for code in items]
    return _moments(_dtype(form), items)


def _first_of_array(form: dict[str, Any], find: FindArray) -> Any:
    dtype, shape = form["dtype"], form["shape"]
    width = prod(shape[1:])
    most = _ROWS * width if shape else 1
    items: Any = form.get("items")
    if isinstance(items, str) or "blake3" in form:
        items = find(form.get("blake3", items))
    elif "base64" in form:
        items = b64decode(form["base64"], validate=True)
    if isinstance(items, bytes):
        items = _unpacked(dtype, items, most)
    items = _moments(dtype, (items or [])[:most])
    if len(shape) == 2 and not any(isinstance(item, list) for item in items):
        return [items[at : at + width] for at in range(0, len(items), max(width, 1))]
    return items


def _arrow_dtype(form: dict[str, Any]) -> str:
    """Return the dtype of NumPy's that holds an Arrow type's numbers; moments are integers."""
    name = form["type"]
    names = {"float": "<f4", "double": "<f8", "halffloat": "<f2", "int8": "|i1", "uint8": "|u1"}
    if name in names:
        return names[name]
    found = re.fullmatch(r"(u?)int(\d+)", name)
    if found:
        return f"<{'u' if found[1] else 'i'}{int(found[2]) // 8}"
    return "<i4" if name.startswith(("date32", "time32")) else "<i8"


def _unpacked(dtype: str, data: bytes, most: int) -> list[Any]:
    """Return the first items of a buffer; none where they are no plain numbers."""
    found = _NUMBER.fullmatch(dtype)
    code = None if found is None else "q" if found[2] in ("M8", "m8") else _CODES.get(found[2])
    if found is None or code is None:
        return []
    order = ">" if found[1] == ">" else "<"
    count = min(most, len(data) // calcsize(order + code), _ROWS * 100)
    return list(unpack_from(f"{order}{count}{code}", data))


def _moments(dtype: str, items: list[Any]) -> list[Any]:
    found = _MOMENT.match(dtype)
    if found is None:
        return items
    unit = next(filter(None, found.groups()))
    return [_moment(item, unit) if type(item) is int else item for item in items]


def _moment(value: int, unit: str) -> object:
    if unit in ("D", "Date", "date32"):
        return (_START + timedelta(days=value)).date().isoformat()
    if unit not in _PER_SECOND or value == -(2**63):
        return value if unit not in _PER_SECOND else None
    seconds, rest = divmod(value, _PER_SECOND[unit])
    text = (_START + timedelta(seconds=seconds)).isoformat()
    digits = len(str(_PER_SECOND[unit])) - 1
    return f"{text}.{rest:0{digits}d}" if rest else text
