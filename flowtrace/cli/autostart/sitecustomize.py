"""Begins to trace what ``FLOWTRACE_AUTO`` names before a program's first line; then gives way to the user's own file.

`flowtrace run --auto` puts this folder on ``PYTHONPATH``, so that every interpreter of the run imports this module when
it starts. After that nothing tells that it was there, but for the variable, which child processes need too.
"""

import os
import sys


def _start() -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != here]
    sys.path_importer_cache.pop(here, None)
    try:
        from flowtrace.instrument.autotrace import install

        install()
    except Exception as error:
        # a child process may run in an environment without flowtrace, and that is its right
        if getattr(error, "name", None) != "flowtrace":
            sys.stderr.write(f"flowtrace: FLOWTRACE_AUTO has no effect: {error!a:.200}\n")


_start()
# Where the user has none, this raises the same error that `site` would have met, and passes over, without us.
del sys.modules["sitecustomize"]
import sitecustomize  # type: ignore[import-not-found]  # noqa: E402, F401  # pyright: ignore[reportUnusedImport]
