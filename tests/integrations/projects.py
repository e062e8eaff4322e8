"""Projects whose tests are run by pytest in a process of its own, with the plug-ins that people have."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import flowtrace_pytest

HERE = Path(__file__).parent
SAMPLE = HERE / "pytest_sample"
ALL = ("xdist", "rerunfailures", "asyncio", "anyio", "metadata", "html", "randomly")
# Where this test's Python has flowtrace by a path alone, so does the other one; the plugin is named, since only an
# installed package brings it along.
ROOT = Path(flowtrace_pytest.__file__).parent


def project(folder, **files):
    """Write the files of a project; the names are those of modules, or with their suffix after two underscores."""
    for name, text in files.items():
        stem, _, suffix = name.partition("__")
        (folder / f"{stem}.{suffix or 'py'}").write_text(textwrap.dedent(text), encoding="utf-8")


def run_pytest(folder, *arguments, plugins=(), **environment):
    """Run pytest in a folder, with warnings as errors. Return the process, with its output as text."""
    named = [part for plugin in ("flowtrace_pytest", *plugins) for part in ("-p", plugin)]
    variables = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(
        [sys.executable, "-m", "pytest", *named, "-W", "error", *WARNINGS, "--color=no", *arguments],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


# pytest warns that a plug-in which is named was imported before, and each of the plug-ins deprecates something.
WARNINGS = ("-W", "ignore::pytest.PytestAssertRewriteWarning", "-W", "ignore::DeprecationWarning")


def traces_in(folder):
    """Return the paths of all files under a folder, sorted."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def paths_in(text):
    """Return the paths of traces in a folder ``out`` that a text names."""
    return set(re.findall(r"out/[\w.-]+\.json", text))
