"""What a stranger finds at the root: one version everywhere, and files that their readers can read."""

from __future__ import annotations

import json
import re
import runpy
import tomllib
from pathlib import Path

import setuptools

ROOT = Path(__file__).resolve().parent.parent


def version():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


def test_the_changelog_and_the_citation_have_the_version_of_the_package():
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d{2}-\d{2})$", changes, re.MULTILINE)
    citation = dict(re.findall(r"^([\w-]+): (.+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE))
    assert released[0] == (version(), citation["date-released"])
    assert citation["version"] == version()
    assert changes.index("## [Unreleased]") < changes.index(f"## [{version()}]")


def test_the_container_for_editors_is_json_with_a_python_that_is_supported():
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8"))
    assert re.search(r"python:3\.1[1-5]-", container["image"])


def test_the_files_that_the_list_of_first_changes_names_are_there():
    text = (
        (ROOT / "CONTRIBUTING.md")
        .read_text(encoding="utf-8")
        .partition("## Good first changes\n")[2]
        .partition("\n## ")[0]
    )
    named = re.findall(r"`((?:flowtrace|tests|docs)/[\w./-]+)`", text)
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_on_pypi_every_link_and_the_picture_of_the_readme_are_absolute(monkeypatch):
    given = {}
    monkeypatch.setattr(setuptools, "setup", given.update)
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("FLOWTRACE_BUILD_PURE", "1")
    runpy.run_path("setup.py")
    assert given["long_description"] == (ROOT / "README.md").read_text(encoding="utf-8")
    monkeypatch.setenv("FLOWTRACE_BUILD_HOME", "https://example.org/o/n/blob/v1")
    runpy.run_path("setup.py")
    links = re.findall(r'\]\(([^)]+)\)|(?:src|srcset)="([^"]+)"', given["long_description"])
    assert sorted(page or picture for page, picture in links) == [
        *(
            f"https://example.org/o/n/blob/v1/docs/pages/{page}.md"
            for page in ("evidence/benchmark", "evidence/conformance")
        ),
        *(f"https://example.org/o/n/blob/v1/docs/pages/{page}.md" for page in ("evidence/promises", "index")),
        *(f"https://example.org/o/n/raw/v1/docs/pages/start/failure-{theme}.png" for theme in ("dark", "light")),
    ]
