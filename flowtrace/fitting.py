"""Which part of a union a JSON value is of, and what an annotation's class may stand for."""

from __future__ import annotations

from collections import abc, deque
from typing import Any, Final

from flowtrace.forms import class_name, inherits
from flowtrace.hints import arms, is_typed_dict, shape

TAG: Final = "$py"
MAPPINGS: Final = (dict, abc.Mapping, abc.MutableMapping)
ROWS: Final = (
    *(list, set, frozenset, deque, abc.Sequence, abc.MutableSequence, abc.Set, abc.MutableSet),
    *(abc.Collection, abc.Iterable, abc.Container, abc.Reversible),
)
_ENOUGH: Final = 20  # items of an array that are looked at


def fitting_arm(content: Any, hint: Any, null_is_nan: bool) -> Any:
    """Return the first part of a union that a JSON value can be of; `Any` where there is none.

    Args:
        content: the JSON value.
        hint: an annotation; one that is no union is returned as it is.
        null_is_nan: null may stand for a float.
    """
    found = arms(hint)
    if len(found) == 1:
        return found[0]
    return next((arm for arm in found if _fits(content, arm, null_is_nan)), Any)


def _fits(content: Any, hint: Any, null_is_nan: bool) -> bool:
    origin, arguments = shape(hint)
    if len(arms(hint)) > 1:
        return any(_fits(content, arm, null_is_nan) for arm in arms(hint))
    if origin is Any:
        return True
    if isinstance(content, list):
        return _array_fits(content, origin, arguments, null_is_nan)
    if not isinstance(content, dict):
        return _scalar_fits(content, origin, arguments, null_is_nan)
    if TAG in content:
        return class_below(origin, content.get("class")) is not None
    if is_typed_dict(origin):
        return bool(origin.__required_keys__ <= content.keys() <= origin.__required_keys__ | origin.__optional_keys__)
    return origin in MAPPINGS


def _array_fits(content: list[Any], origin: Any, arguments: tuple[Any, ...], null_is_nan: bool) -> bool:
    if origin is tuple and arguments and arguments[-1] is not ...:
        pairs = zip(content, arguments, strict=False)
        return len(content) == len(arguments) and all(_fits(item, hint, null_is_nan) for item, hint in pairs)
    if origin is not tuple and origin not in ROWS:
        return False
    return not arguments or all(_fits(item, arguments[0], null_is_nan) for item in content[:_ENOUGH])


def _scalar_fits(content: Any, origin: Any, arguments: tuple[Any, ...], null_is_nan: bool) -> bool:
    if content is None:
        return origin is None or origin is type(None) or (origin is float and null_is_nan)
    if not isinstance(origin, type):
        return content in arguments  # of a Literal
    return type(content) is origin or (origin is float and type(content) is int)


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
            waiting += type.__subclasses__(cls)
    return None


def takes_items_of(origin: Any, base: type) -> bool:
    """Tell whether an annotation's class may stand for a container, so that its arguments are those of the items."""
    if not isinstance(origin, type):
        return False
    return inherits(base, origin) or inherits(origin, base) or origin in (*ROWS, *MAPPINGS)
