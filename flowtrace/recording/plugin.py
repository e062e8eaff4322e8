"""The step processor: a plug-in that sees each step as it starts and as it ends. The black box is one.

It is loaded by name, here and nowhere else, when a recorder is configured with a black box. The recorder calls it as
OpenTelemetry's SDK calls a ``SpanProcessor``
(https://opentelemetry.io/docs/specs/otel/trace/sdk/#span-processor), and never asks what it does with a step.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from flowtrace.host.safe_loading import load_once
from flowtrace.recording.state import STATE

if TYPE_CHECKING:
    from flowtrace.recording.call_values import Snapshot
    from flowtrace.recording.node import Node
    from flowtrace.recording.recorder import TraceRecorder
    from flowtrace.recording.step import Step

_BLACK_BOX: Final = "flowtrace.blackbox.keeper"


class StepProcessor(Protocol):
    """Sees each step as it starts and as it ends. None of its methods raises an Exception.

    Attributes:
        limit: bytes that a result may have in `begin_call` and `end_call`; below 0 where these can't be used.
        begin_call: takes what `flowtrace.recording.hot_path.begin` takes, and starts the step of a plain call.
        end_call: does the same for its end.
        takes_native_calls: the native core may record calls; it writes, or passes on, what the processor has to see.
    """

    limit: int
    takes_native_calls: bool
    begin_call: Callable[[Any, tuple[Any, ...], dict[str, Any], bool], Any]
    end_call: Callable[[Any, Any], None]

    def snapshot(self, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool) -> Snapshot:
        """Return a snapshot of a call's arguments."""
        raise NotImplementedError

    def start(self, step: Step) -> None:
        """See a step that starts."""

    def end(self, step: Step, output: object) -> None:
        """Take the result of a function, and see that its step has ended well."""

    def finish(self, step: Step) -> None:
        """See a step that has ended in any other way."""

    def adopt(self, step: Step) -> None:
        """See a step that started, or ended, before the processor was there."""


class Slot(Protocol):
    """The processor's room for one step. While the step runs, its slot may list it, for less than a dictionary does.

    Attributes:
        step: the step that it lists; None for none.
    """

    step: Step | None

    def erase(self, step: Step) -> None:
        """Forget a step that could not be started after all."""


class NodeEntry(Protocol):
    """The processor's notes about a node, made once.

    Attributes:
        owner: whose notes they are; those of another processor are of no use.
    """

    owner: object


class ProcessorKeeper(Protocol):
    """Opens and closes the step processor of this process: a module with these functions."""

    def reopen(self, recorder: TraceRecorder | None) -> None:
        """Close the processor that is there, and open the one that a recorder asks for."""

    def close(self) -> None:
        """Close the processor in order."""

    def after_fork(self) -> None:
        """Leave the processor to the parent process, in a forked child."""


def reopen(recorder: TraceRecorder | None) -> None:
    """Give a recorder the step processor that it asks for; the plug-in is loaded when one first does."""
    if recorder is not None and recorder.config.blackbox is not None and not recorder.is_off:
        load_once(_load)
    if STATE.keeper is not None:
        STATE.keeper.reopen(recorder)


def _load() -> None:
    STATE.keeper = cast(ProcessorKeeper, import_module(_BLACK_BOX))
