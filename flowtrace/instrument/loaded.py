"""The modules of the recorder that wrappers and flows need, under their names here once they are loaded.

An import statement in a call would ask ``builtins.__import__``, which may be a mock of the program's at that moment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowtrace.recording import hot_path as hot_path
    from flowtrace.recording import node as node
    from flowtrace.recording import process as process
    from flowtrace.recording import state as state
    from flowtrace.recording import step as step
    from flowtrace.settings import config as config


def load() -> None:
    """Load them, and whatever else a call, a flow or an error in one may need."""
    from flowtrace.host import log
    from flowtrace.recording import fast_path, hot_path, node, process, state, step
    from flowtrace.settings import config

    for module in (state, hot_path, node, process, step, config):
        globals()[module.__name__.rpartition(".")[2]] = module
    fast_path.connect()
    log.load()
