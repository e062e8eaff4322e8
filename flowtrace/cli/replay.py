"""`flowtrace replay`: the functions of a trace are called again, and what comes of it is compared."""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from flowtrace.cli.common import (
    TRACE,
    Command,
    TraceSource,
    harmless,
    json_option,
    make_console,
    print_json,
)
from flowtrace.cli.program import auto_option

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from flowtrace.replaying.report import ReplayReport, StepReplay
    from flowtrace.trace.model import Hash

Line = list[tuple[str, str]]
"""Pieces of text with their styles; the texts are harmless."""
_PACKAGE: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_ID_LENGTH: Final = 16
_VALUE_WIDTH: Final = 160
_TEXT_LENGTH: Final = 500
_SHORT: Final = 16  # hex digits of a hash
_MARKS: Final = {True: ("✓", "✗", "-"), False: (".", "X", "-")}


@click.command(
    "replay",
    cls=Command,
    examples="""
    flowtrace replay trace.json
    flowtrace replay trace.json --step 11 --pdb
    flowtrace replay artifacts/ --all --json
    flowtrace replay trace.json --stub bank.charge
    flowtrace replay trace.json --receiver shop:make_cart
    flowtrace replay trace.json --emit-test tests/test_bug.py
    """,
)
@click.option("--step", "steps", metavar="STEP", multiple=True, help="Only this step: its number, step id or node id.")
@click.option("--until-failure/--all", default=None, help="Stop after the first failed step (default), or go on.")
@click.option(
    "--compare-hashes/--no-compare-hashes", default=True, help="Compare outputs, or only see whether it fails."
)
@click.option(
    "--import", "imports", metavar="MODULE", multiple=True, help="A module outside the folder to be used too."
)
@click.option(
    "--folder", default=".", metavar="FOLDER", help="Modules and scripts under it may be loaded (default: .)."
)
@click.option("--receiver", metavar="MODULE:FACTORY", help="A function that makes the `self` of instance methods.")
@click.option(
    "--stub",
    "stubs",
    metavar="COMPONENT[.OPERATION]",
    multiple=True,
    help="Answer these nodes from their recorded outputs when a replayed step calls them.",
)
@auto_option
@click.option("--pdb", "debug", is_flag=True, help="Open the debugger where a replayed step raises its error.")
@click.option("--emit-test", metavar="FILE", help="Write a pytest test that reproduces the step.")
@click.option("--expect-fixed", is_flag=True, help="That test passes once the recorded behaviour is gone.")
@json_option
@click.argument("trace", type=TRACE)
def command(trace: TraceSource, as_json: bool, auto: tuple[str, ...], debug: bool, **options: Any) -> int:
    """Call the functions of a TRACE again with their captured inputs, and compare what comes of it.

    Each captured step is replayed by itself, in the order in which the steps ended, so that the first failed step is
    the innermost one. A step calls its child nodes again, as any call of it does.

    Only functions with the decorator are called, and only from modules whose files lie under the folder, or which
    --import names. What they print goes to standard error.
    """
    if options["expect_fixed"] and options["emit_test"] is None:
        raise click.UsageError("--expect-fixed is about the test that --emit-test writes")
    if debug and trace.path is None:
        raise click.UsageError("--pdb reads from standard input, and so does the trace -")
    steps = [_step(text) for text in options.pop("steps")] or None
    loaded = trace.load()
    _trace_automatically(auto)
    from flowtrace import replay

    beside = None if trace.path is None else trace.path.resolve().parent
    watch = _debugger() if debug else None
    folder = options.pop("folder")
    with redirect_stdout(sys.stderr):
        report = replay(loaded, steps=steps, working_folder=folder, payloads=beside, on_error=watch, **options)
    report.trace = trace.name
    if as_json:
        print_json(report.document())
    else:
        _print(make_console(), report, options["emit_test"])
    return report.exit_code


def _step(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() and len(text) < _ID_LENGTH else text


def _trace_automatically(auto: tuple[str, ...]) -> None:
    from flowtrace.instrument import autotrace

    patterns = {"FLOWTRACE_AUTO": ",".join(auto)} if auto else {}
    autotrace.install({**os.environ, **patterns})


def _debugger() -> Callable[[StepReplay, BaseException], None]:
    """Return what opens the debugger on an error; it talks to the real standard output."""
    terminal = sys.stdout

    def watch(result: StepReplay, error: BaseException) -> None:
        import pdb

        traceback = error.__traceback__
        while traceback is not None and traceback.tb_frame.f_code.co_filename.startswith(_PACKAGE):
            traceback = traceback.tb_next
        if traceback is None:
            traceback = error.__traceback__
        kind = type(error).__qualname__
        terminal.write(f"step {result.number}, {harmless(result.step.node_id)}: {kind}: {harmless(_cut(str(error)))}\n")
        debugger = pdb.Pdb(stdout=terminal)
        debugger.reset()
        debugger.interaction(None, traceback)

    return watch


# --- the report for people


def _print(console: Console, report: ReplayReport, test: str | None) -> None:
    from rich.segment import Segment, Segments

    is_unicode = console.encoding.lower().startswith("utf")
    pieces: list[Any] = []
    for line in _lines(report, test, _MARKS[is_unicode], min(console.width, _VALUE_WIDTH)):
        pieces += [Segment(text, console.get_style(style) if style else None) for text, style in line]
        pieces.append(Segment.line())
    console.print(Segments(pieces), soft_wrap=True, end="")


def _lines(report: ReplayReport, test: str | None, marks: tuple[str, str, str], room: int) -> Iterator[Line]:
    from flowtrace.replaying.report import ReplayOutcome

    width = max((len(str(item.number)) for item in report.steps), default=1)
    names = max((len(harmless(item.step.node_id)) for item in report.steps), default=0)
    for item in report.steps:
        skipped = item.outcome is ReplayOutcome.SKIPPED
        mark = marks[2] if skipped else marks[0] if item.is_as_recorded else marks[1]
        style = "yellow" if skipped else "green" if item.is_as_recorded else "bold red"
        name = harmless(item.step.node_id)
        yield [
            (f"{item.number:>{width}} ", "dim"),
            (f"{mark} ", style),
            (f"{name:<{min(names, 60)}}  ", ""),
            (str(item.outcome).replace("_", " "), style),
            (_more(item), ""),
        ]
        yield from _below(item, " " * (width + 3), room)
    yield from _verdict(report, test)


def _more(item: StepReplay) -> str:
    if item.reason:
        return f": {harmless(_cut(item.reason))}"
    if item.error is None:
        return ""
    kind = item.error.details.get("type") if isinstance(item.error.details, dict) else None
    return f": {harmless(_cut(f'{kind}: {item.error.message}' if kind else item.error.message))}"


def _below(item: StepReplay, indent: str, room: int) -> Iterator[Line]:
    from flowtrace.replaying.report import ReplayOutcome

    if item.outcome is ReplayOutcome.DIFFERENT_OUTPUT:
        sides = (
            ("recorded", item.step.output_hash, item.step.output_json),
            ("replayed", item.output_hash, item.output_json),
        )
        for label, found, value in sides:
            yield [(indent, ""), (f"{label} ", "dim"), (_hash(found), ""), (_value(value, room - len(indent) - 30), "")]
    if item.code_changed and not item.is_as_recorded:
        yield [(indent, ""), ("the function's code is another one than the recorded", "yellow")]
    for note in item.notes:
        yield [(indent, ""), (f"note: {harmless(note)}", "yellow")]


def _hash(found: Hash | None) -> str:
    return "" if found is None else harmless(found.value[:_SHORT])


def _value(value: Any, room: int) -> str:
    from flowtrace.trace.model import UnsetType
    from flowtrace.values.json import plain

    data = None if isinstance(value, UnsetType) else plain(value)
    if data is None:
        return ""
    text = harmless(data.decode())
    return f"  {text}" if len(text) <= max(room, 20) else f"  {text[: max(room, 20)]}... ({len(text)} characters)"


def _verdict(report: ReplayReport, test: str | None) -> Iterator[Line]:
    from flowtrace.replaying.report import ReplayOutcome

    replayed = [item for item in report.steps if item.outcome is not ReplayOutcome.SKIPPED]
    same = sum(item.is_as_recorded for item in replayed)
    counts = [
        f"{same} as recorded",
        f"{len(replayed) - same} not as recorded",
        f"{len(report.steps) - len(replayed)} skipped",
    ]
    verdict = ", ".join(text for text in counts if not text.startswith("0 ")) or "no steps"
    if report.exit_code and same == len(replayed):
        verdict += "; no step that had failed was replayed" if replayed else "; nothing was replayed"
    if report.exit_code and report.python:
        verdict += f"; {harmless(report.python)}"
    yield [(verdict, "bold red" if report.exit_code else "bold green")]
    if test is not None:
        yield [(f"the test is in {harmless(str(Path(test)))}", "")]


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT_LENGTH else f"{text[:_TEXT_LENGTH]}... ({len(text)} characters)"
