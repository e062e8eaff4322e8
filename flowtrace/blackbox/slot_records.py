"""The black box's notes about nodes and values, in as much room as there is."""

from __future__ import annotations

from threading import RLock
from types import FunctionType
from typing import Any, Final

from flowtrace.blackbox.ring_file import (
    FIRST,
    HAS_DATA,
    HAS_DIGEST,
    HEADER,
    IS_KEYED,
    ROOM,
    RingFile,
    framed,
    pack_integer,
)
from flowtrace.calls.core import EntryBase
from flowtrace.host import log
from flowtrace.recording.call_values import hides_result
from flowtrace.recording.node import Node, Policy
from flowtrace.recording.step_lines import names_of_calls
from flowtrace.trace.model import Code, to_document
from flowtrace.values.encoded import KEYED_ALGORITHM, Encoded
from flowtrace.values.json import dumps, plain

LONG_TEXT: Final = 1000
_POINTERS: Final = frozenset({"opaque", "redacted", "cut", "opaque_delta", "redacted_delta", "cut_delta"})
_NAMELESS: Final = 0xFFFF


class CallLayout:
    """The layout of a call with one argument that is written at once, since no name in it is secret.

    Attributes:
        prefix: JSON text before the argument in the payload.
        packed: the packed integer of its start, less the bytes of the value.
        is_hashed: the payload's hash is written, and not the payload.
    """

    __slots__ = ("is_hashed", "packed", "prefix")

    def __init__(self, name: str, entry: NodeEntry) -> None:
        self.prefix = b"{" + dumps(name) + b":"
        self.packed = pack_integer(0, 0, HAS_DATA if entry.is_written else HAS_DIGEST, entry.number)
        self.is_hashed = not entry.is_written


class NodeEntry(EntryBase):
    """The notes about a node, made once.

    Attributes:
        owner: the table that has it.
        number: of its record in the file's table.
        names: its parameters, where all are ordinary and none is secret or takes a receiver; else None.
        bound_names: the same without the receiver, for calls that leave it out.
        defaults: of the last of them, as they were when the notes were made.
        layout: of a call that is written at once; None where there is not one such name, or hashes are keyed.
        bound_layout: the same for calls that leave out the receiver.
        captures: its payloads are kept.
        is_written: they are kept, and hashed without a key, which can wait until the file is read.
        has_names: its payloads are objects of parameters.
        hides_result: its name says that its results are secret.
        secret: returns True for a secret name.
        not_secret: keys that it has been asked for, and that are not secret.
    """

    __slots__ = ("bound_layout", "captures", "has_names", "layout", "secret")

    owner: object
    number: int
    names: tuple[str, ...] | None
    bound_names: tuple[str, ...] | None
    defaults: tuple[Any, ...]
    is_written: bool
    hides_result: bool
    not_secret: set[str]

    def __init__(self, owner: object, number: int, node: Node, policy: Policy) -> None:
        self.owner = owner
        self.number = number
        self.captures = policy.captures_input(node)
        self.is_written = self.captures and policy.key is None
        self.has_names = node.function is not None
        self.hides_result = hides_result(node, policy)
        self.secret = policy.secret(node)
        self.not_secret = self.secret.not_secret
        has_redactor = policy.redactor is not None  # then each value has to be asked for
        self.names, self.bound_names = (
            None if has_redactor or not names or any(map(self.secret, names)) else names
            for names in names_of_calls(node)
        )
        self.defaults = node.function.__defaults__ or () if type(node.function) is FunctionType else ()
        self.layout = self.bound_layout = None
        if policy.key is None:
            self.layout = _layout(self.names, self)
            self.bound_layout = _layout(self.bound_names, self)


class NodeTable:
    """The table of nodes in a ring file, and the entry of each of them.

    Args:
        file: the ring file.
        policy: what to keep of values.
    """

    def __init__(self, file: RingFile, policy: Policy) -> None:
        self._file: RingFile | None = file
        self._policy = policy
        self._numbers: dict[bytes, int] = {}
        self._end = HEADER
        self._lock = RLock()

    def close(self) -> None:
        """Let go of the file."""
        self._file = None

    def entry(self, node: Node) -> NodeEntry:
        """Return the entry of a node, made and written into the table where it has none there."""
        entry = node.entry
        if isinstance(entry, NodeEntry) and entry.owner is self:
            return entry
        with self._lock:
            node.entry = entry = NodeEntry(self, self._number_of(node), node, self._policy)
        return entry

    def _number_of(self, node: Node) -> int:
        """Return the number of a node's record in the table; nodes with equal records share one.

        A node that has no room there stays nameless, and so do those that come after it.
        """
        names = (node.node_id, node.component, node.operation)
        code = node.code or code_of(node.function)
        about = None if code is None else to_document(code)
        facts = {"names": [name[:LONG_TEXT] for name in names], "code": about}
        record = framed(plain(facts) or b"{}")
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


def _layout(names: tuple[str, ...] | None, entry: NodeEntry) -> CallLayout | None:
    return CallLayout(names[0], entry) if names is not None and len(names) == 1 else None


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
    """Return the hash of a value, and the flags for it."""
    keyed = value.digest.algorithm == KEYED_ALGORITHM
    return bytes.fromhex(value.digest.value), HAS_DIGEST | (IS_KEYED if keyed else 0)


def about_of(value: Encoded, kept: bool) -> dict[str, Any]:
    """Return the notes about a value, with its size where it is kept."""
    found: dict[str, Any] = {"size": value.size} if kept else {}
    return found | _pointers_of(value, "")


def delta_of(value: Encoded) -> dict[str, Any]:
    """Return the notes about a recorded state change: its hash, and pointers to what was hidden in it."""
    found: dict[str, Any] = {"state_delta": [value.digest.algorithm, value.digest.value]}
    return found | _pointers_of(value, "_delta")


def _pointers_of(value: Encoded, ending: str) -> dict[str, Any]:
    cut = list(map(list, value.cut))  # orjson writes no subclass of tuple
    parts = (("opaque", value.opaque), ("redacted", value.redacted), ("cut", cut))
    return {name + ending: list(found) for name, found in parts if found}


def fitted(digest: bytes, flags: int, data: bytes | None, about: dict[str, Any]) -> tuple[bytes, int, int, int]:
    """Return the tail of a record so that it fits into its half of a slot; the least needed notes are left out first.

    Returns:
        The tail, flags, bytes of digest and value in the tail, and bytes of notes in it.
    """
    notes = dumps(about) if about else b""
    for shorten in (_without_frames, _without_details, _without_pointers):
        if len(notes) <= ROOM:
            break
        about = shorten(about)
        notes = dumps(about)
    if len(notes) > ROOM:  # a message of which each character takes six bytes
        notes = dumps({"failure": [about["failure"][0], "", None]})
    if data is not None and len(data) + len(notes) <= ROOM:
        return digest + data + notes, flags | HAS_DATA, len(digest) + len(data), len(notes)
    return digest + notes, flags, len(digest), len(notes)


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
