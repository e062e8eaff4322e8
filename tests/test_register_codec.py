"""Codecs of the users' own."""

from __future__ import annotations

import pytest

from flowtrace import CodecError, canonical_bytes, hash_value, register_codec
from flowtrace.values.codecs import REGISTERED
from flowtrace.values.encode import encode
from flowtrace.values.json import loads

HERE = __name__


class Plain:
    pass


def test_a_codec_gives_content_to_a_class_and_its_subclasses():
    class Money:
        def __init__(self, cents):
            self.cents = cents

    class Euro(Money):
        pass

    class Broken(Money):
        cents = property(lambda self: 1 / 0)

        def __init__(self):
            pass

    register_codec(Money, lambda money: {"cents": money.cents}, lambda content: Money(content["cents"]))
    try:
        name = f"{HERE}:{Money.__qualname__}"
        assert loads(canonical_bytes(Money(5))) == {"$py": "codec", "class": name, "value": {"cents": 5}}
        assert encode([Money(5), Broken()]).opaque == ("/1",)
        # which class it is must not be lost with the content
        assert hash_value(Euro(5)) != hash_value(Money(5))
    finally:
        del REGISTERED[id(Money)]


@pytest.mark.slow
def test_a_codec_that_never_ends_is_cut():
    class Endless:
        pass

    register_codec(Endless, lambda value: Endless(), lambda content: Endless())
    try:
        encoded = encode(Endless(), limit=0)
        assert len(encoded.opaque) == 1
    finally:
        del REGISTERED[id(Endless)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, len, len), "register_codec takes a class first, not 1"),
        ((int, len, len), "int has a fixed form: a codec takes a class of your own"),
        ((dict, len, len), "dict has a fixed form: a codec takes a class of your own"),
        ((Plain, 1, len), "encode of Plain must be callable, not 1"),
        ((Plain, len, None), "decode of Plain must be callable, not None"),
    ],
)
def test_a_codec_of_no_use_is_refused(arguments, message):
    with pytest.raises(CodecError) as caught:
        register_codec(*arguments)
    assert str(caught.value) == message
