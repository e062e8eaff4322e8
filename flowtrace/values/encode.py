"""Any Python value to its canonical JSON bytes.

A value of JSON types is written by orjson in one call: with sorted keys, its output is byte for byte that of Rust's
serde_json for its default ``Value``. `flowtrace.values.encoder` writes any other value.
"""

from __future__ import annotations

from typing import Any, Final

from flowtrace.host.objects import class_name
from flowtrace.host.signals import let_through
from flowtrace.values.digest import Digest, hash_bytes
from flowtrace.values.encoded import CutPart, Encoded, Shared, Sink, cut_form, opaque_form
from flowtrace.values.encoder import Encoder
from flowtrace.values.forms import TAG as TAG
from flowtrace.values.forms import Labelled
from flowtrace.values.json import (
    MAX_WORK,
    dumps,
    keys_of,
    plain_within,
)
from flowtrace.values.pieces import Pieces
from flowtrace.values.redaction import NO_NAMES, Redactor, SecretNames
from flowtrace.values.scrub import texts_in

_SHORT: Final = 512  # bytes; up to here it is quicker to look at the keys than to search for all secret names
_FEW: Final = 16  # names; the test remembers them one by one


def encode(
    value: object,
    *,
    secret: SecretNames = NO_NAMES,
    redactor: Redactor | None = None,
    name: str = "",
    key: bytes | None = None,
    limit: int | None = None,
    work: int = MAX_WORK,
    pieces: Pieces | None = None,
) -> Encoded:
    """Return any value in its canonical form. Never raises, but for what a signal handler does.

    Args:
        value: anything.
        secret: the names whose values are replaced by a marker.
        redactor: the program's own function, which hides more values.
        name: the name of the value itself, for the redactor; "" where it has none.
        key: 32 bytes for keyed hashing.
        limit: keep no more canonical bytes than this; None keeps all.
        work: units of work that the value may take; the rest of it is cut.
        pieces: where the content of large arrays is kept; None keeps none of it.
    """
    value = Labelled(name, value) if name and redactor is not None else value
    return _encode(value, secret, redactor, key, limit, work, pieces)[0]


def encode_items(
    values: list[Any], *, secret: SecretNames, redactor: Redactor | None, name: str, work: int
) -> tuple[Encoded, int]:
    """Return an array of some values in its canonical form, and the units of work that are left.

    Args:
        values: anything.
        secret: the names whose values are replaced by a marker.
        redactor: the program's own function, which hides more values.
        name: the name of each value, for the redactor.
        work: units of work that they may take together; the rest is cut.
    """
    items: list[object] = values if redactor is None else [Labelled(name, value) for value in values]
    return _encode(items, secret, redactor, None, None, work)


def _encode(
    value: object,
    secret: SecretNames,
    redactor: Redactor | None,
    key: bytes | None,
    limit: int | None,
    work: int,
    pieces: Pieces | None = None,
) -> tuple[Encoded, int]:
    found = plain_within(value, work) if redactor is None else None
    if found is not None:
        data, left = found
        if not _has_tag(data) and not _has_key(value, data, secret):
            kept = data if limit is None or len(data) <= limit else None
            return Encoded(kept, hash_bytes(data, key), len(data)), left
        del data
    del found
    sink = Sink(key, limit)
    shared = Shared(work, secret, pieces)
    encoder = Encoder(secret, redactor, sink, shared)
    try:
        encoder.run(value)
    except BaseException as error:  # for example out of memory: the class is all that is sure
        let_through(error)
        sink = Sink(key, limit)
        sink.write(opaque_form(class_name(type(value))))
        encoded = sink.finish(("",), ())
    else:
        encoded = sink.finish(tuple(encoder.opaque), tuple(encoder.redacted), tuple(encoder.cut))
    if shared.kept:
        encoded = encoded._replace(pieces=tuple(shared.kept))
    if shared.hidden:
        encoded = encoded._replace(secrets=texts_in(shared.hidden, secret))
    return encoded, shared.left


def left_out(key: bytes | None = None) -> Encoded:
    """Return the form of a value that is not encoded at all, since that would cost too much.

    Args:
        key: 32 bytes for keyed hashing.
    """
    data = cut_form("overhead", 0)
    return Encoded(data, hash_bytes(data, key), len(data), ("",), cut=(CutPart("", "overhead", 0),))


def _has_tag(data: bytes) -> bool:
    """Return True if JSON text may hold the key of a tagged form; one letter is found faster than five."""
    return b"$" in data and b'"$py"' in data


def _has_key(tree: object, data: bytes, secret: SecretNames) -> bool:
    """Return True if a mapping in a tree, whose canonical bytes these are, has a secret key."""
    if b'":' not in data or (len(data) > _SHORT and not secret.may_be_in(data)):
        return False
    names = set(keys_of(tree))
    return (len(names) <= _FEW or secret.may_be_in(dumps(list(names)))) and any(map(secret, names))


def canonical_bytes(value: object) -> bytes:
    """Return the canonical JSON bytes of any value.

    The format is described in the docs under "Canonical JSON"; for plain JSON values it is RFC 8259 JSON as written
    by serde_json 1.0.147 for a key-sorted ``Value``.

    Args:
        value: anything.

    Returns:
        UTF-8 bytes. Parts whose content can't be read are tagged ``opaque``.
    """
    data = encode(value).data
    assert data is not None  # no limit was given
    return data


def hash_value(value: object) -> Digest:
    """Return the BLAKE3 hash of a value's canonical JSON bytes.

    Args:
        value: anything.

    Returns:
        64 lowercase hex digits, a str that also has ``algorithm`` and ``value``.
    """
    return encode(value, limit=0).digest
