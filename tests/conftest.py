"""Every test starts as in a fresh process, and leaves nothing behind."""

from __future__ import annotations

import gc
import itertools
import logging
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import hypothesis  # loaded here: it looks for what refers to trio's generator, and frozen things hide it
import pytest
import structlog

from flowtrace import testing
from flowtrace.host import standard_error
from flowtrace.recording import governor
from tests import secrets_scan

pytest_plugins = ["tests.selection", "tests.browser"]
MEMORY = Path("/dev/shm")
# A slow machine is no fault; no test here is about time.
hypothesis.settings.register_profile("untimed", parent=hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("untimed")


def pytest_configure(config):
    """Let Ctrl-C count, and pytest's base folder be in memory where there is a file system for that with room."""
    config.addinivalue_line("markers", "disk: is about disks, so its folder is not in memory")
    config.addinivalue_line("markers", "frameworks: runs a page about a framework; skipped where that is not installed")
    config.addinivalue_line("markers", "browser: drives a Chromium; skipped where there is none")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell starts its background jobs so
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 2 << 30:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


@pytest.hookimpl(trylast=True)
def pytest_collection_finish():
    """Let no collection of garbage look at the thousands of tests again: that was a third of the time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def disk_folder():
    """The base folder of the tests that are about disks: where temporary files are by default."""
    with tempfile.TemporaryDirectory(prefix="flowtrace-tests-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="session", autouse=True)
def no_planted_secret_is_on_the_disk(tmp_path_factory, disk_folder):
    """Look at every byte that any test wrote, once all have run. Each worker of pytest-xdist has folders of its own."""
    folders = [tmp_path_factory.getbasetemp(), disk_folder]
    yield
    found = [path for folder in folders for path in secrets_scan.scan(folder)]
    assert not found, f"planted secrets were written to {[str(path) for path in found]}"


_NUMBERS = itertools.count()


@pytest.fixture
def tmp_path(tmp_path_factory, disk_folder, request):
    """As pytest's own, which reads the names of all its folders before and after each test: ten thousand by the end."""
    base = disk_folder if request.node.get_closest_marker("disk") else tmp_path_factory.getbasetemp()
    folder = base / request.path.stem / f"{next(_NUMBERS)}-{request.function.__name__[:40]}"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def stderr(capsys, monkeypatch):
    """Let what pytest puts in the place of standard error be the program's own; return what reads it."""
    monkeypatch.setattr(standard_error, "_stream", lambda: sys.stderr)  # another object in each phase of a test
    return capsys


@pytest.fixture(autouse=True)
def pristine(monkeypatch, tmp_path):
    monkeypatch.setattr(governor, "GRACE", 10**15)  # on a busy machine, a test may seem to cost too much
    for name in list(os.environ):
        is_ours = name.startswith("FLOWTRACE_") and name != "FLOWTRACE_PURE"  # which core is under test
        if is_ours or name in ("GIT_SHA", "GITHUB_SHA", "CI", "COLUMNS"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SERVICE_API_TOKEN", secrets_scan.planted("environment"))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # where a test runs pytest: loading them takes longer
    monkeypatch.chdir(tmp_path)
    logger_class = logging.getLoggerClass()
    with testing.pristine():
        yield
    structlog.reset_defaults()
    logging.setLoggerClass(logger_class)  # structlog's LoggerFactory puts one in that finds callers in its own way
