"""The forms of Arrow tables and arrays, which have all that Arrow compares, metadata too."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from flowtrace.host.objects import inherits, root_package
from flowtrace.values import digest
from flowtrace.values.forms import (
    INLINE_BYTES,
    Form,
    HashOf,
    LargeArray,
    Pairs,
    Tag,
    tag_with_state,
)


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
    hasher = digest.Hasher()
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
