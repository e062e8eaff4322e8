"""The command line: in this process, which is fast, or as a shell would call it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import mock

from flowtrace import testing
from flowtrace.cli import main

SCRIPT = Path(sys.executable).parent / "flowtrace"


def call(*command, stdin="", folder=None, **variables):
    """Run a command; variables that are None are taken out of its environment."""
    given = {"input": stdin} if isinstance(stdin, str) else {"stdin": stdin}
    return subprocess.run(
        [str(part) for part in command],
        env=_environment(PYTHONWARNINGS="error", **variables),
        cwd=folder,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=False,
        **given,
    )


def flowtrace_process(*arguments, **options):
    """Run `flowtrace` with these arguments in a process of its own."""
    return call(SCRIPT, *arguments, **options)


def flowtrace(*arguments, stdin="", folder=".", **variables):
    """Run `flowtrace` with these arguments here, for commands that run no code of users in their own process.

    Everything that a process has of its own is replaced: environment, working folder, the three streams (in Python: a
    child process has what it is given) and what flowtrace keeps.
    """
    words = [str(part) for part in arguments]
    with contextlib.ExitStack() as stack:
        streams = {name: stack.enter_context(_stream()) for name in ("stdin", "stdout", "stderr")}
        if isinstance(stdin, str):
            streams["stdin"].write(stdin)
            streams["stdin"].seek(0)
        else:
            streams["stdin"] = stdin
        stack.enter_context(mock.patch.dict(os.environ, _environment(**variables), clear=True))
        stack.enter_context(contextlib.chdir(folder))
        stack.enter_context(mock.patch.multiple(sys, argv=["flowtrace", *words], **streams))
        stack.enter_context(testing.pristine())
        try:
            code = main()
        except SystemExit as end:
            code = end.code
        return subprocess.CompletedProcess(words, code, *(_content(streams[name]) for name in ("stdout", "stderr")))


def _environment(**variables):
    environment = {**os.environ, **variables}
    return {name: value for name, value in environment.items() if value is not None}


def _stream():
    """Return a text stream that has a descriptor, as the standard streams do; each line is written through."""
    return tempfile.TemporaryFile("w+", buffering=1, encoding="utf-8", errors="surrogateescape", newline="")


def _content(stream):
    stream.seek(0)
    return stream.read()
