"""The cost of an import, and what it loads."""

from __future__ import annotations

import subprocess
import sys

from rows import Row, Session, at_most
from samples import Taken, quotients
from turns import Plan, clean_environment

LATER = ("structlog", "msgspec", "blake3", "orjson")
WRAPT, PACKAGE, USED = "import wrapt", "import flowtrace", "from flowtrace import traced_node"
OFF_PROGRAM = """\
import sys
from flowtrace import traced_node
@traced_node
def node(order):
    return order
class Class:
    @traced_node
    def method(self, order):
        return order
node({})
Class().method({})
print(*(name for name in sys.argv[1:] if name in sys.modules))
"""


def run(program: str, plan: Plan, *arguments: str) -> str:
    """Return what a program prints in a fresh interpreter that sees installed packages only."""
    command = [sys.executable, "-I", "-c", program, *arguments]
    return subprocess.run(
        command, check=True, capture_output=True, text=True, cwd=plan.folder, env=clean_environment()
    ).stdout


def import_milliseconds(statement: str, plan: Plan) -> float:
    """Return how long an import takes in a fresh interpreter."""
    program = f"from time import perf_counter_ns as clock\nstart = clock()\n{statement}\nprint(clock() - start)"
    return int(run(program, plan)) / 1e6


def take(plan: Plan) -> dict[str, Taken]:
    """Import in fresh processes, in turn."""
    found: dict[str, list[float]] = {statement: [] for statement in (WRAPT, PACKAGE, USED)}
    order = list(found)
    for number in range(15 if plan.quick else 60):
        for statement in order[number % 3 :] + order[: number % 3]:
            milliseconds = import_milliseconds(statement, plan)
            if number:  # the first round may have to compile
                found[statement].append(milliseconds)
    parts = {f"{statement}, ms": samples for statement, samples in found.items()}
    loaded = run(OFF_PROGRAM, plan, *LATER).split()
    return {
        "import": Taken(quotients(found[PACKAGE], found[WRAPT]), parts),
        "import-used": Taken(quotients(found[USED], found[WRAPT]), parts),
        "off-modules": Taken([len(loaded)], note=f"loaded: {', '.join(loaded) or 'none'}"),
    }


SESSION = Session(
    "import",
    (
        Row(
            "import",
            "off, `import flowtrace`",
            "time of `import flowtrace` / time of `import wrapt`, each in a fresh process",
            at_most(1.3),
        ),
        Row(
            "import-used",
            "off, `from flowtrace import traced_node`",
            "time of `from flowtrace import traced_node` / time of `import wrapt`, each in a fresh process",
            at_most(1.3),
        ),
        Row(
            "off-modules",
            "off, modules loaded",
            "how many of structlog, msgspec, blake3 and orjson a program has loaded after it decorated and called "
            "a function and a method",
            at_most(0),
            unit="modules",
        ),
    ),
    take,
    quick=True,
)
SESSIONS = (SESSION,)
