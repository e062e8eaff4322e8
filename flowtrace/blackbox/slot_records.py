"""What the black box says of a node and of a value, in as much room as there is."""

from __future__ import annotations

from threading import RLock
from types import FunctionType
from typing import Any, Final

from flowtrace.blackbox.ring_file import (
    AS_TAKEN,
    FIRST,
    HAS_DATA,
    HAS_DIGEST,
    HEADER,
    IS_BOUND,
    IS_KEYED,
    ROOM,
    RingFile,
    framed,
    word,
)
from flowtrace.host import log
from flowtrace.recording.node import Node, Policy, ordinary_names
from flowtrace.trace.model import Code, to_document
from flowtrace.values.digest import KEYED_ALGORITHM
from flowtrace.values.encoded import Encoded
from flowtrace.values.json import dumps, plain
from flowtrace.values.redaction import SecretNames

LONG_TEXT: Final = 1000
_POINTERS: Final = frozenset({"opaque", "redacted", "redacted_delta"})
_NAMELESS: Final = 0xFFFF


class Way:
    """How a call with one argument is written at once, where no name in it hides anything.

    Attributes:
        lead: JSON text before the argument in the payload, which is to be hashed; None where the argument is written.
        word: of its start, less the bytes of the value.
        room: bytes that the argument may have.
    """

    __slots__ = ("lead", "room", "word")

    def __init__(self, name: str, known: KnownNode, flags: int, limit: int) -> None:
        lead = b"{" + dumps(name) + b":"
        self.lead = None if known.is_shown else lead
        self.word = word(0, 0, HAS_DATA | AS_TAKEN | flags if known.is_shown else HAS_DIGEST, known.number)
        self.room = limit - len(lead) - 1


class KnownNode:
    """What is worked out once for each node.

    Attributes:
        owner: the table that it is worked out for.
        number: of its record in the file's table.
        names: its parameters, where all are ordinary and none is secret or takes a receiver; else None.
        bound_names: the same without the receiver, for calls that leave it out.
        way: how a call is written at once; None where there is not one such name, or hashes are keyed.
        bound_way: the same for calls that leave out the receiver.
        captures: its payloads are kept.
        is_shown: they are kept, and hashed without a key, which can wait until somebody reads the file.
        has_names: its payloads are objects of parameters.
        secret: tells which names are secret.
        harmless: keys that are not.
    """

    __slots__ = (
        *("bound_names", "bound_way", "captures", "harmless", "has_names", "is_shown", "names"),
        *("number", "owner", "secret", "way"),
    )

    def __init__(self, owner: object, number: int, node: Node, policy: Policy, harmless: set[str]) -> None:
        self.owner = owner
        self.number = number
        self.captures = policy.captures_input(node)
        self.is_shown = self.captures and policy.key is None
        self.has_names = node.function is not None
        self.secret = policy.secret(node)
        self.harmless = harmless
        is_asked = policy.redactor is not None  # then no name is known to be harmless
        self.names, self.bound_names = (
            None if is_asked else _harmless(names, self.secret) for names in names_of_calls(node)
        )
        self.way = self.bound_way = None
        if policy.key is None and number != _NAMELESS:  # what an argument is called is told by the node's record
            limit = min(ROOM, policy.max_value_bytes)
            self.way = _way(self.names, self, 0, limit)
            self.bound_way = _way(self.bound_names, self, IS_BOUND, limit)


class NodeTable:
    """The table of nodes in a ring file, and what is worked out for each of them.

    Args:
        file: the ring file.
        policy: what to keep of values.
    """

    def __init__(self, file: RingFile, policy: Policy) -> None:
        self._file: RingFile | None = file
        self._policy = policy
        self._numbers: dict[bytes, int] = {}
        self._harmless: dict[SecretNames, set[str]] = {}
        self._end = HEADER
        self._lock = RLock()

    def close(self) -> None:
        """Let go of the file."""
        self._file = None

    def known(self, node: Node) -> KnownNode:
        """Return what is worked out for a node."""
        known = node.known
        return known if known.owner is self else self.learn(node)

    def learn(self, node: Node) -> KnownNode:
        """Work it out, and write the node's record."""
        with self._lock:
            harmless = self._harmless.setdefault(self._policy.secret(node), set())
            known = KnownNode(self, self._number_of(node), node, self._policy, harmless)
            node.known = known
        return known

    def _number_of(self, node: Node) -> int:
        """Return the number of a node's record in the table; the same for those of which the same is said.

        One that has no room there stays nameless, and so do those that come after it.
        """
        names = (node.node_id, node.component, node.operation)
        code = node.located or code_of(node.function)
        about = None if code is None else to_document(code)
        argument = [found[0] if found and len(found) == 1 else None for found in names_of_calls(node)]
        told = {"names": [name[:LONG_TEXT] for name in names], "code": about, "argument": argument}
        record = framed(plain(told) or b"{}")
        number = self._numbers.get(record)
        if number is not None or self._file is None:
            return number or 0
        end = self._end + len(record)
        if end > FIRST:
            self._end = FIRST
            log.warn_once("black box has no room for more nodes", ("black box", "nodes"), path=self._file.path)
            return _NAMELESS
        self._file.map[self._end : end] = record
        self._end = end
        number = self._numbers[record] = len(self._numbers)
        return number


def _way(names: tuple[str, ...] | None, known: KnownNode, flags: int, limit: int) -> Way | None:
    return Way(names[0], known, flags, limit) if names is not None and len(names) == 1 else None


def _harmless(names: tuple[str, ...] | None, secret: SecretNames) -> tuple[str, ...] | None:
    return None if names is None or not names or any(map(secret, names)) else names


def names_of_calls(node: Node) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    """Return a node's parameters, and those of calls that leave out the receiver; None where not all are ordinary."""
    bound = ordinary_names(node.function) if node.has_receiver else None
    return node.simple_names, None if bound is None else bound[1:]


def code_of(function: Any) -> Code | None:
    """Return where a function is defined, without the hash of its code: reading sources would take too long here."""
    if type(function) is not FunctionType:
        return None
    code = function.__code__
    return Code(
        module=function.__module__ or "",
        qualname=function.__qualname__[:LONG_TEXT],
        file=code.co_filename[:LONG_TEXT],
        line=code.co_firstlineno,
    )


def digest_of(value: Encoded) -> tuple[bytes, int]:
    """Return the hash of a value, and the flags that tell of it."""
    keyed = value.digest.algorithm == KEYED_ALGORITHM
    return bytes.fromhex(value.digest.value), HAS_DIGEST | (IS_KEYED if keyed else 0)


def about_of(value: Encoded, kept: bool) -> dict[str, Any]:
    """Return what is said about a value, with its size where it is kept."""
    found: dict[str, Any] = {"size": value.size} if kept else {}
    for name, pointers in (("opaque", value.opaque), ("redacted", value.redacted)):
        if pointers:
            found[name] = list(pointers)
    return found


def delta_of(value: Encoded) -> dict[str, Any]:
    """Return what is said about a recorded state change: its hash, and what was hidden in it."""
    found: dict[str, Any] = {"state_delta": [value.digest.algorithm, value.digest.value]}
    return found | ({"redacted_delta": list(value.redacted)} if value.redacted else {})


def fitted(digest: bytes, flags: int, data: bytes | None, about: dict[str, Any]) -> tuple[bytes, int, int, int]:
    """Return the tail of a record that fits into its part: what is too much is left out, the least needed first.

    Returns:
        The tail, flags, how much of the tail is digest and value, and how much of it is said about these.
    """
    told = dumps(about) if about else b""
    for shorten in (_without_frames, _without_details, _without_pointers):
        if len(told) <= ROOM:
            break
        about = shorten(about)
        told = dumps(about)
    if len(told) > ROOM:  # a message of which each character takes six bytes
        told = dumps({"failure": [about["failure"][0], "", None]})
    if data is not None and len(data) + len(told) <= ROOM:
        return digest + data + told, flags | HAS_DATA, len(digest) + len(data), len(told)
    return digest + told, flags, len(digest), len(told)


def _without_frames(about: dict[str, Any]) -> dict[str, Any]:
    code, message, details = about.get("failure") or ("", "", None)
    if isinstance(details, dict):
        details = {name: value for name, value in details.items() if name != "frames"}
    return about | {"failure": [code, message, details]} if code else about


def _without_details(about: dict[str, Any]) -> dict[str, Any]:
    code, message, _ = about.get("failure") or ("", "", None)
    kept = {name: value for name, value in about.items() if name not in ("failure", "issues")}
    return kept | {"failure": [code, message[:LONG_TEXT], None]} if code else kept


def _without_pointers(about: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in about.items() if name not in _POINTERS}
