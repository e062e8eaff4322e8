"""The short form of `make kill-loop`, and that it can fail."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.durable import kill_loop


@pytest.mark.slow
def test_twenty_kills_leave_whole_files_only(tmp_path):
    done = subprocess.run(
        [sys.executable, kill_loop.__file__, "--rounds", "20", "--seed", "6"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(" files found whole and valid") == len(kill_loop.WAYS)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("trace.json", '{"trace_version": 1', "JSON"),
        ("trace.json.tmp", "{}", "a file of another name"),
        ("trace.payloads/" + "0" * 64 + ".json", "{}", "a torn payload"),
    ],
)
def test_a_torn_file_or_one_too_many_is_seen(name, content, complaint, tmp_path):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    with pytest.raises(Exception, match=complaint):
        kill_loop.check(tmp_path, kill_loop.WAYS[0])
