"""Scrubbing: replacing secrets in the texts of errors, both values that were hidden and what looks like a secret."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from json import dumps as json_text
from typing import Any, Final
from urllib.parse import quote, quote_plus

from flowtrace.host.objects import inherits, pairs_of
from flowtrace.host.signals import let_through
from flowtrace.host.system import re
from flowtrace.values.forms import state
from flowtrace.values.forms_arrays import first_items
from flowtrace.values.named_secrets import without_named_secrets
from flowtrace.values.redaction import MARKER, SecretNames
from flowtrace.values.secret_formats import without_error_secrets, without_url_secrets
from flowtrace.values.secret_patterns import FIRST, LAST, without

LONGEST_TEXT: Final = 8192  # characters of an error's text, and so of a secret that it may hold
EVERYTHING: Final = ""
"""Used where there are too many secrets to list: it is in every text."""
_SHORTEST: Final = 4  # shorter ones, and short numbers, must match a complete word; a single character is no secret
_SHORTEST_BESIDE: Final = 8  # of a key, an attribute of an object, a variable: most shorter ones are ordinary words
_MOST_TEXTS: Final = 1000
_MOST_PARTS: Final = 20_000
_MOST_WORK: Final = 1 << 28  # characters that one scrubber looks at, below a second; later texts are hidden as a whole
_OF_A_SEARCH: Final = 200
_SHORT: Final = 200  # characters: the same such text is often there many times
_OF_A_SPELLING: Final = 50
_DEEPEST_OBJECT: Final = 3
_ORDINARY: Final = frozenset({"none", "null", "true", "false", "yes", "no", "on", "off", MARKER.lower()})
_NO_TEXTS: Final = frozenset({"frames", "type", "relation"})
_CUT_OFF: Final = re.compile(r"\.\.\. \(\d+ characters\)\Z")


def without_lookalikes(text: str, secret: SecretNames) -> str:
    """Return a text with the marker for all that looks like a secret, by itself or by the name before it.

    Args:
        text: any text.
        secret: the test for secret names.
    """
    text = without(text, FIRST)
    if secret.may_be_named_in(text.encode("utf-8", "replace")):
        text = without_error_secrets(text, secret)
        text = without_url_secrets(text, secret)
        text = without_named_secrets(text, secret)
    else:
        text = without_url_secrets(text, secret)
    return without(text, LAST)


def texts_in(hidden: Iterable[object], secret: SecretNames) -> tuple[str, ...]:
    """Return the texts by which hidden values can be recognized. Never raises, but for what a signal handler does.

    Args:
        hidden: the values. No code of theirs is run.
        secret: the test for secret names.

    Returns:
        At most 1,000 texts; `EVERYTHING` where there are more.
    """
    found: dict[str, None] = {}
    try:
        _collect(deque((value, 0, _SHORTEST) for value in hidden), secret, found)
    except BaseException as error:
        let_through(error)
        return (EVERYTHING,)
    return tuple(found) if len(found) <= _MOST_TEXTS else (EVERYTHING,)


def _collect(waiting: deque[tuple[object, int, int]], secret: SecretNames, found: dict[str, None]) -> None:
    """Add the texts in plain containers, up to the limits, and the longer ones in other objects, a few levels deep."""
    seen: dict[int, object] = {}
    while waiting and len(found) <= _MOST_TEXTS:
        value, depth, shortest = waiting.popleft()
        kind = type(value)
        texts = _texts_of(value, kind)
        if texts is not None:
            found.update(
                dict.fromkeys(text[:LONGEST_TEXT] for text in texts if _is_worth_hiding(text, shortest, secret))
            )
        elif id(value) not in seen:
            seen[id(value)] = value
            if len(seen) > _MOST_PARTS:
                found[EVERYTHING] = None
                return
            waiting += _children(value, kind, depth, shortest, secret)


def _texts_of(value: Any, kind: type) -> list[str] | None:
    if value is None or kind is bool:
        return []
    if inherits(kind, str):
        return [str.__str__(value)]
    if inherits(kind, bytes) or inherits(kind, bytearray):
        data = bytes(memoryview(value)[:LONGEST_TEXT])
        return list({data.decode("utf-8", "replace"), data.decode("latin-1"), repr(data)[2:-1], data.hex()})
    if kind in (int, float):
        return [repr(value)] if kind is float or value.bit_length() < 4096 else []
    return None


def _is_worth_hiding(text: str, shortest: int, secret: SecretNames) -> bool:
    """Return True if a text is a secret. An attribute of an object may be a mere name, as that of a column."""
    if shortest > _SHORTEST:
        return len(text) >= shortest and not secret(text)
    return len(text) > 1 and text.lower() not in _ORDINARY and not text.isspace()


def _children(value: Any, kind: type, depth: int, shortest: int, secret: SecretNames) -> list[tuple[object, int, int]]:
    if inherits(kind, dict):
        pairs = pairs_of(value)
        return [(key, depth, _SHORTEST_BESIDE) for key, _ in pairs] + [(item, depth, shortest) for _, item in pairs]
    if kind in (list, tuple, set, frozenset, deque):
        return [(item, depth, shortest) for item in tuple(value)]
    if depth >= _DEEPEST_OBJECT:
        return []
    inner = [(item, depth + 1, shortest) for item in _items_of(value, kind)]
    for name, item in state(value).items():
        named = type(name) is str and secret(name)
        inner.append((item, depth + 1, _SHORTEST if named else _SHORTEST_BESIDE))
    return inner


def _items_of(value: Any, kind: type) -> list[object]:
    for base in (list, tuple, set, frozenset):
        if inherits(kind, base):
            return list(base.__iter__(value))
    if items := first_items(value, kind, _MOST_TEXTS):
        return items
    if inherits(kind, BaseException):
        return [BaseException.__dict__["args"].__get__(value)]
    return [int.__int__(value)] if inherits(kind, int) else []


def remember(secrets: Iterable[str], kept: dict[str, None]) -> None:
    """Add secrets to those that are kept: the newest 1,000, which an error is likelier to quote."""
    kept.update(dict.fromkeys(secrets))
    while len(kept) > _MOST_TEXTS:
        del kept[next(iter(kept))]


def texts_in_environment(environ: Mapping[str, str], secret: SecretNames) -> tuple[str, ...]:
    """Return the values, of 8 characters and more, of the variables with secret names, and that of the hash key."""
    names = [name for name in environ if name == "FLOWTRACE_HASH_KEY" or secret(name)]
    found = [environ.get(name, "") for name in names]  # to read them all would take longer
    return tuple(text for text in found if len(text) >= _SHORTEST_BESIDE)


class Scrubber:
    """Replaces secrets in texts by the marker.

    Args:
        texts: the secrets, from `texts_in`.
        secret: the test for secret names, whose values follow them in a text, as in ``password=...``.
    """

    __slots__ = ("_done", "_forms", "_hides_all", "_secret", "_texts", "_work")

    def __init__(self, texts: Iterable[str], secret: SecretNames) -> None:
        self._texts = sorted(set(texts), key=len, reverse=True)
        self._forms: dict[str, set[str]] = {}  # the spellings of those secrets that some text was long enough for
        self._done: dict[str, str] = {}
        self._work = _MOST_WORK
        self._hides_all = EVERYTHING in self._texts
        self._secret = secret

    def scrubbed(self, value: Any) -> Any:
        """Return a JSON-like value without secrets in its texts; types and frames stay as they are."""
        if type(value) is str:
            return self.text(value)
        if type(value) is dict:
            return {name: item if name in _NO_TEXTS else self.scrubbed(item) for name, item in value.items()}
        return [self.scrubbed(item) for item in value] if type(value) is list else value

    def text(self, text: str) -> str:
        """Return a text with the marker for secrets and for what looks like one."""
        if self._hides_all:
            return MARKER
        return without_lookalikes(self.without_secrets(text), self._secret)

    def without_secrets(self, text: str) -> str:
        """Return a text with the marker for secrets alone, and not for what only looks like one."""
        if self._hides_all or self._work < 0:
            return MARKER
        if len(text) > _SHORT:
            return self._without(text)
        if text not in self._done:
            self._done[text] = self._without(text)
        return self._done[text]

    def _without(self, text: str) -> str:
        end = _CUT_OFF.search(text)
        if end is not None:
            start = text[: end.start()]
            shown = self._replace_complete(self._replace_begun(start))
            return shown + (end[0] if shown == start else "...")  # its length would give away that of a secret
        return self._replace_complete(text)

    def _replace_complete(self, text: str) -> str:
        longest = len(text)
        present: dict[str, str] = {}
        for secret in self._texts:
            if len(secret) <= longest:  # no spelling is shorter than the secret
                self._work -= longest + _OF_A_SEARCH
                present |= {form: _pattern_of(form) for form in self._forms_of(secret) if form in text}
        if self._work < 0:
            return MARKER
        if not present:
            return text
        longest_first = sorted(present, key=len, reverse=True)
        return re.sub("|".join(present[form] for form in longest_first), MARKER, text)

    def _forms_of(self, secret: str) -> set[str]:
        if secret not in self._forms:
            self._work -= _OF_A_SPELLING * len(secret)
            self._forms[secret] = _spellings(secret)
        return self._forms[secret]

    def _replace_begun(self, text: str) -> str:
        """Replace the beginning of a secret at the end of a text that was cut off there."""
        for secret in self._texts:
            start = text.find(secret[0], max(0, len(text) - len(secret)))
            while start >= 0:
                self._work -= len(text) - start + _OF_A_SEARCH
                if self._work < 0:
                    return MARKER
                if secret.startswith(text[start:]):
                    return text[:start] + MARKER
                start = text.find(secret[0], start + 1)
        return text


def _pattern_of(form: str) -> str:
    pattern = re.escape(form)
    is_number = len(form) < _SHORTEST_BESIDE and re.fullmatch(r"[\d.e+-]+", form)
    needs_bounds = len(form) < _SHORTEST or is_number  # 1234 is no part of 12345
    return rf"(?<!\w){pattern}(?!\w)" if needs_bounds else pattern


def _spellings(secret: str) -> set[str]:
    """Return the spellings of a secret in other texts: as it is, with escapes, in JSON, in a URL."""
    plain = secret.encode("utf-8", "backslashreplace").decode()
    spelt = {plain, repr(secret)[1:-1], json_text(secret)[1:-1], json_text(plain, ensure_ascii=False)[1:-1]}
    return spelt | {quote(plain), quote(plain, safe=""), quote_plus(plain)}
