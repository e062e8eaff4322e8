"""The cost of a call: off, on, and against the decorators that the goals name."""

from __future__ import annotations

from typing import Any

import peers
from rows import Row, Session, at_most
from samples import Taken, differences, quotients
from subjects import CLOSURE, COROUTINE, FUNCTION, GENERATOR, METHOD, PLAIN, WRAPT
from turns import Plan

OTEL = "OpenTelemetry"
FLOWTRACE: tuple[str, dict[str, Any]] = ("subjects:flowtrace_calls", {})
FLOWTRACE_ON: tuple[str, dict[str, Any]] = ("subjects:flowtrace_calls", {"mode": "on"})


def otel(mode: str) -> tuple[str, dict[str, Any]]:
    """Return the worker of OpenTelemetry's decorator."""
    return "subjects:peer_calls", {"name": OTEL, "mode": mode, "kinds": [FUNCTION]}


def nanoseconds(turns: dict[str, list[float]]) -> dict[str, list[float]]:
    """Return the times of a group with their unit in the name."""
    return {f"{name}, ns": samples for name, samples in turns.items()}


def take_off(plan: Plan) -> dict[str, Taken]:
    """Measure the calls of a program that never switches flowtrace on."""
    workers = {"flowtrace": FLOWTRACE, "peer": otel(peers.OFF)}
    groups = {
        "function": {
            "undecorated": ("flowtrace", f"{FUNCTION} {PLAIN}"),
            "closure": ("flowtrace", f"{FUNCTION} {CLOSURE}"),
            "flowtrace": ("flowtrace", f"{FUNCTION} flowtrace"),
            f"undecorated beside {OTEL}": ("peer", f"{FUNCTION} {PLAIN}"),
            OTEL: ("peer", f"{FUNCTION} {OTEL}"),
        },
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
    own = differences(function["flowtrace"], function["undecorated"])
    theirs = differences(function[OTEL], function[f"undecorated beside {OTEL}"])
    return {
        "off-closure": Taken(quotients(function["flowtrace"], function["closure"]), nanoseconds(function)),
        "off-otel": Taken(quotients(own, theirs), nanoseconds(function)),
        "off-method": Taken(quotients(method["flowtrace"], method["undecorated"]), nanoseconds(method)),
        "off-size": Taken(quotients(size["200,000 keys"], size["int"]), nanoseconds(size)),
    }


def take_on(plan: Plan) -> dict[str, Taken]:
    """Measure the calls of a program that records them."""
    workers = {"flowtrace": FLOWTRACE_ON, "peer": otel(peers.BATCHED)}
    groups: dict[str, dict[str, tuple[str, str]]] = {
        "function": {
            "undecorated": ("flowtrace", f"{FUNCTION} {PLAIN}"),
            "wrapt": ("flowtrace", f"{FUNCTION} {WRAPT}"),
            "flowtrace": ("flowtrace", f"{FUNCTION} flowtrace"),
            f"undecorated beside {OTEL}": ("peer", f"{FUNCTION} {PLAIN}"),
            OTEL: ("peer", f"{FUNCTION} {OTEL}"),
        },
        "kinds": {
            f"{kind} {name}": ("flowtrace", f"{kind} {name}")
            for kind in (FUNCTION, METHOD, COROUTINE, GENERATOR)
            for name in (PLAIN, "flowtrace")
        },
    }
    found = plan.race(workers, groups)
    function, kinds = found["function"], found["kinds"]
    own = differences(function["flowtrace"], function["undecorated"])
    theirs = differences(function[OTEL], function[f"undecorated beside {OTEL}"])
    added = {
        kind: differences(kinds[f"{kind} flowtrace"], kinds[f"{kind} {PLAIN}"])
        for kind in (FUNCTION, METHOD, COROUTINE, GENERATOR)
    }
    taken = {
        f"on-{kind}": Taken(quotients(added[kind], added[FUNCTION]), nanoseconds(kinds))
        for kind in (COROUTINE, GENERATOR, METHOD)
    }
    return taken | {
        "on-otel": Taken(quotients(own, theirs), nanoseconds(function)),
        "on-wrapt": Taken(quotients(function["flowtrace"], function["wrapt"]), nanoseconds(function)),
    }


OFF = Session(
    "off",
    (
        Row(
            "off-closure",
            "off, module function",
            "a call of the decorated function / a call of the same function in a `functools.wraps` closure",
            at_most(1.0),
        ),
        Row(
            "off-otel",
            "off, module function",
            "what flowtrace adds to the undecorated call / what OpenTelemetry's decorator adds to it without an SDK",
            at_most(1 / 30),
        ),
        Row(
            "off-method",
            "off, method",
            "a call of the decorated method / a call of the undecorated method",
            at_most(1.1),
        ),
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
        Row(
            "on-otel",
            "on, small call",
            "what flowtrace adds to the undecorated call / what OpenTelemetry's decorator adds to it with its SDK, "
            "a batch processor and an exporter that drops",
            at_most(1 / 8),
        ),
        Row(
            "on-wrapt",
            "on, small call",
            "a call of the decorated function / a call of the same function under a wrapt decorator that does nothing",
            at_most(3.0),
        ),
        Row(
            "on-coroutine",
            "on, coroutine",
            "what flowtrace adds to an awaited coroutine function / what it adds to the plain function",
            at_most(1.5),
        ),
        Row(
            "on-generator",
            "on, generator",
            "what flowtrace adds to a generator of one item, run to its end / what it adds to the plain function",
            at_most(1.5),
        ),
        Row(
            "on-method",
            "on, method",
            "what flowtrace adds to a method / what it adds to the plain function",
            None,
        ),
    ),
    take_on,
    quick=True,
)
SESSIONS = (OFF, ON)
