"""Stubs: child nodes that are answered from their recorded outputs, instead of being called.

The function inside the node is exchanged, not a name in some module: however the caller got hold of the node, it gets
the recorded answer.
"""

from __future__ import annotations

import builtins
import inspect
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import GenericAlias
from typing import Any, Final, cast

from flowtrace.errors import RebuildError, ReplayError
from flowtrace.host.objects import class_attribute, mro
from flowtrace.replaying.call_again import Stage
from flowtrace.replaying.find_function import Resolver, Target
from flowtrace.replaying.load_script import NotFoundError
from flowtrace.trace.model import Hash, Step
from flowtrace.trace.payload_files import NotCapturedError, captured_output
from flowtrace.values.annotations import hints_of, shape
from flowtrace.values.rebuild import Rebuilder

_OUTPUT: Final = "/output_json"
_STREAMS: Final = frozenset({"Iterator", "Iterable", "Generator", "AsyncIterator", "AsyncIterable", "AsyncGenerator"})


class NoAnswerError(BaseException):
    """A stub has no recorded answer. No handler of the user's code should take it for an error of the node."""


@dataclass(slots=True)
class Answers:
    """What the calls of one node gave, in the order of the trace.

    Attributes:
        steps: the recorded calls that were not given yet.
        used: those that were.
    """

    steps: list[Step]
    used: list[Step] = field(default_factory=list)

    def take(self, input_hash: Hash) -> tuple[Step | None, bool]:
        """Return the call to answer with, and whether it was made with the same input.

        That of the same input comes first, then the next one in order; a repeated call gets the same answer again.
        """
        for steps in (self.steps, self.used):
            for step in steps:
                if _equal(step.input_hash, input_hash):
                    if steps is self.steps:
                        self._use(step)
                    return step, True
        if not self.steps:
            return None, False
        step = self.steps[0]
        self._use(step)
        return step, False

    def _use(self, step: Step) -> None:
        self.steps.remove(step)
        self.used.append(step)


def _equal(one: Hash, other: Hash) -> bool:
    return (one.algorithm, one.value) == (other.algorithm, other.value)


class Stubs:
    """The nodes of a trace that are answered from their recorded outputs.

    Args:
        patterns: ``COMPONENT``, ``COMPONENT.OPERATION`` or a node id.
        steps: all steps of the trace.
        resolver: finds their functions.
        rebuilder: makes values of their outputs.
        stage: where the calls are made.
        folder: where the payload files of the trace are; None where that is not known.

    Attributes:
        problems: why calls of stubs had no answer, whatever became of the error that said so.

    Raises:
        ReplayError: a pattern names no step of the trace.
    """

    def __init__(
        self,
        patterns: Iterable[str],
        steps: list[Step],
        resolver: Resolver,
        rebuilder: Rebuilder,
        stage: Stage,
        folder: str | None = None,
    ) -> None:
        self._folder = folder
        self._patterns = frozenset(patterns)
        self._resolver = resolver
        self._rebuilder = rebuilder
        self._stage = stage
        self.problems: list[str] = []
        self._by_parent: dict[str, list[Step]] = {}
        self._all = {_function(step): step for step in steps if step.code is not None and self._patterns & _names(step)}
        for step in steps:
            if step.parent_step_id is not None:
                self._by_parent.setdefault(step.parent_step_id, []).append(step)
        names = {name for step in steps for name in _names(step)}
        for pattern in sorted(self._patterns - names):
            raise ReplayError(f"no step of the trace is of {pattern!r}, which is to be a stub")

    @contextmanager
    def around(self, step: Step, notes: list[str]) -> Generator[None]:
        """Stub every node of the patterns while a step is replayed, whether or not it called that when it was recorded.

        The step's own call goes to its function, of course.

        Args:
            step: the recorded step.
            notes: gets what a reader should know of the answers.

        Raises:
            NoAnswerError: a child can't be found.
        """
        exchanged: list[tuple[Any, Any]] = []
        self.problems = []
        recorded = self._children(step)
        try:
            for function, example in self._all.items():
                target = self._target(example, needed=function in recorded)
                if target is None:
                    continue
                original = target.traced.__wrapped__
                stub = self._stub(target, Answers(recorded.get(function, [])), notes)
                exchanged.append((target.traced, original))
                target.traced.__wrapped__ = _after_first(original, stub) if function == _function(step) else stub
            yield
        finally:
            for traced, original in reversed(exchanged):
                traced.__wrapped__ = original

    def _children(self, step: Step) -> dict[tuple[str, str], list[Step]]:
        """Return the recorded calls below a step that are stubs, by function, in the order of the trace."""
        found: dict[tuple[str, str], list[Step]] = {}
        waiting, seen = [step.step_id], set[str | None]()
        while waiting:
            parent = waiting.pop()
            if parent is None or parent in seen:  # in a trace of bad intent a step may be below itself
                continue
            seen.add(parent)
            for child in self._by_parent.get(parent, ()):
                if _function(child) in self._all and self._patterns & _names(child):
                    found.setdefault(_function(child), []).append(child)
                else:
                    waiting.append(child.step_id)
        return found

    def _target(self, child: Step, *, needed: bool) -> Target | None:
        reason = ""
        for find in (self._resolver.loaded, self._resolver.target) if needed else (self._resolver.loaded,):
            try:
                return find(child.code)
            except NotFoundError as error:
                reason = str(error)
        if needed:
            raise NoAnswerError(f"the stub of {child.node_id} can't be put in place: {reason}")
        return None  # what is not loaded can't be called either

    def _stub(self, target: Target, answers: Answers, notes: list[str]) -> Callable[..., Any]:
        """Return a function that answers, of the same kind as the one that it stands for."""
        code = getattr(target.node.function, "__code__", None)
        flags = getattr(code, "co_flags", 0)
        name = target.node.node_id

        def answer() -> Any:
            return self._answer(target, answers, notes)

        if flags & inspect.CO_ASYNC_GENERATOR:
            return _async_generator_stub(answer)
        if flags & inspect.CO_COROUTINE:
            return _coroutine_stub(answer)
        if flags & inspect.CO_GENERATOR:
            return _generator_stub(answer)
        if flags & inspect.CO_ITERABLE_COROUTINE:
            raise NoAnswerError(f"{name} is a coroutine of an old kind, which can't be a stub")
        return _plain_stub(answer)

    def _answer(self, target: Target, answers: Answers, notes: list[str]) -> Any:
        name = target.node.node_id
        step, same = answers.take(self._stage.input_hash_here())
        if step is None:
            raise self._no_answer(f"the stub of {name} was called more often than was recorded")
        if not same:
            notes.append(f"the stub of {name} was called with another input than was recorded")
        if step.error is not None:
            raise _stand_in(step)
        return self._output(target, step)

    def _output(self, target: Target, step: Step) -> Any:
        unclear = [pointer for pointer in (*step.redacted, *step.opaque) if pointer.startswith(_OUTPUT)]
        try:
            content: Any = captured_output(step, self._folder)
        except NotCapturedError as error:
            raise self._no_answer(f"the stub of {step.node_id} has no answer: {error}") from error
        if unclear or not _is_captured(content):
            reason = (
                f"is not whole at {unclear[0].removeprefix(_OUTPUT) or 'its root'}" if unclear else "was not captured"
            )
            raise self._no_answer(f"the stub of {step.node_id} has no answer: the recorded output {reason}")
        hint = hints_of(inspect.unwrap(target.node.function)).get("return", Any) if target.node.function else Any
        try:
            if isinstance(content, dict) and content.get("$py") == "generator":
                return _rebuilt_stream(self._rebuilder, content, hint)
            return self._rebuilder.rebuild(content, hint)
        except RebuildError as error:
            raise self._no_answer(f"the stub of {step.node_id} has no answer: {error}") from error

    def _no_answer(self, reason: str) -> NoAnswerError:
        self.problems.append(reason)
        return NoAnswerError(reason)


def _function(step: Step) -> tuple[str, str]:
    return (step.code.module, step.code.qualname) if step.code is not None else ("", "")


def _after_first(original: Callable[..., Any], stub: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function whose first call is that of the replayed step itself."""
    calls = iter([original])
    return lambda *args, **kwargs: next(calls, stub)(*args, **kwargs)


def _is_captured(content: Any) -> bool:
    return content is None or isinstance(content, str | int | float | list | dict)


def _names(step: Step) -> frozenset[str]:
    return frozenset({step.component_id, f"{step.component_id}.{step.operation}", step.node_id})


def _rebuilt_stream(rebuilder: Rebuilder, content: dict[str, Any], hint: Any) -> tuple[list[Any], Any]:
    origin, arguments = shape(hint)
    streams = getattr(origin, "__name__", "") in _STREAMS
    item = arguments[0] if streams and arguments else Any
    last = arguments[2] if streams and len(arguments) == 3 else Any
    return rebuilder.rebuild(content["items"], GenericAlias(list, (item,))), rebuilder.rebuild(
        content.get("returned"), last
    )


# --- one stub for each kind of function, for that is what the node's wrapper expects


def _plain_stub(answer: Callable[[], Any]) -> Callable[..., Any]:
    return lambda *_args, **_kwargs: answer()


def _generator_stub(answer: Callable[[], Any]) -> Callable[..., Any]:
    def stub(*_args: Any, **_kwargs: Any) -> Generator[Any, Any, Any]:
        items, returned = answer()
        yield from items
        return returned

    return stub


def _coroutine_stub(answer: Callable[[], Any]) -> Callable[..., Any]:
    async def stub(*_args: Any, **_kwargs: Any) -> Any:
        return answer()

    return stub


def _async_generator_stub(answer: Callable[[], Any]) -> Callable[..., Any]:
    async def stub(*_args: Any, **_kwargs: Any) -> AsyncGenerator[Any]:
        items, _ = answer()
        for item in items:
            yield item

    return stub


# --- errors


def _stand_in(step: Step) -> BaseException:
    """Return an exception that is caught by who caught the recorded one, and reads the same.

    Its class derives from the recorded one where that is a built-in or loaded exception; of the recorded exception only
    the text is known, so that any other attribute is missing.
    """
    assert step.error is not None
    message = step.error.message
    details = step.error.details
    name = details.get("type") if isinstance(details, dict) else None
    module, _, qualname = name.rpartition(".") if isinstance(name, str) else ("", "", "Exception")
    base = _exception_class(module or "builtins", qualname)
    if not qualname.isidentifier():
        qualname = "Exception"
    body = {"__str__": lambda _: message, "__module__": module or "builtins", "__qualname__": qualname}
    cls = type.__new__(type, qualname, (base,), body)
    built_in = next(item for item in mro(base) if item.__module__ == "builtins")
    error: Any = built_in.__new__(cls, message)  # no code of the class runs
    return cast("BaseException", error)


def _exception_class(module: str, qualname: str) -> type[BaseException]:
    found = vars(builtins if module == "builtins" else sys.modules.get(module, object)).get(qualname)
    if type(found) is not type or BaseException not in mro(found) or BaseExceptionGroup in mro(found):
        return Exception
    # a class that does something when one is derived from it would do it for the trace
    is_quiet = class_attribute(found, "__init_subclass__") is vars(object)["__init_subclass__"]
    return found if is_quiet else Exception
