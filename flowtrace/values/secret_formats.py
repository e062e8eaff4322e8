"""Secrets in texts whose format is known: URLs, and the messages of libraries that name a field and quote its value."""

from __future__ import annotations

from re import Match
from typing import Final, NamedTuple
from urllib.parse import unquote

from flowtrace.values.redaction import MARKER, SecretNames
from flowtrace.values.secret_patterns import compiled

_URL: Final = r"://\S+"
_PORT: Final = r"\d{1,5}(?:[/?#\"'\\,;)\]}>]|$)"
_USER: Final = r"[^/?#@:\[\]\\\"']*"
_PERSON: Final = r"[A-Za-z][A-Za-z._-]{0,15}|"
_QUERY: Final = r"[?&][\w.\[\]-]+="
_PARAMETER: Final = r"((?:[?&#]|&amp;)([\w.~%\[\]-]{1,100})=)([^\s&\"<>]+)"
_HOST: Final = r"[^/?#]*/?"
_HOOK: Final = r"/(?:web)?hooks?\w{0,2}/"
_PATH: Final = r"[^?#\"'<>]+"
_SEGMENT: Final = r"(?<=/)([\w.-]{1,100})/([\w~%=.-]{8,})"
_BOT: Final = r"(/bot\d{4,14}:)[\w-]{16,}"
_CLOSING: Final = "'`)]},;.:!?"
SHORT_NAMES: Final = frozenset({"code", "key", "state", "ticket", "access", "k"})
"""Parameters that are secret in a URL alone, if their value is long enough for one."""
_SHORTEST: Final = 6
_LONG: Final = 16


def without_url_secrets(text: str, secret: SecretNames) -> str:
    """Return a text with the marker for the secrets in its URLs and in the parameters of forms.

    Args:
        text: any text.
        secret: the test for secret names, of parameters and of parts of a path.
    """
    if "://" in text:
        text = compiled(_URL).sub(
            lambda found: "://" + "://".join(_hidden(part, secret) for part in found[0][3:].split("://")), text
        )
    if "=" in text:
        text = compiled(_PARAMETER).sub(lambda found: _parameter(found, secret), text)
    return text


def _hidden(part: str, secret: SecretNames) -> str:
    """Return what follows the scheme of one URL, up to the next white space or URL, without secrets."""
    user, rest = _split_at_login(part)
    if "/" in rest:
        rest = _without_hook(rest)
        rest = compiled(_BOT).sub(lambda found: f"{found[1]}{MARKER}", rest)
        rest = compiled(_SEGMENT).sub(lambda found: _segment(found, secret), rest)
    return user + rest


def _without_hook(rest: str) -> str:
    """Return a URL from its host on: the path of a web hook is all that it takes to use it."""
    host = compiled(_HOST).match(rest)
    begin = host if host and "hook" in host[0] else compiled(_HOOK).search(rest)
    path = begin and compiled(_PATH).match(rest, begin.end())
    if not path or not any(map(_looks_random, path[0].split("/"))):
        return rest
    return f"{rest[: path.start()]}{MARKER}{rest[path.end() :]}"


def _split_at_login(part: str) -> tuple[str, str]:
    """Return the part up to the host, with the password and a token hidden, and the rest.

    A password may hold @, / and #, so that it ends at the last @ before the parameters.
    """
    user = compiled(_USER).match(part)
    assert user is not None  # it may be empty
    query = compiled(_QUERY).search(part)
    at = part.rfind("@", 0, query.start() if query else len(part))
    if at < 0 and query:
        at = part.rfind("@")
    if at < 0 or at < user.end():
        return "", part
    shown = user[0] if compiled(_PERSON).fullmatch(user[0]) or user[0] == MARKER else MARKER
    if at == user.end():  # a name alone, or a token in its place
        return shown, part[at:]
    if part[user.end()] != ":" or compiled(_PORT).match(part, user.end() + 1):
        return "", part
    return f"{shown}:{MARKER if at > user.end() + 1 else ''}", part[at:]


def _looks_random(text: str) -> bool:
    has_digit = any(character.isdigit() for character in text)
    return (len(text) >= _SHORTEST and has_digit) or (len(text) >= _LONG and text.lower() != text)


def _segment(found: Match[str], secret: SecretNames) -> str:
    is_named = secret(found[1]) or (len(found[2]) >= _LONG and found[1].lower() in SHORT_NAMES)
    return f"{found[1]}/{MARKER}" if is_named and _looks_random(found[2]) else found[0]


def _parameter(found: Match[str], secret: SecretNames) -> str:
    begin, name, value = found.groups()
    shown = value.rstrip(_CLOSING)
    name = unquote(name)
    if not shown or not (secret(name) or (name.lower() in SHORT_NAMES and len(shown) >= _SHORTEST)):
        return found[0]
    return f"{begin}{MARKER}{value[len(shown) :]}"


class _Message(NamedTuple):
    """A message that names fields and quotes their values.

    Attributes:
        needs: a text that each such message has.
        expression: has the groups ``fields`` and ``value``.
        hides_cut: a value that was cut in the middle may have lost a name in it, and is hidden under any field.
    """

    needs: str
    expression: str
    hides_cut: bool = False


MESSAGES: Final = (
    # pydantic: the field is in the line before
    _Message(
        "input_value=",
        r"(?m)^(?P<fields>[^\s\n][^\n]{0,400})\n[^\n]{0,2000}?\binput_value=(?P<value>[^\n]*?)(?=, input_type=\w+\]|$)",
        hides_cut=True,
    ),
    # PostgreSQL: Key (email, api_key)=(a, b) already exists
    _Message(")=(", r"\((?P<fields>[^()\n]{1,300})\)=\((?P<value>[^\n]*)(?=\))"),
    # MySQL: Duplicate entry 'x' for key 'users.api_key'
    _Message(
        "Duplicate entry",
        r"\bDuplicate entry '(?P<value>[^\n]{0,4000}?)' for key '(?P<fields>[^'\n]{1,200})'",
    ),
    # a statement with the values in it: INSERT INTO users (name, password) VALUES ('ada', 'x')
    _Message(
        "(",
        r"(?i)\((?P<fields>[^()]{1,2000})\)\s{0,9}values\s{0,9}(?P<value>\([^\n]*)",
    ),
    # jsonschema: On instance['password']:\n    'x'
    _Message(
        "On instance[",
        r"(?m)^On instance(?P<fields>(?:\[[^\]\n]{1,200}\]){1,50}):\n(?P<value>\s[^\n]*(?:\n[ \t][^\n]*)*)",
    ),
)
_ENDS: Final = r"(?i)_(?:key|unique|uniq|idx|index|uk|pkey)$"
_BETWEEN_FIELDS: Final = r"[\s.,;\"'`\[\]()]+"
_SHORTEST_QUOTED: Final = 4


def without_error_secrets(text: str, secret: SecretNames) -> str:
    """Return a text with the marker for the values that some libraries quote apart from their secret names.

    Args:
        text: any text.
        secret: the test for secret names.
    """
    for message in MESSAGES:
        if message.needs in text:
            text = _without(text, message, secret)
    return text


def _without(text: str, message: _Message, secret: SecretNames) -> str:
    pieces: list[str] = []
    quoted: list[str] = []
    at = 0
    found = compiled(message.expression).search(text)
    while found is not None:
        value = found["value"]
        after = found.end()
        if _has_secret(found["fields"], secret) or (message.hides_cut and "..." in value):
            pieces += [text[at : found.start("value")], MARKER]
            quoted.append(value.strip())
            at = found.end("value")
        elif found.start("fields") < found.start("value"):
            after = found.start("value")
        found = compiled(message.expression).search(text, after)
    text = "".join([*pieces, text[at:]])
    for value in quoted[:20]:  # the same value in the first line
        text = text.replace(value, MARKER) if len(value) >= _SHORTEST_QUOTED else text
    return text


def _has_secret(fields: str, secret: SecretNames) -> bool:
    return any(
        secret(field) or secret(compiled(_ENDS).sub("", field)) for field in compiled(_BETWEEN_FIELDS).split(fields)
    )
