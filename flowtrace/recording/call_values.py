"""The values of a call: a snapshot in bytes when the call happens, the canonical form when it is written.

A generator's yielded values are one such value, a `Stream`: snapshots as long as they are small together, a running
hash from then on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from flowtrace.calls.core import StreamBase
from flowtrace.recording.node import Node, Policy, bind
from flowtrace.values.digest import Hasher
from flowtrace.values.encode import encode
from flowtrace.values.encoded import Encoded
from flowtrace.values.forms import Unprinted
from flowtrace.values.scrub import remember
from flowtrace.values.snapshot import restore, take_call, take_value

Snapshot: TypeAlias = "bytes | tuple[Any, ...] | Encoded | Stream | NativeStream"
"""Values that are bound, redacted and hashed later, as bytes or as they are; the canonical form, where that can't wait.

The native core keeps values by reference or as copies of its own: those of a call as a tuple, with the names of the
last ones, or None, at its end; a result as a tuple of one.
"""
_MAX_POINTERS: Final = 1000
_OF_A_SNAPSHOT: Final = 48  # bytes of memory beside its data


def snapshot_call(node: Node, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool, policy: Policy) -> Snapshot:
    """Return a snapshot of a call's arguments."""
    if node.live_defaults:
        return snapshot_with_defaults(node, args, kwargs, bound, policy)
    return take_call(args, kwargs, policy.max_value_bytes) or encode_call(node, args, kwargs, bound, policy)


def snapshot_with_defaults(
    node: Node, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool, policy: Policy
) -> Snapshot:
    """Return a snapshot of a call's arguments, and of the function's defaults, which may change."""
    function: Any = node.function
    data = take_value((args, kwargs, function.__defaults__, function.__kwdefaults__), policy.max_value_bytes)
    return data or encode_call(node, args, kwargs, bound, policy)


def encode_call(node: Node, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool, policy: Policy) -> Encoded:
    """Return the canonical form of a call's parameters, of which no snapshot can be taken."""
    return _encode(bind(node, args, kwargs, bound), node, policy, policy.captures_input(node))


def snapshot_payload(node: Node, payload: object, policy: Policy) -> Snapshot:
    """Return a snapshot of a payload that an engine reports."""
    return take_value(payload, policy.max_value_bytes) or _encode(payload, node, policy, policy.captures_input(node))


def snapshot_output(node: Node, output: object, policy: Policy) -> Snapshot:
    """Return a snapshot of a function's result."""
    return take_value(output, policy.max_value_bytes) or encode_output(node, output, policy)


def encode_output(node: Node, output: object, policy: Policy) -> Encoded:
    """Return the canonical form of a result, of which no snapshot can be taken."""
    return _encode(_result(node, output, policy), node, policy, policy.capture_outputs, "return")


def _result(node: Node, output: object, policy: Policy) -> object:
    """Return a result, to be hidden where the function's name is that of a secret; a yes, a no and None stay."""
    return output if output is None or type(output) is bool or not hides_result(node, policy) else Unprinted(output)


def hides_result(node: Node, policy: Policy) -> bool:
    """Return True if the name of a function says that it returns a secret: ``get_token``, ``make_password``."""
    secret = policy.secret(node)
    return secret(node.operation.rpartition(".")[2]) or secret(getattr(node.function, "__name__", ""))


def encode_state_delta(node: Node, value: object, policy: Policy) -> Encoded:
    """Return the canonical form of a step's state change; only its hash will be written."""
    return _encode(value, node, policy, False, "state_delta")


def canonical_input(node: Node, snapshot: Snapshot, bound: bool, policy: Policy) -> Encoded:
    """Return a payload in its canonical form: parameters bound, secrets hidden, hashed."""
    if isinstance(snapshot, Encoded):
        return snapshot
    if type(snapshot) is tuple:
        return _encode(bind(node, *of_native_call(snapshot), bound), node, policy, policy.captures_input(node))
    assert isinstance(snapshot, bytes)  # only a result is a stream
    content = restore(snapshot)
    if node.function is not None and type(content) is not dict:  # a step processor has bound the parameters already
        args, kwargs, *defaults = content if len(content) > 1 else (content, {})  # the only argument
        content = bind(node, args, kwargs, bound, defaults)
    return _encode(content, node, policy, policy.captures_input(node))


def canonical_output(node: Node, snapshot: Snapshot, policy: Policy) -> Encoded:
    """Return a result in its canonical form."""
    if isinstance(snapshot, Encoded):
        return snapshot
    if isinstance(snapshot, Stream | NativeStream):
        return snapshot.canonical(node, policy)
    return encode_output(node, restore(snapshot) if isinstance(snapshot, bytes) else snapshot[0], policy)


def of_native_call(snapshot: tuple[Any, ...]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments in a snapshot of the native core."""
    *values, names = snapshot
    if names is None:
        return tuple(values), {}
    first = len(values) - len(names)
    return tuple(values[:first]), dict(zip(names, values[first:], strict=True))


def _encode(value: object, node: Node, policy: Policy, keep: bool, name: str = "") -> Encoded:
    """Return a value's canonical form, redacted; with a key, the hash is that of the real value."""
    limit, work = policy.buffer_bytes if keep else 0, policy.max_value_work
    redacted = encode(value, secret=policy.secret(node), redactor=policy.redactor, name=name, limit=limit, work=work)
    if policy.key is None:
        return redacted
    return _both(redacted, encode(value, key=policy.key, limit=0, work=work))


def _both(redacted: Encoded, hashed: Encoded) -> Encoded:
    """Return the redacted form with the hash of the real value, which may have been cut elsewhere."""
    if not hashed.cut:
        return redacted._replace(digest=hashed.digest)
    opaque = dict.fromkeys((*redacted.opaque, *(part.pointer for part in hashed.cut)))
    cut = dict.fromkeys((*redacted.cut, *hashed.cut))
    return redacted._replace(digest=hashed.digest, opaque=tuple(opaque), cut=tuple(cut))


class Stream:
    """The values that a generator yields: snapshots at first, hashed one by one once they are too large together.

    Its canonical form is ``{"$py":"generator","items":[...],"returned":...}``; ``returned`` is left out where the
    generator was closed before its end.

    Attributes:
        size: how many bytes of memory the snapshots take.
    """

    __slots__ = ("_encoder", "_returned", "_snapshots", "size")

    def __init__(self) -> None:
        self.size = 0
        self._snapshots: list[bytes] = []
        self._encoder: _StreamEncoder | None = None
        self._returned: bytes | None = None

    def item(self, value: object, node: Node, policy: Policy) -> None:
        """Add one yielded value."""
        data = take_value(value, policy.max_value_bytes - self.size) if self._encoder is None else None
        if data is None:
            self._encode_from_now_on(node, policy).item(value)
        else:
            self._snapshots.append(data)
            self.size += len(data) + _OF_A_SNAPSHOT

    def finish(self, returned: tuple[Any, ...], node: Node, policy: Policy) -> Snapshot:
        """Return a snapshot of all that the generator yielded and returned.

        Args:
            returned: its return value, or nothing where it was closed.
            node: the generator.
            policy: what to keep.
        """
        if self._encoder is None:
            if not returned:
                return self
            self._returned = take_value(returned[0], policy.max_value_bytes - self.size)
            if self._returned is not None:
                return self
        return self._encode_from_now_on(node, policy).finish(*returned)

    def canonical(self, node: Node, policy: Policy) -> Encoded:
        """Return the canonical form of a finished stream of snapshots; two traces may ask for it at once."""
        returned = () if self._returned is None else (restore(self._returned),)
        return self._encoded_so_far(node, policy).finish(*returned)

    def secrets(self, node: Node, policy: Policy) -> tuple[str, ...]:
        """Return the texts to search for, where a part of what was yielded so far is hidden."""
        return (self._encoder or self._encoded_so_far(node, policy)).secrets()

    def _encode_from_now_on(self, node: Node, policy: Policy) -> _StreamEncoder:
        if self._encoder is None:
            self._encoder = self._encoded_so_far(node, policy)
            self._snapshots.clear()
        return self._encoder

    def _encoded_so_far(self, node: Node, policy: Policy) -> _StreamEncoder:
        encoder = _StreamEncoder(node, policy)
        for data in self._snapshots:
            encoder.item(restore(data))
        return encoder


class NativeStream(StreamBase):
    """The values that a generator yields, where the native core takes them: as they are, or copied.

    Attributes:
        items: the values that are not hashed yet.
        returned: a tuple of the return value, empty where there is none.
        hashed: the running hash, once the values are too large together; else None.
        held: bytes of memory that the items hold.
    """

    __slots__ = ()

    items: list[Any]
    returned: tuple[Any, ...]
    take_items: Callable[[], list[Any]]
    hashed: _StreamEncoder | None
    held: int

    @property
    def size(self) -> int:
        """Bytes of memory that the items hold."""
        return self.held

    def item(self, value: object, node: Node, policy: Policy) -> None:
        """Add one yielded value."""
        self.encode([*self.take_items(), value], node, policy)

    def encode(self, values: list[Any], node: Node, policy: Policy) -> None:
        """Hash values, after those that were hashed before."""
        if self.hashed is None:
            self.hashed = _StreamEncoder(node, policy)
        for value in values:
            self.hashed.item(value)

    def finish(self, returned: tuple[Any, ...], node: Node, policy: Policy) -> Encoded:
        """Return the canonical form, with the generator's return value where it has one."""
        self.encode(self.items, node, policy)
        assert self.hashed is not None
        return self.hashed.finish(*returned)

    def canonical(self, node: Node, policy: Policy) -> Encoded:
        """Return the canonical form of a finished stream; two traces may ask for it at once."""
        encoder = _StreamEncoder(node, policy)
        for value in self.items:
            encoder.item(value)
        return encoder.finish(*self.returned)

    def secrets(self, node: Node, policy: Policy) -> tuple[str, ...]:
        """Return the texts to search for, where a part of what was yielded so far is hidden."""
        later = _StreamEncoder(node, policy)
        for value in self.items:
            later.item(value)
        return later.secrets() if self.hashed is None else self.hashed.secrets() + later.secrets()


class _StreamEncoder:
    """Makes the canonical form of a stream: hashed value by value, its bytes kept only where results are captured."""

    __slots__ = (
        *("_count", "_hasher", "_keep", "_kept", "_node", "_opaque"),
        *("_policy", "_redacted", "_secrets", "_size"),
    )

    def __init__(self, node: Node, policy: Policy) -> None:
        self._node = node
        self._policy = policy
        self._hasher = Hasher(policy.key)
        self._kept: list[bytes] = []
        self._keep = policy.capture_outputs
        self._opaque: list[str] = []
        self._redacted: list[str] = []
        self._secrets: dict[str, None] = {}
        self._count = self._size = 0
        self._append(b'{"$py":"generator","items":[')

    def item(self, value: object) -> None:
        """Add one yielded value."""
        comma = b"," if self._count else b""
        self._append_value(comma, value, f"/items/{self._count}", "yield")
        self._count += 1

    def secrets(self) -> tuple[str, ...]:
        """Return the texts to search for, where a part of the values is hidden."""
        return tuple(self._secrets)

    def finish(self, *returned: object) -> Encoded:
        """Return the canonical form, with the generator's return value where it has one."""
        self._append(b"]")
        for value in returned:
            self._append_value(b',"returned":', value, "/returned", "return")
        self._append(b"}")
        data = b"".join(self._kept) if self._keep else None
        pointers = tuple(self._opaque), tuple(self._redacted)
        return Encoded(data, self._hasher.finish(), self._size, *pointers, tuple(self._secrets))

    def _append_value(self, prefix: bytes, value: object, pointer: str, name: str) -> None:
        secret, redactor = self._policy.secret(self._node), self._policy.redactor
        value = _result(self._node, value, self._policy)
        redacted = encode(value, secret=secret, redactor=redactor, name=name)
        remember(redacted.secrets, self._secrets)
        hashed = redacted if self._policy.key is None else encode(value)
        self._append(prefix + (redacted.data or b""), prefix + (hashed.data or b""))
        for pointers, more in ((self._opaque, redacted.opaque), (self._redacted, redacted.redacted)):
            pointers += [pointer + inner for inner in more[: _MAX_POINTERS - len(pointers)]]

    def _append(self, data: bytes, hashed: bytes | None = None) -> None:
        self._hasher.update(data if hashed is None else hashed)
        self._size += len(data)
        if self._size > self._policy.buffer_bytes:
            self._keep = False
            self._kept.clear()
        if self._keep:
            self._kept.append(data)
