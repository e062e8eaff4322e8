"""The value that an error is about: the part of a failed step's input that the failing line uses and that is wrong.

It is a guess from the error's type and text and, where the source at hand is the code that ran, from what the failing
line uses. Where nothing points at one value, there is no guess.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from flowtrace.trace.model import Step
from flowtrace.trace.source import Used, used_at
from flowtrace.trace.value_parts import Part, Tokens, members, names_below, parts, short_tokens, values_along
from flowtrace.values.encoded import TAG

_MOST_TEXT: Final = 2000  # of a message
_NAMED: Final = 4  # the score of a part whose own name is on the failing line
_QUOTED: Final = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_ODD_FIRST: Final = ("NoneType", "str", "bytes", "list", "dict", "set")
_OF_TYPES: Final = ("TypeError", "AttributeError")
_BY_ZERO: Final = ("ZeroDivisionError", "DivisionByZero")
_NUMBERS: Final = frozenset({"int", "float", "Decimal", "Fraction"})
_NAMES: Final = {"decimal": "Decimal", "uuid": "UUID", "fraction": "Fraction", "path": "Path", "pattern": "Pattern"}
_Test = Callable[[Any], bool]


class BadValue(NamedTuple):
    """The part of an input that an error is about.

    Attributes:
        tokens: of the part in the input; where a member is missing, of what should have it.
        missing: the key or attribute that is not there; empty where the part itself is wrong.
        likely: how many parts of the input could be meant just as well.
    """

    tokens: Tokens
    missing: str = ""
    likely: int = 1


class _Error(NamedTuple):
    kind: str
    message: str
    quoted: list[str]


def bad_value(step: Step, payload: Any) -> BadValue | None:
    """Return the part of a failed step's input that its error is about; None where nothing points at one.

    Args:
        step: the step.
        payload: its captured input.
    """
    used = _used_by(step)
    everything = list(parts(payload))
    errors = list(_errors_of(step))
    for error in errors:
        for look in (_missing, _wrong):
            found = look(error, payload, everything, used)
            if found is not None:
                return found
    found = _best(payload, everything[1:], _is_none, used, "") if errors else None
    names_types = any(error.kind in _OF_TYPES and error.quoted for error in errors)  # what it means is not in the input
    return found or (None if used is None or names_types else _only_named(payload, everything[1:], used))


def _used_by(step: Step) -> Used | None:
    """Return what the last line of the step's own function uses that stands in the traceback."""
    details = step.error.details if step.error is not None else None
    frames = details.get("frames") if isinstance(details, dict) else None
    code = step.code
    if code is None or not isinstance(frames, list):
        return None
    for frame in reversed(frames):
        if isinstance(frame, dict) and frame.get("function") == code.qualname and frame.get("file") == code.file:
            line = frame.get("line")
            return used_at(code, line) if isinstance(line, int) else None
    return None


def _errors_of(step: Step) -> Iterator[_Error]:
    """Yield a step's error and what it comes from, the innermost one first."""
    if step.error is None:
        return
    details: dict[str, Any] = step.error.details if isinstance(step.error.details, dict) else {}
    for name in ("causes", "exceptions"):
        listed = details.get(name)
        for item in reversed(listed) if isinstance(listed, list) else ():
            if isinstance(item, dict):
                yield _error(item.get("type"), item.get("message"))
    yield _error(details.get("type"), step.error.message)


def _error(kind: object, message: object) -> _Error:
    text = message[:_MOST_TEXT] if isinstance(message, str) else ""
    quoted = [one or other for one, other in _QUOTED.findall(text)]
    return _Error(str(kind).rpartition(".")[2], text, quoted)


# --- what is missing


def _missing(error: _Error, payload: Any, everything: list[Part], used: Used | None) -> BadValue | None:
    """Return what has no such key or attribute; or, where the key is a value of the input, that value."""
    if error.kind == "KeyError" and error.quoted:
        key = error.quoted[0]
        if used is None or key not in used.texts:
            found = _best(payload, everything, lambda value: value == key and isinstance(value, str), used, "")
            if found is not None:
                return found
        has_members: _Test = lambda value: isinstance(value, dict) and TAG not in value  # noqa: E731
    elif error.kind == "AttributeError" and len(error.quoted) > 1 and error.quoted[0] != "NoneType":
        owner, key = error.quoted[:2]
        has_members = lambda value: isinstance(value, dict) and "fields" in value and _type_name(value) == owner  # noqa: E731
    else:
        return None
    lacks: _Test = lambda value: has_members(value) and key not in names_below(value)  # noqa: E731
    mappings = [part for part in everything[1:] if not _holds_fields(payload, part.tokens)]  # others rarely have keys
    found = _best(payload, mappings, lacks, used, key) or _best(payload, everything[1:], lacks, used, key)
    return None if found is None else found._replace(missing=key)


# --- what is wrong


def _wrong(error: _Error, payload: Any, everything: list[Part], used: Used | None) -> BadValue | None:
    """Return the first part that is what the error complains of, the likeliest complaint first."""
    if used is not None and used.divisors and error.kind in _BY_ZERO:
        used = used._replace(names=used.divisors)
    for test in _complaints(error):
        found = _best(payload, everything[1:], test, used, error.quoted[-1] if error.quoted else "")
        if found is not None:
            return found
    return None


def _complaints(error: _Error) -> Iterator[_Test]:
    if error.kind in _BY_ZERO:
        yield _is_zero
    if error.kind == "IndexError":
        yield lambda value: value in ([], "") and value is not False
    names = [name.rpartition(".")[2] for name in error.quoted]
    if error.kind in _OF_TYPES:
        for name in sorted(names, key=lambda name: _ODD_FIRST.index(name) if name in _ODD_FIRST else len(_ODD_FIRST)):
            if name not in _NUMBERS or len(set(names)) == 1:
                yield lambda value, name=name: _type_name(value) == name  # type: ignore[misc]
    if error.kind in ("ValueError", "KeyError", "InvalidOperation", "UnicodeDecodeError"):
        for text in error.quoted:
            yield lambda value, text=text: isinstance(value, str) and value == text  # type: ignore[misc]


def _is_none(value: Any) -> bool:
    return value is None


def _is_zero(value: Any) -> bool:
    if isinstance(value, dict) and value.get(TAG) == "decimal":
        value = value.get("value")
        return isinstance(value, str) and bool(re.fullmatch(r"-?0[.0]*(E[+-]?\d+)?", value))
    return not isinstance(value, bool) and isinstance(value, int | float) and value == 0


def _type_name(value: Any) -> str:
    """Return the name of the class of a captured value, without its module."""
    if not isinstance(value, dict) or TAG not in value:
        return type(value).__name__
    name, kind = value.get("class"), str(value[TAG])
    return name.rpartition(":")[2].rpartition(".")[2] if isinstance(name, str) else _NAMES.get(kind, kind)


def _best(payload: Any, candidates: list[Part], test: _Test, used: Used | None, quoted: str) -> BadValue | None:
    """Return the part that passes a test and that the failing line names best; None where several are alike unnamed."""
    passed = [part for part in candidates if test(part.value) and not _is_inside_atom(payload, part.tokens)]
    if not passed:
        return None
    scores = [_score(payload, part.tokens, used, quoted) for part in passed]
    best = max(scores)
    count = scores.count(best)
    if not best and count > 1:
        return None
    return BadValue(passed[scores.index(best)].tokens, likely=count)


def _only_named(payload: Any, candidates: list[Part], used: Used) -> BadValue | None:
    """Return the one part without parts of its own that the failing line names; of several, the only empty one."""
    atoms = [
        part
        for part in candidates
        if (not members(part.value) or TAG in part.value) and _score(payload, part.tokens, used, "") >= _NAMED
    ]
    found = [part for part in atoms if part.value in ("", [], {}) or _is_zero(part.value)] or atoms
    return BadValue(found[0].tokens) if len(found) == 1 else None


def _score(payload: Any, tokens: Tokens, used: Used | None, quoted: str) -> int:
    names = [name for name in short_tokens(payload, tokens) if isinstance(name, str)]
    if not names:
        return 0
    named = used.names if used is not None else frozenset()
    return _NAMED * (names[-1] in named) + 2 * (names[-1] == quoted) + (names[0] in named)


def _holds_fields(payload: Any, tokens: Tokens) -> bool:
    """Return True if a part is no mapping of the program's, but what holds the fields of a record."""
    holder = values_along(payload, tokens[:-1])[-1]
    return isinstance(holder, dict) and TAG in holder and tokens[-1] == "fields"


def _is_inside_atom(payload: Any, tokens: Tokens) -> bool:
    """Return True if a part is only how a form writes its value: the ``start`` of a range, the text of a decimal."""
    if not tokens:
        return False
    value = payload
    for token in tokens[:-1]:
        value = value[token]
    return (
        isinstance(value, dict) and TAG in value and not isinstance(dict(members(value)).get(tokens[-1]), dict | list)
    )
