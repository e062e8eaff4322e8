"""`flowtrace show`: a trace for people, in which the step that failed stands out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from flowtrace.cli.common import (
    EXIT_OK,
    TRACE,
    Command,
    TraceSource,
    collector_off,
    json_option,
    json_text,
    make_console,
    predecessor,
    print_json_text,
    print_lines,
    printable,
    say,
)
from flowtrace.cli.step_text import outcome_of
from flowtrace.trace.outline import Entry, failed_entry, outline

if TYPE_CHECKING:
    from flowtrace.trace.model import Step
    from flowtrace.trace.skimming import Skimmed


@click.command(
    "show",
    cls=Command,
    examples="""
    flowtrace show trace.json
    flowtrace show artifacts/
    flowtrace show --failed trace.json
    flowtrace show --step 11 --step shop.price trace.json
    flowtrace show --prev
    flowtrace show --full trace.json | less -R
    flowtrace show --format markdown trace.json >> "$GITHUB_STEP_SUMMARY"
    flowtrace show --json trace.json | jq -r .failed_step
    """,
)
@click.option("-v", "--verbose", is_flag=True, help="Also show the parts that are redacted or opaque, and all frames.")
@click.option("--full", is_flag=True, help="Show values and hashes in full, and the details of every error; with -v.")
@click.option("--run", "only_run", is_flag=True, help="Leave out the steps of other runs.")
@click.option(
    "--step", "steps", metavar="STEP", multiple=True, help="Only this step, in full: its number, step id or node id."
)
@click.option("--failed", "only_failed", is_flag=True, help="Only the step that failed, in full.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "markdown", "json"]),
    default="text",
    help="For people (default), for the summary of a CI job, or for machines.",
)
@click.option("--prev", is_flag=True, help="The trace of the process before, which was kept beside TRACE.")
@json_option
@click.argument("trace", metavar="TRACE", type=TRACE, required=False)
def command(
    verbose: bool,
    full: bool,
    only_run: bool,
    steps: tuple[str, ...],
    only_failed: bool,
    form: str,
    prev: bool,
    as_json: bool,
    trace: TraceSource | None,
) -> int:
    """Show the steps of a TRACE as a tree, and where and why it failed.

    The number of a step is its index in the file, from 0. A step stands below the one that called it; steps without a
    parent in the file begin at the margin. Outside a flow, a trace also has the last steps of the other runs of the
    process, which come first. Hashes are shortened, captured values are cut to a line, and the frames of libraries are
    counted. With --prev, TRACE may be left out: it is where the program writes (FLOWTRACE_OUT, or trace.json).
    """
    trace = predecessor(trace) if prev else trace
    if trace is None:
        raise click.UsageError("Missing argument 'TRACE'.")
    with collector_off():
        skimmed = trace.skim()
        loaded = skimmed.trace
        entries = outline(loaded)
        failed = failed_entry(loaded, entries)
        if only_run:
            entries = [entry for entry in entries if entry.step.run_id is None]
        chosen = _chosen(entries, steps, failed if only_failed else None)
        if only_failed and failed is None:
            say(f"{trace.name}: no step failed")
            return EXIT_OK
        if as_json or form == "json":
            _print_json(trace.name, skimmed, chosen or entries, failed)
        elif form == "markdown":
            _print_markdown(trace, skimmed, chosen or entries, failed)
        else:
            _print_tree(trace, skimmed, entries, failed, chosen, full, verbose)
    return EXIT_OK


def _chosen(entries: list[Entry], steps: tuple[str, ...], failed: Entry | None) -> list[Entry]:
    """Return the steps that options name.

    Raises:
        BadParameter: a step is not there.
    """
    found: list[Entry] = [] if failed is None else [failed]
    for text in steps:
        matching = [entry for entry in entries if text in _names_of(entry)]
        if not matching:
            numbers = [entry.number for entry in entries if entry.number is not None]
            there = f"the trace has the steps {min(numbers)} to {max(numbers)}" if numbers else "the trace has none"
            message = f"there is no step '{printable(text)}': {there}; a step id or a node id names one, too"
            raise click.BadParameter(message, param_hint="'--step'")
        found += [entry for entry in matching if entry not in found]
    return found


def _names_of(entry: Entry) -> tuple[str | None, ...]:
    return None if entry.number is None else str(entry.number), entry.step.step_id, entry.step.node_id


def _print_tree(
    trace: TraceSource,
    skimmed: Skimmed,
    entries: list[Entry],
    failed: Entry | None,
    chosen: list[Entry],
    full: bool,
    verbose: bool,
) -> None:
    from flowtrace.cli.tree_view import Detail, TreeView
    from flowtrace.trace.payload_files import PayloadValues

    console = make_console()
    detail = Detail(full or bool(chosen), verbose or full or bool(chosen))
    view = TreeView(console, skimmed, entries, failed, detail, PayloadValues(trace.path))
    print_lines(console, view.lines_of(trace.name, chosen) if chosen else view.lines(trace.name))


def _print_markdown(trace: TraceSource, skimmed: Skimmed, entries: list[Entry], failed: Entry | None) -> None:
    from flowtrace.cli.markdown_view import markdown

    loaded, entries = skimmed.complete(), [entry._replace(step=skimmed.step(entry)) for entry in entries]
    print_lines(make_console(), ([(line, "")] for line in markdown(trace.name, loaded, entries, failed, trace.path)))


def _print_json(name: str, skimmed: Skimmed, entries: list[Entry], failed: Entry | None) -> None:
    """Print the document step by step: as a whole it would take many times the memory of the file."""
    from flowtrace.trace.layout import with_list
    from flowtrace.trace.model import changed, to_document

    trace = skimmed.trace
    envelope = to_document(changed(trace, steps=[], in_flight=[]))
    del envelope["steps"]
    document = {
        "trace": name,
        "outcome": outcome_of(trace, failed),
        "failed_step": failed.pointer if failed else None,
        "envelope": envelope,
        "steps": [None],
    }
    print_json_text(with_list(json_text(document), (_item(entry, skimmed.step(entry)) for entry in entries)))


def _item(entry: Entry, step: Step) -> bytes:
    """Return the text of a step as it stands in the document."""
    from flowtrace.trace.layout import item_text
    from flowtrace.trace.model import EXTRA_FIELD, new_document, to_document

    text = json_text([[_entry(entry, new_document(step))]])
    if EXTRA_FIELD.encode() in text:
        text = json_text([[_entry(entry, to_document(step))]])
    return item_text(text)


def _entry(entry: Entry, record: dict[str, Any]) -> dict[str, Any]:
    return {
        "pointer": entry.pointer,
        "depth": entry.depth,
        "parent": entry.parent.pointer if entry.parent else None,
        "state": entry.state,
        "record": record,
    }
