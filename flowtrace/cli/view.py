"""`flowtrace view`: one HTML file that shows a trace, two traces side by side, or a folder of traces."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.shell_completion import CompletionItem

from flowtrace.cli.common import EXIT_OK, TRACE, Command, TraceSource, collector_off, printable, say, write_output

if TYPE_CHECKING:
    from collections.abc import Sequence

    _ParamType = click.ParamType["TraceSource | Path"]
else:
    _ParamType = click.ParamType  # not generic before click 8.4

_KILOBYTE: Final = 1000


class _TraceOrFolder(_ParamType):
    """A trace as the other commands take it; but a folder is itself, and not its newest trace."""

    name = "trace"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> TraceSource | Path:
        path = Path(os.path.expanduser(value)) if isinstance(value, str) else value
        return path if isinstance(path, Path) and path.is_dir() else TRACE.convert(value, param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return TRACE.shell_complete(ctx, param, incomplete)


@click.command(
    "view",
    cls=Command,
    examples="""
    flowtrace view trace.json
    flowtrace view trace.json -o failure.html
    flowtrace view trace.json --open
    flowtrace view before.json after.json -o diff.html
    flowtrace view artifacts/ -o index.html
    """,
)
@click.option("-o", "--output", metavar="FILE", help="The file to write; - for standard output (default: TRACE.html).")
@click.option("--open", "opens", is_flag=True, help="Open the page in the browser.")
@click.option(
    "--limit", type=click.IntRange(100), default=400, show_default=True, help="Leave out values beyond so many kB."
)
@click.argument("traces", metavar="TRACE", type=_TraceOrFolder(), nargs=-1, required=True)
def command(output: str | None, opens: bool, limit: int, traces: Sequence[TraceSource | Path]) -> int:
    """Write one HTML file that shows a TRACE: what failed, where, why, and the steps that led there.

    With two TRACEs, it shows where they part, by the rules of `flowtrace diff`, and both trees side by side.

    The file needs no network and no other file, so that it can be kept with a CI run or sent to somebody.
    """
    if len(traces) > 2:
        raise click.UsageError("one TRACE is shown, or two are compared")
    with collector_off():
        text = _page(traces, limit)
    _write(text, output or _beside(traces), traces, opens)
    return EXIT_OK


def _page(traces: Sequence[TraceSource | Path], limit: int) -> str:
    """Return the page of what was named."""
    if isinstance(traces[0], Path) and len(traces) == 1:
        from flowtrace.cli.page.folder_page import folder_page

        return folder_page(traces[0])
    found = [TRACE.convert(str(item), None, None) if isinstance(item, Path) else item for item in traces]
    return _page_of_one(found[0], limit) if len(found) == 1 else _page_of_two(*found)


def _page_of_one(trace: TraceSource, limit: int) -> str:
    from flowtrace.cli.page.trace_page import trace_page

    return trace_page(trace.name, trace.load(), trace.path, limit * _KILOBYTE)


def _page_of_two(a: TraceSource, b: TraceSource) -> str:
    from flowtrace.cli.diff import side_of
    from flowtrace.cli.page.diff_page import diff_page

    if a.path is None and b.path is None:
        raise click.UsageError("only one of A and B can be standard input")
    return diff_page(side_of(a), side_of(b))


def _beside(traces: Sequence[TraceSource | Path]) -> str:
    """Return the path beside the last trace, or in the folder: the page of two has a name of its own."""
    last = traces[-1]
    if isinstance(last, Path):
        return str(last / "traces.html")
    path = last.path or Path("trace.json")
    return str(path.with_suffix(".html") if len(traces) == 1 else path.with_name(f"{path.stem}.diff.html"))


def _write(text: str, output: str, traces: Sequence[TraceSource | Path], opens: bool) -> None:
    if output == "-":
        sys.stdout.buffer.write(text.encode())
        return
    data = text.encode()
    write_output(output, data, traces)
    say(f"{len(data) // _KILOBYTE:,} kB in {printable(output)}")
    if opens:
        click.launch(Path(output).absolute().as_uri())
