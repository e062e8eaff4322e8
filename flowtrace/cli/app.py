"""The command line itself: its commands, and how an error of any of them becomes an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from io import StringIO
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from flowtrace.cli.common import EXIT_INTERRUPTED, EXIT_PIPE_CLOSED, EXIT_USAGE, printable_lines, say
from flowtrace.errors import FlowtraceError

# By what they are for, each part with an example. Each command is `command` in `flowtrace.cli.<name>`; its summary is
# here, so that the list imports none of them.
TASKS: Final = {
    ("Record a failure", "flowtrace run --capture script.py"): {
        "run": "Run a program with tracing on.",
        "doctor": "Show the active configuration, and the problems in it.",
        "recover": "Make a trace from the ring file of a dead process.",
    },
    ("Look at it", "flowtrace show trace.json"): {
        "show": "Show a trace: its steps as a tree, and what failed.",
        "view": "Write one HTML file that shows a trace, two, or a folder.",
        "why": "Follow a bad value back to where it came from.",
    },
    ("Hand it on", "flowtrace export trace.json --format markdown"): {
        "export": "Write a trace for Perfetto, speedscope, DuckDB and others.",
        "mcp": "Serve traces to a coding agent.",
        "ci": "Report failures to GitHub Actions or GitLab.",
    },
    ("Call it again", "flowtrace replay trace.json --pdb"): {
        "replay": "Call a trace's functions again, and compare.",
    },
    ("Compare runs", "flowtrace diff before.json after.json"): {
        "diff": "Name the first difference between two traces.",
        "check": "Run a program several times, and compare the runs.",
    },
    ("Check the file", "flowtrace validate trace.json"): {
        "validate": "Check trace files against the format.",
        "schema": "Print the JSON Schema of the trace file.",
    },
}
COMMANDS: Final = {name: line for commands in TASKS.values() for name, line in commands.items()}


class _Commands(click.Group):
    """Imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        found: click.Command = import_module(f"{__package__}.{cmd_name}").command
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, COMMANDS))
        for (task, example), commands in TASKS.items():
            with formatter.section(task):
                formatter.write_dl([(name.ljust(width), line) for name, line in commands.items()])
                formatter.write_text(f"$ {example}")

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        commands = [CompletionItem(name, help=line) for name, line in COMMANDS.items() if name.startswith(incomplete)]
        return [*commands, *click.Command.shell_complete(self, ctx, incomplete)]

    def invoke(self, ctx: click.Context) -> Any:
        try:
            code = super().invoke(ctx)
            sys.stdout.flush()  # notices a closed pipe here instead of when the interpreter ends
        except BrokenPipeError:
            return _discard_output()
        return code


def _show_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from flowtrace import __version__

        click.echo(f"flowtrace {__version__}")
        ctx.exit()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Print the version."
)
def app() -> None:
    """Record the calls of a program's functions, and find out why one of them failed.

    TRACE, in the commands below, is a trace file, a folder (the newest trace in it), or - for standard input.

    Exit codes: 0 as expected or same; 1 differs or failed; 2 wrong usage or unreadable input.

    \b
    Completion of commands, options and files:
      bash  eval "$(_FLOWTRACE_COMPLETE=bash_source flowtrace)"
      zsh   eval "$(_FLOWTRACE_COMPLETE=zsh_source flowtrace)"
      fish  _FLOWTRACE_COMPLETE=fish_source flowtrace | source
    """


def run(argv: Sequence[str] | None = None) -> int:
    """Run a command, and return its exit code; an error of the user's becomes one line on standard error."""
    try:
        code = app.main(argv, prog_name="flowtrace", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        said = StringIO()
        error.show(file=said)  # it quotes what was typed
        click.echo("\n".join(printable_lines(said.getvalue().rstrip("\n"))), err=True)
        return EXIT_USAGE
    except FlowtraceError as error:
        say(str(error))
        return EXIT_USAGE
    except OSError as error:
        file = f"{error.filename}: " if error.filename is not None else ""
        say(f"{file}{error.strerror or error}")
        return EXIT_USAGE
    except RecursionError:
        say("the input is nested too deeply")
        return EXIT_USAGE
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED


def _discard_output() -> int:
    """Discard the output that is still buffered, which the interpreter would write to the closed pipe at its end."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    except (OSError, ValueError):
        pass
    return EXIT_PIPE_CLOSED
