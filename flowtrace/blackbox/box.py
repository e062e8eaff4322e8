"""The black box: each step goes into a memory-mapped file as it starts and ends, so that it survives the process.

The bytes of a shared file mapping belong to the kernel, and other processes can read them however this one ends. There
is no lock: a step has a slot of its own from its start until later ones need it.

A secret must never be in the file, so that redaction can't wait here. For calls with small values and no secret names
the payload's canonical bytes are made at once, and serve as the snapshot as well.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from flowtrace.blackbox import hot_path, ring_file
from flowtrace.blackbox.ring_file import (
    DIGEST,
    END,
    FIRST,
    HAS_DATA,
    HAS_DIGEST,
    IS_KEYED,
    ROOM,
    SLOT,
    START,
    RingFile,
    checksum,
    pack_integer,
)
from flowtrace.blackbox.slot_records import NodeEntry, NodeTable, about_of, delta_of, digest_of, fitted
from flowtrace.calls.core import NATIVE, SlotBase
from flowtrace.host import log
from flowtrace.host.signals import let_through
from flowtrace.host.system import CLOCK, os
from flowtrace.recording import call_values
from flowtrace.recording.call_values import Snapshot, Stream
from flowtrace.recording.node import Node, Policy, bind
from flowtrace.recording.state import STATE, release
from flowtrace.recording.step import Step
from flowtrace.values.encode import is_left_to_pickler
from flowtrace.values.encoded import hash_raw
from flowtrace.values.environment_secrets import texts_in_environment
from flowtrace.values.json import EXACT_TYPES, SORTED_KEYS, JSONError, dumps, keys_of, plain
from flowtrace.values.redaction import MARKER
from flowtrace.values.scrub import Scrubber, may_hold_secrets, without_secrets_in_texts
from flowtrace.values.secret_texts import remember

_OPTIONS: Final = EXACT_TYPES | SORTED_KEYS
_OBJECT: Final = ord("{")


class _Slot(SlotBase):
    """The room for one step in the file.

    Attributes:
        owner: the box of the file.
        at: offset of the start.
        body: offset of the start's tail, behind its numbers.
        end: offset of the end, once the start is written.
        step: the step that runs in it, where `flowtrace.blackbox.hot_path` has started that.
    """

    __slots__ = ()

    owner: BlackBox
    at: int
    body: int
    end: int
    step: Step | None

    def __init__(self, box: BlackBox, number: int) -> None:
        self.owner = box
        self.at = self.end = FIRST + SLOT * number
        self.body = self.at + START.size
        self.step = None

    def erase(self, step: Step) -> None:
        """Erase a step that could not be started after all."""
        step.slot = None
        self.owner.map[self.at : self.body] = bytes(START.size)
        self.owner.free.append(self)


class BlackBox:
    """Writes the steps of this process into a ring file. A fault of its own costs no step its place in the buffer.

    Args:
        file: the ring file.
        slots: how many slots it has.
        buffer_size: finished steps that are kept at least.
        policy: what to keep of values.

    Attributes:
        map: the bytes of the file.
        nodes: the table of nodes.
        free: the slots of finished steps, the one that ended first at the left.
        keep: how many of them stay as they are, for the last finished steps.
        limit: bytes that a result may have that is written at once; below 0 where nothing is.
        writes_results: such a result itself is written, and not its hash.
        packed_end: the packed integer of its end, less the bytes of the value.
    """

    begin_call: Callable[..., Any] = staticmethod(hot_path.begin)
    end_call: Callable[..., Any] = staticmethod(hot_path.end)
    takes_native_calls = True

    __slots__ = (
        *("_file", "_is_open", "_key", "_policy", "_reserve", "_secrets", "_slots"),
        *("free", "keep", "limit", "map", "nodes", "packed_end", "writes_results"),
    )

    def __init__(self, file: RingFile, slots: int, buffer_size: int, policy: Policy) -> None:
        self._file = file
        self.map = file.map
        self._policy = policy
        self._key = policy.key
        self.writes_results = policy.capture_outputs
        self.packed_end = pack_integer(0, 0, HAS_DATA if policy.capture_outputs else HAS_DIGEST)
        self.limit = min(ROOM, policy.max_value_bytes) if policy.redactor is None and policy.key is None else -1
        self.nodes = NodeTable(file, policy)
        self.keep = min(buffer_size, ring_file.MOST_STEPS)
        self._is_open = True
        self._secrets: dict[str, None] = {}
        self._slots = [_Slot(self, number) for number in range(slots)]
        used = self.keep + ring_file.MARGIN
        self.free: deque[_Slot] = deque(self._slots[:used])
        self._reserve = self._slots[: used - 1 : -1]
        STATE.slots.append(self._slots)

    def connect(self) -> None:
        """Let the native core, where there is one, write small calls into this box."""
        if NATIVE is not None:
            NATIVE.open_box(
                owner=self,
                map=self.map,
                nodes=self.nodes,
                free=self.free,
                take=self.free.popleft,
                give_back=self.free.append,
                other_slot=self.other_slot,
                dumps=dumps,
                keep=self.keep,
                limit=self.limit,
                writes_results=self.writes_results,
            )

    def disconnect(self) -> None:
        """Let the native core write into this box no more."""
        if NATIVE is not None:
            NATIVE.close_box(self)

    def close(self) -> None:
        """End in order: the file goes."""
        self._stop()
        self._file.finish()

    def abandon(self) -> None:
        """Leave the file to the parent of this forked process."""
        self._stop()
        self._file.abandon()

    def _stop(self) -> None:
        self._is_open = False
        self.nodes.close()
        self._reserve.clear()
        self.free.clear()
        release(self._slots)

    # --- the step processor, for all calls that `flowtrace.blackbox.hot_path` does not take

    def snapshot(self, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool) -> Snapshot:
        """Return a snapshot of a call's arguments: the payload's canonical bytes where nothing in it is hidden."""
        try:
            entry = self.nodes.entry(node)
            names = entry.bound_names if bound else entry.names
            if names is None or kwargs or len(args) != len(names):
                return self._snapshot_slowly(entry, node, args, kwargs, bound)
            if not all(self._is_small_and_open(value, entry) for value in args):
                return self._snapshot_slowly(entry, node, args, kwargs, bound)
            data = dumps(dict(zip(names, args, strict=True)), None, _OPTIONS)
            if len(data) <= self._policy.max_value_bytes:
                return data
        except JSONError:
            pass
        except Exception as error:
            log.internal_fault("take the arguments of a call for the black box", error)
        return call_values.snapshot_call(node, args, kwargs, bound, self._policy)

    def start(self, step: Step) -> None:
        """Write that a step runs."""
        try:
            entry = self.nodes.entry(step.node)
            data = step.input
            if (
                entry.has_names
                and type(data) is bytes
                and data[0] == _OBJECT
                and len(data) <= ROOM
                and not (entry.captures and may_hold_secrets(data, entry.secret))
            ):
                if entry.is_written:
                    tail, flags, size, about = data, HAS_DATA, len(data), 0
                else:
                    tail, flags, size, about = self._hashed(data, entry.captures)
            else:
                tail, flags, size, about = self._encoded_input(step, entry)
            slot = self.free.popleft() if len(self.free) > self.keep else self.other_slot()
            if slot is not None:
                step.slot = slot
                packed = pack_integer(size, about, flags, entry.number)
                step.started = step.started or CLOCK.now()
                numbers = step.parent, step.started, step.thread, packed, step.number
                slot.end = slot.body + len(tail)
                self.map[slot.at : slot.end] = START.pack(checksum(tail, *numbers), *numbers) + tail
        except Exception as error:
            log.internal_fault("write the start of a step into the black box", error)

    def end(self, step: Step, output: object) -> None:
        """Take the result of a function, and write that its step has ended well."""
        try:
            if self.limit >= 0 and step.rest is None and self.holds(step):
                entry = self.nodes.entry(step.node)
                data = None if entry.hides_result else self._json_if_open(output, entry, ())
                is_written = data is not None and self.writes_results
                if data is not None and is_written and may_hold_secrets(data, entry.secret):
                    data = None
                if data is not None and len(data) <= self.limit:
                    step.output = data
                    tail = data if self.writes_results else hash_raw(data)
                    self._write_end(step, tail, HAS_DATA if self.writes_results else HAS_DIGEST, len(tail), 0)
                    return
        except Exception as error:
            log.internal_fault("write the end of a step into the black box", error)
        step.output = call_values.snapshot_output(step.node, output, self._policy)
        self.finish(step)

    def finish(self, step: Step) -> None:
        """Write how a step has ended, well or not."""
        try:
            self._finish(step)
        except Exception as error:
            log.internal_fault("write the end of a step into the black box", error)

    def _finish(self, step: Step) -> None:
        about: dict[str, Any] = {}
        data: bytes | None = None
        digest, flags = b"", 0
        if step.output is not None:
            output = call_values.canonical_output(step.node, step.output, self._policy)
            if isinstance(step.output, Stream):
                step.output = output  # a stream has one end
            remember(output.secrets, self._secrets)
            digest, flags = digest_of(output)
            if self._policy.capture_outputs:
                output = without_secrets_in_texts(output, self._policy.secret(step.node))
                data = output.data
            about |= about_of(output, self._policy.capture_outputs)
        if step.state_delta is not None:
            about |= delta_of(step.state_delta)
            remember(step.state_delta.secrets, self._secrets)
        remember(step.hidden, self._secrets)
        if step.failure is not None:
            about["failure"] = self._scrubbed(step, list(step.failure))
        if step.issues:
            about["issues"] = self._scrubbed(step, [[issue.code, issue.path, issue.message] for issue in step.issues])
        self._write_end(step, *fitted(digest, flags, data, about))

    def adopt(self, step: Step) -> None:
        """Write a step that began, or ended, before this box was there, and maybe under other rules of redaction."""
        step.slot = None
        if isinstance(step.input, bytes) and step.input[0] == _OBJECT:
            step.input = call_values.canonical_input(step.node, step.input, step.bound, self._policy)
        self.start(step)
        if step.ended:
            self.finish(step)

    def holds(self, step: Step) -> bool:
        """Return True if a step that runs has its slot here."""
        return isinstance(step.slot, _Slot) and step.slot.owner is self

    # --- inside

    def _is_small_and_open(self, value: Any, entry: NodeEntry) -> bool:
        """Return True if an argument is small plain JSON that hides nothing; False where finding out takes more.

        Its keys are looked at after `dumps`, which takes only texts as keys: no `__hash__` of the program is run.
        """
        if is_left_to_pickler(value):
            return False
        try:
            if b"null" in dumps(value, None, _OPTIONS) and value is not None:  # it may be NaN
                return False
        except JSONError:
            return False
        return type(value) is not dict or entry.not_secret.issuperset(value) or not entry.secret.hides(value)

    def _write_end(self, step: Step, tail: bytes, flags: int, size: int, about: int) -> None:
        slot = step.slot
        if not isinstance(slot, _Slot) or slot.owner is not self:
            return
        numbers = step.ended - step.started, pack_integer(size, about, flags), step.number
        body = END.pack(checksum(tail, *numbers), *numbers) + tail
        self.map[slot.end : slot.end + len(body)] = body
        step.slot = None
        self.free.append(slot)

    def other_slot(self) -> _Slot | None:
        """Return a slot that was not used before, or that of the step that ended first; None where all are taken."""
        try:
            return self._reserve.pop() if self._reserve else self.free.popleft()
        except IndexError:
            if self._is_open:
                path = self._file.path
                log.warn_once("black box has no room for more steps in flight", ("black box", "full"), path=path)
            return None

    def _hashed(self, data: bytes, keep: bool) -> tuple[bytes, int, int, int]:
        flags = HAS_DIGEST if self._key is None else HAS_DIGEST | IS_KEYED
        if keep:
            return hash_raw(data, self._key) + data, flags | HAS_DATA, DIGEST + len(data), 0
        return hash_raw(data, self._key), flags, DIGEST, 0

    def _snapshot_slowly(
        self, entry: NodeEntry, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool
    ) -> Snapshot:
        """Return a snapshot of a call that is not as simple, or whose names were not asked for yet."""
        data = self._json_if_open(bind(node, args, kwargs, bound), entry, args)
        if data is not None and len(data) <= self._policy.max_value_bytes:
            return data
        return call_values.snapshot_call(node, args, kwargs, bound, self._policy)

    def _json_if_open(self, value: Any, entry: NodeEntry, parts: tuple[Any, ...]) -> bytes | None:
        """Return the canonical bytes of a plain JSON value; None where it is other, may hide something, or is large.

        Args:
            value: a payload.
            entry: of its node.
            parts: positional arguments in it.
        """
        if self._policy.redactor is not None:  # it has to be asked for each value
            return None
        for part in parts or (value,):
            if type(part) in (dict, list, str, bytes) and len(part) > self._policy.max_value_bytes:
                return None
        data = plain(value, self._policy.max_value_work)
        if data is None:
            return None
        keys = keys_of(value)
        if entry.not_secret.issuperset(keys) or not entry.secret.hides(keys):
            return data
        return None if b'"$py"' in data or entry.secret.may_be_in(data) else data

    def _encoded_input(self, step: Step, entry: NodeEntry) -> tuple[bytes, int, int, int]:
        given = call_values.canonical_input(step.node, step.input, step.bound, self._policy)
        remember(given.secrets, self._secrets)
        if entry.captures:
            given = without_secrets_in_texts(given, entry.secret)
        digest, flags = digest_of(given)
        return fitted(digest, flags, given.data if entry.captures else None, about_of(given, entry.captures))

    def _scrubbed(self, step: Step, texts: list[Any]) -> list[Any]:
        try:
            names = self.nodes.entry(step.node).secret
            scrubber = Scrubber([*self._secrets, *texts_in_environment(os.environ, names)], names)
            scrubbed: list[Any] = scrubber.scrubbed(texts)
        except Exception as error:
            let_through(error)
            return [MARKER for _ in texts]
        return scrubbed
