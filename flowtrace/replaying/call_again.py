"""Calls a node again under a recorder that writes nothing; the rest of the process stays as it is."""

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
from flowtrace.recording.governor import Governor, Reading
from flowtrace.recording.node import Node, Policy
from flowtrace.recording.recorder import TraceRecorder
from flowtrace.recording.state import CURRENT, STATE
from flowtrace.recording.step import Step
from flowtrace.recording.step_records import json_or_cut
from flowtrace.recording.throttle import Throttle
from flowtrace.settings.config import TraceConfig, TraceContext, TraceMode, ValidationMode
from flowtrace.settings.variables import MIB
from flowtrace.trace.model import Hash, hash_record
from flowtrace.values.encoded import ALGORITHM, Encoded
from flowtrace.values.json import loads

MAX_ITEMS: Final = 1_000_000
"""A generator that yields more items counts as endless."""


class Rerun(NamedTuple):
    """The outcome of a call.

    Attributes:
        step: its step, as a recorder keeps it; None where it was not recorded.
        error: the exception that left it, or None.
        value: the returned value; the items of a generator.
        policy: the recorder's settings for redaction, and the key of its hashes.
    """

    step: Step | None
    error: BaseException | None
    value: Any
    policy: Policy

    def input_hash(self) -> Hash:
        """Return the hash of the call's input."""
        assert self.step is not None
        return _input_hash(self.step, self.policy)

    def output(self) -> Encoded | None:
        """Return the output in its canonical form; None where there is none."""
        assert self.step is not None
        if self.step.output is None:
            return None
        return call_values.canonical_output(self.step.node, self.step.output, self.policy)

    def shown(self, output: Encoded) -> Any:
        """Return an output as it stands in a trace."""
        found = json_or_cut(output, self.policy)
        return found if isinstance(found, dict) else loads(bytes(found))


def _input_hash(step: Step, policy: Policy) -> Hash:
    return hash_of(call_values.canonical_input(step.node, step.input, step.bound, policy))


def hash_of(encoded: Encoded) -> Hash:
    """Return the hash of a value as a trace has it."""
    return hash_record(encoded.digest)


def is_same_hash(one: Hash, other: Hash) -> bool:
    """Return True if two hashes are equal, whatever unknown fields a trace adds to them."""
    return (one.algorithm, one.value) == (other.algorithm, other.value)


class _OwnValues(Governor):
    """Leaves out the values of calls inside the replayed one: only stubs ask for them, and making forms takes long."""

    def begin(self, node: Node) -> Reading | None:
        """Return None where the value of a node is to be left out."""
        return None if self.leaves_out(node) else (0,)

    def leaves_out(self, node: Node) -> bool:
        """Return True if a value of this node would be that of an inner call."""
        step = CURRENT.get()
        return step is not None and not (isinstance(step, Step) and step.owns_run and step.node is node)

    def end(self, node: Node, begun: Reading) -> None:
        """Count nothing: what the values of the replayed call itself cost does not matter."""


class ReplayRecorder:
    """Calls nodes under a recorder that keeps their steps in memory and writes nothing.

    Args:
        config: how the steps are recorded.
        has_stubs: calls inside the replayed one are answered by their inputs, so that these are needed.
    """

    def __init__(self, config: TraceConfig, *, has_stubs: bool = False) -> None:
        self._keyed = Policy(config)
        self._unkeyed = Policy(config.changed({"hash_key": None}))
        if not has_stubs:
            self._keyed.governor = self._unkeyed.governor = _OwnValues(1)
        self.has_key = config.hash_key is not None
        self._recorder = TraceRecorder(config, TraceContext("replay", "replay"))
        self._recorder.is_process_wide = True
        self._recorder.is_off = False  # FLOWTRACE_DISABLED is about what is written, and nothing is

    def activate(self, algorithm: str = ALGORITHM) -> None:
        """Make this the process's recorder, even if the user's code has configured another one since.

        Args:
            algorithm: of the hashes of the next steps.
        """
        self._recorder.policy = self._unkeyed if algorithm == ALGORITHM else self._keyed
        if STATE.recorder is not self._recorder:
            process.restore_recorder(self._recorder)

    def call(self, node: Node, function: Callable[[], Any], algorithm: str, items: int | None) -> Rerun:
        """Call a node, run a generator or coroutine that it returns to its end, and return the outcome.

        Args:
            node: the node.
            function: calls it.
            algorithm: of the hashes of its steps.
            items: how many items to take from a generator before it is closed; None runs it to its end.

        Raises:
            KeyboardInterrupt: the user pressed Ctrl-C.
        """
        self.activate(algorithm)
        self._recorder.buffer.clear()
        error = value = None
        try:
            value = copy_context().run(_run_to_end, function, code_flags(node.function), items)
        except KeyboardInterrupt:
            raise
        except BaseException as caught:  # SystemExit and CancelledError are outcomes of a function, too
            error = caught
        steps, _ = self._recorder.buffer.contents()
        own = (step for step in reversed(steps) if step.node is node and step.owns_run)
        return Rerun(next(own, None), error, value, self._recorder.policy)

    def current_input_hash(self) -> Hash:
        """Return the hash of the input of the node that is running."""
        step = CURRENT.get()
        assert isinstance(step, Step)  # the node's own
        return _input_hash(step, self._recorder.policy)


@contextmanager
def replay_recorder(config: TraceConfig, *, has_stubs: bool = False) -> Generator[ReplayRecorder]:
    """Record with a `ReplayRecorder` in a ``with`` block; afterwards restore the recorder from before.

    In the block, no recorder of this process writes anything.

    Args:
        config: what to redact, and the key of hashes; everything else is set here.
        has_stubs: calls inside the replayed ones are answered from what was recorded.
    """
    STATE.throttle.write_all()
    before = STATE.recorder, STATE.throttle, STATE.reported, STATE.ended_runs
    running = set(STATE.in_flight)
    MUTED.append("replay")
    STATE.throttle = Throttle()
    try:
        recorder = ReplayRecorder(
            config.changed(
                {
                    "mode": TraceMode.ON,
                    "buffer_size": 1000,
                    "buffer_bytes": 1024 * MIB,
                    "max_value_bytes": 64 * MIB,
                    "max_overhead": 0,
                    "capture_inputs": False,
                    "capture_outputs": True,
                    "validation": ValidationMode.OFF,
                }
            ),
            has_stubs=has_stubs,
        )
        recorder.activate()
        yield recorder
    finally:
        recorder_before, STATE.throttle, STATE.reported, STATE.ended_runs = before
        process.restore_recorder(recorder_before)
        for number in set(STATE.in_flight) - running:
            STATE.in_flight.pop(number, None)
        MUTED.pop()


def code_flags(function: Any) -> int:
    """Return the flags of a function's code (`inspect.CO_COROUTINE` and so on); 0 where it has no code."""
    while isinstance(function, partial):
        function = function.func
    flags: int = getattr(getattr(function, "__code__", None), "co_flags", 0)
    return flags


def _run_to_end(function: Callable[[], Any], flags: int, items: int | None) -> Any:
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
    """Run a coroutine to its end, in a thread of its own if this one has an event loop already."""
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
