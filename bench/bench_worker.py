"""One process that measures: sets something up, then runs what is asked for, one JSON line for each request.

    python bench/bench_worker.py MODULE:FUNCTION OPTIONS

The function takes the options and returns `Slot`s by name. It is given no way to the network.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import socket
import sys
import warnings
from pathlib import Path
from typing import Any

# The modules below are beside this file and in tests/: neither is a package that is installed.
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "tests")]

NETWORK: list[str] = []


def refuse_network() -> None:
    """Note and stop whatever would leave this process; unlike an audit hook, this costs the measured calls nothing."""

    def refuse(name: str) -> Any:
        def stop(*args: Any, **_: Any) -> None:
            NETWORK.append(f"{name} {args[-1]}")
            raise OSError("the benchmark runs without a network")

        return stop

    for name in ("connect", "connect_ex", "sendto", "sendmsg"):
        setattr(socket.socket, name, refuse(name))
    socket.getaddrinfo = refuse("getaddrinfo")


def answer(slot: Any, times: int) -> dict[str, Any]:
    """Run a slot; return what it tells, or how long it took in ns, in all and for each call."""
    result = slot.run(times)
    if isinstance(result, dict):
        return result
    return {"elapsed": result, "each": result / (times * slot.calls)}


def main() -> None:
    """Serve requests until there are no more."""
    setup, options = sys.argv[1:]
    # Peers may print: the answers go where nothing else does.
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    logging.disable()
    refuse_network()
    module, _, function = setup.partition(":")
    slots = getattr(importlib.import_module(module), function)(**json.loads(options))
    out.write(json.dumps({"slots": list(slots)}) + "\n")
    for line in sys.stdin:
        request = json.loads(line)
        out.write(json.dumps(answer(slots[request["slot"]], request["times"])) + "\n")
    problems = [f"wanted the network: {NETWORK[:3]}"] if NETWORK else []
    problems += [problem for slot in slots.values() if (problem := slot.problem())]
    if problems:
        print(*problems, file=sys.stderr, flush=True)
    # What threads of the peers still want to do is of no interest, and may take a minute.
    os._exit(bool(problems))


if __name__ == "__main__":
    main()
