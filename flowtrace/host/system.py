"""The functions of the standard library that calls and writes use, as they were when flowtrace was loaded.

A test of the program may put a mock in the place of ``os.replace``, ``builtins.open`` or the clock while our code runs.
It must not see our calls, and we must not lose a value to it. So what runs in calls and writes looks nothing up in a
module of the standard library. It imports functions by name; in place of `os`, `re`, `time` and `datetime` it takes the
copies here: ``from flowtrace.host.system import os``. A copied ``os.makedirs`` calls the copied ``os.mkdir``.
`tests/test_bound_at_load.py` finds whatever is looked up elsewhere.

freezegun puts its own functions and classes into every module that has those of `time` and `datetime` under a name. It
does not look into the copies.
"""

from __future__ import annotations

import builtins
import genericpath
import os as real_os
import re as real_re
import time as real_time
from functools import lru_cache
from importlib import import_module
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
    names.update(vars(module), **others)
    for name, value in list(names.items()):
        function = value.__wrapped__ if type(value) is _Cached else value
        if type(function) is FunctionType and function.__globals__ is vars(module):
            bound = FunctionType(function.__code__, names, name, function.__defaults__, function.__closure__)
            bound.__kwdefaults__ = function.__kwdefaults__
            names[name] = bound if function is value else lru_cache(**value.cache_parameters())(bound)
    return copy


def _copy_of_os() -> Any:
    """Return a copy of `os`, whose ``path`` asks the copy too."""
    copy = copy_of(real_os)
    generic = vars(copy_of(genericpath, os=copy))
    path = vars(real_os.path)
    same = {name: generic[name] for name, value in vars(genericpath).items() if path.get(name) is value}
    copy.path = copy_of(real_os.path, **{**same, "genericpath": SimpleNamespace(**generic), "os": copy})
    return copy


if TYPE_CHECKING:
    import datetime as datetime
    import os as os
    import re as re
    import time as time
else:
    os = _copy_of_os()
    re = copy_of(real_re)
    time = copy_of(real_time)
    # The part of `datetime` that is written in C: it has the same classes, and the rest costs an import more.
    datetime = copy_of(import_module("_datetime"))

open_file = builtins.open
"""`open`, which is looked up among the builtins elsewhere."""
