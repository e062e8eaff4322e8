"""A browser for the tests that open pages, one after the other: a second playwright can't run beside it."""

from __future__ import annotations

import contextlib
import shutil

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextlib.contextmanager
def chromium():
    """Yield a Chromium without a window. Meanwhile `asyncio.run` fails in this thread: playwright's loop runs in it."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: the group `browser`")
    with sync_api.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def browser():
    """Return a Chromium without a window."""
    with chromium() as found:
        yield found
