"""What the wrappers call: the functions that record a node's calls, and those that run a flow's body in its scope."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flowtrace.instrument.wrappers import Subject
from flowtrace.recording import hot_path
from flowtrace.recording.flow_runs import close_flow
from flowtrace.recording.node import Node
from flowtrace.recording.process import Scope


def node_subject(node: Node) -> Subject:
    """Return a node as the wrappers see it: its calls become steps."""
    return Subject(
        node,
        begin=hot_path.begin,
        prepare=hot_path.prepare,
        start=hot_path.start,
        suspend=hot_path.suspend,
        resume=hot_path.resume,
        emit=hot_path.emit,
        end=hot_path.end,
        end_stream=hot_path.end_stream,
        fail=hot_path.fail,
    )


def flow_subject(make_scope: Callable[[], Scope | None]) -> Subject:
    """Return a flow as the wrappers see it: each body runs in a scope of its own.

    Args:
        make_scope: makes a scope; None where tracing is off.
    """

    def begin_scope(_subject: Subject, _args: tuple[Any, ...], _kwargs: dict[str, Any], _bound: bool) -> Scope | None:
        scope = make_scope()
        if scope is not None:
            hot_path.resume(scope)
        return scope

    return Subject(
        begin=begin_scope,
        prepare=lambda subject, args, kwargs, bound: make_scope(),
        start=hot_path.resume,
        suspend=hot_path.suspend,
        resume=hot_path.resume,
        emit=lambda scope, item: hot_path.suspend(scope),
        end=lambda scope, output: close_flow(scope, None),
        end_stream=lambda scope, *returned: close_flow(scope, None),
        fail=close_flow,
    )
