"""The environment variables: one table, which the parser and the docs page both read."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from flowtrace.host.system import os
from flowtrace.settings import kinds
from flowtrace.settings.kinds import Kind, TraceMode, ValidationMode

MIB: Final = 1 << 20
KIB: Final = 1 << 10
WORK: Final = 200_000  # as flowtrace.values.json.MAX_WORK, which is not loaded here


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable.

    Attributes:
        name: the variable.
        setting: the field of TraceConfig or TraceContext that it fills.
        kind: what it accepts.
        default: the value without it, in the words of the docs.
        meaning: its effect, in the words of the docs.
    """

    name: str
    setting: str
    kind: Kind
    default: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Problem:
    """A variable that was set to something unusable, and so counts as unset, or to a path that is used as it is.

    Attributes:
        variable: its name.
        value: the text it held; None where the text may be a secret.
        accepts: what it would have accepted.
        kept: what looks like a placeholder in the path, and is kept as text; empty where the variable counts as unset.
    """

    variable: str
    value: str | None
    accepts: str
    kept: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """The problem, and what would be accepted."""
        takes = f"{self.variable} takes {self.accepts}"
        return f"{self.variable} {kept_text(self.kept)}; it takes {self.accepts}" if self.kept else takes


def kept_text(found: Iterable[str]) -> str:
    """Return what a message says of unknown placeholders in a path."""
    return f"holds {', '.join(found)}, which is no placeholder and is kept as text"


@dataclass(slots=True)
class Parsed:
    """The settings of an environment.

    Attributes:
        config: fields of TraceConfig.
        context: fields of TraceContext.
        disabled: the kill switch.
        auto: patterns of the functions that are traced without a decorator.
        pure: the native core is not used.
        pytest: the folder for the traces of failing tests; None for no traces.
        sources: the settings that came from a variable, with its name.
        problems: the variables that could not be used.
    """

    config: dict[str, Any] = field(default_factory=dict)
    context: dict[str, Any] = field(default_factory=dict)
    disabled: bool = False
    sources: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    auto: tuple[str, ...] = ()
    pure: bool = False
    pytest: str | None = None


CONFIG_VARIABLES: Final = (
    Variable(
        "FLOWTRACE_MODE",
        "mode",
        kinds.MODE,
        "`on` where `FLOWTRACE_OUT` or `FLOWTRACE_BLACKBOX` is set, else `off`",
        "When a trace is written: never, when something fails, or also on success.",
    ),
    Variable(
        "FLOWTRACE_OUT",
        "out_path",
        kinds.PATH,
        "`trace.json`",
        "Where the trace is written. A relative path starts at the working folder of first use.",
    ),
    Variable(
        "FLOWTRACE_BUFFER_SIZE",
        "buffer_size",
        kinds.NUMBER,
        "20",
        "How many finished steps are kept; 0 keeps none.",
    ),
    Variable(
        "FLOWTRACE_BUFFER_BYTES",
        "buffer_bytes",
        kinds.NUMBER,
        f"{16 * MIB} (16 MiB)",
        "How many bytes of values a buffer keeps; the oldest steps roll out beyond it. As many again of large arrays.",
    ),
    Variable(
        "FLOWTRACE_MAX_VALUE_BYTES",
        "max_value_bytes",
        kinds.NUMBER,
        f"{64 * KIB} (64 KiB)",
        "A larger payload or result is hashed at once; where captured, it goes to a payload file.",
    ),
    Variable(
        "FLOWTRACE_MAX_VALUE_WORK",
        "max_value_work",
        kinds.COUNT,
        f"{WORK}",
        "How much work a value may take: 1 for each number, text, list or dict, 20 for other objects. The rest is cut.",
    ),
    Variable(
        "FLOWTRACE_MAX_OVERHEAD",
        "max_overhead",
        kinds.SHARE,
        "0.1",
        "The share of the time that encoding values may take; beyond it, those of the costliest nodes are left out.",
    ),
    Variable(
        "FLOWTRACE_MAX_FILES",
        "max_files",
        kinds.COUNT,
        "100",
        "How many trace files are kept where the path holds a placeholder; the oldest go first.",
    ),
    Variable(
        "FLOWTRACE_CAPTURE_INPUTS",
        "capture_inputs",
        kinds.BOOLEAN,
        "off",
        "Keep payloads beside their hashes, so that a failure can be replayed.",
    ),
    Variable(
        "FLOWTRACE_CAPTURE_OUTPUTS",
        "capture_outputs",
        kinds.BOOLEAN,
        "off",
        "Keep results beside their hashes.",
    ),
    Variable(
        "FLOWTRACE_REDACT",
        "redact",
        kinds.NAMES,
        "none",
        "More names whose values are hidden, in addition to the built-in ones; `-name` takes a built-in one off.",
    ),
    Variable(
        "FLOWTRACE_HASH_KEY",
        "hash_key",
        kinds.OPTIONAL_TEXT,
        "none",
        "Hash with keyed BLAKE3, over the real values instead of the redacted ones.",
    ),
    Variable(
        "FLOWTRACE_VALIDATION",
        "validation",
        kinds.VALIDATION,
        "`warn` where `CI` is true, else `off`",
        "What a validation issue leads to, apart from its entry in the step: nothing, a logged warning, or a failure. "
        "Nodes with `validate=` are checked unless it is `off`; their calls are refused where it is `error`.",
    ),
    Variable(
        "FLOWTRACE_BLACKBOX",
        "blackbox",
        kinds.OPTIONAL_PATH,
        "none",
        "A ring file that keeps the last steps and the stack in flight when the process is killed.",
    ),
    Variable(
        "FLOWTRACE_DUMP_SIGNAL",
        "dump_signal",
        kinds.SIGNAL,
        "none",
        "Write a snapshot of the last steps and those in flight when the process gets this signal.",
    ),
    Variable(
        "FLOWTRACE_DURABLE",
        "durable",
        kinds.BOOLEAN,
        "off",
        "Every write waits until the trace and its name are on the disk. Without it only the last write of a run does, "
        "and only for the content: a killed process loses nothing, a power cut may take the latest writes.",
    ),
    Variable(
        "FLOWTRACE_SLOW",
        "slow",
        kinds.DURATION,
        "off",
        "A step or flow that takes longer writes a trace, too, with the outcome `slow`; at most about one a second.",
    ),
    Variable(
        "FLOWTRACE_LOGS",
        "logs",
        kinds.BOOLEAN,
        "off",
        "Keep the last 20 log records of each step in it, scrubbed as the texts of errors are.",
    ),
)
CONTEXT_VARIABLES: Final = (
    Variable(
        "FLOWTRACE_PACK_REF",
        "pack_ref",
        kinds.TEXT,
        "the program's name",
        "`pack.pack_ref` of runs outside a `flow(...)` that names its own.",
    ),
    Variable(
        "FLOWTRACE_RESOLVED_DIGEST",
        "resolved_digest",
        kinds.OPTIONAL_TEXT,
        "none",
        "`pack.resolved_digest`, the digest of the shipped artifact.",
    ),
    Variable(
        "FLOWTRACE_FLOW_ID",
        "flow_id",
        kinds.TEXT,
        "`process`",
        "`flow.id` of runs outside any `flow(...)`.",
    ),
    Variable(
        "FLOWTRACE_FLOW_VERSION",
        "flow_version",
        kinds.TEXT,
        "`unknown`",
        "`flow.version` of the same runs.",
    ),
)
DISABLED: Final = Variable(
    "FLOWTRACE_DISABLED",
    "disabled",
    kinds.BOOLEAN,
    "off",
    "Kill switch: nothing is traced, whatever other variables or code say.",
)
AUTO: Final = Variable(
    "FLOWTRACE_AUTO",
    "auto",
    kinds.PATTERNS,
    "none",
    "Trace the functions of these modules, as they are imported, without any decorator.",
)
PURE: Final = Variable(
    "FLOWTRACE_PURE",
    "pure",
    kinds.BOOLEAN,
    "off",
    "Record calls in Python, also where the native core (in C) was built. Read when flowtrace is imported.",
)
PYTEST: Final = Variable(
    "FLOWTRACE_PYTEST",
    "pytest",
    kinds.FOLDER,
    "none",
    "Leave a trace of each failing test in this folder, as `pytest --flowtrace=DIR` does.",
)
VARIABLES: Final = (
    CONFIG_VARIABLES[0],
    CONFIG_VARIABLES[1],
    DISABLED,
    AUTO,
    PURE,
    PYTEST,
    *CONFIG_VARIABLES[2:],
    *CONTEXT_VARIABLES,
)
_SECRETS: Final = frozenset({"FLOWTRACE_HASH_KEY"})


def parse(environ: Mapping[str, str]) -> Parsed:
    """Read every setting from an environment. Pure: it reads and changes nothing else.

    Args:
        environ: the variables, such as ``os.environ`` or ``{"FLOWTRACE_OUT": "trace.json"}``.

    Returns:
        The settings with their sources, and the variables that could not be used. Defaults that depend on other
        variables are filled in; fixed ones are left to TraceConfig and TraceContext.
    """
    parsed = Parsed()
    for variable in CONFIG_VARIABLES:
        _read(variable, environ, parsed.config, parsed)
    for variable in CONTEXT_VARIABLES:
        _read(variable, environ, parsed.context, parsed)
    switches: dict[str, Any] = {}
    _read(DISABLED, environ, switches, parsed)
    _read(AUTO, environ, switches, parsed)
    _read(PURE, environ, switches, parsed)
    _read(PYTEST, environ, switches, parsed)
    parsed.disabled = switches.get("disabled", False)
    parsed.auto = switches.get("auto", ())
    parsed.pure = switches.get("pure", False)
    parsed.pytest = switches.get("pytest")
    names_a_file = parsed.config.keys() & {"out_path", "blackbox"}
    parsed.config.setdefault("mode", TraceMode.ON if names_a_file else TraceMode.OFF)
    parsed.config.setdefault("validation", ValidationMode.WARN if _is_ci(environ) else ValidationMode.OFF)
    return parsed


def _read(variable: Variable, environ: Mapping[str, str], into: dict[str, Any], parsed: Parsed) -> None:
    text = environ.get(variable.name, "").strip()
    if not text:
        return
    try:
        into[variable.setting] = variable.kind.from_text(text)
        parsed.sources[variable.setting] = variable.name
        if variable.kind in (kinds.PATH, kinds.OPTIONAL_PATH) and (unknown := kinds.unknown_placeholders(text)):
            parsed.problems.append(Problem(variable.name, text, variable.kind.accepts, tuple(unknown)))
    except ValueError:
        shown = None if variable.name in _SECRETS else text
        parsed.problems.append(Problem(variable.name, shown, variable.kind.accepts))


def _is_ci(environ: Mapping[str, str]) -> bool:
    try:
        return bool(kinds.BOOLEAN.from_text(environ.get("CI", "").strip()))
    except ValueError:  # the variable is not ours, so that an odd value is not reported
        return False


def git_sha(environ: Mapping[str, str]) -> str | None:
    """Return the running commit: ``GIT_SHA``, or ``GITHUB_SHA`` where that is unset; None where it is blank."""
    text = environ["GIT_SHA"] if "GIT_SHA" in environ else environ.get("GITHUB_SHA", "")
    return text.strip() or None


def program_name() -> str:
    """Return the running program's name: the module after ``-m``, the script's file name, or ``"python"``."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    if spec is not None:
        return str(spec.name).removesuffix(".__main__")
    script = sys.argv[0] if getattr(sys, "argv", None) else ""
    return "python" if script in ("", "-c") else os.path.basename(script)
