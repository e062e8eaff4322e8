"""The methods of classes: while tracing is off a class holds the plain function, and its node while it is on.

A method that is called through any wrapper costs half a microsecond, since it has to be bound first; the plain
function costs nothing. So the switch, when it turns, puts the one or the other into the classes.

A class may have been copied since (``@dataclass(slots=True)`` makes a new one), and the copy holds the same function.
A copy is found among the subclasses of its base, by the name that its original had.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator
from functools import partial
from threading import RLock
from types import FunctionType
from typing import Any, Final, NamedTuple
from weakref import getweakrefcount, ref

from flowtrace.host import switch
from flowtrace.host.objects import class_name, direct_subclasses, first_base, namespace_of


class _Place(NamedTuple):
    """Where a method stands.

    Attributes:
        home: its class.
        base: the first base of its class.
        owner: module and qualified name of its class.
        name: its name there.
        kind: the type of its node.
        function: the plain function.
        make: takes the function and returns its node; holds neither of them.
    """

    home: ref[type]
    base: ref[type]
    owner: str
    name: str
    kind: Any
    function: ref[FunctionType]
    make: Callable[[FunctionType], Any]


_places: Final[dict[tuple[int, str, str], _Place]] = {}
_locks: Final = [RLock()]
_registered_at_fork: Final[list[bool]] = []


def add(owner: type, name: str, node: Any, make: Callable[[FunctionType], Any]) -> None:
    """Take note of a method that was just defined; where tracing is off, put the plain function into its class.

    Args:
        owner: its class, which holds the node now.
        name: its name there.
        node: stands for a plain function.
        make: takes the function and returns a new node; it must hold neither the class nor the function.
    """
    function = node.__wrapped__
    key = id(function), class_name(owner), name
    held = ref(function, partial(_forget, key))
    place = _Place(ref(owner), ref(first_base(owner)), key[1], name, type(node), held, make)
    with _locks[0]:
        _places[key] = place
        if not switch.SWITCH:
            _settle(owner, place)


def _forget(key: tuple[int, str, str], function: ref[FunctionType]) -> None:
    """Let go of the place of a function that is no more; takes no lock, since the garbage collector may call this."""
    place = _places.get(key)
    if place is not None and place.function is function:
        _places.pop(key, None)


def _forget_lock() -> None:
    """Make a new lock: in a forked child the old one may be held by a thread that is not there."""
    _locks[:] = [RLock()]


def _follow_switch() -> None:
    """Put into all classes what the switch says: the plain functions while it is off, the nodes otherwise."""
    if hasattr(os, "register_at_fork") and not _registered_at_fork:
        _registered_at_fork.append(True)
        os.register_at_fork(after_in_child=_forget_lock)
    with _locks[0]:
        places = list(_places.values())
        for place in places:
            home = place.home()
            if home is not None:
                _settle(home, place)
        for owner, place in _copies(places):
            _settle(owner, place)


def _copies(places: list[_Place]) -> Generator[tuple[type, _Place]]:
    """Find the copies of classes that hold methods of ours. Many classes may have one name: each is looked at once."""
    kinds = {id(place.kind) for place in places}
    bases = {id(base): base for place in places if (base := place.base()) is not None}
    names: dict[str, set[str]] = {}
    for place in places:
        names.setdefault(place.owner, set()).add(place.name)
    for base in bases.values():
        for owner in direct_subclasses(base):
            known_as = class_name(owner)
            for name in names.get(known_as, ()):
                held: Any = namespace_of(owner).get(name)
                function = held.__wrapped__ if id(type(held)) in kinds else held
                copied = _places.get((id(function), known_as, name))
                if copied is not None and copied.base() is base and copied.home() is not owner:
                    yield owner, copied


def _settle(owner: type, place: _Place) -> None:
    """Change one class, unless somebody else has put something in that place since."""
    function: Any = place.function()
    held: Any = namespace_of(owner).get(place.name)
    if function is None:
        return
    if switch.SWITCH and held is function:
        _put(owner, place.name, place.make(function))
    elif not switch.SWITCH and type(held) is place.kind and held.__wrapped__ is function and not getweakrefcount(held):
        # a node with a weak reference to it (weakref.WeakMethod) stays: it would die with its place
        _put(owner, place.name, function)


def _put(owner: type, name: str, value: Any) -> None:
    with contextlib.suppress(Exception):  # a class that can't be changed keeps what it has: slower, but right
        type.__setattr__(owner, name, value)


switch.LISTENERS.append(_follow_switch)
