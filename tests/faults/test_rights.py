"""Folders and files that belong to somebody else."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.faults.scenario import NOBODY, ROOT, survive

pytestmark = pytest.mark.disk

# The program becomes nobody for good; what root has to do in between, a helper does that was started before.
PREPARE = f"""
    helper = subprocess.Popen(["/bin/sh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def as_root(command):
        print(command + "; echo done", file=helper.stdin, flush=True)
        assert helper.stdout.readline() == "done\\n"

    import structlog.dev
    chance("nobody may not read the modules that this loads")
    out.unlink()
    os.chown(out.parent, {NOBODY}, {NOBODY})
    os.setgroups([])
    os.setgid({NOBODY})
    os.setuid({NOBODY})
"""


@pytest.fixture
def open_folder():
    """A folder that everybody can come to; pytest's own are closed, and every session of it closes them again."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.costly
@ROOT
@pytest.mark.parametrize(
    ("begin", "end", "reason"),
    [
        ("chmod 555 out", "chmod 755 out", "Permission denied"),
        ("chown root out && chmod 755 out", "chown nobody out", "Permission denied"),
        ("chown root out && chmod 700 out", "chown nobody out", "Permission denied"),
        ("chown root out out/* && chmod 1777 out; chmod 644 out/*", "chown nobody out/*", "Operation not permitted"),
    ],
    ids=["no right to write", "another user's folder", "another user's private folder", "another user's file"],
)
def test_a_folder_without_rights(begin, end, reason, open_folder):
    begin, end = f"as_root({begin!r})", f"as_root({end!r}); helper.communicate()"
    survive(open_folder, begin, end, reason=reason, prepare=PREPARE)


@pytest.mark.costly
@ROOT
def test_a_folder_that_may_not_be_made(open_folder):
    begin = "import shutil; shutil.rmtree(out.parent, ignore_errors=True); as_root('rm -rf out')"
    end = "as_root('mkdir out && chown nobody out'); helper.communicate()"
    survive(open_folder, begin, end, reason="Permission denied", prepare=PREPARE, keeps=False)
