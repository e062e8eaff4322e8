"""The cost of a call: off, on, and against the decorators that the goals name."""

from __future__ import annotations

from typing import Any

import peers
from rows import Row, Session, at_most
from samples import Taken, differences, quotients
from subjects import ASYNC_GENERATOR, CLOSURE, FUNCTION, ITEMS, KINDS, MANY, METHOD, ONE_ITEM, PLAIN, WRAPT
from turns import Plan

OTEL = "OpenTelemetry"


def flowtrace_calls(core: str, mode: str = "") -> tuple[str, dict[str, Any]]:
    """Return the worker of flowtrace with one of its two cores."""
    return "subjects:flowtrace_calls", {"core": core, "mode": mode}


def otel(mode: str) -> tuple[str, dict[str, Any]]:
    """Return the worker of OpenTelemetry's decorator."""
    return "subjects:peer_calls", {"name": OTEL, "mode": mode, "kinds": [FUNCTION]}


def nanoseconds(turns: dict[str, list[float]]) -> dict[str, list[float]]:
    """Return the times of a group with their unit in the name."""
    return {f"{name}, ns": samples for name, samples in turns.items()}


def beside_otel(worker: str) -> dict[str, tuple[str, str]]:
    """Return a function of a worker and OpenTelemetry's decorator, both with the undecorated function."""
    return {
        "undecorated": (worker, f"{FUNCTION} {PLAIN}"),
        "flowtrace": (worker, f"{FUNCTION} flowtrace"),
        f"undecorated beside {OTEL}": ("peer", f"{FUNCTION} {PLAIN}"),
        OTEL: ("peer", f"{FUNCTION} {OTEL}"),
    }


def otel_quotient(turns: dict[str, list[float]]) -> Taken:
    """Return what flowtrace adds / what OpenTelemetry's decorator adds."""
    own = differences(turns["flowtrace"], turns["undecorated"])
    theirs = differences(turns[OTEL], turns[f"undecorated beside {OTEL}"])
    return Taken(quotients(own, theirs), nanoseconds(turns))


def added_by(turns: dict[str, list[float]], kind: str, name: str) -> list[float]:
    """Return what a decorator adds to a kind of function."""
    return differences(turns[f"{kind} {name}"], turns[f"{kind} {PLAIN}"])


def take_off(plan: Plan, core: str = "native") -> dict[str, Taken]:
    """Measure the calls of a program that never switches flowtrace on."""
    workers = {"flowtrace": flowtrace_calls(core), "peer": otel(peers.OFF)}
    groups = {
        "function": {"closure": ("flowtrace", f"{FUNCTION} {CLOSURE}"), **beside_otel("flowtrace")},
        "method": {
            "undecorated": ("flowtrace", f"{METHOD} {PLAIN}"),
            "flowtrace": ("flowtrace", f"{METHOD} flowtrace"),
        },
        "size": {
            "int": ("flowtrace", "int flowtrace"),
            "200,000 keys": ("flowtrace", "200,000 keys flowtrace"),
        },
    }
    found = plan.race(workers, groups)
    function, method, size = found["function"], found["method"], found["size"]
    own, closure = (differences(function[name], function["undecorated"]) for name in ("flowtrace", "closure"))
    return {
        "off-added": Taken(quotients(own, closure), nanoseconds(function)),
        "off-closure": Taken(quotients(function["flowtrace"], function["closure"]), nanoseconds(function)),
        "off-otel": otel_quotient(function),
        "off-method": Taken(quotients(method["flowtrace"], method["undecorated"]), nanoseconds(method)),
        "off-size": Taken(quotients(size["200,000 keys"], size["int"]), nanoseconds(size)),
    }


def take_on(plan: Plan, core: str = "native") -> dict[str, Taken]:
    """Measure the calls of a program that records them."""
    kinds = (*KINDS, ASYNC_GENERATOR)
    workers = {"flowtrace": flowtrace_calls(core, "on"), "peer": otel(peers.BATCHED)}
    groups: dict[str, dict[str, tuple[str, str]]] = {
        "function": {"wrapt": ("flowtrace", f"{FUNCTION} {WRAPT}"), **beside_otel("flowtrace")},
        "kinds": {
            f"{kind} {name}": ("flowtrace", f"{kind} {name}") for kind in kinds for name in (PLAIN, WRAPT, "flowtrace")
        },
        "items": {
            f"{kind} {name}": ("flowtrace", f"{kind} {name}")
            for kind in (ITEMS, ONE_ITEM)
            for name in (PLAIN, "flowtrace")
        },
    }
    found = plan.race(workers, groups)
    function, turns, items = found["function"], found["kinds"], found["items"]
    added = {kind: added_by(turns, kind, "flowtrace") for kind in kinds}
    many = differences(added_by(items, ITEMS, "flowtrace"), added_by(items, ONE_ITEM, "flowtrace"))
    parts = nanoseconds(turns)
    taken = {f"on-{kind}": Taken(quotients(added[kind], added[FUNCTION]), parts) for kind in KINDS[1:]}
    taken |= {
        f"added-{kind.replace(' ', '-')}": Taken(quotients(added[kind], added_by(turns, kind, WRAPT)), parts)
        for kind in kinds
    }
    return taken | {
        "on-otel": otel_quotient(function),
        "on-wrapt": Taken(quotients(function["flowtrace"], function["wrapt"]), nanoseconds(function)),
        "on-item": Taken([each / (MANY - 1) for each in many], nanoseconds(items)),
    }


def take_pure(plan: Plan) -> dict[str, Taken]:
    """Measure both with the pure core."""
    found = take_off(plan, "pure") | take_on(plan, "pure")
    return {f"pure-{key}": taken for key, taken in found.items()}


NOTHING = "what flowtrace adds to {} / what a wrapt decorator that does nothing adds to it"
TO_OTEL_OFF = "what flowtrace adds to the undecorated call / what OpenTelemetry's decorator adds to it without an SDK"
TO_OTEL = (
    "what flowtrace adds to the undecorated call / what OpenTelemetry's decorator adds to it with its SDK, a batch "
    "processor and an exporter that drops"
)
OFF_METHOD = "a call of the decorated method / a call of the undecorated method"


OFF = Session(
    "off",
    (
        Row(
            "off-added",
            "off, module function",
            "what flowtrace adds to the undecorated call / what a `functools.wraps` closure adds to it",
            at_most(0.3),
        ),
        Row("off-otel", "off, module function", TO_OTEL_OFF, at_most(1 / 30)),
        Row("off-method", "off, method", OFF_METHOD, at_most(1.15)),
        Row(
            "off-size",
            "off, argument size",
            "a call with a dictionary of 200,000 keys / a call of the same function with an integer",
            at_most(1.1),
        ),
    ),
    take_off,
    quick=True,
)

ON = Session(
    "on",
    (
        Row("added-function", "on, small call", NOTHING.format("the call"), at_most(0.7), newer=at_most(1.0)),
        Row("added-method", "on, method", NOTHING.format("the call"), None),
        Row(
            "added-coroutine",
            "on, coroutine",
            NOTHING.format("an awaited coroutine function"),
            at_most(1.0),
            newer=at_most(1.2),
        ),
        Row(
            "added-generator",
            "on, generator",
            NOTHING.format("a generator of one item, run to its end"),
            at_most(1.6),
            newer=at_most(2.0),
        ),
        Row(
            "added-async-generator",
            "on, async generator",
            NOTHING.format("an async generator of one item, run to its end"),
            at_most(2.0),
        ),
        Row(
            "on-item",
            "on, a further item of a generator",
            f"what flowtrace adds to each further item of {MANY:,} small ones",
            at_most(320),
            unit="ns",
        ),
        Row("on-otel", "on, small call", TO_OTEL, at_most(1 / 30)),
        Row(
            "on-method",
            "on, method",
            "what flowtrace adds to a method / what it adds to the plain function",
            at_most(1.15),
        ),
    ),
    take_on,
    quick=True,
)

PURE = Session(
    "pure",
    (
        Row(
            "pure-off-closure",
            "pure core, off, module function",
            "a call of the decorated function / a call of the same function in a `functools.wraps` closure",
            at_most(1.0),
        ),
        Row("pure-off-otel", "pure core, off, module function", TO_OTEL_OFF, at_most(1 / 30)),
        Row("pure-off-method", "pure core, off, method", OFF_METHOD, at_most(1.1)),
        Row("pure-on-otel", "pure core, on, small call", TO_OTEL, at_most(1 / 8)),
        Row(
            "pure-on-wrapt",
            "pure core, on, small call",
            "a call of the decorated function / a call of the same function under a wrapt decorator that does nothing",
            at_most(3.0),
        ),
        Row(
            "pure-on-coroutine",
            "pure core, on, coroutine",
            "what flowtrace adds to an awaited coroutine function / what it adds to the plain function",
            at_most(1.5),
        ),
        Row(
            "pure-on-generator",
            "pure core, on, generator",
            "what flowtrace adds to a generator of one item, run to its end / what it adds to the plain function",
            at_most(1.5),
        ),
    ),
    take_pure,
)
SESSIONS = (OFF, ON, PURE)
