"""Takes the values that were hidden in a payload out of the texts of errors, which may quote them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from flowtrace.redaction import MARKER

_SHORTEST: Final = 3
_MOST: Final = 1000
_MOST_PARTS: Final = 100_000
_SEVERAL: Final = (list, tuple, set, frozenset)
_PLAIN: Final = (str, int, float, bool, type(None))
_NO_VALUES: Final = frozenset({"frames", "type", "relation", "code", "path"})


class Scrubber:
    """Knows the last 1,000 hidden values; those of one or two characters are no use for telling them from other text.

    Attributes:
        hides_all: some hidden value is not known, so that no text is safe.
    """

    __slots__ = ("_texts", "hides_all")

    def __init__(self) -> None:
        self._texts: dict[str, None] = {}
        self.hides_all = False

    def learn(self, payload: Any, is_secret: Callable[[str], bool], places: int) -> None:
        """Take note of the values in a payload that stand under a secret name.

        Args:
            payload: the real values.
            is_secret: tells which names hide their value.
            places: how many places were hidden. Where they are not all found (the fields of an object are not looked
                at), no text is safe from then on.
        """
        waiting = [(payload, False)]
        for _ in range(_MOST_PARTS):
            if not waiting:
                break
            value, hidden = waiting.pop()
            kind = type(value)
            if kind is dict:
                closed = [hidden or not _is_open(name, is_secret) for name in value]
                places -= 0 if hidden else sum(closed)
                waiting += zip(value.values(), closed, strict=True)
            elif kind in _SEVERAL:
                waiting += [(item, hidden) for item in value]
            elif hidden:
                self._keep(value, kind)
        if waiting or places > 0:
            self.hides_all = True

    def _keep(self, value: Any, kind: type) -> None:
        if kind is bytes:
            value = value.decode("latin-1")
        elif kind not in _PLAIN:
            self.hides_all = True
            return
        text = str(value)
        for form in {text, repr(text)[1:-1]}:
            if len(form) >= _SHORTEST and value not in (None, True, False):
                self._texts[form] = None
        while len(self._texts) > _MOST:
            self._texts.pop(next(iter(self._texts)))

    def scrubbed(self, value: Any) -> Any:
        """Return a JSON-like value in whose texts no hidden value stands."""
        if type(value) is str:
            if self.hides_all:
                return MARKER
            for text in sorted(self._texts, key=len, reverse=True):
                if text in value:
                    value = value.replace(text, MARKER)
            return value
        if type(value) is dict:
            return {name: item if name in _NO_VALUES else self.scrubbed(item) for name, item in value.items()}
        return [self.scrubbed(item) for item in value] if type(value) is list else value


def _is_open(name: object, is_secret: Callable[[str], bool]) -> bool:
    return type(name) is str and not is_secret(name)
