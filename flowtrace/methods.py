"""The methods of classes: while tracing is off a class holds the plain function, and its node while it is on.

A method that is called through any wrapper costs half a microsecond, since it has to be bound first; the plain
function costs nothing. So the switch, when it turns, puts the one or the other into the classes.

A class may have been copied since (``@dataclass(slots=True)`` makes a new one), and the copy holds the same function.
A copy is found as its original is: among the subclasses of its base, by its name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from threading import RLock
from types import FunctionType
from typing import Any, Final, NamedTuple
from weakref import ref

from flowtrace import switch
from flowtrace.classes import class_name, direct_subclasses, first_base, namespace_of


class _Place(NamedTuple):
    """Where a method stands.

    Attributes:
        base: the first base of its class.
        owner: module and qualified name of its class.
        name: its name there.
        kind: the type of its node.
        function: the plain function.
        make: takes the function and returns its node; holds neither of them.
    """

    base: ref[type]
    owner: str
    name: str
    kind: Any
    function: ref[FunctionType]
    make: Callable[[FunctionType], Any]


_places: Final[dict[tuple[int, str, str], _Place]] = {}
_lock: Final = RLock()


def add(owner: type, name: str, node: Any, make: Callable[[FunctionType], Any]) -> None:
    """Take note of a method that was just defined; where tracing is off, put the plain function into its class.

    Args:
        owner: its class, which holds the node now.
        name: its name there.
        node: stands for a plain function.
        make: takes the function and returns a new node; it must hold neither the class nor the function.
    """
    function = node.__wrapped__
    place = _Place(ref(first_base(owner)), class_name(owner), name, type(node), ref(function), make)
    with _lock:
        _places[id(function), place.owner, name] = place
        if not switch.SWITCH:
            _settle(owner, place)


def _follow_switch() -> None:
    """Put into all classes what the switch says: the plain functions while it is off, the nodes otherwise."""
    with _lock:
        for key, place in list(_places.items()):
            if place.function() is None or place.base() is None:
                del _places[key]
        owners = _owners()
        for place in _places.values():
            for owner in owners.get((id(place.base()), place.owner), ()):
                _settle(owner, place)


def _owners() -> dict[tuple[int, str], list[type]]:
    """Return the classes that may hold a method of ours, by the id of their base and their name."""
    names = {place.owner for place in _places.values()}
    bases = {id(base): base for place in _places.values() if (base := place.base()) is not None}
    found: dict[tuple[int, str], list[type]] = {}
    for base in bases.values():
        for owner in direct_subclasses(base):
            if (name := class_name(owner)) in names:
                found.setdefault((id(base), name), []).append(owner)
    return found


def _settle(owner: type, place: _Place) -> None:
    """Change one class, unless somebody else has put something in that place since."""
    function: Any = place.function()
    held: Any = namespace_of(owner).get(place.name)
    if function is None:
        return
    if switch.SWITCH and held is function:
        _put(owner, place.name, place.make(function))
    elif not switch.SWITCH and type(held) is place.kind and held.__wrapped__ is function:
        _put(owner, place.name, function)


def _put(owner: type, name: str, value: Any) -> None:
    with contextlib.suppress(Exception):  # a class that can't be changed keeps what it has: slower, but right
        type.__setattr__(owner, name, value)


switch.listeners.append(_follow_switch)
