"""The form of any Python value, the same in every process; and the codecs that a program registers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar
from weakref import ref

from flowtrace.errors import CodecError
from flowtrace.host import objects
from flowtrace.host.objects import class_name, mro, namespace_of, root_package
from flowtrace.host.signals import let_through
from flowtrace.values import copies, forms_arrays, forms_builtin, forms_records
from flowtrace.values.copies import Copier, Copy
from flowtrace.values.forms import Form, Opaque, Tag
from flowtrace.values.forms_records import Record

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


class _Plan(NamedTuple):
    """How the instances of a class are described.

    Attributes:
        describe: makes the form of an instance.
        size: how many attributes the class had, so that one that was decorated later is looked at again.
        cls: the class; the plan goes with it.
    """

    describe: Callable[[Any, type], Form]
    size: int
    cls: ref[type]


REGISTERED: Final[dict[int, Codec]] = {}
"""Process-global: the registered codecs, by the id of the class."""
_PLANS: Final[dict[int, _Plan]] = {}
"""Process-global: the plans of classes whose instances were described, by the id of the class."""


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
    _PLANS.clear()


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


def record_of(cls: type) -> Record | None:
    """Return how to read the fields of a class's instances; None where that is not known, or not all they have."""
    plan = _plan_of(cls)
    return plan.describe if plan is not None and isinstance(plan.describe, Record) else None


def copier_of(cls: type) -> Copier | None:
    """Return how the native core takes the instances of a class; None while none of them was described."""
    fixed = copies.fixed_copier(cls)
    if fixed is not None or id(cls) in forms_builtin.EXACT:
        return fixed or copies.NO_COPIER
    plan = _plan_of(cls)
    if plan is None:
        return None
    if isinstance(plan.describe, Record):
        return copies.record_copier(plan.describe, cls)
    function = plan.describe.func if isinstance(plan.describe, partial) else plan.describe
    make = _COPIERS.get(function)
    return copies.NO_COPIER if make is None else make(cls)


def _plan_of(cls: type) -> _Plan | None:
    """Return the plan of a class that is as it was when the plan was made."""
    plan = _PLANS.get(id(cls))
    return plan if plan is not None and plan.size == len(namespace_of(cls)) else None


def _describe(value: Any, cls: type) -> Form:
    exact = forms_builtin.EXACT.get(id(cls))
    if exact is not None:
        return exact(value, cls)
    plan = _plan_of(cls)
    if plan is not None:
        return plan.describe(value, cls)
    if cls is Copy:
        return value.form()  # type: ignore[no-any-return]
    describe = _codec_of(cls) or forms_records.plan_of(value, cls)
    if describe is None:
        form = _from_library(value, cls)
        if form is not None:  # which depends on the instance
            return form
        describe = forms_builtin.base_plan(cls) or _opaque
    _PLANS[id(cls)] = _Plan(describe, len(namespace_of(cls)), ref(cls, partial(_forget, id(cls))))
    return describe(value, cls)


def _forget(key: int, _cls: ref[type]) -> None:
    _PLANS.pop(key, None)


def _opaque(_value: object, cls: type) -> Form:
    return Opaque(class_name(cls))


_COPIERS: Final[dict[Callable[..., Form], Callable[[type], Copier]]] = {
    _opaque: copies.opaque_copier,
    forms_builtin.describe_tuple: copies.tuple_copier,
    forms_records.describe_enum: copies.enum_copier,
    forms_records.describe_pydantic: copies.pydantic_copier,
}


def _codec_of(cls: type) -> Callable[[Any, type], Form] | None:
    for base in mro(cls) if REGISTERED else ():
        if id(base) in REGISTERED:
            return partial(_by_codec, REGISTERED[id(base)])
    return None


def _by_codec(codec: Codec, value: object, cls: type) -> Form:
    content = objects.call_seen(codec.encode, value)
    subclass = [("type", class_name(cls))] if cls is not codec.cls else []
    return Tag("codec", [("class", class_name(codec.cls)), *subclass, ("value", content)])


def _from_library(value: object, cls: type) -> Form | None:
    for package in map(root_package, mro(cls)):
        if package in forms_arrays.LIBRARIES and package in sys.modules:
            form = forms_arrays.LIBRARIES[package](value, sys.modules[package])
            if form is not None:
                return form
    return None
