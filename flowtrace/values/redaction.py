"""Which names hide their values.

A name is cut into words at separators and capitals; it is secret when its last words are a listed term, or when a
listed term is followed by a word such as "key", "id" or "value". So ``DbPassword``, ``access-token`` and
``session_id`` are hidden, while ``tokenizer``, ``passenger`` and ``session_count`` are not.


Whether a value is hidden: by its name, or because the user's own hook says so.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from threading import local
from typing import Any, Final, TypeAlias

from flowtrace.host import log
from flowtrace.host.objects import inherits, instance_dict

MARKER: Final = "__REDACTED__"

BUILT_IN: Final = (
    *("password", "passwd", "passphrase", "passcode", "pwd", "secret", "token", "jwt", "bearer"),
    *("authorization", "auth", "cookie", "credential", "session", "csrf", "api_key", "apikey"),
    *("private_key", "access_key", "signing_key", "encryption_key", "accesstoken", "authtoken"),
    *("refreshtoken", "sessionid", "privatekey", "secretkey", "accesskey", "jsessionid", "phpsessid"),
)
_WORDS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\d_]+")
_FOLLOWERS: Final = frozenset({"key", "id", "value", "text", "string", "header", "hash", "b64"})
_QUANTITIES: Final = frozenset(
    {"max", "min", "num", "n", "count", "total", "input", "output", "prompt", "completion", "used"}
)
_LONGEST_NAME: Final = 200  # one that is longer is data
_LOWER_CASE: Final = bytes(range(256)).lower()
_MEDIUM: Final = 4096
_LARGE: Final = 1 << 18
_LETTERS: Final = [bytes([code]) for code in b"abcdefghijklmnopqrstuvwxyz0123456789"]
_SEPARATORS: Final = bytes(code for code in range(128) if not chr(code).isalnum() and chr(code) != '"')


def words(name: str) -> tuple[str, ...]:
    """Return the lower-case words of a name in any case or separator style."""
    return tuple(word.lower() for word in _WORDS.findall(name))


class SecretNames:
    """Tells which names are secret.

    Args:
        terms: names whose values are hidden, each in words.
    """

    __slots__ = ("_is_secret", "_joined", "_longest", "_terms")

    def __init__(self, terms: frozenset[tuple[str, ...]]) -> None:
        self._terms = terms
        self._longest = max(2, *map(len, terms)) if terms else 0
        joined = {_squeezed("".join(term).encode()) if "".join(term).isascii() else b"" for term in terms}
        # what holds another term need not be looked for; b"", for a term beyond ASCII, is in any text
        self._joined = [term for term in joined if not any(other in term for other in joined - {term})]
        self._is_secret = lru_cache(maxsize=4096)(self._look)

    def __call__(self, name: str) -> bool:
        """Tell whether a name is secret."""
        return self._is_secret(name)

    def may_be_in(self, text: bytes) -> bool:
        """Tell whether a secret name may stand in JSON text, in double quotes; where it says no, there is none.

        Args:
            text: UTF-8.
        """
        if not self._terms or b'"' not in text:
            return False
        if b"\\" in text or not text.isascii():
            return True
        return self._is_in_squeezed(_squeezed(text)) if len(text) <= _LARGE else self._may_be_in_large(text)

    def _may_be_in_large(self, text: bytes) -> bool:
        """Do the same piece by piece: there is to be no second copy of a large text."""
        end = b""
        for start in range(0, len(text), _LARGE):
            piece = end + _squeezed(text[start : start + _LARGE])
            if self._is_in_squeezed(piece):
                return True
            end = piece[-_LONGEST_NAME:]
        return False

    def _is_in_squeezed(self, text: bytes) -> bool:
        terms = self._joined
        if len(text) > _MEDIUM:  # a letter that is missing is found out much faster than a term that is
            missing = [letter for letter in _LETTERS if letter not in text]
            terms = [term for term in terms if not any(letter in term for letter in missing)]
        return any([term in text for term in terms])  # noqa: C419  # a generator would take longer than the search

    def _look(self, name: str) -> bool:
        if len(name) > _LONGEST_NAME:
            return False
        parts = words(name)
        while len(parts) > 1 and (parts[-1] in _FOLLOWERS or parts[-1].isdigit()):
            if _ends_with_term(parts, self._terms, self._longest):
                return True
            parts = parts[:-1]
        return _ends_with_term(parts, self._terms, self._longest)


def _squeezed(text: bytes) -> bytes:
    """Return the letters and digits of an ASCII text in lower case, and its double quotes."""
    return text.translate(_LOWER_CASE, _SEPARATORS)


NO_NAMES: Final = SecretNames(frozenset())


@lru_cache(maxsize=64)
def secret_names(extra: Iterable[str] = ()) -> SecretNames:
    """Return the test for names whose values must be hidden.

    Args:
        extra: names added to the built-in ones, in any case or separator style.
    """
    return SecretNames(frozenset(filter(None, map(words, (*BUILT_IN, *extra)))))


def _ends_with_term(parts: tuple[str, ...], terms: frozenset[tuple[str, ...]], longest: int) -> bool:
    if not parts:
        return False
    last = parts[-1]
    plural = last.endswith("s") and len(last) > 3
    if plural and len(parts) > 1 and parts[-2] in _QUANTITIES:
        return False  # max_tokens, total_sessions: a number of them
    endings = [parts, (*parts[:-1], last[:-1])] if plural else [parts]
    # once more as one word: "passWord" is a password, "auth_token" an authtoken
    tails = [ending[-length:] for ending in endings for length in range(1, longest + 1)]
    return any(tail in terms or ("".join(tail),) in terms for tail in tails)


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
