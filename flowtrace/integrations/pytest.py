"""The pytest plugin: each failing outcome of a test leaves one trace, and the reports say where.

Its options and fixtures are in `flowtrace_pytest`, a module beside the package, which loads this one when it is asked
to. While a test runs, a `flowtrace.testing.Watch` keeps its steps; whether they become a file is decided by the report
that pytest has made, so that what a test expects to fail leaves nothing.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, Final

import pytest

import flowtrace_pytest
from flowtrace import TraceConfig, TraceContext, TraceMode
from flowtrace.host.switch import environment
from flowtrace.integrations.pytest_files import FileNames
from flowtrace.settings.kinds import FOLDER, MODE, TEST_FOLDER, Kind
from flowtrace.settings.variables import PYTEST, parse
from flowtrace.testing import Watch, watching

if TYPE_CHECKING:
    from flowtrace import Trace

NAME: Final = "flowtrace-traces"
_WITH_VALUES: Final = "flowtrace_recorder"
_WITHOUT: Final = "flowtrace_off"
_PROPERTIES: Final = ("flowtrace_trace", "flowtrace_failed_step")


@dataclass
class Attempt:
    """One run of a test, from its setup to its teardown.

    Attributes:
        number: how often it was run before in this session.
        watch: its steps.
        ending: stops keeping them.
        subtests: how many of its subtests have failed.
        is_in_call: the test itself runs; what is reported meanwhile is a subtest.
        links: to the traces of subtests, for the report of the teardown.
    """

    number: int
    watch: Watch | None
    ending: ExitStack
    subtests: int = 0
    is_in_call: bool = False
    links: list[Any] = field(default_factory=list)


_ATTEMPT: Final = pytest.StashKey[Attempt]()


def leave_traces(config: pytest.Config, option: str | None, ini: str) -> None:
    """Add the plugin that leaves traces to a session, unless the settings come to none.

    Args:
        config: that of the session.
        option: the folder on the command line, empty for the usual one; None where it is not given.
        ini: the folder in the ini file, relative to that; the environment comes between the two.

    Raises:
        UsageError: a folder or the mode is not usable.
    """
    parsed = parse(environment())
    base, folder = config.invocation_params.dir, parsed.pytest
    if option is not None:
        folder = _checked("--flowtrace", FOLDER, option or TEST_FOLDER)
    elif folder is None and PYTEST.setting not in parsed.sources and ini:
        base = config.rootpath if config.inipath is None else config.inipath.parent
        folder = _checked("flowtrace", FOLDER, ini)
    mode = parsed.config["mode"] if "mode" in parsed.sources else TraceMode.ON
    settings = (config.getini(name) for name in flowtrace_pytest.MODE_SETTINGS)
    text = config.getoption("flowtrace_mode") or next(filter(None, settings), "")
    if text:
        mode = _checked("flowtrace_mode", MODE, text)
    if folder is not None and mode is not TraceMode.OFF and not parsed.disabled:
        config.pluginmanager.register(Traces(config, base / folder, mode), NAME)


def _checked(name: str, kind: Kind, text: str) -> Any:
    try:
        return kind.from_text(text)
    except ValueError:
        raise pytest.UsageError(f"{name}={text!r} is not usable: it takes {kind.accepts}") from None


@dataclass(eq=False)  # a pytest before 9 puts plugins into a set
class Traces:
    """The hooks that leave a trace of each failing outcome.

    Args:
        config: that of the session.
        folder: where the traces go.
        mode: ``on`` for those of failing outcomes, ``always`` for those of passing tests, too.
    """

    config: pytest.Config
    folder: Path
    mode: TraceMode
    _config: TraceConfig = field(default_factory=lambda: TraceConfig.from_env().changed({"mode": TraceMode.ON}))
    _names: FileNames = field(default_factory=FileNames)
    _left: list[tuple[str, str]] = field(default_factory=list)
    _faults: set[str] = field(default_factory=set)

    def watch_of(self, item: pytest.Item) -> Watch | None:
        """Return the steps of a test that runs; None where they are not kept."""
        attempt = item.stash.get(_ATTEMPT, None)
        return None if attempt is None else attempt.watch

    # --- around a test

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Learn the names of all tests: two that would share a file get names of their own."""
        self._names = FileNames(item.nodeid for item in session.items)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """End what a test that was broken off has left."""
        try:
            return (yield)
        finally:
            self._guarded(item, "end a test", self._forget, item)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        """Keep the steps from here on. A test that is run again comes here again."""
        self._guarded(item, "begin a test", self._begin, item)
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Know that the test runs: what is reported meanwhile is one of its subtests."""
        attempt = item.stash.get(_ATTEMPT, None)
        if attempt is None:
            return (yield)
        attempt.is_in_call = True
        try:
            return (yield)
        finally:
            attempt.is_in_call = False

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Write a trace where the report, with all that other plugins make of it, says that something failed."""
        report = yield
        self._guarded(item, "write the trace of a test", self._judge, item, call, report)
        if call.when == "teardown":
            self._guarded(item, "end a test", self._end, item)
        return report

    def _guarded(self, item: pytest.Item, doing: str, work: Callable[..., None], *arguments: Any) -> None:
        """Do something of ours. What goes wrong in it is said once, as a warning, and is no matter of the test."""
        try:
            work(*arguments)
        except Exception as error:
            cause = f"{doing} {type(error)} {getattr(error, 'errno', '')}"
            if cause not in self._faults:
                self._faults.add(cause)
                _warn(item, f"flowtrace could not {doing}: {type(error).__name__}: {error}")

    def _begin(self, item: pytest.Item) -> None:
        before = item.stash.get(_ATTEMPT, None)
        if before is not None:
            before.ending.close()
        number = 0 if before is None else before.number + 1
        attempt = item.stash[_ATTEMPT] = Attempt(number, None, ExitStack())
        item.user_properties[:] = [found for found in item.user_properties if found[0] not in _PROPERTIES]
        fixtures = getattr(item, "fixturenames", ())
        if _WITHOUT in fixtures:
            return
        context = TraceContext(pack_ref="pytest", flow_id=item.nodeid)
        config = None if _WITH_VALUES in fixtures else self._config
        attempt.watch = attempt.ending.enter_context(watching(config, context=context))

    def _end(self, item: pytest.Item) -> None:
        attempt = item.stash.get(_ATTEMPT, None)
        if attempt is not None:
            attempt.watch = None
            attempt.ending.close()

    def _forget(self, item: pytest.Item) -> None:
        self._end(item)
        if _ATTEMPT in item.stash:
            del item.stash[_ATTEMPT]

    # --- the trace of an outcome

    def _judge(self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
        attempt = item.stash.get(_ATTEMPT, None)
        if attempt is None or attempt.watch is None:
            return
        passed = report.passed and report.when == "call" and not attempt.is_in_call and self.mode is TraceMode.ALWAYS
        if report.failed or passed:
            error = None if passed else call.excinfo.value if call.excinfo is not None else str(report.longrepr)
            path = self.folder / self._names.file(item.nodeid, _phase(attempt, report), attempt.number)
            self._say(item, report, self._typed(path), failed_step(attempt.watch.write(path, error)))
            self._link(attempt, report, path)
        if report.when == "teardown" and attempt.links:
            _add_links(report, attempt.links)

    def _say(self, item: pytest.Item, report: pytest.TestReport, path: str, step: str) -> None:
        """Put the path and the failed step where the reports read them: in a section, and in properties."""
        report.sections.append(("flowtrace", f"trace: {path}\n{step}\nflowtrace show {quote(path)}"))
        noted: Any = report
        noted.flowtrace = (path, step)  # pytest-xdist takes it along
        for found in zip(_PROPERTIES, (path, step), strict=True):
            item.user_properties.append(found)
            report.user_properties.append(found)  # a copy was made; that of the teardown is what JUnit's file gets

    def _base(self) -> Path:
        """Return the folder that pytest was started in: a test may be in another one, which may be gone."""
        base: Path = self.config.invocation_params.dir
        return base

    def _typed(self, path: Path) -> str:
        """Return a path as it is typed there."""
        return str(path.relative_to(self._base()) if path.is_relative_to(self._base()) else path)

    def _link(self, attempt: Attempt, report: pytest.TestReport, path: Path) -> None:
        """Add a link for pytest-html: it leaves the sections out of what was run again, and most subtests."""
        html = self.config.getoption("htmlpath", None)
        if html:
            from pytest_html import extras

            target = os.path.relpath(path, (self._base() / html).parent)
            link = extras.url(target, name=self._typed(path))
            if attempt.is_in_call:
                attempt.links.append(link)
            else:
                _add_links(report, [link])

    # --- what the terminal shows

    def pytest_report_header(self) -> str:
        """Say where the traces go."""
        which = "all tests" if self.mode is TraceMode.ALWAYS else "failing tests"
        return f"flowtrace: traces of {which} in {self._typed(self.folder)}"

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what the summary shows; with pytest-xdist, reports come from other processes."""
        found = getattr(report, "flowtrace", None)
        if found is not None:
            self._left.append(tuple(found))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """List the traces."""
        if self._left:
            terminalreporter.write_sep("=", f"flowtrace: {len(self._left)} trace{'s' if len(self._left) > 1 else ''}")
            for path, step in self._left:
                terminalreporter.write_line(f"{path}  {step}")


def _phase(attempt: Attempt, report: pytest.TestReport) -> str:
    """Return what tells an outcome of a test apart from the others, for the name of its file."""
    if attempt.is_in_call:
        attempt.subtests += 1
        return f".subtest{attempt.subtests}"
    return "" if report.when == "call" else f".{report.when}"


def _add_links(report: Any, links: list[Any]) -> None:
    report.extras = [*getattr(report, "extras", ()), *links]


def _warn(item: pytest.Item, text: str) -> None:
    """Add a warning to the summary, by the hook: `warnings.warn` would raise it where warnings are errors."""
    message = warnings.WarningMessage(pytest.PytestWarning(text), pytest.PytestWarning, __file__, 1)
    arguments = {"warning_message": message, "when": "runtest", "nodeid": item.nodeid, "location": None}
    item.ihook.pytest_warning_recorded.call_historic(kwargs=arguments)


def failed_step(trace: Trace) -> str:
    """Return a few words on the step in which a test's failure began, with its number in ``flowtrace show``."""
    step = trace.failed_step
    if step is None:
        return f"no failed step among {len(trace.steps)}"
    if step.error is not None and step.error.code == "flow_error":
        others = len(trace.steps) - 1
        return f"failed outside any node, after {others} step{'' if others == 1 else 's'}"
    return f"failed step: {trace.steps.index(step)}, {step.node_id}"
