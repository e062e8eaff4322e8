"""The decorator under test, and the ways in which it is switched on and off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Subject:
    """A decorator under test.

    Attributes:
        name: what the results call it.
        decorate: takes a function, method, class method, static method or class, and returns the decorated one.
        set_mode: switches it to "off", "on" or "always"; does nothing where it has no such switch.
    """

    name: str
    decorate: Callable[[Any], Any]
    set_mode: Callable[[str], None] = lambda mode: None


@dataclass(frozen=True)
class Mode:
    """How the decorator is switched while the program is imported, and while it runs."""

    name: str
    at_import: str
    at_call: str


MODES = (
    Mode("off", "off", "off"),
    Mode("on", "on", "on"),
    Mode("always", "always", "always"),
    Mode("switched on", "off", "on"),
    Mode("switched off", "on", "off"),
)


def undecorated(target: Any) -> Any:
    """Stand for no decorator at all."""
    return target
