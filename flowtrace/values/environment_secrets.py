"""The secrets in the environment of the process, which the text of an error may quote."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Final, NamedTuple, TypeVar

from flowtrace.host.system import os
from flowtrace.values.redaction import SecretNames
from flowtrace.values.secret_texts import SHORTEST_BESIDE

T = TypeVar("T")
_ENVIRON: Final = type(os.environ)


class _Seen(NamedTuple):
    """An environment that was looked at: its variables, as the mapping holds them, and what was found."""

    variables: dict[Any, Any]
    found: Any


_SEEN: Final[dict[object, _Seen]] = {}
"""Process-global: what was found last, by what was asked. To compare takes much less than to decode the variables."""
_MOST_SEEN: Final = 64


def look_again(environ: Mapping[str, str], about: Hashable, look: Callable[[Mapping[str, str]], T]) -> T:
    """Return what a look at an environment finds; it is only looked at again where it has changed.

    Args:
        environ: the environment.
        about: what is asked.
        look: finds that out.
    """
    if type(environ) is not _ENVIRON:
        return look(environ)
    variables: dict[Any, Any] = vars(environ)["_data"]
    last = _SEEN.get(about)
    if last is None or last.variables != variables:
        if len(_SEEN) >= _MOST_SEEN:
            _SEEN.clear()
        before = dict(variables)
        _SEEN[about] = last = _Seen(before, look(environ))
    found: T = last.found
    return found


def texts_in_environment(environ: Mapping[str, str], secret: SecretNames) -> tuple[str, ...]:
    """Return the values, of 8 characters and more, of the variables with secret names, and that of the hash key."""
    return look_again(environ, secret, lambda given: _texts_in_environment(given, secret))


def _texts_in_environment(environ: Mapping[str, str], secret: SecretNames) -> tuple[str, ...]:
    names = [name for name in environ if name == "FLOWTRACE_HASH_KEY" or secret(name)]
    found = {name: environ.get(name, "") for name in names}  # to read them all would take longer
    return tuple(text for name, text in found.items() if len(text) >= SHORTEST_BESIDE and not _is_folder(name, text))


def _is_folder(name: str, text: str) -> bool:
    """Return True for the working folder, which a shell gives under a name that others use for a password."""
    return name in ("PWD", "OLDPWD") and os.path.isabs(text)
