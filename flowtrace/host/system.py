"""The functions of the standard library that calls and writes use, as they were when flowtrace was loaded.

A test of the program may put a mock in the place of ``os.replace``, ``builtins.open`` or the clock while our code runs.
It must not see our calls, and we must not lose a value to it. So what runs in calls and writes looks nothing up in a
module of the standard library. It imports functions by name; in place of `os`, `re`, `time` and `datetime` it takes the
copies here: ``from flowtrace.host.system import os``. A copied ``os.makedirs`` calls the copied ``os.mkdir``.
`tests/test_bound_at_load.py` finds whatever is looked up elsewhere.

freezegun puts its own functions and classes into every module that has those of `time` and `datetime` under a name. It
does not look into the copies; and they are right even where it was at work when they were made.
"""

from __future__ import annotations

import builtins
import genericpath
import os as real_os
import re as real_re
from functools import lru_cache
from importlib import import_module
from importlib.machinery import BuiltinImporter
from importlib.util import module_from_spec
from types import FunctionType, ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

_Cached: Final = type(lru_cache(import_module))


def copy_of(module: ModuleType, **others: Any) -> Any:
    """Return what a module holds, with its own functions bound to the copy.

    Args:
        module: the module.
        **others: what the copy has instead of what the module has under these names.
    """
    copy = SimpleNamespace()
    names = vars(copy)
    # Asking for each loads what a module of Python 3.15 would otherwise import where it is used first: in a call.
    names.update({name: getattr(module, name) for name in list(vars(module))}, **others)
    for name, value in list(names.items()):
        function = value.__wrapped__ if type(value) is _Cached else value
        if type(function) is FunctionType and function.__globals__ is vars(module):
            bound = FunctionType(function.__code__, names, name, function.__defaults__, function.__closure__)
            bound.__kwdefaults__ = function.__kwdefaults__
            names[name] = bound if function is value else lru_cache(value.cache_parameters()["maxsize"])(bound)
    return copy


def _copy_of_os() -> Any:
    """Return a copy of `os`, whose ``path`` asks the copy too."""
    copy = copy_of(real_os)
    generic = vars(copy_of(genericpath, os=copy))
    path = vars(real_os.path)
    same = {name: generic[name] for name, value in vars(genericpath).items() if path.get(name) is value}
    copy.path = copy_of(real_os.path, **{**same, "genericpath": SimpleNamespace(**generic), "os": copy})
    return copy


def _made_anew(name: str) -> Any:
    """Return another instance of a module that is built into the interpreter, with the functions that it has in C."""
    spec: Any = BuiltinImporter.find_spec(name)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _copy_of_datetime() -> Any:
    """Return a copy of the part of `datetime` that is written in C: the same classes, and quick to load.

    Where a class that derives from one of them stands in its place already, the copy has the one of the interpreter.
    """
    copy = copy_of(import_module("_datetime"))
    for name, cls in vars(copy).items():
        if isinstance(cls, type):
            setattr(copy, name, next((base for base in cls.__mro__ if base.__module__ == "datetime"), cls))
    return copy


if TYPE_CHECKING:
    import datetime as datetime
    import os as os
    import re as re
    import time as time
else:
    os = _copy_of_os()
    re = copy_of(real_re)
    time = _made_anew("time")
    datetime = _copy_of_datetime()

open_file = builtins.open
"""`open`, which is looked up among the builtins elsewhere."""
