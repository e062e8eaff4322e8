"""`flowtrace recover`: a trace from the black box of a dead process."""

from __future__ import annotations

import os
from pathlib import Path
from shlex import quote

import click

from flowtrace.cli.common import (
    EXIT_OK,
    Command,
    UnreadableError,
    json_option,
    may_be_trace,
    missing,
    newest_rings,
    print_json,
    printable,
)


@click.command(
    "recover",
    cls=Command,
    examples="""
    flowtrace recover app.ring --out crash.json
    flowtrace recover app.ring | flowtrace show -
    flowtrace recover /var/lib/app/
    """,
)
@click.argument("ring", type=click.Path())
@click.option("--out", type=click.Path(), help="Write the trace there; in a folder, as trace.json.")
@json_option
def command(ring: str, out: str | None, as_json: bool) -> int:
    """Make a trace from the ring file (FLOWTRACE_BLACKBOX) of a dead process.

    RING is such a file, or a folder: the newest one in it. Steps that were running when the process ended are under
    in_flight, with the error process_died. Without --out, prints the trace; with --out, the number of its steps, which
    --json prints as JSON. RING is not changed.
    """
    from flowtrace.blackbox.recover import recover
    from flowtrace.settings.kinds import TRACE_NAME, in_folder
    from flowtrace.trace.files import write_atomically
    from flowtrace.trace.model import new_document
    from flowtrace.values.json import pretty

    trace = recover(_ring_file(ring))
    if out is None:
        print_json(new_document(trace))
        return EXIT_OK
    path = in_folder(os.path.expanduser(out), TRACE_NAME)
    write_atomically(path, pretty(new_document(trace)))
    found = {"path": path, "steps": len(trace.steps), "in_flight": len(trace.in_flight)}
    if as_json:
        print_json(found)
    else:
        click.echo(f"{printable(path)}: {found['steps']} finished steps, {found['in_flight']} in flight")
    return EXIT_OK


def _ring_file(given: str) -> Path:
    path = Path(os.path.expanduser(given))  # where there is no such user, the text stays
    if path.is_dir():
        rings = newest_rings(path)
        if not rings:
            raise UnreadableError(f"there is no ring file in the folder '{printable(given)}'")
        return rings[0]
    if not path.exists():
        others = newest_rings(path.parent) if path.parent.is_dir() else []
        raise UnreadableError(missing(str(path), others))
    if may_be_trace(path):
        show = f"flowtrace show {quote(str(path))}"
        raise UnreadableError(f"'{printable(given)}' is a trace already: {printable(show)}")
    return path
