"""Whether a call costs the same in a crowd, deep down and late as it does alone, at the top and at first."""

from __future__ import annotations

from rows import Row, Session, at_most
from samples import Taken, differences, quotients
from scale_subjects import DEPTH, TASKS, THREADS
from subjects import PLAIN
from turns import Plan

SETUP = "scale_subjects:calls"
# The interpreter switches threads every 5 ms: each has to run several times as long.
THREAD_MILLISECONDS = 200.0


def both(worker: str, kind: str, name: str = "") -> dict[str, tuple[str, str]]:
    """Return a kind of calls, undecorated and decorated, as contenders under that name or another one."""
    return {f"{name or kind} {subject}": (worker, f"{kind} {subject}") for subject in (PLAIN, "flowtrace")}


def compared(turns: dict[str, list[float]], alone: str, crowd: str) -> Taken:
    """Return what flowtrace adds in the crowd / what it adds alone."""
    added = {kind: differences(turns[f"{kind} flowtrace"], turns[f"{kind} {PLAIN}"]) for kind in (alone, crowd)}
    parts = {f"{name}, ns": samples for name, samples in turns.items()}
    return Taken(quotients(added[crowd], added[alone]), parts)


def take(plan: Plan) -> dict[str, Taken]:
    """Measure calls alone and in crowds."""
    fresh = {"fresh": (SETUP, {})}
    late = fresh | {"late": (SETUP, {"calls_before": 1_000_000})}
    single = both("fresh", "single")
    turns = plan.race(fresh, {"depth": single | both("fresh", "depth")})
    turns |= plan.race(late, {"late": single | both("late", "single", "late")}, generations=3)
    crowds = {
        "threads": single | both("fresh", "threads"),
        "tasks": both("fresh", "awaited") | both("fresh", "tasks"),
    }
    turns |= plan.race(fresh, crowds, generations=4, rounds=15, milliseconds=THREAD_MILLISECONDS)
    return {
        "scale-threads": compared(turns["threads"], "single", "threads"),
        "scale-tasks": compared(turns["tasks"], "awaited", "tasks"),
        "scale-depth": compared(turns["depth"], "single", "depth"),
        "scale-late": compared(turns["late"], "single", "late"),
    }


SESSION = Session(
    "scale",
    (
        Row(
            "scale-threads",
            f"on, {THREADS} threads",
            f"what flowtrace adds to a call in {THREADS} threads at once, by the clock on the wall over all calls / "
            "what it adds to a single call",
            at_most(1.3),
        ),
        Row(
            "scale-tasks",
            f"on, {TASKS:,} tasks",
            f"what flowtrace adds to a coroutine that gives way once, with {TASKS:,} of them in flight / what it adds "
            "to the same coroutine awaited alone",
            at_most(3),
        ),
        Row(
            "scale-depth",
            f"on, nesting depth {DEPTH}",
            f"what flowtrace adds to a call inside of {DEPTH} others / what it adds to an outermost call",
            at_most(1.3),
        ),
        Row(
            "scale-late",
            "on, after 1,000,000 calls",
            "what flowtrace adds to a call in a process that has recorded a million / what it adds in a fresh one",
            at_most(1.3),
        ),
    ),
    take,
)
SESSIONS = (SESSION,)
