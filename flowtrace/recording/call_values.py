"""The values of a call: a snapshot in bytes when the call happens, the canonical form when it is written.

A generator's yielded values are one such value, a `Stream`: snapshots as long as they are small together, a running
hash from then on.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any, Final, TypeAlias

from flowtrace.calls.core import StreamBase
from flowtrace.recording.node import Node, Policy, bind
from flowtrace.values.encode import encode, encode_items, has_object, restore, take_call, take_value
from flowtrace.values.encoded import CutPart, Encoded, Hasher, cut_form
from flowtrace.values.forms import Unprinted
from flowtrace.values.redaction import NO_NAMES
from flowtrace.values.secret_texts import remember

Snapshot: TypeAlias = "bytes | tuple[Any, ...] | Encoded | Stream | NativeStream"
"""Values that are bound, redacted and hashed later, as bytes or as they are; the canonical form, where that can't wait.

The native core keeps values by reference or as copies of its own: those of a call as a tuple, with the names of the
last ones, or None, at its end; a result as a tuple of one.
"""
_MAX_POINTERS: Final = 1000
_BATCH: Final = 256  # yielded values that are encoded together
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
    defaults, named = function.__defaults__, function.__kwdefaults__
    if has_object((*args, *kwargs.values(), *(defaults or ()), *(named or {}).values())):
        return encode_call(node, args, kwargs, bound, policy)
    data = take_value((args, kwargs, defaults, named), policy.max_value_bytes)
    return data or encode_call(node, args, kwargs, bound, policy)


def encode_call(node: Node, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool, policy: Policy) -> Encoded:
    """Return the canonical form of a call's parameters, of which no snapshot can be taken."""
    return _if_allowed(
        node, policy, lambda: _encode(bind(node, args, kwargs, bound), node, policy, policy.captures_input(node))
    )


def snapshot_payload(node: Node, payload: object, policy: Policy) -> Snapshot:
    """Return a snapshot of a payload that an engine reports."""
    data = take_value(payload, policy.max_value_bytes)
    return data or _encode_now(payload, node, policy, policy.captures_input(node))


def snapshot_output(node: Node, output: object, policy: Policy) -> Snapshot:
    """Return a snapshot of a function's result."""
    return take_value(output, policy.max_value_bytes) or encode_output(node, output, policy)


def encode_output(node: Node, output: object, policy: Policy) -> Encoded:
    """Return the canonical form of a result, of which no snapshot can be taken."""
    return _encode_now(_result(node, output, policy), node, policy, policy.capture_outputs, "return")


def secrets_of_result(node: Node, output: object, policy: Policy) -> tuple[str, ...]:
    """Return the texts to search for, where a part of a result, or of a yielded value, is hidden."""
    return _encode(_result(node, output, policy), node, policy, False, "return").secrets


def _result(node: Node, output: object, policy: Policy) -> object:
    """Return a result, to be hidden where the function's name is that of a secret."""
    return _hidden(output) if hides_result(node, policy) else output


def _hidden(output: object) -> object:
    """Return a secret result; a yes, a no and None are none."""
    return output if output is None or type(output) is bool else Unprinted(output)


def hides_result(node: Node, policy: Policy) -> bool:
    """Return True if the name of a function says that it returns a secret: ``get_token``, ``make_password``."""
    secret, function = policy.secret(node), node.function
    own = function.__name__ if type(function) is FunctionType else ""  # another callable might run code of its own
    return secret(node.operation.rpartition(".")[2]) or secret(own)


def encode_state_delta(node: Node, value: object, policy: Policy) -> Encoded:
    """Return the canonical form of a step's state change; only its hash will be written."""
    return _encode_now(value, node, policy, False, "state_delta")


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
    value = restore(snapshot) if isinstance(snapshot, bytes) else snapshot[0]
    return _encode(_result(node, value, policy), node, policy, policy.capture_outputs, "return")


def of_native_call(snapshot: tuple[Any, ...]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments in a snapshot of the native core."""
    *values, names = snapshot
    if names is None:
        return tuple(values), {}
    first = len(values) - len(names)
    return tuple(values[:first]), dict(zip(names, values[first:], strict=True))


def _encode_now(value: object, node: Node, policy: Policy, keep: bool, name: str = "") -> Encoded:
    """Do what `_encode` does while the program waits; leave the value out where that costs too much."""
    return _if_allowed(node, policy, lambda: _encode(value, node, policy, keep, name))


def _if_allowed(node: Node, policy: Policy, encode: Callable[[], Encoded]) -> Encoded:
    """Encode a value while the program waits; leave it out where those of its node cost too much."""
    governor = policy.governor
    if governor is None:
        return encode()
    begun = governor.begin(node)
    if begun is None:
        return policy.left_out
    encoded = encode()
    governor.end(node, begun)
    return encoded


def _encode(value: object, node: Node, policy: Policy, keep: bool, name: str = "") -> Encoded:
    """Return a value's canonical form, redacted; with a key, the hash is that of the real value."""
    limit, work = policy.buffer_bytes if keep else 0, policy.max_value_work
    secret, pieces = policy.secret(node), policy.pieces if keep else None
    redacted = encode(value, secret=secret, redactor=policy.redactor, name=name, limit=limit, work=work, pieces=pieces)
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
    """The values that a generator yields: snapshots, hashed together whenever they are too large together.

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
        data = take_value(value, policy.max_value_bytes - self.size)
        if data is None and self._snapshots:
            self._hash(node, policy)
            data = take_value(value, policy.max_value_bytes)
        if data is None:
            self._hash(node, policy).items_now([value])
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
        return self._hash(node, policy).finish_now(*returned)

    def canonical(self, node: Node, policy: Policy) -> Encoded:
        """Return the canonical form of a finished stream of snapshots; two traces may ask for it at once."""
        returned = () if self._returned is None else (restore(self._returned),)
        encoder = _StreamEncoder(node, policy)
        encoder.items(list(map(restore, self._snapshots)))
        return encoder.finish(*returned)

    def secrets(self, node: Node, policy: Policy) -> tuple[str, ...]:
        """Return the texts to search for, where a part of what was yielded so far is hidden."""
        later = _StreamEncoder(node, policy)
        later.items(list(map(restore, self._snapshots)))
        return later.secrets() if self._encoder is None else self._encoder.secrets() + later.secrets()

    def _hash(self, node: Node, policy: Policy) -> _StreamEncoder:
        """Hash the snapshots, after those that were hashed before."""
        if self._encoder is None:
            self._encoder = _StreamEncoder(node, policy)
        self._encoder.items_now(list(map(restore, self._snapshots)))
        self._snapshots.clear()
        self.size = 0
        return self._encoder


class NativeStream(StreamBase):
    """The values that a generator yields, where the native core takes them: as they are, or copied.

    Attributes:
        items: the values that are not hashed yet.
        returned: a tuple of the return value, empty where there is none.
        hashed: the running hash, once the values are too large together; else None.
        held: bytes of memory that the items hold.
        is_stopped: no more items are taken.
    """

    __slots__ = ()

    items: list[Any]
    returned: tuple[Any, ...]
    take_items: Callable[[], list[Any]]
    hashed: _StreamEncoder | None
    held: int
    is_stopped: bool

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
        self.hashed.items_now(values)
        self.is_stopped = self.hashed.is_stopped

    def finish(self, returned: tuple[Any, ...], node: Node, policy: Policy) -> Encoded:
        """Return the canonical form, with the generator's return value where it has one."""
        self.encode(self.items, node, policy)
        assert self.hashed is not None
        return self.hashed.finish_now(*returned)

    def canonical(self, node: Node, policy: Policy) -> Encoded:
        """Return the canonical form of a finished stream; two traces may ask for it at once."""
        encoder = _StreamEncoder(node, policy)
        encoder.items(self.items)
        return encoder.finish(*self.returned)

    def secrets(self, node: Node, policy: Policy) -> tuple[str, ...]:
        """Return the texts to search for, where a part of what was yielded so far is hidden."""
        later = _StreamEncoder(node, policy)
        later.items(self.items)
        return later.secrets() if self.hashed is None else self.hashed.secrets() + later.secrets()


class _StreamEncoder:
    """Makes the canonical form of a stream: hashed batch by batch, its bytes kept only where results are captured."""

    __slots__ = (
        *("_count", "_cut", "_hasher", "_keep", "_kept", "_left", "_node", "_opaque"),
        *("_policy", "_redacted", "_secrets", "_size", "_stopped"),
    )

    def __init__(self, node: Node, policy: Policy) -> None:
        self._node = node
        self._policy = policy
        self._hasher = Hasher(policy.key)
        self._kept: list[bytes] = []
        self._keep = policy.capture_outputs
        self._opaque: list[str] = []
        self._redacted: list[str] = []
        self._cut: list[CutPart] = []
        self._secrets: dict[str, None] = {}
        self._count = self._size = 0
        self._left = policy.max_value_work
        self._stopped = ""
        self._append(b'{"$py":"generator","items":[')

    def items_now(self, values: list[Any]) -> None:
        """Add yielded values while the program waits; leave out all that follow where that costs too much."""
        if not values:
            return
        governor = self._policy.governor
        if governor is None:
            self.items(values)
            return
        begun = governor.begin(self._node)
        if begun is None:
            self._stopped = self._stopped or "overhead"
            return
        self.items(values)
        governor.end(self._node, begun)

    def items(self, values: list[Any]) -> None:
        """Add yielded values."""
        for at in range(0, len(values), _BATCH):
            if self._stopped or self._left <= 0:
                self._stopped = self._stopped or "work"
                return
            self._add(values[at : at + _BATCH], b"," if self._count else b"", "yield")

    @property
    def is_stopped(self) -> bool:
        """Items that follow are not looked at."""
        return bool(self._stopped)

    def secrets(self) -> tuple[str, ...]:
        """Return the texts to search for, where a part of the values is hidden."""
        return tuple(self._secrets)

    def finish_now(self, *returned: object) -> Encoded:
        """Do what `finish` does while the program waits; leave out all of it where no item was seen either."""
        governor = self._policy.governor
        if governor is None:
            return self.finish(*returned)
        begun = governor.begin(self._node)
        if begun is None:
            return self.finish(*returned) if self._count else self._policy.left_out
        encoded = self.finish(*returned)
        governor.end(self._node, begun)
        return encoded

    def finish(self, *returned: object) -> Encoded:
        """Return the canonical form, with the generator's return value where it has one."""
        if self._stopped:
            pointer = f"/items/{self._count}"
            self._cut.append(CutPart(pointer, self._stopped, self._count))
            self._opaque.append(pointer)
            self._append((b"," if self._count else b"") + cut_form(self._stopped, self._count))
        self._append(b"]")
        if returned:
            self._left = max(self._left, 1)
            self._stopped = ""
            self._add(list(returned), b',"returned":', "return")
        self._append(b"}")
        data = b"".join(self._kept) if self._keep else None
        pointers = tuple(self._opaque), tuple(self._redacted)
        return Encoded(data, self._hasher.finish(), self._size, *pointers, tuple(self._secrets), tuple(self._cut))

    def _add(self, values: list[Any], prefix: bytes, name: str) -> None:
        """Write some values after a prefix: items, or the return value."""
        secret, redactor = self._policy.secret(self._node), self._policy.redactor
        if hides_result(self._node, self._policy):
            values = list(map(_hidden, values))
        redacted, left = encode_items(values, secret=secret, redactor=redactor, name=name, work=self._left)
        remember(redacted.secrets, self._secrets)
        hashed = redacted
        if self._policy.key is not None:
            hashed, _ = encode_items(values, secret=NO_NAMES, redactor=None, name="", work=self._left)
        seen = _seen_of(redacted) if left <= 0 and name == "yield" else -1
        if seen >= 0:  # the mark stands at the end of the whole stream
            self._stopped = "work"
            mark = b"," * (seen > 0) + cut_form("work", seen) + b"]"
            redacted, hashed = (
                part._replace(data=(part.data or b"").removesuffix(mark) + b"]") for part in (redacted, hashed)
            )
            redacted = redacted._replace(opaque=redacted.opaque[:-1], cut=redacted.cut[:-1])
        self._left = left
        for pointers, more in ((self._opaque, redacted.opaque), (self._redacted, redacted.redacted)):
            pointers += [self._pointer_of(inner, name) for inner in more[: _MAX_POINTERS - len(pointers)]]
        self._cut += [part._replace(pointer=self._pointer_of(part.pointer, name)) for part in redacted.cut]
        self._append(prefix + _inside(redacted), prefix + _inside(hashed))
        self._count += len(values) if seen < 0 else seen

    def _pointer_of(self, pointer: str, name: str) -> str:
        """Return the pointer in the stream of a part of some values that are written now."""
        _, *inside = pointer.split("/")
        if name != "yield":
            return "/".join(["", "returned", *inside[1:]])
        at = [str(self._count + int(inside[0]))] if inside else []  # none for all of them, which could not be encoded
        return "/".join(["", "items", *at, *inside[1:]])

    def _append(self, data: bytes, hashed: bytes | None = None) -> None:
        self._hasher.update(data if hashed is None else hashed)
        self._size += len(data)
        if self._size > self._policy.buffer_bytes:
            self._keep = False
            self._kept.clear()
        if self._keep:
            self._kept.append(data)


def _inside(values: Encoded) -> bytes:
    """Return the bytes of some values without the brackets round them; all of one form that stands for them."""
    data = values.data or b"[]"
    return data[1:-1] if data[:1] == b"[" else data


def _seen_of(items: Encoded) -> int:
    """Return how many items of an array were seen before the rest of it was cut; -1 where its end was not cut."""
    last = items.cut[-1] if items.cut else None
    return last.seen if last is not None and last.pointer == f"/{last.seen}" else -1
