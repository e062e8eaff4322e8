"""What looks like a secret in a text is hidden, wherever the text is; ordinary texts stay."""

from __future__ import annotations

import base64
import json
import re
import string
from contextlib import suppress
from inspect import getsource
from signal import SIGKILL

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowtrace import traced_node
from flowtrace.testing import recording
from flowtrace.values.encode import encode
from flowtrace.values.json import loads
from flowtrace.values.redaction import MARKER, secret_names
from flowtrace.values.scrub import may_hold_secrets, without_lookalikes, without_secrets_in_texts
from flowtrace.values.secret_patterns import PATTERNS
from tests.programs import run_program
from tests.secret_shapes import BLOCKS, HARMLESS, HEX, MAKES, RANDOM, SHAPES, filled
from tests.secrets_scan import MARK, planted, scan

NAMES = secret_names()
NUMBERS = [
    "the OTP 123456 is old",
    "IBAN DE89 3704 0044 0532 0130 00 of ada",
    "iban: GB29NWBK60161331926819 is no account",
    "card number 4111 1111 1111 1111 was declined",
    "the credit card is 4111111111111111",
]
SECRETS = [planted("text"), "Zx3Cv6Bn9Mq2We5Rt8Yu"]
QUOTED = ["p@ss/w#rd?x=1&y {b}", "a,b;c:d=e", "<x>&amp;", "ü ß 漢字", "tab\\tand 'quote' in"]
"""Secrets of which only quotes tell the end."""


@pytest.mark.cells
@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(("text", "readable"), SHAPES)
def test_a_secret_is_hidden_and_the_words_around_it_stay(text, readable, secret):
    shown = without_lookalikes(filled(text, secret), NAMES)
    assert secret not in shown
    assert all(filled(words, "") in shown for words in readable), shown
    assert without_lookalikes(shown, NAMES) == shown


@pytest.mark.cells
@pytest.mark.parametrize("around", ["got {} here", "{}", "x={}", "('{}',)", "key:{}\n", '{{"k":"{}"}}'])
@pytest.mark.parametrize("key", MAKES)
def test_a_key_is_known_by_its_make(key, around):
    shown = without_lookalikes(around.format(key), NAMES)
    assert not any(part in shown for part in (RANDOM[:12], RANDOM[-12:], HEX[:12]))
    assert MARKER in shown


@pytest.mark.parametrize("block", BLOCKS)
def test_a_private_key_is_hidden_to_its_end(block):
    shown = without_lookalikes(f"bad key {block} of ada", NAMES)
    assert RANDOM[:12] not in shown
    assert shown.startswith(f"bad key {MARKER}")
    assert shown.endswith("of ada") is ("END" in block or "Private-MAC" in block)


@pytest.mark.parametrize("text", HARMLESS)
def test_an_ordinary_text_stays_as_it_is(text):
    assert without_lookalikes(text, NAMES) == text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    begin=st.sampled_from(["", "sk", "AKIA", "ya29", "ghp", "password", "eyJ", "AIza", "EAAC", "dapi", "oy2", "gl"]),
    rest=st.text(string.ascii_letters + string.digits, max_size=15),
)
def test_letters_and_digits_that_are_not_looked_at_are_no_secret(begin, rest, monkeypatch):
    text = (begin + rest)[:15]
    with monkeypatch.context() as changes:
        changes.setattr("flowtrace.values.scrub._TOO_SHORT", -1)
        assert without_lookalikes(text, NAMES) == text
    assert without_lookalikes(text, NAMES) == text


@pytest.mark.parametrize("text", NUMBERS)
def test_a_number_behind_its_name_is_hidden(text):
    shown = without_lookalikes(text, NAMES)
    assert MARKER in shown
    assert not re.search(r"\d{2}", shown)


def test_there_are_as_many_shapes_and_neighbours_as_promised():
    assert len(SHAPES) + len(MAKES) + len(BLOCKS) >= 300
    assert len(HARMLESS) >= 100


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.what)
def test_every_pattern_of_the_table_finds_a_shape_and_needs_what_it_says(pattern):
    texts = [*(filled(text, SECRETS[1]) for text, _ in SHAPES), *MAKES, *BLOCKS, *NUMBERS]
    found = [text for text in texts if pattern.hidden_in(text) != text]
    assert found
    assert all(any(need in text.lower() for need in pattern.needs) for text in found)


@pytest.mark.parametrize("secret", QUOTED)
@pytest.mark.parametrize("write", [repr, json.dumps, lambda text: json.dumps(json.dumps(text))], ids="123")
def test_any_secret_in_quotes_is_hidden(write, secret):
    shown = without_lookalikes(write({"user": "ada", "password": secret, "n": 1}), NAMES)
    inside = re.fullmatch(r".*\bpassword\W+__REDACTED__\W+n\b.*", shown)
    assert inside, shown
    assert "ada" in shown


@pytest.mark.parametrize("secret", ["p@ss", "pa/ss", "p#ss", "p?a:b", "p@a/b@c#d", "a'b", "{x}", "p%40", "ü", "a&b"])
def test_any_password_in_a_url_is_hidden(secret):
    shown = without_lookalikes(f"no mysql://ada:{secret}@db.example:3306/shop?ssl=1 here", NAMES)
    assert shown == f"no mysql://ada:{MARKER}@db.example:3306/shop?ssl=1 here"


def test_what_a_name_of_the_program_says_counts_in_texts_too():
    assert (
        without_lookalikes("konto=DE1 password=x1", secret_names(("konto", "-password")))
        == f"konto={MARKER} password=x1"
    )


UNITS = [
    *("a", "a.", "token", "password = ", "password=", "://a:", "'=", "password='", "\\", "\\'", 'password="\\'),
    *("eyJ", "-eyJ", "eyJ.", "-----BEGIN PRIVATE KEY-----", "<password>", "<a ", "<password a=", "--password "),
    *("'--password', ", "{'password': [", "password: a, ", "password: a\n", "password:\n  x\n", "mysql ", "mysql -p "),
    *(
        "Key (password)=(",
        "(password)=(",
        "input_value=",
        "a\n  input_value=b\n",
        "Duplicate entry 'x' for key 'token'",
    ),
    *(
        "sk-",
        "ghp_",
        "://hook",
        "://hooks/",
        "hook/",
        "://x@",
        "://a:b@c?d=e&",
        "&token=",
        "?token=a&",
        "a=b;password=c;",
    ),
    *("secret ", "api key: ", "(a,", "((", "VALUES (", "-", "$a-", "basic ", "[parameters: ", "login x password "),
    *(
        "jdbc:oracle:a:b/",
        "PuTTY-User-Key-File-",
        "token%3D",
        "0",
        "On instance['token']:\n x\n",
        "/token/",
        "x@password b",
        "a,token\n",
        'a,token\n"b,',
        "token  a\n",
        "token\n---\n",
        "| a | token |\n|---|---|\n",
        "<tr><td>token</td>",
        "['a', 'token'], ",
        "['a', 'token'], ['",
    ),
]


@pytest.mark.timeout(60)
@pytest.mark.slow
@pytest.mark.parametrize("unit", UNITS)
def test_no_text_takes_more_steps_than_it_is_long(unit):
    """A quadratic search would take minutes here."""
    text = unit * (200_000 // len(unit))
    for end in ("", "'\"}@"):
        assert without_lookalikes(text + end, NAMES)


# --- captured values


@traced_node
def echo(value):
    return {"got": value}


@traced_node
def fail(text):
    raise ValueError(text)


def shapes_as_values(secret):
    """Return the texts of all shapes, and secrets in values that hold no such text."""
    return [
        *(filled(text, secret) for text, _ in SHAPES),
        ["mysqldump", "--host", "db1", "--password", secret, "shop"],
        ("deploy", f"--api-key={secret}", "--dry"),
        ["curl", "-u", f"ada:{secret}", "x"],
        [["Authorization", secret], ["Accept", "*/*"]],
        [(b"cookie", secret.encode()), (b"host", b"h")],
        {f"https://ada:{secret}@db.example/x": 1, "port": 2},
        f"Cookie: a={secret}".encode(),
        bytearray(f"Authorization: Bearer {secret}".encode()),
        [["user", "password"], ["ada", secret], ["bob", secret]],
        {"columns": ["user", "api_key"], "data": [("ada", secret)]},
        {"fields": ("user", "api_key"), "rows": [("ada", secret), ["bob", secret]]},
        ConnectionError(f"postgres://ada:{secret}@db refused"),
        [[{"deep": (f"token={secret}",)}]],
        {"DATABASE": f"mysql://ada:{secret}@db/x"},
    ]


@pytest.mark.costly
def test_no_file_holds_a_secret_of_any_shape(tmp_path):
    secret = planted("anywhere")
    settings = {"capture_inputs": True, "capture_outputs": True, "buffer_size": 2000, "max_value_bytes": 300}
    with recording(**settings) as recorded:
        for value in shapes_as_values(secret):
            echo(value)
            if isinstance(value, str):
                with suppress(ValueError):
                    fail(value)
        assert len(recorded.traces) >= len(SHAPES)
        assert scan(recorded.folder) == []
        inner = base64.b64encode(secret.encode()).rstrip(b"=")[2:-2]
        assert not any(inner in path.read_bytes() for path in recorded.folder.rglob("*") if path.is_file())


def test_ordinary_values_are_captured_as_they_are():
    with recording(capture_inputs=True, capture_outputs=True) as recorded:
        for text in HARMLESS:
            echo([text, {"x": text}])
    assert [trace.steps[0].output_json for trace in recorded.traces] == [{"got": [t, {"x": t}]} for t in HARMLESS]
    assert not any(step.redacted for trace in recorded.traces for step in trace.steps)


RING = f"""
import os
from flowtrace import flow, traced_node

MARK = {MARK!r}
SHAPES = {SHAPES!r}
{getsource(filled)}
{getsource(shapes_as_values)}

@traced_node
def echo(value):
    return value

@traced_node
def pair(a, b):
    return [a, b]

@traced_node
def get_token(n):
    return MARK

@traced_node
def make_secrets(n):
    yield MARK

@traced_node
def fail(text):
    raise ValueError(text)

@traced_node
def outer(n):
    for value in shapes_as_values(MARK + "-x"):
        for node in (echo, lambda value: pair(value, 1), lambda value: fail(str(value))):
            try:
                node(value)
            except ValueError:
                pass
    get_token(1)
    list(make_secrets(1))
    os.kill(os.getpid(), 9)

with flow("job password=" + MARK):
    outer(1)
"""


@pytest.mark.costly
@pytest.mark.parametrize("pure", ["1", "0"])
def test_no_byte_of_a_black_box_holds_a_secret(tmp_path, pure):
    settings = {"FLOWTRACE_CAPTURE_INPUTS": "1", "FLOWTRACE_CAPTURE_OUTPUTS": "1", "FLOWTRACE_PURE": pure}
    run_program(
        tmp_path, RING, code=-SIGKILL, FLOWTRACE_BLACKBOX="{flow_id}.ring", FLOWTRACE_BUFFER_SIZE="3000", **settings
    )
    assert list(tmp_path.glob("*.ring"))
    assert scan(tmp_path) == []


def test_the_hash_of_a_text_is_that_of_the_whole_text_and_its_place_is_noted():
    value = {"url": "postgres://ada:hunter2@db/shop", "a/b": ["token=abc", 1], "class": "x.token:Secret"}
    with recording(capture_inputs=True, capture_outputs=True) as recorded:
        echo(value)
    (step,) = recorded.traces[0].steps
    shown = {"url": f"postgres://ada:{MARKER}@db/shop", "a/b": [f"token={MARKER}", 1], "class": f"x.token:{MARKER}"}
    assert step.output_json == {"got": shown}
    assert step.redacted == [
        *(f"/invocation_json/payload/value/{at}" for at in ("a~1b/0", "class", "url")),
        *(f"/output_json/got/{at}" for at in ("a~1b/0", "class", "url")),
    ]
    assert step.output_hash.value == encode({"got": value}).digest


def hidden(value):
    encoded = without_secrets_in_texts(encode(value, secret=NAMES), NAMES)
    return loads(encoded.data), encoded.redacted


def test_the_class_of_a_value_is_no_text_of_it():
    class Password(str):
        pass

    document, pointers = hidden(Password("x"))
    assert document["class"].endswith("Password")
    assert pointers == ()


def test_two_keys_with_secrets_stay_two():
    document, pointers = hidden({"k": {"https://a:hunter2@h": 1, "https://a:hunter3@h": 2}})
    assert document == {"k": {f"https://a:{MARKER}@h": 1, f"https://a:{MARKER}@h_": 2}}
    assert pointers == ("/k",)


def test_a_value_too_deep_to_be_read_again_is_hidden_as_a_whole():
    value = "token=abc"
    for _ in range(2000):
        value = [value]
    assert hidden(value) == (MARKER, ("",))


@pytest.mark.parametrize("value", [0, [1.5, None, True], {}, "tea", {"name": "tea", "count": 3}, ["a b", "c-d"]])
def test_most_values_are_known_to_hold_no_secret(value):
    assert not may_hold_secrets(encode(value).data, NAMES)
