"""`flowtrace doctor`: the active settings, the variable that each comes from, and the problems in them."""

from __future__ import annotations

import errno
import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any, Final

import click

from flowtrace.calls.core import implementation
from flowtrace.cli.common import (
    EXIT_DIFFERS,
    EXIT_OK,
    Command,
    Line,
    json_option,
    print_result,
    printable,
)
from flowtrace.cli.redaction_list import redaction_lines, redaction_lists, unknown_names
from flowtrace.errors import RingFileError
from flowtrace.host.switch import environment, is_ignored
from flowtrace.recording.recorder import TraceRecorder
from flowtrace.settings import variables
from flowtrace.settings.config import TraceConfig, TraceContext
from flowtrace.settings.kinds import TraceMode, ValidationMode
from flowtrace.trace import files

_PREFIX: Final = "FLOWTRACE_"
_PROBE: Final = 4096  # bytes
_VALUE_WIDTH: Final = 40


@click.command(
    "doctor",
    cls=Command,
    examples="""
    flowtrace doctor
    FLOWTRACE_OUT=/var/log/app/trace.json flowtrace doctor
    flowtrace doctor --json | jq .problems
    FLOWTRACE_REDACT=iban,-session flowtrace doctor --redaction
    """,
)
@json_option
@click.option("--redaction", is_flag=True, help="Show the names and texts that are hidden here, and nothing else.")
def command(as_json: bool, redaction: bool) -> int:
    """Show the configuration that flowtrace reads from this environment, and the problems in it.

    Shows the variable that each setting comes from, checks that the trace file can be written (and leaves no file
    behind), and lists the installed versions of flowtrace's dependencies. Exit code 1: there is a problem.
    """
    if redaction:
        lists = redaction_lists(variables.parse(environment()).config.get("redact", ()))
        print_result(as_json, lambda: lists, lambda _: redaction_lines(lists))
        return EXIT_OK
    found = examine(environment())
    print_result(as_json, lambda: found, lambda _: _lines(found))
    return EXIT_DIFFERS if found["problems"] else EXIT_OK


def examine(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings of an environment and the problems in them, as a JSON-like document.

    Args:
        environ: the variables.

    Returns:
        ``tracing`` (the active mode), ``why``, ``settings``, ``output``, ``blackbox``, ``problems``, ``core``,
        ``versions`` and ``extras``.
    """
    parsed = variables.parse(environ)
    mode = TraceMode.OFF if parsed.disabled else parsed.config["mode"]
    problems = [
        {
            "variable": item.variable,
            "value": item.value,
            "message": item.reason.removeprefix(f"{item.variable} ")
            if item.kept
            else f"counts as unset: {item.reason}",
        }
        for item in parsed.problems
    ]
    problems += _unknown_variables(environ)
    problems += [
        {"variable": "FLOWTRACE_REDACT", "value": name, "message": "takes off a name that is not on the list"}
        for name in unknown_names(parsed.config.get("redact", ()))
    ]
    problems += _without_effect(parsed, environ)
    recorder = TraceRecorder(TraceConfig(**parsed.config), TraceContext.from_env(environ))
    output, blackbox = _try_output(recorder), _try_blackbox(recorder)
    for variable, tried in (("FLOWTRACE_OUT", output), ("FLOWTRACE_BLACKBOX", blackbox)):
        if tried is not None and tried["reason"] is not None and mode is not TraceMode.OFF:
            problems.append({"variable": variable, "value": tried["path"], "message": tried["reason"]})
    core, extras = _versions()
    missing = [name for name, found in core.items() if found is None]
    problems += [{"variable": None, "value": name, "message": "is not installed"} for name in missing]
    return {
        "tracing": mode.value,
        "why": _why(parsed),
        "settings": _settings(parsed, environ),
        "output": output,
        "blackbox": blackbox,
        "problems": problems,
        "core": implementation(),
        "versions": core,
        "extras": extras,
    }


def _why(parsed: variables.Parsed) -> str:
    if is_ignored():
        return "Python ignores the environment, or this process has more rights than its caller: no variable counts"
    if parsed.disabled:
        return "FLOWTRACE_DISABLED is set, and wins over everything"
    if "mode" in parsed.sources:
        return "FLOWTRACE_MODE is set"
    if "out_path" in parsed.sources:
        return "FLOWTRACE_OUT is set"
    if "blackbox" in parsed.sources:
        return "FLOWTRACE_BLACKBOX is set"
    return "neither FLOWTRACE_OUT nor FLOWTRACE_MODE is set"


def _settings(parsed: variables.Parsed, environ: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return every setting with its value, and the variable that it comes from; None if it is a default."""
    config = TraceConfig(**parsed.config)
    others = {
        "disabled": parsed.disabled,
        "auto": parsed.auto,
        "pure": parsed.pure,
        "pytest": parsed.pytest,
        **parsed.context,
    }
    sources = dict(parsed.sources)
    for name in ("out_path", "blackbox"):
        if name in sources:
            sources.setdefault("mode", sources[name])
    if config.validation is not ValidationMode.OFF:
        sources.setdefault("validation", "CI")
    rows: list[dict[str, Any]] = []
    for variable in variables.VARIABLES:
        setting = variable.setting
        value = getattr(config, setting, others.get(setting))
        if setting == "hash_key" and value is not None:
            value = "(set)"
        rows.append(_row(setting, value, variable.name, sources.get(setting), variable.default.replace("`", "")))
    sha = variables.git_sha(environ)
    source = "GIT_SHA" if "GIT_SHA" in environ else "GITHUB_SHA"
    return [*rows, _row("git_sha", sha, "GIT_SHA", source if sha else None, "none")]


def _row(setting: str, value: object, variable: str, source: str | None, default: str) -> dict[str, Any]:
    return {"setting": setting, "value": value, "variable": variable, "source": source, "default": default}


def _unknown_variables(environ: Mapping[str, str]) -> list[dict[str, Any]]:
    names = [variable.name.removeprefix(_PREFIX) for variable in variables.VARIABLES]
    problems: list[dict[str, Any]] = []
    for name in sorted(environ):
        if name.startswith(_PREFIX) and name.removeprefix(_PREFIX) not in names:
            near = get_close_matches(name.removeprefix(_PREFIX), names, 1)
            hint = f": did you mean {_PREFIX}{near[0]}?" if near else ""
            problems.append({"variable": name, "value": None, "message": f"is not a variable of flowtrace{hint}"})
    return problems


def _without_effect(parsed: variables.Parsed, environ: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the settings that wait in vain for tracing to be on, where nothing says that it is to be off."""
    if parsed.sources.keys() & {"mode", "out_path", "blackbox", "disabled", "dump_signal", "auto"}:
        return []
    message = "has no effect: tracing is off, which FLOWTRACE_OUT=trace.json switches on"
    names = [variable.name for variable in variables.CONFIG_VARIABLES if variable.setting in parsed.sources]
    return [{"variable": name, "value": _shown(name, environ), "message": message} for name in names]


def _shown(variable: str, environ: Mapping[str, str]) -> str:
    return "(set)" if variable == "FLOWTRACE_HASH_KEY" else environ[variable]


def _try_output(recorder: TraceRecorder) -> dict[str, Any]:
    """Do all that writing the trace takes but for giving the file its name; new folders are removed again."""
    path, reason = recorder.path(), None
    missing = list(_missing_folders(path))
    try:
        files.refuse_links(recorder.template(), path)
        files.write_atomically(path, bytes(_PROBE), in_turn=lambda _put: False)
    except OSError as error:
        reason = f"can't be written: {error.strerror or error}"
    finally:
        for folder in missing:
            with suppress(OSError):
                os.rmdir(folder)
    return {"template": recorder.config.out_path, "path": path, "writable": reason is None, "reason": reason}


def _try_blackbox(recorder: TraceRecorder) -> dict[str, Any] | None:
    """Make a ring file beside that of the black box, and remove it again; None where none is asked for."""
    if recorder.config.blackbox is None:
        return None
    from flowtrace.blackbox import keeper

    reason, path = None, os.path.abspath(recorder.config.blackbox)
    try:
        path = keeper.try_ring(recorder)
    except RingFileError as error:
        reason = f"can't be used: {error.reason}"
    except OSError as error:
        missing = f" (the folder {os.path.dirname(path)} is not there)" if error.errno == errno.ENOENT else ""
        reason = f"can't be made: {error.strerror or error}{missing}"
    return {"template": recorder.config.blackbox, "path": path, "writable": reason is None, "reason": reason}


def _missing_folders(path: str) -> Iterator[str]:
    """Return the folders of a path that do not exist, innermost first."""
    folder = os.path.dirname(path)
    while not os.path.lexists(folder):
        yield folder
        folder = os.path.dirname(folder)


def _versions() -> tuple[dict[str, str | None], dict[str, dict[str, str | None]]]:
    """Return the installed versions of flowtrace's dependencies, and those of each extra."""
    from flowtrace import __version__

    core: dict[str, str | None] = {"flowtrace": __version__, "python": platform.python_version()}
    extras: dict[str, dict[str, str | None]] = {}
    for requirement in _requirements():
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", requirement)
        group = extras.setdefault(extra[1], {}) if extra else core
        group[name] = _version_of(name)
    return core, extras


def _requirements() -> list[str]:
    try:
        return requires("flowtrace") or []
    except PackageNotFoundError:  # run from a source folder that was never installed
        return []


def _version_of(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


# --- for people


def _lines(found: dict[str, Any]) -> Iterator[Line]:
    output = found["output"]
    yield [("tracing is ", ""), (found["tracing"], "bold"), (f": {found['why']}", "")]
    verdict = "can be written" if output["writable"] else output["reason"]
    yield [("trace file ", ""), (printable(output["path"]), "bold"), (f" {verdict}", _style(output["writable"]))]
    blackbox = found["blackbox"]
    if blackbox is not None:
        verdict = "can be made" if blackbox["writable"] else blackbox["reason"]
        yield [("ring file ", ""), (printable(blackbox["path"]), "bold"), (f" {verdict}", _style(blackbox["writable"]))]
    yield []
    yield from _setting_lines(found["settings"])
    yield []
    yield [("calls are recorded by the ", ""), (found["core"], "bold"), (" core", "")]
    yield [(_version_list(found["versions"]), "")]
    yield from ([(f"extra {extra}: {_version_list(versions)}", "")] for extra, versions in found["extras"].items())
    yield [(printable(sys.executable), "dim")]
    yield []
    if not found["problems"]:
        yield [("no problems", _style(True))]
    for problem in found["problems"]:
        subject = " = ".join(filter(None, (problem["variable"], problem["value"])))
        yield [(f"! {printable(subject)} {problem['message']}", "bold red")]


def _style(good: bool) -> str:
    return "green" if good else "red"


def _setting_lines(rows: list[dict[str, Any]]) -> Iterator[Line]:
    values = [(row, _value_text(row)) for row in rows]
    width = max(len(text) for _, text in values if len(text) <= _VALUE_WIDTH)
    for row, text in values:
        source = f"from {row['source']}" if row["source"] else f"default ({row['variable']})"
        style = "" if row["source"] else "dim"
        yield [(f"  {row['setting']:<16} ", ""), (f"{text:<{width}}  ", "bold"), (source, style)]


def _value_text(row: dict[str, Any]) -> str:
    value = row["value"]
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        value = ",".join(value) or None
    return printable(str(row["default"] if value is None else value))


def _version_list(versions: dict[str, str | None]) -> str:
    return ", ".join(f"{name} {found or '(not installed)'}" for name, found in versions.items())
