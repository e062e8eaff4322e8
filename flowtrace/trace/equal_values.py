"""Where else a value is in a trace: equal, as a part of something, or as the same member of a similar object.

Two values are equal where their canonical JSON is, which is what a hash stands for: a complete output is looked up by
its hash, and a part of one is found as a piece of the output's text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final, NamedTuple

from flowtrace.trace.step_values import MOST_HOPS, StepValues
from flowtrace.trace.value_parts import Tokens, find, is_telling, parts_with
from flowtrace.values.encoded import KEYED_ALGORITHM, TAG, hash_bytes
from flowtrace.values.json import bytes_of_tree, dumps

_MOST_RANKED: Final = 200  # outputs that hold a text, the last ones
_MOST_LOOKED_INTO: Final = 20  # of those, the nearest ones
_MOST_GIVERS: Final = 3
_MOST_MEMBERS: Final = 20  # of an object, by which it is known again


class Spot(NamedTuple):
    """Where a value is: a part of the input or output of a step, or what is missing in that part."""

    at: int
    side: str
    tokens: Tokens
    missing: str = ""


class EqualValues:
    """Finds equal values.

    Args:
        values: the steps and their values.
    """

    def __init__(self, values: StepValues) -> None:
        self._all = values

    def of(self, spot: Spot, wanted: Any, candidates: list[int]) -> list[Spot]:
        """Return where a value is in inputs of callers and in outputs of candidates, the nearest first."""
        data = bytes_of_tree(wanted)
        if data is None:  # nested too deeply to be compared
            return []
        texts, equal = self._all.texts(), self._all.with_output(hash_bytes(data).value)
        holding = (at for at in candidates if at in equal or data in (texts[at] or b""))
        found: list[Spot] = []
        for at, side in self._ranked(spot, islice(holding, _MOST_RANKED))[:_MOST_LOOKED_INTO]:
            value, reason = self._all.value(at, side)
            is_complete = side == "output" and at in equal
            if is_complete and reason:
                self._all.learn(at, wanted)  # its hash says that this is what it was
            tokens = () if is_complete else None if reason else find(value, data)
            if tokens is not None:
                found.append(Spot(at, side, tokens))
        return found

    def _ranked(self, spot: Spot, outputs: Iterable[int]) -> list[tuple[int, str]]:
        """Return outputs, and the inputs that the value may have come through, the nearest first."""
        callers = self._all.callers(spot.at)
        found = [(self._all.distance(callers, at), False, -at, at, "output") for at in outputs]
        if spot.side == "output":
            found.append((2 * MOST_HOPS, True, 0, spot.at, "input"))  # after what is inside
        else:
            found += [(far, far > 1, 0, at, "input") for at, far in callers.items() if far]
        return [(at, side) for *_, at, side in sorted(found)]

    def by_hash(self, spot: Spot) -> list[Spot]:
        """Return the steps whose complete output has the hash of a value that was not captured, the nearest first."""
        step = self._all.steps[spot.at]
        found = step.input_hash if spot.side == "input" else step.output_hash
        if found is None or found.algorithm == KEYED_ALGORITHM:
            return []
        equal = self._all.with_output(found.value)
        candidates = [at for at in self._all.before(spot.at, spot.side) if at in equal]
        return [Spot(at, side, ()) for at, side in self._ranked(spot, candidates) if side == "output"]

    def by_member(self, spot: Spot, along: list[Any], candidates: list[int]) -> list[tuple[Spot, list[str]]]:
        """Return the same member of those objects that have the most other members in common, the nearest first.

        Inside a step nothing else need be in common; nor in its input, where only one object has such a member.

        Args:
            spot: where the value is.
            along: the values that lead to it, itself at the end.
            candidates: the steps whose outputs are looked at.

        Returns:
            Each with the names of the members in common.
        """
        key = spot.tokens[-1] if spot.tokens else None
        owner = along[-2] if len(along) > 1 else None
        data = bytes_of_tree(along[-1])
        if spot.missing or not isinstance(key, str) or not isinstance(owner, dict) or TAG in owner or data is None:
            return []
        wanted, texts = dumps(key) + b":" + data, self._all.texts()
        common = list(islice(_telling_members(owner, key), _MOST_MEMBERS))
        inside = self._all.inside(spot.at) if spot.side == "output" else set()
        holding = (at for at in candidates if wanted in (texts[at] or b""))
        found: list[tuple[Spot, list[str]]] = []
        for at, side in self._ranked(spot, islice(holding, _MOST_RANKED))[:_MOST_LOOKED_INTO]:
            value = self._all.value(at, side)[0]
            text = (texts[at] if side == "output" else bytes_of_tree(value)) or b""
            if wanted in text:
                alike = _alike(value, owner, key, [member for member in common if member in text])
                if not alike and (at in inside or at == spot.at):
                    alike = _with_member(value, owner, key, wanted, only=at == spot.at)
                found += [(Spot(at, side, (*tokens, key)), shared) for tokens, shared in alike.items()]
        most = max((len(shared) for _, shared in found), default=0)
        return [pair for pair in found if len(pair[1]) == most]

    def given_as_such(self, spot: Spot) -> list[int]:
        """Return the last steps beside one whose complete output was equal to a value that is too common to follow."""
        caller, value = self._all.caller(spot.at), self._all.value(spot.at, spot.side)[0]
        for token in spot.tokens:
            value = value[token]
        data = bytes_of_tree(value)
        texts = self._all.texts()
        beside = (at for at in self._all.before(spot.at, "input") if self._all.caller(at) == caller)
        return list(islice((at for at in beside if data is not None and texts[at] == data), _MOST_GIVERS))


def _telling_members(owner: dict[str, Any], key: str) -> Iterator[bytes]:
    """Yield the JSON of an object's telling members, without one of them."""
    for name, item in owner.items():
        data = bytes_of_tree(item)
        if name != key and data is not None and is_telling(item):
            yield dumps(name) + b":" + data


def _alike(value: Any, owner: dict[str, Any], key: str, members: list[bytes]) -> dict[Tokens, list[str]]:
    """Return the objects in a value that have a member and at least one of the others as an object has them."""
    found: dict[Tokens, list[str]] = {}
    for text in members:
        for part in parts_with(value, text):
            shared = _shared(owner, part.value, key)
            if shared:
                found[part.tokens] = shared
    return found


def _with_member(value: Any, owner: dict[str, Any], key: str, text: bytes, *, only: bool) -> dict[Tokens, list[str]]:
    """Return the first object in a value that has a member; where it has to be the only one, none of several."""
    with_it = (part.tokens for part in parts_with(value, text) if _shared(owner, part.value, key) is not None)
    found = list(islice(with_it, 2))
    return {tokens: [] for tokens in found[:1]} if len(found) == 1 or not only else {}


def _shared(owner: dict[str, Any], other: Any, key: str) -> list[str] | None:
    """Return the names of telling members that two objects have in common; None where the named one differs."""
    if not isinstance(other, dict) or TAG in other or key not in other or not _is_same(owner[key], other[key]):
        return None
    return [
        name
        for name, item in owner.items()
        if name != key and name in other and _is_same(item, other[name]) and is_telling(item)
    ]


def _is_same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other and bytes_of_tree(one) == bytes_of_tree(other)
