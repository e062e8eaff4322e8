"""Looking at objects and classes without running any code of theirs: no metaclass, property or `__getattr__` is asked.

All is read through the accessors of `type` itself, and through attributes that the interpreter keeps in C.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any, Final

RECEIVER_NAMES: Final = frozenset({"self", "cls", "mcs", "mcls", "metacls"})
"""Usual names of a method's first parameter, for where nothing but the name shows that it is a method."""
NO_RECEIVERS: Final = frozenset(
    map(id, (type(None), bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset))
)
"""Ids of classes that have no methods of a program. Ids, since a metaclass may have a `__hash__` of its own."""
MISSING: Final = object()
_bases = type.__dict__["__bases__"].__get__
_qualname = type.__dict__["__qualname__"].__get__
_module = type.__dict__["__module__"].__get__

flags_of: Final[Callable[[type], int]] = type.__dict__["__flags__"].__get__
"""Return the flags of a class; a metaclass may have an attribute of that name."""
ON_HEAP: Final = 1 << 9
"""The flag of a class that is not written in C as a static one (Py_TPFLAGS_HEAPTYPE): no basic type has it."""
mro: Final[Callable[[type], tuple[type, ...]]] = type.__dict__["__mro__"].__get__
"""Return a class and its bases in the order in which the interpreter searches them."""
namespace_of: Final[Callable[[type], Mapping[str, Any]]] = type.__dict__["__dict__"].__get__
"""Return the attributes that a class itself defines, by name."""
direct_subclasses: Final[Callable[[type], list[type]]] = type.__dict__["__subclasses__"]
"""Return the classes that were derived from a class and still exist."""
TRACED_TYPES: Final[list[type]] = []
"""Process-global: types of the native core, whose objects stand for the callable that `target_of` returns."""


def _call(function: Callable[..., Any], /, *args: Any) -> Any:
    return function(*args)


call_seen: Callable[..., Any] = _call
"""Process-global: call a function of the user's while recording. The native core, whose own calls no debugger sees,
puts one in its place that debuggers follow."""


def _ids_of_types(values: Iterable[object]) -> set[int]:
    return set(map(id, map(type, values)))


ids_of_types: Callable[[Iterable[object]], set[int]] = _ids_of_types
"""Process-global: return the ids of the types of some values. The native core puts a quicker one in its place."""


def inherits(cls: type, base: Any) -> bool:
    """Return True if a class is, or derives from, another; no `__subclasscheck__` or `__eq__` is run."""
    return type.__subclasscheck__(base, cls)


def is_named(cls: type) -> bool:
    """Return True if the module of a class has it under its qualified name; a class that was made at run time may not.

    Classes that are written in C and not made on the heap exist once, and count as named.
    """
    return not flags_of(cls) & ON_HEAP or named(module_name(cls), _qualname(cls)) is cls


def named(module: object, qualname: str) -> object:
    """Return what a loaded module has under a qualified name; MISSING where it has nothing. No code of its own runs.

    Of a traced, static or class method or function, it is the function that was decorated.
    """
    found: Any = sys.modules.get(module) if type(module) is str else None
    for part in qualname.split(".") if found is not None else ():
        names = namespace_of(found) if inherits(type(found), type) else instance_dict(found)  # pyright: ignore[reportArgumentType]
        found = _unwrapped(names.get(part, MISSING))
    return MISSING if found is None else found


def _unwrapped(found: Any) -> Any:
    for _ in range(10):  # a traced function may be traced again
        if type(found) in (staticmethod, classmethod):
            found = found.__func__
        elif is_wrapper(found):
            found = target_of(found)
        else:
            break
    return found


def is_wrapper(value: object) -> bool:
    """Return True for a traced function and for a function behind another decorator made with wrapt."""
    return any(type(value) is own for own in TRACED_TYPES) or native_attribute(value, "_self_wrapper") is not MISSING


def target_of(wrapper: object) -> Any:
    """Return what a traced function, or a decorator made with wrapt, calls; MISSING for anything else.

    The ``__wrapped__`` of a traced function is that of its function, where that has one.
    """
    target = native_attribute(wrapper, "_self_target")
    return native_attribute(wrapper, "__wrapped__") if target is MISSING else target


def class_name(cls: type) -> str:
    """Return ``module:qualname`` of a class."""
    return f"{module_name(cls)}:{_encodable(_qualname(cls))}"


def module_name(cls: type) -> str:
    """Return the name of the module that defines a class; ``?`` where the class has anything but text there."""
    try:
        found = _module(cls)
    except AttributeError:
        return "?"
    return _encodable(found) if inherits(type(found), str) else "?"


def _encodable(name: str) -> str:
    """Return a name as an exact str that UTF-8 can encode."""
    if type(name) is str and name.isascii():
        return name
    return str.__str__(name).encode("utf-8", "backslashreplace").decode()


def root_package(cls: type) -> str:
    """Return the first part of the name of the module that defines a class."""
    return module_name(cls).partition(".")[0]


def class_attribute(cls: type, name: str) -> Any:
    """Return an attribute from the dictionaries of a class and its bases, unbound; MISSING where there is none."""
    for base in mro(cls):
        found = namespace_of(base).get(name, MISSING)
        if found is not MISSING:
            return found
    return MISSING


def native_attribute(value: object, name: str) -> Any:
    """Return an attribute of an object that its class keeps in C or in a slot; MISSING where there is none."""
    descriptor = class_attribute(type(value), name)
    if not _is_native(descriptor):
        return MISSING
    try:
        return descriptor.__get__(value)
    except (AttributeError, ValueError):  # it was not set yet
        return MISSING


def _is_native(descriptor: object) -> bool:
    kind = type(descriptor)
    return kind is GetSetDescriptorType or kind is MemberDescriptorType


def instance_dict(value: object) -> dict[str, Any]:
    """Return an object's own attributes; empty where it has none. The dict is exact: it runs no code of the program."""
    get = dict_getter(type(value))
    found = {} if get is None else get(value)
    return found if type(found) is dict else dict(pairs_of(found))


def dict_getter(cls: type) -> Callable[[object], dict[str, Any]] | None:
    """Return the function that gives the own attributes of an instance; None where the instances have none."""
    for base in mro(cls):
        descriptor: Any = namespace_of(base).get("__dict__")
        if _is_native(descriptor):
            get: Callable[[object], dict[str, Any]] = descriptor.__get__
            return get
    return None


def pairs_of(mapping: Any) -> list[tuple[Any, Any]]:
    """Return the items of a dict, or of a class's namespace, even while another thread changes it."""
    for _ in range(10):
        try:
            return list(dict.items(mapping) if inherits(type(mapping), dict) else mapping.items())
        except RuntimeError:
            continue
    raise RuntimeError("another thread keeps changing it")
