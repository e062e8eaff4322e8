"""The documentation is right: its code runs, its tables are what the code says, and its reference is complete."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import os
import re
import subprocess
import sys
import textwrap
import typing
from pathlib import Path

import pytest

import flowtrace
from flowtrace import testing
from flowtrace.settings import variables
from flowtrace.trace import model

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted((DOCS / "pages").rglob("*.md"))]
API = DOCS / "pages/reference/api.md"
SHOWN_MEMBERS = {
    name: members.split(", ") if members else []
    for name, members in re.findall(
        r"^::: flowtrace\.([\w.]+)\n    options:\n      members: \[(.*)\]$",
        API.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
}
TESTING = ("Recording", "Steps", "Watch", "fixed_clock", "pristine", "rebuild", "recorded", "recording", "watching")


def run(script, *arguments, **options):
    command = [sys.executable, "-W", "error", str(script), *map(str, arguments)]
    options = {
        "env": dict(os.environ),
        "timeout": 200,
    } | options  # readline, which pytest loads, puts COLUMNS in C's alone
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", **options)


def records():
    found = [item for item in vars(model).values() if isinstance(item, type) and issubclass(item, model.Record)]
    return sorted({item.__name__ for item in found})


def public_functions():
    """Every public function, and every public method of a public class, by its name in the reference."""
    for name in sorted({*flowtrace.__all__} - {"__version__"}):
        yield from functions_of(name, getattr(flowtrace, name))
    for name in TESTING:
        yield from functions_of(f"testing.{name}", getattr(testing, name))


def functions_of(name, item):
    if not isinstance(item, type):
        yield name, inspect.unwrap(item)
        return
    shown = SHOWN_MEMBERS.get(name)
    for member_name, member in vars(item).items():
        if shown is not None and member_name not in shown:
            continue
        function = getattr(member, "__func__", getattr(member, "fget", member))
        if not member_name.startswith("_") and inspect.isfunction(function):
            yield f"{name}.{member_name}", function


FUNCTIONS = dict(public_functions())


def name_of(page):
    return str(page.relative_to(ROOT))


# --- what runs


def needed_by(page):
    """Return the packages that a page says it needs, beside flowtrace and what its tests have."""
    found = re.search(r"^<!-- needs: (.*) -->$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1].split() if found else []


def page_case(page):
    marks = [pytest.mark.frameworks] if needed_by(page) else []
    return pytest.param(page, id=name_of(page), marks=marks)


@pytest.mark.costly
@pytest.mark.parametrize("page", [page_case(page) for page in PAGES])
def test_the_code_of_a_page_runs_and_prints_what_the_page_shows(page):
    missing = [name for name in needed_by(page) if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed: make test-frameworks")
    # a page about the pytest plugin runs pytest, which loads no plugin by itself in these tests
    environment = os.environ | {"PYTEST_ADDOPTS": "-p flowtrace_pytest"}
    done = run(DOCS / "run_page.py", page, env=environment, timeout=280 if needed_by(page) else 200)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("page", "complaint"),
    [
        ("```python\nprint(1)\n```\n", "line 2: the page shows\n\nbut this was printed\n1\n"),
        ('```python\nprint(1)\n```\n\n```text title="Output"\n2\n```\n', "line 2: the page shows\n2\n"),
        ("```python\n1 / 0\n```\n", "ZeroDivisionError"),
        ("```python\nimport this_is_nowhere\n```\n", "ModuleNotFoundError"),
        ("```console\n$ echo one\ntwo\n```\n", "line 2: the page shows\ntwo\n"),
        ("- item\n\n    ```python\n    1 / 0\n    ```\n", "line 3: a fence starts its line"),
        ("```{.python}\n1 / 0\n```\n", "line 1: a fence starts its line"),
        ("```python\n1\n", "line 2: the block has no end"),
    ],
)
def test_a_page_that_shows_something_else_than_what_happens_is_found(tmp_path, page, complaint):
    (tmp_path / "page.md").write_text(page, encoding="utf-8")
    done = run(DOCS / "run_page.py", "page.md")
    assert done.returncode == 1
    assert complaint in done.stderr


def test_a_page_that_shows_what_happens_is_run_in_one_piece(tmp_path):
    page = """
```python
x = 1
```

```python title="other.py"
y = 2
```

```python
import other
print(x, other.y, "and more")
```

```text title="Output"
1 2 ...
```

```console
$ python other.py
$ echo a; echo b
a
...
```

```json
not run
```
"""
    (tmp_path / "page.md").write_text(page, encoding="utf-8")
    done = run(DOCS / "run_page.py", "page.md")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# --- what is generated


def test_every_generated_part_is_what_the_code_says():
    done = run(DOCS / "generate.py", "--check")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slow
def test_the_check_does_not_depend_on_the_environment():
    noise = {"FLOWTRACE_MODE": "always", "FLOWTRACE_BUFFER_SIZE": "1", "GIT_SHA": "abc", "CI": "1", "TZ": "Asia/Tokyo"}
    done = run(DOCS / "generate.py", "--check", env=os.environ | noise)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.costly
def test_a_stale_part_is_named_and_mended(tmp_path):
    (tmp_path / "docs").mkdir()
    for name in ("generate.py", "canonical_examples.py", "figures.py", "messages.py"):
        (tmp_path / "docs" / name).write_text((DOCS / name).read_text(encoding="utf-8"), encoding="utf-8")
    page = tmp_path / "docs/pages/reference/environment.md"
    page.parent.mkdir(parents=True)
    fresh = (DOCS / "pages/reference/environment.md").read_text(encoding="utf-8")
    page.write_text(fresh.replace("| `FLOWTRACE_OUT` |", "| `FLOWTRACE_FILE` |"), encoding="utf-8")
    done = run(tmp_path / "docs/generate.py", "--check")
    assert done.returncode == 1
    assert [line.partition(" is not")[0] for line in done.stderr.splitlines()] == [
        "docs/pages/reference/environment.md",
        "docs/pages/reference/trace-v1.schema.json",
    ]
    assert run(tmp_path / "docs/generate.py").returncode == 0
    assert page.read_text(encoding="utf-8") == fresh
    assert run(tmp_path / "docs/generate.py", "--check").returncode == 0


@pytest.mark.costly
def test_the_environment_page_has_every_variable_with_its_default():
    text = (DOCS / "pages/reference/environment.md").read_text(encoding="utf-8")
    rows = [re.split(r" *(?<!\\)\| *", line) for line in text.splitlines() if line.startswith("| `")]
    assert [row[1] for row in rows] == [f"`{item.name}`" for item in variables.VARIABLES]
    assert [row[4] for row in rows] == [item.default for item in variables.VARIABLES]


def test_no_variable_is_named_anywhere_that_does_not_exist():
    known = {item.name for item in variables.VARIABLES} | {"FLOWTRACE_OUTPUT"}  # the mistake that a page shows
    for page in [*PAGES, *(ROOT / "examples").rglob("*.py")]:
        named = set(re.findall(r"\bFLOWTRACE_[A-Z_]*[A-Z]\b", page.read_text(encoding="utf-8")))
        assert named <= known, page


def test_the_tables_of_the_file_format_have_every_field_of_every_record():
    text = (DOCS / "pages/reference/file-format.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^### (\w+)\n(.*?)(?=^### |^<!-- end)", text, re.MULTILINE | re.DOTALL))
    assert sorted([*sections, "Record"]) == records()
    for name, section in sections.items():
        fields = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
        known = list(inspect.signature(getattr(model, name)).parameters)
        assert sorted([*fields, "extra"]) == sorted(known)


# --- what is complete


def test_the_reference_documents_every_public_name_and_no_other():
    text = API.read_text(encoding="utf-8")
    named = re.findall(r"^::: flowtrace\.([\w.]+)$", text, re.MULTILINE)
    assert len(named) == len(set(named))
    public = set(flowtrace.__all__)
    of_model = {f"trace.model.{name}" for name in records() if name not in public}
    of_diff = {f"comparing.result.{name}" for name in ("Aspect", "CodeChange", "Doubt", "Group", "Timing")}
    of_testing = {f"testing.{name}" for name in TESTING}
    of_integrations = {"integrations.logging.StepFilter", "integrations.structlog.add_step"}
    others = of_integrations | {"comparing.json_changes.Change"}
    assert set(named) == public | of_model | of_diff | of_testing | others


def test_the_reference_shows_only_members_that_exist():
    of_testing = ["testing.Recording", "testing.Steps", "testing.Watch"]
    assert sorted(SHOWN_MEMBERS) == ["FanOutObserver", "TraceRecorder", *of_testing]
    for name, members in SHOWN_MEMBERS.items():
        owner = getattr(testing, name.removeprefix("testing.")) if "." in name else getattr(flowtrace, name)
        assert [member for member in members if not hasattr(owner, member)] == []


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_docstring_of_a_public_function_tells_what_goes_in_and_comes_out(name):
    function = FUNCTIONS[name]
    text = inspect.getdoc(function) or ""
    sections = dict(re.findall(r"^(Args|Returns|Yields|Raises):\n((?:    .*\n?|\n)+)", text + "\n", re.MULTILINE))
    signature = inspect.signature(function)
    receivers = ("self", "cls") if "." in name.removeprefix("testing.") else ()
    parameters = {
        f"{'*' * (item.kind is item.VAR_POSITIONAL)}{'**' * (item.kind is item.VAR_KEYWORD)}{item.name}"
        for item in signature.parameters.values()
        if item.name not in receivers
    }
    described = set(re.findall(r"^    ([*\w]+): ", sections.get("Args", ""), re.MULTILINE))
    assert text
    assert described == parameters
    returns = signature.return_annotation not in ("None", "Generator[None]", inspect.Signature.empty)
    answers = "Returns" in sections or "Yields" in sections or re.match(r"(Return|Tell)\b", text) is not None
    assert answers or not returns or is_property(name)
    assert returns or "Returns" not in sections
    raised = raised_by(function)
    assert raised <= set(re.findall(r"^    (\w+): ", sections.get("Raises", ""), re.MULTILINE))


def is_property(name):
    owner_name, _, member = name.rpartition(".")
    owner = getattr(testing, owner_name.removeprefix("testing."), None) or getattr(flowtrace, owner_name, None)
    return isinstance(inspect.getattr_static(owner, member, None), property)


def raised_by(function):
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    calls = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)]
    return {call.func.id for call in calls if isinstance(call.func, ast.Name)}


@pytest.mark.parametrize("name", sorted({*flowtrace.__all__} - {"__version__"}))
def test_a_public_name_has_a_docstring_that_starts_with_a_sentence(name):
    item = getattr(flowtrace, name)
    assert item.__doc__
    assert item.__doc__.partition("\n")[0].rstrip().endswith((".", "?", "!"))


def attributes_of(item):
    return re.split(r"\n *\n", item.__doc__.partition("Attributes:")[2])[0]


def test_the_docstrings_of_settings_and_records_tell_of_every_field():
    for item in (flowtrace.TraceConfig, flowtrace.TraceContext, *(getattr(model, name) for name in records())):
        described = re.findall(r"^    (?:    )?(\w+): ", attributes_of(item), re.MULTILINE)
        own = [name for name in typing.get_type_hints(item) if name != "extra" or item is model.Record]
        assert described == [name for name in own if not name.startswith("_")], item


def test_every_page_is_in_the_navigation():
    text = (DOCS / "mkdocs.yml").read_text(encoding="utf-8")
    named = re.findall(r"(\S+\.md)$", text, re.MULTILINE)
    pages = [str(page.relative_to(DOCS / "pages")) for page in PAGES if page.name != "README.md"]
    assert sorted(named) == sorted(pages)


def test_every_link_of_the_readme_leads_to_a_file():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r'(?:\]\(|srcset="|src=")([^)"#:]+)', text)
    assert len(links) == 6
    assert len(text.splitlines()) <= 130
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.costly
def test_each_test_that_the_promises_name_is_there():
    page = (DOCS / "pages/evidence/promises.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", page)
    assert len(named) > 50
    missing = [f"{file}::{name}" for file, name in named if name not in _functions_in(file)]
    assert missing == []


def _functions_in(file):
    path = ROOT / "tests" / file
    if not path.is_file():
        return set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {item.name for item in ast.walk(tree) if isinstance(item, ast.FunctionDef)}


def test_a_warning_without_an_explanation_stops_the_build(tmp_path):
    for name in ("generate.py", "canonical_examples.py", "figures.py", "messages.py"):
        (tmp_path / "docs").mkdir(exist_ok=True)
        (tmp_path / "docs" / name).write_text((DOCS / name).read_text(encoding="utf-8"), encoding="utf-8")
    script = "import messages, pathlib; messages.PACKAGE = pathlib.Path('flowtrace'); messages.warnings()"
    (tmp_path / "flowtrace/host").mkdir(parents=True)
    (tmp_path / "flowtrace/host/log.py").write_text("", encoding="utf-8")
    (tmp_path / "flowtrace/new.py").write_text("log.warn('something new')\n", encoding="utf-8")
    (tmp_path / "docs/try.py").write_text(script, encoding="utf-8")
    done = run("docs/try.py", cwd=tmp_path)
    assert done.returncode == 1
    assert "has to explain, or no longer to explain: [" in done.stderr
    assert "'something new'" in done.stderr
