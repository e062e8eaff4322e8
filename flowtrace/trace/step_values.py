"""The steps of a trace as a tree, and their captured values, each read once: what a value's history is looked up in."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from flowtrace.host.log import printable
from flowtrace.host.system import parse_timestamp
from flowtrace.trace.model import INPUT, OUTPUT, UNSET, Step, is_within
from flowtrace.trace.payload_files import PayloadValues
from flowtrace.trace.value_parts import Tokens, pointer_of, resolve, short_path
from flowtrace.values.encoded import KEYED_ALGORITHM, TAG
from flowtrace.values.json import sized_bytes_of_tree

if TYPE_CHECKING:
    from flowtrace.trace.model import Trace

SIDES: Final = {"input": INPUT, "output": OUTPUT}
MOST_HOPS: Final = 250
"""No more callers of a step are looked at."""
_LONGEST_NAME: Final = 300
_TOLERANCE: Final = 2000  # nanoseconds; times are cut to whole microseconds


class StepValues:
    """Looks up steps and values; see the module.

    Args:
        trace: the trace.
        path: its file, to find its payload files; None where it is not known.

    Attributes:
        trace: the same.
        steps: those that ended, and those that were still running.
    """

    def __init__(self, trace: Trace, path: str | os.PathLike[str] | None) -> None:
        self.trace = trace
        self.steps: list[Step] = [*trace.steps, *trace.in_flight]
        self._files = PayloadValues(path)
        self._values: dict[tuple[int, str], tuple[Any, str]] = {}
        self._times: list[tuple[int | None, int | None]] = []
        self._texts: list[bytes | None] | None = None
        self._complete: dict[str, list[int]] = {}
        self._by_id: dict[str, int] = {}
        for at, step in enumerate(self.steps):
            if step.step_id is not None:
                self._by_id.setdefault(step.step_id, at)
        self._inside: dict[int, set[int]] = {}
        self._called: dict[int, list[int]] = {}
        for at in range(len(self.steps)):
            caller = self.caller(at)
            if caller is not None:
                self._called.setdefault(caller, []).append(at)

    # --- the tree

    def name(self, at: int) -> str:
        """Return the number and the node of a step, as a printable text."""
        name = printable(self.steps[at].node_id[:_LONGEST_NAME])
        return f"#{at} {name}" if at < len(self.trace.steps) else f"{name} (still running)"

    def pointer(self, at: int) -> str:
        """Return the JSON Pointer of a step in the trace."""
        finished = len(self.trace.steps)
        return f"/steps/{at}" if at < finished else f"/in_flight/{at - finished}"

    def caller(self, at: int) -> int | None:
        """Return the step that called one; None where there is none in the trace."""
        found = self._by_id.get(self.steps[at].parent_step_id or "")
        return None if found == at else found

    def callers(self, at: int) -> dict[int, int]:
        """Return a step and those that it was called in, each with how many calls lie between."""
        found: dict[int, int] = {}
        here: int | None = at
        while here is not None and here not in found and len(found) < MOST_HOPS:
            found[here] = len(found)
            here = self.caller(here)
        return found

    def inside(self, at: int) -> set[int]:
        """Return all steps inside a step."""
        found = self._inside.get(at)
        if found is not None:
            return found
        found = self._inside[at] = set()
        waiting = [at]
        while waiting:
            for inner in self._called.get(waiting.pop(), ()):
                if inner not in found and inner != at:
                    found.add(inner)
                    waiting.append(inner)
        return found

    def distance(self, callers: dict[int, int], at: int) -> int:
        """Return how many calls lie between a step, whose callers these are, and another one."""
        for other, up in self.callers(at).items():
            if other in callers:
                return callers[other] + up
        return 2 * MOST_HOPS

    def before(self, at: int, side: str) -> list[int]:
        """Return the steps whose outputs may have gone into the input or output of a step, the last one first.

        Into an input, any that ended before; into an output, only steps inside.
        """
        inside, callers = self.inside(at), self.callers(at)
        limit = self._started_and_ended()[at][side == "output"]
        listed = sorted(inside) if side == "output" else range(len(self.trace.steps))
        found: list[int] = []
        for other in listed:
            step = self.steps[other]
            if other in callers or (other in inside and side == "input"):
                continue
            if step.output_hash is None and step.output_json is UNSET and step.output_path is None:
                continue
            begun, over = self._times[other]
            if _is_generator(step):
                over = begun  # it gave its items while it ran
            elif other > at:
                continue
            if limit is None or over is None or over <= limit + _TOLERANCE:
                found.append(other)
        return found[::-1]

    def _started_and_ended(self) -> list[tuple[int | None, int | None]]:
        if not self._times:
            for step in self.steps:
                began = parse_timestamp(step.started_at)
                length = step.duration_ms * 1_000_000 if step.duration_ns is None else step.duration_ns
                self._times.append((began, None if began is None else began + length))
        return self._times

    # --- the values

    def value(self, at: int, side: str) -> tuple[Any, str]:
        """Return the captured input or output of a step and ``""``, or None and why it is not there."""
        key = (at, side)
        if key not in self._values:
            self._values[key] = self._read(self.steps[at], side)
        return self._values[key]

    def learn(self, at: int, value: Any) -> None:
        """Note the output of a step, of which the trace has only the hash."""
        self._values[at, "output"] = value, ""

    def _read(self, step: Step, side: str) -> tuple[Any, str]:
        value: Any = step.output_json
        path = step.output_path
        if side == "input":
            captured = step.invocation_json
            value = captured.get("payload", UNSET) if isinstance(captured, dict) else UNSET
            path = step.invocation_path
        if path is not None and value is UNSET:
            value, reason = self._files.read_once(path)
            return (value, "") if not reason else (None, "unread")
        if value is UNSET:
            return None, "not captured"
        return (None, "cut") if isinstance(value, dict) and value.get(TAG) == "cut" else (value, "")

    def uncaptured(self, steps: list[int]) -> int:
        """Return how many of some steps have an output that the trace does not hold."""
        return sum(self.value(at, "output")[1] != "" for at in steps)

    def hidden(self, at: int, side: str, tokens: Tokens) -> str:
        """Return why a part of a value is not in the trace as it was; empty where it is."""
        step, pointer = self.steps[at], SIDES[side] + pointer_of(tokens)
        listed = (("cut", [cut.path for cut in step.cut]), ("redacted", step.redacted), ("opaque", step.opaque))
        return next((why for why, found in listed if any(is_within(pointer, part) for part in found)), "")

    def unseen(self, at: int, side: str, tokens: Tokens) -> str:
        """Return which part of a value can't be compared, and why; empty where all can."""
        step, start = self.steps[at], SIDES[side] + pointer_of(tokens)
        value = self.value(at, side)[0]
        listed = (("cut", [cut.path for cut in step.cut]), ("redacted", step.redacted), ("opaque", step.opaque))
        for why, found in listed:
            inner = next((part for part in found if is_within(part, start)), None)
            if inner is not None:
                pointer = inner.removeprefix(SIDES[side])
                exact = resolve(value, pointer)
                return f"`{printable(pointer if exact is None else short_path(value, exact))}` is {why}"
        return ""

    def texts(self) -> list[bytes | None]:
        """Return the canonical JSON of each captured output; None where there is none."""
        if self._texts is None:
            self._texts = []
            for at, step in enumerate(self.steps):
                value, reason = self.value(at, "output")
                self._texts.append(None if reason else sized_bytes_of_tree(value))
                if step.output_hash is not None and step.output_hash.algorithm != KEYED_ALGORITHM:
                    self._complete.setdefault(step.output_hash.value, []).append(at)
        return self._texts

    def with_output(self, digest: str) -> set[int]:
        """Return the steps whose complete output has a hash."""
        self.texts()
        return set(self._complete.get(digest, ()))


def _is_generator(step: Step) -> bool:
    return isinstance(step.output_json, dict) and step.output_json.get(TAG) == "generator"
