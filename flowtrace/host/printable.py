"""The one escaper: every text that reaches a terminal, in a command's output or in a warning of ours, passes it."""

from __future__ import annotations

from typing import Final

from flowtrace.host.system import re

_BLANK: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Characters that Python calls printable, and that show nothing: fillers, a blank Braille cell, variation selectors."""
_BEYOND_ASCII: Final = re.compile(r"[^\n -~]")
_16_BITS: Final = 0xFFFF


def printable(text: str) -> str:
    r"""Return text on one line, without characters that a terminal would obey or hide.

    Control characters, ANSI escapes, marks that change the direction of text, tags and other invisible characters
    become Python's escapes, such as ``\x1b``.
    """
    if text.isprintable():
        return text if text.isascii() else _BLANK.sub(lambda found: _escaped(found[0]), text)
    return "".join(character if _is_seen(character) else _escaped(character) for character in text)


def json_printable(text: str) -> str:
    r"""Return JSON text in which such characters are escaped as JSON allows; its line breaks stay.

    Args:
        text: JSON text, which has none of them outside of its strings.
    """
    return _BEYOND_ASCII.sub(lambda found: found[0] if _is_seen(found[0]) else _json_escape(found[0]), text)


def _is_seen(character: str) -> bool:
    return character.isprintable() and _BLANK.match(character) is None


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _json_escape(character: str) -> str:
    code = ord(character)
    if code <= _16_BITS:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
