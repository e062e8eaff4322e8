"""The parts of a captured value: where they are, how people point at them, and which of them say much.

A JSON Pointer leads through the tagged forms of canonical JSON: ``/line/fields/list_price``. People write
``/line/list_price``, and both are understood here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from flowtrace.errors import pointer_token
from flowtrace.host.log import printable
from flowtrace.values.encoded import TAG
from flowtrace.values.json import bytes_of_tree
from flowtrace.values.shown import value_text

Tokens = tuple[str | int, ...]
MOST_PARTS: Final = 100_000
"""No more parts of one value are looked at."""
_HOLDERS: Final = ("fields", "state", "items", "value", "values")  # of a tagged form: what people leave out
_TELLING_LENGTH: Final = 4  # characters of a text, or digits
_MOST_NAMED: Final = 8
_TELLING_COUNT: Final = 3  # atoms that say little are telling together


class Part(NamedTuple):
    """A part of a value.

    Attributes:
        tokens: the keys and indexes that lead to it.
        value: what is there.
    """

    tokens: Tokens
    value: Any


def parts(value: Any) -> Iterator[Part]:
    """Yield a value and its parts, each before its own parts, in the order of canonical JSON; no more than MOST_PARTS.

    The names of classes in tagged forms are no parts.
    """
    waiting = [Part((), value)]
    for _ in range(MOST_PARTS):
        if not waiting:
            return
        part = waiting.pop()
        yield part
        waiting += [Part((*part.tokens, token), item) for token, item in reversed(members(part.value))]


def members(value: Any) -> list[tuple[str | int, Any]]:
    """Return the direct parts of a value, with their keys or indexes."""
    if isinstance(value, list):
        return list(enumerate(value))
    if not isinstance(value, dict):
        return []
    return [pair for pair in value.items() if pair[0] not in (TAG, "class")] if TAG in value else list(value.items())


def values_along(value: Any, tokens: Tokens) -> list[Any]:
    """Return a value, and the parts of it that tokens lead through, the last one at the end."""
    found = [value]
    for token in tokens:
        value = value[token]
        found.append(value)
    return found


def parts_with(value: Any, text: bytes) -> Iterator[Part]:
    """Yield those parts of a value in whose canonical JSON a text is, the outer ones first.

    No more than MOST_PARTS are looked at.
    """
    waiting = [Part((), value)]
    left = MOST_PARTS
    while waiting and left > 0:
        part = waiting.pop()
        yield part
        held = members(part.value)
        left -= len(held)
        inner = [(token, item) for token, item in held if text in (bytes_of_tree(item) or b"")]
        waiting += [Part((*part.tokens, token), item) for token, item in reversed(inner)]


def find(value: Any, data: bytes) -> Tokens | None:
    """Return where the first part of a value is that has some canonical bytes; None where there is none."""
    return next((part.tokens for part in parts_with(value, data) if bytes_of_tree(part.value) == data), None)


def is_telling(value: Any) -> bool:
    """Return True if a value is rare enough to be known again by itself.

    None, True, 0, an empty text or list, and short texts and numbers turn up everywhere. A container is telling where
    one of its atoms is, where it has three, or two under names of their own.
    """
    waiting, count = [value], 0
    for _ in range(MOST_PARTS):
        if not waiting:
            break
        item = waiting.pop()
        if isinstance(item, dict | list):
            held = members(item)
            waiting += [inner for _, inner in held]
            count += isinstance(item, dict) and len(held) > 1
        else:
            count += 1
        if count >= _TELLING_COUNT or (not isinstance(item, dict | list) and _is_telling_atom(item)):
            return True
    return False


def _is_telling_atom(atom: Any) -> bool:
    if atom is None or isinstance(atom, bool):
        return False
    text = atom if isinstance(atom, str) else repr(atom)
    return len(text) >= _TELLING_LENGTH


# --- pointers


def pointer_of(tokens: Tokens) -> str:
    """Return tokens as a JSON Pointer (RFC 6901)."""
    return "".join(f"/{pointer_token(token)}" for token in tokens)


def short_path(value: Any, tokens: Tokens) -> str:
    """Return tokens as people write them: without the levels of tagged forms."""
    return pointer_of(short_tokens(value, tokens))


def short_tokens(value: Any, tokens: Tokens) -> Tokens:
    """Return tokens without those that lead through tagged forms; the key of a pair stands for its index."""
    found: list[str | int] = []
    is_form, is_pairs, is_pair = isinstance(value, dict) and TAG in value, False, False
    for token in tokens:
        if is_form and token in _HOLDERS:
            is_form, is_pairs = False, value.get(TAG) == "dict"
        elif is_pairs:
            found.append(_key_text(value[token]))
            is_pairs, is_pair = False, True
        elif is_pair:
            is_pair = False
        else:
            found.append(token)
            is_form = False
        value = value[token]
        is_form = is_form or (isinstance(value, dict) and TAG in value)
    return tuple(found)


def _key_text(pair: Any) -> str:
    key = pair[0] if isinstance(pair, list) and pair else ""
    return key if isinstance(key, str) else value_text(key)


def resolve(value: Any, pointer: str) -> Tokens | None:
    """Return the tokens of a pointer, exact or short; None where it leads nowhere.

    Args:
        value: the value that it leads into.
        pointer: as ``/line/fields/list_price`` or ``/line/list_price``; ``""`` is all of the value.
    """
    names = split(pointer)
    exact = _resolve(value, names, _exact)
    return _resolve(value, names, _short) if exact is None else exact


def split(pointer: str) -> list[str]:
    """Return the names in a JSON Pointer."""
    return [name.replace("~1", "/").replace("~0", "~") for name in pointer.split("/")[1:]]


def _resolve(value: Any, names: list[str], step: Any) -> Tokens | None:
    found: list[str | int] = []
    for name in names:
        tokens = step(value, name)
        if tokens is None:
            return None
        found += tokens
        value = values_along(value, tuple(tokens))[-1]
    return tuple(found)


def _exact(value: Any, name: str) -> list[str | int] | None:
    if isinstance(value, dict):
        return [name] if name in value else None
    if isinstance(value, list) and name.isascii() and name.isdigit() and len(name) < 10 and int(name) < len(value):
        return [int(name)]
    return None


def _short(value: Any, name: str) -> list[str | int] | None:
    if not (isinstance(value, dict) and TAG in value):
        return _exact(value, name)
    for holder in _HOLDERS:
        held = value.get(holder)
        if holder == "items" and value[TAG] == "dict" and isinstance(held, list):
            at = next((at for at, pair in enumerate(held) if _is_pair(pair) and _key_text(pair) == name), None)
            found: list[str | int] | None = None if at is None else [at, 1]
        else:
            found = _short(held, name) if isinstance(held, dict) else _exact(held, name)
        if found is not None:
            return [holder, *found]
    return None


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2


def names_below(value: Any) -> list[str]:
    """Return the names of the parts right below a value, as short pointers have them."""
    if not (isinstance(value, dict) and TAG in value):
        return [str(token) for token, _ in members(value)]
    found: list[str] = []
    for holder in _HOLDERS:
        held = value.get(holder)
        if holder == "items" and value[TAG] == "dict" and isinstance(held, list):
            found += [_key_text(pair) for pair in held if _is_pair(pair)]
        elif isinstance(held, dict | list):
            found += names_below(held)
    return found


def what_is_there(value: Any, pointer: str) -> str:
    """Return what is there in the place of a pointer that leads nowhere."""
    from difflib import get_close_matches

    names = split(pointer)
    kept = 0
    while resolve(value, pointer_of(tuple(names[: kept + 1]))) is not None:
        kept += 1
    above = pointer_of(tuple(names[:kept]))
    there = names_below(values_along(value, resolve(value, above) or ())[-1])
    close = get_close_matches(names[kept], there, 1, 0.5)
    if close:
        return f"; the nearest is {printable(pointer_of((*names[:kept], close[0])))}"
    owner = printable(above) or "it"
    return f"; {owner} has {listed(there)}" if there else f"; {owner} has no parts"


def listed(names: list[str]) -> str:
    """Return names as short pointers, the first few of them."""
    more = f" and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(printable(pointer_of((name[:80],))) for name in names[:_MOST_NAMED]) + more
