"""The values of a call: a snapshot in bytes when it happens, and its final form when it is written."""

from __future__ import annotations

from typing import Any

from flowtrace.binding import bind
from flowtrace.canonical import Encoded, encode
from flowtrace.nodes import Node, Policy
from flowtrace.snapshot import restore, take, take_call
from flowtrace.streams import Snapshot, Stream


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
