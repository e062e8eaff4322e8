"""The command line: in this process, which is fast, or as a shell would call it."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
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
    """Run `flowtrace` with these arguments here, for commands that run no code of users.

    Everything that a process has of its own is replaced: environment, working folder, the three streams (not their
    descriptors) and what flowtrace keeps.
    """
    words = [str(part) for part in arguments]
    streams = {"stdin": _stream(stdin), "stdout": _stream(), "stderr": _stream()}
    with (
        mock.patch.dict(os.environ, _environment(**variables), clear=True),
        contextlib.chdir(folder),
        mock.patch.multiple(sys, argv=["flowtrace", *words], **streams),
        testing.pristine(),
    ):
        try:
            code = main()
        except SystemExit as end:
            code = end.code
    outputs = [streams[name].buffer.getvalue().decode() for name in ("stdout", "stderr")]
    return subprocess.CompletedProcess(words, code, *outputs)


def _environment(**variables):
    environment = {**os.environ, **variables}
    return {name: value for name, value in environment.items() if value is not None}


def _stream(text=""):
    """Return a text stream over bytes, as the standard streams are; each line is written through."""
    return io.TextIOWrapper(io.BytesIO(text.encode("utf-8", "surrogatepass")), encoding="utf-8", line_buffering=True)
