"""What two steps that are the same call differ in, and how sure that is. Never a wrong "equal"."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final, NamedTuple

from flowtrace.comparing.align import Place
from flowtrace.comparing.json_changes import changes, is_same
from flowtrace.comparing.result import Aspect, Doubt
from flowtrace.errors import PayloadFileError
from flowtrace.trace.model import UNSET, Hash, Step, StepError, Trace, to_document
from flowtrace.trace.payload_files import MAX_ALL_SHOWN_BYTES, MAX_SHOWN_BYTES, holds_what_its_name_says, read_payload
from flowtrace.values.digest import KEYED_ALGORITHM
from flowtrace.values.encode import TAG
from flowtrace.values.json import loads

MAX_CHANGES: Final = 20  # places shown of one value
_MAX_EXAMPLES: Final = 5
_PLACES: Final = {"input": "/invocation_json/payload", "output": "/output_json", "state_delta": "/state_delta"}
_TOLD: Final = ("type", "causes", "notes", "exceptions")  # frames change with every line that is added above them
MISSING: Final = object()

_OPAQUE: Final = "equal hashes over opaque parts: the values may differ there"
_REDACTED: Final = "equal hashes over redacted parts: the values may differ there"
_KINDS_DIFFER: Final = "hashes of different kinds: they can't be compared"
_KEYS_MAY_DIFFER: Final = "keyed hashes differ: the values do, or the keys"
_DROPPED: Final = "steps that had rolled out of the buffer"


class Side(NamedTuple):
    """One of the two traces.

    Attributes:
        trace: its records.
        name: what to call it.
        path: its file, beside which its payload files are; None where that is not known.
    """

    trace: Trace
    name: str
    path: str | None


class Evidence:
    """Compares the parts of steps, and notes what can't be compared.

    Attributes:
        undecided: how many hashes could not be compared at all.
    """

    def __init__(self, a: Side, b: Side) -> None:
        self._a = a
        self._b = b
        self._doubts: dict[str, Doubt] = {}
        self._room = MAX_ALL_SHOWN_BYTES
        self.undecided = 0

    @property
    def traces(self) -> tuple[Trace, Trace]:
        """Both traces."""
        return self._a.trace, self._b.trace

    def doubts(self) -> list[Doubt]:
        """Return what could not be compared, or not wholly."""
        return list(self._doubts.values())

    def tell_of_dropped(self, dropped: tuple[int, int]) -> None:
        """Note that what rolled out of a buffer was not compared."""
        if any(dropped):
            self._doubts[_DROPPED] = Doubt(_DROPPED, max(dropped))

    def input(self, a: Place, b: Place) -> Aspect | None:
        """Return how the inputs differ; None where no difference is known."""
        return self._hashes("input", a, b, a.step.input_hash, b.step.input_hash)

    def ends(self, a: Place, b: Place) -> list[Aspect]:
        """Return how the ends of two steps differ, the most telling difference first."""
        ours, theirs = a.step, b.step
        if _state(a) != _state(b) and "running" in (_state(a), _state(b)):
            return [Aspect("state", _state(a), _state(b))]
        found = [_error(ours, theirs), self._output(a, b), self._state_delta(a, b), _issues(ours, theirs)]
        return [aspect for aspect in found if aspect is not None]

    def lone_end(self, a: Place | None, b: Place | None) -> list[Aspect]:
        """Return how a step without a counterpart ended, if that was badly."""
        ours, theirs = (place and place.step.error and _told(place.step.error) for place in (a, b))
        return [Aspect("error", ours, theirs)] if ours or theirs else []

    def with_values(self, aspect: Aspect, a: Place | None, b: Place | None) -> Aspect:
        """Add where the captured values differ."""
        if aspect.what not in _PLACES or a is None or b is None:
            return aspect
        ours, why = self._value(aspect.what, self._a, a)
        theirs, why_not = self._value(aspect.what, self._b, b)
        if ours is MISSING or theirs is MISSING:
            return replace(aspect, note=aspect.note or why or why_not)
        shown, left_out = changes(ours, theirs, MAX_CHANGES)
        note = aspect.note or ("" if shown else "the captured values are equal; what differs in them is not shown")
        return replace(aspect, changes=tuple(shown), left_out=left_out, note=note)

    def _output(self, a: Place, b: Place) -> Aspect | None:
        if a.step.error is not None or b.step.error is not None:
            return None
        return self._hashes("output", a, b, a.step.output_hash, b.step.output_hash)

    def _state_delta(self, a: Place, b: Place) -> Aspect | None:
        return self._hashes("state_delta", a, b, a.step.state_delta_hash, b.step.state_delta_hash)

    def _hashes(self, what: str, a: Place, b: Place, ours: Hash | None, theirs: Hash | None) -> Aspect | None:
        if ours is None and theirs is None:
            return None
        aspect = Aspect(what, _hash_text(ours), _hash_text(theirs))
        if ours is None or theirs is None:
            return aspect
        if ours.algorithm != theirs.algorithm:
            return self._by_value(what, a, b, aspect)
        if ours.value == theirs.value:
            self._doubt_equality(what, a, b, ours)
            return None
        if ours.algorithm != KEYED_ALGORITHM:
            return aspect
        return self._by_value(what, a, b, replace(aspect, note=_KEYS_MAY_DIFFER), _KEYS_MAY_DIFFER)

    def _by_value(self, what: str, a: Place, b: Place, aspect: Aspect, reason: str = _KINDS_DIFFER) -> Aspect | None:
        """Compare the captured values themselves, where the hashes say nothing."""
        whole = not _touches(what, a.step.redacted) and not _touches(what, b.step.redacted)
        ours, _ = self._value(what, self._a, a)
        theirs, _ = self._value(what, self._b, b)
        if whole and ours is not MISSING and theirs is not MISSING:
            if not is_same(ours, theirs):
                return aspect
            self._doubt_equality(what, a, b, Hash(algorithm=KEYED_ALGORITHM, value=""))
            return None
        self._doubt(reason, a)
        if reason == _KEYS_MAY_DIFFER:
            return aspect
        self.undecided += 1
        return None

    def _doubt_equality(self, what: str, a: Place, b: Place, found: Hash) -> None:
        """Note where equal hashes say little: they cover no opaque part, and hidden ones only with a key."""
        if _touches(what, a.step.opaque) or _touches(what, b.step.opaque):
            self._doubt(_OPAQUE, a)
        if found.algorithm != KEYED_ALGORITHM and (_touches(what, a.step.redacted) or _touches(what, b.step.redacted)):
            self._doubt(_REDACTED, a)

    def _doubt(self, reason: str, place: Place) -> None:
        doubt = self._doubts.setdefault(reason, Doubt(reason))
        doubt.count += 1
        if len(doubt.examples) < _MAX_EXAMPLES:
            doubt.examples.append(place.pointer)

    def _value(self, what: str, side: Side, place: Place) -> tuple[Any, str]:
        """Return a captured value, or MISSING and why."""
        step = place.step
        if what == "output":
            if step.output_path is not None and step.output_json is UNSET:
                return self._from_file(side, f"{place.pointer}/output_path", step.output_path)
            value: Any = step.output_json
        elif what == "input" and step.invocation_path is not None:
            return self._from_file(side, f"{place.pointer}/invocation_path", step.invocation_path)
        elif what == "input" and isinstance(step.invocation_json, dict):
            value = step.invocation_json.get("payload", UNSET)
        else:
            value = UNSET
        if value is UNSET:
            return MISSING, "not captured"
        if isinstance(value, dict) and value.get(TAG) == "cut":
            return MISSING, "too large or too deep to be captured"
        return value, ""

    def _from_file(self, side: Side, pointer: str, relative: str) -> tuple[Any, str]:
        if side.path is None:
            return MISSING, "in a payload file"
        limit = min(MAX_SHOWN_BYTES, self._room)
        try:
            data = read_payload(side.path, relative, pointer=pointer, limit=limit)
            self._room -= len(data)
            if holds_what_its_name_says(relative, data) is False:
                return MISSING, "the payload file is not named after the hash of its content"
            return loads(data), ""
        except PayloadFileError as error:
            return MISSING, error.reason
        except ValueError as error:
            return MISSING, f"the payload file can't be read: {error}"


def _touches(what: str, pointers: list[str]) -> bool:
    """Tell whether some pointers lead into a part of a step."""
    place = _PLACES.get(what)
    return place is not None and any(pointer == place or pointer.startswith(f"{place}/") for pointer in pointers)


def _state(place: Place) -> str:
    if place.step.error is not None:
        return "failed"
    return "running" if place.finished is None else "ok"


def _error(a: Step, b: Step) -> Aspect | None:
    ours, theirs = a.error and _told(a.error), b.error and _told(b.error)
    if ours == theirs:
        return None
    return Aspect("error", ours, theirs)


def _told(error: StepError) -> dict[str, Any]:
    details = error.details if isinstance(error.details, dict) else {}
    return {"code": error.code, "message": error.message} | {name: details[name] for name in _TOLD if name in details}


def _issues(a: Step, b: Step) -> Aspect | None:
    ours, theirs = ([to_document(issue) for issue in step.validation_issues] for step in (a, b))
    if ours == theirs:
        return None
    shown, left_out = changes(ours, theirs, MAX_CHANGES)
    return Aspect("validation_issues", ours[:MAX_CHANGES], theirs[:MAX_CHANGES], tuple(shown), left_out)


def _hash_text(found: Hash | None) -> str | None:
    return None if found is None else f"{found.algorithm}:{found.value}"


def code_text(step: Step) -> str:
    """Return where a step's function is defined, and the hash of its code."""
    code = step.code
    if code is None:
        return "unknown"
    place = code.qualname if code.file is None else f"{code.file}:{code.line}"
    return f"{place} {_hash_text(code.hash) or ''}".rstrip()
