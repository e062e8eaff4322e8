"""The house: seven floors of packages, each file a subject, and a page that says where things are."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import flowtrace

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "flowtrace"
FILES = sorted(PACKAGE.rglob("*.py"))
PACKAGES = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
TOP_MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")
PAGE = ROOT / "docs/pages/why/architecture.md"
DRAWING = ROOT / "docs/call.svg"

MOST_LINES = 450
LONGER: dict[str, str] = {}
"""Files that may be longer than that, with the reason."""

NOT_A_MODULE = {"flowtrace.cli.autostart.sitecustomize"}
"""What an interpreter loads by itself from the folder that `flowtrace run` puts on its path."""

WITH_CODE = {"flowtrace/__init__.py", "flowtrace/cli/__init__.py"}
"""The public names, and the entry point of the command, which has to run where the extra is not installed."""

LOOK = """
import atexit, os, sys, threading

def look():
    hooks = [sys.excepthook, sys.unraisablehook, sys.displayhook, threading.excepthook]
    hooks += [sys.gettrace(), sys.getprofile(), *sys.meta_path, *sys.path_hooks, threading.Thread.start, os.fork]
    return [*map(repr, hooks), repr(dict(os.environ)), threading.active_count()]
"""


def name_of(path):
    return str(path.relative_to(ROOT))


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def contracts():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return settings["tool"]["importlinter"]["contracts"]


def walked():
    found = pkgutil.walk_packages(flowtrace.__path__, "flowtrace.")
    return ["flowtrace", *(item.name for item in found)]


# --- the floors


def test_the_contract_names_exactly_the_packages_and_modules_that_are_there():
    (layers,) = (item["layers"] for item in contracts() if item["type"] == "layers")
    named = [name for layer in layers for name in re.split(r" [|:] ", layer)]
    assert sorted(named) == sorted([*PACKAGES, *TOP_MODULES])


def test_seven_floors_hold_packages():
    (layers,) = (item["layers"] for item in contracts() if item["type"] == "layers")
    floors = [layer for layer in layers if set(re.split(r" [|:] ", layer)) & set(PACKAGES)]
    assert len(floors) == 7


def test_each_dependency_has_a_door():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = settings["optional-dependencies"].values()
    wanted = {*settings["dependencies"], *(item for extra in extras for item in extra)} - {"flowtrace[cli]"}
    held = [name for item in contracts() if item["type"] == "forbidden" for name in item["forbidden_modules"]]
    assert sorted(held) == sorted(re.match(r"\w+", item)[0] for item in wanted)


def test_no_package_and_no_module_hides_a_public_name():
    assert set(flowtrace.__all__).isdisjoint([*PACKAGES, *TOP_MODULES])


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_says_what_it_is_in_one_sentence_and_holds_nothing_else(package):
    path = PACKAGE / package / "__init__.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    first = (ast.get_docstring(tree) or "").partition("\n\n")[0]
    assert first.endswith(".")
    assert name_of(path) in WITH_CODE or len(tree.body) == 1


# --- the files


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_a_file_is_short_enough_to_be_read_as_one_subject(file):
    lines = len(file.read_text(encoding="utf-8").splitlines())
    assert lines <= MOST_LINES or name_of(file) in LONGER


def test_the_exceptions_are_needed():
    assert [name for name in LONGER if len((ROOT / name).read_text().splitlines()) <= MOST_LINES] == []


def test_a_walk_over_the_packages_finds_every_file():
    compiled = {"flowtrace.calls._native"}  # where there was a compiler
    assert sorted(set(walked()) - compiled) == sorted({module_of(file) for file in FILES} - NOT_A_MODULE)


@pytest.mark.costly
def test_importing_every_module_changes_nothing_in_the_process():
    program = f"""
import importlib
{LOOK}
import click, msgspec, orjson, rich.console, structlog, wrapt  # what they change is not our doing
before = look()
for name in {walked()!r}:
    if name != "flowtrace.__main__":
        importlib.import_module(name)
assert look() == before
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# --- process-global state

SHARED = {"ContextVar", "Lock", "RLock", "WeakKeyDictionary", "WeakValueDictionary", "defaultdict", "deque", "local"}


CHANGES = {"add", "append", "clear", "discard", "extend", "insert", "pop", "popitem", "remove", "setdefault", "update"}


def changed_names(tree):
    """Return the names whose containers some function of a module changes."""
    changed = set()
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method)) if method in CHANGES:
                changed.add(name)
            case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store() | ast.Del()):
                changed.add(name)
            case _:
                pass
    return changed


def shared_names(tree):
    """Yield the undocumented names of a module that are made to change: containers, locks, context variables."""
    changed = changed_names(tree)
    for node, after in zip(tree.body, [*tree.body[1:], None], strict=True):
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
        match node.value:
            case ast.List(elts=[]) | ast.Dict(keys=[]):
                pass
            case ast.List() | ast.Dict() | ast.Set() if target.id in changed:
                pass
            case ast.Call(func=ast.Name(id="set" | "dict" | "list"), args=[]):
                pass
            case ast.Call(func=ast.Name(id=name)) if name in SHARED:
                pass
            case _:
                continue
        match after:
            case ast.Expr(value=ast.Constant(value=str(text))) if text.startswith("Process-global: "):
                pass
            case _:
                yield target.id


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_a_module_says_openly_what_it_shares(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert list(shared_names(tree)) == []
    assert [node.names for node in ast.walk(tree) if isinstance(node, ast.Global)] == []


# --- the page


def test_the_page_fits_on_two_screens():
    assert len(PAGE.read_text(encoding="utf-8").splitlines()) <= 135


def test_the_page_has_every_package_with_its_sentence_and_doors():
    text = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| \d \| `(\w+)` \| \S.*\. \| (.*) \|$", text, re.MULTILINE)
    assert sorted(package for package, _ in rows) == PACKAGES
    doors = [f"flowtrace.{package}.{door}" for package, line in rows for door in re.findall(r"`(\w+)`", line)]
    assert len(doors) > 10
    assert [door for door in doors if door not in walked()] == []


def test_every_file_that_the_page_names_is_there():
    text = PAGE.read_text(encoding="utf-8")
    named = re.findall(r"`((?:\w+/)+\w+\.(?:py|toml|md|jsonl?))`", text)
    assert len(named) > 15
    assert [path for path in named if not ((PACKAGE / path).exists() or (ROOT / path).exists())] == []


def test_every_module_in_the_drawing_is_there():
    named = re.findall(r"\b([a-z]+\.[a-z_]+)\b(?=[^<>]*</(?:text|tspan)>)", DRAWING.read_text(encoding="utf-8"))
    modules = [name for name in named if name.partition(".")[0] in PACKAGES and name != "trace.json"]
    assert len(modules) > 7
    assert [name for name in modules if f"flowtrace.{name}" not in walked()] == []


def test_every_state_class_that_the_page_names_is_there():
    table = PAGE.read_text(encoding="utf-8").partition("\n## State\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)/(\w+)\.py` \| `(\w+)` \|", table, re.MULTILINE)
    assert len(rows) > 5
    for package, module, name in rows:
        assert hasattr(importlib.import_module(f"flowtrace.{package}.{module}"), name), (package, module, name)


def test_the_glossary_has_at_most_fifteen_words():
    glossary = (ROOT / "docs/pages/reference/glossary.md").read_text(encoding="utf-8")
    assert 5 < len(re.findall(r"^\| \*\*", glossary, re.MULTILINE)) <= 15
