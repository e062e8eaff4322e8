"""Recorded outputs and errors, with which a node is answered instead of being called.

The function inside the node is exchanged, not a name in a module: the caller gets the recorded answer, however it
refers to the node.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from dataclasses import dataclass, field
from types import GenericAlias
from typing import Any, Final, cast

from flowtrace.errors import RebuildError
from flowtrace.host.objects import MISSING, class_attribute, mro
from flowtrace.replaying.call_again import code_flags, is_same_hash
from flowtrace.replaying.find_function import Resolver, Target, exception_named
from flowtrace.replaying.report import error_type
from flowtrace.trace.model import OUTPUT, Hash, Step
from flowtrace.trace.payload_files import NotCapturedError, captured_output
from flowtrace.values.annotations import hints_of, shape
from flowtrace.values.rebuild import Rebuilder

_GENERATOR_TYPES: Final = frozenset(
    {"Iterator", "Iterable", "Generator", "AsyncIterator", "AsyncIterable", "AsyncGenerator"}
)
Answer = Callable[[tuple[Any, ...], dict[str, Any]], Any]
"""Takes the arguments of a call, and returns its answer; for a generator, the items and what it returned."""


class NoAnswerError(BaseException):
    """There is no recorded answer. Not an Exception, so that the user's code does not handle it as the node's."""


@dataclass(slots=True)
class Answers:
    """The recorded calls of one node, in the order of the trace.

    Attributes:
        steps: the calls that were not given as an answer yet.
        used: the calls that were.
    """

    steps: list[Step]
    used: list[Step] = field(default_factory=list)

    def same(self, input_hash: Hash) -> Step | None:
        """Return a recorded call with this input: the next one, or where all were given, the first one again."""
        step = next((step for step in (*self.steps, *self.used) if is_same_hash(step.input_hash, input_hash)), None)
        return None if step is None else self._given(step)

    def answer_to(self, input_hash: Hash) -> tuple[Step | None, bool]:
        """Return the recorded call to answer with, and whether it had the same input.

        A call with the same input comes first, then the next one in order; a repeated call gets the same answer again.
        """
        step = self.same(input_hash)
        if step is not None:
            return step, True
        return (self._given(self.steps[0]), False) if self.steps else (None, False)

    def _given(self, step: Step) -> Step:
        if not any(step is used for used in self.used):
            self.used.append(step)
            self.steps = [other for other in self.steps if other is not step]
        return step


def standing_in(target: Target, answer: Answer) -> Callable[..., Any]:
    """Return a function that answers calls, of the kind that the node's wrapper expects.

    Raises:
        NoAnswerError: it can't be of that kind.
    """
    flags = code_flags(target.node.function)

    def plain(*args: Any, **kwargs: Any) -> Any:
        return answer(args, kwargs)

    def generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        items, returned = answer(args, kwargs)
        yield from items
        return returned

    async def coroutine(*args: Any, **kwargs: Any) -> Any:
        return answer(args, kwargs)

    async def async_generator(*args: Any, **kwargs: Any) -> AsyncGenerator[Any]:
        items, _ = answer(args, kwargs)
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


class RecordedOutputs:
    """Makes values of the outputs of a trace.

    Args:
        resolver: finds their classes.
        rebuilder: makes values of their outputs.
        folder: the folder of the trace's payload files; None where that is not known.
    """

    def __init__(self, resolver: Resolver, rebuilder: Rebuilder, folder: str | None = None) -> None:
        self._resolver = resolver
        self._rebuilder = rebuilder
        self._folder = folder

    def answer(self, target: Target, step: Step) -> Any:
        """Return the output of a recorded call, or raise its error.

        Raises:
            NoAnswerError: the output was not captured whole, or no value can be made of it.
            BaseException: the recorded error.
        """
        if step.error is not None:
            raise _recorded_error(step)
        missing = [pointer for pointer in (*step.redacted, *step.opaque) if pointer.startswith(OUTPUT)]
        try:
            content: Any = captured_output(step, self._folder)
        except NotCapturedError as error:
            raise NoAnswerError(str(error)) from error
        if missing:
            pointer = missing[0].removeprefix(OUTPUT) or "its root"
            raise NoAnswerError(f"the recorded output is incomplete at {pointer}")
        if not (content is None or isinstance(content, str | int | float | list | dict)):
            raise NoAnswerError("the recorded output was not captured")
        return self._value(target, content)

    def _value(self, target: Target, content: Any) -> Any:
        hint = hints_of(inspect.unwrap(target.node.function)).get("return", Any) if target.node.function else Any
        self._resolver.own_module = target.module
        try:
            if isinstance(content, dict) and content.get("$py") == "generator":
                return self._generator_items(content, hint)
            return self._rebuilder.rebuild(content, hint)
        except RebuildError as error:
            raise NoAnswerError(str(error)) from error

    def _generator_items(self, content: dict[str, Any], hint: Any) -> tuple[list[Any], Any]:
        """Return the recorded items of a generator, and its return value."""
        origin, arguments = shape(hint)
        is_typed = getattr(origin, "__name__", "") in _GENERATOR_TYPES and arguments
        items = self._rebuilder.rebuild(content["items"], GenericAlias(list, (arguments[0] if is_typed else Any,)))
        returned = arguments[2] if is_typed and len(arguments) == 3 else Any
        return items, self._rebuilder.rebuild(content.get("returned"), returned)


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
