"""flowtrace as the decorator under test."""

from __future__ import annotations

import flowtrace

from .subject import Subject


def _set_mode(mode: str) -> None:
    flowtrace.configure(mode=mode, out_path="trace.json")


FLOWTRACE = Subject("flowtrace", flowtrace.traced_node, _set_mode)

# What flowtrace can't do, by binding and column, with the reason.
KNOWN = {
    ("callable object", "text"): "`help` of an object documents its type, and the type of a traced object is a proxy's",
}
