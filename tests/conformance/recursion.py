"""How deep a decorated function can call itself, against the undecorated one. Run it to print the figures.

``python -m tests.conformance.recursion`` from the project folder.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from .subject import Subject, undecorated


def of_function(decorate: Callable[[Any], Any]) -> int:
    """Return how often a function gets into itself."""
    deepest = 0

    def body(depth):
        nonlocal deepest
        deepest = depth
        made(depth + 1)

    made = decorate(body)
    try:
        made(1)
    except RecursionError:
        pass
    return deepest


def of_method(decorate: Callable[[Any], Any]) -> int:
    """Return how often a method gets into itself."""

    class Host:
        deepest = 0

        @decorate
        def body(self, depth):
            self.deepest = depth
            self.body(depth + 1)

    host = Host()
    try:
        host.body(1)
    except RecursionError:
        pass
    return host.deepest


def of_generator(decorate: Callable[[Any], Any]) -> int:
    """Return how deep a generator delegates to itself."""
    deepest = 0

    def body(depth):
        nonlocal deepest
        deepest = depth
        yield from made(depth + 1)

    made = decorate(body)
    try:
        next(made(1))
    except RecursionError:
        pass
    return deepest


def of_coroutine(decorate: Callable[[Any], Any]) -> int:
    """Return how deep a coroutine awaits itself."""
    deepest = 0

    async def body(depth):
        nonlocal deepest
        deepest = depth
        await made(depth + 1)

    made = decorate(body)
    try:
        made(1).send(None)
    except RecursionError:
        pass
    return deepest


DEPTHS = {"function": of_function, "method": of_method, "generator": of_generator, "coroutine": of_coroutine}


def figures(
    subject: Subject, modes: tuple[str, ...] = ("off", "on"), kinds: tuple[str, ...] = tuple(DEPTHS)
) -> dict[tuple[str, str], float]:
    """Return the part of the undecorated depth that is left, by kind of function and mode."""
    left: dict[tuple[str, str], float] = {}
    for kind in kinds:
        depth = DEPTHS[kind]
        plain = depth(undecorated)
        for mode in modes:
            subject.set_mode(mode)
            left[kind, mode] = depth(subject.decorate) / plain
    return left


def main() -> None:
    """Print the figures of flowtrace."""
    import tempfile
    from pathlib import Path

    import flowtrace

    out = Path(tempfile.mkdtemp(), "trace.json")
    subject = Subject("flowtrace", flowtrace.traced_node, lambda mode: flowtrace.configure(mode=mode, out_path=out))
    version = ".".join(map(str, sys.version_info[:3]))
    print(f"Python {version}, recursion limit {sys.getrecursionlimit()}")
    for (kind, mode), part in figures(subject).items():
        print(f"  {kind:<10} {mode:<4} {part:.2f} of the undecorated depth")


if __name__ == "__main__":
    main()
