"""Many runs, one file: the first ones are written at once, the rest of a burst at a bounded rate, the last one always.

Each path has a token bucket (https://en.wikipedia.org/wiki/Token_bucket). A run that it holds back is written by the
next traced call that finds a new token, or when the process ends. A run that a later one overtakes in the meantime is
only counted, and the file says how many were.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import RLock
from typing import TYPE_CHECKING, Final, TypeAlias

from flowtrace.host.clock import CLOCK

if TYPE_CHECKING:
    from flowtrace.recording.recorder import TraceRecorder

BURST: Final = 40
NANOSECONDS_A_TOKEN: Final = 50_000_000
_MOST_PATHS: Final = 1000
_Ending: TypeAlias = "tuple[TraceRecorder, str, bool]"
"""A run, its outcome, and whether it is over."""


class _Bucket:
    """The writes to one path.

    Attributes:
        tokens: how many writes may happen at once.
        refilled: clock reading up to which tokens were given, in ns.
        started: how many writes have begun.
        newest: number of the latest write whose file is in place; no earlier one may replace it.
        waiting: the run that was held back, with its outcome and whether it is over.
        overtaken: how many runs never reached the disk, because a later one came.
    """

    __slots__ = ("_placing", "newest", "overtaken", "refilled", "started", "tokens", "waiting")

    def __init__(self) -> None:
        self.tokens = BURST
        self.refilled = CLOCK.now()
        self.waiting: _Ending | None = None
        self.overtaken = 0
        self.started = 0
        self.newest = 0
        self._placing = RLock()

    def in_turn(self, number: int, late: list[int], move: Callable[[], None]) -> bool:
        """Move a new file to its path, unless that of a later write is there: then its number is noted as late."""
        with self._placing:
            if number < self.newest:
                late.append(number)
                return False
            move()
            self.newest = number
        return True

    def take_token(self) -> bool:
        """Take a token, if there is one."""
        earned, rest = divmod(CLOCK.now() - self.refilled, NANOSECONDS_A_TOKEN)
        if earned > 0:
            self.tokens = min(BURST, self.tokens + earned)
            self.refilled = CLOCK.now() - rest
        if self.tokens == 0:
            return False
        self.tokens -= 1
        return True


class Throttle:
    """Decides when the traces of runs are written.

    Attributes:
        holds: paths whose last trace waits to be written; empty most of the time.
    """

    __slots__ = ("_buckets", "_lock", "holds")

    def __init__(self) -> None:
        self._buckets: dict[str, _Bucket] = {}
        self.holds: list[str] = []
        self._lock = RLock()

    def write(self, run: TraceRecorder, outcome: str, *, ended: bool) -> None:
        """Write a run's trace, now or when its path has a token again.

        Args:
            run: the run's recorder.
            outcome: what its trace will say.
            ended: the run is over.
        """
        run.frozen = None
        if run.has_own_file:
            run.write(outcome, ended=ended)
            return
        path = run.path()
        with self._lock:
            bucket = self._bucket(path)
            self._overtake(bucket, run)
            if not bucket.take_token():
                self._hold(path, bucket, (run, outcome, ended))
                return
            number = self._count_write(bucket, run)
        self._write_now(path, bucket, number, (run, outcome, ended))

    def write_due(self) -> None:
        """Write the traces that were held back and whose path has a token again."""
        self._release(only_due=True)

    def write_all(self) -> None:
        """Write every trace that was held back."""
        self._release(only_due=False)

    def _bucket(self, path: str) -> _Bucket:
        bucket = self._buckets.get(path)
        if bucket is None:
            if len(self._buckets) >= _MOST_PATHS:
                self.write_all()
                self._buckets.clear()
                self.holds.clear()
            bucket = self._buckets[path] = _Bucket()
        return bucket

    def _overtake(self, bucket: _Bucket, run: TraceRecorder) -> None:
        if bucket.waiting is not None:
            earlier = bucket.waiting[0]
            if earlier is not run and not earlier.written:
                bucket.overtaken += 1
            bucket.waiting = None

    def _count_write(self, bucket: _Bucket, run: TraceRecorder) -> int:
        run.overtaken = bucket.overtaken
        bucket.started += 1
        return bucket.started

    def _write_now(self, path: str, bucket: _Bucket, number: int, ending: _Ending, *, again: bool = False) -> None:
        """Write a run, unless another thread was quicker with a later one.

        Args:
            path: where.
            bucket: the writes to it.
            number: which of them this is.
            ending: the run.
            again: a run that can't be written waits for another chance.
        """
        run, outcome, ended = ending
        was_written = run.written
        late: list[int] = []
        run.write(outcome, ended=ended, in_turn=partial(bucket.in_turn, number, late))
        with self._lock:
            if late:
                run.written = was_written
                bucket.overtaken += ended and not was_written
            elif again and not run.written and bucket.waiting is None and bucket.started == number:
                self._hold(path, bucket, ending)

    def _hold(self, path: str, bucket: _Bucket, ending: _Ending) -> None:
        self._buckets[path] = bucket  # it may have been forgotten in the meantime
        bucket.waiting = ending
        ending[0].freeze()
        if path not in self.holds:
            self.holds.append(path)

    def _release(self, *, only_due: bool) -> None:
        ready: list[tuple[str, _Bucket, int, _Ending]] = []
        with self._lock:
            for path in list(self.holds):
                bucket = self._buckets[path]
                if only_due and bucket.waiting is not None and not bucket.take_token():
                    continue
                self.holds.remove(path)
                if bucket.waiting is not None:
                    number = self._count_write(bucket, bucket.waiting[0])
                    ready.append((path, bucket, number, bucket.waiting))
                    bucket.waiting = None
        for each in ready:
            self._write_now(*each, again=only_due)
