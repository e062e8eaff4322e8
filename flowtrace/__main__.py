"""`python -m flowtrace`: the command line, for those whose `flowtrace` is not on the path."""

from __future__ import annotations

import sys

from flowtrace.cli import main

if __name__ == "__main__":
    sys.exit(main())
