"""The kinds of value that a setting can take, from text (the environment) and from code, with one message for both."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

from flowtrace.host.signals import is_folder, let_through
from flowtrace.host.switch import FALSE, TRUE
from flowtrace.host.system import NEVER, nanoseconds, os, re

LARGEST_NUMBER: Final = 2**31 - 1
PLACEHOLDERS: Final = ("pid", "run_id", "flow_id", "timestamp")
TRACE_NAME: Final = "trace.json"
"""The file in a folder that is named as the place of the trace."""
TEST_FOLDER: Final = ".flowtrace"
"""Where the traces of failing tests go."""
RING_NAME: Final = "blackbox.ring"
"""The same for the black box."""
# Python and terminals give them no meaning; a handler for another one would change how a program is ended or stopped.
_FREE_SIGNALS: Final = ("USR1", "USR2", "RTMIN", "RTMAX")


class TraceMode(StrEnum):
    """When a trace is written.

    ``OFF``: never. ``ON``: when something fails. ``ALWAYS``: also on success.
    """

    OFF = "off"
    ON = "on"
    ALWAYS = "always"


class ValidationMode(StrEnum):
    """How serious a validation issue is, which always has an entry in its step.

    ``OFF``: nothing more. ``WARN``: a logged warning. ``ERROR``: also a failure, so that a trace is written. Calls of
    nodes with ``validate=`` are not even checked in mode ``OFF``, and refused in mode ``ERROR``.
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
        check: converts a value given in code to the setting's type; ValueError where it can't.
    """

    accepts: str
    from_text: Callable[[str], Any]
    check: Callable[[Any], Any]


def _boolean_from_text(text: str) -> bool:
    text = text.lower()
    if text in TRUE or text in FALSE:
        return text in TRUE
    raise ValueError(text)


def _check_boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError(value)


def _number_from_text(text: str) -> int:
    if text.isascii() and text.isdigit():
        return _check_number(int(text))
    raise ValueError(text)


def _check_number(value: object) -> int:
    if type(value) is int and 0 <= value <= LARGEST_NUMBER:
        return value
    raise ValueError(value)


def _share_from_text(text: str) -> float:
    return 0.0 if text.lower() in FALSE else _check_share(float(text))


def _check_share(value: Any) -> float:
    if type(value) in (int, float) and 0 <= value <= 1:
        return float(value)
    raise ValueError(value)


def _duration_from_text(text: str) -> float | None:
    return None if text.lower() in FALSE else _check_duration(text)


def _check_duration(value: object) -> float | None:
    if value is None or (duration := nanoseconds(value)) == NEVER:
        return None
    return duration / 1e9


def _count_from_text(text: str) -> int:
    return _check_count(_number_from_text(text))


def _check_count(value: object) -> int:
    return _check_number(value) or _refuse(value)


def _mode_from_text(text: str) -> TraceMode:
    text = text.lower()
    return _check_mode(text in TRUE if text in TRUE or text in FALSE else text)


def _check_mode(value: Any) -> TraceMode:
    if isinstance(value, bool):
        return TraceMode.ON if value else TraceMode.OFF
    return TraceMode(value)


def _check_path(value: object) -> str:
    """Check a path, and put the home in the place of a ``~``; `trace.files` fills placeholders in."""
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str) or not text or "\0" in text:
        raise ValueError(value)
    if text.lower() in (*TRUE, *FALSE):  # meant to switch something on or off
        raise ValueError(value)
    text = os.path.expanduser(text)
    return _refuse(value) if text.startswith("~") else text  # there is no such user


def _folder_from_text(text: str) -> str | None:
    if text.lower() in (*TRUE, *FALSE):
        return TEST_FOLDER if text.lower() in TRUE else None
    return _check_path(text)


def in_folder(path: str, name: str) -> str:
    """Return the file that a path means: of a folder, or where it ends with a slash, the one of this name in it.

    Args:
        path: a path, which may hold placeholders.
        name: the name of the file in a folder.
    """
    return os.path.join(path, name) if _names_a_folder(path) or is_folder(path) else path


@lru_cache(maxsize=64)
def _names_a_folder(path: str) -> bool:
    return os.path.basename(path) in ("", ".", "..")


def absolute(path: str) -> str:
    """Return a path that holds even if the working folder changes."""
    try:
        return os.path.join(os.getcwd(), path)
    except OSError as error:  # the folder was removed: writing to a relative path will fail, with a warning
        let_through(error)
        return path


def unknown_placeholders(path: str) -> list[str]:
    """Return what looks like a placeholder in a path, and is none; it stays there as text."""
    return [f"{{{name}}}" for name in re.findall(r"\{(\w*)\}", path) if name not in PLACEHOLDERS]


def _check_text(value: object) -> str:
    if isinstance(value, str) and value:
        return value
    raise ValueError(value)


def _optional(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else check(value)


def _check_callable(value: object) -> object:
    return value if callable(value) else _refuse(value)


def _refuse(value: object) -> Any:
    raise ValueError(value)


def signal_number(name: str) -> int:
    """Return the number of a signal by its short name, such as ``"USR1"``.

    Raises:
        AttributeError: this system does not have it.
    """
    return int(getattr(signal, f"SIG{name}"))


def _check_signal(value: object) -> str:
    text = str(int(value)) if isinstance(value, int) and not isinstance(value, bool) else value
    text = text.strip().upper().removeprefix("SIG") if isinstance(text, str) else _refuse(value)
    for name in _FREE_SIGNALS:
        if hasattr(signal, f"SIG{name}") and text in (name, str(signal_number(name))):
            return name
    raise ValueError(value)


def _check_names(value: Any) -> tuple[Any, ...]:
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


def _check_patterns(value: Any) -> tuple[str, ...]:
    return _patterns_from_text(",".join(_check_names(value)))


def _names_from_text(text: str) -> tuple[str, ...]:
    return tuple(name for part in text.split(",") if (name := part.strip()))


BOOLEAN: Final = Kind("1/true/yes/on or 0/false/no/off", _boolean_from_text, _check_boolean)
NUMBER: Final = Kind(f"a whole number from 0 to {LARGEST_NUMBER}", _number_from_text, _check_number)
COUNT: Final = Kind(f"a whole number from 1 to {LARGEST_NUMBER}", _count_from_text, _check_count)
SHARE: Final = Kind("a number from 0 to 1; 0 or off for no limit", _share_from_text, _check_share)
DURATION: Final = Kind(
    "a duration such as 250ms, 1.5s or 2m (in code also seconds as a number); 0 or off for none",
    _duration_from_text,
    _check_duration,
)
MODE: Final = Kind("off, on or always (or a boolean: on/off)", _mode_from_text, _check_mode)
VALIDATION: Final = Kind("off, warn or error", lambda text: ValidationMode(text.lower()), ValidationMode)
_FILLED_IN: Final = " ".join(f"{{{name}}}" for name in PLACEHOLDERS)
_PATH: Final = f"~ is the home, and {_FILLED_IN} are filled in"
PATH: Final = Kind(f"a path of a file, or of a folder for {TRACE_NAME} in it; {_PATH}", _check_path, _check_path)
OPTIONAL_PATH: Final = Kind(
    f"a path of a file, or of a folder for {RING_NAME} in it, or None; {_PATH}", _check_path, _optional(_check_path)
)
FOLDER: Final = Kind(
    f"a folder (~ is the home), or 1/true/yes/on for {TEST_FOLDER}, or 0/false/no/off", _folder_from_text, _check_path
)
TEXT: Final = Kind("text", _check_text, _check_text)
OPTIONAL_TEXT: Final = Kind("text, or None", _check_text, _optional(_check_text))
OPTIONAL_CALLABLE: Final = Kind("a function of a name and a value, or None", _refuse, _optional(_check_callable))
SIGNAL: Final = Kind(
    "USR1, USR2, RTMIN or RTMAX (also as SIGUSR1, or its number), where the system has it",
    _check_signal,
    _optional(_check_signal),
)
NAMES: Final = Kind("names, separated by commas", _names_from_text, _check_names)
PATTERNS: Final = Kind(
    "dotted names of modules or functions, with * ? [...] for anything, separated by commas",
    _patterns_from_text,
    _check_patterns,
)
