"""What the wrapper of a node calls: one set of functions, and two of them for while there is a black box."""

from __future__ import annotations

from flowtrace import boxed, lifecycle
from flowtrace.nodes import Node
from flowtrace.shapes import Subject


def node_subject(node: Node) -> Subject:
    """Return a node as the wrappers of `flowtrace.shapes` see it: its calls become steps."""
    return Subject(
        node,
        in_box=(boxed.begin, boxed.end),
        begin=lifecycle.begin,
        prepare=lifecycle.prepare,
        start=lifecycle.start,
        suspend=lifecycle.suspend,
        resume=lifecycle.resume,
        emit=lifecycle.emit,
        end=lifecycle.end,
        end_stream=lifecycle.end_stream,
        fail=lifecycle.fail,
    )
