"""`flowtrace recover`: a trace from the black box of a dead process."""

from __future__ import annotations

from pathlib import Path

import click

from flowtrace.cli.common import EXIT_OK, Command, json_option, print_json, printable


@click.command(
    "recover",
    cls=Command,
    examples="""
    flowtrace recover app.ring --out crash.json
    flowtrace recover app.ring | flowtrace show -
    """,
)
@click.argument("ring", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the trace there.")
@json_option
def command(ring: Path, out: Path | None, as_json: bool) -> int:
    """Make a trace from the ring file (FLOWTRACE_BLACKBOX) of a dead process.

    Steps that were running when the process ended are under in_flight, with the error process_died. Without --out,
    prints the trace; with --out, the number of its steps, which --json prints as JSON. RING is not changed.
    """
    from flowtrace.blackbox.recover import recover
    from flowtrace.trace.files import write_atomically
    from flowtrace.trace.model import new_document
    from flowtrace.values.json import pretty

    trace = recover(ring)
    if out is None:
        print_json(new_document(trace))
        return EXIT_OK
    write_atomically(str(out), pretty(new_document(trace)))
    found = {"path": str(out), "steps": len(trace.steps), "in_flight": len(trace.in_flight)}
    if as_json:
        print_json(found)
    else:
        click.echo(f"{printable(str(out))}: {found['steps']} finished steps, {found['in_flight']} in flight")
    return EXIT_OK
