"""`pytest --flowtrace-replay TRACE`: each captured step of a trace is a test; it passes where it behaves as recorded.

A step is called again as `flowtrace.replay` does it: only decorated functions under the root folder of the tests. What
can't be called again is skipped, with the reason.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from flowtrace import ReplayOutcome, StepReplay, Trace, TraceFileError, load_trace, replay
from flowtrace.comparing.json_changes import changes
from flowtrace.host.log import printable
from flowtrace.replaying.report import error_line
from flowtrace.trace.model import UNSET, Step
from flowtrace.values.shown import short_text, value_text

NAME: Final = "flowtrace-replay"
_MOST_CHANGES: Final = 10
_WIDTH: Final = 300
_DIES: Final = "its process died in it, and this one would, too"


class NotAsRecordedError(Exception):
    """A step of a trace does not behave as it did; ``result`` says how."""

    def __init__(self, result: StepReplay) -> None:
        self.result = result
        super().__init__(f"{str(result.outcome).replace('_', ' ')}: {result.reason}")


def add_replays(config: pytest.Config, traces: list[str]) -> None:
    """Add the steps of traces to the tests of a session; where the command line names no tests, they are all of them.

    Args:
        config: that of the session.
        traces: the files, relative to the folder in which pytest was started.

    Raises:
        UsageError: one of them is no file, or pytest is too old to tell which tests were named.
    """
    if not hasattr(config, "args_source"):
        raise pytest.UsageError("--flowtrace-replay needs pytest 7.2 or newer")
    paths = [Path(os.path.abspath(config.invocation_params.dir / text)) for text in traces]
    for path in paths:
        if not path.is_file():
            raise pytest.UsageError(f"--flowtrace-replay: there is no file {path}")
    named = config.args if config.args_source is config.ArgsSource.ARGS else []
    # also where only some of its steps are named: trace.json::3-shop.price
    rest = [path for path in map(str, paths) if not any(_names(config, text, path) for text in named)]
    config.args = [*named, *rest]
    config.pluginmanager.register(Replays(frozenset(paths)), NAME)


def _names(config: pytest.Config, argument: str, path: str) -> bool:
    return bool(os.path.abspath(config.invocation_params.dir / argument.partition("::")[0]) == path)


class Replays:
    """The hook that makes tests of traces.

    Args:
        paths: the traces.
    """

    def __init__(self, paths: frozenset[Path]) -> None:
        self._paths = paths

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> TraceFile | None:
        """Collect a trace."""
        return TraceFile.from_parent(parent, path=file_path) if file_path in self._paths else None


class TraceFile(pytest.File):
    """A trace, as a collector of its steps."""

    def collect(self) -> Iterator[ReplayedStep]:
        """Return a test for each step, in the order of the file: the order in which the steps ended.

        Raises:
            CollectError: the file is not a trace.
        """
        try:
            trace = load_trace(self.path)
        except (OSError, TraceFileError) as error:
            raise self.CollectError(str(error)) from None
        width = len(str(max(len(trace.steps) - 1, 0)))
        for number, step in enumerate(trace.steps):
            name = f"{number:0{width}}-{printable(step.node_id).replace('::', '..').replace('[', '(')}"
            yield ReplayedStep.from_parent(self, name=name, trace=trace, number=number)


class ReplayedStep(pytest.Item):
    """One step of a trace, as a test."""

    def __init__(self, *, trace: Trace, number: int, **others: Any) -> None:
        super().__init__(**others)
        self._trace = trace
        self._number = number

    def runtest(self) -> None:
        """Call the step's function again.

        Raises:
            NotAsRecordedError: it behaves otherwise than recorded.
        """
        step = self._trace.steps[self._number]
        if step.error is not None and step.error.code == "process_died":
            pytest.skip(_DIES)
        report = replay(
            self._trace,
            steps=[self._number],
            imports=self.config.getoption("flowtrace_import"),
            receiver=self.config.getoption("flowtrace_receiver"),
            working_folder=self.config.rootpath,
            payloads=self.path.parent,
        )
        (result,) = report.steps
        if result.outcome is ReplayOutcome.SKIPPED:
            pytest.skip(printable(result.reason.replace(" --receiver", " --flowtrace-receiver")))
        if not result.is_as_recorded:
            raise NotAsRecordedError(result)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Show what differs; an error of ours, as pytest shows any."""
        if isinstance(excinfo.value, NotAsRecordedError):
            return "\n".join(map(printable, _differences(excinfo.value)))
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Return where this is from, and the title of its failure."""
        return self.path, None, f"step {self.name}"


def _differences(error: NotAsRecordedError) -> Iterator[str]:
    result = error.result
    step: Step = result.step
    yield f"step {result.number}, {step.node_id}: {error}"
    if step.invocation_json is not UNSET and isinstance(step.invocation_json, dict):
        yield f"called with {_short(step.invocation_json.get('payload'))}"
    sides = {"recorded": (step.error, step.output_json), "now": (result.error, result.output_json)}
    for name, (raised, output) in sides.items():
        if raised is not None or output is not UNSET:
            yield f"{name:<8}    {error_line(raised) if raised is not None else _short(output)}"
    yield from _changed_parts(step.output_json, result.output_json)
    if result.code_changed:
        yield "the function's code has changed since it was recorded"
    yield from (f"note: {note}" for note in result.notes)


def _changed_parts(recorded: Any, now: Any) -> Iterator[str]:
    """Yield where two outputs differ, if they are too long to be shown whole."""
    if recorded is UNSET or now is UNSET or max(len(value_text(recorded)), len(value_text(now))) <= _WIDTH:
        return
    found, more = changes(recorded, now, _MOST_CHANGES)
    for change in found:
        a, b = change.sides(_short)
        yield f"  {change.pointer or '(complete value)'}: recorded {a}, now {b}"
    if more:
        yield f"  and {more} more"


def _short(value: Any) -> str:
    return short_text(value, _WIDTH)
