"""The page docs/pages/evidence/conformance.md: flowtrace's own matrix, and the same checks for its peers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import peers
from conformance import page, scenarios
from conformance.columns import APPEARANCE, BEHAVIOUR
from conformance.matrix import rows

PAGE = Path(__file__).parent.parent / "docs" / "pages" / "evidence" / "conformance.md"
LENGTH = 150
COLUMNS = BEHAVIOUR + APPEARANCE
SAME = "✓"

INTRO = """\
# Conformance

<!-- Written by `make conformance`: change bench/conformance_page.py or tests/conformance/, not this page. -->

{summary}
"""

HOW = """\
## The same checks for other decorators

Each of {rows} small programs (a call shape in a binding) is run twice, once undecorated and once decorated, and
{columns} checks compare what a program can see of the two. {scenarios} longer scenarios do the same with protocols,
life times and special methods. The first table counts what fails for each decorator while it traces; `{same}` means
that nothing does.

- Each decorator is set up and written as its own documentation says, in a process of its own, and was seen to record
  while it traced and not to record while it was off. Nothing leaves the process: exporters drop what they are given,
  and the run ends with an error if anything asks for a network connection.
- Programs that a decorator is not meant for are *not applicable* and are not counted; [the list](#set-up) says why.
- Async programs run in asyncio.
- A failing check is no verdict about a library. Most of these decorators are made for plain functions in application
  code, where a changed `__code__` or a lost `send` may never matter. They matter where *any* function may be decorated.
- The undecorated function is run as one more decorator, and must pass everything; otherwise no page is written.
- A program that can't be called at all fails several checks for that one reason.

The checks:
"""

AGAIN = """\
## Run it again

```console
$ make conformance
```

makes an environment with the packages of the dependency group `peers`, runs everything (some minutes on two cores),
writes `bench/results/conformance.json` and this page, and fails where flowtrace fails a check.
`python bench/conformance_peers.py NAME` in that environment runs one decorator and prints what it fails.

Run with Python {python} on {system}.
"""


def shorten(problem: str) -> str:
    """Return a problem on one line, short enough for a list."""
    # `help` prints a letter, a backspace and the letter again for bold text.
    text = re.sub(r".(?:\x08|\\x08)", "", problem)
    text = (
        re.sub(r"0x[0-9a-f]+", "0x", re.sub(r"\s+", " ", text.replace("\\n", " ")))
        .removeprefix("AssertionError:")
        .strip()
    )
    text = text or "not as without the decorator"
    return text if len(text) <= LENGTH else text[: LENGTH - 1].rstrip() + "…"


def difference(what: str, one: str, other: str) -> str:
    """Return two long texts from a little before the place where they differ."""
    pairs = enumerate(zip(one, other, strict=False))
    same = next((at for at, (left, right) in pairs if left != right), min(len(one), len(other)))
    start = max(same - 20, 0)
    dots = "…" if start else ""
    length = (LENGTH - len(what)) // 2 - 10
    return f"{what}: {dots}{one[start : start + length]} instead of {dots}{other[start : start + length]}"


def sentence(function: Any) -> str:
    """Return the first line of a check's docstring."""
    return (function.__doc__ or function.__name__).strip().splitlines()[0].rstrip(".")


def title(function: Any) -> str:
    """Return the name of a check, as the tables have it."""
    return function.__name__.replace("_", " ")


def code(text: str) -> str:
    """Return text as inline code, whatever backticks are in it."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def table(head: list[str], body: list[list[str]]) -> str:
    """Return a Markdown table, its first column left, the others right."""
    lines = ["| " + " | ".join(head) + " |", "|---" + "|--:" * (len(head) - 1) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in body)]) + "\n"


def count(passed: int, failed: int) -> str:
    """Return the text of a cell."""
    if not passed + failed:
        return "n/a"
    return f"{failed:,} of {passed + failed:,}" if failed else SAME


def totals(found: dict[str, Any]) -> tuple[int, int]:
    """Return how many checks passed and failed."""
    passed, failed = (sum(counts[at] for counts in found["columns"].values()) for at in (0, 1))
    broken = sum(map(bool, found["scenarios"].values()))
    return passed + len(found["scenarios"]) - broken, failed + broken


def groups(found: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Return how many scenarios passed and failed, by their subject."""
    counted = {name.partition(":")[0]: [0, 0] for name in scenarios.SCENARIOS}
    for name, problem in found["scenarios"].items():
        counted[name.partition(":")[0]][bool(problem)] += 1
    return {group: (passed, failed) for group, (passed, failed) in counted.items()}


def compared(results: dict[str, Any]) -> list[Any]:
    """Return the checks that the run of all decorators had: `--own` may know more."""
    had = [modes[peers.TRACING]["columns"] for modes in results["peers"].values()]
    return [column for column in COLUMNS if all(column.__name__ in each for each in had)]


def compared_scenarios(results: dict[str, Any]) -> list[str]:
    """Return the scenarios that it had."""
    had = {name for modes in results["peers"].values() for name in modes[peers.TRACING]["scenarios"]}
    return [name for name in scenarios.SCENARIOS if name in had]


def by_check(results: dict[str, Any], mode: str) -> str:
    """Return the table of the checks in one mode."""
    found = {name: modes[mode] for name, modes in results["peers"].items() if mode in modes}
    body = [
        [title(column), *(count(*each["columns"][column.__name__]) for each in found.values())]
        for column in compared(results)
    ]
    counted = [groups(each) for each in found.values()]
    body += [
        [f"scenarios: {group}", *(count(*each[group]) for each in counted)]
        for group in dict.fromkeys(name.partition(":")[0] for name in compared_scenarios(results))
    ]
    body.append(["**passed**", *(f"{totals(each)[0]:,}" for each in found.values())])
    body.append(["**failed**", *(f"**{totals(each)[1]:,}**" for each in found.values())])
    return table(["check", *found], body)


def by_shape(results: dict[str, Any]) -> str:
    """Return the table of the call shapes, while tracing."""
    found = {name: modes[peers.TRACING] for name, modes in results["peers"].items()}
    shapes = dict.fromkeys(shape.name for shape, _ in rows())
    body = [[shape, *(count(*each["shapes"].get(shape, (0, 0))) for each in found.values())] for shape in shapes]
    return table(["call shape", *found], body)


def by_scenario(results: dict[str, Any]) -> str:
    """Return the table of the scenarios, while tracing."""
    found = {name: modes[peers.TRACING]["scenarios"] for name, modes in results["peers"].items()}
    body = [
        [name, *("n/a" if name not in each else "fails" if each[name] else SAME for each in found.values())]
        for name in compared_scenarios(results)
    ]
    return table(["scenario", *found], body)


def failing(results: dict[str, Any]) -> str:
    """Return what each decorator fails, with one example of each; checks that fail for one reason share a line."""
    parts = []
    for name, modes in results["peers"].items():
        found = modes[peers.TRACING]
        parts.append(f"### {name} {found['version']}\n")
        by_reason: dict[str, list[str]] = {}
        for column in compared(results):
            if example := found["examples"].get(column.__name__):
                reason = f"{example['shape']}, {example['binding']}: {code(example['problem'])}"
                counted = count(*found["columns"][column.__name__])
                by_reason.setdefault(reason, []).append(f"{title(column)} ({counted})")
        parts += [f"- **{', '.join(checks)}**. {reason}" for reason, checks in by_reason.items()]
        broken = {scenario: problem for scenario, problem in found["scenarios"].items() if problem}
        if broken:
            scenario, problem = next(iter(broken.items()))
            failed = count(len(found["scenarios"]) - len(broken), len(broken))
            parts.append(f"- **{failed} scenarios**. {scenario}: {code(problem)}")
        if not by_reason and not broken:
            parts.append("Nothing.")
        parts.append("")
    return "\n".join(parts)


def set_up(results: dict[str, Any]) -> str:
    """Return the versions, and how each decorator was run."""
    body = []
    shown = [peer for peer in peers.CHECKED if peer.name in results["peers"]]
    for peer in shown:
        found = results["peers"][peer.name][peers.TRACING]
        off = peer.modes.get(peers.OFF, peer.never_off)
        body.append(
            [f"{peer.name}", f"{peer.distribution} {found['version']}", peer.applied, peer.modes[peers.TRACING], off]
        )
    text = table(["decorator", "package", "written", "tracing", "off"], body).replace("|--:", "|---")
    reasons = []
    for peer in shown:
        left_out = results["peers"][peer.name][peers.TRACING]["not applicable"]
        by_reason: dict[str, list[str]] = {}
        for use, number in left_out.items():
            by_reason.setdefault(peer.not_meant[use], []).append(f"{use}: {number}")
        reasons += [f"- **{peer.name}**: {'; '.join(found)}; {reason}." for reason, found in by_reason.items()]
    return text + "\nPrograms that are not applicable, with how many there are:\n\n" + "\n".join(reasons) + "\n"


def text(results: dict[str, Any]) -> str:
    """Return the whole page."""
    return "\n".join(
        [
            INTRO.format(summary=page.summary(results["own"])),
            page.section(results["own"]),
            HOW.format(
                rows=results["rows"],
                columns=len(compared(results)),
                scenarios=len(compared_scenarios(results)),
                same=SAME,
            ),
            "\n".join(f"- *{title(column)}*: {sentence(column)}." for column in COLUMNS) + "\n",
            "### While tracing\n",
            by_check(results, peers.TRACING),
            "### By call shape, while tracing\n",
            by_shape(results),
            "### Scenarios, while tracing\n",
            "Whole programs, each run undecorated and decorated: every step that they can see must be the same.\n",
            by_scenario(results),
            "### Switched off\n",
            "For the decorators that have a switch for it.\n",
            by_check(results, peers.OFF),
            "## What fails, with an example of each\n",
            "While tracing; the example is the most frequent problem of a check, in the first program that shows it.\n",
            failing(results),
            "## Set-up\n",
            set_up(results),
            AGAIN.format(**results),
        ]
    )


def write(results: dict[str, Any]) -> None:
    """Write the page."""
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(text(results), encoding="utf-8")
