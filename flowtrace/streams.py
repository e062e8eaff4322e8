"""What a generator yields, as it is recorded: light snapshots first, a running hash once they are no longer light."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from flowtrace.canonical import Encoded, encode
from flowtrace.digest import Hasher
from flowtrace.nodes import Node, Policy
from flowtrace.scrub import remember
from flowtrace.snapshot import restore, take

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
