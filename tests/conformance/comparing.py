"""How a column compares two programs."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from .build import Pair, Program
from .shapes import Failing

Column = Callable[[Pair], None]


def both(pair: Pair, look: Callable[[Program], Any], what: str) -> None:
    """Look at both programs, and raise AssertionError where that gives something else.

    Args:
        pair: the two programs.
        look: returns what is to be seen of one.
        what: what that is, for the message.
    """
    plain, traced = look(pair.plain), look(pair.traced)
    assert plain == traced, f"{what}: {traced!r:.300} instead of {plain!r:.300}"


def outcome(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[str, str]:
    """Return what a call gave, as text that two calls can be compared by."""
    try:
        value = function(*args, **kwargs)
    except BaseException as error:
        return type(error).__name__, without_addresses(str(error))
    return "value", "" if value is None else without_addresses(str(value))


def raised_by(program: Program, error: BaseException, **keywords: Any) -> BaseException:
    """Let the function raise an error, and return what comes out of the call."""
    try:
        program.call(Failing(error), **keywords)
    except ValueError as caught:
        return caught
    raise AssertionError("nothing was raised")


def without_addresses(shown: str) -> str:
    """Return text as it would be at any address."""
    return re.sub(r"0x[0-9a-f]+", "0x", shown)
