"""The front of the pytest plugin: its options and its fixtures. Of flowtrace it loads nothing before it is asked to.

It stands beside the package, since importing anything in a package runs its ``__init__``, and that of flowtrace loads
what decorated functions need. The rest of the plugin is `flowtrace.integrations.pytest`.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from flowtrace.testing import Watch

__all__: list[str] = []
FOLDER: Final = "--flowtrace"
MODES: Final = ("off", "on", "always")
MODE_SETTINGS: Final = ("flowtrace_mode", "flowtrace-mode")  # two names, since a pytest before 9 knows no aliases


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, and the ini options of the same names."""
    group = parser.getgroup("flowtrace", "traces of failing tests")
    group.addoption(
        FOLDER,
        dest="flowtrace",
        metavar="DIR",
        nargs="?",
        const="",
        help="Leave a trace of each failing test in this folder (with an equals sign; default: .flowtrace).",
    )
    group.addoption(
        "--flowtrace-mode",
        choices=MODES,
        help="Which tests leave a trace: none, those that fail (on, the default), or those that pass, too (always).",
    )
    group.addoption(
        "--flowtrace-replay",
        action="append",
        default=[],
        metavar="TRACE",
        help="Call each captured step of this trace again, as a test: same output or same error. May be repeated.",
    )
    group.addoption(
        "--flowtrace-import",
        action="append",
        default=[],
        metavar="MODULE",
        help="With --flowtrace-replay: also use this module, which is outside the root folder. May be repeated.",
    )
    group.addoption(
        "--flowtrace-receiver",
        metavar="MODULE:FACTORY",
        help="With --flowtrace-replay: a function or class that makes the `self` of methods.",
    )
    parser.addini("flowtrace", "The folder for the traces of failing tests; as --flowtrace.", default="")
    for name in MODE_SETTINGS:
        parser.addini(name, "Which tests leave a trace: off, on or always; as --flowtrace-mode.", default="")


# The old style of a wrapper, since any pytest loads this module that finds it installed: older ones don't know another.
@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Generator[None]:
    """Let ``--flowtrace tests/`` run the tests in tests/: only after an equals sign is it the folder of the traces."""
    _load_as_elsewhere(early_config)
    end = args.index("--") if "--" in args else len(args)
    if FOLDER in args[:end]:
        args[:end] = [f"{FOLDER}=" if text == FOLDER else text for text in args[:end]]
        early_config.known_args_namespace = parser.parse_known_args(args, namespace=early_config.known_args_namespace)
    yield


def _load_as_elsewhere(config: pytest.Config) -> None:
    """Let the modules of flowtrace be loaded as they are, compiled once for all.

    pytest compiles all modules of a plugin's distribution itself, to change the asserts in them. Those of flowtrace are
    none of a test's, and to load it would take five times as long.
    """
    hook: Any = getattr(config.pluginmanager, "rewrite_hook", None)
    marked = getattr(hook, "_must_rewrite", None)  # there is no other way to take a name back
    if isinstance(marked, set):
        marked.discard("flowtrace")
        hook.mark_rewrite()  # none more; what was found out of single modules is forgotten


def pytest_configure(config: pytest.Config) -> None:
    """Load the rest of the plugin, where something asks for it."""
    option, ini = config.getoption("flowtrace"), config.getini("flowtrace")
    if option is not None or ini or os.environ.get("FLOWTRACE_PYTEST"):
        from flowtrace.integrations.pytest import leave_traces

        leave_traces(config, option, ini)
    traces = config.getoption("flowtrace_replay")
    if traces:
        from flowtrace.integrations.pytest_replay import add_replays

        add_replays(config, traces)


@pytest.fixture
def flowtrace_recorder(request: pytest.FixtureRequest) -> Generator[Watch]:
    """The steps of this test, with their inputs and outputs: ``steps``, ``calls(node)``, ``only(node)``, ``failed``."""
    plugin = request.config.pluginmanager.get_plugin("flowtrace-traces")
    watch = None if plugin is None else plugin.watch_of(request.node)
    if watch is not None:
        yield watch
        return
    from flowtrace.testing import watching

    with watching() as watch:
        yield watch


@pytest.fixture
def flowtrace_off() -> Generator[None]:
    """Nothing is traced in this test, and it leaves no trace."""
    from flowtrace import override

    with override(mode="off"):
        yield
