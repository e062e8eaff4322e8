"""Opening what somebody else may have put there: no link is followed, no pipe is waited for, and its owner is asked."""

from __future__ import annotations

import os
import stat
from typing import Final

_FLAGS: Final = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
FOLDER: Final = _FLAGS | getattr(os, "O_DIRECTORY", 0)
FILE: Final = _FLAGS | getattr(os, "O_NONBLOCK", 0)  # opening a pipe must not wait for its writer


def is_ours(status: os.stat_result) -> bool:
    """Tell whether something is a regular file of the user that this process runs as."""
    return stat.S_ISREG(status.st_mode) and (not hasattr(os, "geteuid") or status.st_uid == os.geteuid())
