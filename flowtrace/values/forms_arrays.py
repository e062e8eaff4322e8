"""The forms of arrays and frames: NumPy, pandas, Polars, Arrow, torch. flowtrace never imports these libraries.

A value can only be theirs if its library is loaded. The form has dtype, shape and the content of the buffer, or its
BLAKE3 hash where it is large; texts, Python objects and columns with missing entries are written item by item.

No method of a program's class runs: an object of a subclass is read through one of the library's own class, around the
same data. What holds a column in a class of its own (an extension array) is opaque.
"""

from __future__ import annotations

from collections.abc import Callable
from sys import modules
from typing import Any, Final

from flowtrace.host.objects import class_name, inherits, instance_dict, mro, root_package
from flowtrace.values.encoded import Hasher, hash_buffer
from flowtrace.values.forms import (
    CHUNK,
    INLINE_BYTES,
    MOST_REPEATED,
    Form,
    HashOf,
    Labelled,
    LargeArray,
    LargeTexts,
    NamedParts,
    Opaque,
    Tag,
    WrittenAs,
    data_field,
    tag_with_state,
)
from flowtrace.values.forms_frames import (
    arrow_form,
    first_of_arrow,
    first_of_pandas,
    first_of_polars,
    pandas_form,
    polars_form,
)

_OF_MASKED: Final = frozenset(
    {
        *("_mask", "_fill_value", "_hardmask", "_sharedmask", "_isfield", "_baseclass", "_optinfo", "_basedict"),
        *("_fieldmask",),
    }
)
"""The attributes in which NumPy holds what a masked array has."""


def _numpy(value: Any, numpy: Any) -> Form | None:
    cls = type(value)
    if inherits(cls, numpy.ndarray):
        return _ndarray(value, numpy)
    if inherits(cls, numpy.generic):
        exact = numpy.asarray(value)
        fields = {**_dtype_of(exact), "value": _numpy_item(exact, numpy)}
        own = next(base for base in mro(cls) if root_package(base) == "numpy")
        return tag_with_state("numpy.scalar", value, fields, own)
    if inherits(cls, numpy.dtype):
        more = [("metadata", dict(value.metadata))] if value.metadata else []
        return Tag("numpy.dtype", [*more, ("value", str(value))])
    return None


def _dtype_of(base: Any) -> dict[str, object]:
    """Return the fields for the dtype of an array; one that has fields, or holds objects, has a longer text."""
    dtype = base.dtype
    found: dict[str, object] = {"dtype": str(dtype) if dtype.hasobject or dtype.names else dtype.str}
    return found | {"metadata": dict(dtype.metadata)} if dtype.metadata else found


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
    if base.nbytes > MOST_REPEATED and base.nbytes > _bytes_in_memory(base):
        return Opaque(class_name(type(value)))
    fields: dict[str, object] = {**_dtype_of(base), "shape": list(base.shape)}
    if base.dtype.hasobject or base.dtype.names:  # a buffer of pointers, or with padding between the fields
        fields["items"] = HashOf(_structured(base.dtype, base.tolist(), base.ndim))
    elif _is_padded(base, numpy):
        fields["items"] = HashOf([str(item) for item in base.ravel().tolist()])
    elif base.nbytes > INLINE_BYTES:
        fields["blake3"] = _large(base, numpy)
    elif base.dtype.kind in "US":  # as texts, so that what is secret in them is hidden
        fields["items"] = HashOf(base.ravel().tolist())
    else:
        fields |= data_field(memoryview(base.tobytes()))
    cls = type(value)
    if inherits(cls, numpy.ma.MaskedArray):
        fields |= _masked(instance_dict(value), base, numpy)
    if root_package(cls) == "numpy" and cls is not numpy.ndarray:  # what a memmap knows of its file is no content
        return Tag("array", sorted({**fields, "class": class_name(cls)}.items()))
    return tag_with_state("array", value, fields, numpy.ndarray, _OF_MASKED)


def _masked(attributes: dict[str, Any], base: Any, numpy: Any) -> dict[str, object]:
    """Return the fields that only a masked array has."""
    mask, fill = attributes.get("_mask", numpy.ma.nomask), attributes.get("_fill_value")
    found: dict[str, object] = {
        "fill": numpy.ma.core._check_fill_value(None, base.dtype) if fill is None else fill,
        "mask": numpy.zeros(base.shape, bool) if mask is numpy.ma.nomask else numpy.asarray(mask),
    }
    if attributes.get("_hardmask"):
        found["hard"] = True
    if attributes.get("_optinfo"):
        found["info"] = attributes["_optinfo"]
    return found


def _bytes_in_memory(base: Any) -> int:
    """Return how many bytes lie between the first and the last item of an array."""
    found: int = base.itemsize
    for count, stride in zip(base.shape, base.strides, strict=True):
        found += (count - 1) * abs(stride)
    return found


def _large(base: Any, numpy: Any) -> Form:
    found = _buffer_hash(base, numpy)
    if base.dtype.kind in "US":
        return LargeTexts(found, base.nbytes, lambda: _as_texts(base.ravel().tolist()))
    return LargeArray(found, base.nbytes, base.dtype.str, list(base.shape), base.tobytes)


def _as_texts(items: list[Any]) -> list[str]:
    return [item if type(item) is str else item.decode("latin-1") for item in items]


def _buffer_hash(base: Any, numpy: Any) -> str:
    """Return the hash of an array's items in C order, copying at most a piece of it at a time."""
    if base.flags.c_contiguous:
        return hash_buffer(memoryview(base.reshape(-1).view(numpy.uint8)))
    hasher = Hasher()
    flags = ["external_loop", "buffered", "zerosize_ok"]
    for piece in numpy.nditer(base, flags=flags, order="C", buffersize=CHUNK):
        hasher.update(memoryview(numpy.ascontiguousarray(piece).view(numpy.uint8)))
    return hasher.finish().value


def _torch(value: Any, torch: Any) -> Form | None:
    if not inherits(type(value), torch.Tensor):
        return None
    if value.layout is not torch.strided or value.is_meta or value.is_quantized:
        return Opaque(class_name(type(value)))
    size = value.numel() * value.element_size()
    if size > MOST_REPEATED and size > value.untyped_storage().nbytes():
        return Opaque(class_name(type(value)))
    data = value.detach().cpu().contiguous().resolve_conj().resolve_neg()
    content = memoryview(data.reshape(-1).view(torch.uint8).numpy())
    fields: dict[str, object] = {
        "blake3": hash_buffer(content),
        "dtype": str(value.dtype),
        "shape": list(value.shape),
    }
    fields |= {"requires_grad": True} if value.requires_grad else {}
    fields |= {} if value.device.type == "cpu" else {"device": str(value.device)}
    return tag_with_state("tensor", value, fields, torch.Tensor)


LIBRARIES: Final[dict[str, Callable[[Any, Any], Form | None]]] = {
    "numpy": _numpy,
    "pandas": pandas_form,
    "polars": polars_form,
    "pyarrow": arrow_form,
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


def _first_of_torch(value: Any, cls: type, torch: Any, most: int) -> Any:
    return (value[:most] if value.shape else value).tolist() if inherits(cls, torch.Tensor) else []


_FIRST: Final[dict[str, Callable[[Any, type, Any, int], Any]]] = {
    "numpy": _first_of_numpy,
    "pandas": first_of_pandas,
    "polars": first_of_polars,
    "pyarrow": first_of_arrow,
    "torch": _first_of_torch,
}
