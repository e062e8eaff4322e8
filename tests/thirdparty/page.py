"""The page docs/pages/evidence/suites.md, of a run of all suites."""

from __future__ import annotations

import json
import platform
from pathlib import Path

from compare import HEADINGS, MOST_TIMES

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench" / "results" / "thirdparty.json"
PAGE = ROOT / "docs" / "pages" / "evidence" / "suites.md"
NOTES = Path(__file__).parent / "notes.md"
_LEFT_OUT = ("faults",)

_INTRO = """\
# Other packages' tests

<!-- Written by `make thirdparty`: change tests/thirdparty/page.py or notes.md beside it, not this page. -->

Each package's own tests run undecorated (`plain`), and then with every function and method of the package decorated
with `traced_node`, with tracing `off`, `on`, and `always` with all payloads and results captured. A *new failure* is a
test that ends otherwise than undecorated. *Seconds* are those of the processor; *times* compares them with the
undecorated run, and more than {most:.0f} is marked. Run with Python {python} on {system}.
"""


def write(rows: list[tuple[str, ...]], versions: dict[str, str], bad: list[str]) -> None:
    """Write the results and the page.

    Args:
        rows: the lines of the table, without the headings.
        versions: release of each suite.
        bad: what is wrong, a text each.
    """
    found = [dict(zip(HEADINGS, row, strict=True)) for row in rows]
    results = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions,
        "rows": found,
        "bad": [text.partition("\n")[0] for text in bad],
    }
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    PAGE.write_text(text_of(results))


def text_of(results: dict[str, object]) -> str:
    """Return the page of some results, in Markdown."""
    rows: list[dict[str, str]] = results["rows"]  # type: ignore[assignment]
    versions: dict[str, str] = results["versions"]  # type: ignore[assignment]
    shown = [name for name in HEADINGS if name not in _LEFT_OUT]
    lines = [f"| {' | '.join(shown)} |", "|---|---" + "|--:" * (len(shown) - 2) + "|"]
    for row in rows:
        cells = dict(row)
        cells["suite"] = f"{row['suite']} {versions.get(row['suite'], '')}".strip() if row["mode"] == "plain" else ""
        if float(row["times"]) > MOST_TIMES:
            cells["times"] = f"**{row['times']}**"
        lines.append(f"| {' | '.join(cells[name] for name in shown)} |")
    intro = _INTRO.format(most=MOST_TIMES, python=results["python"], system=results["system"])
    return "\n".join([intro, *lines, "", NOTES.read_text()])
