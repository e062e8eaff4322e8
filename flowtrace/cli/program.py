"""Programs that a command runs: their command line, and the environment that switches tracing on in them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from click.shell_completion import CompletionItem

from flowtrace.cli.common import Command, harmless
from flowtrace.errors import ConfigError
from flowtrace.settings.kinds import PATH, PATTERNS, TraceMode
from flowtrace.settings.variables import parse

_F = TypeVar("_F", bound=Callable[..., Any])
_BEGINNINGS: Final = ("-m", "-c")
_OPTIONS_WITH_VALUE: Final = ("--check-hash-based-pycs",)
_AUTOSTART: Final = str(Path(__file__).resolve().parent / "autostart")


class ProgramCommand(Command):
    """A command whose own options end where a Python command line begins: all that follows is the program's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse our part, and keep the program's as it is."""
        at = self._program_in(ctx, args)
        if at < len(args):
            end = at + 1 if args[at] == "--" else at
            args = [*args[:at], "--", *args[end:]]
        return super().parse_args(ctx, args)

    def _program_in(self, ctx: click.Context, args: Sequence[str]) -> int:
        options = [option for option in self.get_params(ctx) if isinstance(option, click.Option)]
        with_value = {name for option in options if not option.is_flag for name in option.opts}
        at = 0
        while at < len(args) and args[at].startswith("-") and args[at] not in ("-", "--"):
            if args[at].startswith(_BEGINNINGS):
                break
            at += 2 if args[at] in with_value else 1
        return at


def _files(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="file")]


def _check_program(_ctx: click.Context, _parameter: click.Parameter, program: tuple[str, ...]) -> tuple[str, ...]:
    first = program[0] if program else ""
    if not first:
        raise click.UsageError("what is to run? Give a SCRIPT, -m MODULE or -c CODE")
    if len(program) == 1 and first in _BEGINNINGS:
        raise click.UsageError(f"{first} needs a value")
    return program


def program_argument(function: _F) -> _F:
    """Add the program, which a `ProgramCommand` gets as ``program``: the words after ``python``."""
    return click.argument(
        "program",
        metavar="SCRIPT|-m MODULE|-c CODE [ARGS]...",
        nargs=-1,
        type=click.UNPROCESSED,
        callback=_check_program,
        shell_complete=_files,
    )(function)


def _check_patterns(_ctx: click.Context, _parameter: click.Parameter, texts: Sequence[str]) -> tuple[str, ...]:
    try:
        patterns = tuple(pattern for text in texts for pattern in PATTERNS.from_text(text))
    except ValueError as error:
        raise click.BadParameter(f"'{harmless(str(error))}' is not usable: it takes {PATTERNS.accepts}") from None
    if "__main__" in {pattern.partition(".")[0] for pattern in patterns}:
        raise click.BadParameter(
            "the functions of the script itself can't be traced in this way, since it is never imported:"
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
        help="Trace the functions of modules that nobody decorated, as they are imported: 'pkg.nodes.*' is everything"
        " in pkg.nodes and below it, 'pkg.nodes.load_*' some functions of it. May be given more than once.",
    )(function)


def python_command(program: Sequence[str]) -> list[str]:
    """Return the command line that runs a program in this very Python, with the options that this one was given.

    Args:
        program: the words after ``python``.

    Raises:
        UsageError: the interpreter does not know where it is.
    """
    if not sys.executable:
        raise click.UsageError("this Python does not know its own path, and so can't run another one")
    return [sys.executable, *interpreter_options(sys.orig_argv[1:]), *program]


def interpreter_options(words: Sequence[str]) -> list[str]:
    """Return the options at the beginning of a Python command line, up to its script, ``-m`` or ``-c``.

    See https://docs.python.org/3/using/cmdline.html.

    Args:
        words: the words after ``python``, such as ``sys.orig_argv[1:]``.
    """
    options: list[str] = []
    rest = iter(words)
    for word in rest:
        if word in ("-", "--") or not word.startswith("-"):
            break
        letters, last = _split_options(word)
        options += [letters] if len(letters) > 1 else []
        if last in ("m", "c"):
            break
        if word in _OPTIONS_WITH_VALUE or (last in ("X", "W") and letters[-1] == last):
            options += [next(rest, "")]
    return options


def _split_options(word: str) -> tuple[str, str]:
    """Return a word without the ``m`` or ``c`` that ends the options, and the letter that ends it or takes the rest."""
    if word.startswith("--"):
        return word, ""
    for at, letter in enumerate(word):
        if letter in "mc":
            return word[:at], letter
        if letter in "XW":
            return word, letter
    return word, ""


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
        environ: the environment that the program would have otherwise.
        mode: when a trace is written; None follows ``FLOWTRACE_MODE`` where that is on or always, else on.
        out: the trace file; None follows ``FLOWTRACE_OUT``, else ``trace.json`` in the working folder of now.
        capture: keep inputs and outputs.
        auto: patterns of what to trace undecorated, added to those of ``FLOWTRACE_AUTO``.

    Raises:
        ConfigError: ``out`` can't be the path of a file.
    """
    parsed = parse(environ)
    result = dict(environ)
    asked = parsed.config["mode"]
    result["FLOWTRACE_MODE"] = mode or (TraceMode.ON if asked is TraceMode.OFF else asked).value
    if out is not None or "out_path" not in parsed.config:
        result["FLOWTRACE_OUT"] = _checked_path(out or "trace.json")
    if capture:
        result |= {"FLOWTRACE_CAPTURE_INPUTS": "1", "FLOWTRACE_CAPTURE_OUTPUTS": "1"}
    patterns = dict.fromkeys((*parsed.auto, *auto))
    if patterns:
        result["FLOWTRACE_AUTO"] = ",".join(patterns)
        result["PYTHONPATH"] = os.pathsep.join(filter(None, (_AUTOSTART, environ.get("PYTHONPATH"))))
    return result


def _checked_path(out: str) -> str:
    """Return the path of a trace file as it will be wherever the program goes."""
    try:
        path = os.path.abspath(str(PATH.check(out)))
    except ValueError:
        raise ConfigError(f"the trace file '{out}' is not usable: it takes {PATH.accepts}") from None
    if os.path.isdir(path):
        raise ConfigError(f"the trace file '{out}' is a folder: it takes a file path")
    return path
