"""What each kind of Python value is made of: one documented, process-independent form; and the users' own codecs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final, TypeVar

from flowtrace.errors import CodecError
from flowtrace.host.objects import class_name, mro, root_package
from flowtrace.host.signals import let_through
from flowtrace.values import forms_arrays, forms_builtin, forms_records
from flowtrace.values.forms import Form, Opaque, Tag

T = TypeVar("T")
_FIXED: Final = (object, str, int, float, bool, type(None), dict, list, tuple)


class Registered:
    """A codec that the user added.

    Attributes:
        encode: from the value to JSON-like content.
        decode: back again; used where a call is replayed.
    """

    __slots__ = ("decode", "encode")

    def __init__(self, encode: Callable[[Any], object], decode: Callable[[Any], Any]) -> None:
        self.encode = encode
        self.decode = decode


_registered: dict[int, tuple[type, Registered]] = {}


def register_codec(cls: type[T], encode: Callable[[T], object], decode: Callable[[Any], T]) -> None:
    """Give the instances of a class, and of its subclasses, a content of their own.

    Args:
        cls: the class.
        encode: takes an instance and returns its content, made of values that have a form already. It must not change
            the instance; where it raises, the instance is recorded as opaque.
        decode: takes that content back to an equal instance; replay uses it.

    Raises:
        CodecError: ``cls`` is no class, is one of the JSON types, or ``encode`` or ``decode`` can't be called.
    """
    if not isinstance(cls, type):
        raise CodecError(f"register_codec takes a class first, not {cls!r:.80}")
    if any(cls is fixed for fixed in _FIXED):
        raise CodecError(f"{cls.__name__} has a fixed form: a codec takes a class of your own")
    for name, function in (("encode", encode), ("decode", decode)):
        if not callable(function):
            raise CodecError(f"{name} of {cls.__name__} must be callable, not {function!r:.80}")
    _registered[id(cls)] = (cls, Registered(encode, decode))


def registered_codecs() -> dict[int, tuple[type, Registered]]:
    """Return the registry itself: class and codec, by the class's id."""
    return _registered


def describe(value: object) -> Form:
    """Return what a value is made of; never raises an Exception, never returns a wrong content.

    Args:
        value: any value but an exact str, bool, int, float, None, dict, list or tuple that JSON can hold as it is.
    """
    cls = type(value)
    try:
        return _describe(value, cls)
    except Exception as error:
        let_through(error)
        return Opaque(class_name(cls))


def _describe(value: Any, cls: type) -> Form:
    exact = forms_builtin.EXACT.get(id(cls))
    if exact is not None:
        return exact(value, cls)
    for find in (_from_registry, forms_records.describe_record, _from_library, forms_builtin.describe_base):
        form = find(value, cls)
        if form is not None:
            return form
    return Opaque(class_name(cls))


def _from_registry(value: object, cls: type) -> Form | None:
    for base in mro(cls) if _registered else ():
        if id(base) in _registered:
            content = _registered[id(base)][1].encode(value)
            subclass = [("type", class_name(cls))] if cls is not base else []
            return Tag("codec", [("class", class_name(base)), *subclass, ("value", content)])
    return None


def _from_library(value: object, cls: type) -> Form | None:
    for package in map(root_package, mro(cls)):
        if package in forms_arrays.LIBRARIES and package in sys.modules:
            form = forms_arrays.LIBRARIES[package](value, sys.modules[package])
            if form is not None:
                return form
    return None
