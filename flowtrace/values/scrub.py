"""Scrubbing: replacing secrets in texts, both values that were hidden elsewhere and what looks like a secret.

The texts are those of errors, and the texts in captured values, where these are written; the hash of a value stays.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable, Iterator
from itertools import pairwise
from json import dumps as json_text
from typing import Any, Final
from urllib.parse import quote, quote_plus

from flowtrace.errors import pointer_token
from flowtrace.host.system import re
from flowtrace.values.encoded import Digest, Encoded
from flowtrace.values.forms import TAG
from flowtrace.values.json import dumps, loads, tree_bytes
from flowtrace.values.named_secrets import without_named_secrets
from flowtrace.values.redaction import MARKER, SecretNames
from flowtrace.values.secret_patterns import FIRST, LAST, PATTERNS, without_error_secrets, without_url_secrets
from flowtrace.values.secret_tables import is_next_name, without_table_secrets
from flowtrace.values.secret_texts import EVERYTHING, SHORTEST, SHORTEST_BESIDE

_MOST_WORK: Final = 1 << 28  # characters that one scrubber looks at, below a second; later texts are hidden as a whole
_OF_A_SEARCH: Final = 200
_TOO_SHORT: Final = 15  # characters, letters and digits alone: not even the shortest key is one
_SHORT: Final = 200  # characters: the same such text is often there many times
_OF_A_SPELLING: Final = 50
_NAMES_OF_ERRORS: Final = frozenset({"frames", "type", "relation"})
_LETTERS: Final = re.compile("[A-Za-z0-9]+")  # each spelling of a text has these as they are
_CUT_OFF: Final = re.compile(r"\.\.\. \(\d+ characters\)\Z")


def without_lookalikes(text: str, secret: SecretNames) -> str:
    """Return a text with the marker for all that looks like a secret, by itself or by the name before it.

    Args:
        text: any text.
        secret: the test for secret names.
    """
    if len(text) <= _TOO_SHORT and text.isascii() and text.isalnum():
        return text
    text = FIRST.hidden_in(text)
    if secret.may_be_named_in(text.encode("utf-8", "replace")):
        text = without_table_secrets(text, secret)
        text = without_error_secrets(text, secret)
        text = without_url_secrets(text, secret)
        text = without_named_secrets(text, secret)
    else:
        text = without_url_secrets(text, secret)
    return LAST.hidden_in(text)


class Scrubber:
    """Replaces secrets in texts by the marker.

    Args:
        texts: the secrets, from `texts_in`.
        secret: the test for secret names, whose values follow them in a text, as in ``password=...``.

    Attributes:
        hides: all that a text depends on: two scrubbers with equal ones make the same of it.
    """

    __slots__ = ("_done", "_forms", "_hides_all", "_texts", "_work", "hides", "secret")

    def __init__(self, texts: Iterable[str], secret: SecretNames) -> None:
        self._texts = sorted(set(texts), key=len, reverse=True)
        self._forms: dict[str, set[str]] = {}  # the spellings of those secrets that some text was long enough for
        self._done: dict[str, str] = {}
        self._work = _MOST_WORK
        self._hides_all = EVERYTHING in self._texts
        self.secret = secret
        self.hides = (secret, *self._texts)

    def scrubbed(self, value: Any) -> Any:
        """Return a JSON-like value without secrets in its texts; types and frames stay as they are."""
        if type(value) is str:
            return self.text(value)
        if type(value) is dict:
            return {name: item if name in _NAMES_OF_ERRORS else self.scrubbed(item) for name, item in value.items()}
        return [self.scrubbed(item) for item in value] if type(value) is list else value

    def text(self, text: str) -> str:
        """Return a text with the marker for secrets and for what looks like one."""
        if self._hides_all:
            return MARKER
        return without_lookalikes(self.without_secrets(text), self.secret)

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
                present |= {form: _pattern_of(form) for form in self._forms_of(secret, text) if form in text}
        if self._work < 0:
            return MARKER
        if not present:
            return text
        longest_first = sorted(present, key=len, reverse=True)
        return re.sub("|".join(present[form] for form in longest_first), MARKER, text)

    def _forms_of(self, secret: str, text: str) -> set[str]:
        """Return the spellings of a secret; none where the text has not even the letters that all of them have."""
        if secret not in self._forms:
            if max(_LETTERS.findall(secret), key=len, default="") not in text:
                return set()
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
    is_number = len(form) < SHORTEST_BESIDE and re.fullmatch(r"[\d.e+-]+", form)
    needs_bounds = len(form) < SHORTEST or is_number  # 1234 is no part of 12345
    return rf"(?<!\w){pattern}(?!\w)" if needs_bounds else pattern


def _spellings(secret: str) -> set[str]:
    """Return the spellings of a secret in other texts: as it is, with escapes, in JSON, in a URL."""
    plain = secret.encode("utf-8", "backslashreplace").decode()
    spelt = {plain, repr(secret)[1:-1], json_text(secret)[1:-1], json_text(plain, ensure_ascii=False)[1:-1]}
    return spelt | {quote(plain), quote(plain, safe=""), quote_plus(plain)}


_MOST_POINTERS: Final = 1000
_NO_TEXTS: Final = frozenset({TAG, "class", "type", "dtype", "blake3", "base64"})
"""Fields of tagged forms that hold no text of the value as it is."""
_ITEMS_ARE_BYTES: Final = re.compile(rb"\x93NUMPY....\{'descr': '.[^ ]1'", re.DOTALL)
_SHORTEST_NEED: Final = 3
_CLEAR: Final = tuple({need for item in PATTERNS for need in item.needs if len(need) >= _SHORTEST_NEED})
_VAGUE: Final = tuple(item for item in PATTERNS if any(len(need) < _SHORTEST_NEED for need in item.needs))
_SHORTEST_KEY: Final = 12
_MOST_ARGUMENTS: Final = 10_000
_LONGEST_COLUMN: Final = 60  # characters of its name
_COLUMNS: Final = ("columns", "fields", "header", "headers", "names", "fieldnames")
_ROWS: Final = ("rows", "data", "values", "records")
_LOGIN_OPTIONS: Final = frozenset({"-u", "--user", "--proxy-user"})


# A value whose texts are short words: not even the shortest key is one. In a list, a word may be the value of the last,
# so that only a list of numbers counts. The form of an object has the name of its class, which is no text of the value.
# Keys may be longer. flowtrace/calls/native/text.c has the rule for words.
_PLAIN: Final = re.compile(
    rb'(?:[^"\[]|\[[^"\[\]{}]*+\]|"\$py":"[a-z_]{1,20}","class":"[\w.]{1,100}:[\w.]{1,100}"'
    rb'|"(?:[A-Za-z0-9_]{0,15}|[A-Za-z0-9_.-]{0,11}|[a-z_]{0,40}(?=":))")*+',
)


def may_hold_secrets(data: bytes, secret: SecretNames) -> bool:
    """Return False if nothing in the texts of a value looks like a secret. A quick test: True means maybe.

    Args:
        data: the value's canonical bytes.
        secret: the test for secret names.
    """
    if b'"' not in data or _PLAIN.fullmatch(data):
        return False
    lower = data.lower().decode("latin-1")  # a search in bytes takes several times as long to begin
    return (
        any([need in lower for need in _CLEAR])  # noqa: C419  # a generator takes longer
        or b"://" in data
        or b'"base64":' in data
        or secret.may_be_named_in(data)
        or any(item.is_in(data.decode("utf-8", "replace")) for item in _VAGUE)
    )


def without_secrets_in_texts(value: Encoded, secret: SecretNames) -> Encoded:
    """Return a captured value with the marker for all that looks like a secret in its texts, and pointers to them.

    Its hash and size stay those of the value. What can't be read again, since it is too deep, is hidden as a whole.

    Args:
        value: the value; where no bytes of it were kept, it stays as it is.
        secret: the test for secret names.
    """
    if value.data is None or not may_hold_secrets(value.data, secret):
        return value
    hider = _Hider(secret)
    try:
        tree = hider.hidden(loads(value.data))
        data = tree_bytes(tree) if hider.pointers else value.data
    except (ValueError, TypeError, RecursionError):
        return value._replace(data=dumps(MARKER), redacted=("",))
    pointers = dict.fromkeys((*value.redacted, *sorted(hider.pointers[:_MOST_POINTERS])))
    return value._replace(data=data, redacted=tuple(pointers)[:_MOST_POINTERS])


def piece_holds_secrets(suffix: str, data: bytes, secret: SecretNames) -> bool:
    """Return True if something in the content of a large array looks like a secret.

    Args:
        suffix: ``json`` for canonical JSON; else it is a file of NumPy's, which has a text only if its items are bytes.
        data: the content.
        secret: the test for secret names.
    """
    if suffix == "json":
        return bool(without_secrets_in_texts(Encoded(data, Digest(""), len(data)), secret).redacted)
    if not _ITEMS_ARE_BYTES.match(data):
        return False
    text = data.decode("latin-1")
    return without_lookalikes(text, secret) != text


class _Hider:
    """Hides secrets in the texts of one JSON-like value.

    Attributes:
        pointers: JSON Pointers of the texts that hold a marker now.
    """

    def __init__(self, secret: SecretNames) -> None:
        self.pointers: list[str] = []
        self._secret = secret

    def hidden(self, tree: Any) -> Any:
        """Return the value without secrets; its containers are changed."""
        root = [tree]
        waiting: list[tuple[Any, str | None]] = [(root, None)]
        while waiting:
            container, pointer = waiting.pop()
            self._hide_below_names(container, pointer or "")
            named = self._after_names(container) if type(container) is list else {}
            for key, item in list(_parts(container)):
                at = "" if pointer is None else f"{pointer}/{pointer_token(key)}"
                shown = named.get(key) or self._shown(item)
                if shown is not item:
                    container[key] = shown
                    self.pointers.append(at)
                elif type(item) in (dict, list):
                    waiting.append((item, at))
            if type(container) is dict:
                self._hide_in_keys(container, pointer or "")
        return root[0]

    def _shown(self, item: Any) -> Any:
        """Return a text, or bytes that hold one, without secrets; any other value as it is."""
        text = _text_of(item)
        if text is None:
            return item
        shown = without_lookalikes(text, self._secret)
        if shown == text:
            return item
        return shown if type(item) is str else item | {"base64": b64encode(shown.encode("latin-1")).decode()}

    def _after_names(self, items: list[Any]) -> dict[int, str]:
        """Return what is shown of the items that follow a name: in a pair, or the arguments of a command."""
        found: dict[int, str] = {}
        texts = list(map(_text_of, items)) if len(items) <= _MOST_ARGUMENTS else []
        for at, (name, value) in enumerate(pairwise(texts), start=1):
            if not name or not value or value == MARKER:
                continue
            if name in _LOGIN_OPTIONS and ":" in value:
                found[at] = f"{value.partition(':')[0]}:{MARKER}"
            elif (name.startswith("-") or len(items) == 2) and "=" not in name and self._secret(name):
                found[at] = MARKER
        return found

    def _hide_below_names(self, container: Any, pointer: str) -> None:
        """Hide the cells of rows whose first row, or the list of columns beside them, has a secret name."""
        rows, first, at = container, 1, pointer
        names = container[0] if type(container) is list and len(container) > 1 else None
        if type(container) is dict:
            names = next((container[key] for key in _COLUMNS if key in container), None)
            key = next((key for key in _ROWS if key in container), "")
            rows, first, at = container.get(key), 0, f"{pointer}/{key}"
        if type(names) is not list or type(rows) is not list or len(names) < 2 or not all(map(_is_short, names)):
            return
        columns = [column for column, name in enumerate(names) if self._secret(name)]
        for number, row in enumerate(rows[first:] if columns else (), start=first):
            if type(row) is list and len(row) == len(names):
                for column in columns:
                    is_pair = columns == [0] and len(names) == 2 and is_next_name(str(row[0]))
                    if row[column] not in (None, MARKER) and not is_pair:
                        row[column] = MARKER
                        self.pointers.append(f"{at}/{number}/{column}")

    def _hide_in_keys(self, mapping: dict[str, Any], pointer: str) -> None:
        """Hide secrets in keys; each of them stays one of its own."""
        for key in list(mapping):
            shown = without_lookalikes(key, self._secret) if len(key) >= _SHORTEST_KEY else key
            if shown != key:
                while shown in mapping:
                    shown += "_"
                mapping[shown] = mapping.pop(key)
                self.pointers.append(pointer)


def _is_short(name: object) -> bool:
    return type(name) is str and len(name) <= _LONGEST_COLUMN


def _text_of(item: Any) -> str | None:
    """Return a text, or the characters of bytes; None for any other value."""
    if type(item) is str:
        return item
    if type(item) is not dict or TAG not in item or type(item.get("base64")) is not str:
        return None
    try:
        return b64decode(item["base64"], validate=True).decode("latin-1")
    except Base64Error:
        return None


def _parts(container: Any) -> Iterator[tuple[Any, Any]]:
    """Return the parts of a container that may hold texts of the value, with their keys."""
    if type(container) is list:
        return enumerate(container)
    is_tagged = TAG in container
    return ((key, item) for key, item in container.items() if not (is_tagged and key in _NO_TEXTS))
