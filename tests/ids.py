"""Test ids: the same in every process, or pytest-xdist's workers would not agree on what there is to run."""

from __future__ import annotations

import re


def stable_repr(value, length=40):
    """Return the start of a value's repr, without the address that the repr of many objects ends with."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))[:length]
