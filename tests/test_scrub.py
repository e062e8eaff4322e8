"""Secrets in the texts of errors: known values in every spelling, and what only looks like a secret."""

from __future__ import annotations

import json
import os
import re
import urllib.parse
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowtrace import traced_node
from flowtrace.recording.failure import MAX_MESSAGE
from flowtrace.testing import recording
from flowtrace.values import scrub as scrub_module
from flowtrace.values.environment_secrets import texts_in_environment
from flowtrace.values.needles import by_starts, needles_in
from flowtrace.values.redaction import MARKER, secret_names
from flowtrace.values.scrub import Scrubber
from flowtrace.values.secret_texts import EVERYTHING, LONGEST_TEXT, texts_in

NAMES = secret_names()


def scrub(text, *secrets):
    return Scrubber(texts_in(secrets, NAMES), NAMES).text(text)


def test_a_secret_is_as_long_as_a_message_may_be():
    assert LONGEST_TEXT == MAX_MESSAGE


@given(
    secret=st.text(min_size=4).filter(re.compile(r"[^\d.e+-]").search),
    before=st.text(max_size=5),
    after=st.text(max_size=5),
)
def test_a_known_secret_is_found_in_every_spelling(secret, before, after):
    if not texts_in([secret], NAMES) or secret in MARKER + "'\"@":
        return
    plain = secret.encode("utf-8", "backslashreplace").decode()
    for form in (plain, repr(secret)[1:-1], json.dumps(secret)[1:-1], urllib.parse.quote(plain, safe="")):
        shown = Scrubber(texts_in([secret], NAMES), NAMES).without_secrets(f"{before}{form}{after}")
        assert not any(form in piece for piece in shown.split(MARKER))


@pytest.mark.parametrize(
    ("secret", "text", "shown"),
    [
        ("hunter2", "no hunter2, nohunter2no", f"no {MARKER}, no{MARKER}no"),
        ("abc", "abc abcd (abc)", f"{MARKER} abcd ({MARKER})"),
        (1234, "1234 of 12345 x1234", f"{MARKER} of 12345 x1234"),
        (0.125, "0.125", MARKER),
        ("a", "a message", "a message"),
        ("", "a message", "a message"),
        ("None", "None is not true", "None is not true"),
        (None, "None", "None"),
        (True, "True", "True"),
        (b"hunter2\xff", "b'hunter2\\xff' 68756e74657232ff", f"b'{MARKER}' {MARKER}"),
        (["first-one", {"k": ("other",)}], "first-one other k", f"{MARKER} {MARKER} k"),
        ({"long-key-of-hidden": 1}, "long-key-of-hidden", MARKER),
        ("ab" * 5000, "x" + "ab" * 4095 + "a... (10001 characters)", f"x{MARKER}..."),
        ("hunter2", "see hun... (9000 characters)", f"see {MARKER}..."),
        ("hunter2", "see it... (9000 characters)", "see it... (9000 characters)"),
    ],
)
def test_a_known_secret_is_hidden(secret, text, shown):
    assert scrub(text, secret) == shown


def test_objects_are_looked_into_without_running_their_code():
    class Loud:
        def __init__(self):
            self.user, self.password, self.long = "ada", "hunter2", "long enough"

        def __getattribute__(self, name):
            raise AssertionError(name)

        def __repr__(self):
            raise AssertionError

    assert sorted(texts_in([Loud()], NAMES)) == ["hunter2", "long enough"]


def test_where_not_all_secrets_are_known_no_text_is_shown():
    assert texts_in([[f"secret-{n}" for n in range(2000)]], NAMES) == (EVERYTHING,)
    assert texts_in([[[] for _ in range(30_000)]], NAMES) == (EVERYTHING,)
    scrubber = Scrubber([EVERYTHING], NAMES)
    assert scrubber.text("any") == scrubber.without_secrets("any") == MARKER


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("password=hunter2 user=ada", f"password={MARKER} user=ada"),
        ("db_password: hunter2, id: 7", f"db_password: {MARKER}, id: 7"),
        ("{'api_key': 'a b', 'id': 'c'}", f"{{'api_key': '{MARKER}', 'id': 'c'}}"),
        ('{"token":"x y","n":1}', f'{{"token":"{MARKER}","n":1}}'),
        ("X-Auth-Token => abc", f"X-Auth-Token => {MARKER}"),
        ("Authorization: Bearer abc.def", f"Authorization: {MARKER}"),
        ("sent Bearer abcdefgh", f"sent Bearer {MARKER}"),
        ("postgres://ada:hunter2@host/db", f"postgres://ada:{MARKER}@host/db"),
        ("https://host:80/a@b", "https://host:80/a@b"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY----- end", f"{MARKER} end"),
        ("-----BEGIN PRIVATE KEY-----\nMII", MARKER),
        ("got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.sig", f"got {MARKER}"),
        ("used ghp_" + "a" * 36, f"used {MARKER}"),
        ("AKIAABCDEFGHIJKLMNOP is no good", f"{MARKER} is no good"),
        ("tokenizer=fast max_tokens=5 a passenger: ada", "tokenizer=fast max_tokens=5 a passenger: ada"),
        ("the password is wrong", "the password is wrong"),
        ("division by zero", "division by zero"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text, shown):
    assert scrub(text) == shown
    assert scrub(shown) == shown


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text", ["a" * 8192, "a." * 4096, "token" * 1600, "password = " * 700, "://a:" * 1600, "'=" * 4096]
)
def test_no_text_takes_long(text):
    assert scrub(text)


def test_types_and_frames_stay():
    details = {"type": "secret", "frames": [{"file": "secret"}], "notes": ["secret"], "left": 3, "none": None}
    shown = {**details, "notes": [MARKER]}
    assert Scrubber(("secret",), NAMES).scrubbed(details) == shown


def test_variables_with_secret_names_are_secrets():
    environ = {
        "MY_TOKEN": "long-enough",
        "HOME": "/long/enough",
        "XDG_SESSION_ID": "3",
        "FLOWTRACE_HASH_KEY": "the key is",
    }
    assert texts_in_environment(environ, NAMES) == ("long-enough", "the key is")


def test_the_working_folder_is_no_secret_and_a_password_under_its_name_is_one():
    assert texts_in_environment({"PWD": str(Path.cwd()), "OLDPWD": str(Path.cwd() / "x")}, NAMES) == ()
    assert texts_in_environment({"PWD": "hunter2hunter2"}, NAMES) == ("hunter2hunter2",)


def test_secrets_of_an_environment_that_changes(monkeypatch):
    others = texts_in_environment(os.environ, NAMES)
    for value in ("first-value", "second-value"):
        monkeypatch.setenv("SHOP_PASSWORD", value)
        assert set(texts_in_environment(os.environ, NAMES)) - set(others) == {value}
        assert set(texts_in_environment(os.environ, secret_names(("-password",)))) & {value} == set()
    monkeypatch.delenv("SHOP_PASSWORD")
    assert texts_in_environment(os.environ, NAMES) == others


@given(
    needles=st.lists(st.text("abc", max_size=4), unique=True, max_size=12),
    text=st.text("abcd", max_size=12) | st.text("abcd", max_size=12).map(lambda text: 40 * text),
)
def test_texts_in_a_text(needles, text):
    expected = sorted(needle for needle in needles if needle in text)
    assert sorted(needles_in(text, by_starts(needles))) == expected


def test_a_secret_of_another_step_of_the_trace_is_hidden_too():
    @traced_node
    def login(password):
        return None

    @traced_node
    def outer():
        login("hunter-two")
        raise ValueError("hunter-two was no good")

    with recording() as recorded:
        with pytest.raises(ValueError, match=r"^hunter-two was no good$"):
            outer()
        (trace,) = recorded.traces
    assert trace.steps[1].error.message == f"{MARKER} was no good"


# --- what it costs


@given(st.text(min_size=1))
def test_no_spelling_of_a_secret_is_shorter_than_it(secret):
    assert min(map(len, scrub_module._spellings(secret))) >= len(secret)


def test_secrets_that_are_longer_than_a_text_are_not_even_spelt(monkeypatch):
    spelt = []
    spellings = scrub_module._spellings
    monkeypatch.setattr(scrub_module, "_spellings", lambda secret: spelt.append(secret) or spellings(secret))
    scrubber = Scrubber(["a secret", "a much longer secret", "b" * 5000], NAMES)
    assert [scrubber.text(text) for text in ("no", "is a secret", "a secret")] == ["no", f"is {MARKER}", MARKER]
    assert spelt == ["a secret"]  # once, for all texts


def test_secrets_whose_letters_are_not_in_a_text_are_not_spelt_for_it(monkeypatch):
    spelt = []
    spellings = scrub_module._spellings
    monkeypatch.setattr(scrub_module, "_spellings", lambda secret: spelt.append(secret) or spellings(secret))
    scrubber = Scrubber(["/open/sesame%", "%&/%&/"], NAMES)
    shown = [scrubber.without_secrets(text) for text in ("open the door", "to %2Fopen%2Fsesame%25", "%&amp;/%&amp;/")]
    assert (shown, spelt) == (["open the door", f"to {MARKER}", "%&amp;/%&amp;/"], ["%&/%&/", "/open/sesame%"])


def test_beyond_a_budget_texts_are_hidden_as_a_whole(monkeypatch):
    monkeypatch.setattr(scrub_module, "_MOST_WORK", 1000)
    scrubber = Scrubber(["opensesame"], NAMES)
    shown = [scrubber.text(f"row {number} of a table") for number in range(6)]
    assert shown == ["row 0 of a table", "row 1 of a table", "row 2 of a table", "row 3 of a table", MARKER, MARKER]


def test_a_beginning_that_is_searched_for_too_long_hides_the_text(monkeypatch):
    monkeypatch.setattr(scrub_module, "_MOST_WORK", 100_000)
    text = "ac" * 4000 + "... (9000 characters)"
    assert Scrubber(["a" * 4000 + "b"], NAMES).text(text) == f"{MARKER}..."
