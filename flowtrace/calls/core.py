"""The core of a call: the implementation in C where it was built, its pure twin elsewhere; and the base of a step.

The choice is made once, when this module is loaded: the types of traced functions depend on it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from flowtrace.host import objects
from flowtrace.host.switch import environment

_INTERFACE: Final = 6
"""Changes with what this half and the one in C ask of each other: a module left from another build is not used."""


def _load_native() -> Any:
    """Return the extension module; None where it is not wanted, was not built, or can't run in this interpreter."""
    if environment().get("FLOWTRACE_PURE", "").strip().lower() in ("1", "true", "yes", "on"):
        return None
    try:
        from flowtrace.calls import _native  # type: ignore[attr-defined]
    except ImportError:
        return None
    return _native if getattr(_native, "INTERFACE", None) == _INTERFACE else None


NATIVE: Final[Any] = _load_native()
"""The extension module; None where the pure twin runs."""


if NATIVE is not None:
    objects.TRACED_TYPES.append(NATIVE.function)
    objects.call_seen = NATIVE.call_seen


def implementation() -> str:
    """Return ``native`` or ``pure``."""
    return "pure" if NATIVE is None else "native"


class _PureStep:
    # A slot costs less than an attribute in a dictionary. None has a default: every assignment counts in every call.
    __slots__ = (
        *(
            "bound",
            "ended",
            "ended_run",
            "held",
            "input",
            "node",
            "number",
            "output",
            "owns_run",
            "parent",
            "previous",
            "rest",
        ),
        *("run", "slot", "started", "stream", "thread", "token", "__weakref__"),
    )


class _PureStream:
    __slots__ = ("hashed", "held", "items", "returned")


class _PureSlot:
    __slots__ = ("at", "body", "end", "owner", "step")


class _PureEntry:
    __slots__ = ("bound_names", "defaults", "hides_result", "is_written", "names", "not_secret", "number", "owner")


if TYPE_CHECKING:
    StepBase = _PureStep
    StreamBase = _PureStream
    SlotBase = _PureSlot
    EntryBase = _PureEntry
else:
    StepBase = _PureStep if NATIVE is None else NATIVE.StepBase
    StreamBase = _PureStream if NATIVE is None else NATIVE.StreamBase
    SlotBase = _PureSlot if NATIVE is None else NATIVE.SlotBase
    EntryBase = _PureEntry if NATIVE is None else NATIVE.EntryBase


def _none() -> list[Any]:
    return []


def _nothing() -> None:
    pass


native_steps: Final[Callable[[], list[Any]]] = _none if NATIVE is None else NATIVE.listed_steps
"""Return the steps in flight that the native core has started, in the order of their starts."""
forget_native_steps: Final[Callable[[], None]] = _nothing if NATIVE is None else NATIVE.unlist_all
"""Forget them all."""
