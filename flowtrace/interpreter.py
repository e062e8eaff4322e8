"""Which interpreter of the process this is: the recorder's libraries are made for the main one only."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from typing import Final

REFUSAL: Final = "flowtrace records in the main interpreter only, not in a subinterpreter"


@lru_cache(maxsize=1)
def is_main() -> bool:
    """Tell whether this is the main interpreter; where Python can't tell, it is."""
    for name in ("_interpreters", "_xxsubinterpreters"):
        try:
            interpreters = import_module(name)
            here, main = interpreters.get_current(), interpreters.get_main()
            return bool(here == main)
        except (ImportError, AttributeError):
            continue
    return True


def require_main() -> None:
    """Refuse to go on in a subinterpreter: libraries that the recorder needs would crash the process there.

    Raises:
        ImportError: this is no main interpreter.
    """
    if not is_main():
        raise ImportError(REFUSAL)
