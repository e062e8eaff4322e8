"""Runs the code blocks of one page in the current folder, and compares what they print with what the page shows.

    python docs/run_page.py PAGE

- ```python                  runs, with the names of the blocks before it
- ```python title="x.py"     is saved under that name; so is ```sh title="x.sh"
- ```text title="Output"     is what the block before it prints; a block without one prints nothing
- ```console                 its `$ ` lines run in a shell, and print what follows them

`...` in what a page shows stands for anything.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any, NamedTuple

_FENCE = re.compile(r'^(?P<indent> *)```(?P<language>\w+)?(?: title="(?P<title>[^"]*)")?$')
_ENVIRONMENT = dict(os.environ)  # a Python block that changes the environment changes it for itself alone
_NOT_RUN = ("pip ", "make ", "git ")


class Block(NamedTuple):
    """A fenced block: its language and title, the number of its first line, and its text."""

    language: str
    title: str
    line: int
    text: str


class Mismatch(Exception):  # noqa: N818  # not an error of the program
    """A page shows something else than what happens."""


def blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a page.

    Raises:
        Mismatch: a fence is written in a way that would keep its block from being run.
    """
    found: list[Block] = []
    opened: tuple[str, str, int] | None = None
    content: list[str] = []
    for number, line in enumerate(page.splitlines(), start=1):
        if opened is not None and line != "```":
            content.append(line)
        elif opened is not None:
            found.append(Block(*opened, "".join(f"{text}\n" for text in content)))
            opened = None
        elif line.lstrip().startswith("```"):
            fence = _FENCE.match(line)
            if fence is None or fence["indent"]:
                raise Mismatch(f"line {number}: a fence starts its line and has only a language and a title")
            opened, content = (fence["language"] or "", fence["title"] or "", number + 1), []
    if opened is not None:
        raise Mismatch(f"line {opened[2]}: the block has no end")
    return found


def matches(shown: str, real: str) -> bool:
    """Return True if a page shows what was printed."""
    pattern = ".*".join(re.escape(part) for part in shown.strip("\n").split("..."))
    return re.fullmatch(pattern, real.strip("\n"), re.DOTALL) is not None


def run(page: Path) -> int:
    """Run a page, and return how many blocks were run.

    Raises:
        Mismatch: a block failed, or printed something else.
    """
    parsed = blocks(page.read_text(encoding="utf-8"))
    sys.path[0] = str(Path.cwd())
    names: dict[str, Any] = {"__name__": "__main__"}
    count = 0
    for at, block in enumerate(parsed):
        following = parsed[at + 1] if at + 1 < len(parsed) else None
        if block.language in ("python", "sh") and block.title:
            Path(block.title).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            expects = following is not None and following.title == "Output"
            _compare(block.line, following.text if following and expects else "", _execute(page, block, names))
        elif block.language == "console":
            _console(block)
        else:
            continue
        count += 1
    return count


def _execute(page: Path, block: Block, names: dict[str, Any]) -> str:
    """Run a Python block; the blank lines give tracebacks and `inspect` the page's own line numbers."""
    printed = io.StringIO()
    code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
    with contextlib.redirect_stdout(printed):
        try:
            exec(code, names)  # noqa: S102  # that is what this program is for
        except Exception as error:
            raise Mismatch(f"line {block.line}: {traceback.format_exc()}") from error
    return printed.getvalue()


def _console(block: Block) -> None:
    search = os.pathsep.join([str(Path(sys.executable).parent), _ENVIRONMENT.get("PATH", os.defpath)])
    environment = {**_ENVIRONMENT, "PATH": search, "NO_COLOR": "1"}
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        if not command.startswith(_NOT_RUN):
            shell = ["bash", "-c", command]
            done = subprocess.run(shell, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
            _compare(block.line, shown, done.stdout + done.stderr)


def _compare(line: int, shown: str, real: str) -> None:
    if not matches(shown, real):
        raise Mismatch(f"line {line}: the page shows\n{shown}\nbut this was printed\n{real}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python docs/run_page.py PAGE")
    try:
        run(Path(sys.argv[1]).resolve())
    except Mismatch as _error:
        sys.exit(f"{sys.argv[1]}: {_error}")
