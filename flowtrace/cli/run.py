"""`flowtrace run`: an unchanged program, with tracing on. Also the program argument of `check`, and `--auto`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import click
from click.shell_completion import CompletionItem

from flowtrace.cli.common import Command, printable, say
from flowtrace.errors import ConfigError
from flowtrace.settings.kinds import PATH, PATTERNS, TRACE_NAME, TraceMode, in_folder
from flowtrace.settings.variables import parse

_F = TypeVar("_F", bound=Callable[..., Any])
_MODULE_OR_CODE: Final = ("-m", "-c")
_OPTIONS_WITH_VALUE: Final = ("--check-hash-based-pycs",)
_PYTHON: Final = re.compile(r"python(3(\.\d+)?)?(\.exe)?")
_LONGEST_LINE: Final = 1000
_AUTOSTART: Final = str(Path(__file__).resolve().parent / "autostart")


class ProgramCommand(Command):
    """A command with options of its own, followed by a Python command line whose options belong to the program."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command's own options, and leave the program's as they are."""
        at = self._program_index(ctx, args)
        if at < len(args):
            end = at + 1 if args[at] == "--" else at
            args = [*args[:at], "--", *args[end:]]
        return super().parse_args(ctx, args)

    def _program_index(self, ctx: click.Context, args: Sequence[str]) -> int:
        options = [option for option in self.get_params(ctx) if isinstance(option, click.Option)]
        with_value = {name for option in options if not option.is_flag for name in option.opts}
        at = 0
        while at < len(args) and args[at].startswith("-") and args[at] not in ("-", "--"):
            if args[at].startswith(_MODULE_OR_CODE):
                break
            at += 2 if args[at] in with_value else 1
        return at


def _complete_files(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="file")]


def _check_program(_ctx: click.Context, _parameter: click.Parameter, program: tuple[str, ...]) -> tuple[str, ...]:
    first = program[0] if program else ""
    if not first:
        raise click.UsageError("name a program to run: SCRIPT, -m MODULE or -c CODE")
    if len(program) == 1 and first in _MODULE_OR_CODE:
        raise click.UsageError(f"{first} needs a value")
    return program


def program_argument(function: _F) -> _F:
    """Add the arguments after ``python``, which a `ProgramCommand` gets as ``program``."""
    return click.argument(
        "program",
        metavar="SCRIPT|-m MODULE|-c CODE [ARGS]...",
        nargs=-1,
        type=click.UNPROCESSED,
        callback=_check_program,
        shell_complete=_complete_files,
    )(function)


def _check_patterns(_ctx: click.Context, _parameter: click.Parameter, texts: Sequence[str]) -> tuple[str, ...]:
    try:
        patterns = tuple(pattern for text in texts for pattern in PATTERNS.from_text(text))
    except ValueError as error:
        raise click.BadParameter(f"'{printable(str(error))}' is not usable: it takes {PATTERNS.accepts}") from None
    if "__main__" in {pattern.partition(".")[0] for pattern in patterns}:
        raise click.BadParameter(
            "the functions of the script itself can't be traced this way, since it is never imported:"
            " decorate them, or move them into a module"
        )
    return patterns


def auto_option(function: _F) -> _F:
    """Add ``--auto``, which the command gets as the tuple ``auto``."""
    return click.option(
        "--auto",
        metavar="PATTERN",
        multiple=True,
        callback=_check_patterns,
        help="Trace undecorated functions of modules that are imported: 'pkg.nodes.*' is everything in pkg.nodes and"
        " below it, 'pkg.nodes.load_*' some of its functions. May be given more than once.",
    )(function)


def meant_program(program: Sequence[str]) -> tuple[str, ...]:
    """Return the arguments after ``python`` for a program as it is typed elsewhere: ``python app.py``, ``pytest``.

    Args:
        program: what was typed: a script, ``-m MODULE``, ``-c CODE``, this Python with any of these, or a command that
            is a Python script in the folder of this Python, or a module.

    Raises:
        UsageError: it names another Python.
    """
    first, *rest = program
    name = os.path.basename(first)
    has_folder = os.path.dirname(first) != ""
    if _PYTHON.fullmatch(name) and (has_folder or not os.path.exists(first)):
        if not _is_this_python(first):
            other = f"{printable(first)} -m flowtrace run {' '.join(map(printable, rest))}".rstrip()
            raise click.UsageError(f"'{printable(first)}' is not the Python that runs flowtrace: {other}")
        if not rest:
            raise click.UsageError("name a program to run: SCRIPT, -m MODULE or -c CODE")
        say(f"{first} may be left out: flowtrace run {' '.join(rest)}")
        return tuple(rest)
    if first.startswith("-") or has_folder or name.endswith(".py") or os.path.exists(first):
        return tuple(program)
    script = os.path.join(os.path.dirname(sys.executable), first)
    if _is_python_script(script):
        say(f"{first} is no file here: this runs {script}; the module would be -m {first}")
        return script, *rest
    if not _is_module(first):
        return tuple(program)
    say(f"{first} is no file here: this runs -m {first}")
    return "-m", first, *rest


def _is_this_python(command: str) -> bool:
    if os.path.dirname(command):
        return os.path.realpath(command) == os.path.realpath(sys.executable)
    version = os.path.splitext(command)[0] if command.endswith(".exe") else command
    return f"python{sys.version_info.major}.{sys.version_info.minor}".startswith(version)


def _is_python_script(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return re.match(rb"#!.*python", file.readline(_LONGEST_LINE)) is not None
    except OSError:
        return False


def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def python_command(program: Sequence[str]) -> list[str]:
    """Return the command line that runs a program with this Python and its options.

    Args:
        program: the arguments after ``python``.

    Raises:
        UsageError: the interpreter does not know its own path.
    """
    if not sys.executable:
        raise click.UsageError("this Python does not know its own path, so it can't run a program")
    return [sys.executable, *interpreter_options(sys.orig_argv[1:]), *program]


def interpreter_options(arguments: Sequence[str]) -> list[str]:
    """Return the options at the beginning of a Python command line, up to its script, ``-m`` or ``-c``.

    See https://docs.python.org/3/using/cmdline.html.

    Args:
        arguments: those after ``python``, such as ``sys.orig_argv[1:]``.
    """
    options: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument in ("-", "--") or not argument.startswith("-"):
            break
        # -bm MODULE is -b and -m; the first of m, c, X and W takes the rest as its value
        last = "" if argument.startswith("--") else next((letter for letter in argument if letter in "mcXW"), "")
        own = argument[: argument.index(last)] if last in ("m", "c") else argument
        options += [own] if len(own) > 1 else []
        if last in ("m", "c"):
            break
        if argument in _OPTIONS_WITH_VALUE or (last and argument.index(last) == len(argument) - 1):
            options += [next(rest, "")]
    return options


def program_environment(
    environ: Mapping[str, str],
    *,
    mode: str | None = None,
    out: str | None = None,
    capture: bool = False,
    auto: Sequence[str] = (),
) -> dict[str, str]:
    """Return an environment in which a program is traced.

    Args:
        environ: the environment without tracing.
        mode: when a trace is written; None means ``FLOWTRACE_MODE`` if that is on or always, else on.
        out: the trace file; None means ``FLOWTRACE_OUT``, else ``trace.json`` in the current working folder.
        capture: keep inputs and outputs.
        auto: patterns of undecorated functions to trace, added to those of ``FLOWTRACE_AUTO``.

    Raises:
        ConfigError: ``out`` is no path.
    """
    parsed = parse(environ)
    result = dict(environ)
    set_mode = parsed.config["mode"]
    result["FLOWTRACE_MODE"] = mode or (TraceMode.ON if set_mode is TraceMode.OFF else set_mode).value
    if out is not None or "out_path" not in parsed.config:
        result["FLOWTRACE_OUT"] = _checked_path(out or "trace.json")
    if capture:
        result |= {"FLOWTRACE_CAPTURE_INPUTS": "1", "FLOWTRACE_CAPTURE_OUTPUTS": "1"}
    patterns = dict.fromkeys((*parsed.auto, *auto))
    if patterns:
        result["FLOWTRACE_AUTO"] = ",".join(patterns)
        result["PYTHONPATH"] = os.pathsep.join(filter(None, (_AUTOSTART, environ.get("PYTHONPATH"))))
    return result


def with_report(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a program that says at its end where its trace is; see `flowtrace.cli.run_report`."""
    before = environment.get("PYTHONPATH", "")
    folders = [folder for folder in before.split(os.pathsep) if folder and folder != _AUTOSTART]
    return {
        **environment,
        "PYTHONPATH": os.pathsep.join([_AUTOSTART, *folders]),
        "_FLOWTRACE_RUN": os.pathsep.join(folders),
    }


def _checked_path(out: str) -> str:
    """Return the absolute path of a trace file, which holds even if the program changes its working folder."""
    try:
        return os.path.abspath(in_folder(str(PATH.check(out)), TRACE_NAME))
    except ValueError:
        raise ConfigError(f"the trace file '{out}' is not usable: it takes {PATH.accepts}") from None


# --- the command


@click.command(
    "run",
    cls=ProgramCommand,
    examples="""
    flowtrace run script.py --fast input.csv
    flowtrace run --out artifacts/trace.json --capture script.py
    flowtrace run --mode always -m package.module
    flowtrace run pytest tests/test_nodes.py
    flowtrace run --auto 'package.nodes.*' -m pytest tests/test_nodes.py
    """,
)
@click.option(
    "--mode", type=click.Choice([mode.value for mode in TraceMode]), help="When a trace is written; default: on."
)
@click.option(
    "--out", metavar="PATH", help="The trace file, or a folder for it; default: FLOWTRACE_OUT, or else trace.json."
)
@click.option("--capture", is_flag=True, help="Keep inputs and outputs, not only their hashes.")
@auto_option
@program_argument
def command(
    mode: str | None, out: str | None, capture: bool, auto: tuple[str, ...], program: tuple[str, ...]
) -> NoReturn:
    """Run a Python program with tracing on.

    The program runs as with `python SCRIPT`, `python -m MODULE` or `python -c CODE`: its arguments, input, output,
    signals, tracebacks and exit code are its own. Options go before the program; arguments after it are passed to it.
    `python app.py`, and commands such as `pytest`, may be typed as always.

    At the end, one line on standard error says where the trace is, or why there is none.

    The Python that runs `flowtrace` runs the program, too: if `flowtrace` is installed in another environment than the
    program, use `python -m flowtrace run`.
    """
    environment = program_environment(os.environ, mode=mode, out=out, capture=capture, auto=auto)
    if "FLOWTRACE_AUTO" in environment and (sys.flags.ignore_environment or sys.flags.no_site):
        raise click.UsageError("--auto can't work with Python's options -E, -I and -S")
    if sys.flags.ignore_environment:
        say("nothing is traced: Python's options -E and -I hide the variables from the program")
    elif not sys.flags.no_site:
        environment = with_report(environment)
    become(python_command(meant_program(program)), environment)


def become(arguments: list[str], environment: dict[str, str]) -> NoReturn:
    """Turn this process into another program; where the system can't do that, run it and end with its exit code."""
    if sys.platform == "win32":
        sys.exit(subprocess.call(arguments, env=environment))  # noqa: S603  # the user names the program
    os.execve(arguments[0], arguments, environment)  # noqa: S606  # no shell is wanted
