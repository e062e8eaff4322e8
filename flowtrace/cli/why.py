"""`flowtrace why`: where a value came from, backwards through the recorded steps. `show` prints its sentence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from flowtrace.cli.common import (
    EXIT_DIFFERS,
    EXIT_OK,
    TRACE,
    Command,
    Line,
    TraceSource,
    collector_off,
    json_option,
    print_result,
    printable,
)
from flowtrace.errors import ProvenanceError

if TYPE_CHECKING:
    import os

    from flowtrace.trace.model import Step, Trace
    from flowtrace.trace.provenance import Provenance, ProvenanceLink


@click.command(
    "why",
    cls=Command,
    examples="""
    flowtrace why trace.json
    flowtrace why trace.json /line/list_price
    flowtrace why trace.json --step 11 /order/lines/0
    flowtrace why trace.json --step shop.price /output_json/total
    flowtrace why --json trace.json | jq -r .text
    """,
)
@click.option("--step", metavar="STEP", help="The step that has the value (default: the one that failed).")
@json_option
@click.argument("trace", metavar="TRACE", type=TRACE)
@click.argument("pointer", metavar="[POINTER]", required=False)
def command(step: str | None, as_json: bool, trace: TraceSource, pointer: str | None) -> int:
    """Follow a value of a TRACE back to where it came from.

    POINTER leads to a part of the step's input, as /line/list_price does, or of its output, as /output_json/total does.
    Without one, it is the value that the step's error is about: the argument, attribute or key that the failing line
    uses and that is None, missing or of the wrong type.

    Values are followed by their hashes, so the trace needs captured values (flowtrace run --capture). None, 0 and other
    values that turn up everywhere are followed by what holds them. What can't be known is said.

    Exit code 0: the value was found in an earlier step, or around the steps; 1: nothing more is known about it.
    """
    with collector_off():
        found = trace.load().provenance(step, pointer, path=trace.path)
        print_result(as_json, found.to_json, lambda _: lines(found))
    return EXIT_OK if found.is_found else EXIT_DIFFERS


def lines(found: Provenance) -> Iterator[Line]:
    """Yield the lines about a value: the sentence, and each link with the value's pointer there."""
    yield [(found.text, "bold")]
    yield []
    for link in found.links:
        yield from _link(link)


def _link(link: ProvenanceLink) -> Iterator[Line]:
    style = {"start": "bold red", "unknown": "yellow", "reported issue": "yellow"}.get(link.relation, "")
    note = f": {link.note}" if link.relation == "reported issue" else f" ({link.note})" if link.note else ""
    text = link.text.removeprefix("and ") if link.relation == "reported issue" else link.text
    where = f"  {link.side} {printable(link.path)}" if link.relation in _PLACED and link.path else ""
    yield [("  ", ""), (text, style), (note, "yellow" if note else ""), (where, "dim")]
    if link.others:
        yield [("    ", ""), (f"an equal one came out of {', '.join(link.others)}, too", "dim")]


_PLACED = ("equal", "part of", "container", "same member")


def sentence(trace: Trace, step: Step, path: str | os.PathLike[str] | None) -> str:
    """Return the sentence about the value that a step's error is about; empty where nothing is known of it.

    Args:
        trace: the trace.
        step: the step that failed.
        path: the trace's file; None where it is not known.
    """
    try:
        found = trace.provenance(step, path=path)
    except ProvenanceError:
        return ""
    return found.text if found.is_found else ""
