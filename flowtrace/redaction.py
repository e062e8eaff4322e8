"""Which names hide their values.

A name is cut into words at separators and capitals; it is secret when its last words are a listed term, or when a
listed term is followed by a word such as "key", "id" or "value". So ``DbPassword``, ``access-token`` and
``session_id`` are hidden, while ``tokenizer``, ``passenger`` and ``session_count`` are not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final

MARKER: Final = "__REDACTED__"
IsSecret = Callable[[str], bool]

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


def words(name: str) -> tuple[str, ...]:
    """Return the lower-case words of a name in any case or separator style."""
    return tuple(word.lower() for word in _WORDS.findall(name))


@lru_cache(maxsize=64)
def secret_names(extra: Iterable[str] = ()) -> IsSecret:
    """Return the test for names whose values must be hidden.

    Args:
        extra: names added to the built-in ones, in any case or separator style.

    Returns:
        A function from a name to whether it is secret.
    """
    terms = frozenset(filter(None, map(words, (*BUILT_IN, *extra))))
    longest = max(2, *map(len, terms))

    @lru_cache(maxsize=4096)
    def is_secret(name: str) -> bool:
        if len(name) > 200:  # a name this long is data
            return False
        parts = words(name)
        while len(parts) > 1 and (parts[-1] in _FOLLOWERS or parts[-1].isdigit()):
            if _ends_with_term(parts, terms, longest):
                return True
            parts = parts[:-1]
        return _ends_with_term(parts, terms, longest)

    return is_secret


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
