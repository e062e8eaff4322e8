"""`flowtrace check`: run a program several times, and compare the runs."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from flowtrace.cli.common import (
    EXIT_DIFFERS,
    EXIT_OK,
    Line,
    UnreadableError,
    json_option,
    print_result,
    printable,
    several,
)
from flowtrace.cli.diff import first_lines, note_lines
from flowtrace.cli.run import ProgramCommand, auto_option, program_argument, program_environment, python_command
from flowtrace.settings.kinds import LARGEST_NUMBER
from flowtrace.settings.variables import parse

if TYPE_CHECKING:
    from flowtrace.comparing.evidence import Side
    from flowtrace.comparing.result import Divergence, TraceDiff

_STEPS: Final = 100_000
_BYTES: Final = 1 << 28  # 256 MiB of captured values
_RUN_FILE: Final = "program.json"
_MEMORY: Final = "/dev/shm"  # noqa: S108  # the folder made in it has a random name and belongs to us alone
# Kinds of divergence that are the node's own doing; for any other, the step that it was called in has to be looked at.
_OWN_KINDS: Final = frozenset(
    {
        *("output changed", "error appeared", "error vanished", "error changed"),
        *("state delta changed", "validation issues changed", "code changed"),
    }
)


@click.command(
    "check",
    cls=ProgramCommand,
    examples="""
    flowtrace check script.py input.csv
    flowtrace check -n 5 -m package.module
    flowtrace check --auto 'package.nodes.*' -m pytest tests/test_nodes.py
    flowtrace check --keep artifacts/check script.py
    flowtrace check --baseline golden.json script.py
    flowtrace check --baseline golden.json --update script.py
    """,
)
@click.option("-n", "runs", type=click.IntRange(1), help="How often the program runs (3; with --baseline, 1).")
@click.option("--baseline", metavar="TRACE", type=click.Path(dir_okay=False), help="Compare each run with this trace.")
@click.option("--update", is_flag=True, help="Write the first run to the baseline, where they differ.")
@click.option("--quiet", is_flag=True, help="Don't show what the program prints.")
@click.option("--keep", metavar="FOLDER", type=click.Path(file_okay=False), help="Keep the traces in this folder.")
@json_option
@auto_option
@program_argument
def command(
    runs: int | None,
    baseline: str | None,
    update: bool,
    quiet: bool,
    keep: str | None,
    as_json: bool,
    auto: tuple[str, ...],
    program: tuple[str, ...],
) -> int:
    """Run a Python program several times, and name the first node that is not deterministic.

    Each run is a new process in the same folder and environment, in mode `always`, with captured values and, unless
    FLOWTRACE_BUFFER_SIZE is set, room for 100,000 steps. The seeds of hashes and of random numbers are not fixed. The
    first run is compared with each of the others. A difference that may come from parts of an input that a trace does
    not show, since they are opaque, redacted or cut, is reported and is no failure. The output of the first run goes
    to standard error. The program reads standard input only if that is a file.

    With --baseline, each run is compared with the trace of an earlier one, which belongs into the repository. It holds
    captured values. With --update, it becomes the trace of the first run, if all runs of now are the same.

    Exit code 0: all runs are the same, as far as can be seen; 1: they differ, or ended with different exit codes.
    """
    from flowtrace.cli import baseline as baselines
    from flowtrace.comparing.diff import compare

    runs = (3 if baseline is None else 1) if runs is None else runs
    if baseline is None and (update or runs < 2):
        raise click.UsageError(
            "--update needs --baseline" if update else "one run can only be compared with a --baseline"
        )
    golden = None if baseline is None or (update and not os.path.lexists(baseline)) else baselines.load(baseline)
    if keep is not None and os.path.lexists(keep) and os.listdir(keep):
        raise UnreadableError(f"{keep}: is not empty; the traces would mix with the files in it")
    with tempfile.TemporaryDirectory(dir=_memory_folder()) as name:
        folder = Path(name)
        done = [_run(folder, number, program, auto, quiet or number > 1) for number in range(1, runs + 1)]
        codes, sides = [code for code, _ in done], [side for _, side in done]
        diffs = [compare(sides[0], other) for other in sides[1:]]
        is_steady = _is_good(codes, diffs)
        if golden is not None and (is_steady or not update):
            diffs = [compare(golden, side) for side in sides]
        is_renewed = update and is_steady and (golden is None or any(result.exit_code for result in diffs))
        if baseline is not None and is_renewed:
            baselines.renew(baseline, sides[0])
        if update and not is_steady:
            baseline = None  # the runs of now are compared
        if keep is not None:
            shutil.copytree(folder, keep, ignore=_single_traces, dirs_exist_ok=True)
    steps = [len(side.trace.steps) for side in sides]
    report = _Report(program, codes, steps, diffs, _is_good(codes, diffs), baseline, is_renewed)
    print_result(as_json, lambda: _document(report), lambda _: _lines(report))
    return EXIT_OK if report.is_good or is_renewed else EXIT_DIFFERS


def _is_good(codes: list[int], diffs: list[TraceDiff]) -> bool:
    return len(set(codes)) == 1 and not any(map(_fails, diffs))


class _Report(NamedTuple):
    """The runs, and the differences between them.

    Attributes:
        program: what was run.
        codes: the exit code of each run.
        steps: how many steps each run had.
        diffs: the first run compared with each other one; or the baseline compared with each run.
        is_good: there is no difference that is certain.
        baseline: the path of the baseline that they are compared with, or None.
        is_renewed: it is the first run now.
    """

    program: tuple[str, ...]
    codes: list[int]
    steps: list[int]
    diffs: list[TraceDiff]
    is_good: bool
    baseline: str | None
    is_renewed: bool


def _memory_folder() -> str | None:
    """Return a folder in memory, if there is one with room, since each flow and outermost call writes its own file."""
    if "TMPDIR" not in os.environ and os.path.isdir(_MEMORY) and os.access(_MEMORY, os.W_OK):
        return _MEMORY if shutil.disk_usage(_MEMORY).free >= 4 * _BYTES else None
    return None


def _single_traces(folder: str, names: list[str]) -> set[str]:
    """Return the traces of single flows and calls, which are not kept: the trace of the run has their steps."""
    is_run = os.path.basename(folder).startswith("run-")
    return {name for name in names if is_run and name.endswith(".json") and name != _RUN_FILE}


def _run(folder: Path, number: int, program: tuple[str, ...], auto: tuple[str, ...], quiet: bool) -> tuple[int, Side]:
    """Run the program once; return its exit code, and the trace of all of its steps."""
    from flowtrace.comparing.evidence import Side
    from flowtrace.comparing.gather import gather
    from flowtrace.settings.config import TraceContext
    from flowtrace.trace.files import write_atomically
    from flowtrace.trace.model import to_document
    from flowtrace.trace.reading import load_trace
    from flowtrace.values.json import pretty

    own = folder / f"run-{number}"
    environment = _environment(os.environ, own, auto)
    exit_code = _execute(python_command(program), environment, quiet)
    outside = TraceContext.from_env(environment).flow_id
    trace = gather(map(load_trace, sorted(own.glob("*.json"))), outside)
    if not trace.steps:
        raise UnreadableError(_nothing_recorded(exit_code, environment))
    path = str(own / _RUN_FILE)
    write_atomically(path, pretty(to_document(trace)))
    return exit_code, Side(trace, f"run {number}", path)


def _nothing_recorded(exit_code: int, environment: Mapping[str, str]) -> str:
    if parse(environment).disabled:
        return "nothing was recorded: FLOWTRACE_DISABLED is set"
    return f"nothing was recorded: no decorated function was called (exit code {exit_code}); see --auto"


def _environment(environ: Mapping[str, str], folder: Path, auto: tuple[str, ...]) -> dict[str, str]:
    room = {"FLOWTRACE_BUFFER_SIZE": str(_STEPS), "FLOWTRACE_BUFFER_BYTES": str(_BYTES)}
    every = {"FLOWTRACE_MAX_FILES": str(LARGEST_NUMBER)}
    out = str(folder / "{run_id}.json")
    return program_environment({**room, **environ, **every}, mode="always", out=out, capture=True, auto=auto)


def _execute(arguments: list[str], environment: dict[str, str], quiet: bool) -> int:
    """Run a program; if standard input is a file, each run reads it from the same position."""
    sys.stdout.flush()
    sys.stderr.flush()
    output = subprocess.DEVNULL if quiet else sys.stderr.fileno()
    position = _position_in_input()
    done = subprocess.run(  # noqa: S603  # the user names the program
        arguments,
        env=environment,
        stdin=subprocess.DEVNULL if position is None else sys.stdin.fileno(),
        stdout=output,
        stderr=output,
        check=False,
    )
    if position is not None:
        os.lseek(sys.stdin.fileno(), position, os.SEEK_SET)
    return done.returncode if done.returncode >= 0 else 128 - done.returncode


def _position_in_input() -> int | None:
    try:
        descriptor = sys.stdin.fileno()
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return os.lseek(descriptor, 0, os.SEEK_CUR)
    except (AttributeError, OSError, ValueError):
        pass
    return None


# --- the report


def _fails(result: TraceDiff) -> bool:
    """Return True if two runs differ for certain, or can't be compared."""
    return result.is_certain or (result.exit_code != 0 and not result.total)


def _to_blame(result: TraceDiff) -> Divergence | None:
    """Return the first divergence that is certain to begin there; where none is, the first one."""
    if result.first is None or not result.first.unseen:
        return result.first
    return next((item for item in result.divergences if item.cause == "nondeterminism"), result.first)


def _culprit(divergence: Divergence) -> str | None:
    """Return the node that is not deterministic; None if it is code outside any node."""
    return divergence.node_id if divergence.kind in _OWN_KINDS else divergence.inside


def _document(report: _Report) -> dict[str, Any]:
    first = next((_to_blame(result) for result in report.diffs if result.is_certain), None)
    runs = zip(report.codes, report.steps, strict=True)
    about = {"program": list(report.program), "baseline": report.baseline, "updated": report.is_renewed}
    return {
        "deterministic" if report.baseline is None else "same": report.is_good,
        "node": None if first is None else _culprit(first),
        **about,
        "runs": [{"exit_code": code, "steps": count} for code, count in runs],
        "diffs": [result.to_json() for result in report.diffs],
    }


def _verdict(report: _Report) -> tuple[str, str]:
    good, bad = "deterministic", "not deterministic"
    if report.baseline is not None:
        name = printable(report.baseline)
        good, bad = f"the same as {name}", f"not the same as {name}"
        if report.is_renewed:
            return f"{name} is renewed", "bold green"
    if not report.is_good:
        return bad, "bold red"
    is_sure = not any(result.total for result in report.diffs)
    return (good, "bold green") if is_sure else (f"{good} as far as it can be seen", "bold yellow")


def _lines(report: _Report) -> Iterator[Line]:
    codes, steps, diffs = report.codes, report.steps, report.diffs
    count = several(steps[0], "step") if len(set(steps)) == 1 else "different numbers of steps"
    ran = f"  {several(len(codes), 'run')} of {printable(' '.join(report.program))}, {count}"
    yield [_verdict(report), (ran, "dim")]
    if len(set(codes)) > 1:
        yield [(f"exit codes: {', '.join(map(str, codes))}", "red")]
    elif codes[0]:
        yield [(f"each run ended with exit code {codes[0]}", "yellow")]
    shown = next(filter(_fails, diffs), None) or next((result for result in diffs if result.exit_code), None)
    if shown is None:
        for result in diffs[:1]:
            yield from note_lines(result)
        return
    yield from _first_difference(shown, is_golden=report.baseline is not None and shown.a == report.baseline)
    for result in diffs:
        if result is not shown:
            yield [(f"{result.b}: ", "dim"), (_summary(result), "")]


def _first_difference(result: TraceDiff, is_golden: bool) -> Iterator[Line]:
    if result.first is None:
        yield [(f"{result.a} and {result.b} can't be compared", "red")]
        yield from note_lines(result)
        return
    to_blame = _to_blame(result)
    culprit = None if to_blame is None else _culprit(to_blame)
    name = "code outside any node" if culprit is None else printable(culprit)
    verb = "is not" if result.is_certain else "may not be"
    what = "as before" if is_golden else "deterministic"
    yield [(f"first node that {verb} {what}: ", ""), (name, "bold red")]
    yield []
    yield [(f"A is {result.a}, B is {result.b}", "dim")]
    yield from first_lines(result)


def _summary(result: TraceDiff) -> str:
    if result.first is None:
        return f"{result.verdict} as {result.a}" if result.exit_code == 0 else str(result.verdict)
    return f"{several(result.total, 'divergence')}, the first at {printable(result.first.node_id)}"
