"""The one table of what looks like a secret in a text, whatever stands around it.

`flowtrace.values.named_secrets` finds what follows a name, `flowtrace.values.secret_formats` what is secret in a URL.

No expression here needs more than a few steps for each character: what may repeat is bounded, or ends where nothing
else could begin. Where the end of a secret is not sure, the rest of the line is hidden, or of the text.
"""

from __future__ import annotations

from functools import cache
from typing import Final, NamedTuple

from flowtrace.host.system import re
from flowtrace.values.redaction import MARKER


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

FIRST: Final = (*BLOCKS, *STATEMENTS, *OPTIONS)
LAST: Final = (*HEADERS, *MAKES)
PATTERNS: Final = (*FIRST, *LAST)


def without(text: str, patterns: tuple[Pattern, ...]) -> str:
    """Return a text with the marker for all that matches some patterns."""
    lower = text.lower()
    for pattern in patterns:
        if any([need in lower for need in pattern.needs]):  # noqa: C419  # a generator takes longer
            text = pattern.hidden_in(text)
    return text
