"""The cost of large values, in time and in memory."""

from __future__ import annotations

from rows import Row, Session, at_least, at_most
from samples import Taken, quotients
from turns import Plan
from value_subjects import ARRAY_BYTES, MIB, VALUE_BYTES

MEGA = 1_000_000
KEPT = 100_000
SMALL_BUDGET, BUDGET = MIB, 16 * MIB


def race(plan: Plan, setup: str, peer: str) -> tuple[list[float], list[float], dict[str, list[float]]]:
    """Return the times of flowtrace and of the library that it is held against, in ns and in ms."""
    slots = {name: ("worker", name) for name in (peer, "flowtrace")}
    generations, rounds = (1, 6) if plan.quick else (7, 15)
    turns = plan.race({"worker": (setup, {})}, {"all": slots}, generations=generations, rounds=rounds)["all"]
    parts = {f"{name}, ms": [each / 1e6 for each in samples] for name, samples in turns.items()}
    return turns["flowtrace"], turns[peer], parts


def peaks(plan: Plan, setup: str, **options: object) -> list[float]:
    """Return the peak that each of some fresh processes tells, in bytes."""
    return [plan.once(f"value_subjects:{setup}", **options)["peak"] for _ in range(1 if plan.quick else 7)]


def megabytes(samples: list[float]) -> list[float]:
    """Return bytes as MB."""
    return [each / MEGA for each in samples]


def take_dictionary(plan: Plan) -> dict[str, Taken]:
    """Measure a call with a large dictionary."""
    own, encoding, parts = race(plan, "value_subjects:dictionary_calls", "orjson")
    copies = peaks(plan, "orjson_peak")
    taken = {"dict-time": Taken(quotients(own, encoding), parts)}
    for key, capture in (("dict-memory", False), ("dict-memory-captured", True)):
        found = peaks(plan, "dictionary_peak", buffer_bytes=SMALL_BUDGET, capture=capture)
        beyond = [peak - SMALL_BUDGET for peak in found]
        parts = {"flowtrace, MB": megabytes(found), "orjson, MB": megabytes(copies)}
        taken[key] = Taken(quotients(beyond, copies), parts)
    return taken


def take_array(plan: Plan) -> dict[str, Taken]:
    """Measure a call with a large array."""
    own, hashing, parts = race(plan, "value_subjects:array_calls", "blake3")
    found = peaks(plan, "array_peak")
    return {
        "array-time": Taken(quotients(hashing, own), parts),
        "array-memory": Taken([peak / ARRAY_BYTES for peak in found], {"flowtrace, MB": megabytes(found)}),
    }


def take_memory(plan: Plan) -> dict[str, Taken]:
    """Measure what stays in memory, and what is in it for a while."""
    taken = {}
    for key, capture in (("values-memory", False), ("values-memory-captured", True)):
        found = peaks(plan, "values_peak", capture=capture)
        beyond = [(peak - BUDGET) / VALUE_BYTES for peak in found]
        taken[key] = Taken(beyond, {"at the peak, MB": megabytes(found)})
    grown = [plan.once("value_subjects:growth", calls=1_000_000)["growth"] for _ in range(3)]
    kept = [plan.once("value_subjects:kept_steps", steps=KEPT, buffer_bytes=BUDGET)["growth"] for _ in range(3)]
    return taken | {
        "growth": Taken(megabytes(grown)),
        "kept": Taken([each / BUDGET for each in kept], {"flowtrace, MB": megabytes(kept)}),
    }


DICTIONARY = Session(
    "dict",
    (
        Row(
            "dict-time",
            "on, 200,000-key dict",
            "a call with the dictionary / `orjson.dumps(..., option=OPT_SORT_KEYS)` of it",
            at_most(1.6),
        ),
        Row(
            "dict-memory",
            "on, 200,000-key dict, memory",
            "resident memory during a call at its peak, less the byte budget (set to 1 MiB) / that during "
            "`orjson.dumps` of the same dictionary, in processes of their own",
            at_most(1),
        ),
        Row(
            "dict-memory-captured",
            "on, 200,000-key dict, memory with `capture_inputs`",
            "the same, while inputs are kept beside their hashes",
            at_most(1),
        ),
    ),
    take_dictionary,
    quick=True,
)
ARRAY = Session(
    "array",
    (
        Row(
            "array-time",
            "on, 256 MB NumPy array",
            "bytes a second of a call with the array / bytes a second of `blake3(buffer, max_threads=AUTO)`",
            at_least(0.5),
        ),
        Row(
            "array-memory",
            "on, 256 MB NumPy array, memory",
            "resident memory during a call at its peak / size of the array",
            at_most(0.05),
        ),
    ),
    take_array,
)
MEMORY = Session(
    "memory",
    (
        Row(
            "growth",
            "on, 1,000,000 calls",
            "growth of the resident memory",
            at_most(5),
            unit="MB",
        ),
        Row(
            "kept",
            f"on, the last {KEPT:,} small steps kept",
            "growth of the resident memory / the byte budget of 16 MiB",
            at_most(4),
        ),
        Row(
            "values-memory",
            "on, 100 calls with 10 MB values",
            "resident memory at its peak, less the byte budget of 16 MiB / 10 MB; the caller's own value counts as one",
            at_most(2),
            unit="values",
        ),
        Row(
            "values-memory-captured",
            "on, 100 calls with 10 MB values and `capture_inputs`",
            "the same, while inputs are kept beside their hashes",
            at_most(2),
            unit="values",
        ),
    ),
    take_memory,
)
SESSIONS = (DICTIONARY, ARRAY, MEMORY)
