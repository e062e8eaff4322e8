"""Run all checks for one peer in one mode: a JSON line for each row and each scenario, on the standard output."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextvars import copy_context
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

# The modules below are beside this file and in tests/: neither is a package that is installed.
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "tests")]

import peers  # noqa: E402
from conformance import matrix, scenarios, shapes  # noqa: E402
from conformance.subject import Mode  # noqa: E402

CASE_SECONDS = 10
# The matrix runs all of its columns in a mode of this name; what it switches to is another matter.
MODES = {peers.TRACING: Mode("on", "always", "always"), peers.OFF: Mode("on", "off", "off")}


class CaseTimeoutError(Exception):
    """One check took too long."""


def _too_long(*_: Any) -> None:
    raise CaseTimeoutError(f"not done after {CASE_SECONDS} s")


def refuse_network(attempts: list[str]) -> None:
    """Stop whatever would leave this process, and note it."""

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event in ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo"):
            where = args[1] if event.startswith("socket.s") or event == "socket.connect" else args[0]
            attempts.append(f"{event} {where}")
            raise OSError("the comparison runs without a network")

    sys.addaudithook(hook)


def use_real_event_loop() -> asyncio.Runner:
    """Run awaitables in asyncio, which some peers need, in place of the bare loops of the checks."""
    runner = asyncio.Runner()
    bare = shapes.run_awaitable

    def run(awaitable: Any, *_: Any) -> Any:
        async def main():
            return await awaitable

        # The runner's own context would be that of the first program.
        return runner.run(main(), context=copy_context())

    shapes.run_awaitable = run
    matrix.SHAPES = tuple(replace(shape, run=run) if shape.run is bare else shape for shape in matrix.SHAPES)
    for module in {sys.modules[scenario.__module__] for scenario in scenarios.SCENARIOS.values()}:
        if hasattr(module, "drive"):
            module.drive = run
    return runner


class NotMeantError(BaseException):
    """A scenario decorates what the peer is not meant for."""


def run_scenario(peer: peers.Peer, running: peers.Running, name: str, mode: Mode) -> dict[str, Any]:
    """Return what went wrong in one scenario."""
    refused: list[str] = []

    def decorate(target: Any) -> Any:
        refused.extend(use for use in peers.uses_of(target) if use in peer.not_meant)
        if refused:
            raise NotMeantError
        return running.subject.decorate(target)

    problem = ""
    with running.around():
        signal.setitimer(signal.ITIMER_REAL, CASE_SECONDS)
        try:
            scenarios.check(replace(running.subject, decorate=decorate), scenarios.SCENARIOS[name], mode)
        except NotMeantError:
            pass
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # whatever it is, it is the result
            problem = f"{type(error).__name__}: {error}"[:600]
        signal.setitimer(signal.ITIMER_REAL, 0)
    return {"not applicable": refused[0]} if refused else {"problem": problem}


def failures(running: peers.Running, row: tuple[Any, Any], mode: Mode) -> dict[str, str]:
    """Return what went wrong in one row, by column."""
    found = {}
    with running.around():
        signal.setitimer(signal.ITIMER_REAL, CASE_SECONDS)
        for cell in matrix.run_row(running.subject, *row, mode):
            signal.setitimer(signal.ITIMER_REAL, CASE_SECONDS)
            if cell.problem:
                found[cell.column] = cell.problem
        signal.setitimer(signal.ITIMER_REAL, 0)
    return found


def lines(peer: peers.Peer, mode: str, first: int) -> Iterator[dict[str, Any]]:
    """Run the rows and then the scenarios, from a first one on."""
    running = peer.start(mode)
    rows = list(matrix.rows())
    for number, row in enumerate(rows):
        if number < first:
            continue
        if refused := peer.refuses(*row):
            yield {"row": number, "not applicable": refused}
            continue
        yield {"begin": number}
        yield {"row": number, "failed": failures(running, row, MODES[mode])}
    for number, name in enumerate(scenarios.SCENARIOS, start=len(rows)):
        if number >= first:
            yield {"begin": number}
            yield {"row": number} | run_scenario(peer, running, name, MODES[mode])
    yield {
        "end": True,
        "recorded": running.recorded(),
        "version": version(peer.distribution) if peer.distribution else "",
    }


def main() -> None:
    """Run what the arguments name."""
    name, mode, first = sys.argv[1:]
    # Peers may print: the lines go where nothing else does.
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    logging.disable()
    signal.signal(signal.SIGALRM, _too_long)
    attempts: list[str] = []
    refuse_network(attempts)
    peer = next(peer for peer in (*peers.CHECKED, peers.CONTROL) if peer.name == name)
    with use_real_event_loop():
        for line in lines(peer, mode, int(first)):
            out.write(json.dumps(line | {"network": attempts} if "end" in line else line) + "\n")
    # What threads of the peers still want to do is of no interest, and may take a minute.
    os._exit(0)


if __name__ == "__main__":
    main()
