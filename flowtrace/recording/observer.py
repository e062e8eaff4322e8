"""The observer protocol, by which an engine reports its nodes without the decorator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from flowtrace.host import log
from flowtrace.trace.model import ValidationIssue


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
