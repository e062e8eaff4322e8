"""Running small programs as a user would: real processes, with an environment and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

# A warning is an error. But a child of multiprocessing's has a main module that Python 3.15 warns of by itself.
WARNINGS = ("-W", "error", "-W", "ignore:Module globals is missing a __spec__.loader:DeprecationWarning")


def run_program(folder, *parts, arguments=(), code=0, **environment):
    """Run a program as `try_program` does. Checks the exit code."""
    done = try_program(folder, *parts, arguments=arguments, **environment)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done


def try_program(folder, *parts, arguments=(), **environment):
    """Run a program made of parts, each indented as it likes, in a folder."""
    script = Path(folder, "program.py")
    script.write_text("\n".join(map(textwrap.dedent, parts)), encoding="utf-8")
    variables = {name: value for name, value in os.environ.items() if not name.startswith("FLOWTRACE_")}
    return subprocess.run(
        [sys.executable, *WARNINGS, str(script), *arguments],
        cwd=folder,
        env=variables | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
