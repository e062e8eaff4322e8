"""The secrets in the environment of the process, which the text of an error may quote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from flowtrace.host.system import os
from flowtrace.values.redaction import SecretNames
from flowtrace.values.scrub import SHORTEST_BESIDE


class _Environment(NamedTuple):
    """An environment that was looked at: its variables, as the mapping holds them, and what was found."""

    variables: dict[Any, Any]
    secret: SecretNames
    texts: tuple[str, ...]


_LAST_ENVIRONMENT: Final[list[_Environment]] = []
"""Process-global: the one that was looked at last. To compare with it takes much less than to decode them all."""


def texts_in_environment(environ: Mapping[str, str], secret: SecretNames) -> tuple[str, ...]:
    """Return the values, of 8 characters and more, of the variables with secret names, and that of the hash key."""
    if type(environ) is not os._Environ:
        return _texts_in_environment(environ, secret)
    variables: dict[Any, Any] = vars(environ)["_data"]
    for last in _LAST_ENVIRONMENT:
        if last.secret is secret and last.variables == variables:
            return last.texts
    before = dict(variables)
    found = _texts_in_environment(environ, secret)
    _LAST_ENVIRONMENT[:] = [_Environment(before, secret, found)]
    return found


def _texts_in_environment(environ: Mapping[str, str], secret: SecretNames) -> tuple[str, ...]:
    names = [name for name in environ if name == "FLOWTRACE_HASH_KEY" or secret(name)]
    found = [environ.get(name, "") for name in names]  # to read them all would take longer
    return tuple(text for text in found if len(text) >= SHORTEST_BESIDE)
