"""Processes that measure, and take turns at it: the parent tells one at a time to go, and adds nothing up itself."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ASK_SECONDS = 600
_PEERS = ("DD_", "LANGFUSE_", "LANGSMITH_", "LOGFIRE_", "MLFLOW_", "OTEL_", "SENTRY_")
_KEPT_OUT = ("FLOWTRACE_", "GIT_SHA", "GITHUB_SHA", "PYTHON", *_PEERS)


def clean_environment() -> dict[str, str]:
    """Return the environment without what would steer flowtrace, a peer or the interpreter."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_KEPT_OUT)}


class Worker:
    """A fresh process that has set something up, and measures it when it is asked to.

    Args:
        setup: a function of `subjects` or another module, as ``module:function``.
        folder: its working directory.
        options: what the function takes.
    """

    def __init__(self, setup: str, folder: Path, **options: Any) -> None:
        self.name = f"{setup} {options}"
        self._noise = folder / f"noise-{os.urandom(4).hex()}.txt"
        command = [sys.executable, str(HERE / "bench_worker.py"), setup, json.dumps(options)]
        with self._noise.open("w") as noise:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env=clean_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=noise,
                text=True,
                bufsize=1,
            )
        self.slots: list[str] = self._answer()["slots"]

    def ask(self, **request: Any) -> dict[str, Any]:
        """Return its answer to a request."""
        self._process.stdin.write(json.dumps(request) + "\n")
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        limit = threading.Timer(ASK_SECONDS, self._process.kill)
        limit.start()
        line = self._process.stdout.readline()
        limit.cancel()
        if not line:
            raise SystemExit(f"{self.name} ended:\n{self._noise.read_text()[-3000:]}")
        return json.loads(line)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        """End it; first hear whether its setup did what it was to do."""
        try:
            self._process.stdin.close()
            self._process.wait(60)
        finally:
            self._process.kill()
            self._process.wait()
        if self._process.returncode:
            raise SystemExit(f"{self.name} ended badly:\n{self._noise.read_text()[-3000:]}")


@dataclass(frozen=True)
class Contender:
    """A slot of a worker."""

    worker: Worker
    slot: str

    def times_for(self, nanoseconds: float) -> int:
        """Return how many times it has to run to take so long; it is warm afterwards."""
        times = 1
        while (elapsed := self.worker.ask(slot=self.slot, times=times)["elapsed"]) < nanoseconds / 4:
            times *= 2
        # Once more: the first calls of all may have loaded something.
        elapsed = min(elapsed, self.worker.ask(slot=self.slot, times=times)["elapsed"])
        return max(1, round(times * nanoseconds / elapsed))

    def go(self, times: int) -> float:
        """Run it, and return the time of one call in ns."""
        return self.worker.ask(slot=self.slot, times=times)["each"]


def take_turns(
    contenders: Mapping[str, Contender], rounds: int, milliseconds: float, *, seed: int = 0
) -> dict[str, list[float]]:
    """Measure in rounds: each contender once a round, in an order that changes from round to round.

    Args:
        contenders: what is measured, by name.
        rounds: how many rounds.
        milliseconds: about how long each runs in a round.
        seed: of the orders.

    Returns:
        The time of one call in ns, round by round, for each contender.
    """
    times = {name: contender.times_for(milliseconds * 1e6) for name, contender in contenders.items()}
    found: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    shuffle = random.Random(seed).shuffle
    for _ in range(rounds):
        shuffle(order)
        for name in order:
            found[name].append(contenders[name].go(times[name]))
    return found


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        quick: only the central rows, with fewer rounds.
        folder: where workers live and write; on the disk whose speed is measured.
    """

    quick: bool
    folder: Path

    @property
    def generations(self) -> int:
        """How often the processes are made anew: their layout in memory differs, and with it their speed."""
        return 3 if self.quick else 7

    @property
    def rounds(self) -> int:
        """How many rounds each generation takes."""
        return 12 if self.quick else 25

    @property
    def milliseconds(self) -> float:
        """About how long a contender runs in a round."""
        return 2.0 if self.quick else 4.0

    def worker(self, setup: str, **options: Any) -> Worker:
        """Start a worker."""
        return Worker(setup, self.folder, **options)

    def race(
        self,
        workers: Mapping[str, tuple[str, dict[str, Any]]],
        groups: Mapping[str, Mapping[str, tuple[str, str]]],
        *,
        generations: int = 0,
        rounds: int = 0,
        milliseconds: float = 0,
    ) -> dict[str, dict[str, list[float]]]:
        """Let groups of contenders take turns, in generation after generation of fresh workers.

        Args:
            workers: setup and options of each worker, by name.
            groups: for each group its contenders: worker and slot, by name.
            generations: how many; 0 for the usual number, as for the other two.
            rounds: how many in each generation.
            milliseconds: about how long each contender runs in a round.

        Returns:
            For each group the time of one call in ns, round by round over all generations, for each contender.
        """
        found: dict[str, dict[str, list[float]]] = {
            group: {name: [] for name in contenders} for group, contenders in groups.items()
        }
        for generation in range(generations or self.generations):
            with ExitStack() as stack:
                running = {
                    name: stack.enter_context(self.worker(setup, **options))
                    for name, (setup, options) in workers.items()
                }
                for group, members in groups.items():
                    contenders = {name: Contender(running[worker], slot) for name, (worker, slot) in members.items()}
                    turns = take_turns(
                        contenders, rounds or self.rounds, milliseconds or self.milliseconds, seed=generation
                    )
                    for name, samples in turns.items():
                        found[group][name] += samples
        return found

    def once(self, setup: str, **options: Any) -> dict[str, Any]:
        """Let a fresh process do a thing once, and return what it tells."""
        with self.worker(setup, **options) as worker:
            return worker.ask(slot="once", times=1)
