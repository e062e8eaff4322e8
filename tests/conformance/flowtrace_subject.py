"""flowtrace as the decorator under test."""

from __future__ import annotations

import flowtrace

from .subject import Subject


def _set_mode(mode: str) -> None:
    flowtrace.configure(mode=mode, out_path="trace.json")


FLOWTRACE = Subject("flowtrace", flowtrace.traced_node, _set_mode)

# What flowtrace can't do, by binding and column, with the reason.
KNOWN = {
    ("callable object", column): "a callable object that isn't a function gets a proxy, whose class has a `__get__`"
    for column in ("kinds", "signature", "text")
}
