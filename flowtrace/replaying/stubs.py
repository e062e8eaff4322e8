"""Stubs: child nodes that return their recorded outputs instead of being called.

The function inside the node is exchanged, not a name in a module: the caller gets the recorded answer, however it
refers to the node.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import GenericAlias
from typing import Any, Final, cast

from flowtrace.errors import RebuildError, ReplayError
from flowtrace.host.objects import MISSING, class_attribute, mro
from flowtrace.replaying.call_again import ReplayRecorder, code_flags, is_same_hash
from flowtrace.replaying.find_function import Resolver, Target, exception_named
from flowtrace.replaying.load_script import NotFoundError
from flowtrace.replaying.report import error_type
from flowtrace.trace.model import OUTPUT, Hash, Step
from flowtrace.trace.payload_files import NotCapturedError, captured_output
from flowtrace.values.annotations import hints_of, shape
from flowtrace.values.rebuild import Rebuilder

_GENERATOR_TYPES: Final = frozenset(
    {"Iterator", "Iterable", "Generator", "AsyncIterator", "AsyncIterable", "AsyncGenerator"}
)


class NoAnswerError(BaseException):
    """A stub has no recorded answer. Not an Exception, so that the user's code does not handle it as the node's."""


@dataclass(slots=True)
class Answers:
    """The recorded calls of one node, in the order of the trace.

    Attributes:
        steps: the calls that were not given as an answer yet.
        used: the calls that were.
    """

    steps: list[Step]
    used: list[Step] = field(default_factory=list)

    def answer_to(self, input_hash: Hash) -> tuple[Step | None, bool]:
        """Return the recorded call to answer with, and whether it had the same input.

        A call with the same input comes first, then the next one in order; a repeated call gets the same answer again.
        """
        step = next((step for step in (*self.steps, *self.used) if is_same_hash(step.input_hash, input_hash)), None)
        is_same = step is not None
        if step is None and self.steps:
            step = self.steps[0]
        if step is not None and not any(step is used for used in self.used):
            self.used.append(step)
            self.steps = [other for other in self.steps if other is not step]
        return step, is_same


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
        self._folder = folder
        self._patterns = frozenset(patterns)
        self._resolver = resolver
        self._rebuilder = rebuilder
        self._recorder = recorder
        self.problems: list[str] = []
        self._by_parent: dict[str, list[Step]] = {}
        self._stubbed = {_function_key(step): step for step in steps if step.code is not None and self._matches(step)}
        for step in steps:
            if step.parent_step_id is not None:
                self._by_parent.setdefault(step.parent_step_id, []).append(step)
        unused = self._patterns.difference(*map(_names, steps))
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
                original = target.traced.__wrapped__
                stub = self._function_stub(target, Answers(recorded.get(function, [])), notes)
                exchanged.append((target.traced, original))
                target.traced.__wrapped__ = _after_first(original, stub) if function == _function_key(step) else stub
            yield
        finally:
            for traced, original in reversed(exchanged):
                traced.__wrapped__ = original

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
        return not self._patterns.isdisjoint(_names(step))

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
        """Return a function that answers, of the kind that the node's wrapper expects."""
        flags = code_flags(target.node.function)

        def plain(*_args: Any, **_kwargs: Any) -> Any:
            return self._answer(target, answers, notes)

        def generator(*_args: Any, **_kwargs: Any) -> Generator[Any, Any, Any]:
            items, returned = plain()
            yield from items
            return returned

        async def coroutine(*_args: Any, **_kwargs: Any) -> Any:
            return plain()

        async def async_generator(*_args: Any, **_kwargs: Any) -> AsyncGenerator[Any]:
            items, _ = plain()
            for item in items:
                yield item

        if flags & inspect.CO_ASYNC_GENERATOR:
            return async_generator
        if flags & inspect.CO_COROUTINE:
            return coroutine
        if flags & inspect.CO_GENERATOR:
            return generator
        if flags & inspect.CO_ITERABLE_COROUTINE:
            raise NoAnswerError(f"{target.node.node_id} is decorated with types.coroutine, and can't be stubbed")
        return plain

    def _answer(self, target: Target, answers: Answers, notes: list[str]) -> Any:
        name = target.node.node_id
        step, is_same = answers.answer_to(self._recorder.current_input_hash())
        if step is None:
            raise self._no_answer(f"the stub of {name} was called more often than was recorded")
        if not is_same:
            notes.append(f"the stub of {name} was called with another input than was recorded")
        if step.error is not None:
            raise _recorded_error(step)
        return self._output(target, step)

    def _output(self, target: Target, step: Step) -> Any:
        missing = [pointer for pointer in (*step.redacted, *step.opaque) if pointer.startswith(OUTPUT)]
        try:
            content: Any = captured_output(step, self._folder)
        except NotCapturedError as error:
            raise self._no_answer(f"the stub of {step.node_id} has no answer: {error}") from error
        if missing:
            pointer = missing[0].removeprefix(OUTPUT) or "its root"
            raise self._no_answer(
                f"the stub of {step.node_id} has no answer: the recorded output is incomplete at {pointer}"
            )
        if not (content is None or isinstance(content, str | int | float | list | dict)):
            raise self._no_answer(f"the stub of {step.node_id} has no answer: the recorded output was not captured")
        hint = hints_of(inspect.unwrap(target.node.function)).get("return", Any) if target.node.function else Any
        self._resolver.own_module = target.module
        try:
            if isinstance(content, dict) and content.get("$py") == "generator":
                return self._generator_items(content, hint)
            return self._rebuilder.rebuild(content, hint)
        except RebuildError as error:
            raise self._no_answer(f"the stub of {step.node_id} has no answer: {error}") from error

    def _generator_items(self, content: dict[str, Any], hint: Any) -> tuple[list[Any], Any]:
        """Return the recorded items of a generator, and its return value."""
        origin, arguments = shape(hint)
        is_typed = getattr(origin, "__name__", "") in _GENERATOR_TYPES and arguments
        items = self._rebuilder.rebuild(content["items"], GenericAlias(list, (arguments[0] if is_typed else Any,)))
        returned = arguments[2] if is_typed and len(arguments) == 3 else Any
        return items, self._rebuilder.rebuild(content.get("returned"), returned)

    def _no_answer(self, reason: str) -> NoAnswerError:
        self.problems.append(reason)
        return NoAnswerError(reason)


def _function_key(step: Step) -> tuple[str, str]:
    return (step.code.module, step.code.qualname) if step.code is not None else ("", "")


def _after_first(original: Callable[..., Any], stub: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function whose first call, that of the replayed step, goes to the original, and all others to a stub."""
    calls = iter([original])
    return lambda *args, **kwargs: next(calls, stub)(*args, **kwargs)


def _names(step: Step) -> frozenset[str]:
    return frozenset({step.component_id, f"{step.component_id}.{step.operation}", step.node_id})


def _recorded_error(step: Step) -> BaseException:
    """Return an exception that the same handlers catch as the recorded one, with the same text.

    Its class derives from the recorded one where that is a built-in or loaded exception. Of the recorded exception only
    the text is known, so that any other attribute is missing.
    """
    assert step.error is not None
    message = step.error.message
    name = error_type(step.error) or "Exception"
    module, _, qualname = name.rpartition(".")
    qualname = qualname if qualname.isidentifier() else "Exception"
    body = {"__str__": lambda _: message, "__module__": module or "builtins", "__qualname__": qualname}
    base = _base_class(name)
    cls = type.__new__(type, qualname, (base,), body)
    built_in = next(item for item in mro(base) if item.__module__ == "builtins")
    error: Any = built_in.__new__(cls, message)  # no code of the class runs
    return cast("BaseException", error)


def _base_class(name: str) -> type[BaseException]:
    found = exception_named(name)
    if found is None or type(found) is not type or BaseExceptionGroup in mro(found):
        return Exception
    # a class whose __init_subclass__ does something would do it for the trace
    is_quiet = class_attribute(found, "__init_subclass__") is vars(object)["__init_subclass__"]
    is_quiet &= class_attribute(found, "__del__") is MISSING
    return found if is_quiet else Exception
