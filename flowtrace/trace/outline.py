"""A trace as a tree of steps, for any trace that can be read."""

from __future__ import annotations

from itertools import islice
from operator import gt
from typing import TYPE_CHECKING, Final, NamedTuple

from flowtrace.host.system import parse_timestamp

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowtrace.trace.model import LogEntry, Step, Trace

OUTSIDE: Final = "outside any node"
"""Stands for the name of the node that an error was raised in, where it was none."""


class Entry(NamedTuple):
    """A step of the tree.

    Attributes:
        step: its record.
        pointer: JSON Pointer of the record in the trace.
        number: index in ``steps``; None for a step that was still running.
        state: ``failed``, ``ok`` or ``running``.
        depth: number of steps above it in the tree.
        is_last: whether no sibling follows it.
        parent: the entry of the step that called it; None if there is none in the trace.
        lost_parent: whether the step that called it is missing: the buffer was full.
    """

    step: Step
    pointer: str
    number: int | None
    state: str
    depth: int
    is_last: bool
    parent: Entry | None
    lost_parent: bool


def outline(trace: Trace) -> list[Entry]:
    """Return every step of a trace once, each after its parent, siblings in the order in which they began."""
    by_id: dict[str, int] = {}
    steps = [*trace.steps, *trace.in_flight]
    for at, step in enumerate(steps):
        if step.step_id is not None:
            by_id.setdefault(step.step_id, at)
    children: dict[int | None, list[int]] = {None: []}
    lost: set[int] = set()
    for at, step in enumerate(steps):
        parent = by_id.get(step.parent_step_id or "")
        children.setdefault(None if parent == at else parent, []).append(at)
        if parent is None and step.parent_step_id is not None:
            lost.add(at)
    for siblings in children.values():
        begun = [steps[at].started_at or "" for at in siblings]
        if all(begun) and any(map(gt, begun, islice(begun, 1, None))):
            siblings.sort(key=dict(zip(siblings, begun, strict=True)).__getitem__)

    finished = len(trace.steps)

    def entry(at: int, depth: int, is_last: bool, above: Entry | None) -> Entry:
        step, number = steps[at], at if at < finished else None
        pointer = f"/steps/{at}" if number is not None else f"/in_flight/{at - finished}"
        state = "failed" if step.error is not None else "running" if number is None else "ok"
        return Entry(step, pointer, number, state, depth, is_last, above, at in lost)

    return _in_tree_order(entry, len(steps), children)


def _in_tree_order(
    entry: Callable[[int, int, bool, Entry | None], Entry], count: int, children: dict[int | None, list[int]]
) -> list[Entry]:
    """Go through the tree without recursion; of steps that are each other's parents, the first becomes a root."""
    ordered: list[Entry] = []
    seen: set[int] = set()
    for start in (children[None], range(count)):
        roots = [at for at in start if at not in seen]
        waiting: list[tuple[int, Entry | None, bool]] = [(at, None, at == roots[-1]) for at in reversed(roots)]
        while waiting:
            at, parent, is_last = waiting.pop()
            if at in seen:
                continue
            seen.add(at)
            here = entry(at, 0 if parent is None else parent.depth + 1, is_last, parent)
            ordered.append(here)
            if at in children:
                inner = [child for child in children[at] if child not in seen]
                waiting += [(child, here, child == inner[-1]) for child in reversed(inner)]
    return ordered


def failed_entry(trace: Trace, entries: list[Entry]) -> Entry | None:
    """Return the entry of the step where the failure of a trace began; if it was handled, of the last such one."""
    from flowtrace.trace.model import likely_failed_step

    failed = trace.failed_step
    if trace.run is not None and trace.run.outcome == "recovered":
        failed = likely_failed_step(trace.steps, trace.in_flight)
    return next((entry for entry in entries if entry.step is failed), None) if failed is not None else None


def is_outside(step: Step) -> bool:
    """Return True if a step stands for an error that was raised outside any node."""
    return step.node_id == "unknown" and step.error is not None and step.error.code == "flow_error"


def names_of(step: Step) -> frozenset[str]:
    """Return the names by which a node is asked for: its component, the same with the operation, and its node id."""
    return frozenset({step.component_id, f"{step.component_id}.{step.operation}", step.node_id})


def log_lines(step: Step) -> list[tuple[str, str]]:
    """Return the log records of a step, oldest first: the level of each, and its line, which may hold anything.

    A line begins with the time since the step's start: ``+1.2 ms WARNING shop.prices: no price``.
    """
    started = parse_timestamp(step.started_at or "")
    found = [(entry.level, _log_line(entry, started)) for entry in step.logs]
    if step.dropped_logs and step.dropped_logs > 0:
        found.insert(0, ("", f"({step.dropped_logs} earlier records not kept)"))
    return found


def _log_line(entry: LogEntry, started: int | None) -> str:
    logged = parse_timestamp(entry.logged_at)
    time = "" if started is None or logged is None else f"+{(logged - started) / 1_000_000:.1f} ms "
    error = "" if entry.error is None else f" ({entry.error})"
    return f"{time}{entry.level} {'' if entry.logger is None else f'{entry.logger}: '}{entry.message}{error}"
