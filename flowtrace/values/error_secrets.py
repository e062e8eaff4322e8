"""Secrets in the messages of well-known libraries, which name a field in one place and quote its value in another."""

from __future__ import annotations

from typing import Final, NamedTuple

from flowtrace.values.redaction import MARKER, SecretNames
from flowtrace.values.secret_patterns import compiled


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
_SHORTEST: Final = 4


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
        text = text.replace(value, MARKER) if len(value) >= _SHORTEST else text
    return text


def _has_secret(fields: str, secret: SecretNames) -> bool:
    return any(
        secret(field) or secret(compiled(_ENDS).sub("", field)) for field in compiled(_BETWEEN_FIELDS).split(fields)
    )
