r"""Secrets in a text that follow their name: ``password=x``, ``'token': 'x'``, ``--api-key x``, ``<pin>1</pin>``.

A text is read once from its beginning to its end. Behind each secret name stands its value, which ends

- at its closing quote, as many backslashes before it as before the opening one: ``{\"password\": \"x\"}``;
- at its closing bracket;
- where neither is there: after ``=`` at white space, and after ``:`` or an arrow at the end of the line.

Where that is not sure, because a quote or bracket is never closed, all the rest of the text is hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from re import Match
from typing import Final

from flowtrace.values.redaction import MARKER, SecretNames
from flowtrace.values.secret_patterns import Span, compiled

_NAMED: Final = r"""(?x)(?<![\w.$-])(?P<dashes>-++)?(?P<name>[\w$][\w.$-]{0,199}+)(?![\w.$-])(?P<close>\\*["'`]?\]?)
    (?:(?P<between>[ \t]{0,8}(?:=>|->|→|:=|={1,3}|:(?!//)|%3[DdAa])[ \t]{0,8})
      |(?<=["'])[ \t]{0,8}(?P<comma>,)\s{0,8}(?=b?\\*["'])
      |(?P<space>[ \t]{1,8}(?:(?:is|was|of)[ \t]{1,4})?)
         (?=\\*["'`]|(?P<random>(?=[^\s]{0,60}\d)(?=[^\s]{0,60}[A-Za-z])[^\s]{6}))
      |(?(dashes)(?P<option>[ \t]{1,8}(?=[^\s=:]))|(?!))
    )"""
_ELEMENT: Final = r"<(?P<name>[\w:.-]{1,100})(?:\s[^<>=]{1,200}=[^<>]{0,500})?\s?(?<!/)>"
_NAMES_NEXT: Final = r"<(?:key|name)>\s{0,9}([\w.-]{1,100})\s{0,9}</(?:key|name)>\s{0,40}<(\w{1,40})>"
_NAME_AND_VALUE: Final = r"""(?xi)(?<![\w])(?:name|key|field|header|param|variable)\\*["']?\s{0,4}[=:]\s{0,4}
    b?\\*["']?(?P<name>[\w.-]{1,100})\\*["']?[,;]?\s{1,20}
    b?\\*["']?(?:value|val|content|data)\\*["']?\s{0,4}[=:]\s{0,4}"""
_OPENING_QUOTE: Final = r"[bBrRuUfF]{0,2}(\\*)([\"'`])"
_CALL: Final = r"[A-Za-z_][\w.]{0,80}(?=\()"
_BRACKETS: Final = {"(": ")", "[": "]", "{": "}"}
_INSIDE: Final = r"\\*[\"'`]|[()\[\]{}]"
_AFTER_QUOTE: Final = r"$|[\s,;&]|\\+[nrt\"']|[)\]}>:./\\|]+(?:$|[\s,;:\"'\\&<|]|->)"
_ORDINARY: Final = (
    r"(?i)(?:none|null|nil|undefined|true|false|yes|no|on|off|str|int|bytes|bool|float|optional\[\w+\]|\*{3,})"
    r"(?=[\s,;)\]}.|&\"']|$)"
)
_NEXT_PAIR: Final = r"[,;][ \t]{1,4}[\"']?[\w.-]{1,60}[\"']?[ \t]{0,3}[=:]"
_BLOCK: Final = r"[|>]?[+-]?[ \t]*(?:\r?\n)+(?P<lines>[ \t]+[^\r\n]+(?:(?:\r?\n)+[ \t]+[^\r\n]+)*)"
_NEXT_PART: Final = r";\s{0,3}(?:[\w ]{1,60}=|[\"'\s]|$)"
_ENCODED: Final = r"(?:(?!%26)[^\s&])*"
_UNQUOTED: Final = r"(?:[A-Z]{2})?\d{2,6}(?:[ -][\dA-Z]{2,6}){2,8}(?![\w-])|\S+"  # a number in groups is one word
_NUMBER: Final = r"-?\d[\d._]{0,40}(?=\s{0,3}(?:[}\])]|,\s))"
_FAR: Final = 1000
_CLOSING: Final = "'\"`)]},;.:!?>\\"
_HEADERS: Final = r"(?i)(?:proxy-)?authorization$|(?:set-)?cookie2?$"
_NAME_BEFORE: Final = r"(?:([A-Za-z]{1,30}) )?([A-Za-z]{1,30}) $"
_PASSWORDS: Final = r"(?i)(?:password|passwd|passphrase|pwd)$"
_QUOTED: Final = r"(?i)(?:pass(?:word|wd|phrase|code)?|pwd|secret|pin)$"

_RANDOM: Final = r"""(?x)(?=\\*["'`]?[\w+/=-]{0,60}\d)(?=\\*["'`]?[\w+/=-]{0,60}[A-Za-z])
    (?:(?P<quote>\\*["'`])[\w+/=-]{12,}(?P=quote)|[\w+=-]{16,}(?![\w.(/]))"""


def without_named_secrets(text: str, secret: SecretNames) -> str:
    """Return a text with the marker for the values that follow secret names.

    Args:
        text: any text.
        secret: the test for secret names.
    """
    if "<" in text:
        text = _without_elements(text, secret)
    text = _Reader(text, secret).replaced(_NAME_AND_VALUE, _Reader.split_value)
    return _Reader(text, secret).replaced(_NAMED, _Reader.value_behind_name)


def _without_elements(text: str, secret: SecretNames) -> str:
    """Hide what is inside the elements of XML with secret names, and in the element that follows such a key."""
    elements = compiled(_ELEMENT).finditer(text)
    found = [(match.end(), match["name"]) for match in elements if secret(match["name"].rpartition(":")[2])]
    found += [(match.end(), match[2]) for match in compiled(_NAMES_NEXT).finditer(text) if secret(match[1])]
    pieces: list[str] = []
    at = 0
    for start, name in sorted(found):
        if start >= at:
            end = text.find(f"</{name}", start)
            pieces += [text[at:start], MARKER]
            at = len(text) if end < 0 else end
    return "".join([*pieces, text[at:]])


class _Reader:
    """Reads one text from its beginning to its end; no place is looked at more than a few times.

    Args:
        text: the text.
        secret: the test for secret names.
    """

    def __init__(self, text: str, secret: SecretNames) -> None:
        self._text = text
        self._secret = secret
        self._line_end = -1

    def replaced(self, expression: str, find: Callable[[_Reader, Match[str]], Span | None]) -> str:
        """Return the text with the marker for each value that is found behind a match of an expression.

        What is hidden is not searched again, but what follows any other name is.
        """
        text = self._text
        search = compiled(expression).search
        pieces: list[str] = []
        at = 0
        found = search(text)
        while found is not None:
            value = find(self, found)
            after = found.end("name")
            if value is not None:
                after = value.end
                if value.end > value.start and text[value.start : value.end] != MARKER:
                    pieces += [text[at : value.start], MARKER]
                    at = value.end
            found = search(text, after)
        return "".join([*pieces, text[at:]]) if pieces else text

    def split_value(self, found: Match[str]) -> Span | None:
        """Return where the value is in a pair such as ``{"name": "token", "value": "x"}``."""
        return self._value(found.end(), ":") if self._secret(found["name"]) else None

    def value_behind_name(self, found: Match[str]) -> Span | None:
        """Return where the value of a name is; None where the name is no secret, or has none."""
        name = found["name"].rstrip(".-")
        if self._before(found.start("name"), 1) == "%":  # of a URL in a URL: %3Ftoken%3Dx
            name = name[2:]
        if not self._secret(name) and not self._is_with_name_before(found):
            return None
        between = found["between"]
        if found["comma"]:
            return self._value_in_list(found)
        if between is None:
            is_value = found["dashes"] or compiled(_PASSWORDS if found["random"] else _QUOTED).search(name)
            if not is_value and self._before(found.start(), 10) != "nexpected ":
                is_value = compiled(_RANDOM).match(self._text, found.end())
            return self._value(found.end(), "=") if is_value else None
        if name.lower() == "token" and self._before(found.start(), 10) == "nexpected ":  # what a parser says
            return None
        is_line = "=" not in between and compiled(_HEADERS).search(name) is not None
        return self._value(found.end(), between, is_line, self._quote_before(found))

    # --- what is around a name

    def _before(self, end: int, length: int) -> str:
        return self._text[max(0, end - length) : end]

    def _is_with_name_before(self, found: Match[str]) -> bool:
        """Return True if a name that is no secret alone is one with the words before it: ``API key``."""
        name = found["name"]
        if found["dashes"] or name.lower() not in self._secret.last_parts:
            return False
        before = compiled(_NAME_BEFORE).search(self._before(found.start(), 62))
        if before is None:
            return False
        return self._secret(f"{before[2]} {name}") or self._secret(f"{before[1] or ''} {before[2]} {name}")

    def _quote_before(self, found: Match[str]) -> str:
        """Return the quote right before a name that is not closed behind it: the value ends with that string."""
        if found["close"].strip("]"):
            return ""
        before = self._before(found.start(), 20)
        if before[-1:] not in ("'", '"', "`"):
            return ""
        return before[len(before[:-1].rstrip("\\")) :]

    def _value_in_list(self, found: Match[str]) -> Span | None:
        """Return the value in ``['--password', 'x']``, or in a pair such as ``('Authorization', 'x')``."""
        value = self._quoted(found.end())
        if value is None or found["dashes"]:
            return value
        opening = self._before(found.start(), 12).rstrip("\"'\\").rstrip("bB ")[-1:]
        closing = self._text[value.end : value.end + 12].lstrip("\\")[1:].lstrip()[:1]
        return value if opening in ("(", "[") and closing in (")", "]", "") else None

    def _end_of_line(self, start: int) -> int:
        if self._line_end < start:
            end = self._text.find("\n", start)
            self._line_end = len(self._text) if end < 0 else end
        return self._line_end

    # --- values

    def _value(self, start: int, between: str, is_line: bool = False, quote: str = "") -> Span | None:
        """Return where the value is that begins at a place.

        Args:
            start: behind the separator.
            between: the separator.
            is_line: it goes on to the end of the line.
            quote: that of the string that it is in; "" for none.
        """
        text = self._text
        if text.startswith(MARKER, start) and not is_line:
            return Span(start, start + len(MARKER))
        if compiled(_ORDINARY).match(text, start):
            return None
        if quote:
            return Span(start, self._closing(start, quote))
        return self._quoted(start) or self._bracketed(start) or self._bare(start, between, is_line)

    def _quoted(self, start: int) -> Span | None:
        """Return what is inside the quotes that begin at a place; None where there are none."""
        found = compiled(_OPENING_QUOTE).match(self._text, start)
        return None if found is None else Span(found.end(), self._closing(found.end(), found[1] + found[2]))

    def _closing(self, start: int, opening: str) -> int:
        r"""Return where the closing quote of a string begins, its backslashes included; the end of the text for none.

        A quote that a word follows is a part of the secret: ``'it's'``.
        """
        text = self._text
        quote, escapes = opening[-1], len(opening) - 1
        at = text.find(quote, start)
        while at >= 0:
            first = at
            while first > start and text[first - 1] == "\\":
                first -= 1
            more = at - first - escapes
            if more >= 0 and more % (2 * (escapes + 1)) == 0 and compiled(_AFTER_QUOTE).match(text, at + 1):
                return at - escapes
            at = text.find(quote, at + 1)
        return len(text)

    def _bracketed(self, start: int) -> Span | None:
        """Return a list, a set, a mapping or a call that begins at a place; None where there is none."""
        text = self._text
        call = compiled(_CALL).match(text, start)
        opening = start if call is None else call.end()
        if text[opening : opening + 1] == "<":
            line = self._end_of_line(opening)
            end = text.find(">", opening, line)
            return Span(start, line if end < 0 else end + 1)
        if text[opening : opening + 1] not in tuple(_BRACKETS):
            return None
        waiting: list[str] = []
        quote = ""
        for found in compiled(_INSIDE).finditer(text, opening):
            token = found[0]
            if quote:
                quote = "" if token == quote else quote
            elif token[-1] in "\"'`":
                quote = token
            elif token in _BRACKETS:
                waiting.append(_BRACKETS[token])
            elif token != waiting.pop():
                break
            elif not waiting:
                return Span(start, found.end())
        return Span(start, len(text))

    def _bare(self, start: int, between: str, is_line: bool) -> Span | None:
        """Return a value without quotes or brackets."""
        text, line = self._text, self._end_of_line(start)
        separator = between.strip()
        if is_line:
            return Span(start, line)
        if separator == ":" and not text[start : min(line, start + 12)].strip("|>+- \t\r"):
            return self._block(start)
        if separator.startswith("%"):
            encoded = compiled(_ENCODED).match(text, start)
            return encoded and Span(start, encoded.end())
        number = compiled(_NUMBER).match(text, start)
        if number is not None:
            return Span(start, number.end())
        near = min(line, start + _FAR)
        pair = compiled(_NEXT_PAIR).search(text, start, near)
        if separator in ("=", "==", "===", ":="):
            return self._assigned(start, between, line, pair)
        return Span(start, pair.start() if pair else line)

    def _assigned(self, start: int, between: str, line: int, pair: Match[str] | None) -> Span:
        """Return a value behind ``=``, of a connection string, of a line of settings or of a word."""
        text = self._text
        semicolon = text.find(";", start, min(line, start + _FAR))
        is_part = semicolon >= 0 and compiled(_NEXT_PART).match(text, semicolon)
        if is_part and "=" not in text[start:semicolon].rstrip("="):  # ADO and JDBC: up to the next of its parts
            return Span(start, semicolon)
        if between != between.strip() or ";" in self._before(start, 200).rpartition("\n")[2]:
            return Span(start, pair.start() if pair else line)
        run = compiled(_UNQUOTED).match(text, start)
        found = "" if run is None else run[0]
        return Span(start, start + max(len(found.rstrip(_CLOSING)), min(1, len(found))))

    def _block(self, start: int) -> Span | None:
        """Return the lines below a name of YAML, which are further to the right than the name."""
        found = compiled(_BLOCK).match(self._text, start)
        return None if found is None else Span(found.start("lines"), found.end())
