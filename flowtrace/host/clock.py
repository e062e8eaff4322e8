"""Time and ids, all from one object, so that tests can replace them by fixed ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import count
from typing import Final

from flowtrace.host.system import datetime, os, time

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
