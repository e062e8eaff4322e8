"""Stubs: the child nodes of a replayed step, which return their recorded outputs instead of being called."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any

from flowtrace.errors import ReplayError
from flowtrace.instrument.proxies import call_instead, target_of
from flowtrace.replaying.call_again import ReplayRecorder
from flowtrace.replaying.find_function import Resolver, Target
from flowtrace.replaying.load_script import NotFoundError
from flowtrace.replaying.recorded_outputs import Answers, NoAnswerError, RecordedOutputs, standing_in
from flowtrace.trace.model import Step
from flowtrace.trace.outline import names_of
from flowtrace.values.rebuild import Rebuilder


class Stubs:
    """The nodes of a trace that are answered from their recorded outputs.

    Args:
        patterns: ``COMPONENT``, ``COMPONENT.OPERATION`` or a node id.
        steps: all steps of the trace.
        resolver: finds their functions.
        rebuilder: makes values of their outputs.
        recorder: records the calls.
        folder: the folder of the trace's payload files; None where that is not known.

    Attributes:
        problems: why calls of stubs had no answer, even if the user's code caught the error.

    Raises:
        ReplayError: a pattern names no step of the trace.
    """

    def __init__(
        self,
        patterns: Iterable[str],
        steps: list[Step],
        resolver: Resolver,
        rebuilder: Rebuilder,
        recorder: ReplayRecorder,
        folder: str | None = None,
    ) -> None:
        self._outputs = RecordedOutputs(resolver, rebuilder, folder)
        self._patterns = frozenset(patterns)
        self._resolver = resolver
        self._recorder = recorder
        self.problems: list[str] = []
        self._by_parent: dict[str, list[Step]] = {}
        self._stubbed = {_function_key(step): step for step in steps if step.code is not None and self._matches(step)}
        for step in steps:
            if step.parent_step_id is not None:
                self._by_parent.setdefault(step.parent_step_id, []).append(step)
        unused = self._patterns.difference(*map(names_of, steps))
        if unused:
            raise ReplayError(f"the stub {min(unused)!r} matches no step of the trace")

    @contextmanager
    def around(self, step: Step, notes: list[str]) -> Generator[None]:
        """Stub every node of the patterns in a ``with`` block that replays a step, even those it did not call before.

        The step's own call still goes to its function.

        Args:
            step: the recorded step.
            notes: remarks on the answers are added to it.

        Raises:
            NoAnswerError: a child can't be found.
        """
        exchanged: list[tuple[Any, Any]] = []
        self.problems = []
        recorded = self._children(step)
        try:
            for function, example in self._stubbed.items():
                target = self._target(example, needed=function in recorded)
                if target is None:
                    continue
                original = target_of(target.traced)
                stub = self._function_stub(target, Answers(recorded.get(function, [])), notes)
                exchanged.append((target.traced, original))
                call_instead(target.traced, _after_first(original, stub) if function == _function_key(step) else stub)
            yield
        finally:
            for traced, original in reversed(exchanged):
                call_instead(traced, original)

    def _children(self, step: Step) -> dict[tuple[str, str], list[Step]]:
        """Return the recorded calls below a step that stubs answer, by function, in the order of the trace."""
        found: dict[tuple[str, str], list[Step]] = {}
        waiting, seen = [step.step_id], set[str | None]()
        while waiting:
            parent = waiting.pop()
            if parent is None or parent in seen:  # a malicious trace may have a step below itself
                continue
            seen.add(parent)
            for child in self._by_parent.get(parent, ()):
                if _function_key(child) in self._stubbed and self._matches(child):
                    found.setdefault(_function_key(child), []).append(child)
                else:
                    waiting.append(child.step_id)
        return found

    def _matches(self, step: Step) -> bool:
        return not self._patterns.isdisjoint(names_of(step))

    def _target(self, child: Step, *, needed: bool) -> Target | None:
        reason = ""
        for find in (self._resolver.loaded, self._resolver.target) if needed else (self._resolver.loaded,):
            try:
                return find(child.code)
            except NotFoundError as error:
                reason = str(error)
        if needed:
            raise NoAnswerError(f"{child.node_id} can't be stubbed: {reason}")
        return None  # what is not loaded can't be called either

    def _function_stub(self, target: Target, answers: Answers, notes: list[str]) -> Callable[..., Any]:
        return standing_in(target, lambda _args, _kwargs: self._answer(target, answers, notes))

    def _answer(self, target: Target, answers: Answers, notes: list[str]) -> Any:
        name = target.node.node_id
        step, is_same = answers.answer_to(self._recorder.current_input_hash())
        if step is None:
            self.problems.append(f"the stub of {name} was called more often than was recorded")
            raise NoAnswerError(self.problems[-1])
        if not is_same:
            notes.append(f"the stub of {name} was called with another input than was recorded")
        try:
            return self._outputs.answer(target, step)
        except NoAnswerError as error:
            self.problems.append(f"the stub of {name} has no answer: {error}")
            raise


def _function_key(step: Step) -> tuple[str, str]:
    return (step.code.module, step.code.qualname) if step.code is not None else ("", "")


def _after_first(original: Callable[..., Any], stub: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function whose first call, that of the replayed step, goes to the original, and all others to a stub."""
    calls = iter([original])
    return lambda *args, **kwargs: next(calls, stub)(*args, **kwargs)
