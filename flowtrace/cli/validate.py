"""`flowtrace validate`: check that files are traces, and consistent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import click

from flowtrace.cli.common import (
    EXIT_DIFFERS,
    EXIT_OK,
    TRACE,
    Command,
    Line,
    TraceSource,
    UnreadableError,
    collector_off,
    json_option,
    print_result,
    printable,
    several,
    write_output,
)

if TYPE_CHECKING:
    from flowtrace.trace.findings import Finding
    from flowtrace.trace.validate import Checked

_STYLES: Final = {"error": "bold red", "warning": "yellow", "note": "dim"}


@click.command(
    "validate",
    cls=Command,
    examples="""
    flowtrace validate trace.json
    flowtrace validate --strict artifacts/*.json
    flowtrace validate --json trace.json | jq '.files[].findings'
    flowtrace validate --convert trace.json component-test.json
    """,
)
@click.option("--strict", is_flag=True, help="Warnings count as errors.")
@click.option(
    "--convert",
    metavar="OUT",
    type=click.Path(dir_okay=False),
    help="Convert a flat one-step record to a trace in this file.",
)
@json_option
@click.argument("traces", metavar="TRACE...", nargs=-1, required=True, type=TRACE)
def command(strict: bool, convert: str | None, as_json: bool, traces: tuple[TraceSource, ...]) -> int:
    """Check that each TRACE is a version 1 trace file without contradictions.

    Each finding has its location as a JSON Pointer. Hashes of captured values are computed again; payload files are
    read only inside the folder of their trace. Flat one-step records, as component test tools write them, are checked,
    too, and can be converted.

    Exit code 1: there is an error; 2: a file can't be read at all.
    """
    from flowtrace.trace.validate import check

    if convert is not None and len(traces) != 1:
        raise click.UsageError("--convert takes one TRACE")
    if [source.path for source in traces].count(None) > 1:
        raise click.UsageError("only one TRACE can be standard input")
    checked: list[tuple[TraceSource, Checked]] = []
    for source in traces:
        path = None if source.path is None else str(source.path)
        with collector_off(), source.open() as file:
            checked.append((source, check(file, source.name, path)))
    if convert is not None:
        _convert(*checked[0], convert)
    print_result(
        as_json,
        lambda: {"files": [_document(source, found, strict) for source, found in checked]},
        lambda _: (line for source, found in checked for line in _lines(source, found)),
    )
    return EXIT_OK if all(_is_good(found, strict) for _, found in checked) else EXIT_DIFFERS


def _is_good(checked: Checked, strict: bool) -> bool:
    return checked.is_valid and not (strict and any(finding.severity == "warning" for finding in checked.findings))


def _convert(source: TraceSource, checked: Checked, out: str) -> None:
    from flowtrace.trace.model import to_document
    from flowtrace.values.json import pretty

    if checked.steps is not None and checked.flat is None:
        raise UnreadableError(f"{source.name}: is a trace already; --convert takes a flat one-step record")
    if checked.flat is not None:
        write_output(out, pretty(to_document(checked.flat)), [source])


def _document(source: TraceSource, checked: Checked, strict: bool) -> dict[str, object]:
    return {
        "trace": source.name,
        "valid": _is_good(checked, strict),
        "findings": [finding.to_json() for finding in checked.findings],
    }


def _lines(source: TraceSource, checked: Checked) -> Iterator[Line]:
    counts = [
        several(count, severity)
        for severity in _STYLES
        if (count := sum(finding.severity == severity for finding in checked.findings))
    ]
    steps = f"  {several(checked.steps, 'step')}" if checked.steps is not None else ""
    verdict = ", ".join(counts) or "valid"
    style = "bold red" if not checked.is_valid else "yellow" if counts else "green"
    yield [(printable(source.name), "bold"), (": ", ""), (verdict, style), (steps, "dim")]
    width = max((len(finding.code) for finding in checked.findings), default=0)
    for finding in checked.findings:
        yield _finding(finding, width)


def _finding(finding: Finding, width: int) -> Line:
    return [
        (f"  {finding.severity:<8}", _STYLES[finding.severity]),
        (f"{finding.code:<{width}}  ", "dim"),
        (printable(finding.pointer) or "(whole document)", "bold"),
        (f"  {printable(finding.message)}", ""),
    ]
