"""A value as bytes: a snapshot, quickly, while the program waits; or its canonical JSON, when a trace is written.

**Snapshots** are of small values. Two libraries copy such a value in C without running code of its class:

- orjson is faster, but would write an enum or a UUID as its content. The garbage collector tracks such an object. An
  untracked one has only atoms in it: numbers, texts, and dicts or tuples of them (CPython up to 3.13 does not track
  those). orjson refuses every other atom, and writes NaN as null: where there is a null, the pickler has the value.
- A pickler refuses each object that is not of an exact built-in type, in `reducer_override`: before any code of its
  class runs, and before a byte of its buffer is copied. In fast mode it follows each reference again, as a JSON writer
  would, so that it stops in time where a small value would become a huge text.

The bytes never leave the process, and hold nothing but built-in types.

**Canonical**: a value of JSON types is written by orjson in one call: with sorted keys, its output is byte for byte
that of Rust's serde_json for its default ``Value``. `flowtrace.values.encoder` writes any other value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from gc import is_tracked
from pickle import Pickler
from pickle import dumps as pickled
from pickle import loads as unpickled
from sys import getrecursionlimit, version_info
from typing import Any, Final

from flowtrace.host.objects import ON_HEAP, class_name, flags_of
from flowtrace.host.signals import let_through
from flowtrace.values.encoded import CutPart, Digest, Encoded, Pieces, Shared, Sink, cut_form, hash_bytes, opaque_form
from flowtrace.values.encoder import Encoder
from flowtrace.values.forms import TAG as TAG
from flowtrace.values.forms import Labelled
from flowtrace.values.json import EXACT_TYPES, MAX_WORK, dumps, keys_of, loads, plain_within
from flowtrace.values.redaction import NO_NAMES, Redactor, SecretNames
from flowtrace.values.secret_texts import texts_in

SMALL: Final = 64 * 1024  # a pickler writes its output at once below this size, and in pieces above it
_PROTOCOL: Final = 5
_FEW_ITEMS: Final = 32  # a larger dict goes to the pickler, as each tuple does: all its values may be one long text
_IS_BOUND_BY_LIMIT: Final = version_info < (3, 12)
_MOST_LEVELS: Final = 10_000
"""Up to 3.11, Python's own limit of recursion is all that keeps a pickler from using up the C stack."""
_PICKLED: Final = pickled(None, _PROTOCOL)[:1]  # no JSON begins with this byte
_tracked: Final = is_tracked


class TooLargeError(Exception):
    """The value is not small."""


class _Memory:
    """A file that takes one small write."""

    __slots__ = ("data",)

    def write(self, data: bytes) -> None:
        if len(data) >= SMALL:
            raise TooLargeError
        self.data = data


def _refuse(_value: Any) -> Any:
    raise TypeError


class _Refusing(Pickler):
    def reducer_override(self, _obj: Any) -> Any:
        raise TypeError


_PicklerAndFile = tuple[Callable[[Any], None], _Memory]
IDLE_PICKLERS: Final[list[_PicklerAndFile]] = []
"""Process-global: picklers to use again; one in use is not here, so that no thread or finalizer shares it."""


def _new_pickler() -> _PicklerAndFile:
    memory = _Memory()
    # `buffer_callback` for a PickleBuffer, which `reducer_override` does not see
    pickler = _Refusing(memory, _PROTOCOL, buffer_callback=_refuse)
    pickler.fast = True
    return pickler.dump, memory


def has_object(values: Iterable[object]) -> bool:
    """Return True if one of some values is of a class that is not built in, which a pickler refuses with an error."""
    return any(flags_of(type(value)) & ON_HEAP for value in values)


def is_left_to_pickler(value: Any) -> bool:
    """Return True for a value that orjson must not see: it runs code of objects, and writes tuples at any depth."""
    if _tracked(value):
        return True
    if type(value) is not dict:
        return type(value) is tuple
    if len(value) > _FEW_ITEMS:
        return True
    for item in value.values():  # noqa: SIM110  # so few are quicker without a generator
        if type(item) is tuple:
            return True
    return False


def take_call(args: tuple[Any, ...], kwargs: dict[str, Any], limit: int) -> bytes | None:
    """Return the snapshot of a call's arguments; None where they are not small, or not of built-in types.

    The snapshot is of the pair of both; of the positional arguments alone where there is only one argument.

    Args:
        args: positional arguments.
        kwargs: keyword arguments.
        limit: the most bytes that the snapshot may have.
    """
    if has_object(args) or (kwargs and has_object(kwargs.values())):
        return None
    if is_left_to_pickler(kwargs):
        return take_pickled((args, kwargs), limit)
    for value in args:
        if is_left_to_pickler(value):
            return take_pickled((args, kwargs), limit)
    try:
        data = dumps(args if len(args) == 1 and not kwargs else (args, kwargs), None, EXACT_TYPES)
        if b"null" in data:  # it may be NaN, which orjson writes so
            return take_pickled((args, kwargs), limit)
    except BaseException as error:
        let_through(error)
        return take_pickled((args, kwargs), limit)
    return b"%b" % data if len(data) <= limit else None  # a copy: what orjson returns holds 4 KiB or more


def take_value(value: object, limit: int) -> bytes | None:
    """Return the snapshot of a value; None where it is not small, or not of exact built-in types alone.

    Args:
        value: anything.
        limit: the most bytes that the snapshot may have.
    """
    if flags_of(type(value)) & ON_HEAP:
        return None
    if is_left_to_pickler(value):
        return take_pickled(value, limit)
    try:
        data = dumps(value, None, EXACT_TYPES)
        if b"null" in data and value is not None:
            return take_pickled(value, limit)
    except BaseException as error:
        let_through(error)
        return take_pickled(value, limit)
    return b"%b" % data if len(data) <= limit else None  # a copy: what orjson returns holds 4 KiB or more


def take_pickled(value: object, limit: int) -> bytes | None:
    """Do the same as `take_value` for a value that orjson must not see, or has refused."""
    if _IS_BOUND_BY_LIMIT and getrecursionlimit() > _MOST_LEVELS:
        return None
    try:
        pickle, file = idle = IDLE_PICKLERS.pop() if IDLE_PICKLERS else _new_pickler()
        pickle(value)
        data = file.data
        IDLE_PICKLERS.append(idle)
    except BaseException as error:
        let_through(error)
        return None
    return data if len(data) <= limit else None


def restore(snapshot: bytes) -> Any:
    """Return a value that is equal to the one in a snapshot, but for tuples that may have become lists."""
    if snapshot[:1] == _PICKLED:
        return unpickled(snapshot)  # noqa: S301  # made by this module, of built-in types alone
    return loads(snapshot)


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
    names = keys_of(tree)
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
