"""The black box as the recorder knows it: a plug-in, loaded by name where it is configured.

As OpenTelemetry's SDK knows a ``SpanProcessor``
(https://opentelemetry.io/docs/specs/otel/trace/sdk/#span-processor): the recorder calls it at the start and at the end
of each step, and never asks what it does with them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from flowtrace.host.safe_loading import load_once

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowtrace.recording.call_values import Snapshot
    from flowtrace.recording.node import Node
    from flowtrace.recording.recorder import TraceRecorder
    from flowtrace.recording.step import Step

_BLACK_BOX: Final = "flowtrace.blackbox.keeper"


class StepProcessor(Protocol):
    """Is called at the start and at the end of each step. None of its methods raises an Exception.

    Attributes:
        limit: bytes that a result may have for the short way of a call; below 0 where there is no such way.
        begin_call: the short way into a plain call: starts its step. Used while ``limit`` is not below 0.
        end_call: the same for its end.
    """

    limit: int
    begin_call: Callable[[Any, tuple[Any, ...], dict[str, Any], bool], Any]
    end_call: Callable[[Any, Any], None]

    def take(self, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool) -> Snapshot:
        """Return a snapshot of what a node is called with."""

    def start(self, step: Step) -> None:
        """See a step that starts."""

    def end(self, step: Step, output: object) -> None:
        """Take what a function returned, and see that its step has ended well."""

    def finish(self, step: Step) -> None:
        """See a step that has ended in any other way."""

    def adopt(self, step: Step) -> None:
        """See a step that started, or ended, before the processor was there."""


class Keeper(Protocol):
    """Opens and closes the processor of this process."""

    def put(self, recorder: TraceRecorder | None) -> None:
        """Close the processor that is there, and open the one that a recorder asks for."""

    def close(self) -> None:
        """Close the processor in order."""

    def after_fork(self) -> None:
        """Leave the processor to the parent process, in a forked child."""


class _Loaded:
    """The plug-in of this process; None before a recorder first asks for it."""

    keeper: Keeper | None = None


def keeper_for(recorder: TraceRecorder | None) -> Keeper | None:
    """Return the black box's keeper: loaded where a recorder asks for a black box; None where none ever has."""
    if recorder is not None and recorder.config.blackbox is not None and not recorder.is_off:
        load_once(_load)
    return _Loaded.keeper


def keeper() -> Keeper | None:
    """Return the black box's keeper, if it was loaded."""
    return _Loaded.keeper


def _load() -> None:
    _Loaded.keeper = cast(Keeper, import_module(_BLACK_BOX))
