"""Type annotations: reading them in any spelling, and finding the class or the union member that a JSON value fits."""

from __future__ import annotations

import decimal
import fractions
import pathlib
import sys
import types
import typing
import uuid
import zoneinfo
from collections import abc, deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from types import SimpleNamespace
from typing import Any, Final, NamedTuple

from flowtrace.host.objects import class_name, direct_subclasses, inherits
from flowtrace.host.system import datetime, re
from flowtrace.values.forms import TAG

_WRAPPERS: Final = frozenset(
    {
        *(typing.Annotated, typing.ClassVar, typing.Final, typing.Required, typing.NotRequired),
        getattr(typing, "ReadOnly", typing.Required),  # since 3.13
    }
)
_ALIAS: Final = getattr(typing, "TypeAliasType", ())  # since 3.12
_UNIONS: Final = (typing.Union, types.UnionType)
MAPPINGS: Final = (dict, abc.Mapping, abc.MutableMapping)
ROWS: Final = (
    *(list, set, frozenset, deque, abc.Sequence, abc.MutableSequence, abc.Set, abc.MutableSet),
    *(abc.Collection, abc.Iterable, abc.Container, abc.Reversible),
)
_ENOUGH: Final = 20  # so many items of an array show whether it can be of a type
Bindings = Mapping[Any, Any]
CONTAINERS: Final[dict[str, type]] = {
    "list": list,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "deque": deque,
    "dict": dict,
}
BASES: Final[dict[str, type]] = {
    "str": str,
    "int": int,
    "float": float,
    "complex": complex,
    "bytes": bytes,
    "bytearray": bytearray,
    "decimal": decimal.Decimal,
    "fraction": fractions.Fraction,
    "datetime": datetime.datetime,
    "date": datetime.date,
    "time": datetime.time,
    "timedelta": datetime.timedelta,
}
"""The classes of values that are no containers and may have subclasses, by kind."""
_FINAL_CLASSES: Final[dict[str, type]] = {
    "memoryview": memoryview,
    "namespace": SimpleNamespace,
    "uuid": uuid.UUID,
    "range": range,
    "slice": slice,
    "pattern": re.Pattern,
    "ellipsis": types.EllipsisType,
    "notimplemented": types.NotImplementedType,
}
_LIBRARY_KINDS: Final = {
    "array": ("numpy", "ndarray"),
    "numpy.dtype": ("numpy", "dtype"),
    "pandas.timestamp": ("pandas", "Timestamp"),
    "pandas.timedelta": ("pandas", "Timedelta"),
    "pandas.frame": ("pandas", "DataFrame"),
    "pandas.series": ("pandas", "Series"),
    "pandas.index": ("pandas", "Index"),
    "polars.frame": ("polars", "DataFrame"),
    "polars.series": ("polars", "Series"),
    "arrow.table": ("pyarrow", "Table"),
    "arrow.batch": ("pyarrow", "RecordBatch"),
    "arrow.array": ("pyarrow", "Array"),
    "arrow.chunked": ("pyarrow", "ChunkedArray"),
}


class Shape(NamedTuple):
    """An annotation without wrappers such as Annotated.

    Attributes:
        origin: the class, or the special form; `Any` where it says nothing.
        arguments: the types in its brackets.
    """

    origin: Any
    arguments: tuple[Any, ...]


_MOST_KEPT: Final = 1000
ANYTHING: Final = Shape(Any, ())


def hints_of(owner: Any) -> dict[str, Any]:
    """Return the annotations of a function or a class, by name.

    Names in text are looked up as `typing.get_type_hints` does it. An annotation that can't be resolved, for example
    a name that only type checkers import, counts as `Any`.
    """
    try:
        return typing.get_type_hints(owner, include_extras=True)
    except Exception:  # the annotations are the user's code
        return dict(_one_by_one(owner))


def _one_by_one(owner: Any) -> Iterator[tuple[str, Any]]:
    for part in reversed(owner.__mro__) if isinstance(owner, type) else (owner,):
        module = sys.modules.get(getattr(part, "__module__", None) or "")
        names = getattr(part, "__globals__", None) or vars(module or SimpleNamespace())
        for name, hint in (vars(part).get("__annotations__") or getattr(part, "__annotations__", None) or {}).items():
            alone = SimpleNamespace(__annotations__={name: hint})
            try:
                yield name, typing.get_type_hints(alone, names, dict(vars(part)), include_extras=True)[name]
            except Exception:
                yield name, Any


def shape(hint: Any) -> Shape:
    """Return an annotation without Annotated, NewType, type aliases and the like; a type variable is its bound."""
    for _ in range(100):  # an alias may refer to itself
        origin = typing.get_origin(hint)
        if origin in _WRAPPERS:
            hint = typing.get_args(hint)[0]
        elif isinstance(hint, typing.NewType):
            hint = hint.__supertype__
        elif isinstance(hint, typing.TypeVar):
            hint = typing.Union[hint.__constraints__] if hint.__constraints__ else hint.__bound__ or Any  # noqa: UP007  # made of a tuple
        elif _ALIAS and isinstance(origin or hint, _ALIAS):
            alias = origin or hint
            bindings = dict(zip(alias.__type_params__, typing.get_args(hint), strict=False))
            hint = substitute(alias.__value__, bindings)
        elif isinstance(hint, str | typing.ForwardRef):
            return ANYTHING
        else:
            return Shape(hint if origin is None else origin, typing.get_args(hint))
    return ANYTHING


def substitute(hint: Any, bindings: Bindings) -> Any:
    """Replace the type variables in an annotation by what they are bound to."""
    if not bindings:
        return hint
    if isinstance(hint, typing.TypeVar):
        return bindings.get(hint, hint)
    parameters = getattr(hint, "__parameters__", ())
    if isinstance(hint, type) and not typing.get_args(hint):
        return hint
    if not parameters or not any(item in bindings for item in parameters):
        return hint
    generic: Any = hint
    return generic[tuple(bindings.get(item, item) for item in parameters)]


def members(hint: Any) -> list[Any]:
    """Return the members of a union, unions in it included; of any other annotation, itself."""
    origin, arguments = shape(hint)
    if origin not in _UNIONS:
        return [hint]
    return [member for argument in arguments for member in members(argument)]


def is_typed_dict(cls: Any) -> bool:
    """Return True if an annotation is a TypedDict, of `typing` or of typing_extensions."""
    return isinstance(cls, type) and hasattr(cls, "__total__") and hasattr(cls, "__required_keys__")


def fitting_member(content: Any, hint: Any) -> Any:
    """Return the first member of a union that a JSON value fits; `Any` where there is none.

    Args:
        content: the JSON value.
        hint: an annotation; one that is no union is returned as it is.
    """
    found = members(hint)
    if len(found) == 1:
        return found[0]
    return next((member for member in found if _fits(content, member)), Any)


def is_sure_of_tuples(content: list[Any], hint: Any) -> bool:
    """Return True if an annotation says whether an array was a tuple or a list: in JSON both are the same."""
    found = members(hint)
    fitting = found if len(found) == 1 else [member for member in found if _fits(content, member)]
    origins = {shape(member).origin for member in fitting}
    return origins == {tuple} or (bool(origins) and origins <= {list, abc.MutableSequence})


class Array(NamedTuple):
    """How arrays of an annotation are rebuilt: its shape, and whether it says if they were lists or tuples."""

    shape: Shape
    is_sure: bool


class Annotations:
    """Remembers what annotations say; of generic classes, each value makes some, so that only so many are kept."""

    def __init__(self) -> None:
        # with each annotation itself: while it lives, no other one has its id
        self._arrays: dict[int, tuple[Any, Array | None]] = {}
        self._classes: dict[tuple[str, int, type], tuple[Any, tuple[type, Bindings] | None]] = {}

    def array(self, hint: Any) -> Array | None:
        """Return how arrays of an annotation are rebuilt; None for a union, where that depends on the content."""
        entry = self._arrays.get(id(hint))
        if entry is None:
            found = members(hint)
            array = Array(shape(found[0]), is_sure_of_tuples([], hint)) if len(found) == 1 else None
            if len(self._arrays) >= _MOST_KEPT:
                self._arrays.clear()
            entry = self._arrays[id(hint)] = (hint, array)
        return entry[1]

    def class_named(self, name: str, hint: Any, base: type) -> tuple[type, Bindings] | None:
        """Return the class of a name that an annotation allows, and what it binds its parameters to; None for none.

        Args:
            name: ``module:qualname``.
            hint: the annotation.
            base: what the class must derive from.
        """
        key = name, id(hint), base
        entry = self._classes.get(key)
        if entry is None or entry[1] is None:  # a subclass may have been loaded since
            if len(self._classes) >= _MOST_KEPT:
                self._classes.clear()
            entry = self._classes[key] = (hint, _class_named(name, hint, base))
        return entry[1]


def _class_named(name: str, hint: Any, base: type) -> tuple[type, Bindings] | None:
    for member in members(hint):
        origin, arguments = shape(member)
        if origin is typing.Literal:  # of enum members
            origin = next((type(value) for value in arguments if class_name(type(value)) == name), Any)
            arguments = ()
        found = class_below(origin, name)
        if found is not None and inherits(found, base):
            return found, dict(zip(parameters_of(found), arguments, strict=False))
    return None


def parameters_of(cls: Any) -> tuple[Any, ...]:
    """Return the type variables of a generic class."""
    return getattr(cls, "__parameters__", ())


def _fits(content: Any, hint: Any) -> bool:
    origin, arguments = shape(hint)
    if len(members(hint)) > 1:
        return any(_fits(content, member) for member in members(hint))
    if origin is Any:
        return True
    if isinstance(content, list):
        return _array_fits(content, origin, arguments)
    if not isinstance(content, dict):
        return _scalar_fits(content, origin, arguments)
    if TAG in content:
        return _tag_fits(content, origin, arguments)
    return _mapping_fits(content, origin, arguments)


def _mapping_fits(content: dict[str, Any], origin: Any, arguments: tuple[Any, ...]) -> bool:
    if is_typed_dict(origin):
        return bool(origin.__required_keys__ <= content.keys() <= origin.__required_keys__ | origin.__optional_keys__)
    if origin not in MAPPINGS:
        return False
    return len(arguments) != 2 or _all_fit(content.values(), arguments[1])


def _tag_fits(content: dict[str, Any], origin: Any, arguments: tuple[Any, ...]) -> bool:
    kind = content[TAG]
    if origin is typing.Literal:
        return any(class_name(type(value)) == content.get("class") for value in arguments)
    if kind == "type":
        return origin is type
    cls = class_of_tag(content)
    if cls is None or cls not in CONTAINERS.values():
        return class_below(origin, content.get("class")) is not None or (cls is not None and _is_a(cls, origin))
    if not takes_items_of(origin, cls) and class_below(origin, content.get("class")) is None:
        return False
    items = content.get("items")
    if not isinstance(items, list) or not arguments or not all(isinstance(item, list) for item in items if cls is dict):
        return True
    if cls is dict:
        values = arguments[1] if len(arguments) == 2 else int  # of a Counter
        return _all_fit((item[0] for item in items), arguments[0]) and _all_fit((item[1] for item in items), values)
    return cls is tuple or _all_fit(items, arguments[0])


def _all_fit(items: Iterable[Any], hint: Any) -> bool:
    return all(_fits(item, hint) for item in islice(items, _ENOUGH))


def class_of_tag(content: Mapping[str, Any]) -> type | None:
    """Return the class that a tagged form makes by its kind, of its loaded library; None where only its name is known.

    Args:
        content: the tagged form; a subclass that it names is not looked for.
    """
    kind = content[TAG]
    if kind == "path":
        return path_class(content)
    if kind in _LIBRARY_KINDS:
        library, name = _LIBRARY_KINDS[kind]
        found = getattr(sys.modules.get(library), name, None)
        return found if isinstance(found, type) else None
    if kind == "numpy.scalar":
        numpy = sys.modules.get("numpy")
        scalar: type | None = None if numpy is None else numpy.dtype(content["dtype"]).type
        return scalar
    if kind == "zone":
        return zoneinfo.ZoneInfo if "zone" in content else datetime.timezone
    return (CONTAINERS | BASES | _FINAL_CLASSES).get(kind)


def path_class(content: Mapping[str, Any]) -> type[pathlib.PurePath]:
    """Return the class of a path: a concrete one can only be of the system's own kind."""
    pure: type[pathlib.PurePath] = pathlib.PurePosixPath
    if content["flavour"] == "windows":
        pure = pathlib.PureWindowsPath
    own = type(pathlib.Path())
    return own if not content.get("pure") and inherits(own, pure) else pure


def _is_a(cls: type, origin: Any) -> bool:
    try:
        return issubclass(cls, origin)
    except TypeError:  # it is no class, or a protocol that can't be looked at
        return False


def _array_fits(content: list[Any], origin: Any, arguments: tuple[Any, ...]) -> bool:
    if origin is tuple and arguments and arguments[-1] is not ...:
        pairs = zip(content, arguments, strict=False)
        return len(content) == len(arguments) and all(_fits(item, hint) for item, hint in pairs)
    if origin is not tuple and origin not in ROWS:
        return False
    return not arguments or _all_fit(content, arguments[0])


def _scalar_fits(content: Any, origin: Any, arguments: tuple[Any, ...]) -> bool:
    if content is None:
        return origin is None or origin is type(None)
    if not isinstance(origin, type):
        return content in arguments  # of a Literal
    if origin in (bool, int, float, str):
        return type(content) is origin or (origin is float and type(content) is int)
    return _is_a(type(content), origin)


def class_below(origin: Any, name: Any) -> type | None:
    """Return an annotation's class, or a loaded subclass of it, by its ``module:qualname``; None where none has it."""
    if not isinstance(origin, type) or origin is object or origin is Any:
        return None
    waiting: list[type] = [origin]
    seen: set[int] = set()
    while waiting:
        cls = waiting.pop()
        if class_name(cls) == name:
            return cls
        if id(cls) not in seen:
            seen.add(id(cls))
            waiting += direct_subclasses(cls)
    return None


def takes_items_of(origin: Any, base: type) -> bool:
    """Return True if an annotation's class may be a container's, so that its arguments are the types of the items."""
    if not isinstance(origin, type):
        return False
    return inherits(base, origin) or inherits(origin, base) or (origin in (*ROWS, *MAPPINGS) and _is_a(base, origin))
