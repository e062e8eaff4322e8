"""The one list of names whose values are hidden. The docs page and `flowtrace doctor --redaction` show it as it is.

A name is a row of words; `flowtrace.values.redaction` cuts ``dbPassword`` and ``X-Api-Key`` into such words.
"""

from __future__ import annotations

from typing import Final, NamedTuple


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
