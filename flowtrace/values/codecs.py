"""The form of any Python value, the same in every process; and the codecs that a program registers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

from flowtrace.errors import CodecError
from flowtrace.host import objects
from flowtrace.host.objects import class_name, mro, root_package
from flowtrace.host.signals import let_through
from flowtrace.values import forms_arrays, forms_builtin, forms_records
from flowtrace.values.forms import Form, Opaque, Tag

T = TypeVar("T")
_FIXED: Final = (object, str, int, float, bool, type(None), dict, list, tuple)


class Codec(NamedTuple):
    """A codec that the program registered.

    Attributes:
        cls: the class.
        encode: from an instance to its content.
        decode: back again, where a call is replayed.
    """

    cls: type
    encode: Callable[[Any], object]
    decode: Callable[[Any], Any]


REGISTERED: Final[dict[int, Codec]] = {}
"""Process-global: the registered codecs, by the id of the class."""


def register_codec(cls: type[T], encode: Callable[[T], object], decode: Callable[[Any], T]) -> None:
    """Register how to encode the instances of a class and of its subclasses, and how to decode them.

    Args:
        cls: the class.
        encode: takes an instance and returns its content, made of values that flowtrace can encode. It must not change
            the instance; where it raises, the instance is recorded as opaque.
        decode: takes that content and returns an equal instance; replay uses it.

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
    REGISTERED[id(cls)] = Codec(cls, encode, decode)


def describe(value: object) -> Form:
    """Return the form of a value. Never raises an Exception; a content that can't be read is opaque.

    Args:
        value: any value but an exact str, bool, int, float, None, dict, list or tuple that JSON can hold as it is.
    """
    cls = type(value)
    try:
        return _describe(value, cls)
    except BaseException as error:
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
    for base in mro(cls) if REGISTERED else ():
        if id(base) in REGISTERED:
            content = objects.call_seen(REGISTERED[id(base)].encode, value)
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
