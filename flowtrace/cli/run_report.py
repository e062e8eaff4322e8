"""The line that `flowtrace run` ends with: where the trace is, or why there is none. Runs in the traced program."""

from __future__ import annotations

import os
import sys
from shlex import quote
from typing import Final

from flowtrace.host.log import printable
from flowtrace.host.switch import environment
from flowtrace.host.system import CLOCK
from flowtrace.settings import variables
from flowtrace.settings.kinds import TRACE_NAME, TraceMode, in_folder

_COARSE_CLOCK: Final = 20_000_000  # ns by which the time of a file may lie before that of the clock
_MOST_READ: Final = 16 << 20  # bytes of a trace whose steps are counted


def report(folder: str, began: int) -> None:
    """Write the line on standard error.

    Args:
        folder: the working folder in which the program began.
        began: when it began, in ns since 1970.
    """
    text = _line(folder, began)
    sys.stderr.write(f"flowtrace: {printable(text)}\n")
    sys.stderr.flush()


def _line(folder: str, began: int) -> str:
    parsed = variables.parse(environment())
    template = in_folder(os.path.join(folder, parsed.config.get("out_path", TRACE_NAME)), TRACE_NAME)
    traces = _written(template, began - _COARSE_CLOCK)
    if traces:
        first, *others = [_from(folder, path) for path in traces]
        steps = _steps_in(traces[0])
        count = f"{steps} step{'' if steps == 1 else 's'} in {first}" if steps >= 0 else f"the steps are in {first}"
        more = f", and more in {others[0]}" if others else ""
        more += f" and {len(others) - 1} others" if len(others) > 1 else ""
        return f"{count}{more}: flowtrace show {quote(first)}"
    return f"no trace: {_reason(parsed)}"


def _written(template: str, since: int) -> list[str]:
    """Return the traces of this run: this process's own first, then the newest."""
    from flowtrace.trace.retention import TemplatePaths

    found = {path: stamp.changed for path, stamp in TemplatePaths(template).files() if stamp.changed >= since}
    try:
        changed = os.stat(template).st_mtime_ns
    except OSError:
        changed = 0
    if changed >= since:
        found[template] = changed
    own = f".{os.getpid()}."
    return sorted(found, key=lambda path: (path != template, own not in path, -found[path], path))


def _steps_in(path: str) -> int:
    from flowtrace.trace.reading import load_trace

    try:
        return len(load_trace(path).steps) if os.path.getsize(path) <= _MOST_READ else -1
    except (OSError, ValueError):
        return -1


def _from(folder: str, path: str) -> str:
    """Return a path as it is typed in the folder where the program was started."""
    inside = path.startswith(os.path.join(folder, ""))
    return os.path.relpath(path, folder) if inside else path


def _reason(parsed: variables.Parsed) -> str:
    if parsed.disabled:
        return "FLOWTRACE_DISABLED is set"
    if parsed.config["mode"] is TraceMode.OFF:
        return "tracing is off (--mode off)"
    calls = CLOCK.steps_begun()
    if calls:
        what = f"{calls:,} call{'' if calls == 1 else 's'} of decorated functions, and none failed"
        return f"{what}, unless a warning above says more; --mode always writes one all the same"
    if parsed.auto:
        return f"nothing was called that --auto names ({', '.join(parsed.auto)}), and no decorated function"
    return "no decorated function was called; --auto 'PACKAGE.*' traces functions that are not decorated"
