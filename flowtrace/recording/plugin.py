"""Who takes part in recording from outside: an engine that reports its nodes, and a plug-in that sees each step.

An engine reports through the observer protocol, without the decorator. A step processor sees each step as it starts and
as it ends; the black box is one. It is loaded by name, in `flowtrace.recording.process` alone, when a recorder is
configured with a black box. The recorder calls it as OpenTelemetry's SDK calls a ``SpanProcessor``
(https://opentelemetry.io/docs/specs/otel/trace/sdk/#span-processor), and never asks what it does with a step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from flowtrace.host import log
from flowtrace.trace.model import ValidationIssue

if TYPE_CHECKING:
    from flowtrace.recording.call_values import Snapshot
    from flowtrace.recording.node import Node
    from flowtrace.recording.recorder import TraceRecorder
    from flowtrace.recording.step import Step


@dataclass(frozen=True, slots=True)
class NodeEvent:
    """One execution of a node. Pass the same object to every call that reports it.

    Attributes:
        node_id: the node within its flow.
        component_id: the component that it belongs to.
        operation: what is called in it; None reads ``"unknown"``.
        payload: what it is called with, any value with a canonical form.
    """

    node_id: str
    component_id: str
    operation: str | None
    payload: Any


@runtime_checkable
class ExecutionObserver(Protocol):
    """Something to which the execution of nodes is reported: for each, the same `NodeEvent` object in every call."""

    def on_node_start(self, event: NodeEvent) -> None:
        """A node starts.

        Args:
            event: the execution.
        """

    def on_node_end(self, event: NodeEvent, output: Any) -> None:
        """A node ended well.

        Args:
            event: the execution.
            output: its result.
        """

    def on_node_error(self, event: NodeEvent, error: BaseException | str) -> None:
        """A node failed.

        Args:
            event: the execution.
            error: its exception, or the text of that.
        """

    def on_validation(self, event: NodeEvent, issues: Sequence[ValidationIssue]) -> None:
        """A running node's payload was validated.

        Args:
            event: the execution.
            issues: what was found.
        """


class FanOutObserver:
    """Passes each report on to several observers, in order. One that fails is logged once, and the others still get it.

    Args:
        *observers: the observers.
    """

    def __init__(self, *observers: ExecutionObserver) -> None:
        self.observers = observers

    def on_node_start(self, event: NodeEvent) -> None:
        """Report that a node starts."""
        self._pass_on("on_node_start", event)

    def on_node_end(self, event: NodeEvent, output: Any) -> None:
        """Report that a node ended well."""
        self._pass_on("on_node_end", event, output)

    def on_node_error(self, event: NodeEvent, error: BaseException | str) -> None:
        """Report that a node failed."""
        self._pass_on("on_node_error", event, error)

    def on_validation(self, event: NodeEvent, issues: Sequence[ValidationIssue]) -> None:
        """Report the issues that a validation found."""
        self._pass_on("on_validation", event, issues)

    def _pass_on(self, method: str, *arguments: Any) -> None:
        for observer in self.observers:
            try:
                getattr(observer, method)(*arguments)
            except Exception as error:
                log.internal_fault(f"call {method} of {type(observer).__qualname__}", error)


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
