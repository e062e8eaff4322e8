"""What is hidden: names in any style at any depth; what only looks like one of them stays."""

from __future__ import annotations

import collections
import dataclasses
import enum
from types import SimpleNamespace

import numpy
import orjson
import pandas
import polars
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowtrace.recording.node import Node, Policy
from flowtrace.settings.config import TraceConfig
from flowtrace.values.encode import encode
from flowtrace.values.encoded import derive_key
from flowtrace.values.json import loads
from flowtrace.values.redaction import GROUPS, MARKER, secret_names, split_name

SECRET = """
    password PASSWORD Password passWord dbPassword DBPassword db_password db-password DB.PASSWORD user:password
    old_password password2 password_hash passwordText password_1 passwords api_key apiKey API-KEY X-Api-Key apikey
    APIKey api_keys secret client_secret clientSecret secret_key secrets_value aws_secret_access_key access_token
    accessToken refreshToken refreshtoken id_token token tokens csrf_token X-CSRF-Token jwt JWT bearer authorization
    Authorization Proxy-Authorization auth auth_header basic_auth cookie cookies Set-Cookie session session_id
    sessionid SESSION_KEY PHPSESSID JSESSIONID credential credentials private_key privateKey signing_key encryption_key
    passphrase passcode pwd DB_PWD passwd access_key accesskey bearer_token authToken X-Auth-Token
    pass db_pass SMTP_PASS pw wpa_psk userpassword DBPASSWORD pgpassword mysqlpasswd password_confirmation
    password_repeat newPasswordAgain password_plain passwordhash password_digest passwort Kennwort contraseña senha
    mot_de_passe wachtwoord hasło user_hasło пароль 密码 パスワード csrftoken csrfmiddlewaretoken authenticity_token
    sid connect.sid aspSid user_session _session aiohttp_session training_session_id session_data ASP.NET_SessionId
    SECRET_KEY_BASE RAILS_MASTER_KEY fernet_key ssh_key shared_key AccountKey SharedAccessKey storage_key stripe_key
    openai_key sendgrid_key OPENAI_API_KEY api_key_prod STRIPE_KEY_LIVE masterkey databaseurl oauth authentication
    authorization_code auth_code code_verifier client_assertion SAMLResponse samlResponse pin card_pin pinCode otp totp
    2fa mfa_code cvv cvc2 card_number creditCardNumber iban ssn social_security_number dsn sentry_dsn connection_string
    ConnectionStrings database_url REDIS_URL mongo_uri webhook_url slack_webhook signature x-amz-signature sig hmac
    creds mnemonic seed_phrase recovery_codes backup_code security_answer access_key_id SharedAccessSignature
""".split()
OPEN = """
    tokenizer tokenize tokenized passenger passengers session_count sessions_total max_tokens maxTokens num_tokens
    total_tokens n_tokens prompt_tokens completion_tokens input_tokens output_tokens used_tokens min_tokens token_count
    author authors authority authorized_at author_id key keys keyboard monkey id ids value primary_key public_key
    foreign_key sort_key cookiecutter secretary secretariat obsession compass bypass passport passed
    password_length session_duration auth_method auth_type unauthenticated jwtlike a b1 _ __ 1 count name hash b64 text
    token_id token_ids pad_token_id eos_token bos_token special_tokens stop_tokens cached_tokens max_new_tokens
    next_token nextToken page_token next_page_token continuation_token tokens_per_second access_token_id sessions
    user_sessions training_session session_timeout opinion spin pinned shipping sidebar inside gpio_pin design signal
    function_signature call_signature first_pass forward_pass boarding_pass passes surpass has_password is_secret
    no_password show_token requires_auth forgot_password password_policy password_min_length cache_key partition_key
    routing_key status_code country_code source_code zip_code url image_url redirect_uri base_uri certificate
    oauth_provider auth_provider cookies_enabled turkey keypoints monkey_key
""".split()


@pytest.mark.parametrize("name", SECRET)
def test_a_secret_name_is_known_in_every_style(name):
    assert secret_names()(name)


@pytest.mark.parametrize("name", [*OPEN, "", " ", "/", "é", "密钥", "password" * 100])
def test_a_name_that_only_looks_like_one_stays(name):
    assert not secret_names()(name)


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.title)
def test_every_built_in_name_hides_itself(group):
    for name in group.names:
        styles = [name, name.upper(), name.title(), f"{name}_value", name.replace("_", "")]
        assert all(map(secret_names(), styles if group.alone else [*styles, f"my_{name}"])), name


@pytest.mark.parametrize("group", [group for group in GROUPS if group.ordinary], ids=lambda group: group.title)
def test_a_word_before_a_name_can_make_it_ordinary(group):
    for word in group.ordinary:
        for name in group.names:
            assert not secret_names()(f"my_{word}_{name}"), (word, name)


def test_a_built_in_name_is_taken_off():
    secret = secret_names(("-session", "-API_KEY", "-tokne", "-password"))
    for name in ("session", "session_value", "api_key", "apikey", "apiKeys", "password", "userpassword"):
        assert not secret(name), name
    for name in ("token", "user_session", "secret_key", "passwd", "session_id"):
        assert secret(name), name


def test_an_added_name_wins_over_the_words_that_make_it_ordinary():
    secret = secret_names(("next_token", "has_password", "tokenizer"))
    assert all(map(secret, ("next_token", "my_next_token", "has_password", "tokenizer")))
    assert not secret("page_token")


def test_a_node_takes_no_name_off():
    assert Policy(TraceConfig(redact=("-token",))).secret(Node("c", "o", "n", redact=("-password",)))("password")
    assert not Policy(TraceConfig(redact=("-token",))).secret()("token")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("dbPasswordHash2", ("db", "password", "hash", "2")),
        ("HTTPServer", ("http", "server")),
        ("a--b__c d", ("a", "b", "c", "d")),
        ("", ()),
    ],
)
def test_names_are_cut_into_words(name, parts):
    assert split_name(name) == parts


def test_more_names_come_in_any_style():
    secret = secret_names(("IBAN", "birth-date", "kontoNummer", "Prüfung", ""))
    for name in (
        "iban",
        "customer_iban",
        "birthDate",
        "BIRTH_DATE",
        "konto_nummer",
        "KontoNummer",
        "prüfung",
        "PRÜFUNG",
        "password",
    ):
        assert secret(name)
    for name in ("birth", "date", "birth_day", "ibanez"):
        assert not secret(name)


@dataclasses.dataclass
class Login:
    user: str
    password: object
    more: object = None


class Header(str):
    pass


def hidden(value):
    encoded = encode(value, secret=secret_names())
    return loads(encoded.data), encoded.redacted


def test_values_are_hidden_at_every_depth_with_their_pointers():
    value = {
        "user": "ada",
        "password": "x",
        "rows": [{"token": 1, "id": 2}, ({"deep": {"Api-Key": [1, 2]}},)],
        "a/b~c": {"secret": {"whole": "tree"}},
    }
    assert hidden(value) == (
        {
            "user": "ada",
            "password": MARKER,
            "rows": [{"token": MARKER, "id": 2}, [{"deep": {"Api-Key": MARKER}}]],
            "a/b~c": {"secret": MARKER},
        },
        ("/a~1b~0c/secret", "/password", "/rows/0/token", "/rows/1/0/deep/Api-Key"),
    )


def test_values_are_hidden_in_records():
    document, pointers = hidden([Login("ada", "x", Login("eve", "y")), SimpleNamespace(token=1, user=2)])
    assert document[0]["fields"]["password"] == MARKER
    assert document[0]["fields"]["more"]["fields"] == {"user": "eve", "password": MARKER, "more": None}
    assert document[1]["fields"] == {"token": MARKER, "user": 2}
    assert pointers == ("/0/fields/more/fields/password", "/0/fields/password", "/1/fields/token")


def test_values_are_hidden_beside_keys_that_are_no_plain_text():
    value = {1: "a", "password": "x", Header("token"): "y", (1, "secret"): "z"}
    document, pointers = hidden({"headers": value})
    assert document["headers"]["items"] == [
        ["password", MARKER],
        [1, "a"],
        [[1, "secret"], MARKER],
        [{"$py": "str", "class": f"{__name__}:Header", "value": "token"}, MARKER],
    ]
    assert pointers == ("/headers/items/0/1", "/headers/items/2/1", "/headers/items/3/1")


def test_values_are_hidden_in_mappings_of_every_kind():
    for value in (
        collections.OrderedDict(token=1),
        collections.defaultdict(int, token=1),
        collections.Counter(token=1),
    ):
        document, pointers = hidden([value])
        assert document[0]["items"] == [["token", MARKER]]
        assert pointers == ("/0/items/0/1",)


def test_what_is_hidden_inside_a_set_or_a_hash_is_told():
    @dataclasses.dataclass(frozen=True)
    class Frozen:
        token: str

    document, pointers = hidden({"logins": {Frozen("x")}})
    assert document["logins"]["items"][0]["fields"] == {"token": MARKER}
    assert pointers == ("/logins/items",)


def test_a_hidden_value_does_not_reach_the_hash_but_with_a_key_it_does():
    secret, key = secret_names(), derive_key("k")
    one, other = {"token": "a", "id": 1}, {"token": "b", "id": 1}
    assert encode(one, secret=secret)[:-1] == encode(other, secret=secret)[:-1]  # but for the secrets themselves
    assert encode(one, secret=secret).digest == encode({"token": MARKER, "id": 1}).digest
    # calls.py hashes the real value with the key, and shows the hidden one
    assert encode(one, key=key).digest != encode(other, key=key).digest


def test_a_hidden_value_is_not_even_looked_at():
    class Loud:
        def __getattribute__(self, name):
            raise AssertionError(name)

    assert hidden({"token": Loud()}) == ({"token": MARKER}, ("/token",))
    assert encode({"token": object()}, secret=secret_names()).opaque == ()


NAMES = st.lists(
    st.sampled_from(["pass", "word", "api", "key", "Token", "max", "s", "_", "-", " ", "ö", "\n", '"', "1"])
)


@given(
    names=st.lists(NAMES.map("".join), max_size=4), extra=st.lists(st.sampled_from(["pin_code", "größe"]), max_size=1)
)
def test_a_text_without_secret_names_is_told_from_its_bytes_alone(names, extra):
    secret = secret_names(tuple(extra))
    text = orjson.dumps(dict.fromkeys(names, 1))
    if any(map(secret, names)):
        assert secret.may_be_in(text)


def test_most_texts_are_known_to_hold_no_secret_name():
    assert not secret_names().may_be_in(b'{"id":7,"name":"tea","tok":1}')
    assert not secret_names().may_be_in(b'{"path":"word"}')
    assert not secret_names().may_be_in(b"password")  # no text in quotes, no name
    assert secret_names().may_be_in(b'{"Pass-Word":1}')


@given(names=NAMES, extra=st.lists(st.sampled_from(["pin_code", "größe"]), max_size=1))
def test_every_secret_name_is_hidden_wherever_it_stands(names, extra):
    secret = secret_names(tuple(extra))
    mapping = dict.fromkeys(names, "value")
    hidden = {name: MARKER if secret(name) else "value" for name in names}
    for wrap in (lambda value: value, lambda value: [value], lambda value: {"k": (value,)}, lambda value: [{1}, value]):
        assert encode(wrap(mapping), secret=secret).data == encode(wrap(hidden)).data


def test_a_single_secret_name_is_hidden():
    for name in ("password", "api_key", "Session-Id"):
        assert encode({name: "x"}, secret=secret_names()).data == b'{"%b":"__REDACTED__"}' % name.encode()
        assert encode({name: "x"}, secret=secret_names()).redacted == (f"/{name}",)


@pytest.mark.parametrize("name", ['pass"word', "pass\\word", "pass\nword", "pass-word", "pässword.token"])
def test_a_name_is_secret_beside_plain_keys_whatever_separates_its_words(name):
    assert hidden({name: "x", "user": "ada"})[0] == {name: MARKER, "user": "ada"}


def table(user, secret):
    """Return the same two columns in every kind of table, with the place where the second is hidden."""
    fields = numpy.array([(user, secret)] * 2, [("user", "U9"), ("password", "U9")])
    inner = numpy.zeros((2, 1), [("in", [("user", "U9"), ("token", "U9", 2)], 3)])
    inner["in"]["user"], inner["in"]["token"] = user, secret
    frame = pandas.DataFrame({"user": [user], "password": [secret]})
    return [
        (fields, "/items"),
        (fields[0], "/value"),
        (inner, "/items"),
        (frame, "/columns/1/1"),
        (frame.iloc[0], "/values/1/1"),
        (frame.set_index("password")["user"], "/index/values"),
        (frame.set_index("password"), "/index/values"),
        (frame.rename(columns={"password": ("a", "token")}), "/columns/1/1"),
        (polars.DataFrame({"user": [user], "password": [secret]}), "/columns/1/1"),
        (polars.Series("s", [{"user": user, "password": secret}]), "/values"),
        (pyarrow.table({"user": [user], "password": [secret]}), "/columns/1/1"),
    ]


def test_columns_and_fields_with_secret_names_are_hidden_and_the_others_are_not():
    secret = secret_names()
    for (one, place), (two, _), (other, _) in zip(
        table("ada", "first"), table("ada", "second"), table("eve", "first"), strict=True
    ):
        ours, theirs, others = (encode(value, secret=secret) for value in (one, two, other))
        assert ours.redacted == (place,), type(one)
        assert ours.data == theirs.data
        assert ours.digest != others.digest
        assert encode(one).digest != encode(two).digest  # which a key is taken over
        assert "first" in ours.secrets, type(one)


def test_a_series_with_a_secret_name_is_hidden_as_a_whole():
    for series, place in (
        (pandas.Series([1, 2], name="token"), "/values"),
        (pandas.Index(["a"], name="token"), "/values"),
        (pandas.MultiIndex.from_tuples([("a", 1)], names=["token", "n"]), "/values"),
        (polars.Series("token", [1, 2]), "/values"),
    ):
        document, pointers = hidden(series)
        assert (document["values"], pointers) == (MARKER, (place,))


def test_a_long_index_is_data():
    labels = ["password", *(f"n{number}" for number in range(1000))]
    assert hidden(pandas.Series(range(1001), index=labels))[1] == ()
    assert hidden(pandas.Series(range(1000), index=labels[:1000]))[1] == ("/values/0/1",)


@pytest.mark.parametrize("key", [b"authorization", ("db", "password"), ("db", b"token"), Header("x-api-key")])
def test_keys_of_other_kinds_are_names_too(key):
    assert hidden({key: "x"})[1] == ("/items/0/1",)


def test_an_enum_members_name_and_value_are_names():
    for member in (enum.Enum("Field", {"PASSWORD": 1}).PASSWORD, enum.Enum("Field", {"A": "api_key"}).A):
        assert hidden({member: "x"})[1] == ("/items/0/1",)
    assert hidden({enum.Enum("Field", {"A": 1}).A: "x"})[1] == ()


def test_a_text_is_searched_for_few_names_and_may_hold_any_of_many():
    few, many = (secret_names(tuple(f"k{number:x}q" for number in range(count))) for count in (3, 3000))
    text = b'{"plain":1}'
    assert (few.may_be_in(text), many.may_be_in(text), many.may_be_in(b"[1]")) == (False, True, False)
    assert [many(name) for name in ("kbb7q", "kbb8q", "password", "plain")] == [True, False, True, False]
