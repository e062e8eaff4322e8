"""The methods of classes: while tracing is off a class holds the plain function, while it is on the node.

A method that is called through any wrapper costs half a microsecond, since it has to be bound first; the plain
function costs nothing. So the switch, when it turns, sets one or the other in the classes.

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


class _Method(NamedTuple):
    """A method whose class is to hold its node or its function.

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


class _State:
    """Process-global: the traced methods of all classes, which hold them only while tracing is on.

    Attributes:
        methods: by identity of the function, class and name.
        lock: held while classes are changed.
        renews_lock: a forked child gets a new lock.
    """

    def __init__(self) -> None:
        self.methods: dict[tuple[int, str, str], _Method] = {}
        self.lock = RLock()
        self.renews_lock = False


_state: Final = _State()


def add(owner: type, name: str, node: Any, make: Callable[[FunctionType], Any]) -> None:
    """Note a method that was just defined; where tracing is off, put the plain function into its class.

    Args:
        owner: its class, which holds the node now.
        name: its name there.
        node: the node of a plain function.
        make: takes the function and returns a new node; it must hold neither the class nor the function.
    """
    function = node.__wrapped__
    key = id(function), class_name(owner), name
    held = ref(function, partial(_forget, key))
    method = _Method(ref(owner), ref(first_base(owner)), key[1], name, type(node), held, make)
    with _state.lock:
        _state.methods[key] = method
        if not switch.SWITCH:
            _follow_in_class(owner, method)


def _forget(key: tuple[int, str, str], function: ref[FunctionType]) -> None:
    """Remove the method of a function that is gone; takes no lock, since the garbage collector may call this."""
    method = _state.methods.get(key)
    if method is not None and method.function is function:
        _state.methods.pop(key, None)


def _renew_lock() -> None:
    """Make a new lock: in a forked child the old one may be held by a thread that is not there."""
    _state.lock = RLock()


def _follow_switch() -> None:
    """Set what the switch asks for in all classes: the plain functions while it is off, the nodes otherwise."""
    if hasattr(os, "register_at_fork") and not _state.renews_lock:
        _state.renews_lock = True
        os.register_at_fork(after_in_child=_renew_lock)
    with _state.lock:
        methods = list(_state.methods.values())
        for method in methods:
            home = method.home()
            if home is not None:
                _follow_in_class(home, method)
        for owner, method in _copies(methods):
            _follow_in_class(owner, method)


def _copies(methods: list[_Method]) -> Generator[tuple[type, _Method]]:
    """Find the copies of classes that hold methods of ours. Many classes may have one name: each is looked at once."""
    kinds = {id(method.kind) for method in methods}
    bases = {id(base): base for method in methods if (base := method.base()) is not None}
    names: dict[str, set[str]] = {}
    for method in methods:
        names.setdefault(method.owner, set()).add(method.name)
    for base in bases.values():
        for owner in direct_subclasses(base):
            owner_name = class_name(owner)
            for name in names.get(owner_name, ()):
                held: Any = namespace_of(owner).get(name)
                function = held.__wrapped__ if id(type(held)) in kinds else held
                copied = _state.methods.get((id(function), owner_name, name))
                if copied is not None and copied.base() is base and copied.home() is not owner:
                    yield owner, copied


def _follow_in_class(owner: type, method: _Method) -> None:
    """Change one class, unless the program has set something else under the method's name since."""
    function: Any = method.function()
    held: Any = namespace_of(owner).get(method.name)
    if function is None:
        return
    if switch.SWITCH and held is function:
        _set(owner, method.name, method.make(function))
    elif not switch.SWITCH and type(held) is method.kind and held.__wrapped__ is function and not getweakrefcount(held):
        # a node with a weak reference to it (weakref.WeakMethod) stays: outside the class nothing would keep it alive
        _set(owner, method.name, function)


def _set(owner: type, name: str, value: Any) -> None:
    with contextlib.suppress(Exception):  # a class that can't be changed keeps what it has: slower, but right
        type.__setattr__(owner, name, value)


switch.LISTENERS.append(_follow_switch)
