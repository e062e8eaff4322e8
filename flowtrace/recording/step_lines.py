"""The text of a step that is like many others: small plain values, no secret in them, nothing noted beside its error.

Most of the text is the same for all such steps of a node. It is cut out of the first one that was made in the ordinary
way, and the native core fills in what differs. So the text is made as `flowtrace.recording.step_records` and
`flowtrace.trace.layout` say, and no field of it is known here but those that are filled in. Whatever is not like that,
and every step of the pure twin, is made there.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final, NamedTuple

from flowtrace.calls.core import NATIVE
from flowtrace.host.system import CLOCK, re
from flowtrace.recording.call_values import hides_result
from flowtrace.recording.node import Node, Policy, ordinary_names
from flowtrace.recording.step import Step
from flowtrace.trace import layout, model
from flowtrace.values.json import dumps, keys_of
from flowtrace.values.redaction import SecretNames
from flowtrace.values.scrub import may_hold_secrets

_MOST_SHAPES: Final = 64  # of a node: threads have names of their own
_LATEST: Final = 1 << 62  # nanoseconds since the Unix epoch that the native core can count
_NOTES: Final = frozenset({"failure", "expected", "scrubbed"})


class Gap(IntEnum):
    """A part of the text that differs from step to step. The numbers are those in ``calls/native/lines.c``."""

    INPUT_HASH = 0
    PAYLOAD = 1
    OUTPUT_HASH = 2
    RESULT = 3
    MILLISECONDS = 4
    NANOSECONDS = 5
    STARTED = 6
    NUMBER = 7
    PARENT = 8
    ERROR = 9
    """In its place stands `ERROR_GAP`: the text of an error is known only when all that the steps hide is."""


ERROR_GAP: Final = b"\0"
"""Stands where the lines of a step's error belong; no JSON text holds this character."""
_OF_FIELDS: Final = {
    "input_hash": Gap.INPUT_HASH,
    "output_hash": Gap.OUTPUT_HASH,
    "duration_ms": Gap.MILLISECONDS,
    "duration_ns": Gap.NANOSECONDS,
    "started_at": Gap.STARTED,
    "step_id": Gap.NUMBER,
    "parent_step_id": Gap.PARENT,
    "output_json": Gap.RESULT,
    "error": Gap.ERROR,
}
_INSIDE_A_TEXT: Final = frozenset({Gap.INPUT_HASH, Gap.OUTPUT_HASH, Gap.STARTED, Gap.NUMBER, Gap.PARENT})
_GAP: Final = re.compile(rb'<gap ([0-9])>|"<gap alone ([0-9])>"')
# A step that has any other field is not like the others.
_CONSTANT: Final = frozenset({"node_id", "component_id", "operation", "invocation_json", "thread", "code"})


class Shape(NamedTuple):
    """A text of some steps of a node, with gaps for all that they don't have in common.

    Attributes:
        pieces: the text, with gaps in it.
        names: the parameters.
        defaults: of the last of them.
        not_secret: keys that may be in the values.
    """

    pieces: tuple[bytes | Gap, ...]
    names: tuple[str, ...]
    defaults: tuple[Any, ...]
    not_secret: set[str]


class StepLines:
    """Makes the texts of steps whose shape is known.

    Args:
        policy: what to keep of values.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._epoch = CLOCK.epoch()
        is_open = NATIVE is not None and policy.key is None and policy.redactor is None
        self._is_open = is_open and abs(self._epoch) < _LATEST
        self._mode = policy.secret(), policy.capture_inputs, policy.capture_outputs
        self._limit = min(policy.max_value_bytes, policy.max_value_work)  # a part takes at least a byte

    def texts(self, steps: list[Step]) -> list[bytes | None]:
        """Return what `text` does for many steps; None also for one of which that takes a second look."""
        if not self._is_open:
            return [None] * len(steps)
        found: list[bytes | None] = NATIVE.all_lines(tuple(steps), self._mode, dumps, self._epoch, self._limit)
        return found

    def text(self, step: Step) -> bytes | None:
        """Return the text of a finished step that hides nothing, with an `ERROR_GAP` where it has an error.

        Returns:
            None where the text is to be made in the ordinary way.
        """
        shape = self._shapes(step).get(_kind(step)) if self._is_open and _is_plain(step) else None
        if shape is None:
            return None
        secret = self._policy.secret(step.node)
        found = self._made(step, shape, is_checked=False)
        if found is None and _learns_keys(step, secret):
            found = self._made(step, shape, is_checked=False)
        if type(found) is list:
            may_hide = any(may_hold_secrets(text, secret) for text in found)
            found = None if may_hide else self._made(step, shape, is_checked=True)
        text: bytes | None = found
        return text

    def learn(self, step: Step, record: model.Step) -> None:
        """Keep what the record of a finished step has in common with others."""
        node = step.node
        if not self._is_open or not _is_plain(step) or _kind(step) in self._shapes(step):
            return
        names = names_of_calls(node)[step.bound]
        secret = self._policy.secret(node)
        has_secrets = any(map(secret, names or ())) or (step.rest is None and hides_result(node, self._policy))
        pieces = None if names is None or node.live_defaults or has_secrets else _pieces_of(record)
        if names is not None and node.function is not None and pieces is not None:
            if sum(map(len, node.shapes.values())) >= _MOST_SHAPES:
                node.shapes.clear()
            shape = Shape(pieces, names, node.function.__defaults__ or (), secret.not_secret)
            node.shapes.setdefault(self._mode, {})[_kind(step)] = shape

    def _shapes(self, step: Step) -> dict[int, Shape]:
        found: dict[int, Shape] | None = step.node.shapes.get(self._mode)
        return found or {}

    def _made(self, step: Step, shape: Shape, *, is_checked: bool) -> Any:
        return NATIVE.step_lines(step, *shape, dumps, self._epoch, self._limit, is_checked)


def _kind(step: Step) -> int:
    """Return the kind of a step, as the native core counts it; it asks for those without an error only."""
    kind = step.thread << 2 | step.bound << 1 | (step.parent != 0)
    return kind if step.rest is None else -1 - kind


def _is_plain(step: Step) -> bool:
    """Return True for a step of which nothing is noted; or nothing but its error, which then there is."""
    rest = step.rest
    return rest is None or (rest.keys() <= _NOTES and rest.get("failure") is not None)


def names_of_calls(node: Node) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    """Return a node's parameters, and those of calls that leave out the receiver; None where not all are ordinary."""
    bound = ordinary_names(node.function) if node.has_receiver else None
    return node.simple_names, None if bound is None else bound[1:]


def _learns_keys(step: Step, secret: SecretNames) -> bool:
    """Return True if the values of a step have keys that were not asked for yet, and that hide nothing."""
    keys = keys_of((step.input, step.output)) if type(step.input) is tuple else set()
    return not secret.not_secret.issuperset(keys) and not secret.hides(keys)


def _pieces_of(record: model.Step) -> tuple[bytes | Gap, ...] | None:
    """Return the text of a record with gaps in it; None where it has other fields, or texts that look like gaps."""
    written = {name for name in record.__struct_fields__ if _is_written(record, name)}
    if not written <= _CONSTANT | _OF_FIELDS.keys():
        return None
    gaps = {name: gap for name, gap in _OF_FIELDS.items() if name in written}
    changes: dict[str, Any] = {name: _mark(gap) for name, gap in gaps.items()}
    for name in gaps.keys() & {"input_hash", "output_hash"}:
        changes[name] = model.changed(getattr(record, name), value=_mark(gaps[name]))
    if "invocation_json" in written:
        changes["invocation_json"] = {**record.invocation_json, "payload": _mark(Gap.PAYLOAD)}  # type: ignore[dict-item]
        gaps["invocation_json"] = Gap.PAYLOAD
    found = _GAP.split(layout.step_text(model.changed(record, **changes)))
    pieces = [Gap(int(part)) if at % 3 else part for at, part in enumerate(found) if part is not None]
    if sorted(piece for piece in pieces if type(piece) is Gap) != sorted(gaps.values()):
        return None
    return tuple(ERROR_GAP if piece is Gap.ERROR else piece for piece in pieces)


def _is_written(record: model.Step, name: str) -> bool:
    value = getattr(record, name)
    if value is None and name == "output_json":
        return True
    return value is not None and value is not model.UNSET and value != [] and value != {}


def _mark(gap: Gap) -> str:
    return f"<gap {gap:d}>" if gap in _INSIDE_A_TEXT else f"<gap alone {gap:d}>"
