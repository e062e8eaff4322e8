"""The cost of a call with a black box, against the decorator that the goal names."""

from __future__ import annotations

import peers
from rows import Row, Session, at_most
from rows_calls import OTEL, nanoseconds, otel
from samples import Taken, differences, quotients
from subjects import FUNCTION, PLAIN
from turns import Plan

KEPT = {"capture_inputs": True, "capture_outputs": True}


def take_box(plan: Plan) -> dict[str, Taken]:
    """Measure calls whose steps go into a ring file: with captured values, and with their hashes alone."""
    on = {"mode": "on", "settings": {"blackbox": "box.ring"}}
    captured = {"mode": "on", "settings": {"blackbox": "captured.ring", **KEPT}}
    workers = {
        "hashed": ("subjects:flowtrace_calls", on),
        "captured": ("subjects:flowtrace_calls", captured),
        "peer": otel(peers.BATCHED),
    }
    names = {"hashed": "with hashes alone", "captured": "with captured values", "peer": OTEL}
    groups = {
        "function": {
            **{f"undecorated beside {label}": (worker, f"{FUNCTION} {PLAIN}") for worker, label in names.items()},
            **{
                label: (worker, f"{FUNCTION} {OTEL if worker == 'peer' else 'flowtrace'}")
                for worker, label in names.items()
            },
        }
    }
    found = plan.race(workers, groups)["function"]
    added = {worker: differences(found[label], found[f"undecorated beside {label}"]) for worker, label in names.items()}
    return {
        "box-captured": Taken(quotients(added["captured"], added["peer"]), nanoseconds(found)),
        "box-hashed": Taken(quotients(added["hashed"], added["peer"]), nanoseconds(found)),
    }


BOX = Session(
    "box",
    (
        Row(
            "box-captured",
            "on, with the black box, capture and redaction",
            "what flowtrace adds to the undecorated call / what OpenTelemetry's decorator adds to it with its SDK, "
            "a batch processor and an exporter that drops",
            at_most(1 / 15),
        ),
        Row(
            "box-hashed",
            "on, with the black box, hashes alone",
            "the same without capture: both values are redacted and hashed at the call",
            at_most(1 / 10),
        ),
    ),
    take_box,
)
SESSIONS = (BOX,)
