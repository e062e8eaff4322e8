"""`flowtrace replay`: call the functions of a trace again, and compare the outcomes."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, redirect_stdout
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from flowtrace.cli.common import TRACE, Command, Line, TraceSource, json_option, print_result, printable, shortened
from flowtrace.cli.run import auto_option
from flowtrace.host.switch import environment
from flowtrace.trace.outline import OUTSIDE, is_outside

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from importlib.machinery import ModuleSpec

    from rich.console import Console

    from flowtrace.replaying.report import ReplayReport, StepReplay

_PACKAGE: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_ID_LENGTH: Final = 16
_VALUE_WIDTH: Final = 160
_TEXT_LENGTH: Final = 500
_HASH_DIGITS: Final = 16
_MARKS: Final = {True: ("✓", "✗", "-"), False: (".", "X", "-")}  # by whether the output is Unicode


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
@click.option("--compare-hashes/--no-compare-hashes", default=True, help="Compare outputs, too, or only errors.")
@click.option(
    "--import", "imports", metavar="MODULE", multiple=True, help="Also use this module, which is outside the folder."
)
@click.option(
    "--folder", default=".", metavar="FOLDER", help="The folder whose modules and scripts may be loaded (default: .)."
)
@click.option("--receiver", metavar="MODULE:FACTORY", help="A function or class that makes the `self` of methods.")
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
@click.option("--expect-fixed", is_flag=True, help="Write a test that passes once the step is fixed.")
@json_option
@click.argument("trace", type=TRACE)
def command(trace: TraceSource, as_json: bool, auto: tuple[str, ...], debug: bool, **options: Any) -> int:
    """Call the functions of a TRACE again with their captured inputs, and compare the outcomes.

    Each captured step is replayed by itself, in the order in which the steps ended, so the first failed step is the
    innermost one. A step calls its child nodes again, as any call of it does.

    Only decorated functions are called, and only those of modules that are named by --import, or are under the folder
    and decorate them in their source. Their output goes to standard error.
    """
    if options["expect_fixed"] and options["emit_test"] is None:
        raise click.UsageError("--expect-fixed needs --emit-test")
    if debug and trace.path is None:
        raise click.UsageError("--pdb reads from standard input, so the trace can't be -")
    steps = [_step_choice(text) for text in options.pop("steps")] or None
    loaded = trace.load()
    _trace_automatically(auto)
    from flowtrace import replay

    payloads = None if trace.path is None else trace.path.resolve().parent
    on_error = _debugger() if debug else None
    folder = options.pop("folder")
    with redirect_stdout(sys.stderr):
        report = replay(loaded, steps=steps, working_folder=folder, payloads=payloads, on_error=on_error, **options)
    report.trace = trace.name
    print_result(as_json, report.document, lambda console: _lines(console, report, options["emit_test"]))
    return report.exit_code


def _step_choice(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() and len(text) < _ID_LENGTH else text


def _trace_automatically(auto: tuple[str, ...]) -> None:
    from flowtrace.instrument import autotrace

    patterns = {"FLOWTRACE_AUTO": ",".join(auto)} if auto else {}
    autotrace.install({**environment(), **patterns})


def _debugger() -> Callable[[StepReplay, BaseException], None]:
    """Return a function that opens the debugger on an error; it writes to the real standard output."""
    terminal = sys.stdout
    with _standard_library_first():
        import pdb

        debugger = pdb.Pdb(stdout=terminal, readrc=False)  # a .pdbrc in the working folder is code of its own
        debugger.use_rawinput = False  # Python 3.15 writes its prompts to sys.stdout otherwise

    def open_debugger(result: StepReplay, error: BaseException) -> None:
        traceback = error.__traceback__
        while traceback is not None and traceback.tb_frame.f_code.co_filename.startswith(_PACKAGE):
            traceback = traceback.tb_next
        if traceback is None:
            traceback = error.__traceback__
        line = f"{type(error).__qualname__}: {shortened(str(error), _TEXT_LENGTH)}"
        terminal.write(f"step {result.number}, {printable(result.step.node_id)}: {line}\n")
        debugger.reset()
        with _standard_library_first():
            debugger.interaction(None, traceback)

    return open_debugger


class _StandardLibrary:
    """Finds the modules of the standard library in its own folder alone."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, _target: object = None) -> ModuleSpec | None:
        """Return where a module of that name is; None for any other name, and for what is in a package."""
        if path is not None or name not in sys.stdlib_module_names:
            return None
        folder = os.path.dirname(os.__file__)
        return PathFinder.find_spec(name, [folder, os.path.join(folder, "lib-dynload")])


@contextmanager
def _standard_library_first() -> Generator[None]:
    """Let no file of the working folder stand for a module that the debugger loads, in a ``with`` block."""
    sys.meta_path.insert(0, _StandardLibrary)
    try:
        yield
    finally:
        sys.meta_path.remove(_StandardLibrary)


# --- the report for people


def _lines(console: Console, report: ReplayReport, test: str | None) -> Iterator[Line]:
    from flowtrace.replaying.report import ReplayOutcome

    marks = _MARKS[console.encoding.lower().startswith("utf")]
    width = max((len(str(item.number)) for item in report.steps), default=1)
    names = min(max((len(_name(item)) for item in report.steps), default=0), 60)
    room = min(console.width, _VALUE_WIDTH)  # asked for once: it looks at the terminal
    reasons: dict[str, int] = {}
    for item in report.steps:
        skipped = item.outcome is ReplayOutcome.SKIPPED
        mark = marks[2] if skipped else marks[0] if item.is_as_recorded else marks[1]
        style = "yellow" if skipped else "green" if item.is_as_recorded else "bold red"
        name = _name(item)
        yield [
            (f"{item.number:>{width}} ", "dim"),
            (f"{mark} ", style),
            (f"{name:<{names}}  ", ""),
            (str(item.outcome).replace("_", " "), style),
            (_reason(item, reasons), ""),
        ]
        yield from _details(item, " " * (width + 3), room)
    yield from _verdict(report, test)


def _name(item: StepReplay) -> str:
    return OUTSIDE if is_outside(item.step) else printable(item.step.node_id)


def _reason(item: StepReplay, said: dict[str, int]) -> str:
    """Return why a step was skipped, or what differs; a reason that an earlier step has is said there.

    Args:
        item: the step.
        said: the number of the step that has a reason, by the reason; this one is added.
    """
    from flowtrace.replaying.report import error_line

    first = said.setdefault(item.reason, item.number)
    if item.reason and first != item.number:
        return f": as step {first}"
    text = item.reason or (error_line(item.error) if item.error is not None else "")
    return f": {shortened(text, _TEXT_LENGTH)}" if text else ""


def _details(item: StepReplay, indent: str, width: int) -> Iterator[Line]:
    from flowtrace.replaying.report import ReplayOutcome

    if item.outcome is ReplayOutcome.DIFFERENT_OUTPUT:
        sides = (
            ("recorded", item.step.output_hash, item.step.output_json),
            ("replayed", item.output_hash, item.output_json),
        )
        for label, found, value in sides:
            digits = "" if found is None else printable(found.value[:_HASH_DIGITS])
            yield [(indent, ""), (f"{label} ", "dim"), (digits, ""), (_text(value, width - len(indent) - 30), "")]
    if item.code_changed and not item.is_as_recorded:
        yield [(indent, ""), ("the function's code has changed since it was recorded", "yellow")]
    for note in item.notes:
        yield [(indent, ""), (f"note: {printable(note)}", "yellow")]


def _text(value: Any, width: int) -> str:
    from flowtrace.trace.model import UnsetType
    from flowtrace.values.shown import value_text

    return "" if isinstance(value, UnsetType) else f"  {shortened(value_text(value), max(width, 20))}"


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
        verdict += "; no failed step was replayed" if replayed else "; nothing was replayed"
    if report.exit_code and report.python:
        verdict += f"; {printable(report.python)}"
    yield [(verdict, "bold red" if report.exit_code else "bold green")]
    if test is not None:
        yield [(f"the test is in {printable(str(Path(test)))}", "")]
