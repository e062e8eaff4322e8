"""What is taken of a value while the program waits: all of it and nothing else, or nothing."""

from __future__ import annotations

import gc
import pickle
import threading

import pytest

from flowtrace.recording.call_values import Stream
from flowtrace.recording.node import Node, Policy
from flowtrace.settings.config import TraceConfig
from flowtrace.values.encode import SMALL, take_call, take_value

LIMIT = 64 * 1024


@pytest.mark.parametrize(
    "value",
    [
        pickle.PickleBuffer(b"x"),
        [pickle.PickleBuffer(bytearray(b"x"))],
    ],
)
def test_what_a_library_would_take_for_something_else_is_not_taken(value):
    assert take_value(value, LIMIT) is None
    assert take_call((value,), {}, LIMIT) is None
    assert take_call((), {"value": value}, LIMIT) is None


def test_tuples_that_say_one_thing_a_billion_times_are_given_up_in_time():
    nested = (1, 2)
    for _ in range(100):
        nested = (nested, nested)
        gc.collect(0)  # what holds only atoms is not tracked from now on
    for _ in range(200):
        if gc.is_tracked(nested):
            gc.collect()
    assert not gc.is_tracked(nested)
    assert take_call((nested,), {}, LIMIT) is None
    assert take_value(nested, LIMIT) is None


def test_a_stream_has_one_canonical_form_however_many_traces_ask_for_it():
    node, policy = Node("a", "b", "c"), Policy(TraceConfig(capture_outputs=True))
    stream = Stream()
    for number in range(100):
        stream.item({"number": number}, node, policy)
    finished = stream.finish((None,), node, policy)
    assert isinstance(finished, Stream)
    found = []
    threads = [threading.Thread(target=lambda: found.append(finished.canonical(node, policy))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    items = ",".join(f'{{"number":{number}}}' for number in range(100))
    assert [encoded.data for encoded in found] == [
        b'{"$py":"generator","items":[%b],"returned":null}' % items.encode()
    ] * 4
    assert len({encoded.digest for encoded in found}) == 1


def test_one_long_text_in_many_places_is_not_written_out(monkeypatch):
    def refuse(*_):
        raise AssertionError("this would write 100 copies")

    text = "x" * 100_000
    monkeypatch.setattr("flowtrace.values.encode.dumps", refuse)
    assert take_value(dict.fromkeys(map(str, range(100)), text), SMALL) is None
    assert take_call((dict.fromkeys(map(str, range(100)), text),), {}, SMALL) is None
