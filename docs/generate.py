"""Writes the parts of the documentation that come from the code: tables, the example trace, the JSON Schema.

    python docs/generate.py            # write them
    python docs/generate.py --check    # write nothing; fail where a page says something else than the code does

A page marks such a part with a pair of comments, `<!-- generated: NAME -->` and `<!-- end: NAME -->`.
"""

from __future__ import annotations

import ast
import importlib.util
import itertools
import json
import os
import re
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable
from inspect import cleandoc
from pathlib import Path
from textwrap import dedent
from typing import Any

# The documentation is the same on every machine: nothing in the environment may show in it.
for _name in [name for name in os.environ if name.startswith("FLOWTRACE_") or name in ("GIT_SHA", "GITHUB_SHA", "CI")]:
    del os.environ[_name]

import canonical_examples  # noqa: E402  # the modules below must see the cleaned environment
import click  # noqa: E402
import figures  # noqa: E402
import messages  # noqa: E402

import flowtrace  # noqa: E402
from flowtrace import testing  # noqa: E402
from flowtrace.cli.app import app  # noqa: E402
from flowtrace.settings.variables import VARIABLES  # noqa: E402
from flowtrace.trace import model  # noqa: E402
from flowtrace.values.redaction import FLAGS, FOLLOWERS, GROUPS, INSIDE, QUANTITIES  # noqa: E402
from flowtrace.values.secret_patterns import PATTERNS  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs" / "pages"
README = ROOT / "README.md"
SCHEMA = PAGES / "reference" / "trace-v1.schema.json"
HELP_WIDTH = 100
CORE = {
    "Trace": "trace_version runner_version git_sha pack flow steps",
    "Pack": "pack_ref resolved_digest",
    "Flow": "id version",
    "Step": "node_id component_id operation input_hash invocation_json invocation_path output_hash state_delta_hash "
    "duration_ms validation_issues error",
    "Hash": "algorithm value",
    "StepError": "code message details",
    "ValidationIssue": "code path message",
}
RECORDS = (
    *(model.Trace, model.Pack, model.Flow, model.Step, model.Hash, model.StepError),
    *(model.ValidationIssue, model.Cut, model.LogEntry, model.Run, model.Code, model.SourceLines),
)
SHOP = """\
from flowtrace import current_step, flow, traced_node

PRICES = {"tea": 3.5, "cake": None}


@traced_node(component="shop")
def price(item, count=1):
    return PRICES[item] * count


@traced_node(component="shop")
def total(basket, api_token):
    if not basket:
        current_step().add_validation_issue("empty", "/basket", "nothing to pay for")
    amount = 0
    for item, count in basket.items():
        amount += price(item, count)
    return amount


def main():
    with flow("checkout", version="2"):
        total({}, "tok-1")
        total({"tea": 2, "cake": 1}, "tok-2")
"""


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    names = list(head)
    lines = [names, ["---"] * len(names), *map(list, rows)]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)


def variables() -> str:
    """Return the table of environment variables."""
    rows = [
        (f"`{item.name}`", _in_code(item.setting), item.kind.accepts, item.default, item.meaning) for item in VARIABLES
    ]
    return table(("variable", "in code", "accepts", "default", "meaning"), rows)


def _in_code(setting: str) -> str:
    if setting in flowtrace.TraceConfig.__dataclass_fields__:
        return f"`TraceConfig.{setting}`"
    return f"`TraceContext.{setting}`" if setting in flowtrace.TraceContext.__dataclass_fields__ else "(none)"


def secret_names() -> str:
    """Return the table of names whose values are hidden."""
    rows = [
        (item.title + (", alone" if item.alone else ""), _codes(item.names), _codes(sorted(item.ordinary)))
        for item in GROUPS
    ]
    return table(("kind", "names", "ordinary behind"), rows)


def name_rules() -> str:
    """Return the lists of words that change what a name is."""
    rows = [
        ("also at the end of a longer word", INSIDE),
        ("also with one of these words behind it", sorted(FOLLOWERS)),
        ("ordinary: a plural behind one of these", sorted(QUANTITIES)),
        ("ordinary: a name that begins with one of these", sorted(FLAGS)),
    ]
    return table(("rule", "words"), [(rule, _codes(names)) for rule, names in rows])


def secret_patterns() -> str:
    """Return the table of what looks like a secret in a text without a name."""
    return "\n".join(f"- {item.what}" for item in PATTERNS)


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def fields() -> str:
    """Return a section for each record of the trace file, with a table of its fields."""
    definitions = flowtrace.json_schema()["$defs"]
    parts = []
    for record in RECORDS:
        definition = definitions[record.__name__]
        meanings = attributes(record)
        core = CORE.get(record.__name__, "").split()
        rows = []
        for name, schema in definition["properties"].items():
            presence = "always" if name in definition["required"] else "where it has a value"
            rows.append((f"`{name}`", _kind(schema), presence, "yes" if name in core else "", meanings[name]))
        summary = (record.__doc__ or "").partition("\n")[0]
        parts.append(f"### {record.__name__}\n\n{summary}\n")
        parts.append(table(("field", "type", "present", "core", "meaning"), rows) + "\n")
    return "\n".join(parts).rstrip()


def attributes(record: type) -> dict[str, str]:
    """Return what a class's docstring says of each attribute."""
    text = dedent((record.__doc__ or "").partition("Attributes:\n")[2])
    found = re.findall(r"^(\w+): (.*(?:\n[ ]+.*)*)", text, re.MULTILINE)
    return {name: re.sub(r"``|\s*\n\s*", lambda hit: "`" if hit[0] == "``" else " ", said) for name, said in found}


def _kind(schema: dict[str, Any]) -> str:
    """Return the type of a field as words, with a link to the record where it is one."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        kinds = [_kind(choice) for choice in schema["anyOf"] if choice != {"type": "null"}]
        return " or ".join(kinds) if len(kinds) < 4 else "any JSON"
    if "const" in schema:
        return str(schema["const"])
    if isinstance(schema.get("type"), list):
        return " or ".join(schema["type"])
    if schema.get("type") == "array" and schema.get("items"):
        return f"array of {_kind(schema['items'])}"
    return str(schema.get("type", "any JSON"))


def example_program() -> str:
    """Return the program that the example trace comes from."""
    return f"```python\n{SHOP}```"


def example() -> str:
    """Return the trace that the example program writes; clock, ids and machine are stand-ins."""
    with tempfile.TemporaryDirectory() as folder:
        script, out = Path(folder) / "shop.py", Path(folder) / "trace.json"
        script.write_text(SHOP, encoding="utf-8")
        spec = importlib.util.spec_from_file_location("shop", script)
        assert spec is not None
        assert spec.loader is not None
        shop = importlib.util.module_from_spec(spec)
        context = flowtrace.TraceContext("shop.py", "process")
        with testing.fixed_clock(), flowtrace.override(out_path=out, mode="on", capture_inputs=True, context=context):
            spec.loader.exec_module(shop)
            try:
                shop.main()
            except TypeError:
                pass
        document = json.loads(out.read_text(encoding="utf-8").replace(folder, "/srv/shop"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    document["runner_version"] = project["version"]  # what is installed may be older
    document["run"] |= {"pid": 4242, "host": "build-7", "python": "3.13.0"}
    return f"```json\n{json.dumps(document, indent=2, ensure_ascii=False)}\n```"


def forms(group: str) -> str | None:
    """Return a table of values beside their canonical bytes; None where a library for it is not installed."""
    rows = canonical_examples.rows(group)
    if rows is None:
        return None
    return table(("value", "canonical bytes"), ((f"`{source}`", f"`{shown}`") for source, shown in rows))


def _contracts() -> list[dict[str, Any]]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts: list[dict[str, Any]] = settings["tool"]["importlinter"]["contracts"]
    return contracts


def floors() -> str:
    """Return the list of packages, highest floor first, as the import contract and their docstrings have them."""
    floors = _floors()
    rows = []
    for number, names in zip(range(len(floors), 0, -1), floors, strict=True):
        for name in names:
            sentence, door = _purpose(name)
            rows.append((str(number), f"`{name}`", sentence, door))
    return table(("floor", "package", "its one sentence", "door: read first"), rows)


def _floors() -> list[list[str]]:
    """Return the packages of each floor, the highest floor first."""
    layers = next(item["layers"] for item in _contracts() if item["type"] == "layers")
    named = [re.split(r" [|:] ", layer) for layer in layers]
    return [names for layer in named if (names := [name for name in layer if _is_package(name)])]


def _is_package(name: str) -> bool:
    return (ROOT / "flowtrace" / name).is_dir()


def _purpose(package: str) -> tuple[str, str]:
    """Return the first sentence of a package's docstring, and its doors."""
    text = (ROOT / "flowtrace" / package / "__init__.py").read_text(encoding="utf-8")
    paragraphs = (ast.get_docstring(ast.parse(text)) or "").replace("``", "`").split("\n\n")
    doors = next(item for item in paragraphs if item.startswith("Door: "))
    return " ".join(paragraphs[0].split()), doors.removeprefix("Door: ").rstrip(".")


def doors() -> str:
    """Return a line with the dependencies, and the one module that imports each."""
    held = [item["ignore_imports"][0] for item in _contracts() if item["type"] == "forbidden"]
    pairs = [door.removeprefix("flowtrace.").replace(".*", "").split(" -> ") for door in held]
    return ", ".join(f"{dependency}: `{module}`" for module, dependency in pairs) + "."


GLOBAL = "Process-global: "


def state() -> str:
    """Return the table of the process-global state: classes and names whose docstring begins with that word."""
    rows = []
    for path in sorted((ROOT / "flowtrace").rglob("*.py")):
        for name, text in _documented(ast.parse(path.read_text(encoding="utf-8"))):
            paragraph = " ".join(text.partition("\n\n")[0].split()).replace("``", "`")
            if paragraph.startswith(GLOBAL):
                what = paragraph.removeprefix(GLOBAL).rstrip(".")
                rows.append((f"`{path.relative_to(ROOT / 'flowtrace')}`", f"`{name}`", what))
    order = [name for layer in reversed(_floors()) for name in layer]
    rows.sort(key=lambda row: order.index(row[0].strip("`").partition("/")[0]))
    return table(("file", "name", "what it holds"), rows)


def _documented(tree: ast.Module) -> Iterable[tuple[str, str]]:
    """Yield the classes and the names of a module that have a docstring."""
    for node, after in itertools.zip_longest(tree.body, tree.body[1:]):
        match node, after:
            case ast.ClassDef(name=name), _:
                yield name, ast.get_docstring(node) or ""
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, text
            case _:
                pass


def commands() -> str:
    """Return a section for each command, with the text of its --help."""
    frame = app.make_context("flowtrace", [], resilient_parsing=True, terminal_width=HELP_WIDTH)
    parts = [_help("flowtrace", frame)]
    for name in app.list_commands(frame):
        command = app.get_command(frame, name)
        assert command is not None
        parts.append(_help(f"flowtrace {name}", click.Context(command, frame, name)))
    return "\n\n".join(parts)


def _help(title: str, context: click.Context) -> str:
    return f"### {title}\n\n```text\n{context.get_help()}\n```"


def schema() -> str:
    """Return the JSON Schema as a file, with descriptions as Python 3.13 and later keep them: without indentation."""
    document = flowtrace.json_schema()
    for definition in document["$defs"].values():
        definition["description"] = cleandoc(definition["description"])
    return json.dumps(document, indent=2) + "\n"


SECTIONS: dict[str, Callable[[], str | None]] = {
    "variables": variables,
    "floors": floors,
    "doors": doors,
    "state": state,
    "secret names": secret_names,
    "secret name rules": name_rules,
    "secret patterns": secret_patterns,
    "fields": fields,
    "commands": commands,
    "promises": lambda: figures.promises(".."),
    "promises of the readme": lambda: figures.promises("docs/pages"),
    "cost": figures.cost,
    "warnings": messages.warnings,
    "errors": messages.errors,
    "others": figures.others,
    "example program": example_program,
    "example": example,
    **{f"forms {group}": lambda group=group: forms(group) for group in canonical_examples.GROUPS},  # type: ignore[misc]
}
_SECTION = re.compile(r"(<!-- generated: (?P<name>[^>]+) -->\n)(?P<body>.*?)(<!-- end: (?P=name) -->)", re.DOTALL)


def renewed(text: str) -> str:
    """Return a page with its generated parts as the code has them now."""

    def renew(found: re.Match[str]) -> str:
        body = SECTIONS[found["name"]]()
        return found[0] if body is None else f"{found[1]}\n{body}\n\n{found[4]}"

    return _SECTION.sub(renew, text)


def main(arguments: list[str]) -> int:
    """Write or check all generated parts."""
    check = arguments == ["--check"]
    if arguments and not check:
        print("usage: python docs/generate.py [--check]", file=sys.stderr)
        return 2
    sources = [path for path in (README, *sorted(PAGES.rglob("*.md"))) if path.exists()]
    wanted = {page: renewed(page.read_text(encoding="utf-8")) for page in sources}
    wanted[SCHEMA] = schema()
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        name = path.relative_to(ROOT)
        if check:
            print(f"{name} is not what the code says: run `python docs/generate.py`", file=sys.stderr)
        else:
            path.write_text(wanted[path], encoding="utf-8")
            print(f"wrote {name}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
