"""The time that other decorators add to a call, for each that flowtrace adds."""

from __future__ import annotations

from typing import Any

import peers
from rows import Row, Session
from samples import Taken, differences, quotients
from subjects import COROUTINE, FUNCTION, GENERATOR, KINDS, PLAIN
from turns import Plan

_CREATION_ONLY = "its span ends when the {} is made, before the body runs"

# What is not measured, with the reason: a decorator that does not look at the body would seem to be cheap.
LEFT_OUT = {
    ("OpenTelemetry", GENERATOR): _CREATION_ONLY.format("generator"),
    ("Logfire", GENERATOR): "its documentation advises against it",
    ("Sentry", GENERATOR): _CREATION_ONLY.format("generator"),
    ("eliot", COROUTINE): _CREATION_ONLY.format("coroutine"),
    ("eliot", GENERATOR): _CREATION_ONLY.format("generator"),
    ("VizTracer", COROUTINE): _CREATION_ONLY.format("coroutine"),
    ("VizTracer", GENERATOR): _CREATION_ONLY.format("generator"),
}
PEERS = tuple(peer for peer in (*peers.PEERS, peers.VIZTRACER) if peer.name not in ("flowtrace", "wrapt only"))


def kinds_of(peer: peers.Peer) -> list[str]:
    """Return the kinds of functions that a peer is measured with."""
    return [kind for kind in KINDS if (peer.name, kind) not in LEFT_OUT]


def key(peer: peers.Peer, kind: str) -> str:
    """Return the key of a row: a peer on a kind of function, or switched off."""
    return f"peer {peer.name} {kind}"


def compare(plan: Plan, peer: peers.Peer, mode: str, kinds: list[str]) -> dict[str, Taken]:
    """Let one peer and flowtrace take turns."""
    workers: dict[str, tuple[str, dict[str, Any]]] = {
        "flowtrace": ("subjects:flowtrace_calls", {"mode": "" if mode == peers.OFF else "on"}),
        "peer": ("subjects:peer_calls", {"name": peer.name, "mode": mode, "kinds": kinds}),
    }
    groups = {
        kind: {
            "undecorated": ("flowtrace", f"{kind} {PLAIN}"),
            "flowtrace": ("flowtrace", f"{kind} flowtrace"),
            f"undecorated beside {peer.name}": ("peer", f"{kind} {PLAIN}"),
            peer.name: ("peer", f"{kind} {peer.name}"),
        }
        for kind in kinds
    }
    taken = {}
    for kind, turns in plan.race(workers, groups, generations=min(3, plan.generations)).items():
        own = differences(turns["flowtrace"], turns["undecorated"])
        # Held against a process without the peer: one that slows down calls that it does not decorate adds that too.
        theirs = differences(turns[peer.name], turns["undecorated"])
        parts = {f"{name}, ns": samples for name, samples in turns.items()}
        taken[kind] = Taken(quotients(theirs, own), parts)
    return taken


def take(plan: Plan) -> dict[str, Taken]:
    """Measure every peer beside flowtrace."""
    taken = {}
    for peer in PEERS:
        mode = peers.BATCHED if peer.batched else peers.TRACING
        for kind, found in compare(plan, peer, mode, kinds_of(peer)).items():
            taken[key(peer, kind)] = found
        if peers.OFF in peer.modes:
            taken[key(peer, peers.OFF)] = compare(plan, peer, peers.OFF, [FUNCTION])[FUNCTION]
    return taken


def rows() -> tuple[Row, ...]:
    """Return the rows: each peer on each kind of function, and switched off."""
    found = []
    for peer in PEERS:
        for kind in [*kinds_of(peer), *([peers.OFF] if peers.OFF in peer.modes else [])]:
            what = f"{peer.name}, {kind}"
            found.append(Row(key(peer, kind), what, "what it adds to the call / what flowtrace adds to it", None))
    return tuple(found)


SESSION = Session("peers", rows(), take)
SESSIONS = (SESSION,)
