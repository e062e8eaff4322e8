"""`recorded`: a node is answered from the outputs of a trace in a ``with`` block, instead of being called."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial, wraps
from types import TracebackType
from typing import Any, Final, TypeVar, cast

from flowtrace.comparing.json_changes import Change, changes
from flowtrace.errors import NotRecordedError, ReplayError
from flowtrace.instrument.proxies import call_instead, target_of
from flowtrace.recording.call_values import encode_call
from flowtrace.recording.node import Policy
from flowtrace.recording.step_records import json_or_cut
from flowtrace.replaying.call_again import hash_of
from flowtrace.replaying.find_function import Resolver, Target
from flowtrace.replaying.load_script import NotFoundError
from flowtrace.replaying.recorded_outputs import Answers, NoAnswerError, RecordedOutputs, standing_in
from flowtrace.replaying.replay import settings_for
from flowtrace.trace.model import Step, Trace
from flowtrace.trace.outline import names_of
from flowtrace.trace.payload_files import NotCapturedError, captured_array, captured_input
from flowtrace.trace.reading import load_trace
from flowtrace.values.encoded import ALGORITHM, Encoded
from flowtrace.values.json import loads
from flowtrace.values.rebuild import Rebuilder
from flowtrace.values.shown import short_text

F = TypeVar("F", bound="Callable[..., Any]")
_MOST_CHANGES: Final = 5
_WIDTH: Final = 200


class recorded:  # noqa: N801  # context managers and decorators have lower case names
    """Answer a node from its recorded outputs: a context manager and a decorator.

    In the block, the node is not called. A call with a recorded input gets the output of that call, or its error; where
    there are several with this input, each in turn, and then the first one again. Any other call fails. The node is
    exchanged for the whole process, as with `unittest.mock.patch`; tracing may be on or off.

    Args:
        trace: a trace with captured outputs, or its file. The inputs are compared by their hashes; where they were
            captured, too, the error of an unknown one shows the nearest.
        node: ``COMPONENT``, ``COMPONENT.OPERATION`` or a node id.
        imports: names of modules outside the working folder that may be imported, and whose classes may be used.
        working_folder: modules under it may be imported to find the node; loaded ones are found anywhere.
        payloads: the folder that the trace's payload files are relative to; None means the folder of its file.

    Raises:
        TraceFileError: the file is not a version 1 trace.
        ReplayError: no step of the trace is of this node, or its function can't be found or answered for.
        NotRecordedError: in the block, from the node: there is no recorded call with this input. Where the code under
            test has handled that, it is raised again at the end of the block.
        OSError: the trace can't be read.
    """

    def __init__(
        self,
        trace: Trace | str | os.PathLike[str],
        node: str,
        *,
        imports: Iterable[str] = (),
        working_folder: str | os.PathLike[str] = ".",
        payloads: str | os.PathLike[str] | None = None,
    ) -> None:
        self._given = trace
        self._node = node
        self._imports = tuple(imports)
        self._working_folder = working_folder
        self._payloads = payloads
        self._entered: list[tuple[ExitStack, _Cassette]] = []

    def __enter__(self) -> recorded:
        name = "the trace" if isinstance(self._given, Trace) else os.fspath(self._given)
        trace = self._given if isinstance(self._given, Trace) else load_trace(self._given)
        folder = None if self._payloads is None else os.fspath(self._payloads)
        if folder is None and not isinstance(self._given, Trace):
            folder = os.path.dirname(os.path.abspath(name))
        resolver = Resolver(self._working_folder, self._imports)
        cassette = _Cassette(name, trace, self._node, folder, resolver)
        with ExitStack() as stack:
            with resolver.working_folder_on_path():
                found = cassette.functions()
            for target, steps in found:
                original = target_of(target.traced)
                call_instead(target.traced, cassette.stand_in(target, Answers(steps)))
                stack.callback(call_instead, target.traced, original)
            self._entered.append((stack.pop_all(), cassette))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        stack, cassette = self._entered.pop()
        stack.close()
        if cassette.problems and error is None:
            raise cassette.problems[0]

    def __call__(self, function: F, /) -> F:
        """Decorate a function: the node is answered while it runs. A coroutine function is awaited inside."""
        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def awaited(*args: Any, **kwargs: Any) -> Any:
                with self:
                    return await function(*args, **kwargs)

            return cast("F", awaited)

        @wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return cast("F", called)


class _Cassette:
    """The recorded calls of a node.

    Args:
        name: of the trace, for errors.
        trace: the trace.
        node: the node, as `recorded` takes it.
        folder: of the payload files.
        resolver: finds functions and classes.

    Attributes:
        problems: the calls that had no answer.
    """

    def __init__(self, name: str, trace: Trace, node: str, folder: str | None, resolver: Resolver) -> None:
        self.problems: list[NotRecordedError] = []
        self._name = name
        self._node = node
        self._steps = trace.steps
        self._folder = folder
        self._resolver = resolver
        config = settings_for(trace).changed({"capture_inputs": True, "max_overhead": 0})
        self._has_key = config.hash_key is not None
        self._keyed, self._unkeyed = Policy(config), Policy(config.changed({"hash_key": None}))
        arrays = {digest: path for step in trace.steps for digest, path in step.arrays.items()}
        rebuilder = Rebuilder(resolver.class_named, partial(captured_array, arrays, folder))
        self._outputs = RecordedOutputs(resolver, rebuilder, folder)

    def functions(self) -> list[tuple[Target, list[Step]]]:
        """Return the functions of the node, with their recorded calls.

        Raises:
            ReplayError: there is none, or it can't be found.
        """
        found: dict[int, tuple[Target, list[Step]]] = {}
        for step in self._steps:
            if self._node in names_of(step) and step.code is not None:
                target = self._target(step)
                found.setdefault(id(target.traced), (target, []))[1].append(step)
        if not found:
            there = sorted({step.node_id for step in self._steps})
            raise ReplayError(f"no step of {self._name} is of {self._node!r}; it has {', '.join(there) or 'no steps'}")
        return list(found.values())

    def stand_in(self, target: Target, answers: Answers) -> Callable[..., Any]:
        """Return the function that answers for one of them."""
        try:
            return standing_in(target, partial(self._answer, target, answers))
        except NoAnswerError as error:
            raise ReplayError(str(error)) from None

    def _target(self, step: Step) -> Target:
        try:
            return self._resolver.loaded(step.code)
        except NotFoundError:
            pass
        try:
            return self._resolver.target(step.code)
        except NotFoundError as error:
            raise ReplayError(f"{step.node_id} can't be answered for: {error}") from None

    def _answer(self, target: Target, answers: Answers, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        calls = (*answers.steps, *answers.used)
        is_keyed = calls[0].input_hash.algorithm != ALGORITHM
        if is_keyed and not self._has_key:
            raise self._problem(f"the hashes of {self._name} are keyed: set FLOWTRACE_HASH_KEY to compare inputs")
        policy = self._keyed if is_keyed else self._unkeyed
        given = encode_call(target.node, args, kwargs, False, policy)
        step = answers.same(hash_of(given))
        if step is None:
            raise self._problem(self._unknown(target, given, policy, calls))
        try:
            return self._outputs.answer(target, step)
        except NoAnswerError as error:
            number = self._steps.index(step)
            raise self._problem(f"step {number} of {self._name}, {step.node_id}, is no answer: {error}") from None

    def _problem(self, text: str) -> NotRecordedError:
        self.problems.append(NotRecordedError(text))
        return self.problems[-1]

    # --- what an unknown input is compared with

    def _unknown(self, target: Target, given: Encoded, policy: Policy, calls: tuple[Step, ...]) -> str:
        content = json_or_cut(given, policy)
        payload = content if isinstance(content, dict) else loads(bytes(content))
        first = f"{target.node.node_id} was called with an input that is not in {self._name}: {_short(payload)}"
        nearest = [found for step in calls if (found := self._compared(step, payload)) is not None]
        if not nearest:
            return f"{first}\nnone of the inputs of its {len(calls)} recorded calls was captured"
        count, number, differences = min(nearest, key=lambda found: found[:2])
        lines = [f"  {_change(change)}" for change in differences]
        more = [f"  and {count - len(lines)} more"] if count > len(lines) else []
        return "\n".join([first, f"the nearest recorded input is that of step {number}:", *lines, *more])

    def _compared(self, step: Step, payload: Any) -> tuple[int, int, list[Change]] | None:
        try:
            differences, more = changes(captured_input(step, self._folder), payload, _MOST_CHANGES)
        except NotCapturedError:
            return None
        return len(differences) + more, self._steps.index(step), differences


def _change(change: Change) -> str:
    a, b = change.sides(_short)
    return f"{change.pointer or '(complete value)'}: recorded {a}, called with {b}"


def _short(value: Any) -> str:
    return short_text(value, _WIDTH)
