"""The standard library's functions as they were when flowtrace was loaded; and the clock and ids, which tests replace.

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
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib import import_module
from importlib.machinery import BuiltinImporter
from importlib.util import module_from_spec
from itertools import count
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


NEVER: Final = 2**63 - 1
"""As a duration in nanoseconds: longer than anything takes."""
_UNITS: Final = {"us": 1e3, "ms": 1e6, "s": 1e9, "m": 60e9, "h": 3600e9}
_EPOCH: Final = datetime.datetime.fromtimestamp(0, datetime.UTC)


def _random_run_id() -> str:
    """Return 32 lowercase hex digits, as in a W3C trace id."""
    return os.urandom(16).hex()


def nanoseconds(duration: object) -> int:
    """Return a duration in nanoseconds; `NEVER` for 0.

    Args:
        duration: seconds as a number, or text such as ``"250ms"``, ``"1.5s"`` or ``"2m"``.

    Raises:
        ValueError: it is neither, or is negative or over 68 years.
    """
    number, size = duration, 1e9
    if isinstance(duration, str):
        text = duration.strip().lower()
        unit = next((unit for unit in _UNITS if text.endswith(unit)), "")
        number, size = float(text.removesuffix(unit)), _UNITS.get(unit, 0)
    if type(number) not in (int, float) or not 0 <= number * size < 2**61 or (number and not size):  # type: ignore[operator]
        raise ValueError(duration)
    return round(number * size) or NEVER  # type: ignore[operator]


FOLLOWERS: Final[list[Callable[[], None]]] = []
"""Process-global: called when an attribute of the clock is set; the native core keeps a copy of them."""


class Clock:
    """The source of every time stamp and every id.

    Attributes:
        now: monotonic nanoseconds; only differences mean anything.
        wall: nanoseconds since the Unix epoch.
        run_id: makes the id of a run, 32 hex digits (W3C trace context, trace-id).
        numbers: gives the next step's number, unique in this process.
    """

    __slots__ = ("_now_origin", "_wall_origin", "now", "numbers", "run_id", "wall")

    def __init__(
        self,
        now: Callable[[], int] = time.perf_counter_ns,
        wall: Callable[[], int] = time.time_ns,
        run_id: Callable[[], str] = _random_run_id,
    ) -> None:
        self.now = now
        self.wall = wall
        self.run_id = run_id
        self.numbers: Iterator[int] = count(1)
        self._now_origin = now()
        self._wall_origin = wall()

    def __setattr__(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)
        for follower in FOLLOWERS:
            follower()

    def adopt(self, other: Clock) -> None:
        """Become a copy of ``other``: the hot path keeps its reference to this object."""
        for name in self.__slots__:
            setattr(self, name, getattr(other, name))

    def steps_begun(self) -> int:
        """Return how many steps have got a number so far."""
        # only the text of an `itertools.count` shows its next number without taking it
        return int(repr(self.numbers).removeprefix("count(").removesuffix(")")) - 1

    def timestamp(self, now: int) -> str:
        """Return the UTC time of a reading of ``now`` as RFC 3339 text with microseconds."""
        return rfc3339(self.epoch() + now)

    def epoch(self) -> int:
        """Return the nanoseconds from the Unix epoch to the zero of ``now``."""
        return self._wall_origin - self._now_origin


CLOCK: Final[Clock] = Clock()
"""Process-global: the clock and the source of ids; tests put fixed ones in."""


def parse_timestamp(text: str | None) -> int | None:
    """Return an RFC 3339 time as nanoseconds since the Unix epoch, to the microsecond; None for any other text."""
    try:
        since = datetime.datetime.fromisoformat(text or "") - _EPOCH
    except (ValueError, TypeError, OverflowError):  # it is no time, has no zone, or is beyond the calendar
        return None
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1000


def rfc3339(nanoseconds: int) -> str:
    """Return a time since the Unix epoch as RFC 3339 text in UTC, with microseconds."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{_text_of_seconds(seconds)}.{rest // 1000:06d}Z"


@lru_cache(maxsize=256)
def _text_of_seconds(seconds: int) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).replace(tzinfo=None).isoformat(timespec="seconds")


def step_id(number: int) -> str:
    """Return a step's number as 16 lowercase hex digits, as in a W3C parent-id."""
    return f"{number:016x}"
