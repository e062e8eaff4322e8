"""Redaction: a value is hidden because its name is secret, or because the program's own redactor says so.

A name is split at separators and capitals. It is secret if it ends with a listed term, or with a listed term and a part
such as "key", "id" or "value". So ``DbPassword``, ``access-token`` and ``session_id`` are hidden, while ``tokenizer``,
``passenger`` and ``session_count`` are not. `flowtrace.values.scrub` finds the hidden values again in other texts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from enum import Enum
from functools import lru_cache
from threading import local
from typing import Any, Final, TypeAlias

from flowtrace.host import log
from flowtrace.host.objects import inherits, instance_dict

MARKER: Final = "__REDACTED__"
Redactor: TypeAlias = Callable[[str, object], bool]
"""A function of a name and its value that returns True if the value must be hidden."""

BUILT_IN: Final = (
    *("password", "passwd", "passphrase", "passcode", "pwd", "secret", "token", "jwt", "bearer"),
    *("authorization", "auth", "cookie", "credential", "session", "csrf", "api_key", "apikey"),
    *("private_key", "access_key", "signing_key", "encryption_key", "accesstoken", "authtoken"),
    *("refreshtoken", "sessionid", "privatekey", "secretkey", "accesskey", "jsessionid", "phpsessid"),
)
_NAME_PARTS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\d_]+")
_FOLLOWERS: Final = frozenset({"key", "id", "value", "text", "string", "header", "hash", "b64"})
_QUANTITIES: Final = frozenset(
    {"max", "min", "num", "n", "count", "total", "input", "output", "prompt", "completion", "used"}
)
_MOST_SEARCHED: Final = 300  # terms that a text is searched for
_LONGEST_NAME: Final = 200  # a longer text is data
_LOWER_CASE: Final = bytes(range(256)).lower()
_MEDIUM: Final = 4096
_LARGE: Final = 1 << 18
_LETTERS: Final = [bytes([code]) for code in b"abcdefghijklmnopqrstuvwxyz0123456789"]
_SEPARATORS: Final = bytes(code for code in range(128) if not chr(code).isalnum() and chr(code) != '"')
_DOING: Final = "ask the redactor"
_ASKING: Final = local()
"""Process-global: whether a thread is inside a redactor."""


def split_name(name: str) -> tuple[str, ...]:
    """Return the parts of a name in any case or separator style, in lower case."""
    return tuple(part.lower() for part in _NAME_PARTS.findall(name))


class SecretNames:
    """A test for secret names.

    Args:
        terms: names whose values are hidden, each split by `split_name`.
    """

    __slots__ = ("_is_secret", "_joined", "_longest", "_terms")

    def __init__(self, terms: frozenset[tuple[str, ...]]) -> None:
        self._terms = terms
        self._longest = max(2, *map(len, terms)) if terms else 0
        joined = {_squeezed("".join(term).encode()) if "".join(term).isascii() else b"" for term in terms}
        # a term that contains another one need not be searched for; b"", for a term beyond ASCII, is in any text
        if len(joined) > _MOST_SEARCHED:
            joined = {b""}  # asking for each name in a text is quicker then
        self._joined = [term for term in joined if not any(other in term for other in joined - {term})]
        self._is_secret = lru_cache(maxsize=4096)(self._find)

    def __call__(self, name: str) -> bool:
        """Return True if a name is secret."""
        return self._is_secret(name)

    def may_be_in(self, text: bytes) -> bool:
        """Return False if no text in double quotes, in JSON text, is a secret name. A quick test: True means maybe.

        Args:
            text: UTF-8.
        """
        if not self._terms or b'"' not in text:
            return False
        if b"\\" in text or not text.isascii():
            return True
        return self._is_in_squeezed(_squeezed(text)) if len(text) <= _LARGE else self._may_be_in_large(text)

    def _may_be_in_large(self, text: bytes) -> bool:
        """Do the same piece by piece, without a second copy of a large text."""
        end = b""
        for start in range(0, len(text), _LARGE):
            piece = end + _squeezed(text[start : start + _LARGE])
            if self._is_in_squeezed(piece):
                return True
            end = piece[-_LONGEST_NAME:]
        return False

    def _is_in_squeezed(self, text: bytes) -> bool:
        terms = self._joined
        if len(text) > _MEDIUM:  # it is much faster to find that a letter is missing than a term
            missing = [letter for letter in _LETTERS if letter not in text]
            terms = [term for term in terms if not any(letter in term for letter in missing)]
        return any([term in text for term in terms])  # noqa: C419  # a generator would take longer than the search

    def _find(self, name: str) -> bool:
        if len(name) > _LONGEST_NAME:
            return False
        parts = split_name(name)
        while len(parts) > 1 and (parts[-1] in _FOLLOWERS or parts[-1].isdigit()):
            if self._ends_with_term(parts):
                return True
            parts = parts[:-1]
        return self._ends_with_term(parts)

    def _ends_with_term(self, parts: tuple[str, ...]) -> bool:
        if not parts:
            return False
        last = parts[-1]
        plural = last.endswith("s") and len(last) > 3
        if plural and len(parts) > 1 and parts[-2] in _QUANTITIES:
            return False  # max_tokens, total_sessions: a number, not the tokens themselves
        endings = [parts, (*parts[:-1], last[:-1])] if plural else [parts]
        # also joined: "passWord" is a password, "auth_token" an authtoken
        tails = [ending[-length:] for ending in endings for length in range(1, self._longest + 1)]
        return any(tail in self._terms or ("".join(tail),) in self._terms for tail in tails)


def _squeezed(text: bytes) -> bytes:
    """Return an ASCII text in lower case, with nothing but its letters, digits and double quotes."""
    return text.translate(_LOWER_CASE, _SEPARATORS)


NO_NAMES: Final = SecretNames(frozenset())


@lru_cache(maxsize=64)
def secret_names(extra: Iterable[str] = ()) -> SecretNames:
    """Return the test for names whose values must be hidden.

    Args:
        extra: names in addition to the built-in ones, in any case or separator style.
    """
    return SecretNames(frozenset(filter(None, map(split_name, (*BUILT_IN, *extra)))))


def names_in(key: object) -> list[str]:
    """Return the names in a mapping's key: its text, the texts of a tuple, or the name and value of an enum member."""
    cls = type(key)
    if cls is str:
        return [key]  # type: ignore[list-item]
    if inherits(cls, Enum):
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
    """Return True if the value under a key must be hidden.

    Args:
        key: a name, or another mapping key.
        value: the value. Only the redactor looks at it.
        secret: the test for secret names.
        redactor: the program's own function.
    """
    names = names_in(key)
    if any(map(secret, names)):
        return True
    return redactor is not None and any(_redactor_hides(redactor, name, value) for name in names or [""])


def _redactor_hides(redactor: Redactor, name: str, value: object) -> bool:
    """Return the answer of a redactor; True if it fails, answers with no boolean, or is called by itself."""
    if getattr(_ASKING, "now", False):
        log.internal_fault(_DOING, RecursionError())
        return True
    _ASKING.now = True
    try:
        answer: object = redactor(name, value)
    except BaseException as error:
        log.internal_fault(_DOING, error)
        return True
    finally:
        _ASKING.now = False
    if answer is not True and answer is not False:
        log.internal_fault(_DOING, TypeError())
    return answer is not False
