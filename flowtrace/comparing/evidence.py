"""How two steps that are the same call differ, and how certain that is. Values are never called equal by mistake."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final, NamedTuple

from flowtrace.comparing.align import Call
from flowtrace.comparing.json_changes import changes, is_same
from flowtrace.comparing.result import Aspect, Doubt
from flowtrace.trace import model
from flowtrace.trace.model import UNSET, Step
from flowtrace.trace.payload_files import PayloadValues
from flowtrace.values.encode import TAG
from flowtrace.values.encoded import KEYED_ALGORITHM

_MAX_CHANGES: Final = 20  # listed of one value
_MAX_EXAMPLES: Final = 5
_PARTS: Final = {"input": model.INPUT, "output": model.OUTPUT, "state_delta": model.STATE_DELTA}
_COMPARED_DETAILS: Final = ("type", "causes", "notes", "exceptions")  # not frames: editing the file changes their lines
_MISSING: Final = object()

_OPAQUE: Final = "equal hashes over opaque parts: the values may differ there"
_REDACTED: Final = "equal hashes over redacted parts: the values may differ there"
_CUT: Final = "values that were not recorded, since that cost too much: they can't be compared"
_CUT_AT: Final = "one of them was cut: with another FLOWTRACE_MAX_VALUE_WORK, equal values have other hashes"
_KINDS_DIFFER: Final = "hashes of different kinds: they can't be compared"
_KEYS_MAY_DIFFER: Final = "keyed hashes differ: the values do, or the keys"
_DROPPED: Final = "steps that had rolled out of the buffer"


class Side(NamedTuple):
    """One of the two traces.

    Attributes:
        trace: its records.
        name: its name in the result.
        path: its file, to find its payload files; None where it is not known.
    """

    trace: model.Trace
    name: str
    path: str | None


class Evidence:
    """Compares the values of two steps, and counts what can't be compared.

    Attributes:
        traces: both traces.
        undecided: how many hashes could not be compared at all.
    """

    def __init__(self, a: Side, b: Side) -> None:
        self.traces = (a.trace, b.trace)
        self.undecided = 0
        self._files_a = PayloadValues(a.path)
        self._files_b = PayloadValues(b.path)
        self._doubts: dict[str, Doubt] = {}

    def doubts(self) -> list[Doubt]:
        """Return what could not be compared, or only in part."""
        return list(self._doubts.values())

    def note_dropped(self, dropped: tuple[int, int]) -> None:
        """Note that the steps that rolled out of a buffer were not compared."""
        if any(dropped):
            self._doubts[_DROPPED] = Doubt(_DROPPED, max(dropped))

    def input(self, a: Call, b: Call) -> Aspect | None:
        """Return how the inputs differ; None where no difference was found."""
        return self._hashes("input", a, b, a.step.input_hash, b.step.input_hash)

    def unseen(self, a: Call, b: Call) -> tuple[str, ...]:
        """Return the parts of two equal inputs in which they may differ all the same, as ``opaque at /client``."""
        parts: dict[str, str] = {}
        for call in (a, b):
            step = call.step
            hidden = [] if step.input_hash.algorithm == KEYED_ALGORITHM else step.redacted
            why = dict.fromkeys(step.opaque, "opaque") | {cut.path: "cut" for cut in step.cut}
            for pointer, reason in (why | dict.fromkeys(hidden, "redacted")).items():
                if model.is_within(pointer, model.INPUT):
                    parts[pointer.removeprefix(model.INPUT) or "its root"] = reason
        texts = [f"{reason} at {pointer}" for pointer, reason in parts.items()]
        more = len(texts) - _MAX_EXAMPLES
        return (*texts[:_MAX_EXAMPLES], *([f"{more} more"] if more > 0 else []))

    def ends(self, a: Call, b: Call) -> list[Aspect]:
        """Return how two steps ended differently, the most important difference first."""
        ours, theirs = a.step, b.step
        if _state(a) != _state(b) and "running" in (_state(a), _state(b)):
            return [Aspect("state", _state(a), _state(b))]
        found = [_error(ours, theirs), self._output(a, b), self._state_delta(a, b), _issues(ours, theirs)]
        return [aspect for aspect in found if aspect is not None]

    def with_values(self, aspect: Aspect, a: Call | None, b: Call | None) -> Aspect:
        """Return an aspect with the changes between the captured values."""
        if aspect.what not in _PARTS or a is None or b is None:
            return aspect
        ours, reason_a = _value(aspect.what, a.step, self._files_a)
        theirs, reason_b = _value(aspect.what, b.step, self._files_b)
        if ours is _MISSING or theirs is _MISSING:
            return replace(aspect, note=aspect.note or reason_a or reason_b)
        shown, left_out = changes(ours, theirs, _MAX_CHANGES)
        note = aspect.note or ("" if shown else "the captured values are equal; what differs in them is not shown")
        return replace(aspect, changes=tuple(shown), left_out=left_out, note=note)

    def _output(self, a: Call, b: Call) -> Aspect | None:
        if a.step.error is not None or b.step.error is not None:
            return None
        return self._hashes("output", a, b, a.step.output_hash, b.step.output_hash)

    def _state_delta(self, a: Call, b: Call) -> Aspect | None:
        return self._hashes("state_delta", a, b, a.step.state_delta_hash, b.step.state_delta_hash)

    def _hashes(self, what: str, a: Call, b: Call, ours: model.Hash | None, theirs: model.Hash | None) -> Aspect | None:
        if ours is None and theirs is None:
            return None
        if (
            ours is not None
            and theirs is not None
            and ours.algorithm == theirs.algorithm
            and ours.value == theirs.value
        ):
            self._doubt_equality(what, a, b, ours)
            return None
        aspect = Aspect(what, _hash_text(ours), _hash_text(theirs))
        if ours is None or theirs is None:
            return aspect
        if self._is_unknown(what, a, b):
            return None
        if ours.algorithm != theirs.algorithm:
            return self._by_value(what, a, b, aspect)
        if ours.algorithm != KEYED_ALGORITHM:
            return replace(aspect, note=_CUT_AT) if _is_cut("work", what, a, b) else aspect
        return self._by_value(what, a, b, replace(aspect, note=_KEYS_MAY_DIFFER), _KEYS_MAY_DIFFER)

    def _by_value(self, what: str, a: Call, b: Call, aspect: Aspect, reason: str = _KINDS_DIFFER) -> Aspect | None:
        """Compare the captured values themselves, where the hashes can't be compared."""
        is_redacted = _touches(what, a.step.redacted) or _touches(what, b.step.redacted)
        ours, _ = _value(what, a.step, self._files_a)
        theirs, _ = _value(what, b.step, self._files_b)
        if not is_redacted and ours is not _MISSING and theirs is not _MISSING:
            if not is_same(ours, theirs):
                return aspect
            self._doubt_equality(what, a, b, model.Hash(algorithm=KEYED_ALGORITHM, value=""))
            return None
        self._doubt(reason, a)
        if reason == _KEYS_MAY_DIFFER:
            return aspect
        self.undecided += 1
        return None

    def _doubt_equality(self, what: str, a: Call, b: Call, found: model.Hash) -> None:
        """Note where equal hashes are no proof: opaque parts are not hashed, and redacted ones only with a key."""
        ours, theirs = a.step, b.step
        if not (ours.opaque or ours.redacted or ours.cut or theirs.opaque or theirs.redacted or theirs.cut):
            return
        if self._is_unknown(what, a, b):
            return
        if _touches(what, a.step.opaque) or _touches(what, b.step.opaque):
            self._doubt(_OPAQUE, a)
        if found.algorithm != KEYED_ALGORITHM and (_touches(what, a.step.redacted) or _touches(what, b.step.redacted)):
            self._doubt(_REDACTED, a)

    def _is_unknown(self, what: str, a: Call, b: Call) -> bool:
        """Return True, and note it, if a value was not recorded at all, since that cost too much."""
        if not _is_cut("overhead", what, a, b):
            return False
        self._doubt(_CUT, a)
        self.undecided += 1
        return True

    def _doubt(self, reason: str, call: Call) -> None:
        doubt = self._doubts.setdefault(reason, Doubt(reason))
        doubt.count += 1
        if len(doubt.examples) < _MAX_EXAMPLES:
            doubt.examples.append(call.pointer)


def error_of_unmatched(a: Call | None, b: Call | None) -> list[Aspect]:
    """Return the error of a step without a counterpart, if it failed."""
    ours, theirs = (call and call.step.error and _compared_error(call.step.error) for call in (a, b))
    return [Aspect("error", ours, theirs)] if ours or theirs else []


def _value(what: str, step: Step, files: PayloadValues) -> tuple[Any, str]:
    """Return a captured value, or _MISSING and the reason."""
    value: Any = UNSET
    path: str | None = None
    if what == "output":
        value, path = step.output_json, step.output_path if step.output_json is UNSET else None
    elif what == "input":
        path = step.invocation_path
        value = step.invocation_json.get("payload", UNSET) if isinstance(step.invocation_json, dict) else UNSET
    if path is not None:
        value, reason = files.read(path)
        return (_MISSING, reason) if reason else (value, "")
    if value is UNSET:
        return _MISSING, "not captured"
    if isinstance(value, dict) and value.get(TAG) == "cut":
        return _MISSING, "too large or too deep to be captured"
    return value, ""


def _touches(what: str, pointers: list[str]) -> bool:
    """Return True if some pointers lead into a part of a step."""
    return bool(pointers) and any(model.is_within(pointer, _PARTS[what]) for pointer in pointers)


def _is_cut(reason: str, what: str, *calls: Call) -> bool:
    """Return True if a part of a value of one of some steps was cut for a reason."""
    return any(
        cut.reason == reason and model.is_within(cut.path, _PARTS[what]) for call in calls for cut in call.step.cut
    )


def _state(call: Call) -> str:
    if call.step.error is not None:
        return "failed"
    return "running" if call.finished_before is None else "ok"


def _error(a: Step, b: Step) -> Aspect | None:
    if a.error is None is b.error:
        return None
    ours, theirs = a.error and _compared_error(a.error), b.error and _compared_error(b.error)
    return None if ours == theirs else Aspect("error", ours, theirs)


def _compared_error(error: model.StepError) -> dict[str, Any]:
    details = error.details if isinstance(error.details, dict) else {}
    compared = {name: _without_frames(details[name]) for name in _COMPARED_DETAILS if name in details}
    return {"code": error.code, "message": error.message} | compared


def _without_frames(found: Any) -> Any:
    """Return a part of an error's details without the lines where the errors in it were raised."""
    if not isinstance(found, list):
        return found
    return [
        {name: value for name, value in item.items() if name != "frames"} if isinstance(item, dict) else item
        for item in found
    ]


def _issues(a: Step, b: Step) -> Aspect | None:
    if a.validation_issues == b.validation_issues:
        return None
    ours, theirs = ([model.to_document(issue) for issue in step.validation_issues] for step in (a, b))
    shown, left_out = changes(ours, theirs, _MAX_CHANGES)
    return Aspect("validation_issues", ours[:_MAX_CHANGES], theirs[:_MAX_CHANGES], tuple(shown), left_out)


def _hash_text(found: model.Hash | None) -> str | None:
    return None if found is None else f"{found.algorithm}:{found.value}"


def code_text(step: Step) -> str:
    """Return where a step's function is defined, and the hash of its code."""
    code = step.code
    if code is None:
        return "unknown"
    location = code.qualname if code.file is None else f"{code.file}:{code.line}"
    return f"{location} {_hash_text(code.hash) or ''}".rstrip()
