"""flowtrace as the decorator under test."""

from __future__ import annotations

import flowtrace

from .subject import Subject


def _set_mode(mode: str) -> None:
    flowtrace.configure(mode=mode, out_path="trace.json")


FLOWTRACE = Subject("flowtrace", flowtrace.traced_node, _set_mode)
