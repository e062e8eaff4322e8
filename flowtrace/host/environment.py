"""The environment variables that may be read: none, where they may come from somebody with fewer rights."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from flowtrace.host.system import open_file, os

_AT_SECURE: Final = 23  # of getauxval(3)


def environment() -> Mapping[str, str]:
    """Return the variables of this process; none where they may be somebody else's.

    That is so where Python ignores its own (``-E``, ``-I``), and where the process has more rights than its caller, as
    a set-user-id program has.
    """
    return {} if is_ignored() else os.environ


def is_ignored() -> bool:
    """Return True if no variable counts; see `environment`."""
    return bool(sys.flags.ignore_environment) or _has_more_rights()


@lru_cache(maxsize=1)
def _has_more_rights() -> bool:
    """Return True if the kernel says so; where it says nothing, if users or groups differ."""
    try:
        with open_file("/proc/self/auxv", "rb") as file:
            numbers = memoryview(file.read()).cast("L")
        return bool(dict(zip(numbers[::2], numbers[1::2], strict=True)).get(_AT_SECURE))
    except (OSError, TypeError, ValueError):
        return hasattr(os, "geteuid") and (os.getuid(), os.getgid()) != (os.geteuid(), os.getegid())
