"""The command line: `flowtrace run`, `show` and so on, one file a command.

Door: `app`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Final

_NEEDS: Final = ("click", "rich")
_HINT: Final = "flowtrace: the command line needs the extra `cli`: pip install 'flowtrace[cli]'\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments, without the program's name; None means those of the process.

    Returns:
        The exit code: 0 as expected or same, 1 differs or failed, 2 wrong usage or unreadable input. 130 and 141 say,
        as shells do, that Ctrl-C or a closed pipe ended it.
    """
    if not all(map(find_spec, _NEEDS)):
        sys.stderr.write(_HINT)
        return 2
    from flowtrace.cli.app import run

    return run(argv)
