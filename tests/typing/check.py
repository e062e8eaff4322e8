"""Compares what a type checker says of the files beside this one with what their comments expect, line by line.

python check.py mypy|pyright: exits with 1 and the differences where there are any. Needs nothing but the checker.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
FILES = ("accepted.py", "refused.py")


def expected(checker: str) -> set[tuple[str, int, str]]:
    """Return file, line and code of each error that the comments promise."""
    found: set[tuple[str, int, str]] = set()
    for name in FILES:
        for number, line in enumerate((HERE / name).read_text(encoding="utf-8").splitlines(), 1):
            for codes in re.findall(rf"[#;] {checker}: ([\w, -]+)", line):
                found |= {(name, number, code.strip()) for code in codes.split(",")}
    return found


def mypy(cache: str) -> set[tuple[str, int, str]]:
    """Return file, line and code of each error of mypy --strict."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-error-summary", "--no-pretty"]
    output = _run([*command, f"--cache-dir={cache}", *FILES])
    # A note explains the error before it. A path is that of our own source, which `make types` checks with its stubs.
    # A line without a place is a failure of mypy itself.
    lines = [line for line in output.splitlines() if ": note: " not in line and not line.startswith(os.sep)]
    found = [re.fullmatch(r"(\w+\.py):(\d+): error: .*\[([\w-]+)\]", line) for line in lines]
    assert all(found), output
    return {(match[1], int(match[2]), match[3]) for match in found if match}


def pyright() -> set[tuple[str, int, str]]:
    """Return file, line and rule of each error of pyright in its strict mode."""
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(HERE)]
    report = json.loads(_run(command))
    assert report["summary"]["filesAnalyzed"] == len(FILES), report["summary"]
    return {
        (Path(item["file"]).name, item["range"]["start"]["line"] + 1, item.get("rule", "syntax"))
        for item in report["generalDiagnostics"]
        if item["severity"] == "error"
    }


def _run(command: list[str]) -> str:
    # PYTHONPATH could put another flowtrace before the installed one
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=HERE, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr or done.stdout
    return done.stdout


def main() -> int:
    """Compare, and print what differs."""
    checker = sys.argv[1]
    said = mypy(os.devnull) if checker == "mypy" else pyright()
    promised = expected(checker)
    for place in sorted(said - promised):
        print("{}:{}: not expected: {}".format(*place))
    for place in sorted(promised - said):
        print("{}:{}: expected and not told: {}".format(*place))
    return int(said != promised)


if __name__ == "__main__":
    sys.exit(main())
