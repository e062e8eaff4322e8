"""Whether a value is hidden: by its name, or because the user's own hook says so."""

from __future__ import annotations

import enum
from collections.abc import Callable
from threading import local
from typing import Any, Final, TypeAlias

from flowtrace import log
from flowtrace.forms import inherits, instance_dict
from flowtrace.redaction import SecretNames

Redactor: TypeAlias = Callable[[str, object], bool]
"""Takes a name and the value under it, and tells whether that value must be hidden."""
_DOING: Final = "ask the redactor"
_asking: Final = local()


def names_in(key: object) -> list[str]:
    """Return the names that a mapping's key may stand for: its text, those of a tuple, and an enum member's own."""
    cls = type(key)
    if cls is str:
        return [key]  # type: ignore[list-item]
    if inherits(cls, enum.Enum):
        own = instance_dict(key)
        return [text for part in (own.get("_name_"), own.get("_value_")) for text in _texts(part)]
    if inherits(cls, tuple):
        parts: Any = key
        return [text for part in tuple.__iter__(parts) for text in _texts(part)]
    return _texts(key)


def _texts(key: Any) -> list[str]:
    cls = type(key)
    if inherits(cls, str):
        return [str.__str__(key)]
    return [bytes.decode(key, "latin-1")] if inherits(cls, bytes) else []


def is_hidden(key: object, value: object, secret: SecretNames, redactor: Redactor | None) -> bool:
    """Tell whether the value under a key must be hidden.

    Args:
        key: a name, or another mapping key.
        value: what is under it. Only the redactor looks at it.
        secret: tells which names are secret.
        redactor: the user's own hook.
    """
    names = names_in(key)
    if any(map(secret, names)):
        return True
    return redactor is not None and any(says_so(redactor, name, value) for name in names or [""])


def says_so(redactor: Redactor, name: str, value: object) -> bool:
    """Ask the user's hook. Where it fails, answers with no boolean or is in use already, the value is hidden.

    Args:
        redactor: the hook.
        name: the value's name.
        value: the value.
    """
    if getattr(_asking, "now", False):
        log.internal_fault(_DOING, RecursionError())
        return True
    _asking.now = True
    try:
        answer: object = redactor(name, value)
    except Exception as error:
        log.internal_fault(_DOING, error)
        return True
    finally:
        _asking.now = False
    if answer is not True and answer is not False:
        log.internal_fault(_DOING, TypeError())
    return answer is not False
