"""A pytest plugin that writes each test's outcome as a line of JSON into the file ``FLOWTRACE_OUTCOMES``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

_TEXT = 6000


class Outcomes:
    """Adds up the three phases of each test, and the modules that could not be collected."""

    def __init__(self, path: str) -> None:
        self._file = Path(path).open("w", encoding="utf-8")
        self._so_far: dict[str, tuple[str, str]] = {}
        self._pid = os.getpid()

    def pytest_runtest_logreport(self, report: Any) -> None:
        outcome = report.outcome
        if hasattr(report, "wasxfail"):
            outcome = "xfailed" if report.skipped else "xpassed"
        elif report.failed and report.when != "call":
            outcome = "error"
        if report.when == "call" or outcome != "passed":
            before, _ = self._so_far.get(report.nodeid, ("", ""))
            if before not in ("failed", "error"):
                self._so_far[report.nodeid] = (outcome, report.longreprtext if report.failed else "")
        if report.when == "teardown":
            self._put(report.nodeid, *self._so_far.pop(report.nodeid, ("passed", "")))

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self._put(report.nodeid or "(the whole collection)", "error", report.longreprtext)

    def _put(self, name: str, outcome: str, text: str) -> None:
        if os.getpid() != self._pid:  # a forked child that went on into pytest
            return
        # Flushed, so that a crash of the interpreter shows which test was the last.
        self._file.write(json.dumps({"test": name, "outcome": outcome, "text": text[-_TEXT:]}) + "\n")
        self._file.flush()


def pytest_configure(config: pytest.Config) -> None:
    path = os.environ.get("FLOWTRACE_OUTCOMES")
    if path:
        config.pluginmanager.register(Outcomes(path), "flowtrace-outcomes")
    _calm_hypothesis()


def _calm_hypothesis() -> None:
    """Make property tests the same in each run, and never a matter of time."""
    try:
        from hypothesis import HealthCheck, settings
    except ImportError:
        return
    settings.register_profile(
        "flowtrace", deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    settings.load_profile("flowtrace")
