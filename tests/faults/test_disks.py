"""Disks that are full, can't be written, or are not there any more."""

from __future__ import annotations

import pytest

from tests.faults.scenario import ROOT, mounted, survive

pytestmark = pytest.mark.disk

FILL = """
    filler = out.parent / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 1000)
        except OSError as error:
            assert error.strerror == "No space left on device"
"""
SMALL = ("-t", "tmpfs", "-o", "size=256k", "tmpfs")


@ROOT
def test_a_full_disk(tmp_path):
    with mounted(tmp_path / "disk", *SMALL) as disk:
        survive(tmp_path, FILL, "filler.unlink()", reason="No space left on device", out=disk / "trace.json")


@pytest.mark.costly
@ROOT
def test_a_disk_that_fills_up_in_the_middle_of_a_file(tmp_path):
    almost = FILL + "    os.truncate(filler, filler.stat().st_size - 8192)"
    with mounted(tmp_path / "disk", *SMALL) as disk:
        survive(tmp_path, almost, "filler.unlink()", reason="No space left on device", out=disk / "trace.json")


@pytest.mark.costly
@ROOT
def test_a_disk_without_free_inodes(tmp_path):
    fill = """
        made = []
        try:
            while True:
                made.append(out.parent.parent / f"{len(made)}")
                made[-1].touch()
        except OSError:
            made.pop()
    """
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=256k,nr_inodes=20", "tmpfs") as disk:
        end = "for path in made: path.unlink()"
        survive(tmp_path, fill, end, reason="No space left on device", out=disk / "in/trace.json")


@pytest.mark.costly
@ROOT
@pytest.mark.parametrize("what", ["a whole file system", "a folder"])
def test_a_disk_that_becomes_read_only(what, tmp_path):
    bind = what == "a folder"
    (tmp_path / "real").mkdir()
    with mounted(tmp_path / "disk", *(("--bind", tmp_path / "real") if bind else SMALL)) as disk:
        remount = f"subprocess.run(['mount', '-o', 'remount,{'bind,' if bind else ''}%s', {str(disk)!r}], check=True)"
        survive(tmp_path, remount % "ro", remount % "rw", reason="Read-only file system", out=disk / "trace.json")


@pytest.mark.costly
def test_the_device_that_is_always_full(tmp_path):
    link = "out.unlink(); out.symlink_to('/dev/full')"
    end = "assert os.path.samefile(out, '/dev/full'); out.unlink()"
    survive(tmp_path, link, end, reason="is not a regular file", keeps=False)
