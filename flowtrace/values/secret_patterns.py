"""Secrets by their looks: one table of them in texts, whatever stands around it; and texts whose format is known.

The latter are URLs, and the messages of libraries that name a field and quote its value. What follows a name is found
by `flowtrace.values.named_secrets`.

No expression here needs more than a few steps for each character: what may repeat is bounded, or ends where nothing
else could begin. Where the end of a secret is not sure, the rest of the line is hidden, or of the text.
"""

from __future__ import annotations

from functools import cache
from re import Match
from typing import Final, NamedTuple
from urllib.parse import unquote

from flowtrace.host.system import re
from flowtrace.values.needles import by_starts, needles_in
from flowtrace.values.redaction import MARKER, SecretNames


class Pattern(NamedTuple):
    """The look of one kind of secret.

    Attributes:
        what: its name in the docs and in the tests.
        needs: texts in lower case; where none of them is in a text, the pattern is not there.
        expression: a regular expression; what is in its groups stays before the marker.
        end: what stands behind the marker.
    """

    what: str
    needs: tuple[str, ...]
    expression: str
    end: str = ""

    def is_in(self, text: str) -> bool:
        """Return True if a text holds such a secret."""
        return compiled(self.expression).search(text) is not None

    def hidden_in(self, text: str) -> str:
        """Return a text with the marker for such secrets."""
        return compiled(self.expression).sub(lambda found: f"{''.join(found.groups())}{MARKER}{self.end}", text)


class Span(NamedTuple):
    """Where a value is in a text: from its first character up to the one behind its last."""

    start: int
    end: int


@cache
def compiled(expression: str) -> re.Pattern[str]:
    """Return a compiled regular expression. To compile them all takes longer than to load flowtrace."""
    return re.compile(expression)


def _pattern(what: str, needs: str, expression: str, end: str = "") -> Pattern:
    return Pattern(what, tuple(needs.split(" ")), expression, end)


def _make(what: str, begin: str, expression: str) -> Pattern:
    """Return the pattern of the keys of one make, which begin with a text of their own."""
    return _pattern(what, begin.lower(), rf"(?<![A-Za-z0-9])(?:{expression})")


MAKES: Final = (
    _make("AWS key", "AKIA ASIA ABIA ACCA", r"A(?:KIA|SIA|BIA|CCA)[0-9A-Z]{16}"),
    _make("Stripe key", "k_live_ k_test_ whsec_", r"(?:[rs]k_(?:live|test)|whsec)_\w{10,}"),
    _make("OpenAI key, without its kind", "sk-", r"sk-[A-Za-z0-9]{20,}"),
    _make(
        "OpenAI, Anthropic or OpenRouter key",
        "sk-",
        r"sk-(?:ant|proj|svcacct|admin|or|lf|None)-[\w-]{8,}",
    ),
    _make(
        "key of another language model",
        "gsk_ xai- pplx- r8_ pcsk_ lsv2_ tvly-",
        r"(?:gsk_|xai-|pplx-|r8_|pcsk_|lsv2_|tvly-)\w{16,}",
    ),
    _make("Hugging Face token", "hf_", r"(?:api_org|hf)_[A-Za-z0-9]{16,}"),
    _make("Google key", "aiza", r"AIza[\w-]{16,}"),
    _make("Google token", "ya29. gocspx- 1//0", r"(?:ya29\.|GOCSPX-|1//0)[\w.-]{8,}"),
    _make("GitHub token", "gho_ ghp_ ghr_ ghs_ ghu_ github_pat_", r"(?:gh[oprsu]|github_pat)_\w{16,}"),
    _make("GitLab token", "gl", r"gl(?:pat|ptt|dt|rt|cbt|ft|imt|soat|agent|oas)-[\w-]{12,}"),
    _make("Slack token", "xox xapp-", r"(?:xox[a-z]|xapp)[.-][\w.-]{8,}"),
    _make("Discord token", ".", r"[MNO][\w-]{22,30}\.[\w-]{6}\.[\w-]{25,}"),
    _make("Telegram token", ":aa", r"\d{6,12}:AA[\w-]{28,}"),
    _make("Twilio key", "sk ac", r"(?:SK|AC)[0-9a-f]{32}(?![0-9a-f])"),
    _make("SendGrid key", "sg.", r"SG\.[\w-]{12,}(?:\.[\w-]+)?"),
    _make("Mailgun key", "key-", r"key-[0-9a-f]{32}"),
    _make("Shopify token", "shpat_ shpca_ shppa_ shpss_ shpit_ shptka_", r"shp(?:at|ca|pa|ss|it|tka)_\w{12,}"),
    _make("Square token", "sq0 eaaa", r"(?:sq0[a-z]{3}-|EAAA)[\w-]{20,}"),
    _make("Facebook token", "eaa", r"EAA[A-Z][A-Za-z0-9]{16,}"),
    _make("npm token", "npm_", r"npm_[A-Za-z0-9]{16,}"),
    _make("PyPI token", "pypi-", r"pypi-(?=[a-z-]{0,40}[A-Z0-9_])[\w-]{16,}"),
    _make("RubyGems, NuGet or Clojars key", "rubygems_ oy2 clojars_", r"(?:rubygems_|oy2|CLOJARS_)\w{30,}"),
    _make("DigitalOcean token", "_v1_", r"do[opr]_v1_\w{16,}"),
    _make("Docker token", "dckr_", r"dckr_(?:pat|oat)_[\w-]{12,}"),
    _make("Vault token", "hvs. hvb. hvr.", r"hv[sbr]\.[\w-]{16,}"),
    _make("Doppler token", "dp.", r"dp\.(?:pt|st|ct|sa|scim|audit)\.[\w.-]{16,}"),
    _make("Databricks token", "dapi dkea", r"(?:dapi|dkea)[0-9a-f]{28,}"),
    _make("Atlassian token", "atatt atbb atctt", r"(?:ATATT|ATBB|ATCTT)[\w=-]{16,}"),
    _make("Terraform token", ".atlasv1.", r"[A-Za-z0-9]{14}\.atlasv1\.[\w-]{16,}"),
    _make(
        "Grafana, Sentry, New Relic, Postman, Linear or Pulumi key",
        "glsa_ glc_ sntry nrak- pmak- lin_api_ pul- phx_ sbp_ figd_",
        r"(?:glsa_|glc_|sntry[su]_|NRAK-|PMAK-|lin_api_|pul-|phx_|sbp_|figd_)[\w-]{16,}",
    ),
    _make("age key", "age-secret-key-", r"AGE-SECRET-KEY-1[0-9A-Za-z]{8,}"),
)
"""Keys and tokens that tell their make."""

BLOCKS: Final = (
    # PEM, OpenSSH, SSH2 and PGP: up to its END, in one line with \n written out too; a block that is cut off has none
    _pattern(
        "private key",
        "begin",
        r"(?s)-{4,5} ?BEGIN [\w ]{0,40}?(?:PRIVATE|SECRET|Static)[ -](?i:key)[^-\n]{0,20}-{4,5}"
        r".*?(?:-{4,5} ?END [^-\n]{1,60}-{4,5}|\Z)",
    ),
    # the key file of PuTTY, whose parts have lines of their own
    _pattern("PuTTY key", "putty-user-key-file", r"(?s)PuTTY-User-Key-File-.*?(?:Private-MAC: ?\w+|\Z)"),
    # a JSON Web Token, signed (RFC 7519) or encrypted (RFC 7516); the first look is one for each word
    _pattern("JSON Web Token", "eyj", r"(?<![\w-])(?=[\w-]{11,}+\.[\w.-])[\w-]*?eyJ[\w-]{8,}(?:\.[\w-]*)+"),
)
"""Secrets with a beginning and an end of their own."""

HEADERS: Final = (
    # RFC 6750 and RFC 7617: not the word after "bearer" in ordinary prose
    _pattern(
        "what follows Bearer",
        "bearer",
        r"((?i:\bbearer))(\s+)(?!(?i:tokens?|auth\w*|schemes?|realm|format|header|keys?|is|was|not|error)\b)[\w.~+/=|:-]{6,}",
    ),
    _pattern(
        "what follows Basic",
        "basic",
        r"((?i:\bbasic))(\s+)(?=[A-Za-z+/]{0,60}[0-9=A-Z])(?![A-Z]?[a-z]+\b)[\w+/-]{6,}=*",
    ),
    # the same schemes by other names, where what follows is no word
    _pattern(
        "what follows ApiKey, Token, Digest or the like",
        "apikey token negotiate ntlm signature api-key",
        r"((?i:\b(?:api-?key|token|negotiate|ntlm)))(\s+)(?=[A-Za-z._~+/=-]{0,60}\d)[\w.~+/=-]{16,}",
    ),
)

STATEMENTS: Final = (
    # SQLAlchemy: the parameters of a statement, of one row or of many
    _pattern("SQL parameters", "parameters:", r"(\[parameters: ).*", end="]"),
    # PostgreSQL's log, and what it says of a row that breaks a constraint
    _pattern("parameters in a log", "detail:", r"(?i)(\bDETAIL:\s{1,4}parameters: ).*"),
    _pattern("row that failed", "failing row contains", r"(?i)(failing row contains \().*", end=")"),
    # CREATE USER ... IDENTIFIED BY 'x', ALTER ROLE ... PASSWORD 'x'
    _pattern("password in SQL", "identified by", r"(?i)(\bidentified by (?:password )?).*"),
    # the lines of FTP, POP3, SMTP and Redis with a password, as a log shows them
    _pattern(
        "login of a protocol",
        "pass auth",
        r"(?m)((?:^|[\"'>] ?|\bsend:? b?['\"])(?:PASS|AUTH(?: PLAIN| LOGIN)?) )(?![A-Z][a-z]+\b)[^\r\n\"']+",
    ),
    _pattern("password of Redis", "requirepass masterauth", r"(?i)(\b(?:requirepass|masterauth)\s{1,4}).*"),
    _pattern("line of .netrc", "login", r"(\blogin\s{1,4}\S{1,200}\s{1,9}password\s{1,4})\S+"),
    _pattern("line of .pgpass", ":", r"(?m)^([\w.*-]{1,200}:(?:\d{1,5}|\*):[^:\s]{1,200}:[^:\s]{1,200}:)\S+$"),
    # a PIN, a one-time code or the like right behind its name
    _pattern(
        "code behind its name",
        "pin otp cvv cvc ssn passcode",
        r"(?i)(\b(?:pin|otp|cvv2?|cvc2?|ssn|passcode)\b[ #]{1,2}(?:code |number |is |was )?)\d[\d -]{1,18}\d",
    ),
    _pattern(
        "code of a second factor",
        "code",
        r"(?i)(\b(?:recovery|backup|2fa|mfa|totp|verification|one-time|login|reset)[ -]codes?:?(?: is| was)? )"
        r"(?=[\w-]{0,30}\d)[\w-]{4,}",
    ),
    _pattern(
        "number of an account or a card",
        "iban card",
        r"(?i)(\b(?:iban|(?:credit |debit )?card)(?: number| no\.?| nr\.?)?:?(?: is| was)? )"
        r"(?:[A-Z]{2}\d{2}(?: ?[\dA-Z]{4}){2,7}(?: ?[\dA-Z]{1,4})?|\d(?:[ -]?\d){12,18})\b",
    ),
    # what language models' servers say of a key
    _pattern("key that was provided", "key provided:", r"(?i)(\bkey provided: ?)[^\s.,]+"),
    _pattern("login of IMAP", " login ", r"(?m)(^\w{1,10} LOGIN \S{1,200} )\S+"),
    _pattern("login before a host, without a scheme", "//", r"((?<![:\w/])//[^\s/@:]{1,100}:)[^\s/@]{1,200}(?=@)"),
    # SCOTT/TIGER@DB, as Oracle's tools and drivers take it
    _pattern(
        "login of Oracle",
        "oracle: sqlplus",
        r"(\b(?:jdbc:oracle:\w{1,9}:|sqlplus (?:-\w+ )*)[\w$#]{1,60}/)\S{0,200}(?=@)",
    ),
)
"""Secrets in the language of a database or a protocol."""

OPTIONS: Final = (
    # curl -u user:password, in a line or in a list of arguments
    _pattern(
        "user and password of an option",
        "-u --user",
        r"((?<![\w-])(?:-u|--user|--proxy-user)[\"']?[ =,]{1,2}(?:b?[\"'])?[\w.@%+-]{1,200}:)(?!//)[^\s\"']+",
    ),
    # mysql -pSECRET, sshpass -p SECRET, redis-cli -a SECRET
    _pattern(
        "password of a short option",
        "mysql maria sshpass redis-cli docker",
        r"(\b(?:mysql\w*|mariadb[\w-]*)\b[^\n]{0,120}?[\s\"']-p)[^\s\"',-][^\s\"']*",
    ),
    _pattern(
        "password of a short option with a space",
        "sshpass redis-cli",
        r"(\b(?:sshpass\b[\"',]*\s{1,2}[\"']?-p|redis-cli\b[^\n]{0,120}?-a)[\"',]*\s{0,2}[\"']?)[^\s\"']+",
    ),
    _pattern(
        "password of a short option of another command",
        "mongo openssl ssh-keygen ldap zip",
        r"(\b(?:mongo\w{0,9}\b[^\n]{0,120}?[\s\"']-p|openssl\b[^\n]{0,120}?[\s\"']-k"
        r"|ssh-keygen\b[^\n]{0,120}?[\s\"']-[NP]|ldap\w{2,9}\b[^\n]{0,120}?[\s\"']-w"
        r"|(?:un)?zip\b[^\n]{0,120}?[\s\"']-P)[\"',]*\s{1,2}[\"']?)[^\s\"']+",
    ),
    _pattern(
        "user and password of HTTPie",
        "http",
        r"(\bhttps?\b[\"',]*\s{1,2}[^\n]{0,80}?(?<![\w-])(?:-a|--auth)[\"']?[ =,]{1,2}[\"']?[\w.@%+-]{1,200}:)"
        r"[^\s\"']+",
    ),
)
"""Options whose names are too short to tell."""


class Table:
    """Patterns that are looked for one after the other.

    Args:
        patterns: the patterns.
    """

    def __init__(self, *patterns: Pattern) -> None:
        self.patterns = patterns
        self._numbers: dict[str, list[int]] = {}
        for number, pattern in enumerate(patterns):
            for need in pattern.needs:
                self._numbers.setdefault(need, []).append(number)
        self._starts = by_starts(self._numbers)

    def hidden_in(self, text: str) -> str:
        """Return a text with the marker for all that matches one of the patterns."""
        found = needles_in(text.lower(), self._starts)
        for number in sorted({number for need in found for number in self._numbers[need]}):
            text = self.patterns[number].hidden_in(text)
        return text


FIRST: Final = Table(*BLOCKS, *STATEMENTS, *OPTIONS)
LAST: Final = Table(*HEADERS, *MAKES)
PATTERNS: Final = (*FIRST.patterns, *LAST.patterns)


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
