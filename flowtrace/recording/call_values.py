"""What a generator yields, as it is recorded: light snapshots first, a running hash once they are no longer light.

The values of a call: a snapshot in bytes when it happens, and its final form when it is written.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from flowtrace.recording.node import Node, Policy, bind
from flowtrace.values.digest import Hasher
from flowtrace.values.encode import encode
from flowtrace.values.encoded import Encoded
from flowtrace.values.scrub import remember
from flowtrace.values.snapshot import restore, take, take_call

Snapshot: TypeAlias = "bytes | Encoded | Stream"
"""What is bound, redacted and hashed later; or the final form, where that can't wait."""
_MAX_POINTERS: Final = 1000
_OF_A_SNAPSHOT: Final = 48  # bytes of memory beside its data


class Stream:
    """What a generator yields: snapshots as long as they are light together, and hashed item by item from then on.

    Its final form is ``{"$py":"generator","items":[...],"returned":...}``; ``returned`` is left out where the
    generator was closed before its end.

    Attributes:
        size: how many bytes of memory the snapshots take.
    """

    __slots__ = ("_returned", "_sealed", "_snapshots", "size")

    def __init__(self) -> None:
        self.size = 0
        self._snapshots: list[bytes] = []
        self._sealed: _SealedStream | None = None
        self._returned: bytes | None = None

    def item(self, value: object, node: Node, policy: Policy) -> None:
        """Take one yielded value."""
        data = take(value, policy.max_value_bytes - self.size) if self._sealed is None else None
        if data is None:
            self._seal(node, policy).item(value)
        else:
            self._snapshots.append(data)
            self.size += len(data) + _OF_A_SNAPSHOT

    def finish(self, returned: tuple[Any, ...], node: Node, policy: Policy) -> Snapshot:
        """Return what the generator did.

        Args:
            returned: its return value, or nothing where it was closed.
            node: the generator.
            policy: what to keep.
        """
        if self._sealed is None:
            if not returned:
                return self
            self._returned = take(returned[0], policy.max_value_bytes - self.size)
            if self._returned is not None:
                return self
        return self._seal(node, policy).finish(*returned)

    def final(self, node: Node, policy: Policy) -> Encoded:
        """Return the final form of a stream that is finished and was light; two traces may ask for it at once."""
        returned = () if self._returned is None else (restore(self._returned),)
        return self._sealed_so_far(node, policy).finish(*returned)

    def secrets(self, node: Node, policy: Policy) -> tuple[str, ...]:
        """Return the texts by which the hidden parts of what was yielded so far would be known again."""
        return (self._sealed or self._sealed_so_far(node, policy)).known_secrets()

    def _seal(self, node: Node, policy: Policy) -> _SealedStream:
        if self._sealed is None:
            self._sealed = self._sealed_so_far(node, policy)
            self._snapshots.clear()
        return self._sealed

    def _sealed_so_far(self, node: Node, policy: Policy) -> _SealedStream:
        sealed = _SealedStream(node, policy)
        for data in self._snapshots:
            sealed.item(restore(data))
        return sealed


class _SealedStream:
    """The final form of a stream while it is made: hashed item by item, kept only where results are captured."""

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
        self._add(b'{"$py":"generator","items":[', None)

    def item(self, value: object) -> None:
        """Take one yielded value."""
        lead = b"," if self._count else b""
        self._value(lead, value, f"/items/{self._count}", "yield")
        self._count += 1

    def known_secrets(self) -> tuple[str, ...]:
        """Return the texts by which the hidden parts would be known again."""
        return tuple(self._secrets)

    def finish(self, *returned: object) -> Encoded:
        """Return the final form, with the generator's return value where it has one."""
        self._add(b"]", None)
        for value in returned:
            self._value(b',"returned":', value, "/returned", "return")
        self._add(b"}", None)
        data = b"".join(self._kept) if self._keep else None
        pointers = tuple(self._opaque), tuple(self._redacted)
        return Encoded(data, self._hasher.finish(), self._size, *pointers, tuple(self._secrets))

    def _value(self, lead: bytes, value: object, place: str, name: str) -> None:
        secret, redactor = self._policy.secret(self._node), self._policy.redactor
        shown = encode(value, secret=secret, redactor=redactor, name=name)
        remember(shown.secrets, self._secrets)
        hashed = shown if self._policy.key is None else encode(value)
        self._add(lead + (shown.data or b""), lead + (hashed.data or b""))
        for pointers, more in ((self._opaque, shown.opaque), (self._redacted, shown.redacted)):
            pointers += [place + pointer for pointer in more[: _MAX_POINTERS - len(pointers)]]

    def _add(self, shown: bytes, hashed: bytes | None) -> None:
        self._hasher.update(shown if hashed is None else hashed)
        self._size += len(shown)
        if self._size > self._policy.buffer_bytes:
            self._keep = False
            self._kept.clear()
        if self._keep:
            self._kept.append(shown)


def snapshot_with_defaults(
    node: Node, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool, policy: Policy
) -> Snapshot:
    """Take what a function with live defaults is called with, before the call, and these defaults."""
    function: Any = node.function
    data = take((args, kwargs, function.__defaults__, function.__kwdefaults__), policy.max_value_bytes)
    return data or seal_call(node, args, kwargs, bound, policy)


def snapshot_call(node: Node, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool, policy: Policy) -> Snapshot:
    """Take what a function is called with, whatever it is."""
    if node.live_defaults:
        return snapshot_with_defaults(node, args, kwargs, bound, policy)
    return take_call(args, kwargs, policy.max_value_bytes) or seal_call(node, args, kwargs, bound, policy)


def seal_call(node: Node, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool, policy: Policy) -> Encoded:
    """Return what a function is called with in its final form, where no snapshot can be taken of it."""
    return _seal(bind(node, args, kwargs, bound), node, policy, policy.captures_input(node))


def snapshot_payload(node: Node, payload: object, policy: Policy) -> Snapshot:
    """Take a payload that an engine reports."""
    return take(payload, policy.max_value_bytes) or _seal(payload, node, policy, policy.captures_input(node))


def snapshot_output(node: Node, output: object, policy: Policy) -> Snapshot:
    """Take what a function returned."""
    return take(output, policy.max_value_bytes) or seal_output(node, output, policy)


def seal_output(node: Node, output: object, policy: Policy) -> Encoded:
    """Return a result in its final form, where no snapshot can be taken of it."""
    return _seal(output, node, policy, policy.capture_outputs, "return")


def seal_state_delta(node: Node, value: object, policy: Policy) -> Encoded:
    """Return what a step changed in some state in its final form."""
    return _seal(value, node, policy, False, "state_delta")


def final_input(node: Node, snapshot: Snapshot, bound: bool, policy: Policy) -> Encoded:
    """Return a payload in its final form: parameters bound, secrets hidden, hashed."""
    if isinstance(snapshot, Encoded):
        return snapshot
    assert isinstance(snapshot, bytes)  # only a result is a stream
    content = restore(snapshot)
    if node.function is not None and type(content) is not dict:  # the black box has parameters bound already
        args, kwargs, *defaults = content if len(content) > 1 else (content, {})  # the only argument
        content = bind(node, args, kwargs, bound, defaults)
    return _seal(content, node, policy, policy.captures_input(node))


def final_output(node: Node, snapshot: Snapshot, policy: Policy) -> Encoded:
    """Return a result in its final form."""
    if not isinstance(snapshot, bytes):
        return snapshot.final(node, policy) if isinstance(snapshot, Stream) else snapshot
    return seal_output(node, restore(snapshot), policy)


def _seal(value: object, node: Node, policy: Policy, keep: bool, name: str = "") -> Encoded:
    """Encode a value: bytes and pointers of its redacted form, and the hash over that or, with a key, the real one."""
    limit = policy.buffer_bytes if keep else 0
    shown = encode(value, secret=policy.secret(node), redactor=policy.redactor, name=name, limit=limit)
    if policy.key is None:
        return shown
    return shown._replace(digest=encode(value, key=policy.key, limit=0).digest)
