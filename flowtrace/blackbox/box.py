"""The black box: each step goes into a memory-mapped file as it starts and ends, so that it survives the process.

What is in a shared file mapping belongs to the kernel, and is there for other processes however this one ends. There is
no lock: a step has a slot of its own from its start until later ones need it.

Nothing hidden may ever be in the file, so that redaction can't wait here. For calls whose values are light and whose
names are known to be harmless, the payload's canonical bytes are made at once, and serve as the snapshot too.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from gc import is_tracked
from typing import Any, Final

from flowtrace.blackbox import hot_path, ring_file
from flowtrace.blackbox.ring_file import (
    AS_TAKEN,
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
    word,
)
from flowtrace.blackbox.slot_records import KnownNode, NodeTable, about_of, delta_of, digest_of, fitted
from flowtrace.host import log
from flowtrace.host.clock import CLOCK
from flowtrace.host.signals import let_through
from flowtrace.recording.call_values import Snapshot, Stream, final_input, final_output, snapshot_call, snapshot_output
from flowtrace.recording.node import Node, Policy, bind
from flowtrace.recording.step import HOLDERS, Step, let_go
from flowtrace.values.digest import hash_raw
from flowtrace.values.json import EXACT_TYPES, SORTED_KEYS, JSONError, dumps, plain
from flowtrace.values.redaction import MARKER, SecretNames
from flowtrace.values.scrub import Scrubber, remember, texts_in_environment
from flowtrace.values.snapshot import FEW

_OPTIONS: Final = EXACT_TYPES | SORTED_KEYS
_OBJECT: Final = ord("{")
_MOST_KEYS: Final = 64
_LONGEST_KEY: Final = 100
_MOST_HARMLESS: Final = 4096
_tracked: Final = is_tracked


class _Slot:
    """A place for one step in the file.

    Attributes:
        box: whose file.
        at: where the start goes ...
        body: ... and what follows its numbers.
        end: where the end goes, once the start is there.
        step: what runs in it, where `flowtrace.blackbox.hot_path` has started that.
    """

    __slots__ = ("at", "body", "box", "end", "step")

    def __init__(self, box: BlackBox, number: int) -> None:
        self.box = box
        self.at = self.end = FIRST + SLOT * number
        self.body = self.at + START.size
        self.step: Step | None = None


class BlackBox:
    """Writes the steps of this process into a ring file. A fault of its own costs no step its place in the buffer.

    Args:
        file: the ring file.
        slots: how many slots it has.
        buffer_size: finished steps that are kept at least.
        policy: what to keep of values.

    Attributes:
        map: the bytes of the file.
        nodes: what is known of nodes.
        free: slots, that of the step that ended first before all others.
        keep: how many of them stay as they are, for the finished steps that they tell of.
        limit: bytes that a result may have that is written at once; below 0 where nothing is.
        shows_results: such a result is written, and not its hash.
        end_word: the word of its end, less the bytes of what is written.
    """

    begin_call: Callable[..., Any] = staticmethod(hot_path.begin)
    end_call: Callable[..., Any] = staticmethod(hot_path.end)

    __slots__ = (
        *("_file", "_is_open", "_key", "_places", "_policy", "_reserve", "_secrets"),
        *("end_word", "free", "keep", "limit", "map", "nodes", "shows_results"),
    )

    def __init__(self, file: RingFile, slots: int, buffer_size: int, policy: Policy) -> None:
        self._file = file
        self.map = file.map
        self._policy = policy
        self._key = policy.key
        self.shows_results = policy.capture_outputs
        self.end_word = word(0, 0, HAS_DATA | AS_TAKEN if policy.capture_outputs else HAS_DIGEST)
        self.limit = min(ROOM, policy.max_value_bytes) if policy.redactor is None and policy.key is None else -1
        self.nodes = NodeTable(file, policy)
        self.keep = min(buffer_size, ring_file.MOST_STEPS)
        self._is_open = True
        self._secrets: dict[str, None] = {}
        places = [_Slot(self, number) for number in range(slots)]
        used = self.keep + ring_file.MARGIN
        self.free: deque[_Slot] = deque(places[:used])
        self._reserve = places[: used - 1 : -1]
        self._places = places
        HOLDERS.append(places)

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
        let_go(self._places)

    # --- what a call goes through that is less simple than those of `flowtrace.blackbox.hot_path`

    def take(self, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool) -> Snapshot:
        """Return what a function is called with: its payload's canonical bytes where nothing in it is hidden."""
        try:
            known = self.nodes.known(node)
            names = known.bound_names if bound else known.names
            if names is None or kwargs or len(args) != len(names):
                return self._take_other(known, node, args, kwargs, bound)
            parts = [self._light(value, known) for value in args]
            if None in parts:
                return self._take_other(known, node, args, kwargs, bound)
            data = dumps(dict(zip(names, args, strict=True)), None, _OPTIONS)
            if len(data) <= self._policy.max_value_bytes:
                return data
        except JSONError:
            pass
        except Exception as error:
            log.internal_fault("take the arguments of a call for the black box", error)
        return snapshot_call(node, args, kwargs, bound, self._policy)

    def start(self, step: Step) -> None:
        """Write that a step runs."""
        try:
            known = self.nodes.known(step.node)
            data = step.input
            if known.has_names and type(data) is bytes and data[0] == _OBJECT and len(data) <= ROOM:
                if known.is_shown:
                    tail, flags, size, about = data, HAS_DATA, len(data), 0
                else:
                    tail, flags, size, about = self._hashed(data, known.captures)
            else:
                tail, flags, size, about = self._slow_input(step, known)
            slot = self.free.popleft() if len(self.free) > self.keep else self.other_slot()
            if slot is not None:
                step.slot = slot
                told = word(size, about, flags, known.number)
                step.started = step.started or CLOCK.now()
                numbers = step.parent, step.started, step.thread, told, step.number
                slot.end = slot.body + len(tail)
                self.map[slot.at : slot.end] = START.pack(checksum(tail, *numbers), *numbers) + tail
        except Exception as error:
            log.internal_fault("write the start of a step into the black box", error)

    def end(self, step: Step, output: object) -> None:
        """Take what a function returned, and write that its step has ended well."""
        step.output = snapshot_output(step.node, output, self._policy)
        self.finish(step)

    def forget(self, step: Step) -> None:
        """Take a step back that could not be started after all."""
        slot, step.slot = step.slot, None
        if slot.box is self:
            self.map[slot.at : slot.at + START.size] = bytes(START.size)
            self.free.append(slot)

    def finish(self, step: Step) -> None:
        """Write how a step has ended, whichever way that was."""
        try:
            self._finish(step)
        except Exception as error:
            log.internal_fault("write the end of a step into the black box", error)

    def _finish(self, step: Step) -> None:
        about: dict[str, Any] = {}
        data: bytes | None = None
        digest, flags = b"", 0
        if step.output is not None:
            output = final_output(step.node, step.output, self._policy)
            if isinstance(step.output, Stream):
                step.output = output  # a stream has one end
            remember(output.secrets, self._secrets)
            digest, flags = digest_of(output)
            data = output.data if self._policy.capture_outputs else None
            about |= about_of(output, self._policy.capture_outputs)
        if step.state_delta is not None:
            about |= delta_of(step.state_delta)
            remember(step.state_delta.secrets, self._secrets)
        if step.failure is not None:
            if step.stream is not None:
                remember(step.stream.secrets(step.node, self._policy), self._secrets)
            about["failure"] = self._told(step, list(step.failure))
        if step.issues:
            about["issues"] = self._told(step, [[issue.code, issue.path, issue.message] for issue in step.issues])
        self._write_end(step, *fitted(digest, flags, data, about))

    def adopt(self, step: Step) -> None:
        """Take in a step that began, or ended, before there was this box, and maybe under other rules of redaction."""
        step.slot = None
        if isinstance(step.input, bytes) and step.input[0] == _OBJECT:
            step.input = final_input(step.node, step.input, step.bound, self._policy)
        self.start(step)
        if step.ended:
            self.finish(step)

    def has(self, step: Step) -> bool:
        """Tell whether a step that runs has its slot here."""
        return step.slot is not None and step.slot.box is self

    # --- inside

    def _light(self, value: Any, known: KnownNode) -> bytes | None:
        """Return the canonical bytes of an argument that hides nothing; None where it takes more to tell.

        Its keys are looked at after `dumps`, which takes no others than texts: none is asked for its hash.
        """
        if _tracked(value) or type(value) is tuple or (type(value) is dict and len(value) > FEW):
            return None
        try:
            data = dumps(value, None, _OPTIONS)
        except JSONError:
            return None
        if type(value) is dict and not known.harmless.issuperset(value) and self.hides(value, known):
            return None
        return data

    def _write_end(self, step: Step, tail: bytes, flags: int, size: int, about: int) -> None:
        slot = step.slot
        if slot is None or slot.box is not self:
            return
        numbers = step.ended - step.started, word(size, about, flags), step.number
        body = END.pack(checksum(tail, *numbers), *numbers) + tail
        self.map[slot.end : slot.end + len(body)] = body
        step.slot = None
        self.free.append(slot)

    def other_slot(self) -> _Slot | None:
        """Return a slot that was not used before, or that of the step that ended first; or none where all are taken."""
        try:
            return self._reserve.pop() if self._reserve else self.free.popleft()
        except IndexError:
            if self._is_open:
                log.warn_once(
                    "black box has no room for more steps in flight", ("black box", "full"), path=self._file.path
                )
            return None

    def _hashed(self, data: bytes, keep: bool) -> tuple[bytes, int, int, int]:
        flags = HAS_DIGEST if self._key is None else HAS_DIGEST | IS_KEYED
        if keep:
            return hash_raw(data, self._key) + data, flags | HAS_DATA, DIGEST + len(data), 0
        return hash_raw(data, self._key), flags, DIGEST, 0

    def _take_other(
        self, known: KnownNode, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool
    ) -> Snapshot:
        """Take a call that is not as simple, or not yet known to be harmless."""
        data = self._verified(bind(node, args, kwargs, bound), known, args)
        if data is not None and len(data) <= self._policy.max_value_bytes:
            return data
        return snapshot_call(node, args, kwargs, bound, self._policy)

    def _verified(self, value: Any, known: KnownNode, parts: tuple[Any, ...]) -> bytes | None:
        """Return the canonical bytes of a value that JSON holds as it is; None where it hides something, or is large.

        Args:
            value: a payload.
            known: about its node.
            parts: positional arguments in it.
        """
        if self._policy.redactor is not None:  # which is to be asked for each value
            return None
        for part in parts or (value,):
            if type(part) in (dict, list, str, bytes) and len(part) > self._policy.max_value_bytes:
                return None
        data = plain(value)
        return None if data is None or b'"$py"' in data or _may_hide(known.secret, data, value) else data

    def hides(self, value: dict[Any, Any], known: KnownNode) -> bool:
        """Tell whether a dict's keys may hide something; those of one that hides nothing are known from then on."""
        if len(value) > _MOST_KEYS or not all(type(key) is str and len(key) <= _LONGEST_KEY for key in value):
            return True
        if "$py" in value or any(map(known.secret, value)):
            return True
        if len(known.harmless) >= _MOST_HARMLESS:
            known.harmless.clear()
        known.harmless.update(value)
        return False

    def _slow_input(self, step: Step, known: KnownNode) -> tuple[bytes, int, int, int]:
        given = final_input(step.node, step.input, step.bound, self._policy)
        remember(given.secrets, self._secrets)
        digest, flags = digest_of(given)
        return fitted(digest, flags, given.data if known.captures else None, about_of(given, known.captures))

    def _told(self, step: Step, texts: list[Any]) -> list[Any]:
        try:
            names = self.nodes.known(step.node).secret
            scrubber = Scrubber([*self._secrets, *texts_in_environment(os.environ, names)], names)
            told: list[Any] = scrubber.scrubbed(texts)
        except Exception as error:
            let_through(error)
            return [MARKER for _ in texts]
        return told


def _may_hide(secret: SecretNames, data: bytes, value: Any) -> bool:
    """Tell whether a secret name may be in a value; exactly so for an object of atoms, as most payloads are."""
    if not secret.may_be_in(data):
        return False
    if type(value) is dict and not any(type(part) in (dict, list, tuple) for part in value.values()):
        return any(map(secret, value))
    return True
