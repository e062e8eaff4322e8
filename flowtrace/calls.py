"""The values of a call: a snapshot in bytes when it happens, and its final form when it is written."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import BuiltinFunctionType, FunctionType
from typing import Any, Final, TypeAlias

from flowtrace.canonical import Encoded, encode
from flowtrace.classes import NO_RECEIVERS, RECEIVER_NAMES
from flowtrace.config import TraceConfig
from flowtrace.digest import Hasher, derive_key
from flowtrace.forms import class_attribute, inherits
from flowtrace.model import Code
from flowtrace.redaction import SecretNames, secret_names
from flowtrace.scrub import remember
from flowtrace.snapshot import restore, take, take_call

Snapshot: TypeAlias = "bytes | Encoded | Stream"
"""What is bound, redacted and hashed later; or the final form, where that can't wait."""
_FIXED: Final = (
    type(None),
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    type,
    FunctionType,
    BuiltinFunctionType,
)
_MAX_POINTERS: Final = 1000
_VARIABLE: Final = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS
_OF_A_SNAPSHOT: Final = 48  # bytes of memory beside its data


class Node:
    """A function that is traced, and what its decorator said.

    Attributes:
        component: component_id of its steps.
        operation: operation of its steps.
        node_id: node_id of its steps.
        function: the function itself, for its signature and source; None for a node that an engine reports.
        has_receiver: a bound call leaves out the signature's first parameter.
        capture_inputs: keep payloads; None follows the configuration.
        redact: more names whose values are hidden.
        expected_errors: errors that are part of its contract.
        simple_names: its parameters, where all are ordinary ones and none takes a receiver.
        located: where the function is defined, once that was asked for.
        live_defaults: some default is an object that may change, so that each call takes a snapshot of them.
        known: what the black box has worked out for it.
    """

    __slots__ = (
        *("capture_inputs", "component", "expected_errors", "function", "has_receiver", "known"),
        *("live_defaults", "located", "node_id", "operation", "redact", "signature", "simple_names"),
    )

    def __init__(
        self,
        component: str,
        operation: str,
        node_id: str,
        *,
        function: Callable[..., Any] | None = None,
        has_receiver: bool = False,
        capture_inputs: bool | None = None,
        redact: tuple[str, ...] = (),
        expected_errors: tuple[type[BaseException], ...] = (),
    ) -> None:
        self.component = component
        self.operation = operation
        self.node_id = node_id
        self.function = function
        self.has_receiver = has_receiver
        self.capture_inputs = capture_inputs
        self.redact = redact
        self.expected_errors = expected_errors
        self.live_defaults = not all(map(_is_fixed, _defaults(function)))
        self.simple_names = _simple_names(function)
        self.signature: inspect.Signature | None = None
        self.located: Code | None = None
        self.known: Any = None


def _defaults(function: Any) -> list[Any]:
    if not isinstance(function, FunctionType):
        return []
    return [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]


def _simple_names(function: Any) -> tuple[str, ...] | None:
    names = ordinary_names(function)
    scope = "" if names is None else function.__qualname__.rpartition(".")[0]
    return None if scope and not scope.endswith("<locals>") else names  # a method


def ordinary_names(function: Any) -> tuple[str, ...] | None:
    """Return a function's parameters, where each may be given by its place or its name; else None."""
    if type(function) is not FunctionType or hasattr(function, "__signature__") or hasattr(function, "__wrapped__"):
        return None
    code = function.__code__
    others = code.co_posonlyargcount or code.co_kwonlyargcount or code.co_flags & _VARIABLE
    return None if others else code.co_varnames[: code.co_argcount]


def _is_fixed(value: object) -> bool:
    if type(value) is tuple:
        return all(map(_is_fixed, value))
    return any(type(value) is fixed for fixed in _FIXED)  # "in" would ask a metaclass for its __eq__


class Policy:
    """What a configuration means for values.

    Attributes:
        max_value_bytes: a larger value takes its final form at once.
        buffer_bytes: no more bytes than these are kept of one captured value.
        capture_inputs: keep payloads.
        capture_outputs: keep results.
        key: 32 bytes for keyed hashing, or None.
        redactor: tells of more values that are to be hidden, or None.
        box: the black box, which steps under this policy go into; or None.
    """

    __slots__ = (
        "_redact",
        "box",
        "buffer_bytes",
        "capture_inputs",
        "capture_outputs",
        "key",
        "max_value_bytes",
        "redactor",
    )

    def __init__(self, config: TraceConfig) -> None:
        self.max_value_bytes = min(config.max_value_bytes, config.buffer_bytes // 2)  # a step has two of them
        self.buffer_bytes = config.buffer_bytes
        self.capture_inputs = config.capture_inputs
        self.capture_outputs = config.capture_outputs
        self.key = None if config.hash_key is None else derive_key(config.hash_key)
        self.redactor = config.redactor
        self._redact = config.redact
        self.box: Any = None

    def secret(self, *nodes: Node) -> SecretNames:
        """Return the test for names whose values are hidden in the steps of some nodes."""
        return secret_names((*self._redact, *(name for node in nodes for name in node.redact)))

    def captures_input(self, node: Node) -> bool:
        """Tell whether a node's payloads are kept."""
        return self.capture_inputs if node.capture_inputs is None else node.capture_inputs


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


def bind(
    node: Node,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    bound: bool,
    defaults: Sequence[Any] = (),
) -> dict[str, Any]:
    """Return the object of a call's parameters, defaults included, receiver left out.

    Args:
        node: whose call it is.
        args: positional arguments.
        kwargs: keyword arguments.
        bound: ``args`` has no receiver in it.
        defaults: the function's ``__defaults__`` and ``__kwdefaults__`` as they were before the call, if kept.

    Returns:
        Value by parameter name; ``args`` and ``kwargs`` alone where they do not fit the signature.
    """
    payload = _bind_simply(node, args, kwargs, bound, defaults)
    if payload is not None:
        return payload
    try:
        signature = _signature(node)
        parameters = list(signature.parameters.values())
        positional = parameters and parameters[0].kind in _POSITIONAL
        if positional and bound and node.has_receiver:
            parameters = parameters[1:]
        elif positional and not bound and _has_receiver(node, parameters[0], args):
            receiver, *parameters = parameters
            args = args[1:]
            kwargs = {name: value for name, value in kwargs.items() if name != receiver.name}
        arguments = inspect.Signature(parameters).bind(*args, **kwargs).arguments
    except (TypeError, ValueError):
        return {"args": list(args), "kwargs": dict(kwargs)}
    before = _defaults_by_name(node, defaults)
    return {item.name: arguments.get(item.name, before.get(item.name, _default(item))) for item in parameters}


def _bind_simply(
    node: Node, args: Sequence[Any], kwargs: Mapping[str, Any], bound: bool, defaults: Sequence[Any]
) -> dict[str, Any] | None:
    """Do what `bind` does for a function with ordinary parameters alone, and no receiver among them.

    Returns:
        The parameters; None where it takes more than that to tell them.
    """
    names = node.simple_names
    if names is None or bound or defaults or len(args) > len(names) or _may_be_receiver(args):
        return None
    payload = {**dict(zip(names, args, strict=False)), **kwargs}
    if len(payload) == len(args) + len(kwargs) == len(names) and payload.keys() == set(names):
        return payload
    return None


_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _signature(node: Node) -> inspect.Signature:
    if node.signature is None:
        assert node.function is not None  # an engine's payload has no parameters
        node.signature = inspect.signature(node.function)
    return node.signature


def _has_receiver(node: Node, first: inspect.Parameter, args: Sequence[Any]) -> bool:
    """Tell whether the first argument of a method that was reached as a plain function is its receiver.

    ``U.double(3)`` has none, whatever its first parameter is called: a value of a built-in type has no methods of ours.
    """
    if _is_receiver(node, args):
        return True
    return _names_receiver(node, first) and not (args and id(type(args[0])) in NO_RECEIVERS)


def _names_receiver(node: Node, first: inspect.Parameter) -> bool:
    """Tell whether the first parameter takes the receiver of a method that was reached as a plain function."""
    scope = getattr(node.function, "__qualname__", "").rpartition(".")[0]
    return first.name in RECEIVER_NAMES and bool(scope) and not scope.endswith("<locals>")


def _may_be_receiver(args: Sequence[Any]) -> bool:
    return bool(args) and inherits(type(args[0]), type)


def _is_receiver(node: Node, args: Sequence[Any]) -> bool:
    """Tell whether the first argument is a class in which the function is a class method, whatever its receiver's name.

    A class is never plain JSON, so that this is only asked with the real arguments at hand.
    """
    if not _may_be_receiver(args) or not isinstance(node.function, FunctionType):
        return False
    method = class_attribute(args[0], node.function.__name__)
    wrapped = getattr(method.__func__, "__wrapped__", None) if type(method) is classmethod else None
    return wrapped is node.function


def _default(parameter: inspect.Parameter) -> Any:
    if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
        return ()
    return {} if parameter.kind is inspect.Parameter.VAR_KEYWORD else parameter.default


def _defaults_by_name(node: Node, defaults: Sequence[Any]) -> dict[str, Any]:
    if not defaults or not isinstance(node.function, FunctionType):
        return {}
    positional, by_keyword = defaults
    code = node.function.__code__
    names = code.co_varnames[: code.co_argcount]
    values = positional or ()
    return dict(zip(names[len(names) - len(values) :], values, strict=True)) | (by_keyword or {})


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
