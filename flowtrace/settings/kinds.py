"""The kinds of value that a setting can take: from text (the environment) and from code, with one wording for both."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

LARGEST_NUMBER: Final = 2**31 - 1
PLACEHOLDERS: Final = ("pid", "run_id", "flow_id", "timestamp")
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})
# They mean nothing to Python or a terminal: a handler for another would change what ends or stops a program.
_FREE_SIGNALS: Final = ("USR1", "USR2", "RTMIN", "RTMAX")


class TraceMode(StrEnum):
    """When a trace is written.

    ``OFF``: never. ``ON``: when something fails. ``ALWAYS``: also on success.
    """

    OFF = "off"
    ON = "on"
    ALWAYS = "always"


class ValidationMode(StrEnum):
    """What a validation issue leads to, beside standing in its step.

    ``OFF``: nothing more. ``WARN``: a logged warning. ``ERROR``: also counts as a failure, so a trace is written.
    """

    OFF = "off"
    WARN = "warn"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of value.

    Attributes:
        accepts: what is accepted, for error messages and the docs.
        from_text: turns an environment variable's text into the value; ValueError where it can't.
        check: returns a value given in code in its final form; ValueError where it is of no use.
    """

    accepts: str
    from_text: Callable[[str], Any]
    check: Callable[[Any], Any]


def _boolean(text: str) -> bool:
    word = text.lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise ValueError(text)


def _check_boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError(value)


def _number(text: str) -> int:
    if text.isascii() and text.isdigit():
        return _check_number(int(text))
    raise ValueError(text)


def _check_number(value: object) -> int:
    if type(value) is int and 0 <= value <= LARGEST_NUMBER:
        return value
    raise ValueError(value)


def _count(text: str) -> int:
    return _check_count(_number(text))


def _check_count(value: object) -> int:
    if _check_number(value):
        return _check_number(value)
    raise ValueError(value)


def _mode(text: str) -> TraceMode:
    word = text.lower()
    if word in _TRUE or word in _FALSE:
        return TraceMode.ON if word in _TRUE else TraceMode.OFF
    return TraceMode(word)


def _check_mode(value: Any) -> TraceMode:
    if isinstance(value, bool):
        return TraceMode.ON if value else TraceMode.OFF
    return TraceMode(value)


def _path(value: object) -> str:
    """Check a path and the placeholders in it; what they mean is known to the writer."""
    if not isinstance(value, str | os.PathLike) or not (text := os.fspath(value)):
        raise ValueError(value)
    if not isinstance(text, str) or "\0" in text:
        raise ValueError(value)
    if any(name not in PLACEHOLDERS for name in re.findall(r"\{(\w*)\}", text)):
        raise ValueError(value)
    return text


def _text(value: object) -> str:
    if isinstance(value, str) and value:
        return value
    raise ValueError(value)


def _optional_text(value: object) -> str | None:
    return None if value is None else _text(value)


def _refuse_text(text: str) -> Any:
    raise ValueError(text)


def _optional_callable(value: object) -> Any:
    if value is None or callable(value):
        return value
    raise ValueError(value)


def signal_number(name: str) -> int:
    """Return the number of a signal in its final form, such as ``"USR1"``.

    Raises:
        AttributeError: this system does not have it.
    """
    return int(getattr(signal, f"SIG{name}"))


def _signal(value: object) -> str | None:
    if value is None:
        return None
    word = value.strip().upper().removeprefix("SIG") if isinstance(value, str) else str(_check_signal_number(value))
    for name in _FREE_SIGNALS:
        if hasattr(signal, f"SIG{name}") and word in (name, str(signal_number(name))):
            return name
    raise ValueError(value)


def _check_signal_number(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    raise ValueError(value)


def _names(value: Any) -> tuple[Any, ...]:
    names = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (None,)
    if all(isinstance(name, str) and name for name in names):
        return names
    raise ValueError(value)


def _patterns_from_text(text: str) -> tuple[str, ...]:
    patterns = _names_from_text(text)
    for pattern in patterns:
        if not re.fullmatch(r"[\w.*?\[\]!-]+", pattern):
            raise ValueError(pattern)
    return patterns


def _patterns(value: Any) -> tuple[str, ...]:
    return _patterns_from_text(",".join(_names(value)))


def _names_from_text(text: str) -> tuple[str, ...]:
    return tuple(name for part in text.split(",") if (name := part.strip()))


BOOLEAN: Final = Kind("1/true/yes/on or 0/false/no/off", _boolean, _check_boolean)
NUMBER: Final = Kind(f"a whole number from 0 to {LARGEST_NUMBER}", _number, _check_number)
COUNT: Final = Kind(f"a whole number from 1 to {LARGEST_NUMBER}", _count, _check_count)
MODE: Final = Kind("off, on or always (or a boolean: on/off)", _mode, _check_mode)
VALIDATION: Final = Kind("off, warn or error", lambda text: ValidationMode(text.lower()), ValidationMode)
PATH: Final = Kind("a file path, which may hold " + " ".join(f"{{{name}}}" for name in PLACEHOLDERS), _path, _path)
OPTIONAL_PATH: Final = Kind(f"{PATH.accepts}, or None", _path, lambda value: None if value is None else _path(value))
TEXT: Final = Kind("text", _text, _text)
OPTIONAL_TEXT: Final = Kind("text, or None", _text, _optional_text)
OPTIONAL_CALLABLE: Final = Kind("a function of a name and a value, or None", _refuse_text, _optional_callable)
SIGNAL: Final = Kind(
    "USR1, USR2, RTMIN or RTMAX (also as SIGUSR1, or its number), where the system has it", _signal, _signal
)
NAMES: Final = Kind("names, separated by commas", _names_from_text, _names)
PATTERNS: Final = Kind(
    "dotted names of modules or functions, with * ? [...] for anything, separated by commas",
    _patterns_from_text,
    _patterns,
)
