"""The section of the page on other versions of CPython: the same goals, measured on each in a run of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmark_page import MISSED, asked, shown, table
from causes import CAUSES
from rows import Row

HEAD = """\
## On other versions of Python

The same rows, each column measured on its own version, in a run of its own. From 3.14 on, where a wrapper made with
wrapt costs half, some goals are others: {newer}.
"""


def is_missed(row: Row, python: str, rows: dict[str, Any]) -> bool:
    """Return True if a version was measured and its median does not reach the row's goal."""
    goal = row.goal_on(python)
    return row.key in rows and goal is not None and not goal.is_met(rows[row.key]["value"]["median"])


def cell(row: Row, python: str, rows: dict[str, Any]) -> str:
    """Return what a version measured, and whether it misses the goal."""
    if row.key not in rows:
        return ""
    measured = shown(rows[row.key]["value"]["median"], row.unit)
    return f"{measured} {MISSED}" if is_missed(row, python, rows) else measured


def causes(rows: Sequence[Row], pythons: dict[str, Any]) -> str:
    """Return why rows are missed there, a line each."""
    lines = []
    for row in rows:
        where = [python for python, found in pythons.items() if is_missed(row, python, found["rows"])]
        if where:
            lines.append(
                f"- **{row.measure}** ({row.key}) on {', '.join(where)}: {CAUSES.get(row.key, 'not yet explained')}."
            )
    return "\n".join(["### Missed there, and why\n", *lines, ""]) if lines else ""


def section(rows: Sequence[Row], pythons: dict[str, Any]) -> str:
    """Return the section, or nothing where no other version was measured.

    Args:
        rows: those of the page.
        pythons: by a version such as ``3.12``: its ``rows``, its ``Python`` in full, the ``day`` and the ``load``.
    """
    if not pythons:
        return ""
    pythons = dict(sorted(pythons.items(), key=lambda item: tuple(map(int, item[0].split(".")))))
    measured = [row for row in rows if any(row.key in found["rows"] for found in pythons.values())]
    newer = ", ".join(f"{row.measure} {asked(row.newer, row.unit)}" for row in rows if row.newer)
    body = [
        [
            f"{row.measure} ({row.key})",
            asked(row.goal, row.unit) if row.goal else "",
            *(cell(row, python, found["rows"]) for python, found in pythons.items()),
        ]
        for row in measured
    ]
    runs = [[found["Python"], f"{found['day']}, load {found['load']}"] for found in pythons.values()]
    return "\n".join(
        part
        for part in (
            HEAD.format(newer=newer),
            table(["measure", "goal", *pythons], body),
            causes(measured, pythons),
            table(["", "measured"], runs),
        )
        if part
    )
