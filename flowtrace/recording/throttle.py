"""Many runs, one file: traces are written at a bounded rate.

The first ones are written at once, the rest of a burst at a bounded rate, the last one always. Each path has a token
bucket (https://en.wikipedia.org/wiki/Token_bucket); runs that ended well have one more, which a write that takes long
takes more of. A run that is held back is written by the next traced call that finds a new token, or when the process
ends. A run that a later one overtakes in the meantime is only counted, and the file says how many were. In mode
``always`` that may be each of a million calls: while a path has no token, the outermost calls that end are kept as
steps, of which no run is made but of the last. Slow runs have one more bucket, for all paths together: it lets
through about one a second, and what it holds back is not written.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import RLock
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from flowtrace.calls.core import NATIVE
from flowtrace.host import log
from flowtrace.host.system import CLOCK

if TYPE_CHECKING:
    from flowtrace.recording.recorder import TraceRecorder
    from flowtrace.recording.state import Failure
    from flowtrace.recording.step import RunName, Step


BURST: Final = 40
NANOSECONDS_A_TOKEN: Final = 50_000_000
_TIMES_OF_A_WRITE: Final = 10  # that pass until the next: writes take no more than a tenth of the time
_LONGEST_PAUSE: Final = 1_000_000_000  # between tokens: the next failure may be the one that is looked for
_MOST_TOKENS: Final = 200  # that a single write takes: 10 seconds, however long the disk let it wait
_ENDED_WELL: Final = ("ok", "slow")
SLOW_BURST: Final = 10
_NANOSECONDS_A_SLOW_TOKEN: Final = 1_000_000_000
_MOST_PATHS: Final = 1000
_Ending: TypeAlias = "tuple[TraceRecorder, str, bool]"
"""A run, its outcome, and whether it is over."""


class _Tokens:
    """A token bucket.

    Args:
        burst: how many tokens it holds.
        pause: nanoseconds until it has one more.

    Attributes:
        left: tokens that it has; below 0 are those that it owes.
    """

    __slots__ = ("burst", "left", "pause", "refilled")

    def __init__(self, burst: int, pause: int) -> None:
        self.burst = self.left = burst
        self.pause = pause
        self.refilled = CLOCK.now()

    def take(self) -> bool:
        """Take a token, if there is one."""
        earned, rest = divmod(CLOCK.now() - self.refilled, self.pause)
        if earned > 0:
            self.left = min(self.burst, self.left + earned)
            self.refilled = CLOCK.now() - rest
        if self.left <= 0:
            return False
        self.left -= 1
        return True

    def take_for(self, took: int) -> None:
        """Take the others for a write that took so many nanoseconds, whether they are there or not."""
        self.left -= max(1, min(_MOST_TOKENS, _TIMES_OF_A_WRITE * took // self.pause)) - 1

    def next_one(self) -> int:
        """Return when there is one to take, as a reading of the clock in ns."""
        return self.refilled + self.pause * (1 - self.left)


class Postponed:
    """Outermost calls that ended while their path had no token: the last one, and how many there were.

    Attributes:
        until: clock reading, in ns; a call that ends from then on is not kept here.
    """

    __slots__ = ("_count", "_last", "_lock", "until")

    def __init__(self) -> None:
        self.until = self._count = 0
        self._last: Step | None = None
        self._lock = RLock()

    def add(self, step: Step) -> bool:
        """Keep a step in the place of the last one; return False where it may be written now."""
        if step.ended >= self.until:
            return False
        with self._lock:
            self._count += 1
            self._last = step
        return True

    def take(self) -> tuple[Step | None, int]:
        """Return the last step, or None, and how many there were; keep none any longer."""
        with self._lock:
            taken = self._last, self._count
            self._last, self._count = None, 0
        return taken


class _Bucket:
    """The writes to one path.

    Attributes:
        tokens: how many writes may happen at once.
        time: how many more those of runs that ended well may take, by how long they take.
        has_failure: the latest run that was to be written there has failed.
        started: how many writes have begun.
        newest: number of the latest write whose file is in place; no earlier one may replace it.
        latest: the name of the run whose write was the last to begin.
        waiting: the run that was held back, with its outcome and whether it is over.
        overtaken: how many runs never reached the disk, because a later one came.
    """

    __slots__ = ("_placing", "has_failure", "latest", "newest", "overtaken", "started", "time", "tokens", "waiting")

    def __init__(self) -> None:
        self.tokens = _Tokens(BURST, NANOSECONDS_A_TOKEN)
        self.time = _Tokens(BURST, NANOSECONDS_A_TOKEN)
        self.has_failure = False
        self.latest: RunName | None = None
        self.waiting: _Ending | None = None
        self.overtaken = 0
        self.started = 0
        self.newest = 0
        self._placing = RLock()

    def admits(self, outcome: str) -> bool:
        """Take what a write of a run with such an outcome needs, if it is there."""
        return (outcome not in _ENDED_WELL or self.time.take()) and self.tokens.take()

    def next_turn(self) -> int:
        """Return when a run that ended well may be written, as a reading of the clock in ns."""
        return max(self.time.next_one(), self.tokens.next_one())

    def slow_down(self, outcome: str, took: int) -> None:
        """Let a write that took so many nanoseconds hold back later ones."""
        self.tokens.pause = max(NANOSECONDS_A_TOKEN, min(_LONGEST_PAUSE, _TIMES_OF_A_WRITE * took))
        if outcome in _ENDED_WELL:
            self.time.take_for(took)

    def in_turn(self, number: int, late: list[int], move: Callable[[], None]) -> bool:
        """Move a new file to its path, unless that of a later write is there: then its number is noted as late."""
        with self._placing:
            if number < self.newest:
                late.append(number)
                return False
            move()
            self.newest = number
        return True


class Throttle:
    """Decides when the traces of runs are written.

    Attributes:
        holds: paths whose last trace waits to be written; empty most of the time.
        postponed: outermost calls that a later one may overtake, before any run is made of them.
        end_call: makes a run of the last of so many outermost calls, and hands it to `hold`; None until there is one.
    """

    __slots__ = ("_buckets", "_lock", "_slow", "end_call", "holds", "postponed")

    def __init__(self) -> None:
        self._buckets: dict[str, _Bucket] = {}
        self.holds: list[str] = []
        self._lock = RLock()
        self._slow: _Tokens | None = None
        self.postponed: Any = Postponed() if NATIVE is None else NATIVE.Postponed()
        self.end_call: Callable[[Step | TraceRecorder, int], None] | None = None

    def take_in(self) -> None:
        """Hold the last outermost call that was postponed back as a run: from here on it is like any other."""
        last, count = self.postponed.take()
        if last is not None and self.end_call is not None:
            self.end_call(last, count)

    def hold(self, run: TraceRecorder, overtaken: int) -> None:
        """Hold back a run that ended well, and count those that it has overtaken."""
        with self._lock:
            lane = run.lane()
            bucket = self._bucket(lane)
            bucket.has_failure = False
            self._overtake(bucket, run)
            bucket.overtaken += overtaken
            self._hold(lane, bucket, (run, "ok", True))

    def renew_slow(self) -> None:
        """Let as many slow runs through at once as at the start: tracing is configured anew."""
        self._slow = None

    def note_slow(self, run: TraceRecorder, started: int, *, is_end: bool = False) -> None:
        """Let a slow step or flow make a snapshot of its run.

        There is none where the run has failed, since its trace is written for that; where one was made since the step
        began, which shows it in flight; and where too many were made lately. A run that has one is written at its end
        again.

        Args:
            run: the run.
            started: clock reading at the start of the step or flow, in ns.
            is_end: the run ends now, and is written then.
        """
        run.is_slow = True
        if run.failed or started < run.slow_at or not self._admits_slow():
            return
        run.slow_at = CLOCK.now()
        if not is_end:
            self.write(run, "slow", ended=run.is_over)

    def _admits_slow(self) -> bool:
        with self._lock:
            if self._slow is None:
                self._slow = _Tokens(SLOW_BURST, _NANOSECONDS_A_SLOW_TOKEN)
            return self._slow.take()

    def write(self, run: TraceRecorder, outcome: str, *, ended: bool) -> None:
        """Write a run's trace, now or when its path has a token again.

        Args:
            run: the run's recorder.
            outcome: what its trace will say.
            ended: the run is over.
        """
        self.take_in()
        run.frozen = None
        if run.is_quiet:
            run.written = ended or outcome != "slow"
            return
        if run.has_own_file and not run.is_over:
            run.write(outcome, ended=ended)
            return
        lane = run.lane()
        with self._lock:
            bucket = self._bucket(lane)
            if outcome == "slow" and bucket.has_failure and not run.is_always:
                log.warn_once(
                    "a slow run was not written: the trace of a failure is there; with {run_id} in its path there is "
                    "room for both",
                    ("slow", lane),
                    path=run.path(),
                )
                return
            bucket.has_failure = outcome not in _ENDED_WELL
            self._overtake(bucket, run)
            if not bucket.admits(outcome):
                self._hold(lane, bucket, (run, outcome, ended))
                if ended and run.is_always and "{" not in lane:
                    self.postponed.until = bucket.next_turn()
                return
            number = self._count_write(bucket, run)
        self._write_now(lane, bucket, number, (run, outcome, ended))

    def write_late(self, run: TraceRecorder) -> None:
        """Write a run again that is over, since a step of it has ended; not where a later run is in its place."""
        self.take_in()
        bucket = self._buckets.get(run.lane())
        is_latest = run.has_own_file or run.is_late or (bucket is not None and bucket.latest is run.name)
        waiting = None if bucket is None else bucket.waiting
        if is_latest and waiting is None:
            self.write(run, run.outcome, ended=True)

    def write_final(self, failure: Failure, *, ended: bool) -> None:
        """Write a run whose error was not handled, at once, unless the file at its path is about it already.

        Args:
            failure: the run, and how it ended.
            ended: the program ends with it.
        """
        self.take_in()
        run, lane = failure.run, failure.run.lane()
        with self._lock:
            bucket = self._bucket(lane)
            is_there = bucket.latest is run.name or (run.has_own_file and run.written)
            if is_there and bucket.waiting is None:
                return
            bucket.has_failure = True
            self._overtake(bucket, run)
            number = self._count_write(bucket, run)
        run.frozen = failure.steps
        self._write_now(lane, bucket, number, (run, failure.outcome, ended))
        run.frozen = None

    def write_due(self) -> None:
        """Write the traces that were held back and whose path has a token again."""
        self._release(only_due=True)

    def write_all(self) -> None:
        """Write every trace that was held back."""
        self.postponed.until = 0
        self._release(only_due=False)

    def _bucket(self, lane: str) -> _Bucket:
        bucket = self._buckets.get(lane)
        if bucket is None:
            if len(self._buckets) >= _MOST_PATHS:
                self.write_all()
                self._buckets.clear()
                self.holds.clear()
            bucket = self._buckets[lane] = _Bucket()
        return bucket

    def _overtake(self, bucket: _Bucket, run: TraceRecorder) -> None:
        if bucket.waiting is not None:
            earlier = bucket.waiting[0]
            if earlier is not run and not earlier.written:
                bucket.overtaken += 1
            bucket.waiting = None

    def _count_write(self, bucket: _Bucket, run: TraceRecorder) -> int:
        run.overtaken = bucket.overtaken
        bucket.latest = run.name
        bucket.started += 1
        return bucket.started

    def _write_now(self, lane: str, bucket: _Bucket, number: int, ending: _Ending, *, again: bool = False) -> None:
        """Write a run, unless another thread was quicker with a later one.

        Args:
            lane: where, as `TraceRecorder.lane` says.
            bucket: the writes to it.
            number: which of them this is.
            ending: the run.
            again: a run that can't be written waits for another chance.
        """
        run, outcome, ended = ending
        was_written = run.written
        late: list[int] = []
        begun = CLOCK.now()
        run.write(outcome, ended=ended, in_turn=partial(bucket.in_turn, number, late))
        took = CLOCK.now() - begun
        with self._lock:
            bucket.slow_down(outcome, took)
            if late:
                run.written = was_written
                bucket.overtaken += ended and not was_written
            elif (
                again and not run.written and outcome != "slow" and bucket.waiting is None and bucket.started == number
            ):
                self._hold(lane, bucket, ending)

    def _hold(self, lane: str, bucket: _Bucket, ending: _Ending) -> None:
        self._buckets[lane] = bucket  # it may have been forgotten in the meantime
        bucket.waiting = ending
        ending[0].freeze()
        if lane not in self.holds:
            self.holds.append(lane)

    def _release(self, *, only_due: bool) -> None:
        self.take_in()
        ready: list[tuple[str, _Bucket, int, _Ending]] = []
        with self._lock:
            for lane in list(self.holds):
                bucket = self._buckets[lane]
                if only_due and bucket.waiting is not None and not bucket.admits(bucket.waiting[1]):
                    continue
                self.holds.remove(lane)
                if bucket.waiting is not None:
                    number = self._count_write(bucket, bucket.waiting[0])
                    ready.append((lane, bucket, number, bucket.waiting))
                    bucket.waiting = None
        for each in ready:
            self._write_now(*each, again=only_due)
