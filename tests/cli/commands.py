"""The real command line, as a shell would call it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(sys.executable).parent / "flowtrace"


def call(*command, stdin="", folder=None, **variables):
    """Run a command; variables that are None are taken out of its environment."""
    environment = {**os.environ, "PYTHONWARNINGS": "error", **variables}
    given = {"input": stdin} if isinstance(stdin, str) else {"stdin": stdin}
    return subprocess.run(
        [str(part) for part in command],
        env={name: value for name, value in environment.items() if value is not None},
        cwd=folder,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=False,
        **given,
    )


def flowtrace(*arguments, **options):
    """Run `flowtrace` with these arguments."""
    return call(SCRIPT, *arguments, **options)
