"""The settings of a recorder, and how a trace names the program: `TraceConfig` and `TraceContext`, both immutable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final, TypedDict

from flowtrace.errors import ConfigError
from flowtrace.host import log
from flowtrace.host.signals import let_through
from flowtrace.host.switch import environment
from flowtrace.host.system import os
from flowtrace.settings import variables
from flowtrace.settings.kinds import OPTIONAL_CALLABLE, TraceMode, ValidationMode, unknown_placeholders
from flowtrace.values.redaction import Redactor

__all__ = ["ConfigChanges", "TraceConfig", "TraceContext", "TraceMode", "ValidationMode"]

_KINDS: Final = {
    variable.setting: variable.kind for variable in (*variables.CONFIG_VARIABLES, *variables.CONTEXT_VARIABLES)
} | {"redactor": OPTIONAL_CALLABLE}  # code can't come from a variable


class ConfigChanges(TypedDict, total=False):
    """The settings that `configure` and `override` take as keywords: the fields of `TraceConfig`."""

    mode: TraceMode | str
    out_path: str | os.PathLike[str]
    buffer_size: int
    capture_inputs: bool
    capture_outputs: bool
    buffer_bytes: int
    max_value_bytes: int
    max_value_work: int
    max_overhead: float
    redact: tuple[str, ...]
    hash_key: str | None
    validation: ValidationMode | str
    max_files: int
    blackbox: str | os.PathLike[str] | None
    dump_signal: str | int | None
    durable: bool
    slow: float | str | None
    logs: bool
    redactor: Redactor | None


def _safe_repr(value: object) -> str:
    try:
        return f"{value!r:.80}"
    except BaseException as error:
        let_through(error)
        return f"<{type(value).__qualname__} object>"


def _check_fields(settings: Any) -> None:
    """Check every field, and convert it to the type that its setting has.

    Raises:
        ConfigError: a field holds something that its setting does not accept.
    """
    for name in settings.__dataclass_fields__:
        value = getattr(settings, name)
        kind = _KINDS[name]
        try:
            object.__setattr__(settings, name, kind.check(value))
        except ValueError:
            shown = "this value" if name == "hash_key" else _safe_repr(value)
            raise ConfigError(f"{name}={shown} is not usable: it takes {kind.accepts}") from None


@dataclass(frozen=True, slots=True)
class TraceConfig:
    """How a recorder works.

    Attributes:
        mode: when a trace is written; also as text (``"off"``, ``"on"``, ``"always"``).
        out_path: file to write, or folder for ``trace.json``; may begin with ``~`` and hold ``{pid} {run_id} {flow_id}
            {timestamp}``.
        buffer_size: finished steps kept; 0 keeps none.
        capture_inputs: keep payloads beside their hashes.
        capture_outputs: keep results beside their hashes.
        buffer_bytes: bytes of values that a buffer keeps.
        max_value_bytes: a value of more bytes than this is hashed at once.
        max_value_work: units of work that a value may take; the rest of it is cut.
        max_overhead: the share of the time that encoding values may take; 0 for no limit.
        redact: names whose values are hidden, in addition to the built-in ones; ``-name`` takes a built-in one off.
        hash_key: text from which the key of keyed BLAKE3 is derived; None hashes without a key.
        validation: what a validation issue leads to, in addition to its entry in the step.
        max_files: how many trace files are kept where ``out_path`` holds a placeholder.
        blackbox: ring file of the process-global recorder, or folder for ``blackbox.ring``, in the same form as
            ``out_path``; None for none.
        dump_signal: the signal that asks for a snapshot (``"USR1"``), also as a number; None for none.
        durable: every write waits until the file and its name are on the disk.
        slow: seconds, or text such as ``"250ms"``: a step or flow that takes longer makes a snapshot; None for never.
        logs: keep the last 20 log records of each step in it.
        redactor: a function of a name and a value, called when a step is written. True hides the value; so does an
            error, or an answer that is no bool. It must neither change nor keep the value.

    Raises:
        ConfigError: a field holds something that it does not accept.
    """

    mode: TraceMode = TraceMode.ON
    out_path: str = "trace.json"
    buffer_size: int = 20
    capture_inputs: bool = False
    capture_outputs: bool = False
    buffer_bytes: int = 16 * variables.MIB
    max_value_bytes: int = 64 * variables.KIB
    max_value_work: int = field(default=variables.WORK, kw_only=True)
    max_overhead: float = field(default=0.1, kw_only=True)
    redact: tuple[str, ...] = ()
    hash_key: str | None = field(default=None, repr=False)
    validation: ValidationMode = ValidationMode.OFF
    max_files: int = 100
    blackbox: str | None = None
    dump_signal: str | None = None
    durable: bool = False
    slow: float | None = field(default=None, kw_only=True)
    logs: bool = field(default=False, kw_only=True)
    redactor: Redactor | None = field(default=None, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        _check_fields(self)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> TraceConfig:
        """Read the configuration from an environment.

        A variable with an unusable value counts as unset and is warned of once.

        Args:
            environ: the variables; None means those of the process.

        Returns:
            The configuration; its mode is ``OFF`` where ``FLOWTRACE_DISABLED`` is true.
        """
        parsed = variables.parse(environment() if environ is None else environ)
        _warn_of(parsed.problems)
        config = cls(**parsed.config)
        return replace(config, mode=TraceMode.OFF) if parsed.disabled else config

    def changed(self, changes: ConfigChanges) -> TraceConfig:
        """Return a copy with some settings changed.

        Args:
            changes: value by the name of the setting.

        Raises:
            ConfigError: a setting is unknown, or does not accept its value.
        """
        for name in changes:
            if name not in TraceConfig.__dataclass_fields__:
                names = ", ".join(TraceConfig.__dataclass_fields__)
                raise ConfigError(f"there is no setting {name!r}: the settings are {names}")
        return replace(self, **changes)  # type: ignore[arg-type]  # __post_init__ takes text and paths


@dataclass(frozen=True, slots=True)
class TraceContext:
    """How a trace names the program.

    Attributes:
        pack_ref: name of the program or package.
        flow_id: name of the flow.
        flow_version: its version.
        resolved_digest: digest of the shipped artifact.

    Raises:
        ConfigError: a field holds something that it does not accept.
    """

    pack_ref: str
    flow_id: str
    flow_version: str = "unknown"
    resolved_digest: str | None = None

    def __post_init__(self) -> None:
        _check_fields(self)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> TraceContext:
        """Read from an environment the context of runs outside any ``flow(...)``.

        Args:
            environ: the variables; None means those of the process.

        Returns:
            The context; by default the flow is ``process``, and the pack has the name of the program.
        """
        parsed = variables.parse(environment() if environ is None else environ)
        defaults = {"pack_ref": variables.program_name(), "flow_id": "process"}
        return cls(**(defaults | parsed.context))


context_of: Final = lru_cache(maxsize=256)(TraceContext)
"""Return the context with such fields: most flows run often, and theirs need be checked but once."""


def is_disabled(environ: Mapping[str, str] | None = None) -> bool:
    """Return True if the kill switch ``FLOWTRACE_DISABLED`` is set."""
    environ = environment() if environ is None else environ
    return bool(environ.get("FLOWTRACE_DISABLED")) and variables.parse(environ).disabled


def _warn_of(problems: list[variables.Problem]) -> None:
    for problem in problems:
        log.warn_once(
            "environment variable has an unknown placeholder"
            if problem.kept
            else "environment variable is not usable and counts as unset",
            ("environment", problem.variable, problem.value),
            variable=problem.variable,
            value=problem.value,
            reason=problem.reason,
        )


def warn_of_placeholders(config: TraceConfig) -> None:
    """Log what looks like a placeholder in a path that code gave, and is none: it stays there as text."""
    for name in ("out_path", "blackbox"):
        path = getattr(config, name)
        if path is not None and (unknown := unknown_placeholders(path)):
            reason = f"{name} {variables.kept_text(unknown)}; it takes {_KINDS[name].accepts}"
            log.warn_once("path has an unknown placeholder", (name, path), value=path, reason=reason)
