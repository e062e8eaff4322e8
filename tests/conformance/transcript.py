"""What a scenario saw, in a form that two runs can be compared by."""

from __future__ import annotations

import contextlib
import gc
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any


def outcome(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Any, ...]:
    """Call, and return what came out: the value, or the error with its chain."""
    try:
        return ("value", function(*args, **kwargs))
    except BaseException as error:
        return told(error)


async def async_outcome(awaitable: Any) -> tuple[Any, ...]:
    """Await, and return what came out."""
    try:
        return ("value", await awaitable)
    except BaseException as error:
        return told(error)


def told(error: BaseException | None) -> tuple[Any, ...]:
    """Return an error's type, text, cause and context; for a group, its parts too."""
    if error is None:
        return ()
    parts = [told(part) for part in error.exceptions] if isinstance(error, BaseExceptionGroup) else []
    context = () if error.__context__ is error.__cause__ else told(error.__context__)
    text = re.sub(r"0x[0-9a-f]+", "0x", str(error))
    return (type(error).__name__, text, told(error.__cause__), context, parts, getattr(error, "value", None))


@contextlib.contextmanager
def noise() -> Iterator[list[str]]:
    """Collect the warnings and the unraisable errors of a ``with`` block."""
    heard: list[str] = []
    hook = sys.unraisablehook

    def unraisable(event: Any) -> None:
        about = getattr(event.object, "__qualname__", type(event.object).__name__)
        heard.append(f"unraisable {about}: {type(event.exc_value).__name__}: {event.exc_value}")

    sys.unraisablehook = unraisable
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield heard
            gc.collect()
    finally:
        sys.unraisablehook = hook
    heard += [f"{warning.category.__name__}: {warning.message}" for warning in caught]


def drive(awaitable: Any, *sent: Any) -> Any:
    """Await something as the simplest of event loops."""

    async def main() -> Any:
        return await awaitable

    waiting = main()
    while True:
        try:
            waiting.send(None)
        except StopIteration as stop:
            return stop.value
