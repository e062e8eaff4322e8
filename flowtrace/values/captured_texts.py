"""Hides what looks like a secret in the texts of a captured value, where it is written; the hash of the value stays."""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final

from flowtrace.errors import pointer_token
from flowtrace.host.system import re
from flowtrace.values.digest import Digest
from flowtrace.values.encoded import Encoded
from flowtrace.values.forms import TAG
from flowtrace.values.json import dumps, loads, tree_bytes
from flowtrace.values.redaction import MARKER, SecretNames
from flowtrace.values.scrub import without_lookalikes
from flowtrace.values.secret_patterns import PATTERNS

_MOST_POINTERS: Final = 1000
_NO_TEXTS: Final = frozenset({TAG, "class", "type", "dtype", "blake3", "base64"})
"""Fields of tagged forms that hold no text of the value as it is."""
_ITEMS_ARE_BYTES: Final = re.compile(rb"\x93NUMPY....\{'descr': '.[^ ]1'", re.DOTALL)
_SHORTEST_NEED: Final = 3
_CLEAR: Final = tuple({need.encode() for item in PATTERNS for need in item.needs if len(need) >= _SHORTEST_NEED})
_VAGUE: Final = tuple(item for item in PATTERNS if any(len(need) < _SHORTEST_NEED for need in item.needs))
_SHORTEST_KEY: Final = 12
_MOST_ARGUMENTS: Final = 10_000
_LOGIN_OPTIONS: Final = frozenset({"-u", "--user", "--proxy-user"})


# A value whose texts are short words: not even the shortest key is one. In a list, a word may be the value of the last,
# so that only a list of numbers counts. The form of an object has the name of its class, which is no text of the value.
# Keys may be longer. flowtrace/calls/native/box.c has the rule for words.
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
    lower = data.lower()
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

    def _hide_in_keys(self, mapping: dict[str, Any], pointer: str) -> None:
        """Hide secrets in keys; each of them stays one of its own."""
        for key in list(mapping):
            shown = without_lookalikes(key, self._secret) if len(key) >= _SHORTEST_KEY else key
            if shown != key:
                while shown in mapping:
                    shown += "_"
                mapping[shown] = mapping.pop(key)
                self.pointers.append(pointer)


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
