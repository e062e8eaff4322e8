"""The lists of `flowtrace doctor --redaction`: which names and which texts are hidden in this environment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from textwrap import wrap
from typing import Any, Final

from flowtrace.cli.common import Line, printable
from flowtrace.values.redaction import BUILT_IN, FLAGS, FOLLOWERS, GROUPS, INSIDE, QUANTITIES, split_name
from flowtrace.values.secret_patterns import PATTERNS

_WIDTH: Final = 100


def redaction_lists(redact: Iterable[str]) -> dict[str, Any]:
    """Return the names and patterns as a JSON-like document.

    Args:
        redact: the setting of that name.

    Returns:
        ``names`` by kind, without those that are taken off; ``ordinary`` by kind, the words before such a name that
        make it an ordinary one; ``inside``, ``followers``, ``quantities`` and ``flags`` as `flowtrace.values.redaction`
        has them; ``added`` and ``taken_off`` by the setting; ``patterns``, what is found in texts without a name.
    """
    taken_off = sorted(name.lstrip("-") for name in redact if name.startswith("-"))
    gone = set(map(split_name, taken_off))
    return {
        "names": {item.title: [name for name in item.names if split_name(name) not in gone] for item in GROUPS},
        "ordinary": {item.title: sorted(item.ordinary) for item in GROUPS if item.ordinary},
        "alone": [item.title for item in GROUPS if item.alone],
        "inside": list(INSIDE),
        "followers": sorted(FOLLOWERS),
        "quantities": sorted(QUANTITIES),
        "flags": sorted(FLAGS),
        "added": sorted(name for name in redact if not name.startswith("-")),
        "taken_off": taken_off,
        "patterns": [item.what for item in PATTERNS],
    }


def unknown_names(redact: Iterable[str]) -> list[str]:
    """Return the names that a setting takes off the list though they are not on it."""
    listed = set(map(split_name, BUILT_IN))
    return sorted(name for name in redact if name.startswith("-") and split_name(name) not in listed)


def redaction_lines(found: dict[str, Any]) -> Iterator[Line]:
    """Return the lists as lines for people."""
    for title, names in found["names"].items():
        yield from _paragraph(title, names)
    yield from _paragraph("also at the end of a longer word", found["inside"])
    yield from _paragraph("also with one of these words behind it", found["followers"])
    for title, before in found["ordinary"].items():
        yield from _paragraph(f"but {title} are ordinary behind", before)
    yield from _paragraph("a plural is ordinary behind", found["quantities"])
    yield from _paragraph("a name is ordinary that begins with", found["flags"])
    yield from _paragraph("added by FLOWTRACE_REDACT", found["added"])
    yield from _paragraph("taken off by FLOWTRACE_REDACT", found["taken_off"])
    yield from _paragraph("in texts also", found["patterns"])


def _paragraph(title: str, names: list[str]) -> Iterator[Line]:
    if names:
        yield [(title, "bold")]
        for line in wrap(", ".join(map(printable, names)), _WIDTH, initial_indent="  ", subsequent_indent="  "):
            yield [(line, "")]
