"""The script and the style that are committed are what their sources give."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from flowtrace.cli.page.render import built

ROOT = Path(__file__).resolve().parent.parent.parent
WEB = ROOT / "web"


def modules(tmp_path):
    """Return the folder of the packages that the build takes, as the lock file names them."""
    if (WEB / "node_modules").is_dir():
        return WEB / "node_modules"
    for name in ("package.json", "package-lock.json"):
        shutil.copy(WEB / name, tmp_path / name)
    command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    if done.returncode:
        pytest.skip(f"npm could not install what the build takes: {done.stderr.strip().splitlines()[-1:]}")
    return tmp_path / "node_modules"


@pytest.mark.skipif(not (shutil.which("node") and shutil.which("npm")), reason="there is no Node.js with npm")
@pytest.mark.skipif(not WEB.is_dir(), reason="the sources of the page are not here")
def test_what_is_committed_is_what_the_sources_give(tmp_path):
    copy = tmp_path / "web"
    shutil.copytree(WEB, copy, ignore=shutil.ignore_patterns("node_modules"))
    (copy / "node_modules").symlink_to(modules(tmp_path))
    command = ["node", "build.mjs", str(tmp_path / "built")]
    subprocess.run(command, cwd=copy, check=True, timeout=100)
    found = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "built").iterdir()}
    assert found == {name: built(name) for name in ("LICENSES.txt", "page.css", "page.js")}
