"""Redaction: a value is hidden because its name is secret, or because the program's own redactor says so.

The first part is the one list of names whose values are hidden. The docs page and `flowtrace doctor --redaction` show
it as it is. A name is a row of words: ``dbPassword`` and ``X-Api-Key`` are split at separators and capitals. It is
secret if it ends with a name of the list, or with one and a word such as "key", "id" or "value". So ``DbPassword``,
``access-token`` and ``session_id`` are hidden, while ``tokenizer``, ``passenger`` and ``session_count`` are not.
`flowtrace.values.scrub` finds the hidden values again in other texts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from enum import Enum
from functools import lru_cache
from threading import local
from typing import Any, Final, NamedTuple, TypeAlias

from flowtrace.host import log
from flowtrace.host.objects import inherits, instance_dict
from flowtrace.values.forms import TAG, Labelled
from flowtrace.values.needles import by_starts, needles_in


class Group(NamedTuple):
    """Names of one kind.

    Attributes:
        title: what they are.
        names: each is secret by itself and at the end of a longer name, unless ``alone`` is set.
        ordinary: words that make one of these names ordinary if they stand right before it.
        alone: the names count only as they are, or with a follower.
    """

    title: str
    names: tuple[str, ...]
    ordinary: frozenset[str] = frozenset()
    alone: bool = False


def _set_of(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _keys(makes: str) -> tuple[str, ...]:
    return tuple(f"{make}_key" for make in makes.split())


def _each(first: str, second: str) -> tuple[str, ...]:
    return tuple(f"{begin}_{end}" for begin in first.split() for end in second.split())


GROUPS: Final = (
    Group(
        "passwords",
        (
            *("password", "passwd", "passphrase", "passcode", "pass_code", "pword", "pwd", "pw"),
            *("passwort", "kennwort"),
            *("contraseña", "contrasena", "mot_de_passe", "mdp", "senha", "palavra_passe", "wachtwoord"),
            *("lösenord", "losenord", "adgangskode", "passord", "salasana", "hasło", "haslo", "heslo"),
            *("jelszó", "jelszo"),
            *("parola", "şifre", "sifre", "пароль", "密码", "密碼", "パスワード", "비밀번호"),
            *("pgpassword", "pgpass", "passhash", "dbpass", "userpass", "requirepass", "masterauth"),
        ),
    ),
    Group(
        "passwords in short",
        ("pass",),
        _set_of(
            "forward backward first second third one two single double multi low high band by boarding season render n"
            " num all do run to test last next initial final compiler"
        ),
    ),
    Group(
        "tokens",
        ("token", "bearer", "jwt"),
        _set_of(  # of texts, as language models and parsers have them, and of pages
            "new special stop cached eos bos pad padding unk mask sep cls end start begin first reasoning thinking"
            " remaining audio image text word sub generated extra added draft unexpected expected illegal stray next"
            " prev previous page continuation pagination sync skip resume"
        ),
    ),
    Group("secrets", ("secret", "credential", "cred", "psk", "authenticator", "totp_uri", "otpauth")),
    Group("logins", ("auth", "oauth", "authentication", "authorization", "client_assertion", "saml_assertion")),
    Group("answers of a login", ("saml_response", "code_verifier", "oauth_verifier", "security_answer")),
    Group(
        "keys",
        (
            *_keys("api private access secret signing signature encryption decryption cipher crypto wrapping master"),
            *_keys("shared storage account service client server session cookie root admin app application consumer"),
            *_keys("ssh gpg pgp fernet aes des rsa hmac tls ssl cert wep wpa wifi wallet recovery license licence"),
            *_keys("deploy webhook subscription functions function instrumentation ingest ingestion sas jwt flask bot"),
            *_keys("aws azure gcp google maps firebase fcm vapid recaptcha turnstile stripe"),
            *_keys("paypal square plaid shopify"),
            *_keys("openai anthropic claude cohere mistral groq gemini huggingface hf pinecone qdrant supabase"),
            *_keys("sendgrid mailgun mailchimp postmark twilio slack telegram discord github gitlab heroku cloudflare"),
            *_keys("datadog dd newrelic sentry algolia mapbox pusher dropbox facebook twitter linkedin tmdb"),
            *("access_key_id", "jwk", "pkcs8", "pkcs12", "pfx", "keystore", "key_pem", "private_pem"),
        ),
    ),
    Group("cookies", ("cookie", "csrf", "xsrf", "sid", "session_id", "phpsessid", "jsessionid", "aspxauth", "symfony")),
    Group(
        "sessions",
        ("session", *_each("user login auth web http admin aiohttp laravel rack", "session")),
        alone=True,
    ),
    Group(
        "codes",
        (
            *("pin", "pincode", "otp", "totp", "hotp", "2fa", "mfa_code", "tfa_code", "cvv", "cvv2", "cvc", "cvc2"),
            *_each(
                "auth authorization verification security recovery backup access one_time two_factor login device sms",
                "code",
            ),
        ),
        _set_of("gpio led rx tx clk data miso mosi cs reset pull io output input chip"),
    ),
    Group(
        "numbers of cards, accounts and people",
        (
            *("card_number", "card_no", "credit_card", "cc_number"),
            *("iban", "account_number", "bank_account", "routing_number", "ssn", "social_security"),
            *("social_security_number", "passport_number", "national_id", "tax_id"),
            *("driver_license", "drivers_license"),
        ),
    ),
    Group(
        "addresses that let one in",
        (
            *("dsn", "connection_string", "conn_string", "conn_str", "connect_string"),
            *_each("database db sqlalchemy_database postgres postgresql pg mysql mongo mongodb redis", "url uri"),
            *_each("rediscloud amqp rabbitmq cloudamqp broker celery_broker jdbc smtp webhook hook", "url uri"),
            *_each("presigned signed sas", "url uri"),
            *("result_backend", "slack_webhook", "discord_webhook", "sas", "magic_link", "reset_link"),
        ),
    ),
    Group(
        "signatures",
        ("signature", "sig", "hmac"),
        _set_of("function method call type class email dtype"),
    ),
    Group(
        "words to remember",
        ("mnemonic", "seed_phrase", "recovery_phrase", "secret_phrase", "wallet_seed", "pass_phrase"),
    ),
)
"""All names, by kind. docs/pages/reference/redaction.md compares them with what others publish."""
INSIDE: Final = (
    *("password", "passwd", "passphrase", "passwort", "secret", "token", "apikey", "sessionid", "privatekey"),
    *("secretkey", "accesskey", "credential", "cookie", "contraseña", "пароль"),
)
"""Names that also count where no capital and no separator sets them apart: ``userpassword``, ``DBPASSWORD``."""
FOLLOWERS: Final = _set_of(
    "key id value text string header hash digest b64 base64 hex confirmation confirm repeat repeated again retype"
    " verify plain plaintext raw base new old current encrypted hashed salt str bytes data env prod production dev test"
    " staging live sandbox primary secondary backup default a b"
)
"""Words that may follow a secret name: ``password_hash``, ``api_key_prod``."""
QUANTITIES: Final = _set_of("max min num n count total input output prompt completion used avg mean")
"""Words before the plural of a name that make it a number: ``max_tokens``, ``total_sessions``."""
FLAGS: Final = _set_of("is has had show hide requires require needs need no forgot")
"""Words that make a name a question, if it begins with one: ``has_password``."""
BUILT_IN: Final = tuple(name for group in GROUPS for name in group.names)


MARKER: Final = "__REDACTED__"
Redactor: TypeAlias = Callable[[str, object], bool]
"""A function of a name and its value that returns True if the value must be hidden."""

_NAME_PARTS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\d_]+")
_MOST_SEARCHED: Final = 1000  # terms that a text is searched for
_LONGEST_NAME: Final = 200  # a longer text is data
_MOST_KEYS: Final = 64  # that are looked at one by one
_LONGEST_KEY: Final = 100
_MOST_NOT_SECRET: Final = 4096
_LOWER_CASE: Final = bytes(range(256)).lower()
_MEDIUM: Final = 4096
_LARGE: Final = 1 << 18
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
_SEPARATORS: Final = bytes(code for code in range(128) if not chr(code).isalnum() and chr(code) != '"')
_DOING: Final = "ask the redactor"
_ASKING: Final = local()
"""Process-global: whether a thread is inside a redactor."""


def split_name(name: str) -> tuple[str, ...]:
    """Return the parts of a name in any case or separator style, in lower case."""
    return tuple(part.lower() for part in _NAME_PARTS.findall(name))


class SecretNames:
    """A test for secret names.

    Args:
        terms: names whose values are hidden, each split by `split_name`.

    Attributes:
        last_parts: the last words of those that have several.
        not_secret: keys of mappings that `hides` was asked for, and that hide nothing.
    """

    __slots__ = ("_groups", "_inside", "_is_secret", "_longest", "_starts", "_terms", "last_parts", "not_secret")

    def __init__(self, terms: frozenset[tuple[str, ...]]) -> None:
        self._terms = terms | {("".join(term),) for term in terms}  # database_url is written databaseurl, too
        self._longest = max(2, *map(len, terms)) if terms else 0
        self.last_parts = frozenset(term[-1] for term in terms if len(term) > 1)
        self._inside = tuple(name for name in INSIDE if (name,) in terms)
        self._groups = _grouped(terms)
        if len(terms) > _MOST_SEARCHED:
            self._groups = {"": [""]}  # which is in any text: asking for each name in it is quicker then
        self._starts = by_starts(self._groups)
        self._is_secret = lru_cache(maxsize=4096)(self._find)
        self.not_secret: set[str] = set()

    def __call__(self, name: str) -> bool:
        """Return True if a name is secret."""
        return self._is_secret(name)

    def hides(self, keys: Collection[Any]) -> bool:
        """Return True if the keys of mappings may hide something; else note that they don't.

        Args:
            keys: any values; no code of theirs is run.
        """
        if len(keys) > _MOST_KEYS or not all(type(key) is str and len(key) <= _LONGEST_KEY for key in keys):
            return True
        if TAG in keys or any(map(self, keys)):
            return True
        if len(self.not_secret) >= _MOST_NOT_SECRET:
            self.not_secret.clear()
        self.not_secret.update(keys)
        return False

    def may_be_in(self, text: bytes) -> bool:
        """Return False if no text in double quotes, in JSON text, is a secret name. A quick test: True means maybe.

        Args:
            text: UTF-8.
        """
        return b'"' in text and (b"\\" in text or self.may_be_named_in(text))

    def may_be_named_in(self, text: bytes) -> bool:
        """Return False if no secret name is anywhere in a text in UTF-8. A quick test: True means maybe."""
        if not self._terms:
            return False
        if not text.isascii():
            return True
        return self._is_in_squeezed(_squeezed(text)) if len(text) <= _LARGE else self._may_be_in_large(text)

    def _may_be_in_large(self, text: bytes) -> bool:
        """Do the same piece by piece, without a second copy of a large text."""
        end = b""
        for start in range(0, len(text), _LARGE):
            piece = end + _squeezed(text[start : start + _LARGE])
            if self._is_in_squeezed(piece):
                return True
            end = piece[-_LONGEST_NAME:]
        return False

    def _is_in_squeezed(self, squeezed: bytes) -> bool:
        text = squeezed.decode("ascii")  # a search in bytes takes several times as long to begin
        starts = self._starts
        if len(text) > _MEDIUM:  # it is much faster to find that a letter is missing than a term
            missing = {letter for letter in _LETTERS if letter not in text}
            starts = by_starts(end for end in self._groups if not any(letter in end for letter in missing))
        found = needles_in(text, starts)
        return any([name in text for end in found for name in self._groups[end]])  # noqa: C419  # a generator takes longer

    def _find(self, name: str) -> bool:
        if len(name) > _LONGEST_NAME:
            return False
        parts = split_name(name)
        if len(parts) > 1 and parts[0] in FLAGS and parts[1].isascii() and parts not in self._terms:
            return False
        follower = ""
        while parts:
            if self._ends_with_term(parts, follower):
                return True
            if len(parts) < 2 or not (parts[-1] in FOLLOWERS or parts[-1].isdigit()):
                return False
            *shorter, follower = parts
            parts = tuple(shorter)
        return False

    def _ends_with_term(self, parts: tuple[str, ...], follower: str) -> bool:
        endings = [parts]
        if parts[-1].endswith("s") and len(parts[-1]) > 3:
            endings.append((*parts[:-1], parts[-1][:-1]))
        for length in range(self._longest, 0, -1):  # the longest first: it may say that the next word is part of it
            for ending in endings:
                tail = ending[-length:]
                # also joined: "passWord" is a password, "auth_token" an authtoken
                found = next((term for term in (tail, ("".join(tail),)) if term in self._terms), None)
                if found is not None:
                    before = parts[-length - 1] if length < len(parts) else ""
                    return not _is_ordinary(found, before, ending is not parts, follower, len(parts) <= length)
        return any(map(self._is_inside, endings))

    def _is_inside(self, parts: tuple[str, ...]) -> bool:
        """Return True if the last word ends with a name that counts there, or is one with a follower."""
        last = parts[-1]
        for name in self._inside:
            before = last.removesuffix(name)
            if before != last and not _is_ordinary((name,), before, False, "", False):
                return True
            after = last.removeprefix(name)
            if after != last and after in FOLLOWERS:
                return True
        return False


def _is_ordinary(term: tuple[str, ...], before: str, is_plural: bool, follower: str, is_all: bool) -> bool:
    """Return True if a name ends with a secret one, and is ordinary all the same.

    Args:
        term: the secret name.
        before: the word before it; "" for none.
        is_plural: it stands in the plural.
        follower: the word after it; "" for none.
        is_all: the name has no other words but followers.
    """
    if is_plural and before in QUANTITIES:
        return True  # max_tokens, total_sessions: a number, not the tokens themselves
    if term == ("token",) and follower == "id":
        return True  # a number of a vocabulary; of a real token, what it is called
    group = _GROUP_OF.get(term)
    if group is None:
        return False
    if group.alone and not (follower or (is_all and not is_plural)):
        return True
    return before in group.ordinary or (before in QUANTITIES and "token" in group.names)


def _grouped(terms: frozenset[tuple[str, ...]]) -> dict[str, list[str]]:
    """Return the terms as they stand in a squeezed text, by their last word, which many of them share.

    A term beyond ASCII can't be in a text of ASCII, and another text is not searched.
    """
    groups: dict[str, list[str]] = {}
    for term in terms:
        if "".join(term).isascii():
            end, name = (_squeezed(text.encode()).decode() for text in (term[-1], "".join(term)))
            groups.setdefault(end, []).append(name)
    # a word that contains another one of a single word need not be searched for
    alone = [end for end, names in groups.items() if end in names]
    return {
        end: [end] if end in names else names
        for end, names in groups.items()
        if not any(other in end and other != end for other in alone)
    }


def _squeezed(text: bytes) -> bytes:
    """Return an ASCII text in lower case, with nothing but its letters, digits and double quotes."""
    return text.translate(_LOWER_CASE, _SEPARATORS)


_GROUP_OF: Final = {split_name(name): group for group in GROUPS for name in group.names}
NO_NAMES: Final = SecretNames(frozenset())


@lru_cache(maxsize=64)
def secret_names(changes: Iterable[str] = ()) -> SecretNames:
    """Return the test for names whose values must be hidden.

    Args:
        changes: names in addition to the built-in ones, in any case or separator style; a built-in name with "-" before
            it is taken off the list.
    """
    taken_off = {split_name(name) for name in changes if name.startswith("-")}
    terms = set(map(split_name, BUILT_IN)) - taken_off
    return SecretNames(frozenset(terms | {split_name(name) for name in changes if not name.startswith("-")} - {()}))


def names_in(key: object) -> list[str]:
    """Return the names in a mapping's key: its text, the texts of a tuple, or the name and value of an enum member."""
    cls = type(key)
    if cls is str:
        return [key]  # type: ignore[list-item]
    if inherits(cls, Enum):
        own = instance_dict(key)
        return [text for part in (own.get("_name_"), own.get("_value_")) for text in _texts(part)]
    if inherits(cls, tuple):
        parts: Any = key
        return [text for part in tuple.__iter__(parts) for text in _texts(part)]
    return _texts(key)


def _texts(key: Any) -> list[str]:
    cls = type(key)
    if cls is Labelled:  # a label of a column, with the name of its level
        return names_in(key.value)
    if inherits(cls, str):
        return [str.__str__(key)]
    return [bytes.decode(key, "latin-1")] if inherits(cls, bytes) else []


def is_hidden(key: object, value: object, secret: SecretNames, redactor: Redactor | None) -> bool:
    """Return True if the value under a key must be hidden.

    Args:
        key: a name, or another mapping key.
        value: the value. Only the redactor looks at it.
        secret: the test for secret names.
        redactor: the program's own function.
    """
    names = names_in(key)
    if any(map(secret, names)):
        return True
    return redactor is not None and any(_redactor_hides(redactor, name, value) for name in names or [""])


def _redactor_hides(redactor: Redactor, name: str, value: object) -> bool:
    """Return the answer of a redactor; True if it fails, answers with no boolean, or is called by itself."""
    if getattr(_ASKING, "now", False):
        log.internal_fault(_DOING, RecursionError())
        return True
    _ASKING.now = True
    try:
        answer: object = redactor(name, value)
    except BaseException as error:
        log.internal_fault(_DOING, error)
        return True
    finally:
        _ASKING.now = False
    if answer is not True and answer is not False:
        log.internal_fault(_DOING, TypeError())
    return answer is not False
