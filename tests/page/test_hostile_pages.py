"""Pages of files that no recorder wrote: refused, or shown without any effect."""

from __future__ import annotations

import unicodedata

import pytest

from tests.cli.commands import flowtrace
from tests.cli.test_hostile_files import HOSTILE, folder_with
from tests.page.pages import text_of

COMMANDS = {
    "one": ("bad.json",),
    "two": ("good.json", "bad.json"),
    "turned": ("bad.json", "good.json"),
    "folder": (".",),
}


@pytest.mark.costly
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_refused_or_shown_without_effect(text, command, tmp_path):
    work = folder_with(text, tmp_path)
    done = flowtrace("view", *command, "-o", "out.html", folder=work)
    assert done.returncode in (0, 2)
    assert "Traceback" not in done.stderr
    if done.returncode == 2:
        assert not (work / "out.html").exists()
        assert len(done.stderr.splitlines()) <= 4
        return
    page = (work / "out.html").read_text(encoding="utf-8")
    shown = text_of(page)
    assert len(page) < 600_000
    assert "secret" not in shown
    assert "root:" not in shown
    assert {character for character in shown if unicodedata.category(character) in ("Cc", "Cf")} <= {"\n"}
