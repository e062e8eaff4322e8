"""`flowtrace run`: an unchanged program, with tracing on."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import NoReturn

import click

from flowtrace.cli.program import (
    ProgramCommand,
    auto_option,
    program_argument,
    program_environment,
    python_command,
)
from flowtrace.settings.kinds import TraceMode


@click.command(
    "run",
    cls=ProgramCommand,
    examples="""
    flowtrace run script.py --fast input.csv
    flowtrace run --out artifacts/trace.json --capture script.py
    flowtrace run --mode always -m package.module
    flowtrace run --auto 'package.nodes.*' -m pytest tests/test_nodes.py
    """,
)
@click.option(
    "--mode", type=click.Choice([mode.value for mode in TraceMode]), help="When a trace is written; default: on."
)
@click.option("--out", metavar="PATH", help="The trace file; default: FLOWTRACE_OUT, or else trace.json.")
@click.option("--capture", is_flag=True, help="Keep inputs and outputs beside their hashes.")
@auto_option
@program_argument
def command(
    mode: str | None, out: str | None, capture: bool, auto: tuple[str, ...], program: tuple[str, ...]
) -> NoReturn:
    """Run a Python program with tracing on.

    The program runs as `python SCRIPT`, `python -m MODULE` or `python -c CODE` would run it: its arguments, input,
    output, signals, tracebacks and exit code are its own. Options go before it; what comes after it is its own too.

    It is this Python that runs it: where the command `flowtrace` is installed apart from the program, use
    `python -m flowtrace run`.
    """
    environment = program_environment(os.environ, mode=mode, out=out, capture=capture, auto=auto)
    if "FLOWTRACE_AUTO" in environment and (sys.flags.ignore_environment or sys.flags.no_site):
        raise click.UsageError("--auto can't work with Python's options -E, -I and -S")
    become(python_command(program), environment)


def become(words: list[str], environment: dict[str, str]) -> NoReturn:
    """Turn this process into another program; where the system can't do that, run it and end with its exit code."""
    if sys.platform == "win32":
        sys.exit(subprocess.call(words, env=environment))  # noqa: S603  # it is there to run what the user names
    os.execve(words[0], words, environment)  # noqa: S606  # no shell is wanted
