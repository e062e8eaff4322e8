"""Objects of which only the class is written: a call after the first one is recorded as the first one was."""

from __future__ import annotations

import gc
import itertools
import weakref
from dataclasses import dataclass
from fractions import Fraction

import pytest

from flowtrace import register_codec, traced_node
from flowtrace.calls.core import NATIVE
from flowtrace.recording import call_values
from flowtrace.testing import recording
from flowtrace.values.codecs import REGISTERED
from flowtrace.values.redaction import MARKER

ALL = {"capture_inputs": True, "capture_outputs": True}


class Plain:
    def __init__(self, content=""):
        self.content = content


@traced_node
def one(value):
    return value


@traced_node
def many(value, *values, option=None):
    return [value, *values, option]


@traced_node
def login(value, password):
    raise ValueError(f"{value.content} {password.content}")


def form(cls):
    return {"$py": "opaque", "class": f"{cls.__module__}:{cls.__qualname__}"}


def steps(call, times=3, **settings):
    """Record a call a few times, in one run; return its steps."""
    with recording(**{**ALL, **settings}) as recorded:
        traced_node(lambda: [call() for _ in range(times)])()
    (trace,) = recorded.traces
    return [step for step in trace.steps if "<lambda>" not in step.node_id]


def payloads(found):
    return [(step.invocation_json["payload"], step.output_json) for step in found]


def test_each_call_has_the_form_of_the_class():
    found = steps(lambda: one(Plain()))
    assert payloads(found) == [({"value": form(Plain)}, form(Plain))] * 3
    assert [step.opaque for step in found] == [["/invocation_json/payload/value", "/output_json"]] * 3
    assert len({(step.input_hash.value, step.output_hash.value) for step in found}) == 1


def test_containers_are_recorded_as_they_were():
    kept = [Plain(), (1, Plain()), [2.5]]

    def call():
        many(kept, (Plain(),), b"x", option={"a": [Plain()]})
        kept[2].append("later")
        kept[2] = [2.5]

    expected = [[form(Plain), [1, form(Plain)], [2.5]], [form(Plain)], {"$py": "bytes", "base64": "eA=="}]
    option = {"a": [form(Plain)]}
    for payload, output in payloads(steps(call)):
        assert payload == {"value": expected[0], "values": expected[1:], "option": option}
        assert output == [*expected, option]


def test_numbers_of_the_standard_library_are_recorded_as_they_are():
    third = {"$py": "fraction", "denominator": 3, "numerator": 1}
    assert payloads(steps(lambda: one((Fraction(1, 3), 1)))) == [({"value": [third, 1]}, [third, 1])] * 3


def test_a_class_that_was_changed_is_looked_at_again():
    class Changing:
        def __init__(self):
            self.number = 1

    written = []

    def change(name, value):
        setattr(Changing, name, value)
        written.extend(payload["value"] for payload, _ in payloads(steps(lambda: one(Changing()), times=2)))

    change("text", "")
    change("__qualname__", "Renamed")
    change("__module__", "elsewhere")
    first = f"{__name__}:test_a_class_that_was_changed_is_looked_at_again.<locals>.Changing"
    names = [first, f"{__name__}:Renamed", "elsewhere:Renamed"]
    assert written == [{"$py": "opaque", "class": name} for name in names for _ in range(2)]


def test_a_class_that_becomes_a_record_or_gets_a_codec_is_looked_at_again():
    class Later:
        number: int = 1

    assert payloads(steps(lambda: one(Later())))[-1][1] == form(Later)
    dataclass(Later)
    found = payloads(steps(lambda: one(Later())))
    assert [output["fields"] for _, output in found] == [{"number": 1}] * 3

    class Coded:
        pass

    assert payloads(steps(lambda: one(Coded())))[-1][1] == form(Coded)
    register_codec(Coded, lambda _: 5, lambda _: Coded())
    try:
        assert [output["value"] for _, output in payloads(steps(lambda: one(Coded())))] == [5] * 3
    finally:
        del REGISTERED[id(Coded)]


def test_what_a_hidden_object_holds_is_hidden_in_the_text_of_each_error():
    numbers = itertools.count(1000)

    def call():
        with pytest.raises(ValueError, match="open horse"):
            login(Plain("open"), Plain(f"horse {next(numbers)}"))

    found = steps(call)
    assert [step.error.message for step in found] == [f"open {MARKER}"] * 3
    assert [step.invocation_json["payload"] for step in found] == [{"value": form(Plain), "password": MARKER}] * 3


@pytest.mark.parametrize("settings", [{}, {"redact": ("option",)}])
def test_so_it_is_behind_a_key_and_where_the_names_change(settings):
    name, numbers = "option" if settings else "password", itertools.count(1000)

    @traced_node
    def fails(value, option=None):
        raise ValueError(f"{value.content} {option[name].content if option else ''}")

    def call():
        with pytest.raises(ValueError, match="open"):
            fails(Plain("open"))
        with pytest.raises(ValueError, match="horse"):
            fails(Plain("open"), option={name: Plain(f"horse {next(numbers)}")})

    assert [step.error.message for step in steps(call, **settings)] == ["open ", f"open {MARKER}"] * 3


def test_a_redactor_is_asked_about_the_objects():
    steps(lambda: one(Plain("open")))
    asked = []

    def redactor(name, value):
        asked.append((name, type(value)))
        return type(value) is Plain and value.content == "closed"

    found = steps(lambda: one(Plain("closed")), redactor=redactor)
    assert payloads(found) == [({"value": MARKER}, MARKER)] * 3
    assert ("value", Plain) in asked


def test_no_object_lives_longer_than_without_tracing():
    seen = []

    def call():
        made = Plain()
        seen.append(weakref.ref(made))
        one([made])

    with recording():
        for _ in range(3):
            call()
            gc.collect()
            assert seen[-1]() is None


@pytest.mark.skipif(NATIVE is None, reason="the pure twin takes each of them in Python")
def test_the_native_core_asks_once_for_each_class(monkeypatch):
    asked = []
    encode = call_values.encode
    monkeypatch.setattr(call_values, "encode", lambda value, **options: asked.append(1) or encode(value, **options))

    class Asked:
        pass

    with recording(mode="on"):
        for _ in range(50):
            one(Asked())
            many(Asked(), [Asked()], option=Asked())
    assert 2 <= len(asked) <= 4  # the payload of each node's first call; once more where the path was opened anew
