"""The words of the house: names, docstrings, comments, messages and pages use plain ones.

A word stands here because it once meant something that only this project knew. `docs/pages/reference/glossary.md` has
those that are left. To see every finding with its line: `python -P tests/test_vocabulary.py`.
"""

from __future__ import annotations

import ast
import io
import itertools
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = [module for folder in ("flowtrace", "docs", "bench") for module in sorted((ROOT / folder).rglob("*.py"))]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs/pages").rglob("*.md")), ROOT / "bench/README.md"]

# A name of ours may not have one of these parts: `light_value`, `isKnown` and `place` are findings, `replace` is none.
IN_NAMES = {
    "seal": "encode",
    "sealed": "encoded",
    "seals": "encodes",
    "sealing": "encoding",
    "light": "small",
    "harmless": "not_secret",
    "told": "written, listed, reported",
    "tell": "say, is_...",
    "tells": "says, is_...",
    "way": "the plain term that fits",
    "ways": "the plain term that fits",
    "known": "the plain term that fits",
    "word": "the plain term that fits",
    "words": "the plain term that fits",
    "place": "location, pointer, path",
    "places": "locations, pointers, paths",
    "stage": "phase",
    "stages": "phases",
    "territory": "allowed folder",
    "arm": "member (of a union)",
    "arms": "members (of a union)",
    "force": "current, active",
    "whole": "complete",
    "wholes": "complete",
    "apart": "split",
    "nobody": "the subject, by its name",
    "whoever": "the subject, by its name",
}
# Two parts of a name that are only a finding together.
PAIRS_IN_NAMES = {
    ("final", "form"): "canonical form",
    ("final", "input"): "canonical_input",
    ("final", "output"): "canonical_output",
    ("final", "state"): "canonical_state",
}
IN_PROSE = {
    r"\b(?:un)?seal(?:s|ed|ing)?\b": "encode",
    r"\bfinal forms?\b": "canonical form",
    r"\blight(?:er|est)?\b(?! and dark)(?! or dark)": "small",
    r"\bharmless\b": "not secret",
    r"\btold\b": "written, listed, reported",
    r"\btells?(?: \w+)? whether\b": "return True if, say whether",
    r"\bterritor(?:y|ies)\b": "allowed folder",
    r"\bin force\b": "current, active",
    r"\bnobody\b": "the subject, by its name",
    r"\bwhoever\b": "the subject, by its name",
    r"\bwhat was so before\b": "the previous one",
    r"\bwithout a call\b": "inlined from",
    r"\bthe whole of\b": "all of, the whole",
    r"\bwholly\b": "fully",
    r"\bdoes not begin as\b": "has no header of",
    r"\bis to run\?": "name a program to run",
    r"\bmakes its receiver\b": "name the object that has the method",
    r"\bmany files few\b": "how many files are kept",
    r"\bhides too\b": "hides as well",
    r"\barms? of (?:a|an|the) union\b": "member",
}
DOCSTRING_STARTS = {r"What\b": "a noun or a verb phrase", r"Tells?\b": "Return True if, Return, Say"}

# Where a listed word is the right one: (path, word) and the reason.
EXCEPTIONS: dict[tuple[str, str], str] = {}


class Finding(NamedTuple):
    """A word of the list, with where it stands and what to say instead."""

    path: str
    line: int
    word: str
    instead: str
    where: str

    def __str__(self) -> str:
        """Show the finding on one line."""
        return f"{self.path}:{self.line}: {self.word}  [{self.where}: {self.instead}]"


def parts_of(name: str) -> list[str]:
    """Split a name at underscores and at capitals."""
    return [part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]


def names_in(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield each name that a module gives to something, with its line."""
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield line, name
            case ast.arg(arg=name) | ast.alias(asname=str(name)) | ast.ExceptHandler(name=str(name)):
                yield line, name
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield line, name
            case _:
                pass


def findings_in_names(path: str, names: Iterator[tuple[int, str]]) -> Iterator[Finding]:
    """Yield each listed part of a name."""
    for line, name in names:
        parts = parts_of(name)
        for part in parts:
            if part in IN_NAMES:
                yield Finding(path, line, part, IN_NAMES[part], f"name {name}")
        for pair in itertools.pairwise(parts):
            if pair in PAIRS_IN_NAMES:
                yield Finding(path, line, "_".join(pair), PAIRS_IN_NAMES[pair], f"name {name}")


def findings_in_text(path: str, line: int, text: str, where: str) -> Iterator[Finding]:
    """Yield each listed word of a text that begins on a line."""
    for pattern, instead in IN_PROSE.items():
        # A phrase may go on in the next line.
        for found in re.finditer(pattern.replace(" ", r"[\s#]+"), text, re.IGNORECASE):
            word = " ".join(found[0].replace("#", " ").split()).lower()
            yield Finding(path, line + text.count("\n", 0, found.start()), word, instead, where)


def docstrings_of(tree: ast.AST) -> Iterator[ast.Constant]:
    """Yield the docstrings of a module, its classes and its functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            match node.body:
                case [ast.Expr(value=ast.Constant(value=str()) as text), *_]:
                    yield text
                case _:
                    pass


def comments_in(source: str) -> Iterator[tuple[int, str]]:
    """Yield the comments of a module; those on lines that follow each other as one text."""
    block: list[str] = []
    first = last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            if block and token.start[0] != last + 1:
                yield first, "\n".join(block)
                block = []
            first = first if block else token.start[0]
            last = token.start[0]
            block.append(token.string)
    if block:
        yield first, "\n".join(block)


def findings_in_module(module: Path) -> Iterator[Finding]:
    """Yield the findings in names, docstrings, comments and strings of a module."""
    path = str(module.relative_to(ROOT))
    source = module.read_text(encoding="utf-8")
    tree = ast.parse(source)
    yield from findings_in_names(path, iter([(1, part) for part in module.relative_to(ROOT).with_suffix("").parts]))
    yield from findings_in_names(path, names_in(tree))
    docstrings = list(docstrings_of(tree))
    for text in docstrings:
        yield from findings_in_text(path, text.lineno, text.value, "docstring")
        for start, instead in DOCSTRING_STARTS.items():
            if found := re.match(start, text.value):
                yield Finding(path, text.lineno, found[0], instead, "start of a docstring")
    for line, comment in comments_in(source):
        yield from findings_in_text(path, line, comment, "comment")
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings:
            yield from findings_in_text(path, node.lineno, node.value, "string")


def findings_in_page(page: Path) -> Iterator[Finding]:
    """Yield the findings in the prose of a page: its code is somebody's program or the output of one of ours."""
    path = str(page.relative_to(ROOT))
    text = page.read_text(encoding="utf-8")
    blank = re.compile(r"^( *)(```|~~~).*?^\1\2$|`[^`\n]+`|\]\([^)]+\)|<!--.*?-->|<\w[^>]*>", re.MULTILINE | re.DOTALL)
    text = blank.sub(lambda found: "\n" * found[0].count("\n") or "`", text)
    yield from findings_in_text(path, 1, text, "page")


def findings() -> list[Finding]:
    """Return every finding, but for the exceptions."""
    found = [
        *(item for module in MODULES for item in findings_in_module(module)),
        *(item for page in PAGES for item in findings_in_page(page)),
    ]
    return [item for item in found if (item.path, item.word) not in EXCEPTIONS]


@pytest.mark.parametrize("file", [*MODULES, *PAGES], ids=lambda file: str(file.relative_to(ROOT)))
def test_a_file_has_only_plain_words(file: Path) -> None:
    found = findings_in_module(file) if file.suffix == ".py" else findings_in_page(file)
    assert [str(item) for item in found if (item.path, item.word) not in EXCEPTIONS] == []


def test_each_exception_is_needed_and_has_a_reason() -> None:
    found = {
        (item.path, item.word)
        for file in {path for path, _ in EXCEPTIONS}
        for item in (findings_in_module if file.endswith(".py") else findings_in_page)(ROOT / file)
    }
    assert [key for key, reason in EXCEPTIONS.items() if key not in found or not reason] == []


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def light_value(known=1): ...", ["light", "known"]),
        ("class WholeWord: ...", ["whole", "word"]),
        ("replace = unknown = keyword = lightning = away = 1", []),
        ("import math as final_form", ["final_form"]),
        ("self.final_output = 1", ["final_output"]),
        ('"""What it is."""', ["What"]),
        ('"""Tell whether."""', ["tell whether", "Tell"]),
        ("x = 1  # it is told\n# that the whole\n# of it is sealed", ["sealed", "told", "the whole of"]),
        ('print(f"{x} is in force")', ["in force"]),
    ],
)
def test_a_word_of_the_list_is_found(source: str, words: list[str], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    module = tmp_path / "example.py"
    module.write_text(source, encoding="utf-8")
    assert sorted(item.word for item in findings_in_module(module)) == sorted(words)


def test_the_code_on_a_page_is_no_finding(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("`told` is\n\n```python\nharmless\n```\n\nin\nforce\n", encoding="utf-8")
    assert [(item.line, item.word) for item in findings_in_page(page)] == [(7, "in force")]


if __name__ == "__main__":
    every = findings()
    print(*every, sep="\n")
    print("\n--- by file")
    for file, count in Counter(item.path for item in every).most_common():
        print(f"{count:5} {file}")
    print(f"{len(every):5} in all")
