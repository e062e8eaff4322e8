"""The page docs/pages/evidence/benchmark.md, from the results of a run; and the printed table."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import peers
import rows_peers
from causes import CAUSES
from machine import python
from rows import TIMES, Row, Session
from samples import Goal
from subjects import KINDS

PAGE = Path(__file__).parent.parent / "docs" / "pages" / "evidence" / "benchmark.md"
MET, MISSED = "met", "**missed**"
BELOW_ONE = 0.2

INTRO = """\
# Benchmark

<!-- Written by `make bench`: change bench/, not this page. -->

What flowtrace costs, beside the undecorated function, beside decorators that do nothing, and beside other decorators
that people put on functions to see what happens in them. What counts are quotients: both numbers of each were measured
in one run, in turn. {met} of {goals} goals are met{others}.

{summary}
What happens in every call is there twice: a native core in C, which runs where it was built, and its pure twin in
Python. The rows are of the native one, but for those that say *pure core*, whose goals are those from before there was
another one.

## The goals
"""

PARTS = """\
## What they were made of

Medians. What something *adds* to a call is its time less that of the undecorated function, measured in the same round.
"""

COMPARED = """\
## Other decorators

How many times as much as flowtrace each of them adds to a call. All of them record while they are measured, in their
usual production set-up except for the last step: what would leave the process is dropped. *Off* compares what is added
while neither records: flowtrace as it is before it is switched on, the other one with its own switch.

What is kept differs. flowtrace keeps the inputs and the outputs of the last steps as bytes, their parents, their times
and their errors, in memory, and writes a file when something fails. Most of the others hand each call to something that
sends it away, and keep names and times, some of them values too.
"""

HOW = """\
## How it is measured

- The function takes a dictionary of three items and returns one of two. The method, the coroutine function (awaited,
  nothing in it waits) and the generator (of one item, run to its end) have the same body. Nothing is around the calls:
  each is a run of its own for flowtrace, and a trace of its own for the others, but for Sentry, which wants a
  transaction around them.
- What can't live in one process has processes of its own, which take turns: one at a time gets the signal, runs for
  some milliseconds, and waits again. A round has a turn for each contender, in an order that changes from round to
  round. What a contender leaves to threads is done before the next turn, and not counted.
- A quotient is taken of the two numbers of the same round. The value is the median of all rounds, the spread the
  quartiles around it. Rounds are repeated with fresh processes: where the code lies in memory, and so its speed,
  changes from process to process.
- Each loop is compiled for what it calls, since the interpreter adapts code to its callees; its body has the call
  ten times, so that the loop itself costs next to nothing. The garbage collector is on, as in any program.
- Memory is what Linux counts as resident, with the buffers of native libraries, in a fresh process for each number.
- Imports are timed in fresh interpreters.
- Files are written below `bench/tmp/`, or in the folder that `--folder` names, on a real disk.
- Nothing reaches the network: a process that asks for a connection ends the run with an error, and so does a decorator
  that did not record when it should, or recorded when it was off.

## Run it again

```console
$ make bench
```

makes an environment with the packages of the dependency group `peers`, measures everything ({minutes:.0f} minutes for
this page), and writes `bench/results/bench.json` and this page. `make bench-quick` prints the central rows in less than
a minute and writes nothing.
"""


def number(value: float) -> str:
    """Return a number with three digits that count."""
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value):,}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def shown(value: float, unit: str) -> str:
    """Return a value as the tables have it: a small quotient as the part of one that it is."""
    if unit != TIMES:
        return f"{number(value)} {unit}"
    return f"1/{number(float(f'{1 / value:.3g}'))}" if 0 < value < BELOW_ONE else number(value)


def asked(goal: Goal, unit: str) -> str:
    """Return a goal in words."""
    return f"{goal.bound} {shown(goal.value, unit)}"


def spread(value: dict[str, float], unit: str) -> str:
    """Return the quartiles."""
    unit = unit if unit == TIMES else ""
    low, high = (shown(value[side], unit).strip() for side in ("low", "high"))
    return low if low == high else f"{low} to {high}"


def verdict(goal: Goal | None, result: dict[str, Any]) -> str:
    """Return whether a row's median reaches its goal, in a word; nothing where there is none."""
    if goal is None:
        return ""
    return MET if goal.is_met(result["value"]["median"]) else MISSED


def table(head: list[str], body: Iterable[list[str]], others: str = "---") -> str:
    """Return a Markdown table, its first column left, the others as given."""
    lines = ["| " + " | ".join(head) + " |", "|".join(["", "---", *[others] * (len(head) - 1), ""])]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in body)]) + "\n"


SHORT = {
    "off-added": "switched off, a call of a function gets {} of what a plain closure adds to it",
    "off-method": "switched off, a call of a method takes {} times that of an undecorated one",
    "added-function": "switched on, a small call gets {} of what a decorator made with wrapt adds that does nothing",
    "added-coroutine": "switched on, an awaited coroutine gets {} of what such a decorator adds",
    "on-otel": "switched on, a small call gets {} of what OpenTelemetry's decorator adds to it",
    "import": "`import flowtrace` takes {} times as long as `import wrapt`",
    "failure": "the trace of a failing run of 20 steps takes {} times as long as to write and sync its bytes",
}


def summary(results: dict[str, Any]) -> str:
    """Return the rows that count most, a line each."""
    lines = [
        f"- {said.format(shown(results[key]['value']['median'], TIMES))};"
        for key, said in SHORT.items()
        if key in results
    ]
    return "\n".join(["In short:\n", *lines]).removesuffix(";") + ".\n" if lines else ""


def goals(rows: list[Row], results: dict[str, Any]) -> str:
    """Return the table of the goals."""
    body = []
    for row in rows:
        goal = "" if row.goal is None else asked(row.goal, row.unit)
        if row.key not in results:
            body.append([row.measure, row.value, goal, "not measured yet", "", ""])
            continue
        value = results[row.key]["value"]
        measured = f"**{shown(value['median'], row.unit)}**"
        body.append(
            [row.measure, row.value, goal, measured, spread(value, row.unit), verdict(row.goal, results[row.key])]
        )
    return table(["measure", "what the number is", "goal", "measured", "quartiles", ""], body)


def missed(rows: list[Row], results: dict[str, Any]) -> str:
    """Return the list of the goals that are missed, each with its cause."""
    lines = [
        f"- **{row.measure}** ({row.key}): {CAUSES.get(row.key, 'not yet explained')}."
        for row in rows
        if verdict(row.goal, results[row.key]) == MISSED
    ]
    return "\n".join(["### Missed, and why\n", *lines, ""]) if lines else ""


def made_of(rows: list[Row], results: dict[str, Any]) -> str:
    """Return the table of the numbers behind the quotients; rows with the same ones share a line."""
    by_text: dict[str, list[str]] = {}
    for row in rows:
        result = results[row.key]
        units: dict[str, list[str]] = {}
        for name, part in result["parts"].items():
            what, _, unit = name.rpartition(", ")
            units.setdefault(unit if what else "", []).append(f"{what or name} {number(part['median'])}")
        parts = [f"{', '.join(named)} {unit}".strip() for unit, named in units.items()]
        if text := "; ".join([*parts, *([result["note"]] if result["note"] else [])]):
            by_text.setdefault(text, []).append(row.measure)
    return table(
        ["measure", "medians"], (["; ".join(dict.fromkeys(measures)), text] for text, measures in by_text.items())
    )


def compared(results: dict[str, Any]) -> str:
    """Return the table of the other decorators."""
    body = []
    for peer in rows_peers.PEERS:
        cells = [results.get(rows_peers.key(peer, kind)) for kind in (*KINDS, peers.OFF)]
        body.append([peer.name, *(shown(cell["value"]["median"], TIMES) if cell else "n/a" for cell in cells)])
    return table(["decorator", *KINDS, "off"], body, "--:")


def left_out() -> str:
    """Return why some cells have no number."""
    reasons: dict[str, list[str]] = {}
    for (name, kind), reason in rows_peers.LEFT_OUT.items():
        reasons.setdefault(reason, []).append(f"{name} ({kind})")
    lines = [f"- {', '.join(named)}: {reason}." for reason, named in reasons.items()]
    never = [peer.name for peer in rows_peers.PEERS if peers.OFF not in peer.modes]
    lines.append(f"- {', '.join(never)} (off): there is no such switch.")
    return "\n".join(["Not measured:\n", *lines, ""])


def set_up(results: dict[str, Any]) -> str:
    """Return how each decorator was run, and where."""
    versions = results["versions"]
    body = [
        [
            peer.name,
            f"{peer.distribution} {versions[peer.distribution]}",
            peer.applied,
            peer.batched or peer.modes[peers.TRACING],
            peer.modes.get(peers.OFF, "n/a"),
        ]
        for peer in rows_peers.PEERS
    ]
    theirs = {peer.distribution for peer in rows_peers.PEERS}
    own = ", ".join(f"{name} {found}" for name, found in versions.items() if name not in theirs)
    facts = [[name, fact] for name, fact in results["machine"].items()]
    for session, later in results.get("renewed", {}).items():
        facts.append([f"rows `{session}-*`", f"measured later: {later['day']}, load {later['load before the run']}"])
    return "\n".join(
        [
            table(["decorator", "package", "written", "set up", "off"], body),
            "## Where\n",
            table(["", ""], [*facts, ["packages", own]]),
        ]
    )


def text(sessions: Iterable[Session], results: dict[str, Any], other_pythons: str = "") -> str:
    """Return the whole page, with a section on other versions of Python where it is given."""
    found = results["rows"]
    rows = [row for session in sessions if session is not rows_peers.SESSION for row in session.rows]
    taken = [row for row in rows if row.key in found]
    bound = [row for row in taken if row.goal is not None]
    met = sum(verdict(row.goal, found[row.key]) == MET for row in bound)
    open_ = sum(row.goal is not None for row in rows) - len(bound)
    parts = [
        INTRO.format(
            met=met,
            goals=len(bound),
            others=f", {open_} are not measured yet" if open_ else "",
            summary=summary(found),
        ),
        goals(rows, found),
        missed(bound, found),
        other_pythons,
        PARTS,
        made_of(taken, found),
        COMPARED,
        compared(found),
        left_out(),
        set_up(results),
        HOW.format(minutes=results["seconds"] / 60),
    ]
    return "\n".join(part for part in parts if part)


def line(row: Row, result: dict[str, Any]) -> str:
    """Return a row of the printed table."""
    value = result["value"]
    bound = row.goal_on(python())
    goal = "" if bound is None else asked(bound, row.unit)
    measured = shown(value["median"], row.unit)
    parts = ", ".join(f"{name} {number(part['median'])}" for name, part in result["parts"].items())
    tail = "; ".join(text for text in (parts, result["note"]) if text)
    head = f"{row.key:22} {measured:>14} [{spread(value, row.unit)}]"
    return f"{head:62} {goal:18} {verdict(bound, result).strip('*').upper():7} {tail}".rstrip()
