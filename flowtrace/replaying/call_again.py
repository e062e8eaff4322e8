"""Calling a node again, watched by a recorder that writes nothing; the rest of the process stays as it is."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Generator
from contextlib import aclosing, contextmanager
from contextvars import copy_context
from functools import partial
from itertools import islice
from threading import Thread
from typing import Any, Final, NamedTuple

from flowtrace.host.switch import MUTED
from flowtrace.recording import call_values, process
from flowtrace.recording.node import Node, Policy
from flowtrace.recording.process import STATE
from flowtrace.recording.recorder import TraceRecorder
from flowtrace.recording.step import CURRENT, LIVE, Step
from flowtrace.recording.throttle import Throttle
from flowtrace.recording.to_records import shown
from flowtrace.settings.config import TraceConfig, TraceContext, TraceMode, ValidationMode
from flowtrace.settings.variables import MIB
from flowtrace.trace.model import Hash
from flowtrace.values.digest import ALGORITHM
from flowtrace.values.encoded import Encoded

MAX_ITEMS: Final = 1_000_000
"""Items after which a generator counts as one that never ends."""


class Rerun(NamedTuple):
    """What came of a call.

    Attributes:
        step: its step, as a recorder keeps it; None where it was not recorded.
        error: the exception that left it, or None.
        value: what came back; the items of a generator.
        policy: what was redacted, and the key of the hashes.
    """

    step: Step | None
    error: BaseException | None
    value: Any
    policy: Policy

    def input_hash(self) -> Hash:
        """Return the hash of what the node was called with."""
        assert self.step is not None
        return hash_of(input_of(self.step, self.policy))

    def output(self) -> Encoded | None:
        """Return what came back, in its final form; None where nothing did."""
        assert self.step is not None
        if self.step.output is None:
            return None
        return call_values.final_output(self.step.node, self.step.output, self.policy)

    def shown(self, output: Encoded) -> Any:
        """Return an output as it stands in a trace."""
        return shown(output, self.policy)


def input_of(step: Step, policy: Policy) -> Encoded:
    """Return what a step's function was called with, in its final form."""
    return call_values.final_input(step.node, step.input, step.bound, policy)


def hash_of(encoded: Encoded) -> Hash:
    """Return the hash of a value as a trace has it."""
    return Hash(algorithm=encoded.digest.algorithm, value=encoded.digest.value)


class Stage:
    """Where calls are made again.

    Args:
        config: how their steps are recorded.
    """

    def __init__(self, config: TraceConfig) -> None:
        self._keyed = Policy(config)
        self._plain = Policy(config.changed({"hash_key": None}))
        self.has_key = config.hash_key is not None
        self._recorder = TraceRecorder(config, TraceContext("replay", "replay"))
        self._recorder.is_process_wide = True
        self._recorder.is_off = False  # the kill switch is about what is written, and nothing is

    def take_over(self, algorithm: str = ALGORITHM) -> None:
        """Put this recorder in force; the user's code may have configured another one.

        Args:
            algorithm: of the hashes that its steps are to have.
        """
        self._recorder.policy = self._plain if algorithm == ALGORITHM else self._keyed
        if STATE.recorder is not self._recorder:
            process.put_back(self._recorder)

    def call(self, node: Node, function: Callable[[], Any], algorithm: str, items: int | None) -> Rerun:
        """Call a node, drive what it returns to its end, and tell what happened.

        Args:
            node: the node.
            function: calls it.
            algorithm: of the hashes that its steps are to have.
            items: how many items to take from a generator before it is closed; None runs it to its end.

        Raises:
            KeyboardInterrupt: somebody wants this to end.
        """
        self.take_over(algorithm)
        self._recorder.buffer.clear()
        error = value = None
        try:
            value = copy_context().run(_drive, function, _flags(node), items)
        except KeyboardInterrupt:
            raise
        except BaseException as caught:  # SystemExit and CancelledError are what a function did, too
            error = caught
        steps, _ = self._recorder.buffer.contents()
        mine = (step for step in reversed(steps) if step.node is node and step.owns_run)
        return Rerun(next(mine, None), error, value, self._recorder.policy)

    def input_hash_here(self) -> Hash:
        """Return the hash of what the node that runs here was called with."""
        return hash_of(input_of(CURRENT.get(), self._recorder.policy))


@contextmanager
def stage(config: TraceConfig) -> Generator[Stage]:
    """Set a stage for the length of a ``with`` block; afterwards the recorder is the one that it was.

    Meanwhile no recorder of this process writes anything.

    Args:
        config: what to redact, and the key of hashes; everything else is set here.
    """
    STATE.throttle.write_all()
    before = STATE.recorder, STATE.throttle, STATE.outermost_calls, STATE.last_run, STATE.reported
    running = set(LIVE)
    MUTED.append("replay")
    STATE.throttle = Throttle()
    try:
        made = Stage(
            config.changed(
                {
                    "mode": TraceMode.ON,
                    "buffer_size": 1000,
                    "buffer_bytes": 1024 * MIB,
                    "max_value_bytes": 64 * MIB,
                    "capture_inputs": False,
                    "capture_outputs": True,
                    "validation": ValidationMode.OFF,
                }
            )
        )
        made.take_over()
        yield made
    finally:
        process.put_back(before[0])
        _, STATE.throttle, STATE.outermost_calls, STATE.last_run, STATE.reported = before
        for number in set(LIVE) - running:
            LIVE.pop(number, None)
        MUTED.pop()


def _flags(node: Node) -> int:
    function: Any = node.function
    while isinstance(function, partial):
        function = function.func
    code = getattr(function, "__code__", None)
    flags: int = getattr(code, "co_flags", 0)
    return flags


def _drive(function: Callable[[], Any], flags: int, items: int | None) -> Any:
    CURRENT.set(None)
    if flags & inspect.CO_ASYNC_GENERATOR:
        return _run_async(partial(_drain_async, function, items))
    if flags & (inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE):
        return _run_async(partial(_await, function))
    return _drain(function(), items) if flags & inspect.CO_GENERATOR else function()


def _drain(generator: Any, items: int | None) -> list[Any]:
    found = list(islice(generator, MAX_ITEMS if items is None else items))
    if items is not None:
        generator.close()
    return found


async def _drain_async(function: Callable[[], Any], items: int | None) -> list[Any]:
    found: list[Any] = []
    async with aclosing(function()) as generator:
        while len(found) < (MAX_ITEMS if items is None else items):
            try:
                found.append(await anext(generator))
            except StopAsyncIteration:
                break
    return found


async def _await(function: Callable[[], Any]) -> Any:
    return await function()


def _run_async(main: Callable[[], Any]) -> Any:
    """Run a coroutine to its end: in a thread of its own where this one has an event loop already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(main())
    returned: list[Any] = []
    raised: list[BaseException] = []

    def work() -> None:
        try:
            returned.append(asyncio.run(main()))
        except BaseException as error:
            raised.append(error)

    thread = Thread(target=copy_context().run, args=(work,), name="flowtrace replay")
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
    return returned[0]
